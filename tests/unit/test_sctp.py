"""SCTP: what is read of a kernel socket; a whole call where the kernel has SCTP."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.sctp import IPPROTO_SCTP, SctpEndpoint, bind_sctp, has_sctp
from kamc.runtime.net.udp import MAX_DATAGRAM
from tests.harness import HEAD, Bench

LISTENER = Listener("sctp", "127.0.0.1", 5060)
PEER = ("127.0.0.1", 6000)
END, NEWS = 0x80, 0x8000


class Kernel:
    """A socket whose messages the test has written down."""

    def __init__(self, *reads: Any) -> None:
        self.reads = list(reads)

    def sendto(self, data: bytes, address: Any) -> int:
        return len(data)

    def recvmsg(self, size: int) -> Any:
        if not self.reads:
            raise BlockingIOError
        read = self.reads.pop(0)
        if isinstance(read, OSError):
            raise read
        return read[0], [], read[1], read[2] if len(read) > 2 else PEER


def received(*reads: Any) -> list[bytes]:
    got: list[bytes] = []
    SctpEndpoint(LISTENER, Kernel(*reads), lambda data, listener, address: got.append(data)).readable()  # type: ignore[arg-type]
    return got


def test_messages_come_whole() -> None:
    assert received((b"one", END), (b"two", END)) == [b"one", b"two"]
    assert received((b"o", 0), (b"n", 0), (b"x", END, ("127.0.0.2", 1)), (b"e", END)) == [b"x", b"one"]


def test_news_of_associations_are_no_messages() -> None:
    assert received((b"\1\2", NEWS | END), (b"one", END)) == [b"one"]
    assert received((b"half", 0), (b"\1\2", NEWS | END), (b"one", END)) == [b"one"]
    assert received((b"half", 0), (b"", 0), (b"one", END)) == [b"one"]


def test_errors_and_messages_without_an_end_are_left_out() -> None:
    assert received(ConnectionResetError(), (b"one", END)) == [b"one"]
    assert received((bytes(MAX_DATAGRAM), 0), (b"more", END), (b"one", END)) == [b"one"]


def test_it_is_reliable_and_named_in_via(bench: Callable[..., Bench]) -> None:
    b = bench("request_route { t_relay(); }\n", head=HEAD + 'loadmodule "sctp.so"\n')
    b.worker.listeners.append(LISTENER)
    b.worker.datapath.add_listener(LISTENER, b._send)
    b.request("INVITE", "sip:bob@127.0.0.1:7000;transport=sctp")
    (sent,) = [m for m in b.take() if m.to[1] == 7000]
    assert (sent.get("Via") or "").startswith("SIP/2.0/SCTP 127.0.0.1:5060")
    b.advance(10)
    assert [m for m in b.take() if m.to[1] == 7000] == []
    assert b.rpc("sctp.info") == {"kernel": "yes" if has_sctp() else "no", "listeners": 1}
    assert b.rpc("sctp.options")["sctp_autoclose"] == 180


@pytest.mark.skipif(has_sctp(), reason="the kernel has SCTP")
def test_a_kernel_without_it_is_named() -> None:
    with pytest.raises(ConfigError, match="the kernel has no SCTP"):
        bind_sctp(LISTENER)


@pytest.mark.skipif(not has_sctp(), reason="the kernel has no SCTP")
def test_a_message_over_the_kernel() -> None:
    server = bind_sctp(Listener("sctp", "127.0.0.1", 0), settings={"sctp_autoclose": 5})
    with server, socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET, IPPROTO_SCTP) as client:
        client.sendto(b"hello there", server.getsockname())
        server.setblocking(True)
        server.settimeout(5)
        data, _, flags, peer = server.recvmsg(MAX_DATAGRAM)
        assert (data, flags & END) == (b"hello there", END)
        server.sendto(b"answer", peer)
        client.settimeout(5)
        assert client.recv(100) == b"answer"
