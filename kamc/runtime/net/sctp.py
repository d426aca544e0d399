"""SCTP (RFC 4168): one-to-many sockets of the kernel. Each message is one SIP message; associations come and go by themselves.

To the rest of the server it is a datagram socket that loses nothing.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.sockopts import Param, bind_options
from kamc.runtime.net.udp import BATCH, MAX_DATAGRAM, Receiver

IPPROTO_SCTP: Final = 132
#: linux/sctp.h: seconds of silence after which the kernel ends an association; small messages leave at once
_AUTOCLOSE, _NODELAY = 4, 3
#: recvmsg: the message is complete; it is no message but news of an association
_EOR, _NOTIFICATION = 0x80, 0x8000
_BACKLOG: Final = 1024


def has_sctp() -> bool:
    """Whether the kernel offers SCTP."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def bind_sctp(listener: Listener, param: Param = lambda name: 0, settings: dict[str, int] | None = None) -> socket.socket:
    """A listening socket; ``settings`` are those of module sctp. Raises ConfigError without SCTP in the kernel, and OSError."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_SEQPACKET, IPPROTO_SCTP)
    except OSError as err:
        raise ConfigError(f"cannot listen on {listener}: the kernel has no SCTP ({err.strerror})") from None
    wanted = settings or {}
    try:
        bind_options(sock, param)
        for name, option in (("sctp_socket_rcvbuf", socket.SO_RCVBUF), ("sctp_socket_sndbuf", socket.SO_SNDBUF)):
            if wanted.get(name, 0) > 0:
                sock.setsockopt(socket.SOL_SOCKET, option, wanted[name])
        sock.setsockopt(IPPROTO_SCTP, _NODELAY, 1)
        sock.setsockopt(IPPROTO_SCTP, _AUTOCLOSE, struct.pack("i", max(0, wanted.get("sctp_autoclose", 180))))
        sock.setblocking(False)
        sock.bind((listener.host, listener.port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class SctpEndpoint:
    """A listener's socket in a worker. A message that comes in pieces is put together, up to ``MAX_DATAGRAM`` bytes."""

    def __init__(self, listener: Listener, sock: socket.socket, receive: Receiver) -> None:
        self.listener, self.sock, self.receive = listener, sock, receive
        self._begun: dict[tuple[Any, ...], bytes] = {}

    def readable(self) -> None:
        for _ in range(BATCH):
            try:
                data, _ancillary, flags, address = self.sock.recvmsg(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue
            if flags & _NOTIFICATION or not data:
                self._begun.pop(address, None)
                continue
            whole = self._begun.pop(address, b"") + data
            if len(whole) > MAX_DATAGRAM:
                continue
            if flags & _EOR:
                self.receive(whole, self.listener, address)
            else:
                self._begun[address] = whole
