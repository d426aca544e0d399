"""Options of sockets, as the core parameters want them. ``param`` reads one; what the kernel refuses is left as it is."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

Param = Callable[[str], Any]

#: core parameter → option of a TCP connection; 0 leaves the kernel's value
_TCP_NUMBERS: Final = {
    "tcp_keepidle": socket.TCP_KEEPIDLE, "tcp_keepintvl": socket.TCP_KEEPINTVL, "tcp_keepcnt": socket.TCP_KEEPCNT, "tcp_syncnt": socket.TCP_SYNCNT,
    "tcp_linger2": socket.TCP_LINGER2,
}  # fmt: skip
#: names that ``tos`` takes; Kamailio mixes these two up, numbers are what they say everywhere
_TOS_NAMES: Final = {"IPTOS_LOWDELAY": 0x10, "IPTOS_THROUGHPUT": 0x08, "IPTOS_RELIABILITY": 0x04, "IPTOS_MINCOST": 0x02}
_UDP_BUFFER: Final = 1 << 21


def _set(sock: socket.socket, level: int, option: int, value: int | bytes) -> None:
    with contextlib.suppress(OSError, OverflowError):
        sock.setsockopt(level, option, value)


def type_of_service(value: Any) -> int:
    """The number that ``tos`` stands for; 0 for none."""
    return _TOS_NAMES.get(str(value).upper(), 0) if not str(value or 0).isdecimal() else int(value or 0)


def common_options(sock: socket.socket, param: Param) -> None:
    """Of every socket: ``tos``."""
    tos = type_of_service(param("tos"))
    if tos:
        _set(sock, socket.IPPROTO_IPV6 if sock.family == socket.AF_INET6 else socket.IPPROTO_IP,
             socket.IPV6_TCLASS if sock.family == socket.AF_INET6 else socket.IP_TOS, tos)  # fmt: skip


def bind_options(sock: socket.socket, param: Param) -> None:
    """Of a socket before it is bound: ``tos``, ``ip_free_bind`` (addresses that this host does not have yet)."""
    common_options(sock, param)
    if param("ip_free_bind"):
        # IP_FREEBIND, which covers IPv6 sockets, too
        _set(sock, socket.IPPROTO_IP, 15, 1)


def udp_options(sock: socket.socket, param: Param) -> None:
    """``maxbuffer`` (bytes to receive; never less than two MiB), ``maxsndbuffer``, ``pmtu_discovery``, ``mcast_*``."""
    bind_options(sock, param)
    _set(sock, socket.SOL_SOCKET, socket.SO_RCVBUF, max(_UDP_BUFFER, int(param("maxbuffer") or 0)))
    if int(param("maxsndbuffer") or 0) > 0:
        _set(sock, socket.SOL_SOCKET, socket.SO_SNDBUF, int(param("maxsndbuffer")))
    if sock.family == socket.AF_INET:
        # IP_MTU_DISCOVER: 2 sets Don't Fragment on all that goes out, 0 lets routers cut
        _set(sock, socket.IPPROTO_IP, 10, 2 if param("pmtu_discovery") else 0)
        _set(sock, socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1 if param("mcast_loopback") else 0)
        if int(param("mcast_ttl") or -1) > 0:
            _set(sock, socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, int(param("mcast_ttl")))


def renewed(sock: socket.socket, proto: str, old: Param, new: Param) -> None:
    """A listening socket that stays open while the core parameters change: what can still be set then."""
    number = type_of_service(new("tos"))
    if number != type_of_service(old("tos")):
        six = sock.family == socket.AF_INET6
        _set(sock, socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, socket.IPV6_TCLASS if six else socket.IP_TOS, number)
    if proto == "udp":
        udp_options(sock, new)
    elif proto in ("tcp", "tls"):
        _set(sock, socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(new("tcp_defer_accept") or 0))


def server_options(sock: socket.socket, param: Param) -> None:
    """Of a TCP socket before it is bound: ``tcp_reuse_port``, ``tcp_defer_accept``."""
    bind_options(sock, param)
    if param("tcp_reuse_port"):
        _set(sock, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if param("tcp_defer_accept"):
        _set(sock, socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(param("tcp_defer_accept")))


def stream_options(sock: socket.socket, param: Param) -> None:
    """Of a TCP connection: ``tcp_keepalive`` and its numbers, ``tcp_syncnt``, ``tcp_linger2``, ``tcp_delayed_ack``, ``tcp_close_rst``."""
    common_options(sock, param)
    _set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if param("tcp_keepalive"):
        _set(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, option in _TCP_NUMBERS.items():
        value = int(param(name) or 0)
        if value > 0:
            _set(sock, socket.IPPROTO_TCP, option, value)
    if not param("tcp_delayed_ack"):
        _set(sock, socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    if param("tcp_close_rst"):
        _set(sock, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
