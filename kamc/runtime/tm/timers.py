"""Timers as a heap with lazy deletion: one wake-up for the loop, whatever the number of transactions. Times are seconds."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count


class Timer:
    """A handle. ``callback`` is None once it has fired or was disarmed."""

    __slots__ = ("at", "callback")

    def __init__(self, at: float, callback: Callable[[float], None]) -> None:
        self.at = at
        self.callback: Callable[[float], None] | None = callback


class Nobody:
    """Who hears of timers and repetitions when the transaction is gone: cuts the circle between it and its machines."""

    __slots__ = ()

    def retransmit(self) -> None: ...

    def timed_out(self, now: float) -> None: ...

    def repeat_reply(self) -> None: ...


NOBODY = Nobody()


class TimerTable:
    """``arm`` gives a handle, ``expire`` runs what is due. Disarmed timers are dropped when they come up."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = count()
        self._dead = 0
        #: calls what is due; it may come back before that has ended
        self.run: Callable[[Callable[[float], None], float], None] | None = None
        #: told when a new timer is the earliest one
        self.on_earlier: Callable[[float], None] | None = None

    def arm(self, at: float, callback: Callable[[float], None]) -> Timer:
        timer = Timer(at, callback)
        heap = self._heap
        if self.on_earlier is not None and (not heap or at < heap[0][0]):
            self.on_earlier(at)
        heappush(heap, (at, next(self._serial), timer))
        return timer

    def disarm(self, timer: Timer | None) -> None:
        if timer is not None and timer.callback is not None:
            timer.callback = None
            self._dead += 1
            if self._dead > 1000 and self._dead * 2 > len(self._heap):
                self._sweep()

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].callback is not None]
        self._heap.sort()
        self._dead = 0

    def next_deadline(self) -> float | None:
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else None

    def expire(self, now: float) -> int:
        """Run every timer that is due. Returns how many ran."""
        ran = 0
        heap = self._heap
        while heap and heap[0][0] <= now:
            timer = heappop(heap)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._dead -= 1
                continue
            ran += 1
            if self.run is None:
                callback(now)
            else:
                self.run(callback, now)
            heap = self._heap
        return ran

    def __len__(self) -> int:
        return len(self._heap) - self._dead


class Repeating:
    """A function that is called at intervals (seconds)."""

    __slots__ = ("clock", "due", "function", "name", "seconds", "timer", "timers")

    def __init__(self, timers: TimerTable, clock: Callable[[], float], seconds: float, function: Callable[[], object]) -> None:
        self.timers, self.clock, self.seconds, self.function = timers, clock, seconds, function
        #: who it is across generations
        self.name = getattr(function, "__qualname__", "")
        self.due = 0.0
        self.timer: Timer | None = None

    def start(self, due: float | None = None) -> None:
        """First at ``due``, by default after one interval."""
        now = self.clock()
        self.due = due if due is not None and due > now else now + self.seconds
        self.timer = self.timers.arm(self.due, self._tick)

    def stop(self) -> None:
        self.timers.disarm(self.timer)

    def _tick(self, now: float) -> None:
        self.due = now + self.seconds
        self.timer = self.timers.arm(self.due, self._tick)
        self.function()
