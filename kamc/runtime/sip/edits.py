"""Edits: what a script changes in a message, applied when something is built from it (Kamailio's lumps).

An edit is ``(start, end, text)``: the characters from start to end of the original give way to the text. Equal starts keep the order
in which the edits were made; an edit inside a stretch that is gone already is gone too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kamc.runtime.net.endpoint import Dest
    from kamc.runtime.sip.message import SipMessage

Edit = tuple[int, int, str]


class SocketText(str):
    """The text of an edit that depends on where the message goes, and the socket that it leaves from. As a plain text it is what holds for the
    socket that the message came in by."""

    choose: Callable[[Dest], str]

    @classmethod
    def of(cls, plain: str, choose: Callable[[Dest], str]) -> SocketText:
        text = cls(plain)
        text.choose = choose
        return text

    def map(self, change: Callable[[str], str]) -> SocketText:
        """The same with a change to every form of it."""
        choose = self.choose
        return SocketText.of(change(str(self)), lambda dest: change(choose(dest)))


def for_dest(edits: list[Edit], dest: Dest) -> list[Edit]:
    """The edits of a message that goes to a destination."""
    for edit in edits:
        if edit[2].__class__ is SocketText:
            return [(e[0], e[1], e[2].choose(dest)) if isinstance(e[2], SocketText) else e for e in edits]
    return edits


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


def restored(msg: SipMessage, key: str, value: str) -> list[Edit]:
    """The edit that gives a header another value; a To keeps the tag that the message has."""
    header = msg.first.get(key)
    if header is None:
        return []
    if key == "to" and msg.to_tag and ";tag=" not in value.lower():
        value = f"{value};tag={msg.to_tag}"
    return [(header[3], header[4], f"{header[1]}: {value}\r\n")]


def _position(edit: Edit) -> tuple[int, bool]:
    """Insertions come before a deletion that begins at the same place."""
    return edit[0], edit[1] > edit[0]
