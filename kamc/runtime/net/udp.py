"""UDP: a non-blocking socket, drained in batches when it is readable."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.sockopts import Param, udp_options

#: datagrams per wake-up: enough to amortise the loop, few enough to let timers run
BATCH: Final = 32
MAX_DATAGRAM: Final = 65535

Receiver = Callable[[bytes, Listener, tuple[Any, ...]], None]


def bind_udp(listener: Listener, param: Param = lambda name: 0, *, shared: bool = False) -> socket.socket:
    """A bound socket; several ones that are ``shared`` may have the same address. Raises OSError."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        udp_options(sock, param)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind((listener.host, listener.port))
    except OSError:
        sock.close()
        raise
    return sock


class UdpEndpoint:
    """A listener's socket in a worker."""

    def __init__(self, listener: Listener, sock: socket.socket, receive: Receiver) -> None:
        self.listener, self.sock, self.receive = listener, sock, receive
        self.sendto = sock.sendto

    def readable(self) -> None:
        recvfrom, receive, listener = self.sock.recvfrom, self.receive, self.listener
        for _ in range(BATCH):
            try:
                data, address = recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # an ICMP error of an earlier send; the socket is fine
                continue
            receive(data, listener, address)
