"""How often each block of the configuration runs, and how long it takes: for the status page and its metrics. Only where ``--status-port`` asks for it; without it no
message pays for it. A time includes what the block waits for and the blocks that it calls."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final

from kamc.declare.routes import route_label
from kamc.runtime.context import Ctx

#: upper bounds of the histogram, seconds
BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Block:
    """One block: calls, seconds in all of them and in the longest one, calls by their time (the last bucket has no bound)."""

    __slots__ = ("buckets", "calls", "longest", "seconds")

    def __init__(self) -> None:
        self.calls, self.seconds, self.longest = 0, 0.0, 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)

    def add(self, seconds: float) -> None:
        self.calls += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)
        self.buckets[bisect_left(BUCKETS, seconds)] += 1


class Measures:
    """Of one worker, over all generations."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.blocks: dict[str, Block] = {}
        #: blocks as generated code calls them
        self._labels: dict[int, str] = {}

    def watch(self, functions: dict[tuple[str, str | None], Callable[[Ctx], Any]]) -> None:
        """Measure the blocks of a generation, which are exchanged for others that do it."""
        for (kind, name), function in list(functions.items()):
            label = route_label(kind, name)
            self._labels[id(function)] = label
            functions[kind, name] = self._measured(self.blocks.setdefault(label, Block()), function)

    def _measured(self, block: Block, function: Callable[[Ctx], Any]) -> Callable[[Ctx], Any]:
        clock = self._clock

        def run(ctx: Ctx) -> Any:
            began = clock()
            try:
                return function(ctx)
            finally:
                block.add(clock() - began)

        return run

    def watch_calls(self) -> None:
        """Measure ``route(NAME)`` as well, in this process."""
        plain, labels, blocks, clock = Ctx.route, self._labels, self.blocks, self._clock

        def route(ctx: Ctx, function: Callable[[Ctx], int | None]) -> int:
            label = labels.get(id(function))
            if label is None:
                return plain(ctx, function)
            began = clock()
            try:
                return plain(ctx, function)
            finally:
                blocks[label].add(clock() - began)

        Ctx.route = route  # type: ignore[method-assign, assignment]

    def shown(self) -> list[dict[str, Any]]:
        return [{"route": label, "calls": b.calls, "seconds": b.seconds, "longest": b.longest, "buckets": list(b.buckets)} for label, b in self.blocks.items()]
