"""Statistics: counters by group and name, and callbacks for values that are computed when asked."""

from __future__ import annotations

from collections.abc import Callable


class Counters:
    """``group.name`` → number. Names are Kamailio's."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], int] = {}
        #: what is computed when asked: of the generation that runs
        self.callbacks: dict[tuple[str, str], Callable[[], int]] = {}
        self.docs: dict[tuple[str, str], str] = {}
        #: what modules have registered; the core counts whether somebody looks or not
        self.known: set[tuple[str, str]] = set()

    def register(self, group: str, name: str, doc: str = "") -> None:
        key = (group, name)
        self.known.add(key)
        self.values.setdefault(key, 0)
        if doc:
            self.docs[key] = doc

    def add(self, group: str, name: str, by: int = 1) -> None:
        key = (group, name)
        self.values[key] = self.values.get(key, 0) + by

    def get(self, group: str, name: str) -> int | None:
        key = (group, name)
        if key in self.callbacks:
            return self.callbacks[key]()
        return self.values.get(key)

    def reset(self, group: str, name: str) -> None:
        if (group, name) in self.values:
            self.values[(group, name)] = 0

    def find(self, name: str) -> tuple[str, str] | None:
        """A statistic by its bare name, ``group:name`` or ``group.name``."""
        for sep in (":", "."):
            group, _, rest = name.partition(sep)
            if rest and ((group, rest) in self.known or (group, rest) in self.callbacks):
                return group, rest
        return next((key for key in self.names() if key[1] == name), None)

    def names(self) -> list[tuple[str, str]]:
        return sorted(self.known | self.callbacks.keys())

    def groups(self) -> list[str]:
        return sorted({g for g, _ in self.names()})
