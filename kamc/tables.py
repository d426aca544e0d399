"""Answers of commands for people: tables where there are rows, names and values else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

#: a wider cell is cut
_WIDEST: Final = 60


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).replace("\r", "").replace("\n", " ")


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(v, dict | list) for v in value.values())


def _unwrapped(rows: Sequence[Any]) -> list[Any]:
    """``[{"Contact": {...}}, ...]`` is a list of what is in it."""
    if rows and all(isinstance(r, dict) and len(r) == 1 and isinstance(next(iter(r.values())), dict) for r in rows) and len({next(iter(r)) for r in rows}) == 1:
        return [next(iter(r.values())) for r in rows]
    return list(rows)


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_text(row.get(name, "")) for name in names] for row in rows]
    cut = [[c if len(c) <= _WIDEST else f"{c[: _WIDEST - 1]}…" for c in row] for row in cells]
    numeric = [all(isinstance(row.get(name), int | float) for row in rows) for name in names]
    widths = [max(len(name), *(len(row[i]) for row in cut)) for i, name in enumerate(names)]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if right else c.ljust(w) for c, w, right in zip(row, widths, numeric, strict=True)).rstrip()

    return [line(names), line(["-" * w for w in widths]), *(line(row) for row in cut)]


def lines_of(value: Any, depth: int = 0) -> list[str]:
    """The lines of an answer."""
    indent = "  " * depth
    if isinstance(value, dict):
        width = max((len(str(k)) for k, v in value.items() if not isinstance(v, dict | list)), default=0)
        out: list[str] = []
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                out += [f"{indent}{key}", *(lines_of(inner, depth + 1) or [f"{indent}  -"])]
            else:
                out.append(f"{indent}{str(key).ljust(width)}  {_text(inner)}")
        return out
    if isinstance(value, list):
        rows = _unwrapped(value)
        if rows and all(_is_flat(r) for r in rows):
            return [indent + line for line in _columns(rows)]
        out = []
        for number, row in enumerate(rows):
            if number and isinstance(row, dict | list):
                out.append("")
            out += lines_of(row, depth)
        return out
    return [indent + _text(value)]
