"""A difference for people (text with colour, a page) and for programs (JSON)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

import jinja2

from kamc import __version__
from kamc.diff.compare import CodeChange, Difference, Row
from kamc.diff.snapshot import CodeLine

FORMATS: Final = ("text", "json", "html")
_RED, _GREEN, _BOLD, _DIM, _RESET = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
_TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("kamc.diff", "templates"), undefined=jinja2.StrictUndefined, autoescape=True,
                                trim_blocks=True, lstrip_blocks=True)  # fmt: skip


def render(difference: Difference, fmt: str = "text", *, color: bool = False) -> str:
    """The difference in one of :data:`FORMATS`; the text of no difference is empty."""
    if fmt == "json":
        return json.dumps({"same": difference.same, **asdict(difference)}, indent=1)
    if fmt == "html":
        return _TEMPLATES.get_template("diff.html.j2").render(d=difference, version=__version__)
    return "\n".join(_text(difference, color))


def _text(difference: Difference, color: bool) -> list[str]:
    def paint(code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if color else text

    out: list[str] = []
    if not difference.same:
        out += [paint(_RED, f"--- {difference.old}"), paint(_GREEN, f"+++ {difference.new}")]
    for change in difference.settings:
        if change.old is not None:
            out.append(paint(_RED, f"- {change.section} {change.name} = {change.old}"))
        if change.new is not None:
            out.append(paint(_GREEN, f"+ {change.section} {change.name} = {change.new}"))
    for code in difference.code:
        out += ["", paint(_BOLD, _title(code))]
        for row in code.rows:
            out += _code_row(row, paint)
    return out


def _title(code: CodeChange) -> str:
    places = " -> ".join(p for p in (code.old_place, code.new_place) if p)
    return f"{code.label} {code.kind}" + (f" ({places})" if places else "")


def _code_row(row: Row, paint) -> list[str]:  # type: ignore[no-untyped-def]
    if row.op == ".":
        return [paint(_DIM, "  ...")]
    if row.op == "=":
        return [f"  {row.new.text}" + paint(_DIM, _place(row.new))] if row.new is not None else []
    out = []
    if row.old is not None:
        out.append(paint(_RED, f"- {row.old.text}") + paint(_DIM, _place(row.old)))
    if row.new is not None:
        out.append(paint(_GREEN, f"+ {row.new.text}") + paint(_DIM, _place(row.new)))
    return out


def _place(line: CodeLine) -> str:
    return f"  # {line.place}" if line.place else ""
