"""Diagnostics are data: a stable code, a span, a sentence, labels, notes and hints. Rendering is :mod:`kamc.report`'s."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from kamc.source import Span


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


#: Every code that kamc can give, with its title.
CODES: Final[dict[str, str]] = {
    "K0101": "syntax error",
    "K0102": "string without an end",
    "K0103": "empty configuration",
    "K0110": "value of the wrong kind for a core parameter",
    "K0111": "bad flag declaration or use",
    "K0112": "statement in the wrong place",
    "K0113": "unknown core parameter",
    "K0114": "nested too deeply",
    "K0201": "file cannot be read",
    "K0202": "includes nested too deeply",
    "K0203": "define given twice",
    "K0204": "bad preprocessor line",
    "K0205": "conditionals do not balance",
    "K0206": "environment variable not set",
    "K0207": "unknown define",
    "K0209": "define without a use",
    "K0210": "misspelt directive",
    "K0301": "function not allowed in this route",
    "K0302": "unknown function",
    "K0303": "wrong number of arguments",
    "K0304": "argument of the wrong kind",
    "K0305": "function not implemented",
    "K0306": "function call inside an argument",
    "K0307": "not in this version of Kamailio",
    "K0308": "removed from Kamailio",
    "K0309": "deprecated",
    "K0310": "unknown module",
    "K0311": "module loaded twice",
    "K0312": "module without implementation",
    "K0313": "module needs another module",
    "K0320": "unknown module parameter",
    "K0321": "module parameter of the wrong type",
    "K0322": "module parameter for a module that is not loaded",
    "K0323": "module parameter not implemented",
    "K0324": "bad module parameter value",
    "K0325": "module parameter without effect",
    "K0326": "core parameter without effect",
    "K0401": "unknown route",
    "K0402": "route defined twice",
    "K0403": "route never called",
    "K0404": "event route that never runs",
    "K0405": "event route without a name",
    "K0501": "unknown pseudo-variable",
    "K0502": "pseudo-variable cannot be assigned",
    "K0503": "unknown transformation",
    "K0504": "bad pseudo-variable",
    "K0505": "pseudo-variable not implemented",
    "K0506": "hash table not defined",
    "K0601": "operands of types that do not go together",
    "K0602": "bad regular expression",
    "K0603": "bad switch",
    "K0604": "division by zero",
    "K0605": "bad constant",
    "K0610": "assignment in a condition",
    "K0611": "code that is never reached",
    "K0612": "variable that is never set",
    "K0613": "variable in a text that is not evaluated",
    "K0701": "bad listen address",
    "K0702": "unknown custom variable",
}


@dataclass(frozen=True, slots=True)
class Label:
    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. ``label`` is printed under the caret, ``notes`` explain, ``hints`` name the fix."""

    code: str
    severity: Severity
    message: str
    span: Span | None
    label: str = ""
    related: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


@dataclass(slots=True)
class DiagnosticSink:
    """Collects diagnostics; the same finding at the same place is kept once."""

    items: list[Diagnostic] = field(default_factory=list)
    _seen: set[tuple[str, str, str]] = field(default_factory=set)

    def add(self, diagnostic: Diagnostic) -> None:
        if diagnostic.code not in CODES:
            raise KeyError(diagnostic.code)
        key = (diagnostic.code, diagnostic.span.where() if diagnostic.span else "", diagnostic.message)
        if key not in self._seen:
            self._seen.add(key)
            self.items.append(diagnostic)

    def error(
        self,
        code: str,
        span: Span | None,
        message: str,
        *,
        label: str = "",
        hint: str | None = None,
        notes: tuple[str, ...] = (),
        related: tuple[Label, ...] = (),
    ) -> None:
        self.add(Diagnostic(code, Severity.ERROR, message, span, label, related, notes, (hint,) if hint else ()))

    def warning(
        self,
        code: str,
        span: Span | None,
        message: str,
        *,
        label: str = "",
        hint: str | None = None,
        notes: tuple[str, ...] = (),
        related: tuple[Label, ...] = (),
    ) -> None:
        self.add(Diagnostic(code, Severity.WARNING, message, span, label, related, notes, (hint,) if hint else ()))

    def annotate(self, index: int, note: str) -> None:
        """Add a note to a finding that is there already."""
        found = self.items[index]
        self.items[index] = replace(found, notes=(*found.notes, note))

    @property
    def has_errors(self) -> bool:
        return any(d.severity is Severity.ERROR for d in self.items)

    def errors(self) -> list[Diagnostic]:
        return [d for d in self.items if d.severity is Severity.ERROR]
