"""Statistics: counters by group and name, and callbacks for values that are computed when asked."""

from __future__ import annotations

from collections.abc import Callable


def statistic(name: str) -> str:
    """A name as statistics have it: Kamailio turns ``location-users`` into ``location_users``."""
    return name.replace("-", "_")


class Counters:
    """``group.name`` → number. Names are Kamailio's."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], int] = {}
        #: what is computed when asked: of the generation that runs
        self.callbacks: dict[tuple[str, str], Callable[[], int]] = {}
        self.docs: dict[tuple[str, str], str] = {}
        #: what modules have registered; the core counts whether somebody looks or not
        self.known: set[tuple[str, str]] = set()
        #: those that are computed and of which each worker has a part
        self.partial: set[tuple[str, str]] = set()
        #: what other workers have counted
        self.of_others: Callable[[], list[dict[tuple[str, str], int]]] | None = None

    def register(self, group: str, name: str, doc: str = "") -> None:
        key = (group, name)
        self.known.add(key)
        self.values.setdefault(key, 0)
        if doc:
            self.docs[key] = doc

    def add(self, group: str, name: str, by: int = 1) -> None:
        key = (group, name)
        self.values[key] = self.values.get(key, 0) + by

    def own(self) -> dict[tuple[str, str], int]:
        """What this worker has counted, and its part of what is computed."""
        return {**self.values, **{key: self.callbacks[key]() for key in self.partial if key in self.callbacks}}

    def get(self, group: str, name: str) -> int | None:
        """Of all workers."""
        key = (group, name)
        computed = self.callbacks.get(key)
        value = computed() if computed is not None else self.values.get(key)
        if self.of_others is None or (computed is not None and key not in self.partial):
            return value
        parts = [one[key] for one in self.of_others() if key in one]
        return sum(parts) + (value or 0) if parts else value

    def reset(self, group: str, name: str) -> None:
        if (group, name) in self.values:
            self.values[(group, name)] = 0 if self.of_others is None else -sum(one.get((group, name), 0) for one in self.of_others())

    def find(self, name: str) -> tuple[str, str] | None:
        """A statistic by its bare name, ``group:name`` or ``group.name``."""
        name = statistic(name)
        for sep in (":", "."):
            group, _, rest = name.partition(sep)
            if rest and ((group, rest) in self.known or (group, rest) in self.callbacks):
                return group, rest
        return next((key for key in self.names() if key[1] == name), None)

    def names(self) -> list[tuple[str, str]]:
        return sorted(self.known | self.callbacks.keys())

    def groups(self) -> list[str]:
        return sorted({g for g, _ in self.names()})
