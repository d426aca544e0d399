"""One stream connection, what it speaks, and who secures it: what :mod:`.tcp` keeps of each."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, Protocol

from kamc.runtime.net.endpoint import Listener
from kamc.runtime.sip.framing import StreamFramer

Address = tuple[str, int]


class SecurityFacts(NamedTuple):
    """What the handshake of a TLS connection has shown. Certificates are DER; ``asked`` is the server name that the client wanted."""

    version: str | None
    cipher: str | None
    bits: int | None
    description: str
    asked: str | None
    own: bytes | None
    peer: bytes | None
    #: certificates of the peer are checked
    checked: bool


class Security(Protocol):
    """Who knows certificates: module tls. Both methods raise OSError. ``lifetime``: seconds of silence that a connection survives."""

    lifetime: float

    def server(self, sock: socket.socket, listener: Listener) -> ssl.SSLSocket:
        """The server side of a connection that was accepted, before its handshake."""
        ...

    def client(self, sock: socket.socket, listener: Listener, remote: Address, wish: tuple[str, str] = ("", "")) -> ssl.SSLSocket:
        """The client side of a connection that was opened, before its handshake. ``wish``: a server name, and the name of a section."""
        ...

    def facts(self, sock: ssl.SSLSocket) -> SecurityFacts:
        """Of a connection whose handshake is over."""
        ...


class Codec(Protocol):
    """What a connection speaks after its SIP framing was exchanged for another one: WebSocket."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Whole messages. Raises SipError: the stream cannot be understood from there on."""
        ...

    def encode(self, data: bytes) -> bytes: ...


class Closing(Enum):
    """Why a connection ended."""

    PEER = "closed by the peer"
    RESET = "reset"
    IDLE = "idle"
    OWN = "closed here"


class Connection:
    """One TCP connection. ``remotes`` are the peer addresses that lead to it: its own and aliases."""

    __slots__ = ("behind_proxy", "close_when_sent", "codec", "deadline", "early", "established", "facts", "framer", "id", "lifetime", "listener", "message_since",
                 "opening", "out", "remote", "remotes", "shaking", "sock", "source", "wish")  # fmt: skip

    def __init__(self, number: int, sock: socket.socket, listener: Listener, remote: Address, framer: StreamFramer, *, opening: bool) -> None:
        self.id, self.sock, self.listener, self.remote, self.framer, self.opening = number, sock, listener, remote, framer, opening
        self.out = bytearray()
        self.remotes = [remote]
        self.deadline = 0.0
        #: seconds of silence that it survives
        self.lifetime = 0.0
        self.close_when_sent = False
        #: the TLS handshake is not over
        self.shaking = False
        self.codec: Codec | None = None
        #: the address that it came from, or goes to
        self.source = remote[0]
        #: a load balancer has to say who the client is; what it said so far
        self.behind_proxy = False
        self.early = bytearray()
        #: since when a message is on its way; 0 for none
        self.message_since = 0.0
        #: it was opened, or the peer has sent something
        self.established = False
        #: of a TLS connection that we open: the server name to ask for, and the section of tls.cfg
        self.wish = ("", "")
        #: once somebody has asked for them
        self.facts: SecurityFacts | None = None

    @property
    def secure(self) -> bool:
        return self.listener.proto == "tls"

    @property
    def proto(self) -> str:
        """tcp, tls, ws or wss."""
        if self.codec is None:
            return self.listener.proto
        return "wss" if self.secure else "ws"

    def key(self, address: Address) -> tuple[bool, str, int]:
        return self.secure, *address
