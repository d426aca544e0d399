"""Memory of a burst goes back to the system: glibc keeps what was freed below the newest allocation, for ever."""

from __future__ import annotations

import ctypes
from typing import Final

#: seconds between two looks; free bytes that are worth giving back
INTERVAL: Final = 5.0
_WORTH: Final = 16 << 20


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


class Heap:
    """The C library's heap; does nothing where the C library is not glibc 2.33 or newer."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._info, self._trim = getattr(libc, "mallinfo2", None), getattr(libc, "malloc_trim", None)
        if self._info is not None:
            self._info.restype = _Mallinfo2
        #: free bytes that a trim could not give back: pages that are partly in use
        self._stuck = 0

    def free_bytes(self) -> int:
        return int(self._info().fordblks) if self._info is not None else 0

    def give_back(self) -> bool:
        """Return free pages when there are many more than after the last time."""
        free = self.free_bytes()
        self._stuck = min(self._stuck, free)
        if self._trim is None or free < self._stuck + _WORTH:
            return False
        self._trim(0)
        self._stuck = self.free_bytes()
        return True
