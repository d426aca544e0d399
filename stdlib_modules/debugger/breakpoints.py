"""Runs of routes that stand before an action until somebody lets them go on.

In Kamailio a process stands, and with it everything that it would have done next. Here one run does; the worker serves others. Several runs of a
worker may stand at once: commands are for the one that came first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from kamc.runtime.context import Ctx

#: of a run: how many actions it has stood before, and whether it stands before each that follows, whatever the worker does
_STEPS: Final = "debugger.steps"
_STEPPING: Final = "debugger.stepping"


class Stop:
    """One run, and where it stands."""

    __slots__ = ("action", "answer", "ctx", "resume", "rt", "task")

    def __init__(self, rt: Any, ctx: Ctx, action: str) -> None:
        self.rt, self.ctx, self.action = rt, ctx, action
        self.resume: Callable[[], None] = lambda: None
        #: what the run is to do where it stands; None to go on
        self.task: Callable[[], str] | None = None
        self.answer = ""

    def stand(self) -> bool:
        """Until somebody lets it go on. False where a run cannot be set aside."""
        while True:
            if not self.rt.worker.waits.wait(self._arrange, self.ctx):
                return False
            if self.task is None:
                return True
            self.answer = self.task()

    def _arrange(self, resume: Callable[[], None]) -> None:
        self.resume = resume

    def evaluate(self, text: str) -> str:
        """The value of a variable in this run, as Kamailio writes it. Raises ConfigError for a text that is none."""
        getter = self.rt.pv(text)

        def task() -> str:
            value = getter(self.ctx)
            return f"{text} : t=null" if value is None else f"{text} : t={'int' if isinstance(value, int) else 'str'} v={value}"

        self.task = task
        self.resume()
        return self.answer


class Breakpoints:
    """Those of a worker, for all its generations."""

    def __init__(self) -> None:
        #: whether runs stand before each action
        self.on = False
        self.standing: list[Stop] = []
        #: whether a run may be told to stand though ``on`` is false
        self._stepping = False

    @property
    def active(self) -> bool:
        return self.on or self._stepping

    @property
    def shown(self) -> bool:
        """As Kamailio would say of the process: a run stands and goes on by steps, or any would stand."""
        return self.on or any(one.ctx.recall(_STEPPING) for one in self.standing)

    @property
    def state(self) -> int:
        """0: nobody stands, 1: one has just come to its first, 2: it has made steps."""
        return min(2, self.standing[0].ctx.recall(_STEPS)) if self.standing else 0

    def reach(self, rt: Any, ctx: Ctx, action: str, say: Callable[[str], None]) -> None:
        """A run is about to do an action, ``[file:line] a=number n=name``."""
        if not self.on and not ctx.recall(_STEPPING):
            return
        steps = ctx.recall(_STEPS, 0) + 1
        ctx.remember(_STEPS, steps)
        stop = Stop(rt, ctx, action)
        self.standing.append(stop)
        if steps == 1:
            say(f"breakpoint hit: p=[{os.getpid()}] {action}")
        if not stop.stand():
            self.standing.remove(stop)
            say(f"a run cannot stand here: {action}")

    def first(self) -> Stop | None:
        return self.standing[0] if self.standing else None

    def next(self) -> str:
        """The first one does its action. What it is about to do; empty when none stands."""
        if not self.standing:
            return ""
        stop = self.standing.pop(0)
        stop.task = None
        stop.resume()
        return f"exec {stop.action}"

    def move(self) -> None:
        """The first one goes on to its end, and runs that begin do not stand any more."""
        if not self.standing:
            return
        stop = self.standing.pop(0)
        self.release()
        stop.ctx.forget(_STEPPING)
        stop.task = None
        stop.resume()

    def release(self) -> None:
        """Runs that begin do not stand any more; those that stand keep going by steps."""
        if self.on:
            for one in self.standing:
                one.ctx.remember(_STEPPING, True)
            self._stepping = True
        self.on = False

    def clear(self) -> None:
        """Nobody stands any more; those that stand wait for a last ``next``."""
        for one in self.standing:
            one.ctx.forget(_STEPPING)
        self.on = False
