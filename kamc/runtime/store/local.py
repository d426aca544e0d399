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

    def expires(self, key: str) -> float | None: ...

    def set_expires(self, key: str, expires: float) -> bool: ...

    def take_expired(self) -> list[tuple[str, Any]]: ...

    def clear(self) -> None: ...

    def scan(self) -> Iterator[tuple[str, Any]]: ...

    def __len__(self) -> int: ...


class LocalTable:
    """A dict with expiry. What is over its time is not seen any more; with ``collected`` it waits for :meth:`take_expired`."""

    __slots__ = ("_clock", "_collected", "_data")

    def __init__(self, clock: Callable[[], float], *, collected: bool = False) -> None:
        self._data: dict[str, tuple[Any, float]] = {}
        self._clock = clock
        self._collected = collected

    def get(self, key: str) -> Any:
        found = self._data.get(key)
        if found is None:
            return None
        value, expires = found
        if expires and expires <= self._clock():
            if not self._collected:
                del self._data[key]
            return None
        return value

    def expires(self, key: str) -> float | None:
        """The wall-clock second at which a key ends, 0 for never; None when there is none."""
        found = self._data.get(key) if self.get(key) is not None else None
        return found[1] if found is not None else None

    def set_expires(self, key: str, expires: float) -> bool:
        value = self.get(key)
        if value is None:
            return False
        self._data[key] = (value, expires)
        return True

    def take_expired(self) -> list[tuple[str, Any]]:
        """Remove what is over its time and give it out."""
        now = self._clock()
        over = [(key, value) for key, (value, expires) in self._data.items() if expires and expires <= now]
        for key, _ in over:
            del self._data[key]
        return over

    def clear(self) -> None:
        self._data.clear()

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

    def has(self, name: str) -> bool:
        """Whether a table has been used."""
        return name in self._tables

    def table(self, name: str, *, collected: bool = False) -> LocalTable:
        """``collected`` counts for the first use of a name: see :class:`LocalTable`."""
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = LocalTable(self._clock, collected=collected)
        return found
