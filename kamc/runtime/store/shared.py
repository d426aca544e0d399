"""The store of several workers: tables that all of them see, in one LMDB environment.

Every worker keeps what it has read. A change is written in a transaction and then marked in memory that the workers share; a reader that finds
no new mark takes what it has, otherwise it compares the one entry that it wants. What a worker did before it sent something is therefore seen by
whoever acts on what was sent.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from kamc.runtime.store.local import LocalStore, LocalTable, VarsOfAll
from kamc.runtime.store.mirror import Codec, Mirror

if TYPE_CHECKING:
    from kamc.runtime.store.far import Far

_ROWS: Final = 256
_CELL: Final = 8


class Marks:
    """Counters of changes: a row per group of tables, in it a cell per worker, which nobody else writes. Made before the workers are."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.memory = mmap.mmap(-1, (_ROWS + 1) * workers * _CELL)
        self._cells = memoryview(self.memory).cast("Q")

    def row(self, name: str) -> int:
        return crc32(name.encode("latin-1", "replace")) % _ROWS

    def read(self, row: int) -> bytes:
        size = self.workers * _CELL
        return self.memory[row * size : (row + 1) * size]

    def total(self) -> int:
        """Of a number of which each worker has a part: connections."""
        at = _ROWS * self.workers
        return sum(self._cells[at : at + self.workers])

    def part(self, worker: int, number: int) -> None:
        self._cells[_ROWS * self.workers + worker] = number

    def bump(self, row: int, worker: int) -> None:
        self._cells[row * self.workers + worker] += 1


