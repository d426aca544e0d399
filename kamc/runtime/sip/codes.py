"""Sets of reply codes in parameters."""

from __future__ import annotations


def reply_codes(text: str) -> frozenset[int]:
    """``class=2;code=404``: all codes from 200 to 299, and 404. Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, (p.strip() for p in text.split(";"))):
        kind, _, value = part.partition("=")
        if kind not in ("class", "code") or not value.isdecimal():
            raise ValueError(f"{part!r} is neither class=N nor code=N")
        found |= set(range(int(value) * 100, int(value) * 100 + 100)) if kind == "class" else {int(value)}
    return frozenset(found)
