"""A phone for tests: UDP, TCP, TLS or a browser's WebSocket to one server, one call at a time."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Message, Request

from kamc.runtime.sip.framing import StreamFramer

#: what the phones call their server
DOMAIN = "phones.test"


class Talk(NamedTuple):
    """A call that was answered, as the caller knows it."""

    call_id: str
    target: str
    to: str
    routes: list[str]


class Phone:
    """``transport``: udp, tcp, tls, ws or wss; ``port`` is the server's. Messages that come are ``str``."""

    def __init__(self, user: str, transport: str, port: int) -> None:
        self.user, self.transport, self.serial = user, transport, 0
        self.server = ("127.0.0.1", port)
        self.framer = StreamFramer(65535)
        self.waiting: list[str] = []
        self.web: WSConnection | None = None
        if transport == "udp":
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.bind(("127.0.0.1", 0))
            self.sock.connect(self.server)
        else:
            self.sock = socket.create_connection(self.server, timeout=5)
        self.sock.settimeout(5)
        if transport in ("tls", "wss"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
        own = f"127.0.0.1:{self.sock.getsockname()[1]}"
        if transport in ("ws", "wss"):
            own = f"{user}.invalid"  # a browser does not know where it is
            self._open_web()
        self.via, self.contact = own, f"<sip:{user}@{own};transport={transport.replace('wss', 'ws')}>"

    def _open_web(self) -> None:
        self.web = WSConnection(ConnectionType.CLIENT)
        self.sock.sendall(self.web.send(Request(host="127.0.0.1", target="/", subprotocols=["sip"])))
        self.web.receive_data(self.sock.recv(65535))
        assert isinstance(next(self.web.events()), AcceptConnection)

    def close(self) -> None:
        self.sock.close()

    # -- messages --------------------------------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        data = text.encode("latin-1")
        self.sock.sendall(data if self.web is None else self.web.send(Message(data=text)))

    def _arrived(self) -> Iterator[str]:
        data = self.sock.recv(65535)
        if not data:
            raise EOFError(f"the server has closed the connection of {self.user}")
        if self.web is not None:
            self.web.receive_data(data)
            for event in self.web.events():
                body: Any = getattr(event, "data", "")
                yield body if isinstance(body, str) else bytes(body).decode("latin-1")
        elif self.transport == "udp":
            yield data.decode("latin-1")
        else:
            for message in self.framer.feed(data):
                yield message.decode("latin-1")

    def receive(self) -> str:
        while not self.waiting:
            self.waiting += self._arrived()
        return self.waiting.pop(0)

    def until(self, begin: str) -> str:
        """The next message that begins so; provisional replies before it are left out."""
        while True:
            text = self.receive()
            if text.startswith(begin):
                return text
            assert text.startswith("SIP/2.0 1"), text

    def request(self, method: str, uri: str, *lines: str, call_id: str = "", to: str = "", cseq: int = 1, body: str = "") -> None:
        self.serial += 1
        self.send(f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{self.transport.upper()} {self.via};rport;branch=z9hG4bK{self.user}{self.serial}\r\n"
                  f"Max-Forwards: 70\r\nFrom: <sip:{self.user}@{DOMAIN}>;tag={self.user}\r\nTo: {to or f'<{uri}>'}\r\n"
                  f"Call-ID: {call_id or f'{self.user}{self.serial}'}\r\nCSeq: {cseq} {method}\r\nContact: {self.contact}\r\n"
                  + "".join(f"{line}\r\n" for line in lines) + f"Content-Length: {len(body)}\r\n\r\n{body}")  # fmt: skip

    def answer(self, request: str, status: str, *lines: str, body: str = "") -> None:
        kept = "".join(f"{line}\r\n" for line in request.split("\r\n") if re.match(r"(Via|From|Call-ID|CSeq|Record-Route):", line))
        to = header(request, "To")
        tag = "" if ";tag=" in to else f";tag={self.user}"
        more = "".join(f"{line}\r\n" for line in lines)
        self.send(f"SIP/2.0 {status}\r\n{kept}To: {to}{tag}\r\nContact: {self.contact}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}")

    # -- what a user does ------------------------------------------------------------------------------------------------

    def register(self, expires: int = 600) -> None:
        self.request("REGISTER", f"sip:{DOMAIN}", f"Expires: {expires}", to=f"<sip:{self.user}@{DOMAIN}>", call_id=f"r{self.user}", cseq=self.serial + 1)
        self.until("SIP/2.0 200")

    def call(self, other: Phone) -> None:
        """A call from ring to hangup; each side hears all of it."""
        self.hang_up(other, self.dial(other))

    def dial(self, other: Phone) -> Talk:
        """A call from ring to answer."""
        call_id = f"call-{self.user}-{self.serial}"
        self.request("INVITE", f"sip:{other.user}@{DOMAIN}", call_id=call_id)
        invite = other.until("INVITE")
        other.answer(invite, "180 Ringing")
        other.answer(invite, "200 OK")
        ok = self.until("SIP/2.0 200")
        routes = [f"Route: {value}" for value in reversed(re.findall(r"^Record-Route: (.*?)\r$", ok, re.M))]
        target, to = header(ok, "Contact").strip("<>"), header(ok, "To")
        self.request("ACK", target, *routes, call_id=call_id, to=to)
        other.until("ACK")
        return Talk(call_id, target, to, routes)

    def hang_up(self, other: Phone, talk: Talk) -> None:
        self.request("BYE", talk.target, *talk.routes, call_id=talk.call_id, to=talk.to, cseq=2)
        other.answer(other.until("BYE"), "200 OK")
        self.until("SIP/2.0 200")


def header(text: str, name: str) -> str:
    match = re.search(rf"^{name}: (.*?)\r$", text, re.M)
    assert match is not None, text
    return match[1]
