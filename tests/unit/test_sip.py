"""Messages, URIs, edits, building."""

from __future__ import annotations

import pytest

from kamc.errors import SipError
from kamc.runtime.sip.addr import parse_addr, parse_addr_list
from kamc.runtime.sip.build import build_forwarded_reply, build_hop_request, build_reply, build_request, via_with_source
from kamc.runtime.sip.edits import apply_edits
from kamc.runtime.sip.message import parse_message
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.sip.via import parse_via

INVITE = (
    "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport\r\nv: SIP/2.0/TCP b.example;branch=z9hG4bKb\r\n"
    'From: "A, B" <sip:alice@a.example>;tag=1\r\nt: <sip:bob@example.com>\r\ni: abc@host\r\nCSeq: 7 INVITE\r\nMax-Forwards: 70\r\n'
    "Contact: <sip:a@10.0.0.1>, <sip:b@10.0.0.1>;q=0.5\r\nl: 4\r\n\r\nbody"
)
OK = (
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bKour.0, SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\n"
    "To: <sip:b@c>;tag=2\r\nCall-ID: abc\r\nCSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n"
)


def test_index_and_accessors() -> None:
    msg = parse_message(INVITE)
    assert (msg.method, msg.uri, msg.call_id, msg.cseq, msg.body, msg.content_length) == ("INVITE", "sip:bob@example.com", "abc@host", (7, "INVITE"), "body", 4)
    assert [v.host for v in msg.vias] == ["10.0.0.1", "b.example"]
    assert msg.from_ is not None and (msg.from_.display, msg.from_tag) == ('"A, B"', "1")
    for header in msg.headers:
        assert msg.text[header[3] : header[4]].endswith("\r\n")
        assert msg.text[header[3] :].startswith(header[1])


@pytest.mark.parametrize("cut", range(0, len(INVITE) - 4, 7))
def test_truncated_messages_never_crash(cut: int) -> None:
    try:
        msg = parse_message(INVITE[:cut])
    except SipError:
        return
    _ = (msg.method, msg.cseq, msg.from_tag, msg.body)


@pytest.mark.parametrize("text", ["", "\r\n\r\n", "garbage\r\n\r\n", "INVITE sip:a@b\r\n\r\n", "INVITE sip:a SIP/2.0\r\nno colon\r\n\r\n", "SIP/2.0 2x0 OK\r\n\r\n",
                                  "INVITE sip:a SIP/2.0\r\nBad Name: x\r\n\r\n", "INVITE sip:a SIP/2.0\r\nTo: x"])  # fmt: skip
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(SipError):
        parse_message(text)


def test_folding_and_bare_line_feeds() -> None:
    msg = parse_message("\r\nOPTIONS sip:a SIP/2.0\nVia: SIP/2.0/UDP h\nSubject: one\n two\n\nbody")
    assert msg.value("subject") == "one\n two"
    assert msg.body == "body"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sip:bob:pw@h.example:5070;transport=tcp;lr?x=1", ("sip", "bob", "pw", "h.example", "5070", "transport=tcp;lr", "x=1")),
        ("sips:[2001:db8::1]", ("sips", None, None, "[2001:db8::1]", "", "", "")),
        ("tel:+49-30;phone-context=x", ("tel", "+49-30", None, "", "", "phone-context=x", "")),
        ("sip:+1;npdi@h", ("sip", "+1;npdi", None, "h", "", "", "")),
    ],
)
def test_uris(text: str, parts: tuple[object, ...]) -> None:
    uri = parse_uri(text)
    assert uri is not None
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port, uri.params, uri.headers) == parts
    if uri.scheme != "tel":
        assert str(uri) == text


@pytest.mark.parametrize("text", ["", "bob", "sip:", "sip:a@b@c", "sip:h:99999", "sip:a\r\nb@c", "mailto:x@y", "sip:a:b:c@h"])
def test_bad_uris(text: str) -> None:
    assert parse_uri(text) is None


