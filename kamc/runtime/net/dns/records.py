"""Answers of name servers, kept as long as their TTL says (``dns_cache_*`` core parameters)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

#: what an entry takes beside its texts, in bytes: an estimate, for dns_cache_mem
_ENTRY_BYTES: Final = 72
_RECORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Srv:
    """RFC 2782."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Naptr:
    """RFC 3403."""

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


#: an address (A, AAAA), a name (CNAME, PTR) or a text (TXT) is a plain string
Record = str | Srv | Naptr


@dataclass(slots=True)
class Entry:
    """All records of one type that a name has; none: it is known to have none. Times are of the cache's clock, in seconds."""

    name: str
    kind: str
    records: tuple[Record, ...]
    expires: float
    last_used: float
    permanent: bool = False
    size: int = field(init=False)

    def __post_init__(self) -> None:
        names = sum(len(r.target if isinstance(r, Srv) else r.replacement if isinstance(r, Naptr) else r) for r in self.records)
        self.size = _ENTRY_BYTES + len(self.name) + _RECORD_BYTES * len(self.records) + names


class Cache:
    """Entries by name and type, the one used last at the end. ``limit`` tells how many bytes they may take."""

    def __init__(self, clock: Callable[[], float], limit: Callable[[], int]) -> None:
        self.clock, self._limit = clock, limit
        self.used = 0
        self._entries: dict[tuple[str, str], Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    @property
    def limit(self) -> int:
        return self._limit()

    def get(self, name: str, kind: str) -> Entry | None:
        key = name.lower(), kind
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        now = self.clock()
        if not entry.permanent and entry.expires <= now:
            self.used -= entry.size
            return None
        entry.last_used = now
        self._entries[key] = entry
        return entry

    def put(self, entry: Entry, *, delete_unexpired: bool = False) -> bool:
        """Remember an answer. Without room what has expired goes, with ``delete_unexpired`` also what was not used for longest. False
        when there is still no room."""
        self.remove(entry.name, entry.kind)
        if self.used + entry.size > self.limit:
            self.expire()
        while self.used + entry.size > self.limit:
            oldest = next((e for e in self._entries.values() if not e.permanent), None) if delete_unexpired else None
            if oldest is None:
                return False
            self.remove(oldest.name, oldest.kind)
        self._entries[entry.name.lower(), entry.kind] = entry
        self.used += entry.size
        return True

    def remove(self, name: str, kind: str) -> bool:
        entry = self._entries.pop((name.lower(), kind), None)
        if entry is not None:
            self.used -= entry.size
        return entry is not None

    def expire(self) -> None:
        now = self.clock()
        for entry in self:
            if not entry.permanent and entry.expires <= now:
                self.remove(entry.name, entry.kind)

    def clear(self, *, permanent: bool = False) -> None:
        for entry in self:
            if permanent or not entry.permanent:
                self.remove(entry.name, entry.kind)
