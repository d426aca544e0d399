"""Parameters of tm that change what a transaction does."""

from __future__ import annotations

import os
import socket

import pytest

from kamc.errors import ConfigError
from tests.harness import Bench, Message


def invite(b: Bench, *lines: str, uri: str = "sip:bob@127.0.0.1:7000") -> Message:
    b.request("INVITE", uri, *lines, branch="z9hG4bKp")
    return next(m for m in b.take() if m.first.startswith("INVITE"))


def test_timers_out_of_variables(bench) -> None:
    b = bench('modparam("tm", "fr_timer_avp", "$avp(fr)")\nmodparam("tm", "fr_inv_timer_avp", "$avp(inv)")\n'
              'request_route { $avp(fr) = 2; $avp(inv) = "7"; t_relay(); }\n')  # fmt: skip
    b.request("MESSAGE")
    b.take()
    b.advance(2.1)
    assert "SIP/2.0 408 Request Timeout" in b.firsts()
    b.reply(invite(b), "180 Ringing")
    b.take()
    b.advance(6.9)
    assert not any(m.first.startswith("CANCEL") for m in b.take())
    b.advance(0.2)
    assert any(m.first.startswith("CANCEL") for m in b.take())


def test_extra_headers_of_hop_by_hop_requests(bench) -> None:
    b = bench('modparam("tm", "ac_extra_hdrs", "X-Keep")\nrequest_route { if (is_method("CANCEL")) { t_relay(); exit; } t_relay(); }\n')
    sent = invite(b, "X-Keep-This: 1", "x-keep: 2", "X-Other: 3")
    b.reply(sent, "180 Ringing")
    b.request("CANCEL", branch="z9hG4bKp")
    cancel = next(m for m in b.take() if m.first.startswith("CANCEL"))
    b.reply(sent, "487 Gone")
    ack = next(m for m in b.take() if m.first.startswith("ACK"))
    for message in (cancel, ack):
        assert (message.get("X-Keep-This"), message.all("x-keep"), message.get("X-Other")) == ("1", ["2"], None)


@pytest.mark.parametrize(("param", "other_call", "other_number"), [("callid_matching", False, True), ("callid_cseq_matching", False, False), ("", True, True)])
def test_matching_of_replies(bench, param: str, other_call: bool, other_number: bool) -> None:
    b = bench((f'modparam("tm", "{param}", 1)\n' if param else "") + "request_route { t_on_reply(\"R\"); t_relay(); }\nonreply_route[R] { xlog(\"R\\n\"); }\n")

    def matched(change: tuple[str, str]) -> bool:
        b.log.lines.clear()
        b.request("MESSAGE")
        message = b.take()[-1]
        b.reply(Message(message.text.replace(*change), message.to, message.at), "180 Ringing")
        return "R" in b.log.lines

    assert matched(("Call-ID: c1", "Call-ID: c2")) == other_call
    assert matched(("CSeq: 1 ", "CSeq: 2 ")) == other_number


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0, ["rc -7", "SIP/2.0 500 Failed", "SIP/2.0 500 I'm terribly sorry, server error occurred (7/TM)"]),
        (1, ["rc 1", "failure 408", "SIP/2.0 480 Later"]),
    ],
)
def test_what_cannot_be_sent(bench, mode: int, expected: list[str]) -> None:
    b = bench(f'modparam("tm", "failure_exec_mode", {mode})\n'
              'request_route { t_on_failure("F"); $du = "sip:127.0.0.1;transport=tcp"; '
              '$var(r) = t_relay(); xlog("rc $var(r)\\n"); '
              'if ($var(r) < 0) sl_send_reply("500", "Failed"); }\nfailure_route[F] { xlog("failure $T_reply_code\\n"); t_reply("480", "Later"); }\n')  # fmt: skip
    b.request("MESSAGE")
    b.advance(0.1)
    assert [line for line in b.log.lines if line.startswith(("rc ", "failure "))] + b.firsts() == expected
    b.advance(40)
    assert (b.transactions, len(b.worker.timers)) == (0, 0)


@pytest.mark.parametrize(("mode", "to"), [(0, 7009), (1, 7000), (2, 7005)])
def test_where_the_ack_of_an_own_invite_goes(bench, mode: int, to: int) -> None:
    b = bench(f'modparam("tm", "local_ack_mode", {mode})\nrequest_route {{ exit; }}\n')
    b.rpc("tm.t_uac_start", "INVITE", "sip:c@127.0.0.1:7000", ".", ".", "From: <sip:a@b>;tag=q\r\nTo: <sip:c@d>\r\n")
    (sent,) = b.take()
    b.reply(sent, "200 OK", "Contact: <sip:c@127.0.0.1:7009>", port=7005)
    (ack,) = b.take()
    assert (ack.first, ack.to[1]) == ("ACK sip:c@127.0.0.1:7009 SIP/2.0", to)


