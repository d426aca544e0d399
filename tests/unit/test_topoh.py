"""Module topoh: what each side sees, in both directions of a call, and that masks cannot be made without the key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamc.errors import ConfigError
from stdlib_modules.topoh.mask import Mask
from tests.harness import Bench, Message

CFG = 'loadmodule "topoh.so"\nmodparam("topoh", "mask_ip", "198.51.100.1")\nmodparam("topoh", "mask_callid", 1)\n'
ROUTE = """
request_route {
    xlog("SEE $rm $ci $ru\\n");
    if (is_method("CANCEL")) { t_relay(); exit; }
    if (has_totag()) { loose_route(); t_relay(); exit; }
    if ($rU == "no") { sl_send_reply("403", "No"); exit; }
    record_route(); $ru = "sip:bob@127.0.0.1:7000"; t_relay();
}
"""


def seen(b: Bench) -> list[str]:
    out = [line.partition("SEE ")[2] for line in b.log.lines if "SEE " in line]
    b.log.lines.clear()
    return out


def call(b: Bench) -> tuple[Message, Message]:
    """An INVITE through a proxy at 192.0.2.9 and its 200, as they left."""
    b.recv("INVITE sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa\r\nVia: SIP/2.0/UDP 192.0.2.33;branch=z9hG4bKinner\r\n"
           "Record-Route: <sip:192.0.2.9;lr>\r\nFrom: <sip:alice@a.test>;tag=f1\r\nTo: <sip:bob@b.test>\r\nCall-ID: secret\r\nCSeq: 1 INVITE\r\n"
           "Contact: <sip:alice@192.0.2.33>\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
    invite = next(m for m in b.take() if m.first.startswith("INVITE"))
    b.reply(invite, "200 OK", "Contact: <sip:bob@127.0.0.1:7000>")
    return invite, b.take()[-1]


def within(b: Bench, method: str, ruri: str, call_id: str, routes: list[str], tags: tuple[str, str], port: int, branch: str = "") -> None:
    b.serial += 1
    b.recv(f"{method} {ruri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch={branch or f'z9hG4bKw{b.serial}'}\r\n" + "".join(f"Route: {r}\r\n" for r in routes)
           + f"From: <sip:x@y>;tag={tags[0]}\r\nTo: <sip:z@y>;tag={tags[1]}\r\nCall-ID: {call_id}\r\nCSeq: 5 {method}\r\n"
           f"Contact: <sip:in@127.0.0.1:{port}>\r\nContent-Length: 0\r\n\r\n", ("127.0.0.1", port))  # fmt: skip


def contact_of(message: Message) -> str:
    return re.search(r"<([^>]*)>", message.get("Contact"))[1]


def test_the_callee_sees_nothing_of_the_caller(bench) -> None:
    b = bench(CFG + ROUTE)
    invite, ok = call(b)
    assert "192.0.2" not in invite.text and "secret" not in invite.text and "127.0.0.1:6000" not in invite.text
    assert [v.split(";")[0].split()[1] for v in invite.all("Via")] == ["127.0.0.1:5060", "198.51.100.1", "198.51.100.1"]
    assert invite.get("Call-ID").startswith("!!:")
    assert seen(b) == ["INVITE secret sip:bob@127.0.0.1"]
    assert "127.0.0.1:7000" not in ok.text
    assert ok.all("Via") == ["SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa", "SIP/2.0/UDP 192.0.2.33;branch=z9hG4bKinner"]
    assert ok.get("Call-ID") == "secret" and ok.all("Record-Route")[-1] == "<sip:192.0.2.9;lr>"


def test_requests_of_the_caller(bench) -> None:
    b = bench(CFG + ROUTE)
    invite, ok = call(b)
    seen(b)
    within(b, "INFO", contact_of(ok), "secret", [ok.all("Record-Route")[0]], ("f1", "t1"), 6000)
    (info,) = b.take()
    assert seen(b) == ["INFO secret sip:bob@127.0.0.1:7000"]
    assert (info.first, info.get("Call-ID"), info.to[1]) == ("INFO sip:bob@127.0.0.1:7000 SIP/2.0", invite.get("Call-ID"), 7000)
    b.reply(info, "200 OK")
    assert b.take()[-1].get("Call-ID") == "secret"


def test_requests_of_the_callee(bench) -> None:
    b = bench(CFG + ROUTE)
    invite, _ = call(b)
    seen(b)
    masked = invite.get("Call-ID")
    within(b, "INFO", contact_of(invite), masked, invite.all("Record-Route"), ("t1", "f1"), 7000)
    (info,) = b.take()
    assert seen(b) == ["INFO secret sip:alice@192.0.2.33"]
    assert (info.get("Call-ID"), info.to[0], info.all("Route")) == ("secret", "192.0.2.9", ["<sip:192.0.2.9;lr>"])
    assert "127.0.0.1:7000" not in info.text
    b.reply(info, "200 OK", "Contact: <sip:alice@192.0.2.33>", port=5060)
    (ok,) = b.take()
    assert ok.get("Call-ID") == masked and "192.0.2" not in ok.text
    assert ok.get("Via").startswith("SIP/2.0/UDP 127.0.0.1:7000") and b.worker.rt.module("topoh").mark not in ok.text


def test_replies_of_our_own_and_hop_by_hop_requests(bench) -> None:
    b = bench(CFG + ROUTE)
    invite, _ = call(b)
    masked = invite.get("Call-ID")
    within(b, "INVITE", contact_of(invite), masked, invite.all("Record-Route"), ("t1", "f1"), 7000, "z9hG4bKre")
    trying, again = b.take()
    assert trying.get("Call-ID") == masked and again.get("Call-ID") == "secret"
    b.reply(again, "180 Ringing", port=5060)
    b.take()
    within(b, "CANCEL", contact_of(invite), masked, invite.all("Record-Route"), ("t1", "f1"), 7000, "z9hG4bKre")
    cancel = next(m for m in b.take() if m.first.startswith("CANCEL"))
    assert cancel.get("Call-ID") == "secret"
    b.reply(again, "487 Gone", port=5060)
    out = b.take()
    assert [m.get("Call-ID") for m in out if m.first.startswith("ACK")] == ["secret"]
    assert [m.get("Call-ID") for m in out if m.first.startswith("SIP/2.0 487")] == [masked]
    b.request("MESSAGE", "sip:no@127.0.0.1", call_id=masked)
    assert b.take()[-1].get("Call-ID") == masked


def test_redirections_and_registrations_keep_their_contacts(bench) -> None:
    b = bench(CFG + ROUTE)
    b.request("INVITE", "sip:bob@127.0.0.1")
    invite = next(m for m in b.take() if m.first.startswith("INVITE"))
    b.reply(invite, "302 Moved", "Contact: <sip:bob@elsewhere.test>")
    assert "<sip:bob@elsewhere.test>" in b.take()[-1].text
    b.request("REGISTER", "sip:bob@127.0.0.1")
    assert "Contact: <sip:alice@127.0.0.1:6000>" in b.take()[-1].text


def test_an_event_route_leaves_a_message_as_it_is(bench) -> None:
    b = bench(CFG + ROUTE + 'event_route[topoh:msg-outgoing] { if ($rm == "MESSAGE") drop; }\n')
    b.request("MESSAGE", "sip:bob@127.0.0.1")
    assert "Call-ID: c1" in b.take()[-1].text
    invite, _ = call(b)
    assert "192.0.2" not in invite.text


@pytest.mark.parametrize("params", ['"mask_ip", "127.0.0.1"', '"mask_ip", ""', '"mask_mode", 1', '"callid_prefix", ""'])
def test_what_is_refused_at_start(bench, params: str) -> None:
    with pytest.raises(ConfigError, match="topoh: "):
        bench(CFG + f'modparam("topoh", {params})\n' + ROUTE)


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_masks_come_back(text: str) -> None:
    mask = Mask("k")
    hidden = mask.hide(text)
    assert mask.show(hidden) == text and re.fullmatch(r"[\w-]*", hidden)
    assert Mask("other").show(hidden) is None


@pytest.mark.parametrize("text", ["", "x", "AAAA", "!!!!", "A" * 40])
def test_what_is_no_mask(text: str) -> None:
    assert Mask("k").show(text) is None
    changed = Mask("k").hide("sip:alice@192.0.2.33")
    assert Mask("k").show(changed[:-1] + ("A" if changed[-1] != "A" else "B")) is None
