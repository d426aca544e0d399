"""What is taken and what is dropped of malformed messages: each case was tried on Kamailio 5.6.3. ``-`` means that no answer came."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import HEAD, Bench

VIA = "SIP/2.0/UDP 127.0.0.1:6000;rport;branch=z9hG4bKq"
BODY = 'request_route { if (!sanity_check()) { exit; } sl_send_reply("200", "OK"); }\n'


@pytest.fixture
def ask(bench: Callable[..., Bench]) -> Callable[..., str]:
    b = bench(BODY, head=HEAD + 'loadmodule "sanity.so"\n')

    def send(
        extra: str = "",
        *,
        uri: str = "sip:x@127.0.0.1",
        cseq: str = "1 OPTIONS",
        via: str = VIA,
        to: str = "<sip:c@d>",
        method: str = "OPTIONS",
        tail: str = "Content-Length: 0\r\n\r\n",
    ) -> str:
        b.recv(f"{method} {uri} SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: {to}\r\nCall-ID: 1\r\nCSeq: {cseq}\r\nMax-Forwards: 10\r\n{extra}{tail}")
        return (b.firsts() or ["SIP/2.0 -"])[0].removeprefix("SIP/2.0 ")

    return send


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<sip:c@d>", "200 OK"),
        ("sip:c@d", "200 OK"),
        ("c d <sip:c@d>", "200 OK"),
        ('"c" <sip:c@d>', "200 OK"),
        ("<sip:c@d>;tag=", "200 OK"),
        ("<sip:c@d>;tag", "200 OK"),
        ("sip:c@d;tag=x", "200 OK"),
        ('<sip:c@d>;x="a;b"', "200 OK"),
        ("<foo>", "200 OK"),
        ("c", "200 OK"),
        ("<sip:c@d> ;x = 1 ; y", "200 OK"),
        ("<sip:c@d>\r\n ;tag=x", "200 OK"),
        ('"c"<sip:c@d>;', "-"),
        ("<sip:c@d>;;x", "-"),
        ("<sip:c@d>;tag=x;", "-"),
        ("<sip:c@d> x", "-"),
        ("<sip:c@d>,<sip:e@f>", "-"),
        ("<>", "-"),
        ('"c <sip:c@d>', "-"),
        ("<sip:c@d", "-"),
        ("<<sip:c@d>", "-"),
        ("<sip:c@d>>", "-"),
        ("|sip:c@d>", "-"),
        ("", "-"),
    ],
)
def test_to(ask: Callable[..., str], text: str, answer: str) -> None:
    assert ask(to=text) == answer


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        (";x", "200 OK"),
        (";x=", "200 OK"),
        (";x=;y", "200 OK"),
        (" (c)", "200 OK"),
        (";ttl=5", "200 OK"),
        (";alias", "200 OK"),
        (';x="q;r"', "200 OK"),
        (";x=<y>", "200 OK"),
        (", SIP/2.0/UDP a;branch=1", "200 OK"),
        (";", "-"),
        (";;x", "-"),
        (" (c", "-"),
        (";ttl", "-"),
        (";maddr", "-"),
        (";received", "-"),
        (";i", "-"),
        (", SIP/2.0/UDP", "-"),
        (";x y", "-"),
        (" x", "-"),
        (";x=\0", "-"),
    ],
)
def test_via(ask: Callable[..., str], more: str, answer: str) -> None:
    assert ask(via=VIA + more) == answer


@pytest.mark.parametrize(
    ("via", "answer"),
    [
        (VIA.replace("UDP", "FOO"), "200 OK"),
        (VIA.replace("UDP", "PIGEON"), "-"),
        (VIA.replace("2.0", "3.0"), "-"),
        (VIA.replace("SIP", "XIP"), "-"),
        (VIA.replace("127.0.0.1", "[fe80::1%25lo]"), "200 OK"),
    ],
)
def test_transports_and_hosts_of_via(ask: Callable[..., str], via: str, answer: str) -> None:
    assert ask(via=via) == answer


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("sip:x@h", True),
        ("sip:-a", True),
        ("sip:a_b", True),
        ("sip:bob@a.", True),
        ("sip:bob@a..b", True),
        ("sip:bob@h:", True),
        ("sip:bob@h:0", True),
        ("sip:bob@[::1]", True),
        ("tel:+1", True),
        ("urn:x", True),
        ("sip:", False),
        ("sip:a@b@c", False),
        ("sip:bob:pw:more@h", False),
        ("sip:[bob]@h", False),
        ("sip:bob@..", False),
        ("sip:bob@.a", False),
        ("sip:bob@h:65536", False),
        ("sip:@h", False),
        ("sip::@h", False),
        ("sip:bob@", False),
        ("sip:bob@[::1", False),
        ("tel:", False),
        ("urn:", False),
        ("http://x", False),
    ],
)
def test_request_uri(ask: Callable[..., str], uri: str, good: bool) -> None:
    assert ask(uri=uri) == ("200 OK" if good else "400 Bad Request URI")


@pytest.mark.parametrize(
    ("tail", "answer"),
    [
        ("", "200 OK"),
        ("X~y: 1\r\n\r\n", "200 OK"),
        ("X : 1\r\n\r\n", "200 OK"),
        ("Expires: 1\r\nExpires: 2\r\n\r\n", "200 OK"),
        ("Subject: a\r\nSubject: b\r\n\r\n", "200 OK"),
        ("Content-Length: 0\r\n", "400 Content-Length Body Failure"),
        ("Content-Length: 5\r\n\r\nab", "400 Content-Length mis-match"),
        ("Content-Length: 0\r\nX", "-"),
        ("X!: 1\r\n\r\n", "-"),
        ("X y: 1\r\n\r\n", "-"),
        ("X\r\n\r\n", "-"),
        (": 1\r\n\r\n", "-"),
        ("Content-Length: 0\r\nl: 0\r\n\r\n", "-"),
        ("Max-Forwards: 3\r\n\r\n", "-"),
        ("Call-ID: x\r\n\r\n", "-"),
        ("From: <sip:x@y>;tag=3\r\n\r\n", "-"),
        ("To: <sip:x@y>\r\n\r\n", "-"),
        ("CSeq: 1 OPTIONS\r\n\r\n", "-"),
        ("Via: SIP/2.0/UDP\r\n\r\n", "-"),
    ],
)
def test_header_section(ask: Callable[..., str], tail: str, answer: str) -> None:
    assert ask(tail=tail) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Basic dXNlcjpwYXNz", "-"),
        ("D", "-"),
        ("Digest", "-"),
        ("", "-"),
        ("Digest x", "400 Bad Auth Header"),
        ("Digest x=1", "400 Bad Auth Credentials"),
        ('Digest username="a",realm="b",nonce="c",uri="d",response="0123456789abcdef0123456789abcdef"', "200 OK"),
    ],
)
def test_credentials(ask: Callable[..., str], text: str, answer: str) -> None:
    assert ask(f"Authorization: {text}\r\n") == answer
    assert ask(f"Proxy-Authorization: {text}\r\n") == answer


@pytest.mark.parametrize(
    ("cseq", "answer"),
    [
        ("4294967296 OPTIONS", "200 OK"),
        ("4294967297 OPTIONS", "400 CSeq number is illegal"),
        ("42949672960 OPTIONS", "400 CSeq number is illegal"),
        ("1\tOPTIONS", "200 OK"),
        ("1\r\n OPTIONS", "-"),
        ("1 options", "400 CSeq method does not match request method"),
    ],
)
def test_cseq(ask: Callable[..., str], cseq: str, answer: str) -> None:
    assert ask(cseq=cseq) == answer


@pytest.mark.parametrize(("method", "answer"), [("!#$%&", "200 OK"), ("op", "200 OK"), ("A(B", "200 OK"), ("OPT\0IONS", "200 OK")])
def test_methods(ask: Callable[..., str], method: str, answer: str) -> None:
    """Any bytes, as long as CSeq names the same."""
    assert ask(method=method, cseq=f"1 {method}") == answer
