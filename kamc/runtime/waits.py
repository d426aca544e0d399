"""Calls that look blocking and hold up nobody: what may wait runs in pooled greenlets.

A route is plain Python. When a function in it has to wait (``usleep``, a database, a lock), its greenlet is set aside and the worker goes on
with other messages; when the time has come it continues where it was, callers and all. A program in which nothing can wait (the compiler
knows) never makes a greenlet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from kamc.declare.routes import Routes
from kamc.runtime.context import Ctx
from kamc.runtime.hooks import Hooks
from kamc.runtime.tm.timers import TimerTable

T = TypeVar("T")

#: blocks that Kamailio runs under the lock of their transaction
_LOCKED = Routes.TM_ONREPLY | Routes.FAILURE | Routes.BRANCH_FAILURE


class Job:
    """One piece of work from its start to its end, however often it was set aside in between."""

    __slots__ = ("at_end", "done", "unpin", "waited")

    def __init__(self) -> None:
        self.at_end: list[Callable[[], None]] = []
        self.waited = False
        #: lets go of the generation that it works with, once it was set aside
        self.unpin: Callable[[], None] | None = None
        self.done = False


class Waits:
    """One per worker."""

    def __init__(self, timers: TimerTable, clock: Callable[[], float], report: Callable[[BaseException], None]) -> None:
        self.timers, self.clock, self.report = timers, clock, report
        self.loop: asyncio.AbstractEventLoop | None = None
        #: whether the program has a function that waits
        self.active = False
        #: the piece of work that runs now; None outside of :meth:`run`
        self.job: Job | None = None
        #: what belongs to the process in Kamailio ($var, the log prefix): each gives a function that brings its present state back
        self.aside: list[Callable[[], Callable[[], None]]] = []
        #: of the generation that runs
        self.hooks = Hooks()
        #: keeps what a run that is set aside works with; the result lets go of it
        self.pin: Callable[[], Callable[[], None] | None] = lambda: None
        #: pieces of work that are set aside now, and how many there may be before new requests are refused (0: any number)
        self.waiting = 0
        self.most = 0
        #: the server is about to end: nothing new begins
        self.closed = False
        self._pool: list[greenlet] = []

    @property
    def full(self) -> bool:
        return self.closed or (bool(self.most) and self.waiting >= self.most)

    def run(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function that may wait. Returns when it has ended or was set aside; an exception of the first stretch is raised here,
        later ones are reported."""
        if not self.active or self.job is not None:
            function(*args)
            return
        self.detached(function, *args)

    def detached(self, function: Callable[..., Any], *args: Any) -> None:
        """The same for work that may wait whatever the program does: RPC commands."""
        if self.job is not None:
            function(*args)
            return
        worker = self._pool.pop() if self._pool else greenlet(self._serve)
        worker.parent = getcurrent()
        error = worker.switch(function, args)
        self.job = None
        if error is not None:
            raise error

    def _serve(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        me = getcurrent()
        while True:
            job = self.job = Job()
            error: BaseException | None = None
            try:
                function(*args)
            except GreenletExit:
                return
            except BaseException as err:
                error = err
            # while these run the job is still the current one: what they start may wait, too
            while job.at_end:
                job.at_end.pop(0)()
            job.done = True
            if job.unpin is not None:
                job.unpin()
            if error is not None and job.waited:
                self.report(error)
                error = None
            self._pool.append(me)
            # a pooled greenlet keeps nothing of what it did last
            del function, args, job
            parent = me.parent
            assert parent is not None
            function, args = parent.switch(error)

    def wait(self, arrange: Callable[[Callable[[], None]], object], ctx: Ctx | None = None, *, hold: bool = False) -> bool:
        """Set the current work aside. ``arrange`` gets the function that goes on with it, to be called once, later. With a context whose
        block holds its transaction, or with ``hold``, replies and timers of that wait as well. False, and nothing arranged, where nothing
        can be set aside."""
        job = self.job
        if job is None:
            return False
        me = getcurrent()
        kept = [take() for take in (*self.aside, *self.hooks.aside)]
        if ctx is not None and ctx.t is not None and (hold or ctx.kind & _LOCKED):
            self._hold(ctx.t, job)

        def resume() -> None:
            before = self.job
            me.parent = getcurrent()
            me.switch()
            self.job = before

        arrange(resume)
        if not job.waited:
            job.unpin = self.pin()
        job.waited = True
        self.job = None
        self.waiting += 1
        assert me.parent is not None
        me.parent.switch(None)
        self.waiting -= 1
        self.job = job
        for bring_back in kept:
            bring_back()
        return True

    @staticmethod
    def _hold(t: Any, job: Job) -> None:
        if t.busy is not None:
            return
        t.busy = []

        def let_go() -> None:
            queue, t.busy = t.busy, None
            for deferred in queue:
                deferred()

        job.at_end.append(let_go)

    def call(self, function: Callable[..., T], *args: Any, ctx: Ctx | None = None) -> T:
        """Call a function that blocks: in a thread while this run is set aside. At start it simply runs."""
        if self.job is None or self.loop is None:
            return function(*args)
        future: asyncio.Future[T] = self.loop.run_in_executor(None, function, *args)
        self.wait(lambda resume: future.add_done_callback(lambda _: resume()), ctx)
        return future.result()

    def aside_of_runs(self, function: Callable[[], object], failed: Callable[[BaseException], None], ended: Callable[[], None] = lambda: None) -> None:
        """Call a function that blocks in a thread, and wait for nothing; what it raises is given to ``failed``, then ``ended`` is called."""

        def done(future: asyncio.Future[object]) -> None:
            error = future.exception()
            if error is not None:
                failed(error)
            ended()

        if self.loop is not None:
            self.loop.run_in_executor(None, function).add_done_callback(done)
            return
        try:
            function()
        except Exception as err:
            failed(err)
        ended()

    def sleep(self, seconds: float, ctx: Ctx | None = None) -> None:
        """Go on after a time. At start, when nothing is served yet, the process itself sleeps."""
        if not self.wait(lambda resume: self.timers.arm(self.clock() + seconds, lambda _: resume()), ctx):
            time.sleep(seconds)
