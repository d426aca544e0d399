"""UDP: a non-blocking socket, drained in batches when it is readable."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

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


class Peers(Protocol):
    """The other workers: see :mod:`kamc.runtime.proc.peers`."""

    index: int

    def owner(self, data: bytes) -> int: ...

    def hand_over(self, to: int, place: tuple[str, str, int], rows: list[tuple[bytes, tuple[Any, ...], int, str]]) -> None: ...


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


class SteeredEndpoint(UdpEndpoint):
    """The same where several workers serve: what belongs to others is theirs before this one begins with its own. ``whole``: whether
    the owner can be seen in what comes, which is so unless something rewrites it first."""

    def __init__(self, listener: Listener, sock: socket.socket, receive: Callable[..., None], peers: Peers, whole: Callable[[], bool]) -> None:
        super().__init__(listener, sock, receive)
        self.peers, self.whole, self.take = peers, whole, receive
        self.place = listener.proto, listener.host, listener.port

    def readable(self) -> None:
        if not self.whole():
            super().readable()
            return
        recvfrom, owner, me = self.sock.recvfrom, self.peers.owner, self.peers.index
        own: list[tuple[bytes, tuple[Any, ...]]] = []
        others: dict[int, list[tuple[bytes, tuple[Any, ...], int, str]]] = {}
        for _ in range(BATCH):
            try:
                data, address = recvfrom(MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue
            to = owner(data)
            if to == me:
                own.append((data, address))
            else:
                others.setdefault(to, []).append((data, address, 0, ""))
        for to, rows in others.items():
            self.peers.hand_over(to, self.place, rows)
        take, listener = self.take, self.listener
        for data, address in own:
            take(data, listener, address, own=True)
