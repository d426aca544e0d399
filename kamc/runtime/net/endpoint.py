"""Addresses, listeners as seen by the script, and flows."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache


class Unreachable(Enum):
    """Why there is no way to a destination."""

    ADDRESS = "no address"
    NO_SOCKET = "no socket of its transport"
    BLOCKED = "on the blocklist"


PROTOS = ("udp", "tcp", "tls", "sctp", "ws", "wss")
#: Kamailio's numbers for transports, as $pr-like variables and flags show them
#: the transport below
BELOW = {"ws": "tcp", "wss": "tls"}
#: each datagram is a message, and is sent as one
DATAGRAM = frozenset({"udp", "sctp"})
PROTO_ID = {"udp": 1, "tcp": 2, "tls": 3, "sctp": 4, "ws": 5, "wss": 6}


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A listening socket. ``advertise`` is what goes into Via and Record-Route when set. ``index`` orders them as in the cfg."""

    proto: str
    host: str
    port: int
    advertise_host: str = ""
    advertise_port: int = 0
    name: str = ""
    index: int = 0
    virtual: bool = False

    @property
    def via_host(self) -> str:
        host = self.advertise_host or self.host
        return f"[{host}]" if ":" in host and not host.startswith("[") else host

    @property
    def via_port(self) -> int:
        return self.advertise_port or self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.proto}:{host}:{self.port}"


class Flow:
    """Where a message came from: remote address, the listener that took it, the connection for streams."""

    __slots__ = ("conn", "listener", "proto", "remote_ip", "remote_port")

    def __init__(self, listener: Listener, remote_ip: str, remote_port: int, conn: int = 0, proto: str = "") -> None:
        self.listener = listener
        #: as the listener's, or ws and wss on its connections
        self.proto = proto or listener.proto
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        self.conn = conn


class Dest:
    """Where a message goes: a socket to send from and a numeric address. For streams also the connection to use while it lives, whether
    a new one may be opened, and whether it is closed afterwards."""

    __slots__ = ("close", "conn", "connect", "ip", "listener", "port", "proto", "wish")

    def __init__(self, listener: Listener, proto: str, ip: str, port: int, conn: int = 0, *, connect: bool = True, close: bool = False) -> None:
        self.listener, self.proto, self.ip, self.port = listener, proto, ip, port
        self.conn, self.connect, self.close = conn, connect, close
        #: of a TLS connection that may have to be opened: see net/tcp.py
        self.wish = ("", "")

    @property
    def key(self) -> tuple[str, str, int]:
        return self.proto, self.ip, self.port


@lru_cache(maxsize=2048)
def is_ip(host: str) -> bool:
    """Whether a host is a numeric address (IPv6 with or without brackets)."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


@lru_cache(maxsize=2048)
def in_network(ip: str, network: str) -> bool:
    """``ip`` within ``a.b.c.d/len`` or ``/mask``."""
    try:
        return ipaddress.ip_address(ip) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
