"""STUN on SIP sockets: the bytes that Kamailio 5.6.3 gives, but for indications (never answered) and lists of more than one attribute."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from kamc.runtime.net import stun
from tests.harness import HEAD, Bench

COOKIE, OLD, IDENT = bytes.fromhex("2112a442"), b"\1\2\3\4", b"abcdefghijkl"
MAPPED = "002000080001851d5e12a443"


def request(kind: int = 1, attributes: bytes = b"", *, cookie: bytes = COOKIE, length: int | None = None) -> bytes:
    return struct.pack("!HH", kind, len(attributes) if length is None else length) + cookie + IDENT + attributes


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def error(code: str, reason: str) -> str:
    return attribute(9, bytes.fromhex("0000" + code) + reason.encode()).hex()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (request(), "0101" + MAPPED),
        (request(attributes=attribute(0x8022, b"tes")), "0101" + MAPPED),
        (request(attributes=attribute(3, b"\0\0\0\6")), "0101" + MAPPED),
        (request(cookie=OLD), "0101000100080001a40f7f000001"),
        (request(attributes=attribute(0x55, b"test")), "0111" + error("0414", "Unknown Attribute") + "000a000200550000"),
        (request(attributes=attribute(0x55, b"") + attribute(0x56, b"x")), "0111" + error("0414", "Unknown Attribute") + "000a000400550056"),
        (request(length=8), "0111" + error("0400", "Bad Request")),
        (request(length=0) + b"xxxx", "0111" + error("0400", "Bad Request")),
        (request(attributes=struct.pack("!HH", 0x8022, 40) + b"abcd"), "0111" + error("0400", "Bad Request")),
        (request(attributes=b"\x80\x22"), "0111" + error("0400", "Bad Request")),
        (request(3), "0113" + error("0600", "Global Failure")),
    ],
)
def test_answers(data: bytes, expected: str) -> None:
    answer = stun.answer(data, "127.0.0.1", 41999, "it")
    assert answer is not None
    assert answer[4:20] == data[4:20]
    assert len(answer) == 20 + int.from_bytes(answer[2:4])
    tail = attribute(0x8022, b"it").hex() if data[4:8] == COOKIE else ""
    assert answer[:2].hex() + answer[20:].hex() == expected + tail


@pytest.mark.parametrize("kind", [0x0011, 0x0101, 0x0111])
def test_what_is_no_request_is_never_answered(kind: int) -> None:
    assert stun.answer(request(kind), "127.0.0.1", 1, "it") is None


def test_an_ipv6_address() -> None:
    answer = stun.answer(request(), "2001:db8::1", 5060, "")
    assert answer is not None
    value = answer[24:44]
    assert value[:2] == b"\0\2"
    assert bytes(a ^ b for a, b in zip(value[4:], COOKIE + IDENT, strict=True)) == bytes.fromhex("20010db8000000000000000000000001")


def test_the_module_answers_where_the_request_came_from(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { sl_send_reply("200", "OK"); }\n', head=HEAD + 'loadmodule "stun.so"\n')
    b.recv(request().decode("latin-1"))
    (sent,) = b.take()
    assert sent.to == ("127.0.0.1", 6000)
    assert sent.text.startswith("\1\1")
    assert "kamc" in sent.text
    b.recv(request(0x0101).decode("latin-1"))
    b.recv(request()[:19].decode("latin-1"))
    assert b.take() == []
    b.request("OPTIONS")
    assert b.firsts() == ["SIP/2.0 200 OK"]


def test_without_the_module_it_is_a_bad_message(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { sl_send_reply("200", "OK"); }\n')
    b.recv(request().decode("latin-1"))
    assert b.take() == []
    assert b.worker.counters.get("core", "bad_msg_hdr") == 1