def test_addresses() -> None:
    first, second = parse_addr_list('"x, <y>" <sip:a@b;lr>;tag=1, sip:c@d;p=2') or []
    assert (first.uri, first.tag, second.uri, second.params) == ("sip:a@b;lr", "1", "sip:c@d", "p=2")
    assert parse_addr("<sip:broken") is None


def test_via() -> None:
    via = parse_via(" SIP / 2.0 / UDP [::1] : 5070 ;branch=x;rport")
    assert via is not None and (via.host, via.port, via.branch, via.wants_rport) == ("[::1]", 5070, "x", True)
    assert parse_via("SIP/2.0/UDP") is None
    value = "SIP/2.0/UDP h;rport;branch=x"
    parsed = parse_via(value)
    assert parsed is not None
    assert via_with_source(value, parsed, "1.2.3.4", 99, received=True, rport=True) == "SIP/2.0/UDP h;rport=99;branch=x;received=1.2.3.4"


def test_edits() -> None:
    text = "0123456789"
    assert apply_edits(text, [(2, 4, ""), (2, 2, "x"), (9, 10, "y"), (3, 3, "gone")], 0, 10) == "01x45678y"
    assert apply_edits(text, [(4, 4, "a"), (4, 4, "b")], 0, 10) == "0123ab456789"


def test_request_to_forward() -> None:
    msg = parse_message(INVITE)
    out = build_request(msg, [(msg.body_start, len(msg.text), "longer body")], "sip:new@h", "Via: ours\r\n")
    assert out.startswith("INVITE sip:new@h SIP/2.0\r\nVia: ours\r\nVia: SIP/2.0/UDP 10.0.0.1:5070")
    assert "l: 11\r\n" in out and out.endswith("\r\n\r\nlonger body")
    assert parse_message(out).body == "longer body"


def test_reply_to_forward_loses_our_via() -> None:
    out = build_forwarded_reply(parse_message(OK), [], status_line="SIP/2.0 183 X")
    assert out.startswith("SIP/2.0 183 X\r\nVia: SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa\r\n")


def test_own_reply() -> None:
    msg = parse_message(INVITE.replace("CSeq", "Record-Route: <sip:r>\r\nTimestamp: 5\r\nCSeq"))
    out = build_reply(msg, 200, "OK", to_tag="t1", via1="SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bKa;rport=1", server="Server: x")
    assert "t: <sip:bob@example.com>;tag=t1\r\n" in out
    assert "Record-Route: <sip:r>\r\n" in out and "Timestamp" not in out
    assert out.endswith("Server: x\r\nContent-Length: 0\r\n\r\n")
    assert "Record-Route" not in build_reply(msg, 404, "No", to_tag="t", via1="v", server="")


def test_ack_and_cancel_follow_what_was_sent() -> None:
    sent = parse_message(INVITE)
    cancel = build_hop_request(sent, "CANCEL")
    assert cancel.count("Via:") == 1 and "CSeq: 7 CANCEL" in cancel
    ack = build_hop_request(sent, "ACK", to="<sip:b@c>;tag=9")
    assert "t: <sip:b@c>;tag=9" in ack and "CSeq: 7 ACK" in ack


def test_a_backslash_in_an_address_is_none() -> None:
    """Escaped for one database it would end a text in another."""
    assert parse_addr(r"<sip:x\'or/**/1=1--@h>;tag=1") is None
    named = parse_addr('"a \\" b" <sip:x@h>')
    assert named is not None and named.uri == "sip:x@h"


def test_a_long_index_is_made_anew_when_it_is_asked_for() -> None:
    vias = "".join(f"Via: SIP/2.0/UDP h{n};branch=z9hG4bK{n}\r\n" for n in range(100))
    msg = parse_message(f"OPTIONS sip:a@b SIP/2.0\r\n{vias}Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n")
    before = msg.headers, msg.first, [v.host for v in msg.vias]
    for _ in range(2):
        msg.rest()
        msg.rest()
        assert (msg.headers, msg.first, [v.host for v in msg.vias]) == before
    with pytest.raises(AttributeError):
        _ = msg.nothing  # type: ignore[attr-defined]
    short = parse_message("OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n")
    kept = short.headers
    short.rest()
    assert short.headers is kept
