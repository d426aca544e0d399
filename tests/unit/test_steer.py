"""Which of several workers owns a message."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from kamc.runtime.net.steer import call_id_of, holder_of, owner, owner_of_call

REQUEST = "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK2abc\r\n{}From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCSeq: 1 INVITE\r\n\r\n"
def of(text: str, count: int) -> int:
    return owner(text.encode("latin-1"), count)


REPLY = "SIP/2.0 200 OK\r\n{}From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\nCall-ID: x@y\r\nCSeq: 1 INVITE\r\n\r\n"


@pytest.mark.parametrize("header", ["Call-ID: one@h\r\n", "call-id:one@h\r\n", "i: one@h\r\n", "CALL-ID :  one@h  \r\n", "Call-ID:\r\n one@h\r\n", "I:\tone@h\r\n"])
def test_a_request_belongs_to_its_call(header: str) -> None:
    assert of(REQUEST.format(header), 7) == owner_of_call("one@h", 7)


def test_calls_are_spread() -> None:
    counted = Counter(of(REQUEST.format(f"Call-ID: c{n}@h\r\n"), 4) for n in range(4000))
    assert set(counted) == {0, 1, 2, 3}
    assert max(counted.values()) < 1.2 * min(counted.values())


@pytest.mark.parametrize(("via", "worker"), [
    ("Via: SIP/2.0/UDP h;branch=z9hG4bK2abc.1.0\r\n", 2), ("v:SIP/2.0/TCP h;rport;branch=z9hG4bK0abc\r\nVia: SIP/2.0/UDP g;branch=z9hG4bK3\r\n", 0),
    ("Via: SIP/2.0/UDP h ; branch = z9hG4bK3a\r\n", 3),
])  # fmt: skip
def test_a_reply_belongs_to_who_sent_the_request(via: str, worker: int) -> None:
    assert of(REPLY.format(via), 4) == worker


def test_a_branch_of_more_workers_than_there_are() -> None:
    assert of(REPLY.format("Via: SIP/2.0/UDP h;branch=z9hG4bKfabc\r\n"), 4) == -1


def test_a_reply_with_another_branch_goes_by_its_call() -> None:
    assert of(REPLY.format("Via: SIP/2.0/UDP h;branch=abc\r\n"), 4) == owner_of_call("x@y", 4)


@pytest.mark.parametrize("text", ["", "\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", REQUEST.format(""), "SIP/2.0 200 OK\r\n\r\n", "\x00\xff" * 40])
def test_what_names_no_call_stays_where_it_is(text: str) -> None:
    assert of(text, 4) == -1


def test_a_very_long_call_id() -> None:
    long = "x" * 3000
    assert of(REQUEST.format(f"Call-ID: {long}\r\n"), 5) == owner_of_call(long, 5)


def test_call_ids_for_a_worker() -> None:
    numbers = itertools.count()
    for worker in range(3):
        assert owner_of_call(call_id_of(worker, 3, lambda: f"k{next(numbers)}@h"), 3) == worker
    assert call_id_of(0, 1, lambda: "any") == "any"


def test_connections_go_by_address() -> None:
    assert len({holder_of(f"192.0.2.{n}", 3) for n in range(50)}) == 3
    assert holder_of("192.0.2.1", 1) == 0