# -- processes outside, attributes of contacts, statistics -------------------------------------------------------------------

PICTURE = """0.3
sip_request.{action}
MESSAGE
w
h
127.0.0.1
5060
sip:w@h
sip:me@1.1.1.1:5;x=1
X <sip:x@a>
<sip:t@t>
c6
ft

77
{ident}
<sip:rr;lr>,<sip:rr;lr>,<sip:rr2;lr>
sip:rr;lr
P-MsgFlags: 08
"""
HANDED = ("MESSAGE sip:w@h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKw\r\nFrom: X <sip:x@a>;tag=ft\r\nTo: <sip:t@t>\r\nCall-ID: c6\r\n"
          "CSeq: 77 MESSAGE\r\nUser-Agent: me\r\nX-A: 1\r\n"
          "Contact: <sip:me@1.1.1.1:5;x=1>\r\nRecord-Route: <sip:rr;lr>, <sip:rr2;lr>\r\nContent-Length: 5\r\n\r\nhello")  # fmt: skip


def test_a_request_is_handed_to_a_process_outside(bench, tmp_path) -> None:
    path = tmp_path / "peer"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(path))
        peer.settimeout(2)
        b = bench('modparam("tm", "tw_append", "more:hdr[X-A];ua=hdr[User-Agent];no=hdr[Nope];av=avp[a];msg[body]")\n'
                  f'request_route {{ $avp(a) = "val"; t_newtran(); if (!t_write_unix("{path}", "info/more")) t_reply("500", "no"); }}')  # fmt: skip
        b.recv(HANDED)
        (t,) = b.worker.engine.transactions()
        found = peer.recv(65536).decode()
    assert found == PICTURE.format(action="info", ident=f"{t.hash_index}:{t.label}") + "X-A: 1\nua: me\nav: val\n.\nhello\n"
    assert b.take() == []
    b.rpc("tm.reply", 202, "Got it", f"{t.hash_index}:{t.label}", "abc", "", "")
    assert b.firsts() == ["SIP/2.0 202 Got it"]


