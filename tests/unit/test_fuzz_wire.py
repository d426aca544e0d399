"""Seeded noise for everything that reads bytes of the network: only declared errors. How the time grows with the size is what
``tools/parser_times.py`` shows.

``KAMC_FUZZ_SECONDS`` lets each reader run for longer than the short time of CI.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from kamc.errors import SipError
from kamc.runtime.net.proxyproto import read_header
from kamc.runtime.rpc.binrpc import BinrpcError, single
from kamc.runtime.rpc.jsonrpc import loads
from kamc.runtime.sip.addr import parse_addr_list
from kamc.runtime.sip.digest import parse_digest
from kamc.runtime.sip.framing import StreamFramer
from kamc.runtime.sip.message import parse_message
from kamc.runtime.sip.multipart import find_part
from kamc.runtime.sip.sdp import SdpError, parse_sdp
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.websocket.frames import WebSocket

SECONDS = float(os.environ.get("KAMC_FUZZ_SECONDS", "1"))
INVITE = ("INVITE sip:bob@h:5060;transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP a.test:5060;branch=z9hG4bK1;rport, SIP/2.0/UDP b;branch=2\r\nMax-Forwards: 70\r\n"
          'From: "Al \\"x\\"" <sip:a@b>;tag=1\r\nt: <sip:c@d>\r\ni: 1@x\r\nCSeq: 1 INVITE\r\nContact: <sip:a@1.2.3.4>;expires=3, *\r\nRecord-Route: <sip:r;lr>\r\n'
          'Authorization: Digest username="a", realm="b", nonce="c", uri="sip:d", response="e", qop=auth, nc=00000001\r\nSubject: a\r\n folded\r\n'
          "Content-Type: multipart/mixed;boundary=B\r\nl: 60\r\n\r\n--B\r\nContent-Type: application/sdp\r\n\r\n"
          "v=0\r\nc=IN IP4 1.1.1.1\r\nm=audio 1 RTP/AVP 0\r\n--B--\r\n")  # fmt: skip
SEEDS = [
    INVITE.encode(), b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\n\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
    bytes([0x81, 0x85, 0, 0, 0, 0]) + b"hello", bytes([0x89, 0x80, 1, 2, 3, 4]), bytes([0x82, 0xFE, 0, 200, 1, 2, 3, 4]) + bytes(200),
    b'{"jsonrpc":"2.0","method":"core.echo","params":[1,"a",{"b":[]}],"id":1}', bytes.fromhex("a1030b0b5a0d910a636f72652e6563686f0021616200"),
    b"POST /RPC HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nContent-Length: 3\r\n\r\nabc",
]  # fmt: skip


def mutated(rand: random.Random) -> bytes:
    """A seed with bytes changed, cut out, doubled, or put in from another one."""
    data = bytearray(rand.choice(SEEDS))
    for _ in range(rand.randrange(1, 6)):
        at = rand.randrange(len(data) + 1)
        size = rand.randrange(1, 20)
        match rand.randrange(5):
            case 0:
                data[at : at + 1] = bytes([rand.randrange(256)])
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size] * rand.randrange(1, 4)
            case 3:
                data[at:at] = rand.choice((b"\r\n", b"\n", b"\0", b";", b"<", b'"', b"\\", b":", b",", b"[", b"%", b"\xff", b"Content-Length: 99999999999\r\n"))
            case _:
                other = rand.choice(SEEDS)
                begin = rand.randrange(len(other))
                data[at:at] = other[begin : begin + size]
    return bytes(data)


def read_message(data: bytes) -> None:
    msg = parse_message(data.decode("latin-1"))
    msg.check()
    for header in msg.headers:
        parse_addr_list(header[2])
        parse_digest(header[2])
    _ = msg.vias, msg.cseq, msg.from_tag, msg.to_tag, msg.content_length, parse_uri(msg.uri)
    find_part(msg.body, "B", "application/sdp")


def read_stream(data: bytes) -> None:
    framer = StreamFramer(4096)
    for at in range(0, len(data), 7):
        for message in framer.feed(data[at : at + 7]):
            assert message
    assert framer.pending <= 4096 + 7


class _Hub:
    """Takes what a WebSocket writes."""

    def __init__(self) -> None:
        self.connections: dict[int, object] = {1: self}
        self.id, self.close_when_sent = 1, False

    def write_raw(self, conn: object, data: bytes) -> None:
        if self.close_when_sent:
            self.close(conn)

    def close(self, conn: object, why: str = "", how: object = None) -> None:
        self.connections.clear()

    def add(self, group: str, name: str, by: int = 1) -> None:
        pass


def read_frames(data: bytes) -> None:
    hub = _Hub()
    socket = WebSocket(hub, hub, hub, time.monotonic)  # type: ignore[arg-type]
    for at in range(0, len(data), 5):
        if not hub.connections:
            return
        for message in socket.feed(data[at : at + 5]):
            assert len(message) <= 65535


READERS: dict[str, tuple[Callable[[bytes], object], tuple[type[Exception], ...]]] = {
    "message": (read_message, (SipError,)), "stream": (read_stream, (SipError,)), "websocket": (read_frames, ()), "proxy": (read_header, (SipError,)),
    "json": (lambda data: loads(data.decode("latin-1")), (ValueError,)), "binrpc": (lambda data: single(data, 65536), (BinrpcError,)),
    "sdp": (lambda data: parse_sdp(data.decode("latin-1")), (SdpError,)),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_noise(name: str) -> None:
    read, declared = READERS[name]
    rand = random.Random(f"{name}-{SECONDS}")
    end = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < end or count < 200:
        data = mutated(rand)
        count += 1
        try:
            read(data)
        except declared:
            pass
        except Exception as err:
            raise AssertionError(f"{type(err).__name__} for {data!r}") from err
