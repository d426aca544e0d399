"""One file while it is scanned: how much of it the lexer has, and where its offsets are in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from kamc.source import SourceFile, Span, Trail

#: characters that are given to the lexer at a time; tokens that go on after a line end ask for more
CHUNK: Final = 1 << 16


@dataclass(slots=True)
class Frame:
    """One file being read: the lexer on it, and the defines whose values are still unread."""

    file: SourceFile
    lexer: Any
    trail: tuple[Trail, ...]
    #: (unread length at which the value is used up, name, place of use)
    expansions: list[tuple[int, str, Span]] = field(default_factory=list)
    #: how much of the text the lexer has: splicing a value in moves only that
    loaded: int = 0

    def unread(self, at: int) -> int:
        return len(self.lexer.lexdata) - at + len(self.file.text) - self.loaded

    def more(self, *, fresh: bool = False) -> bool:
        """Give the lexer some more whole lines; ``fresh`` drops what it had, which is used up. False at the end of the text."""
        text = self.file.text
        if self.loaded >= len(text):
            return False
        end = text.find("\n", self.loaded + CHUNK)
        end = len(text) if end < 0 else end + 1
        piece = text[self.loaded : end]
        self.loaded = end
        if fresh:
            self.lexer.input(piece)
            self.lexer.lexpos = 0
        else:
            self.lexer.lexdata += piece
            self.lexer.lexlen = len(self.lexer.lexdata)
        return True

    def span(self, start: int, end: int) -> Span:
        """The span of lexer offsets; inside a value it is the place where the define was used."""
        left = self.unread(start)
        while self.expansions and left <= self.expansions[-1][0]:
            self.expansions.pop()
        if self.expansions:
            place = self.expansions[0][2]
            steps = tuple(Trail("define", name, used) for _, name, used in self.expansions)
            return Span(place.file, place.start, place.end, self.trail + steps)
        total = len(self.file.text)
        return Span(self.file, total - left, max(total - left, total - self.unread(end)), self.trail)
