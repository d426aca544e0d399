"""Named iterators of a script over pieces of a message: what the hf_, bl_ and sdp_iterator functions share."""

from __future__ import annotations

from collections.abc import Callable

from kamc.declare.values import Value
from kamc.runtime.context import Ctx

#: name, text, and where the piece begins and ends in the message
Piece = tuple[str, str, int, int]


def line_pieces(text: str, at: int) -> list[Piece]:
    """The lines of a text that begins at ``at`` of the message, with their line ends."""
    out: list[Piece] = []
    for line in text.splitlines(keepends=True):
        out.append(("", line, at, at + len(line)))
        at += len(line)
    return out


class Iterators:
    """Iterators by name. One starts before the first piece; every function gives -1 for a name that is not started."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[Piece]] = {}
        self._at: dict[str, int] = {}

    def start(self, name: str, pieces: list[Piece]) -> int:
        self._pieces[name], self._at[name] = pieces, -1
        return 1

    def step(self, name: str, by: int) -> int:
        pieces = self._pieces.get(name)
        if pieces is None:
            return -1
        at = self._at[name] + by
        inside = 0 <= at < len(pieces)
        self._at[name] = at if inside else max(-1, min(at, len(pieces)))
        return 1 if inside else -1

    def end(self, name: str) -> int:
        self._at.pop(name, None)
        return 1 if self._pieces.pop(name, None) is not None else -1

    def current(self, name: str) -> Piece | None:
        pieces, at = self._pieces.get(name), self._at.get(name, -1)
        return pieces[at] if pieces is not None and 0 <= at < len(pieces) else None

    def getter(self, name: str, part: int) -> Callable[[Ctx], Value]:
        """What a variable reads: 0 the name of the current piece, 1 its text."""

        def get(ctx: Ctx) -> Value:
            piece = self.current(name)
            return piece[part] if piece is not None else None

        return get

    def remove(self, ctx: Ctx, name: str) -> int:
        piece = self.current(name)
        return self._edit(ctx, piece[2], piece[3], "") if piece is not None else -1

    def append(self, ctx: Ctx, name: str, text: str) -> int:
        """Put a text behind the piece."""
        piece = self.current(name)
        return self._edit(ctx, piece[3], piece[3], text) if piece is not None else -1

    def insert(self, ctx: Ctx, name: str, text: str) -> int:
        """Put a text in front of the piece."""
        piece = self.current(name)
        return self._edit(ctx, piece[2], piece[2], text) if piece is not None else -1

    @staticmethod
    def _edit(ctx: Ctx, start: int, end: int, text: str) -> int:
        ctx.add_edit(start, end, text)
        return 1
