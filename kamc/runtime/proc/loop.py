"""The event loop of a worker: asyncio's, with a way around it for the sockets that carry nearly all traffic.

A datagram socket that is ready is served inside the selector, without a handle, a queue and a context for every wake-up; timers, streams and
whatever a module opens go through asyncio as usual.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from collections.abc import Callable, Mapping
from typing import Any


class DirectSelector(selectors.BaseSelector):
    """An ordinary selector nested in an epoll set that also holds the direct sockets."""

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self._epoll = select.epoll()
        self._inner_fd = self._inner.fileno()
        self._epoll.register(self._inner_fd, select.EPOLLIN)
        self._direct: dict[int, Callable[[], None]] = {}

    def add_direct(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` as soon as ``fd`` is readable. It must not raise."""
        self._direct[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def remove_direct(self, fd: int) -> None:
        if self._direct.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = []
        try:
            events = self._epoll.poll(-1 if timeout is None else max(0.0, timeout))
        except InterruptedError:
            return found
        for fd, _ in events:
            callback = self._direct.get(fd)
            if callback is not None:
                callback()
            elif fd == self._inner_fd:
                found = self._inner.select(0)
        return found

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._epoll.close()
        self._inner.close()


class WorkerLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with :meth:`add_direct`."""

    def __init__(self) -> None:
        self.direct = DirectSelector()
        super().__init__(self.direct)