def test_a_process_outside_that_stays_silent(bench, tmp_path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        b = bench(f'request_route {{ t_newtran(); t_write_req("{path}", "info"); }}')
        b.recv(HANDED)
        (t,) = b.worker.engine.transactions()
        assert os.read(reader, 65536).decode() == PICTURE.format(action="info", ident=f"{t.hash_index}:{t.label}") + ".\n.\n"
        b.advance(31)
        assert b.firsts() == ["SIP/2.0 408 Request Timeout"]
    finally:
        os.close(reader)


@pytest.mark.parametrize("call", ['t_write_unix("/nowhere/socket", "info")', 't_write_req("/nowhere/fifo", "info")'])
def test_a_process_outside_that_is_not_there(bench, call: str) -> None:
    b = bench(f'request_route {{ t_newtran(); if (!{call}) t_reply("500", "rc $rc"); }}')
    b.recv(HANDED)
    assert b.firsts() == ["SIP/2.0 500 rc -1"]


@pytest.mark.parametrize("text", ["x", "x:", "x:hdr", "x:hdr[]", "x:avp[a]", "x:msg[uri]", "x:$ua", ":hdr[A]"])
def test_an_append_that_cannot_be_read(bench, text: str) -> None:
    with pytest.raises((ConfigError, ValueError)):
        bench(f'modparam("tm", "tw_append", "{text}")\nrequest_route {{ exit; }}')


def test_the_attributes_of_contacts_go_along_with_their_group(bench) -> None:
    b = bench("""loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "xavp_contact", "ul")
modparam("tm", "xavp_contact", "ul")
request_route {
    if ($rm == "REGISTER") { $xavp(ul=>t) = $hdr(X-T); save("location"); exit; }
    lookup("location"); $var(a) = $xavp(ul[0]=>t) + $xavp(ul[1]=>t) + $xavp(ul[2]=>t);
    t_load_contacts(); t_next_contacts(); $var(b) = $ru + $xavp(ul[0]=>t) + $xavp(ul[1]=>t);
    t_next_contacts(); $var(c) = $ru + $xavp(ul[0]=>t) + $xavp(ul[1]=>t); sl_send_reply("200", "$var(a) $var(b) $var(c)");
}""")
    for number, name in enumerate(("one;q=0.5", "two;q=0.3", "three"), 1):
        b.request("REGISTER", "sip:h", f"Contact: <sip:{number}@h>{name[3:] if ';' in name else ''}", f"X-T: {name.partition(';')[0]}", cseq=number)
    b.take()
    b.request("MESSAGE", "sip:bob@h")
    assert b.firsts()[-1] == "SIP/2.0 200 onetwothree sip:1@hone sip:2@htwoone"


def test_statistics_of_transactions(bench) -> None:
    b = bench('request_route { if ($rU == "no") { t_newtran(); t_reply("404", "No"); exit; } $du = "sip:127.0.0.1:7000"; t_relay(); }')
    b.request("MESSAGE", "sip:no@h")
    b.request("MESSAGE", "sip:yes@h")
    b.reply(b.take()[-1], "200 OK")
    b.request("MESSAGE", "sip:wait@h")
    stats = {k.partition(":")[2]: int(v) for k, _, v in (line.partition(" = ") for line in b.rpc("stats.get_statistics", "tmx:"))}
    assert stats == {"UAS_transactions": 3, "UAC_transactions": 0, "inuse_transactions": 3, "active_transactions": 1, "rpl_received": 1, "rpl_absorbed": 0,
                     "rpl_generated": 1, "rpl_relayed": 1, "rpl_sent": 2, "2xx_transactions": 1, "3xx_transactions": 0, "4xx_transactions": 1,
                     "5xx_transactions": 0, "6xx_transactions": 0}  # fmt: skip
    assert b.rpc("tm.stats")["waiting"] == 2
    b.advance(40)
    assert [b.rpc("tm.stats")[k] for k in ("current", "waiting")] == [0, 0]


@pytest.mark.parametrize(("mode", "expected"), [(0, ["SIP/2.0 478 Unresolvable destination (478/TM)"]), (1, ["SIP/2.0 500 mine"])])
def test_when_an_error_of_relaying_is_answered(bench, mode: int, expected: list[str]) -> None:
    b = bench(f'modparam("tm", "delayed_reply", {mode})\nrequest_route {{ $du = "sip:nowhere.invalid"; if (!t_relay()) t_reply("500", "mine"); }}')
    b.request("MESSAGE", "sip:bob@nowhere.invalid")
    assert b.firsts() == expected


@pytest.mark.parametrize(("allowed", "expected"), [(0, False), (1, True)])
def test_failure_routes_of_own_requests(bench, allowed: int, expected: bool) -> None:
    b = bench(f'modparam("tm", "enable_uac_fr", {allowed})\nrequest_route {{ exit; }}\nevent_route[tm:local-request] {{ t_on_failure("F"); }}\n'
              'failure_route[F] { xlog("L_NOTICE", "failed with $T_reply_code\\n"); }')  # fmt: skip
    b.rpc("tm.t_uac_start", "OPTIONS", "sip:x@127.0.0.1:7000", "", "", "From: <sip:a@b>\r\nTo: <sip:x@y>\r\n", "")
    b.reply(b.take()[-1], "404 Not Found")
    assert any("failed with 404" in line for line in b.log.lines) == expected


@pytest.mark.parametrize(("name", "value"), [("e2e_cancel_hop_by_hop", 0), ("headers_mode", 1), ("evlreq_mode", 1)])
def test_modes_that_are_not_there(bench, name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name} {value} is not implemented"):
        bench(f'modparam("tm", "{name}", {value})\nrequest_route {{ exit; }}')


@pytest.mark.parametrize(
    ("script", "answers"),
    [
        ("if (!t_relay()) { sl_reply_error(); }", ["478 Unresolvable destination (478/SL)", "478 Unresolvable destination (478/TM)"]),
        ("t_relay(); sl_reply_error();", ["478 Unresolvable destination (478/SL)", "478 Unresolvable destination (478/TM)"]),
        ('if (!t_relay()) { append_to_reply("X: y\\r\\n"); sl_reply_error(); }',
         ["500 I'm terribly sorry, server error occurred (1/SL)", "478 Unresolvable destination (478/TM)"]),
        ("if (!t_relay()) { if ($rU != $null) { sl_reply_error(); } }",
         ["500 I'm terribly sorry, server error occurred (1/SL)", "478 Unresolvable destination (478/TM)"]),
        ("sl_reply_error();", ["500 I'm terribly sorry, server error occurred (1/SL)"]),
    ],
)  # fmt: skip
def test_an_error_is_known_to_the_next_call_alone(bench, script: str, answers: list[str]) -> None:
    b = bench(f'request_route {{ $du = "harmless"; {script} }}\n')
    b.request("MESSAGE")
    assert [line.removeprefix("SIP/2.0 ") for line in b.firsts()] == answers
