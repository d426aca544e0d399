"""The store's copy in a file (LMDB): what a worker puts into its tables is there for the one that takes its place, or for the next start.

Tables are read from memory; every change is written through, in a transaction of its own, without waiting for the disk: the change is the
system's as soon as the call returns, whatever happens to the process. An entry is ``marshal`` behind its checksum: one that is damaged is left
out. The folder belongs to the user that runs the server and to nobody else.
"""

from __future__ import annotations

import marshal
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import lmdb

from kamc.errors import ConfigError
from kamc.runtime.log import Log

#: bytes that the file may grow to; it takes only what is used
_MAP_SIZE: Final = 1 << 32
#: in memory, where the file is written through its mapping: there has to be room for all of it
_MAPPED_SIZE: Final = 1 << 30
_CHECKSUM: Final = 4
_MOST_TABLES: Final = 1024
#: a longer key is kept by its beginning and its digest in the value; LMDB's own limit
_LONGEST_KEY: Final = 511
#: bytes at the end of such a one: a zero and the digest
_DIGEST: Final = 33


class Codec(NamedTuple):
    """How the values of a table become plain data (texts, numbers, lists, dicts, None) and come back. ``merge`` joins a change with one that another worker
    made meanwhile: what both began with, the value to be put (None to delete), the other's value; the last one wins without it."""

    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]
    merge: Callable[[Any, Any, Any], Any] | None = None


