"""What FEEDBACK and NETWORK steer by: how busy the processors are, and how many bytes wait in the queues of the server's sockets."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STAT: Final = Path("/proc/stat")
_TABLES: Final = ("udp", "udp6", "tcp", "tcp6")


def processor_times() -> tuple[int, int]:
    """(all, idle) of all processors since the start of the machine, in ticks; zeros where the system does not say."""
    try:
        numbers = [int(n) for n in _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return 0, 0
    return sum(numbers), numbers[3] + numbers[4] if len(numbers) > 4 else 0


def _address(text: str) -> tuple[str, int]:
    """``0100007F:13C4`` → (127.0.0.1, 5060): each 32-bit word in the machine's order."""
    words, _, port = text.partition(":")
    raw = b"".join(int(words[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(words), 8))
    return str(ipaddress.ip_address(raw)), int(port, 16)


def waiting_bytes(sockets: Iterable[tuple[str, int]]) -> int:
    """Bytes that the kernel holds for these addresses and ports and that nobody has read."""
    wanted, total = set(sockets), 0
    for table in _TABLES:
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            parts = line.split()
            if _address(parts[1]) in wanted:
                total += int(parts[4].partition(":")[2], 16)
    return total


@dataclass(slots=True)
class Controller:
    """A PID controller: how much to drop, in percent, so that the load comes to its set point (both from 0 to 1)."""

    ki: float = -25.0
    kp: float = 0.0
    kd: float = 0.0
    load: float = 0.0
    _sum: float = 0.0
    _last: float = 0.0

    def update(self, load: float, setpoint: float) -> int:
        self.load = load
        error = setpoint - load
        # a long time of little load must not be saved up: there is nothing to make good for
        if self._sum < 0 or error < 0:
            self._sum = min(0.0, self._sum + error)
        output = self.kp * error + self.ki * self._sum + self.kd * (error - self._last)
        self._last = error
        return min(100, max(0, round(output)))
