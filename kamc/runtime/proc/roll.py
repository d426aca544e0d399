"""Who serves: a page of memory that all processes of a server share. Made before the workers are.

New calls belong to the first ``count`` workers. There may be more of them: one that is about to take calls, or one that a smaller number has left with
calls and connections of its own.
"""

from __future__ import annotations

import mmap
from typing import Final

from kamc.runtime.net.steer import MOST_WORKERS

_COUNT: Final = 0
_THERE: Final = 1
#: how many calls and addresses each worker holds on to that belong to others by now
_HELD: Final = _THERE + MOST_WORKERS
_END: Final = _HELD + MOST_WORKERS
_NOTHING: Final = bytes(MOST_WORKERS)
_MOST: Final = 255


class Roll:
    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.count = count

    @property
    def count(self) -> int:
        """How many workers share the new calls."""
        return self._memory[_COUNT]

    @count.setter
    def count(self, number: int) -> None:
        self._memory[_COUNT] = number

    def enter(self, worker: int) -> None:
        self._memory[_THERE + worker] = 1

    def leave(self, worker: int) -> None:
        self._memory[_THERE + worker] = self._memory[_HELD + worker] = 0

    def there(self, worker: int) -> bool:
        """Whether somebody reads what is for it. One that has just died is replaced: its inbox keeps what comes meanwhile."""
        return 0 <= worker < MOST_WORKERS and (worker < self._memory[_COUNT] or bool(self._memory[_THERE + worker]))

    def others(self, worker: int) -> list[int]:
        return [n for n in range(MOST_WORKERS) if n != worker and self.there(n)]

    def hold(self, worker: int, number: int) -> None:
        self._memory[_HELD + worker] = min(number, _MOST)

    @property
    def holds(self) -> bool:
        """Whether any worker holds on to something that belongs to another one."""
        return self._memory[_HELD:_END] != _NOTHING
