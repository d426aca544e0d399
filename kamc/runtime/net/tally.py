"""What happens to stream connections, counted as Kamailio counts it: statistics of the group ``tcp``."""

from __future__ import annotations

from typing import Final

from kamc.runtime.counters import Counters
from kamc.runtime.net.connection import Closing, Connection

_STATISTICS: Final = {
    "con_reset": "connections that were reset", "con_timeout": "connections that were closed as nothing came", "connect_failed": "connections that could not be opened",
    "connect_success": "connections opened", "established": "connections opened, and accepted ones over which something came",
    "local_reject": "connections that were not accepted", "passive_open": "accepted connections over which something came",
    "send_timeout": "connections that were closed as the peer did not read", "sendq_full": "writes that were refused as too much was waiting",
}  # fmt: skip


class Tally:
    """Of one worker."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        for name, doc in _STATISTICS.items():
            counters.register("tcp", name, doc)

    def _add(self, name: str) -> None:
        self._counters.add("tcp", name)

    def rejected(self) -> None:
        self._add("local_reject")

    def not_opened(self) -> None:
        self._add("connect_failed")

    def queue_full(self) -> None:
        self._add("sendq_full")

    def established(self, conn: Connection) -> None:
        """One that we open has been taken by the peer, or the peer of one that was accepted says something. Counts once."""
        if not conn.established:
            conn.established = True
            self._add("connect_success" if conn.opening else "passive_open")
            self._add("established")

    def ended(self, conn: Connection, how: Closing) -> None:
        if conn.opening and not conn.established:
            self.not_opened()
        elif how is Closing.RESET and not conn.shaking:
            self._add("con_reset")
        elif how is Closing.IDLE:
            self._add("send_timeout" if conn.out else "con_timeout")
