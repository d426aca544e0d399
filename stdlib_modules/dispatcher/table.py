"""Destinations and their sets, and the list file that they come from.

A line is ``set uri [flags [priority [attrs]]]``. In a set the higher priority comes first, and among equals the one that stands later.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kamc.runtime.db import Cell
from kamc.runtime.sip.uri import Uri, parse_uri

INACTIVE, TRYING, DISABLED, PROBING, NO_DNS, NO_PING = 1, 2, 4, 8, 16, 32
_KNOWN: Final = INACTIVE | TRYING | DISABLED | PROBING | NO_DNS | NO_PING
_SLOTS: Final = 100


class ListError(ValueError):
    """A line that cannot be used; the message says why."""


@dataclass(slots=True)
class Latency:
    """Of the answered pings, in milliseconds. ``estimate`` follows new values by its weight, a number from 0 to 1."""

    count: int = 0
    average: float = 0.0
    squares: float = 0.0
    estimate: float = 0.0
    highest: int = 0
    timeouts: int = 0

    def add(self, ms: int, weight: float) -> None:
        self.count += 1
        before = self.average
        self.average += (ms - before) / self.count
        self.squares += (ms - before) * (ms - self.average)
        self.estimate = ms if self.count == 1 else self.estimate + (ms - self.estimate) * weight
        self.highest = max(self.highest, ms)

    @property
    def deviation(self) -> float:
        return (self.squares / self.count) ** 0.5 if self.count else 0.0


@dataclass(slots=True)
class Destination:
    uri: str
    parsed: Uri
    flags: int = 0
    priority: int = 0
    attrs: str = ""
    values: dict[str, str] = field(default_factory=dict)
    #: calls that algorithm 10 counts
    load: int = 0
    #: pings in a row that failed or, while it is inactive, succeeded
    streak: int = 0
    latency: Latency = field(default_factory=Latency)

    @property
    def usable(self) -> bool:
        return not self.flags & (INACTIVE | DISABLED)

    @property
    def state(self) -> str:
        """As RPC shows it: A, I, T or D, and P for one that is probed."""
        letter = "D" if self.flags & DISABLED else "I" if self.flags & INACTIVE else "T" if self.flags & TRYING else "A"
        return letter + ("P" if self.flags & PROBING else "X")

    def number(self, name: str) -> int:
        text = self.values.get(name, "")
        return int(text) if text.isdecimal() else 0


class DestinationSet:
    """The destinations of one number, in the order of choice."""

    def __init__(self, number: int, found: Iterable[Destination]) -> None:
        self.number = number
        later_first = list(found)[::-1]
        self.all = sorted(later_first, key=lambda d: -d.priority)
        #: where round robin goes on
        self.next = 0
        #: by the name of the weight and who takes part
        self._slots: dict[tuple[Any, ...], list[Destination]] = {}
        self._turn: dict[str, int] = {}

    def find(self, uri: str) -> Destination | None:
        return next((d for d in self.all if d.uri == uri), None)

    def take_state(self, before: DestinationSet | None, *, latency: bool) -> None:
        """Carry over what was learnt of destinations that were in the set before a reload."""
        for d in self.all:
            known = before.find(d.uri) if before is not None else None
            if known is not None:
                d.flags, d.streak = known.flags, known.streak
                if latency:
                    d.latency = known.latency

    def weighted(self, name: str, *, usable_only: bool) -> Destination | None:
        """Turn by turn through a shuffled list in which each destination stands as often as its weight says."""
        found = [d for d in self.all if d.usable or not usable_only]
        key = (name, *map(id, found))
        if key not in self._slots:
            slots = self._fill(name, found)
            random.shuffle(slots)
            self._slots = {k: v for k, v in self._slots.items() if k[0] != name} | {key: slots}
        slots = self._slots[key]
        if not slots:
            return None
        turn = self._turn.get(name, random.randrange(len(slots)))
        self._turn[name] = turn + 1
        return slots[turn % len(slots)]

    @staticmethod
    def _fill(name: str, found: list[Destination]) -> list[Destination]:
        total = sum(d.number(name) for d in found)
        if not total:
            return []
        scale = _SLOTS / total if name == "rweight" else 1
        return [d for d in found for _ in range(int(d.number(name) * scale))][:_SLOTS]


def read_line(line: str) -> tuple[int, Destination] | None:
    """(set, destination) of a line; None for a comment. Raises ListError."""
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    parts = line.split(None, 4)
    if len(parts) < 2 or not parts[0].isdecimal():
        raise ListError("a line is: set uri [flags [priority [attrs]]]")
    numbers = parts[2:4]
    if not all(n.removeprefix("-").isdecimal() for n in numbers):
        raise ListError("flags and priority are numbers")
    flags, priority = (int(n) for n in [*numbers, "0", "0"][:2])
    return int(parts[0]), destination(parts[1], flags, priority, parts[4].strip() if len(parts) > 4 else "")


def destination(uri: str, flags: int = 0, priority: int = 0, attrs: str = "") -> Destination:
    """Raises ListError for a URI that is none."""
    parsed = parse_uri(uri)
    if parsed is None or not parsed.host:
        raise ListError(f"{uri!r} is no SIP URI")
    values = {k.strip(): v.strip() for k, sep, v in (part.partition("=") for part in attrs.split(";")) if sep}
    return Destination(uri, parsed, flags & _KNOWN, priority, attrs, values)


def read_list(lines: Iterable[str], report: Callable[[str], None]) -> dict[int, DestinationSet]:
    """All sets of a file; lines that cannot be used are reported with their number and left out."""
    found: dict[int, list[Destination]] = {}
    for number, line in enumerate(lines, 1):
        try:
            read = read_line(line)
        except ListError as err:
            report(f"{number}: {err}")
            continue
        if read is not None:
            found.setdefault(read[0], []).append(read[1])
    return {number: DestinationSet(number, all_) for number, all_ in found.items()}


def read_rows(rows: Iterable[tuple[Cell, ...]], extra: Sequence[str], report: Callable[[str], None]) -> dict[int, DestinationSet]:
    """All sets of a table: set, destination, flags, priority and attributes, then columns that become the attributes named by ``extra``."""
    found: dict[int, list[Destination]] = {}
    for number, uri, flags, priority, attrs, *more in rows:
        texts = [str(attrs)] if attrs else []
        texts += [f"{name}={cell}" for name, cell in zip(extra, more, strict=True) if cell not in (None, "")]
        try:
            found.setdefault(int(str(number)), []).append(destination(str(uri), int(str(flags or 0)), int(str(priority or 0)), ";".join(texts)))
        except ValueError as err:
            report(str(err))
    return {number: DestinationSet(number, all_) for number, all_ in found.items() if all_}
