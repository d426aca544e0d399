"""Edits: what a script changes in a message, applied when something is built from it (Kamailio's lumps).

An edit is ``(start, end, text)``: the characters from start to end of the original give way to the text. Equal starts keep the order
in which the edits were made; an edit inside a stretch that is gone already is gone too.
"""

from __future__ import annotations

Edit = tuple[int, int, str]


def apply_edits(text: str, edits: list[Edit], start: int, end: int) -> str:
    """The stretch of the text from start to end with the edits that fall into it."""
    if not edits:
        return text[start:end]
    pieces = []
    at = start
    for begin, stop, new in sorted(edits, key=_position):
        if begin < start or begin > end:
            continue
        if begin < at:
            if stop > at:
                at = stop
            continue
        pieces.append(text[at:begin])
        pieces.append(new)
        at = stop
    pieces.append(text[at:end])
    return "".join(pieces)


def _position(edit: Edit) -> tuple[int, bool]:
    """Insertions come before a deletion that begins at the same place."""
    return edit[0], edit[1] > edit[0]
