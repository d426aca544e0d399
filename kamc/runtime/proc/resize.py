"""Another number of workers while the server serves.

    idle ── asked ──▶ more are started ──▶ all name what they hold on to ──▶ the new number counts ──▶ what can go to its new owner goes ──▶ idle

Workers beyond a smaller number get no new calls; they end when their calls and connections have ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kamc.errors import ConfigError
from kamc.runtime.net.steer import MOST_WORKERS
from kamc.runtime.proc.sockets import Wanted

if TYPE_CHECKING:
    from kamc.runtime.proc.supervisor import Handle, Supervisor

#: seconds that workers have to name what they hold
_LIMIT: Final = 5.0

Told = Callable[[str, Any], None]


class Resizer:
    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._told: Told | None = None
        self._serial = 0
        self._count = 0
        #: workers that have not answered
        self._waiting: set[int] = set()
        self._deadline = 0.0

    def ask(self, count: Any, told: Told) -> None:
        """Serve with ``count`` workers; ``told`` hears of the end of it."""
        s = self.supervisor
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_WORKERS:
            told(f"the number of workers is 1 to {MOST_WORKERS}", None)
        elif s.exchange is None:
            told("this server was started with one worker, whose tables are its own: start it with --workers 2 or more", None)
        elif self._told is not None or s.reloader.current is not None:
            told("the server is changing already", None)
        elif count == s.wanted:
            told("", self._state())
        else:
            try:
                self._start(count)
            except (ConfigError, OSError) as err:
                told(str(err), None)
                return
            self._told, self._count = told, count
            self._serial += 1
            self._deadline = time.monotonic() + _LIMIT
            self._waiting = {h.pid for h in s.workers.values() if h.send("hold", self._serial, count)}
            self._go_on()

    def _state(self) -> dict[str, Any]:
        s = self.supervisor
        return {"workers": s.wanted, "leaving": sorted(h.pid for h in s.workers.values() if h.index >= s.wanted)}

    def _start(self, count: int) -> None:
        """Those that are missing. Raises ConfigError and OSError, and has started none then."""
        s = self.supervisor
        wanted = Wanted(s.params, s.options)
        for listener, bound in s.sockets.items():
            while bound.grows and len(bound.sockets) < count:
                bound.sockets.append(wanted.bind_one_more(listener))
        running = {h.index for h in s.workers.values()}
        for index in (i for i in range(s.wanted, count) if i not in running):
            if not s.spawn(index, first=False):
                raise ConfigError("another worker could not start")

    def heard(self, handle: Handle, serial: int) -> None:
        """A worker has named what it holds."""
        if self._told is not None and serial == self._serial:
            self._waiting.discard(handle.pid)
            self._go_on()

    def died(self, pid: int) -> None:
        if self._told is not None:
            self._waiting.discard(pid)
            self._go_on()

    def look(self) -> None:
        """Called now and then: one that hangs holds nobody up."""
        if self._told is not None and time.monotonic() > self._deadline:
            self._waiting.clear()
            self._go_on()

    def _go_on(self) -> None:
        s, told = self.supervisor, self._told
        if self._waiting or told is None or s.exchange is None:
            return
        s.wanted = s.exchange.roll.count = self._count
        for bound in s.sockets.values():
            bound.steer(s.wanted)
        for handle in list(s.workers.values()):
            handle.send("settle")
        self._told = None
        state = self._state()
        s.log.notice("%d workers serve", s.wanted)
        told("", state)

    # -- those that are too many -----------------------------------------------------------------------------------------

    def idle(self, handle: Handle) -> None:
        """A worker beyond the number has nothing left; the last of them ends first, so that numbers and sockets stay in a row."""
        s = self.supervisor
        if handle.index >= s.wanted and self._told is None and all(h.index <= handle.index for h in s.workers.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(handle.pid, signal.SIGTERM)

    def gone(self, handle: Handle) -> bool:
        """Whether a worker that has ended was one too many."""
        s = self.supervisor
        if s.exchange is None or handle.index < s.wanted:
            return False
        s.exchange.roll.leave(handle.index)
        for bound in s.sockets.values():
            while bound.grows and len(bound.sockets) > max(handle.index, s.wanted):
                bound.sockets.pop().close()
        return True
