"""The store of a single worker: named tables in this process, and if wanted a copy of them in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

from kamc.runtime.store.mirror import PLAIN, Codec, Mirror

if TYPE_CHECKING:
    from kamc.runtime.store.far import Far


class Table(Protocol):
    """One table. Values are plain data; ``expires`` is a wall-clock second, 0 for never."""

    def get(self, key: str) -> Any: ...

    def put(self, key: str, value: Any, expires: float = 0) -> None: ...

    def delete(self, key: str) -> bool: ...

    def update(self, key: str, change: Callable[[Any], Any]) -> Any: ...

    def change(self, key: str, change: Callable[[Any, float], tuple[Any, float]]) -> Any: ...

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

    def sweep(self) -> int:
        """Forget what is over its time and that nobody collects. Returns how many there were."""
        return 0 if self._collected else len(self.take_expired())

    def put(self, key: str, value: Any, expires: float = 0) -> None:
        self._data[key] = (value, expires)

    def delete(self, key: str) -> bool:
        return self._data.pop(key, None) is not None

    def update(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Atomic read-modify-write; ``change`` gets None for a missing key and returns None to delete."""
        return self.change(key, lambda value, expires: (change(value), expires))

    def change(self, key: str, change: Callable[[Any, float], tuple[Any, float]]) -> Any:
        """The same with the second at which the value ends, 0 for never."""
        before = self.get(key)
        value, expires = change(before, self._data[key][1] if before is not None else 0)
        if value is None:
            self._data.pop(key, None)
        else:
            self._data[key] = (value, expires)
        return value

    def scan(self) -> Iterator[tuple[str, Any]]:
        for key in list(self._data):
            value = self.get(key)
            if value is not None:
                yield key, value

    def __len__(self) -> int:
        return len(self._data)


class MirroredTable(LocalTable):
    """The same with a copy in a file, from which it begins."""

    __slots__ = ("_codec", "_mirror", "_name")

    def __init__(self, clock: Callable[[], float], mirror: Mirror, name: str, codec: Codec, *, collected: bool = False) -> None:
        super().__init__(clock, collected=collected)
        self._mirror, self._name, self._codec = mirror, name, codec
        for key, value, expires in mirror.load(name, codec):
            self._data[key] = (value, expires)

    def put(self, key: str, value: Any, expires: float = 0) -> None:
        self._data[key] = (value, expires)
        self._mirror.put(self._name, key, self._codec.pack(value), expires)

    def set_expires(self, key: str, expires: float) -> bool:
        if not super().set_expires(key, expires):
            return False
        self._mirror.put(self._name, key, self._codec.pack(self._data[key][0]), expires)
        return True

    def change(self, key: str, change: Callable[[Any, float], tuple[Any, float]]) -> Any:
        value = super().change(key, change)
        if value is None:
            self._mirror.delete(self._name, key)
        else:
            self._mirror.put(self._name, key, self._codec.pack(value), self._data[key][1])
        return value

    def delete(self, key: str) -> bool:
        found = super().delete(key)
        if found:
            self._mirror.delete(self._name, key)
        return found

    def take_expired(self) -> list[tuple[str, Any]]:
        over = super().take_expired()
        for key, _ in over:
            self._mirror.delete(self._name, key)
        return over

    def clear(self) -> None:
        super().clear()
        self._mirror.clear(self._name)


class SharedVars(dict[str, Any]):
    """``$shv``: variables of all processes, with a copy in a table."""

    def __init__(self, table: LocalTable) -> None:
        super().__init__(table.scan())
        self._table = table

    def __setitem__(self, name: str, value: Any) -> None:
        if self.get(name) != value or name not in self:
            super().__setitem__(name, value)
            self._table.put(name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._table.delete(name)

    def update_one(self, name: str, change: Callable[[Any], Any]) -> Any:
        """Change a variable while nobody else does."""
        self[name] = value = change(self.get(name))
        return value


class VarsOfAll(MutableMapping[str, Any]):
    """``$shv`` of several workers or servers: each look asks the table."""

    def __init__(self, table: LocalTable) -> None:
        self._table = table

    def __getitem__(self, name: str) -> Any:
        value = self._table.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        value = self._table.get(name)
        return default if value is None else value

    def __setitem__(self, name: str, value: Any) -> None:
        self._table.put(name, value)

    def __delitem__(self, name: str) -> None:
        if not self._table.delete(name):
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _ in self._table.scan()])

    def __len__(self) -> int:
        return len(self._table)

    def update_one(self, name: str, change: Callable[[Any], Any]) -> Any:
        """Change a variable while nobody else does."""
        return self._table.update(name, change)


class LocalStore:
    """Named tables, created on first use. With a ``mirror`` they begin with what an earlier worker has left, and are kept for the next."""

    def __init__(self, clock: Callable[[], float], mirror: Mirror | None = None, far: Far | None = None) -> None:
        """``far`` holds the tables that several servers share."""
        self._clock = clock
        self.mirror, self.far = mirror, far
        self._tables: dict[str, LocalTable] = {}

    def variables(self) -> SharedVars | VarsOfAll:
        """``$shv``."""
        return SharedVars(self.table("shv")) if self.far is None else VarsOfAll(self.table("shv"))

    def sweep(self) -> None:
        """Now and then: forget what is over its time."""
        for table in self._tables.values():
            table.sweep()

    def names(self, prefix: str) -> list[str]:
        """Tables that have been used, or that an earlier worker has left."""
        left = [*(self.mirror.names() if self.mirror is not None else ()), *(self.far.names() if self.far is not None else ())]
        return [name for name in dict.fromkeys((*self._tables, *left)) if name.startswith(prefix)]

    def has(self, name: str) -> bool:
        """Whether a table has been used, or an earlier worker has left something in it."""
        if name in self._tables:
            return True
        if self.far is not None and self.far.holds(name):
            return bool(self.far.rows(name))
        return self.mirror is not None and self.mirror.count(name) > 0

    def table(self, name: str, *, collected: bool = False, codec: Codec = PLAIN) -> LocalTable:
        """``collected`` and ``codec`` count for the first use of a name: see :class:`LocalTable`, :class:`~.mirror.Codec`."""
        found = self._tables.get(name)
        if found is None:
            far = self.far if self.far is not None and self.far.holds(name) else None
            found = self._tables[name] = (self._make(name, codec, collected=collected) if far is None
                                          else far.table(self._clock, name, codec, collected=collected))  # fmt: skip
        return found

    def _make(self, name: str, codec: Codec, *, collected: bool) -> LocalTable:
        if self.mirror is None:
            return LocalTable(self._clock, collected=collected)
        return MirroredTable(self._clock, self.mirror, name, codec, collected=collected)