def _same(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    """Numbers and texts of the script, without what they carry besides (a number that knows its text)."""
    if value.__class__ is int or value.__class__ is str:
        return value
    return int(value) if isinstance(value, int) else str(value) if isinstance(value, str) else value


PLAIN: Final = Codec(_plain, _same)


def _entry(row: list[Any]) -> bytes:
    data = marshal.dumps(row)
    return zlib.crc32(data).to_bytes(_CHECKSUM) + data


def _row(entry: bytes) -> list[Any]:
    """Raises ValueError for one that is damaged."""
    data = entry[_CHECKSUM:]
    if zlib.crc32(data).to_bytes(_CHECKSUM) != entry[:_CHECKSUM]:
        raise ValueError("checksum")
    found = marshal.loads(data)
    if not isinstance(found, list):
        raise ValueError("no row")
    return found


class Mirror:
    """One environment. Opened after the fork, by one worker at a time. Raises ConfigError."""

    def __init__(self, folder: str, log: Log, *, lasting: bool = True) -> None:
        """``lasting``: for the next start of the server, not only for the next worker."""
        self.log = log
        self._tables: dict[str, Any] = {}
        #: changes that could not be written
        self.failed = 0
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            space = os.statvfs(folder)
            # through the mapping it is four times as fast; a disk that fills up would end the process, and a power cut could leave half of a change
            mapped = not lasting and space.f_bavail * space.f_frsize > _MAPPED_SIZE
            self._env = lmdb.open(folder, map_size=_MAPPED_SIZE if mapped else _MAP_SIZE, max_dbs=_MOST_TABLES, sync=False, metasync=False, writemap=mapped,
                                  mode=0o600)  # fmt: skip
        except (OSError, lmdb.Error) as err:
            raise ConfigError(f"cannot open the store in {folder}: {err}") from None

    def _table(self, name: str) -> Any:
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = self._env.open_db(name.encode("latin-1", "replace"))
        return found

    def names(self) -> list[str]:
        with self._env.begin() as txn:
            return [bytes(k).decode("latin-1") for k, _ in txn.cursor()]

    def count(self, name: str) -> int:
        with self._env.begin(db=self._table(name)) as txn:
            return int(txn.stat(self._table(name))["entries"])

    def load(self, name: str, codec: Codec) -> Iterator[tuple[str, Any, float]]:
        """(key, value, expires) of a table. What cannot be read is left out, and said."""
        bad = 0
        with self._env.begin(db=self._table(name)) as txn:
            rows = [(bytes(k), bytes(v)) for k, v in txn.cursor()]
        for key, packed in rows:
            try:
                yield self.unpacked(packed, key.decode("latin-1"), codec)
            except ValueError:
                bad += 1
        if bad:
            self.log.error("store: %d entries of %s cannot be read and are left out", bad, name)

    @staticmethod
    def unpacked(entry: bytes, key: str, codec: Codec) -> tuple[str, Any, float]:
        """(key, value, expires) of an entry. Raises ValueError for one that is damaged."""
        try:
            value, expires, *whole = _row(entry)
            return whole[0] if whole else key, codec.unpack(value), float(expires)
        except (TypeError, KeyError, IndexError, EOFError) as err:
            raise ValueError(str(err)) from None

    @staticmethod
    def packed(key: str, value: Any, expires: float) -> bytes:
        """An entry. Raises ValueError for a value that is no plain data."""
        size = len(key)
        return _entry([value, expires] if 0 < size <= _LONGEST_KEY else [value, expires, key])

    def put(self, name: str, key: str, value: Any, expires: float) -> None:
        try:
            entry = self.packed(key, value, expires)
            with self._env.begin(write=True, db=self._tables.get(name) or self._table(name)) as txn:
                txn.put(_short(key.encode("latin-1", "replace")), entry)
        except (lmdb.Error, OSError, ValueError) as err:
            self._failed(name, err)

    def raw(self, name: str, key: str) -> bytes | None:
        """An entry as it is kept."""
        try:
            with self._env.begin(db=self._tables.get(name) or self._table(name)) as txn:
                found: bytes | None = txn.get(_short(key.encode("latin-1", "replace")))
                return found
        except (lmdb.Error, OSError) as err:
            self._failed(name, err)
            return None

    def rows(self, name: str) -> list[tuple[str, bytes]]:
        """All (key, entry) of a table."""
        with self._env.begin(db=self._table(name)) as txn:
            found = [(bytes(k), bytes(v)) for k, v in txn.cursor()]
        return [(self._whole_key(key, entry) if key[-_DIGEST:][:1] == b"\0" else key.decode("latin-1"), entry) for key, entry in found]

    @staticmethod
    def _whole_key(key: bytes, entry: bytes) -> str:
        """The key of an entry that looks as if only its beginning and its digest were kept."""
        try:
            _, _, *whole = _row(entry)
        except (ValueError, TypeError, EOFError):
            whole = []
        return str(whole[0]) if whole else key.decode("latin-1")

    def exchange(self, name: str, key: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Read an entry and write what ``change`` makes of it (None to delete), while no other process writes."""
        db = self._tables.get(name) or self._table(name)
        short = _short(key.encode("latin-1", "replace"))
        try:
            with self._env.begin(write=True, db=db) as txn:
                before = txn.get(short)
                after = change(before)
                if after is None:
                    if before is not None:
                        txn.delete(short)
                elif after != before:
                    txn.put(short, after)
        except (lmdb.Error, OSError, ValueError) as err:
            self._failed(name, err)

    def delete(self, name: str, key: str) -> None:
        try:
            with self._env.begin(write=True, db=self._table(name)) as txn:
                txn.delete(_short(key.encode("latin-1", "replace")))
        except (lmdb.Error, OSError) as err:
            self._failed(name, err)

    def clear(self, name: str) -> None:
        try:
            with self._env.begin(write=True) as txn:
                txn.drop(self._table(name), delete=False)
        except (lmdb.Error, OSError) as err:
            self._failed(name, err)

    def _failed(self, name: str, err: Exception) -> None:
        """A store that is full, or whose disk is, loses the copy and never the worker."""
        self.failed += 1
        self.log.error("store: table %s is not written: %s", name, err)

    def sync(self) -> None:
        """To the disk, for folders that outlive the machine's memory."""
        try:
            self._env.sync(True)
        except (lmdb.Error, OSError) as err:
            self.log.error("store: cannot write to the disk: %s", err)

    def close(self) -> None:
        self.sync()
        self._env.close()


def _short(raw: bytes) -> bytes:
    """A key as LMDB takes it: not empty, and not longer than it may be."""
    if raw and len(raw) <= _LONGEST_KEY:
        return raw
    from hashlib import sha256

    return raw[:400] + b"\0" + sha256(raw).digest()
