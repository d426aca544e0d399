"""Module dialog, compared with Kamailio 5.6.3 step by step."""

from __future__ import annotations

import re

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.dialog.model import parse_did
from tests.harness import HEAD, Bench, Message

CFG = HEAD + ('loadmodule "dialog.so"\nmodparam("dialog", "dlg_match_mode", 1)\nmodparam("dialog", "profiles_with_value", "caller ; other")\n'
              'modparam("dialog", "profiles_no_value", "total")\n')  # fmt: skip
ROUTE = """
request_route {
    if ($rm == "CANCEL") { t_relay(); exit; }
    if (has_totag()) { loose_route(); if (is_known_dlg()) append_hf("X-Known: $DLG_status $dlg_var(a)\\r\\n"); t_relay(); exit; }
    record_route();
    $dlg_var(a) = "early";
    dlg_manage();
    $ru = "sip:bob@127.0.0.1:7000";
    t_relay();
}
event_route[dialog:start] { xlog("EV start $ci $rs $dlg(state) $dlg_var(a)\\n"); }
event_route[dialog:end] { xlog("EV end $rm $dlg(callid) $dlg(state) $DLG_count $dlg_var(a)\\n"); }
event_route[dialog:failed] { xlog("EV failed $ci $rs $dlg(state)\\n"); }
"""


def events(b: Bench) -> list[str]:
    out = [line.partition("EV ")[2] for line in b.log.lines if "EV " in line]
    b.log.lines.clear()
    return out


def begin(b: Bench, call_id: str = "c1") -> Message:
    b.request("INVITE", "sip:bob@127.0.0.1", call_id=call_id)
    return next(m for m in b.take() if m.first.startswith("INVITE"))


def did(message: Message) -> str:
    found = re.search(r"did=([^;>]+)", message.get("Record-Route") or "")
    return found[1] if found else ""


