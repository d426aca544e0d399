"""Renderers for diagnostics: terminal (with the line and a caret), one line each, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kamc.diagnostics import Diagnostic, Severity

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


def render(diagnostics: Iterable[Diagnostic], fmt: str = "text", *, color: bool = False) -> str:
    """All diagnostics in one of the formats ``text``, ``line``, ``json``."""
    items = list(diagnostics)
    if fmt == "json":
        return json.dumps([as_dict(d) for d in items], indent=1)
    if fmt == "line":
        return "\n".join(render_line(d) for d in items)
    return "\n\n".join(render_terminal(d, color=color) for d in items)
