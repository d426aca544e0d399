"""Into the background: the process that was started ends when the server serves (0) or cannot (not 0)."""

from __future__ import annotations

import os
import sys


def leave_terminal(*, keep_stderr: bool) -> None:
    """Give back what the terminal gave."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1) if keep_stderr else (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


class Detached:
    """The server's side: it tells whoever started it that it serves. Its workers leave the terminal for themselves."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def serves(self) -> None:
        os.write(self._pipe, b"+")
        os.close(self._pipe)

    def forget(self) -> None:
        """In a worker: only the server itself tells."""
        os.close(self._pipe)


def detach() -> Detached | int:
    """Go on in a new session of its own. In the process that was started: the exit status, once it is known."""
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            return 0 if pipe.read(1) == b"+" else 1
    os.close(read)
    os.setsid()
    if os.fork():
        # the leader of the session ends: no terminal can become ours
        os._exit(0)
    return Detached(write)
