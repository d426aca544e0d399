"""Renderers for diagnostics: terminal (with the line and a caret), one line each, JSON, SARIF, GitHub annotations."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote

from kamc import __version__
from kamc.diagnostics import CODES, Diagnostic, Severity
from kamc.source import Span

_COLORS = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[1;33m", Severity.NOTE: "\x1b[1;36m"}
_RESET, _BLUE = "\x1b[0m", "\x1b[1;34m"


def render_terminal(d: Diagnostic, *, color: bool = False) -> str:
    """Several lines: the message, the place, the source line with a caret, notes and hints."""
    paint = (lambda code, text: f"{code}{text}{_RESET}") if color else (lambda _code, text: text)
    out = [paint(_COLORS[d.severity], f"{d.severity.value}[{d.code}]") + f": {d.message}"]
    pad = ""
    if d.span is not None:
        line, column = d.span.file.position(d.span.start)
        pad = " " * len(str(line))
        out.append(paint(_BLUE, f"{pad}--> ") + d.span.where())
        text = d.span.file.line(line)
        if text:
            end_line, end_column = d.span.end_position
            width = max(1, (end_column if end_line == line else len(text) + 1) - column)
            lead = "".join("\t" if c == "\t" else " " for c in text[: column - 1])
            bar = paint(_BLUE, f"{pad} |")
            out.append(bar)
            out.append(paint(_BLUE, f"{line} |") + f" {text}")
            out.append(f"{bar} {lead}" + paint(_COLORS[d.severity], "^" * width + (f" {d.label}" if d.label else "")))
        out.extend(f"{pad} = note: {step.describe()}" for step in d.span.trail)
    for label in d.related:
        out.append(f"{pad} = note: {label.text} at {label.span.where()}")
    out.extend(f"{pad} = note: {note}" for note in d.notes)
    out.extend(f"{pad} = hint: {hint}" for hint in d.hints)
    return "\n".join(out)


def render_line(d: Diagnostic) -> str:
    """``file:line:col: error[K0101]: message`` on one line."""
    where = d.span.where() + ": " if d.span is not None else ""
    extra = "".join(f" ({note})" for note in (*(s.describe() for s in d.span.trail if d.span), *d.hints)) if d.span else ""
    return f"{where}{d.severity.value}[{d.code}]: {d.message}{extra}"


def as_dict(d: Diagnostic) -> dict[str, object]:
    out: dict[str, object] = {"code": d.code, "severity": d.severity.value, "message": d.message}
    if d.span is not None:
        line, column = d.span.file.position(d.span.start)
        end_line, end_column = d.span.end_position
        out |= {"file": d.span.file.name, "line": line, "column": column, "end_line": end_line, "end_column": end_column}
        out["trail"] = [step.describe() for step in d.span.trail]
    out["label"] = d.label
    out["notes"] = [*d.notes, *(f"{r.text} at {r.span.where()}" for r in d.related)]
    out["hints"] = list(d.hints)
    return out


_SARIF_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
_GITHUB_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def as_sarif(diagnostics: Iterable[Diagnostic]) -> dict[str, object]:
    """One SARIF 2.1.0 run, as code scanning services take it. Columns count characters from 1, the end is exclusive."""
    items = list(diagnostics)
    codes = sorted({d.code for d in items})
    rules = [{"id": code, "name": code, "shortDescription": {"text": CODES[code]}, "help": {"text": f"kamc explain {code}"}} for code in codes]
    results = []
    for d in items:
        text = " ".join((d.message, *(f"({hint})" for hint in d.hints)))
        result: dict[str, object] = {"ruleId": d.code, "ruleIndex": codes.index(d.code), "level": _SARIF_LEVEL[d.severity], "message": {"text": text}}
        if d.span is not None:
            result["locations"] = [{"physicalLocation": _sarif_place(d.span)}]
        if d.related:
            result["relatedLocations"] = [{"physicalLocation": _sarif_place(r.span), "message": {"text": r.text}} for r in d.related]
        results.append(result)
    driver = {"name": "kamc", "version": __version__, "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _sarif_place(span: Span) -> dict[str, object]:
    line, column = span.file.position(span.start)
    end_line, end_column = span.end_position
    region = {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column}
    return {"artifactLocation": {"uri": quote(span.file.name)}, "region": region}


def render_github(d: Diagnostic) -> str:
    """A workflow command, which GitHub shows at the line of the change."""
    properties = {"title": f"{d.code} {CODES[d.code]}"}
    if d.span is not None:
        line, column = d.span.file.position(d.span.start)
        end_line, end_column = d.span.end_position
        properties = {"file": d.span.file.name, "line": str(line), "endLine": str(end_line), "col": str(column), "endColumn": str(end_column)} | properties
    shown = ",".join(f"{key}={_github_escape(value).replace(':', '%3A').replace(',', '%2C')}" for key, value in properties.items())
    return f"::{_GITHUB_LEVEL[d.severity]} {shown}::{_github_escape(' '.join((d.message, *(f'({h})' for h in d.hints))))}"


def _github_escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


#: formats of ``kamc check``; all but the first two are meant for programs and go to stdout
FORMATS = ("text", "line", "json", "sarif", "github")


def render(diagnostics: Iterable[Diagnostic], fmt: str = "text", *, color: bool = False) -> str:
    """All diagnostics in one of :data:`FORMATS`."""
    items = list(diagnostics)
    if fmt == "json":
        return json.dumps([as_dict(d) for d in items], indent=1)
    if fmt == "sarif":
        return json.dumps(as_sarif(items), indent=1)
    if fmt == "github":
        return "\n".join(render_github(d) for d in items)
    if fmt == "line":
        return "\n".join(render_line(d) for d in items)
    return "\n\n".join(render_terminal(d, color=color) for d in items)


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """``2 errors, 1 warning``."""
    items = list(diagnostics)
    counts = [(sum(d.severity is s for d in items), s.value) for s in Severity]
    return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count or word != "note")
