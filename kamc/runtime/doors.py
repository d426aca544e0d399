"""Sockets and FIFOs that modules open for commands. They outlive generations: one that the next generation wants as well stays open, and
nobody who asks meanwhile finds it closed."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kamc.runtime.api import Runtime


def give(path: str, mode: int, user: int | str, group: int | str) -> None:
    """Mode and owner of a socket or FIFO; -1 leaves an owner as he is. Raises OSError, and KeyError for an unknown name."""
    os.chmod(path, mode)
    uid = user if isinstance(user, int) else pwd.getpwnam(user).pw_uid
    gid = group if isinstance(group, int) else grp.getgrnam(group).gr_gid
    if uid >= 0 or gid >= 0:
        os.chown(path, uid, gid)


class Door:
    """``file`` is a socket or a file descriptor, ``path`` its name in the file system, ``owner`` the module that answers. ``server`` is
    whatever listens on it between generations."""

    __slots__ = ("file", "owner", "path", "server", "users")

    def __init__(self, file: socket.socket | int, path: str) -> None:
        self.file, self.path = file, path
        self.owner: Any = None
        self.server: Any = None
        self.users: set[Runtime] = set()

    def fileno(self) -> int:
        return self.file if isinstance(self.file, int) else self.file.fileno()

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
        if isinstance(self.file, int):
            os.close(self.file)
        else:
            self.file.close()
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


class Doors:
    """All doors of a worker, by name."""

    def __init__(self) -> None:
        self._open: dict[str, Door] = {}
        #: forgets the reader of a file descriptor before it is closed
        self.forget: Callable[[int], object] = lambda fd: None

    def open(self, rt: Runtime, name: str, make: Callable[[], socket.socket | int], path: str = "") -> Door:
        """The door of that name, made when nobody has it open. ``make`` may raise OSError."""
        door = self._open.get(name)
        if door is None:
            if path:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            door = self._open[name] = Door(make(), path)
        door.users.add(rt)
        return door

    def leave(self, rt: Runtime) -> None:
        """A generation does not need its doors any more; those that no other uses are closed."""
        for name, door in list(self._open.items()):
            door.users.discard(rt)
            if not door.users:
                del self._open[name]
                self.forget(door.fileno())
                door.close()
