"""The kernel gives datagrams to the worker that owns them."""

from __future__ import annotations

import random
import select
import socket
import string
from collections.abc import Iterator

import pytest

from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.filter import program, steer_in_kernel
from kamc.runtime.net.steer import owner
from kamc.runtime.net.udp import bind_udp

WORKERS = 3


@pytest.fixture(scope="module")
def group() -> Iterator[list[socket.socket]]:
    first = bind_udp(Listener("udp", "127.0.0.1", 0), shared=True)
    listener = Listener("udp", "127.0.0.1", first.getsockname()[1])
    socks = [first, *(bind_udp(listener, shared=True) for _ in range(WORKERS - 1))]
    try:
        if not steer_in_kernel(first, WORKERS):
            pytest.skip("this kernel has no SO_ATTACH_REUSEPORT_CBPF")
        yield socks
    finally:
        for sock in socks:
            sock.close()


def taker(group: list[socket.socket], data: bytes, sender: socket.socket | None = None) -> int:
    """The number of the socket that gets a datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        (sender or own).sendto(data, group[0].getsockname())
        ready = select.select(group, [], [], 2.0)[0]
    assert len(ready) == 1
    assert ready[0].recv(65535) == data
    return group.index(ready[0])


def request(call_id: str, before: str = "", after: str = "CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n") -> bytes:
    return f"INVITE sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5071;branch=z9hG4bK2ab\r\n{before}Call-ID: {call_id}\r\n{after}".encode("latin-1")


def test_requests_go_to_the_owner_of_their_call(group: list[socket.socket]) -> None:
    rng = random.Random(1)
    seen = set()
    for n in range(300):
        length = rng.choice([1, 2, 7, 8, 20, 47, 48, 49, 100])
        call_id = "".join(rng.choices(string.ascii_letters + string.digits + "@.-%\xe9", k=length))
        data = request(call_id, before=f"X-Pad: {'p' * rng.randrange(300)}\r\n", after=f"CSeq: {n} BYE\r\nFrom: <sip:a@h>;tag={n}\r\n\r\n")
        assert taker(group, data) == owner(data, WORKERS)
        seen.add(owner(data, WORKERS))
    assert seen == set(range(WORKERS))


@pytest.mark.parametrize("digit", range(WORKERS))
@pytest.mark.parametrize("reason", ["", "OK", "Trying", "your call is important to us", "x" * 120])
def test_replies_go_to_whom_the_branch_names(group: list[socket.socket], digit: int, reason: str) -> None:
    for call_id in ("a@h", "b@h", "c@h"):
        data = f"SIP/2.0 180 {reason}\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bK{digit}f.1.0\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\r\n".encode()
        assert taker(group, data) == digit == owner(data, WORKERS)


@pytest.mark.parametrize("data", [
    b"\r\n\r\n", b"x", b"\0" * 1400, b"SIP/2.0 200 OK\r\n\r\n", b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKf\r\n" + b"X: y\r\n" * 60,
    request("a@h", before="Call-Info: <http://h/>\r\nSubject: Call-ID of mine\r\n"), b"OPTIONS sip:h SIP/2.0\r\ni: x@y\r\n\r\n",
    request("a@h", before="X: " + "y" * 5000 + "\r\n"),
    request("a@h")[:100],
], ids=range(9))  # fmt: skip
def test_whatever_else_comes_arrives(group: list[socket.socket], data: bytes) -> None:
    assert 0 <= taker(group, data) < WORKERS


def test_where_nothing_tells_the_sender_decides(group: list[socket.socket]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        assert len({taker(group, b"keep-alive" * n, sender) for n in range(1, 30)}) == 1


@pytest.mark.parametrize("reach", [160, 768])
def test_a_program_is_one_that_kernels_take(reach: int) -> None:
    rows = program(16, reach)
    assert len(rows) <= 4096
    for at, (code, yes, no, value) in enumerate(rows):
        assert yes < 256
        assert no < 256
        assert at + 1 + max(yes, no, value if code == 0x05 else 0) <= len(rows)
