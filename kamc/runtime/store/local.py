"""The store of a single worker: named tables in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Table(Protocol):
    """One table. Values are plain data; ``expires`` is a wall-clock second, 0 for never."""

    def get(self, key: str) -> Any: ...

    def put(self, key: str, value: Any, expires: float = 0) -> None: ...

    def delete(self, key: str) -> bool: ...

    def update(self, key: str, change: Callable[[Any], Any]) -> Any: ...

    def scan(self) -> Iterator[tuple[str, Any]]: ...

    def __len__(self) -> int: ...


class LocalTable:
    """A dict with expiry on access."""

    __slots__ = ("_clock", "_data")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._data: dict[str, tuple[Any, float]] = {}
        self._clock = clock

    def get(self, key: str) -> Any:
        found = self._data.get(key)
        if found is None:
            return None
        value, expires = found
        if expires and expires <= self._clock():
            del self._data[key]
            return None
        return value

    def put(self, key: str, value: Any, expires: float = 0) -> None:
        self._data[key] = (value, expires)

    def delete(self, key: str) -> bool:
        return self._data.pop(key, None) is not None

    def update(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Atomic read-modify-write; ``change`` gets None for a missing key and returns None to delete."""
        value = change(self.get(key))
        if value is None:
            self._data.pop(key, None)
        else:
            self._data[key] = (value, self._data.get(key, (None, 0))[1])
        return value

    def scan(self) -> Iterator[tuple[str, Any]]:
        for key in list(self._data):
            value = self.get(key)
            if value is not None:
                yield key, value

    def __len__(self) -> int:
        return len(self._data)


class LocalStore:
    """Named tables, created on first use."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tables: dict[str, LocalTable] = {}

    def table(self, name: str) -> LocalTable:
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = LocalTable(self._clock)
        return found
