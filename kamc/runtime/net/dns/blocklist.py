"""Destinations that are known to be down (``use_dst_blocklist``): nothing is sent there until the entry has expired."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from typing import Any, Final

from kamc.runtime.sip.methods import METHOD_IDS, method_id

_ENTRY_BYTES: Final = 40

Key = tuple[str, str, int]


class Reason(IntFlag):
    """Kamailio's numbers."""

    SEND = 2
    CONNECT = 4
    ICMP = 8
    TIMEOUT = 16
    SAID_503 = 32
    ADMIN = 64
    PERMANENT = 128


class Blocklist:
    """(transport, address, port) → until when, and why."""

    def __init__(self, clock: Callable[[], float], param: Callable[[str], Any]) -> None:
        self.clock, self.param = clock, param
        self.entries: dict[Key, tuple[float, int]] = {}
        #: sets of methods (numbers of ``$rmid``): whose failures make an entry, and which are not sent to one; module tm sets them
        self.methods_add = METHOD_IDS["INVITE"]
        self.methods_lookup = ~METHOD_IDS["BYE"]

    @property
    def on(self) -> bool:
        return bool(self.param("use_dst_blocklist"))

    @property
    def limit(self) -> int:
        """Bytes that the entries may take."""
        return int(self.param("dst_blocklist_mem")) * 1024

    def _full(self) -> bool:
        return _ENTRY_BYTES * (len(self.entries) + 1) > self.limit

    def add(self, key: Key, reason: int, seconds: float = 0) -> bool:
        """Without seconds for ``dst_blocklist_expire``. False when it is switched off, ignored for this transport, or full."""
        ignored = int(self.param(f"dst_blocklist_{key[0]}_imask") or 0) if key[0] in ("udp", "tcp", "tls", "sctp") else 0
        if not self.on or not reason & ~ignored:
            return False
        if self._full():
            self.expire()
        if self._full():
            return False
        self.entries[key] = self.clock() + (seconds or int(self.param("dst_blocklist_expire"))), reason
        return True

    def failed(self, key: Key, method: str, reason: Reason, seconds: float = 0) -> None:
        """A request could not be brought there."""
        if method_id(method) & self.methods_add:
            self.add(key, reason, seconds)

    def stops(self, key: Key, method: str) -> bool:
        """Whether a request of a method is not to be sent there."""
        return bool(method_id(method) & self.methods_lookup) and self.has(key)

    def has(self, key: Key) -> bool:
        entry = self.entries.get(key)
        if entry is None:
            return False
        if entry[0] <= self.clock() and not entry[1] & Reason.PERMANENT:
            del self.entries[key]
            return False
        return True

    def expire(self) -> None:
        for key in list(self.entries):
            self.has(key)
