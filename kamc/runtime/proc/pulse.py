"""Whether a worker still turns its loop: a counter in memory that it shares with its supervisor."""

from __future__ import annotations

import mmap
import struct
from typing import Final

#: seconds between two beats
INTERVAL: Final = 0.5
_COUNT: Final = struct.Struct("Q")


class Pulse:
    """Made before the fork. The worker calls ``beat``, the supervisor ``silence``."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._count = 0
        self._seen, self._since = -1, 0.0

    def beat(self) -> None:
        self._count += 1
        _COUNT.pack_into(self._memory, 0, self._count)

    def silence(self, now: float) -> float:
        """For how many seconds no beat was seen."""
        count = _COUNT.unpack_from(self._memory)[0]
        if count != self._seen:
            self._seen, self._since = count, now
        return now - self._since

    def close(self) -> None:
        self._memory.close()