def within(b: Bench, method: str, *, did: str = "", call_id: str = "c1", cseq: int = 2, tags: tuple[str, str] = ("f1", "t1"), port: int = 6000) -> list[Message]:
    text = (f"{method} sip:bob@127.0.0.1:7000 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKw{b.serial}{method}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:alice@a.test>;tag={tags[0]}\r\nTo: <sip:bob@b.test>;tag={tags[1]}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
            f"Contact: <sip:alice@127.0.0.1:{port}>\r\nRoute: <sip:127.0.0.1;lr{';did=' + did if did else ''}>\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
    b.serial += 1
    b.recv(text, ("127.0.0.1", port))
    return b.take()


def answered(b: Bench, call_id: str = "c1", behind: str = "") -> Message:
    """``behind``: the Record-Route of a proxy between us and the callee."""
    invite = begin(b, call_id)
    seen = Message(invite.text.replace("Record-Route: ", f"Record-Route: {behind}\r\nRecord-Route: "), invite.to, invite.at) if behind else invite
    b.reply(seen, "200 OK", "Contact: <sip:bob@127.0.0.1:7000;x=1>")
    b.take()
    within(b, "ACK", did=did(invite), call_id=call_id, cseq=1)
    return invite


def state(b: Bench, call_id: str = "c1") -> int | None:
    return (b.rpc("dlg.dlg_list", call_id) or {}).get("state")


def counters(b: Bench) -> dict[str, int]:
    values = b.worker.counters.values
    return {name: values.get(("dialog", f"{name}_dialogs"), 0) for name in ("active", "early", "processed", "expired", "failed")}


def test_states_events_and_counters_of_a_call(bench) -> None:
    b = bench(ROUTE, head=CFG)
    invite = begin(b)
    assert (state(b), counters(b)) == (1, {"active": 0, "early": 0, "processed": 1, "expired": 0, "failed": 0})
    b.reply(invite, "180 Ringing")
    assert (state(b), counters(b)["early"]) == (2, 1)
    b.reply(invite, "200 OK", "Contact: <sip:bob@127.0.0.1:7000;x=1>")
    assert (state(b), counters(b)["early"], counters(b)["active"]) == (3, 0, 1)
    b.take()
    within(b, "ACK", did=did(invite), cseq=1)
    assert state(b) == 4
    (info,) = within(b, "INFO", did=did(invite))
    assert info.get("X-Known") == "4 early"
    assert events(b) == ["start c1 200 3 early"]
    (bye,) = within(b, "BYE", did=did(invite), cseq=3)
    assert bye.get("X-Known") == "5 early"
    assert events(b) == ["end BYE c1 5 1 early"]
    assert (state(b), counters(b)) == (5, {"active": 0, "early": 0, "processed": 1, "expired": 0, "failed": 0})
    b.reply(bye, "200 OK")
    b.advance(6)
    assert (state(b), len(b.worker.rt.module("dialog").table.by_call)) == (None, 0)


def test_what_rpc_shows(bench) -> None:
    b = bench(ROUTE.replace("dlg_manage();", 'dlg_manage(); set_dlg_profile("caller", "$fU"); set_dlg_profile("total"); '
                            'dlg_setflag("3"); dlg_set_timeout("100");'), head=CFG)  # fmt: skip
    invite = answered(b)
    entry, ident = parse_did(did(invite))
    now = int(b.worker.wall_clock())
    assert b.rpc("dlg.list") == [{
        "h_entry": entry, "h_id": ident, "ref": 2, "call-id": "c1", "from_uri": "sip:alice@a.test", "to_uri": "sip:bob@b.test", "state": 4, "start_ts": now,
        "init_ts": now, "end_ts": 0, "duration": 0, "timeout": now + 100, "lifetime": 100, "dflags": b.rpc("dlg.list")[0]["dflags"], "sflags": 8, "iflags": 0,
        "caller": {"tag": "f1", "contact": "sip:alice@127.0.0.1:6000", "cseq": "1", "route_set": "", "socket": "udp:127.0.0.1:5060"},
        "callee": {"tag": "t1", "contact": "sip:bob@127.0.0.1:7000;x=1", "cseq": "0", "route_set": "", "socket": "udp:127.0.0.1:5060"},
        "profiles": ["total", {"caller": "alice"}], "variables": [{"a": "early"}],
    }]  # fmt: skip
    assert b.rpc("dlg.briefing") == [{"h_entry": entry, "h_id": ident, "from_uri": "sip:alice@a.test", "to_uri": "sip:bob@b.test", "call-id": "c1",
                                      "from_tag": "f1", "to_tag": "t1"}]  # fmt: skip
    assert b.rpc("dlg.stats_active") == {"starting": 0, "connecting": 0, "answering": 0, "ongoing": 1, "all": 1}
    assert b.rpc("dlg.is_alive", "c1", "f1", "t1") == "Alive"
    assert b.rpc("dlg.profile_get_size", "caller", "alice") == 1
    assert len(b.rpc("dlg.list_match", "furi", "re", "ali.e")) == 1
    for call in (("dlg.profile_get_size", "x"), ("dlg.list_match", "x", "eq", "y"), ("dlg.list_match", "ftag", "eq", "x"), ("dlg.end_dlg", 1, 2), ("dlg.is_alive", "c1"),
                 ("dlg.terminate_dlg", "x", "y", "z")):  # fmt: skip
        with pytest.raises(RpcFault):
            b.rpc(*call)


def test_ending_by_rpc(bench) -> None:
    b = bench(ROUTE, head=CFG)
    invite = answered(b)
    events(b)
    b.rpc("dlg.end_dlg", *parse_did(did(invite)))
    to_bob, to_alice = b.take()
    assert (to_bob.first, to_bob.get("CSeq"), to_bob.get("From"), to_bob.get("To")) == (
        "BYE sip:bob@127.0.0.1:7000;x=1 SIP/2.0", "2 BYE", "<sip:alice@a.test>;tag=f1", "<sip:bob@b.test>;tag=t1")  # fmt: skip
    assert (to_alice.first, to_alice.get("CSeq"), to_alice.get("From"), to_alice.get("To")) == (
        "BYE sip:alice@127.0.0.1:6000 SIP/2.0", "1 BYE", "<sip:bob@b.test>;tag=t1", "<sip:alice@a.test>;tag=f1")  # fmt: skip
    assert (state(b), events(b)) == (4, [])
    b.reply(to_bob, "481 Gone")
    assert (state(b), events(b)) == (None, ["end OPTIONS c1 4 1 early"])
    b.reply(to_alice, "200 OK", port=6000)
    assert (events(b), counters(b)["active"]) == ([], 0)
    b.advance(40)
    assert b.transactions == 0


def test_a_refused_call_fails(bench) -> None:
    b = bench(ROUTE, head=CFG)
    b.reply(begin(b), "486 Busy Here")
    assert (events(b), counters(b)["failed"], state(b)) == (["failed c1 486 5"], 1, 5)


def test_no_transaction_no_dialog(bench) -> None:
    b = bench('request_route { record_route(); dlg_manage(); xlog("EV $rc\\n"); dlg_manage(); xlog("EV $rc\\n"); sl_send_reply("486", "No"); }\n', head=CFG)
    b.request("INVITE", "sip:bob@127.0.0.1")
    assert (events(b), b.rpc("dlg.list")) == (["1", "-1"], [])
    b.request("MESSAGE", "sip:bob@127.0.0.1")
    assert events(b) == ["-1", "-1"]


@pytest.mark.parametrize(("mode", "with_did", "foreign"), [(0, True, False), (1, True, True), (2, True, True)])
def test_how_a_request_finds_its_dialog(bench, mode: int, with_did: bool, foreign: bool) -> None:
    b = bench(ROUTE, head=CFG.replace('match_mode", 1', f'match_mode", {mode}'))
    invite = answered(b)
    assert (within(b, "BYE", did=did(invite))[0].get("X-Known") or "").startswith("5") == with_did
    answered(b, "c2")
    within(b, "BYE", call_id="c2")
    assert (state(b, "c2") == 5) == foreign


def test_other_tags_are_another_dialog(bench) -> None:
    b = bench(ROUTE, head=CFG)
    invite = answered(b)
    assert within(b, "BYE", did=did(invite), tags=("zz", "yy"))[0].get("X-Known") is None
    assert state(b) == 4
    assert any("not its own" in line for line in b.log.lines)


def test_timeouts(bench) -> None:
    b = bench('modparam("dialog", "default_timeout", 10)\nmodparam("dialog", "timeout_avp", "$avp(to)")\n'
              + ROUTE.replace("dlg_manage();", 'if ($ci == "c2") { $avp(to) = 4; $dlg_ctx(timeout_bye) = 1; $dlg_ctx(timeout_route) = "LAST"; } dlg_manage();')
              + 'route[LAST] { xlog("EV last $dlg_var(a)\\n"); }\n', head=CFG)  # fmt: skip
    answered(b)
    answered(b, "c2")
    events(b)
    b.advance(4.1)
    assert events(b) == ["last early", "end OPTIONS c2 4 2 early"]
    assert [m.first.split()[0] for m in b.take()] == ["BYE", "BYE"]
    within(b, "INFO")
    b.advance(6.5)
    assert events(b) == []
    b.advance(4)
    assert (events(b), counters(b)["expired"]) == (["end OPTIONS c1 4 1 early"], 2)
    assert not any(m.first.startswith("BYE sip:bob@127.0.0.1:7000;x=1") and m.get("Call-ID") == "c1" for m in b.take())


def test_what_nobody_ends(bench) -> None:
    b = bench('modparam("tm", "fr_inv_timer", 900000)\nmodparam("tm", "max_inv_lifetime", 900000)\nmodparam("dialog", "early_timeout", 30)\n' + ROUTE, head=CFG)
    b.reply(begin(b), "180 Ringing")
    invite = begin(b, "c2")
    b.reply(invite, "200 OK", "Contact: <sip:bob@127.0.0.1:7000>")
    b.advance(45)
    assert (state(b), state(b, "c2"), counters(b)["early"]) == (None, 3, 0)
    b.advance(40)
    assert (state(b, "c2"), counters(b)["active"]) == (None, 0)


def test_profiles(bench) -> None:
    b = bench('request_route { record_route(); set_dlg_profile("total"); dlg_manage(); set_dlg_profile("caller", "$fU"); xlog("EV $rc\\n");\n'
              'is_in_profile("caller"); xlog("EV $rc\\n"); is_in_profile("caller", "$fU"); xlog("EV $rc\\n"); is_in_profile("caller", "zz"); xlog("EV $rc\\n");\n'
              'is_in_profile("total"); xlog("EV $rc\\n"); get_profile_size("caller", "$fU", "$var(n)"); xlog("EV $rc $var(n)\\n");\n'
              'get_profile_size("caller", "$var(n)"); xlog("EV $rc\\n"); unset_dlg_profile("total"); xlog("EV $rc\\n");\n'
              'dlg_remote_profile("add", "caller", "$fU", "u1", "2000000000"); get_profile_size("caller", "$fU", "$var(n)"); xlog("EV $var(n)\\n");\n'
              't_relay(); }\n', head=CFG)  # fmt: skip
    begin(b)
    assert events(b) == ["1", "-1", "1", "-1", "1", "1 1", "-1", "-1", "2"]


def test_requests_of_our_own(bench) -> None:
    b = bench(ROUTE.replace("loose_route();", 'loose_route(); if ($rm == "INFO") { dlg_req_within("callee", "INFO", "X-A: 1\\r\\n", "text/plain", "hello"); '
                            'dlg_refer("caller", "sip:c@x"); dlg_bye("callee"); sl_send_reply("200", "OK"); exit; }'), head=CFG)  # fmt: skip
    answered(b, "c1", "<sip:127.0.0.9;lr>")
    sent = within(b, "INFO")
    assert [m.first.split()[0] for m in sent] == ["INFO", "REFER", "BYE", "SIP/2.0"]
    info, refer, bye, _ = sent
    assert (info.get("X-A"), info.text.rpartition("\r\n\r\n")[2], info.get("CSeq"), info.get("Route"), info.to) == (
        "1", "hello", "3 INFO", "<sip:127.0.0.9;lr>", ("127.0.0.9", 5060))  # fmt: skip
    assert (refer.get("Refer-To"), refer.get("Referred-By"), refer.to[1]) == ("sip:c@x", "sip:controller@kamailio.org", 6000)
    assert bye.get("CSeq") == "4 BYE"


def test_bridging(bench) -> None:
    b = bench(ROUTE, head=CFG)
    b.rpc("dlg.bridge_dlg", "sip:a@127.0.0.1:6000", "sip:b@127.0.0.1:7000")
    (invite,) = b.take()
    assert invite.first == "INVITE sip:a@127.0.0.1:6000 SIP/2.0" and "m=audio 9 RTP/AVP 8 0" in invite.text
    b.reply(invite, "200 OK", "Contact: <sip:a@127.0.0.1:6001>", port=6000)
    ack, refer = b.take()
    assert (ack.first, ack.to[1]) == ("ACK sip:a@127.0.0.1:6001 SIP/2.0", 6001)
    assert (refer.first, refer.get("Refer-To"), refer.get("CSeq"), refer.get("To")) == (
        "REFER sip:a@127.0.0.1:6001 SIP/2.0", "sip:b@127.0.0.1:7000", "11 REFER", "<sip:a@127.0.0.1:6000>;tag=t1")  # fmt: skip
    b.reply(invite, "200 OK", "Contact: <sip:a@127.0.0.1:6001>", port=6000)
    assert [m.first for m in b.take()] == ["ACK sip:a@127.0.0.1:6001 SIP/2.0"]


def test_keepalive_ends_a_call_whose_party_is_gone(bench) -> None:
    b = bench('modparam("tm", "fr_timer", 2000)\nmodparam("dialog", "ka_timer", 1)\nmodparam("dialog", "ka_interval", 10)\n'
              + ROUTE.replace("dlg_manage();", 'dlg_manage(); dlg_set_property("ka-dst");'), head=CFG)  # fmt: skip
    answered(b)
    b.advance(11)
    (ask,) = [m for m in b.take() if m.first.startswith("OPTIONS")][:1]
    assert ask.get("CSeq") == "1 OPTIONS"
    b.reply(ask, "200 OK")
    b.advance(10)
    assert any(m.first.startswith("OPTIONS") for m in b.take())
    b.advance(4)
    assert [m.first.split()[0] for m in b.take() if m.first.startswith("BYE")][:2] == ["BYE", "BYE"]


@pytest.mark.parametrize(
    "params", ['"enable_dmq", 1', '"default_timeout", 0', '"dlg_match_mode", 3', '"profiles_no_value", "caller"']
)
def test_what_is_refused_at_start(bench, params: str) -> None:
    with pytest.raises(ConfigError, match="dialog: "):
        bench(f'modparam("dialog", {params})\n{ROUTE}', head=CFG)


@pytest.mark.parametrize(("text", "parsed"), [("80d.f4f1", (3336, 8015)), ("80d", None), ("x.y", None), ("", None)])
def test_did(text: str, parsed: tuple[int, int] | None) -> None:
    assert parse_did(text) == parsed
