"""The end of a server: at once, or when what is in hand is done (``--drain``)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from kamc.runtime.proc import notify

if TYPE_CHECKING:
    from kamc.runtime.proc.supervisor import Supervisor

STOP_TIMEOUT: Final = 5.0


class Ending:
    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._deadline = 0.0

    @property
    def under_way(self) -> bool:
        """Workers end one by one, and nobody takes their places."""
        return self._deadline > 0

    def asked(self) -> bool:
        """Somebody wants the server to end. Whether that is to be now: without ``--drain``, and when it is said twice."""
        s = self.supervisor
        if not s.options.drain or self.under_way:
            return True
        self._deadline = time.monotonic() + s.options.drain
        notify.notify("STOPPING=1")
        s.log.notice("ending: new requests are refused, transactions have %d seconds", s.options.drain)
        for handle in list(s.workers.values()):
            handle.send("drain")
        return False

    def over(self) -> bool:
        """All workers are through, or the time is."""
        return self.under_way and (not self.supervisor.workers or time.monotonic() > self._deadline)

    def stop(self) -> int:
        """End the workers: SIGTERM, then SIGKILL."""
        s = self.supervisor
        notify.notify("STOPPING=1")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for pid in s.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while s.workers and time.monotonic() < deadline:
            for pid, _ in s.reap():
                del s.workers[pid]
            time.sleep(0.005)
        for pid in s.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return 0
