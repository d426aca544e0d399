"""Source files, positions and spans: where every later stage points when it speaks of the configuration.

A span is a pair of offsets into one file, plus the trail of includes and define expansions that led there. Lines and columns are
computed on demand (1-based, a tab is one column, as Kamailio counts).
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

#: escapes of double-quoted texts: a character, hexadecimal, octal, a line end that does not count
ESCAPE: Final = re.compile(r"\\(?:([nrat\"\\])|x([0-9A-Fa-f]{1,2})|([0-7]{2,3})|(\r?\n))")


class SourceFile:
    """One configuration file: its name as given, its text (latin-1, so one character is one byte)."""

    __slots__ = ("_starts", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._starts: list[int] | None = None

    def _line_starts(self) -> list[int]:
        if self._starts is None:
            starts = [0]
            find = self.text.find
            at = find("\n")
            while at >= 0:
                starts.append(at + 1)
                at = find("\n", at + 1)
            self._starts = starts
        return self._starts

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1."""
        starts = self._line_starts()
        line = bisect_right(starts, offset)
        return line, offset - starts[line - 1] + 1

    def digest(self) -> bytes:
        """SHA-256 of its bytes, as they were read."""
        return hashlib.sha256(self.text.encode("latin-1")).digest()

    def line(self, number: int) -> str:
        """The text of a line without its line end."""
        starts = self._line_starts()
        if not 1 <= number <= len(starts):
            return ""
        begin = starts[number - 1]
        end = self.text.find("\n", begin)
        return self.text[begin : end if end >= 0 else len(self.text)].rstrip("\r")


@dataclass(frozen=True, slots=True)
class Trail:
    """One step of how the reader came to a span: an include, or the expansion of a define."""

    kind: str
    name: str
    at: Span

    def describe(self) -> str:
        where = f"{self.at.file.name}:{self.at.line}"
        if self.kind == "include":
            return f"included from {where}"
        return f"expanded from #!define {self.name}, used at {where}"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one source file. ``start`` and ``end`` are offsets, ``end`` is exclusive."""

    file: SourceFile = field(repr=False)
    start: int
    end: int
    trail: tuple[Trail, ...] = field(default=(), repr=False, compare=False)

    @property
    def line(self) -> int:
        return self.file.position(self.start)[0]

    @property
    def column(self) -> int:
        return self.file.position(self.start)[1]

    @property
    def end_position(self) -> tuple[int, int]:
        return self.file.position(max(self.end, self.start))

    @property
    def text(self) -> str:
        return self.file.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """From the start of this span to the end of the other, when both lie in one file."""
        if other.file is self.file and other.end >= self.start:
            return Span(self.file, self.start, max(self.end, other.end), self.trail)
        return self

    def part(self, value: str, start: int, end: int) -> Span:
        """The place of ``value[start:end]``, where this span is the quoted text ``value`` or the value itself; else the whole span."""
        text = self.text
        if text == value:
            return Span(self.file, self.start + start, self.start + end, self.trail)
        raw = text[1:-1]
        if raw == value:
            return Span(self.file, self.start + 1 + start, self.start + 1 + end, self.trail)
        places = _raw_places(raw, value) if text[:1] == '"' else None
        if places is None:
            return self
        return Span(self.file, self.start + 1 + places[start], self.start + 1 + places[end], self.trail)

    def where(self) -> str:
        line, column = self.file.position(self.start)
        return f"{self.file.name}:{line}:{column}"


def _raw_places(raw: str, value: str) -> list[int] | None:
    """Where each character of a double-quoted text's value, and its end, stands in what is between the quotes."""
    places: list[int] = []
    at = 0
    while at < len(raw):
        escape = ESCAPE.match(raw, at)
        if escape is None:
            places.append(at)
            at += 1
            continue
        if escape.group(4) is None:
            places.append(at)
        at = escape.end()
    return [*places, len(raw)] if len(places) == len(value) else None


NOWHERE = Span(SourceFile("<none>", ""), 0, 0)


def load_text(path: str) -> str:
    """Read a configuration file as latin-1. Raises OSError."""
    with open(path, encoding="latin-1", newline="") as stream:
        return stream.read()
