"""Parameters of tm that change what a transaction does."""

from __future__ import annotations

import pytest

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
