"""Messages between the supervisor and its workers: values that ``marshal`` knows, with their length in front, over a socket pair; file
descriptors may go along. Both ends belong to the same program."""

from __future__ import annotations

import array
import marshal
import socket
import struct
from typing import Any, Final

_HEAD: Final = struct.Struct("!I")
_READ: Final = 1 << 18
#: descriptors in one message: what Linux takes (SCM_MAX_FD)
_MOST_FDS: Final = 253
#: seconds that a message may take to leave: whoever does not read for longer hangs
_PATIENCE: Final = 5.0


class Channel:
    """One end. ``send`` waits until the message has left, ``receive`` never waits."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(_PATIENCE)
        self._buffer = bytearray()
        #: descriptors that came and that no message has taken
        self.fds: list[int] = []

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(one), cls(other)

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, *message: Any, fds: tuple[int, ...] = ()) -> None:
        """Raises OSError when the other end is gone or does not read."""
        body = marshal.dumps(message)
        data = _HEAD.pack(len(body)) + body
        if fds:
            # they arrive with the first byte, before the message is whole
            sent = self.sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            data = data[sent:]
        if data:
            self.sock.sendall(data)

    def receive(self) -> list[tuple[Any, ...]]:
        """Whole messages that are there. Raises EOFError at the end of the other side."""
        try:
            data, ancillary, _flags, _address = self.sock.recvmsg(_READ, socket.CMSG_SPACE(_MOST_FDS * 4), socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            raise EOFError from None
        for level, kind, packed in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(packed[: len(packed) - len(packed) % found.itemsize])
                self.fds += found
        if not data:
            raise EOFError
        buffer = self._buffer
        buffer += data
        out: list[tuple[Any, ...]] = []
        while len(buffer) >= _HEAD.size:
            (size,) = _HEAD.unpack_from(buffer)
            if len(buffer) < _HEAD.size + size:
                break
            out.append(marshal.loads(bytes(buffer[_HEAD.size : _HEAD.size + size])))
            del buffer[: _HEAD.size + size]
        return out

    def take_fds(self, count: int) -> list[int]:
        taken, self.fds = self.fds[:count], self.fds[count:]
        return taken

    def close(self) -> None:
        self.sock.close()
