"""``kamc explain K0123``: the page of a code, from ``docs/diagnostics``; the wheel carries the pages as ``kamc/explanations``."""

from __future__ import annotations

from pathlib import Path

from kamc.diagnostics import CODES
from kamc.errors import UsageError

_HERE = Path(__file__).resolve().parent
_FOLDERS = (_HERE / "explanations", _HERE.parent / "docs" / "diagnostics")


def page(code: str) -> str:
    """The text of a page. Raises UsageError for what is no code."""
    name = code.strip().upper()
    if name not in CODES:
        raise UsageError(f"{code} is no code of kamc: they are K0101 to K0702, and every finding shows its own")
    for folder in _FOLDERS:
        path = folder / f"{name}.md"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise UsageError(f"the page of {name} is not installed: {CODES[name]}")