class SharedTable(LocalTable):
    """A table of all workers. ``_entries`` holds (value, expires, digest of the entry, epoch in which it was compared)."""

    __slots__ = ("_codec", "_entries", "_epoch", "_index", "_marks", "_mirror", "_name", "_row", "_seen", "_whole")

    def __init__(self, clock: Callable[[], float], mirror: Mirror, name: str, codec: Codec, marks: Marks, index: int, *, collected: bool = False) -> None:
        super().__init__(clock, collected=collected)
        self._mirror, self._name, self._codec = mirror, name, codec
        self._marks, self._index, self._row = marks, index, marks.row(name)
        self._entries: dict[str, tuple[Any, float, int, int]] = {}
        self._seen = b""
        #: counts how often others were seen to have changed something
        self._epoch = 0
        #: the epoch in which all entries were compared
        self._whole = -1

    # -- seeing what others did ------------------------------------------------------------------------------------------

    def _look(self) -> int:
        marks = self._marks.read(self._row)
        if marks != self._seen:
            self._seen = marks
            self._epoch += 1
        return self._epoch

    def _changed(self) -> None:
        """Tell the others. What this worker has is as good as before, unless somebody else has changed something as well."""
        before = self._marks.read(self._row)
        self._marks.bump(self._row, self._index)
        if before == self._seen:
            after = bytearray(before)
            at = self._index * _CELL
            after[at : at + _CELL] = (int.from_bytes(before[at : at + _CELL], "little") + 1).to_bytes(_CELL, "little")
            self._seen = bytes(after)

    def _entry(self, key: str) -> tuple[Any, float, int, int] | None:
        """The entry as it is now, over its time or not."""
        epoch = self._look()
        found = self._entries.get(key)
        if found is not None and found[3] == epoch:
            return found
        return self._taken(key, self._mirror.raw(self._name, key), epoch)

    def _taken(self, key: str, raw: bytes | None, epoch: int) -> tuple[Any, float, int, int] | None:
        if raw is None:
            self._entries.pop(key, None)
            return None
        digest, found = hash(raw), self._entries.get(key)
        if found is not None and found[2] == digest:
            value, expires = found[0], found[1]
        else:
            try:
                _, value, expires = self._mirror.unpacked(raw, key, self._codec)
            except ValueError:
                self._mirror.log.error("store: an entry of %s cannot be read and is left out", self._name)
                self._entries.pop(key, None)
                return None
        entry = self._entries[key] = (value, expires, digest, epoch)
        return entry

    def _all(self) -> dict[str, tuple[Any, float, int, int]]:
        epoch = self._look()
        if self._whole != epoch:
            here = set()
            for key, raw in self._mirror.rows(self._name):
                if self._taken(key, raw, epoch) is not None:
                    here.add(key)
            for key in self._entries.keys() - here:
                del self._entries[key]
            self._whole = epoch
        return self._entries

    # -- reading ---------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Any:
        found = self._entry(key)
        if found is None or (found[1] and found[1] <= self._clock()):
            return None
        return found[0]

    def expires(self, key: str) -> float | None:
        found = self._entry(key)
        return None if found is None or (found[1] and found[1] <= self._clock()) else found[1]

    def scan(self) -> Iterator[tuple[str, Any]]:
        now = self._clock()
        for key, (value, expires, _, _) in list(self._all().items()):
            if not expires or expires > now:
                yield key, value

    def __len__(self) -> int:
        return self._mirror.count(self._name)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def change(self, key: str, change: Callable[[Any, float], tuple[Any, float]]) -> Any:
        """Read, change and write in one transaction that keeps the others out. ``change`` gets the value and its end, and gives both; it may be
        asked more than once."""
        outcome: list[Any] = [None]

        def inside(raw: bytes | None) -> bytes | None:
            old = self._taken(key, raw, self._epoch)
            now = self._clock()
            there = old is not None and not (old[1] and old[1] <= now)
            value, expires = change(old[0] if there and old is not None else None, old[1] if there and old is not None else 0)
            outcome[0] = value
            if value is None:
                self._entries.pop(key, None)
                return None
            packed = self._mirror.packed(key, self._codec.pack(value), expires)
            self._entries[key] = (value, expires, hash(packed), self._epoch)
            return packed

        self._look()
        self._mirror.exchange(self._name, key, inside)
        self._changed()
        return outcome[0]

    def put(self, key: str, value: Any, expires: float = 0) -> None:
        merge = self._codec.merge
        if merge is None:
            self.change(key, lambda old, _: (value, expires))
            return
        known = self._entries.get(key)
        base = known[0] if known is not None else None
        self.change(key, lambda old, _: (value if old is base else merge(base, value, old), expires))

    def delete(self, key: str) -> bool:
        there: list[bool] = []
        merge = self._codec.merge
        known = self._entries.get(key)
        base = known[0] if known is not None else None

        def gone(old: Any, expires: float) -> tuple[Any, float]:
            there.append(old is not None)
            if merge is None or old is None or old is base:
                return None, 0
            return merge(base, None, old), expires

        self.change(key, gone)
        return there[-1] if there else False

    def set_expires(self, key: str, expires: float) -> bool:
        return self.change(key, lambda old, _: (old, expires)) is not None

    def take_expired(self) -> list[tuple[str, Any]]:
        now = self._clock()
        over = []
        for key, (value, expires, _, _) in list(self._all().items()):
            if expires and expires <= now and self._drop_if_over(key, now):
                over.append((key, value))
        return over

    def _drop_if_over(self, key: str, now: float) -> bool:
        """Remove an entry that is over its time, unless another worker has just removed or renewed it."""
        dropped: list[bool] = []

        def inside(raw: bytes | None) -> bytes | None:
            dropped.clear()
            old = self._taken(key, raw, self._epoch)
            if old is None or not old[1] or old[1] > now:
                return raw
            dropped.append(True)
            self._entries.pop(key, None)
            return None

        self._mirror.exchange(self._name, key, inside)
        if dropped:
            self._changed()
        return bool(dropped)

    def clear(self) -> None:
        self._entries.clear()
        self._mirror.clear(self._name)
        self._changed()


class SharedStore(LocalStore):
    """The tables of worker ``index``."""

    def __init__(self, clock: Callable[[], float], mirror: Mirror, marks: Marks, index: int, far: Far | None = None) -> None:
        super().__init__(clock, mirror, far)
        self._shared_mirror, self._marks, self._index = mirror, marks, index

    def _make(self, name: str, codec: Codec, *, collected: bool) -> LocalTable:
        return SharedTable(self._clock, self._shared_mirror, name, codec, self._marks, self._index, collected=collected)

    def variables(self) -> VarsOfAll:
        return VarsOfAll(self.table("shv"))
