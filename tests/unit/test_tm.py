"""The transaction layer in virtual time: every timer, forking, CANCEL, reply choice, hooks."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from kamc.runtime.tm.timers import TimerTable
from tests.harness import Bench

RELAY = 'request_route { if (is_method("CANCEL|ACK")) { t_relay(); exit; } t_relay(); }\n'
TWO = ('request_route { if (is_method("CANCEL|ACK")) { t_relay(); exit; } $ru = "sip:b@127.0.0.1:7001"; append_branch("sip:c@127.0.0.1:7002"); '
       't_on_failure("F"); t_relay(); }\n')  # fmt: skip


def test_invite_is_relayed_with_our_via_and_a_100(bench: Callable[..., Bench]) -> None:
    b = bench(RELAY)
    b.request()
    trying, invite = b.take()
    assert trying.first == "SIP/2.0 100 trying -- your call is important to us"
    assert invite.first == "INVITE sip:bob@127.0.0.1:7000 SIP/2.0" and invite.to == ("127.0.0.1", 7000)
    assert len(invite.all("Via")) == 2 and invite.all("Via")[0].endswith(".0")


def test_timer_a_doubles_and_stops_at_t2_and_timer_b_answers_408(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("tm", "fr_timer", 10000)\n' + RELAY)
    b.request()
    b.take()
    b.advance(20)
    sent = b.take()
    invites = [m.at - 1000 for m in sent if m.first.startswith("INVITE")]
    assert invites == [0.5, 1.5, 3.5, 7.5]
    final = [m for m in sent if "408" in m.first]
    assert final and final[0].at - 1000 == 10


def test_timer_e_and_f_for_other_requests(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("tm", "fr_timer", 5000)\n' + RELAY)
    b.request("MESSAGE")
    (message,) = b.take()
    b.advance(0.6)
    b.reply(message, "100 Trying")
    b.advance(9)
    sent = b.take()
    assert [round(m.at - 1000, 3) for m in sent if m.first.startswith("MESSAGE")] == [0.5, 4.6]
    assert [m.first for m in sent if m.first.startswith("SIP")] == ["SIP/2.0 408 Request Timeout"]


def test_provisional_reply_stops_retransmission_and_starts_fr_inv(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("tm", "fr_timer", 3000)\nmodparam("tm", "fr_inv_timer", 20000)\n' + RELAY)
    b.request()
    invite = b.take()[1]
    b.reply(invite, "180 Ringing")
    assert b.firsts() == ["SIP/2.0 180 Ringing"]
    b.advance(19)
    assert b.firsts() == []
    b.advance(2)
    sent = b.firsts()
    assert sent[0].startswith("CANCEL") and "SIP/2.0 408 Request Timeout" in sent


def test_2xx_goes_up_and_its_repetition_too(bench: Callable[..., Bench]) -> None:
    b = bench(RELAY)
    b.request()
    invite = b.take()[1]
    b.reply(invite, "200 OK")
    b.reply(invite, "200 OK")
    assert b.firsts() == ["SIP/2.0 200 OK", "SIP/2.0 200 OK"]
    b.advance(6)
    assert b.transactions == 0


def test_negative_reply_is_acked_and_repeated_until_our_ack(bench: Callable[..., Bench]) -> None:
    b = bench(RELAY)
    b.request(branch="z9hG4bKone")
    invite = b.take()[1]
    b.reply(invite, "486 Busy")
    ack, busy = b.take()
    assert ack.first.startswith("ACK") and ack.all("Via") == [invite.all("Via")[0]] and "tag=t1" in (ack.get("To") or "")
    assert busy.first == "SIP/2.0 486 Busy"
    b.advance(2)
    assert [m.at - 1000 for m in b.take()] == [0.5, 1.5]
    b.request("ACK", branch="z9hG4bKone", to_tag="t1")
    b.advance(3.4)
    assert b.take() == []


def test_retransmitted_invite_repeats_the_last_reply(bench: Callable[..., Bench]) -> None:
    b = bench(RELAY)
    text = b.request()
    invite = b.take()[1]
    b.reply(invite, "180 Ringing")
    b.take()
    b.recv(text)
    assert b.firsts() == ["SIP/2.0 180 Ringing"]


def test_cancel_waits_for_a_provisional_reply(bench: Callable[..., Bench]) -> None:
    b = bench(RELAY)
    b.request(branch="z9hG4bKone")
    invite = b.take()[1]
    b.request("CANCEL", branch="z9hG4bKone")
    assert b.firsts() == ["SIP/2.0 200 canceling"]
    b.reply(invite, "180 Ringing")
    sent = b.take()
    cancel = next(m for m in sent if m.first.startswith("CANCEL"))
    assert cancel.all("Via") == [invite.all("Via")[0]] and cancel.get("CSeq") == "1 CANCEL"
    b.reply(cancel, "200 OK")
    b.reply(invite, "487 Request Terminated")
    assert [f for f in b.firsts() if f.startswith("SIP")] == ["SIP/2.0 487 Request Terminated"]


def test_cancel_is_repeated_until_answered(bench: Callable[..., Bench]) -> None:
    b = bench(RELAY)
    b.request(branch="z9hG4bKone")
    invite = b.take()[1]
    b.reply(invite, "180 Ringing")
    b.request("CANCEL", branch="z9hG4bKone")
    b.take()
    b.advance(1.6)
    assert [m.at - 1000 for m in b.take() if m.first.startswith("CANCEL")] == [0.5, 1.5]


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [(503, 404, 404), (486, 302, 302), (486, 480, 480), (408, 487, 408), (404, 401, 401), (480, 407, 407), (503, 503, 500), (486, 603, 603), (500, 503, 500)],
)
def test_choice_of_the_best_reply(bench: Callable[..., Bench], first: int, second: int, chosen: int) -> None:
    b = bench(TWO + "failure_route[F] { }\n".replace("{ }", "{ ; }"))
    b.request()
    _, one, two = b.take()
    b.reply(one, f"{first} A", port=7001)
    b.reply(two, f"{second} B", port=7002)
    finals = [f for f in b.firsts() if f.startswith("SIP")]
    assert [int(f.split()[1]) for f in finals] == [chosen]


def test_6xx_cancels_the_others(bench: Callable[..., Bench]) -> None:
    b = bench(TWO + "failure_route[F] { ; }\n")
    b.request()
    _, one, two = b.take()
    b.reply(one, "180 Ringing", port=7001)
    b.reply(two, "603 Decline", port=7002)
    assert any(m.first.startswith("CANCEL") and m.to[1] == 7001 for m in b.take())


def test_winning_2xx_cancels_the_others(bench: Callable[..., Bench]) -> None:
    b = bench(TWO + "failure_route[F] { ; }\n")
    b.request()
    _, one, two = b.take()
    b.reply(one, "180 Ringing", port=7001)
    b.reply(two, "200 OK", port=7002)
    sent = b.take()
    assert [m.first for m in sent if m.first.startswith("SIP")] == ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]
    assert [m.to[1] for m in sent if m.first.startswith("CANCEL")] == [7001]


def test_challenges_are_aggregated(bench: Callable[..., Bench]) -> None:
    b = bench(TWO + "failure_route[F] { ; }\n")
    b.request()
    _, one, two = b.take()
    b.reply(one, "407 Auth", 'Proxy-Authenticate: Digest realm="a", nonce="1"', port=7001)
    b.reply(two, "407 Auth", 'Proxy-Authenticate: Digest realm="b", nonce="2"', port=7002)
    final = next(m for m in b.take() if m.first.startswith("SIP/2.0 407"))
    assert len(final.all("Proxy-Authenticate")) == 2


def test_failure_route_forks_serially(bench: Callable[..., Bench]) -> None:
    b = bench(
        'request_route { if (is_method("ACK")) { t_relay(); exit; } t_on_failure("NEXT"); t_relay(); }\n'
        'failure_route[NEXT] { xlog("L_ERR", "failed $T_reply_code $ru\\n"); $ru = "sip:next@127.0.0.1:7003"; t_relay(); }\n'
    )
    b.request()
    invite = b.take()[1]
    b.reply(invite, "486 Busy")
    sent = b.take()
    assert [m.first for m in sent if m.to[1] == 7003] == ["INVITE sip:next@127.0.0.1:7003 SIP/2.0"]
    assert "failed 486 sip:bob@127.0.0.1:7000" in b.log.lines
    second = next(m for m in sent if m.to[1] == 7003)
    assert second.all("Via")[0].endswith(".1")
    b.reply(second, "200 OK", port=7003)
    assert b.firsts() == ["SIP/2.0 200 OK"]


def test_failure_route_may_reply(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { t_on_failure("F"); t_relay(); }\nfailure_route[F] { t_reply("480", "Later"); }\n')
    b.request()
    invite = b.take()[1]
    b.reply(invite, "486 Busy")
    assert [f for f in b.firsts() if f.startswith("SIP")] == ["SIP/2.0 480 Later"]


def test_branch_route_changes_its_branch_only(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { t_on_branch("B"); $ru = "sip:b@127.0.0.1:7001"; append_branch("sip:c@127.0.0.1:7002"); t_relay(); }\n'
              'branch_route[B] { append_hf("X-Branch: $T_branch_idx\\r\\n"); if ($T_branch_idx == 1) { $rU = "changed"; } }\n')  # fmt: skip
    b.request()
    _, one, two = b.take()
    assert (one.get("X-Branch"), two.get("X-Branch")) == ("0", "1")
    assert one.first.startswith("INVITE sip:b@") and two.first.startswith("INVITE sip:changed@")


def test_drop_in_onsend_route_keeps_a_branch_off_the_wire(bench: Callable[..., Bench]) -> None:
    b = bench(RELAY + "onsend_route { if (snd_port == 5060 && to_port == 7000) drop; }\n")
    b.request("MESSAGE")
    assert not [m for m in b.take() if m.to[1] == 7000]


def test_reply_route_edits_and_drops(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { t_on_reply("R"); t_relay(); }\nonreply_route[R] { if (status == "183") drop; append_hf("X-Seen: $rs\\r\\n"); }\n')
    b.request()
    invite = b.take()[1]
    b.reply(invite, "183 Progress")
    assert b.take() == []
    b.reply(invite, "180 Ringing")
    assert [m.get("X-Seen") for m in b.take()] == ["180"]


def test_exception_in_a_route_answers_500_and_names_the_line(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench('request_route {\n if ($rU == "bad") {\n  maxfwd_at_least("5");\n }\n sl_send_reply("200", "OK");\n}\n')
    rt = b.worker.rt
    assert rt is not None

    def broken(ctx: object, value: int) -> int:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(rt.modules["maxfwd"], "maxfwd_at_least", broken, raising=False)
    b.request("OPTIONS", "sip:bad@127.0.0.1")
    assert b.firsts() == ["SIP/2.0 500 Server Internal Error"]
    line = next(text for text in b.log.lines if "disk on fire" in text)
    assert "kamailio.cfg:16" in line and "call-id c1" in line
    b.request("OPTIONS", "sip:good@127.0.0.1", call_id="c2")
    assert b.firsts() == ["SIP/2.0 200 OK"]


def test_garbage_is_counted_and_dropped(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { sl_send_reply("200", "OK"); }\n')
    for text in ("\x00" * 100, "GARBAGE " * 50, "INVITE\r\n\r\n      ", "SIP/2.0 200 OK\r\n\r\n  "):
        b.recv(text)
    assert b.take() == []
    assert (b.worker.counters.get("core", "bad_msg_hdr") or 0) >= 3
    b.request("OPTIONS")
    assert b.firsts() == ["SIP/2.0 200 OK"]


def test_ack_for_a_stateless_reply_is_absorbed(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { xlog("L_ERR", "script $rm\\n"); sl_send_reply("404", "No"); }\n')
    b.request(branch="z9hG4bKone")
    (reply,) = b.take()
    tag = (reply.get("To") or "").partition(";tag=")[2]
    b.request("ACK", branch="z9hG4bKone", to_tag=tag)
    assert b.log.lines.count("script ACK") == 0
    b.request("ACK", branch="z9hG4bKtwo", to_tag="other")
    assert b.log.lines.count("script ACK") == 1


def test_every_transaction_is_freed(bench: Callable[..., Bench]) -> None:
    b = bench(TWO + "failure_route[F] { ; }\n")
    for number in range(20):
        b.request(call_id=f"c{number}")
        sent = [m for m in b.take() if m.first.startswith("INVITE")]
        if number % 2:
            b.reply(sent[0], "200 OK", port=7001)
    b.advance(400)
    assert b.transactions == 0
    rt = b.worker.rt
    assert rt is not None and rt.pins == 0
    assert len(b.worker.timers) == 0


def test_timer_table_forgets_disarmed_timers() -> None:
    table = TimerTable()
    fired: list[float] = []
    kept = table.arm(5.0, fired.append)
    for number in range(5000):
        table.disarm(table.arm(float(number), fired.append))
    assert len(table) == 1 and len(table._heap) < 2500
    assert table.next_deadline() == 5.0
    assert table.expire(5.0) == 1 and fired == [5.0] and kept.callback is None


SERIAL = """
request_route { t_on_failure("NEXT"); t_relay(); }
failure_route[NEXT] {
	xlog("L_ERR", "failed $T_reply_code\\n");
	if ($avp(round) == $null) { $avp(round) = 1; $ru = "sip:next@127.0.0.1:7003"; t_relay(); }
}
"""


def test_a_last_503_goes_on_as_a_500_of_our_own(bench: Callable[..., Bench]) -> None:
    b = bench(SERIAL)
    b.request()
    b.reply(b.take()[1], "404 Not Found")
    second = next(m for m in b.take() if m.to[1] == 7003)
    b.reply(second, "503 Service Unavailable", port=7003)
    last = next(m for m in b.take() if m.first.startswith("SIP"))
    assert last.first == "SIP/2.0 500 Service Unavailable"
    assert "failed 404" in b.log.lines
    assert "failed 503" not in b.log.lines


def test_with_failure_reply_mode_0_all_rounds_count(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("tm", "failure_reply_mode", 0)\n' + SERIAL)
    b.request()
    b.reply(b.take()[1], "404 Not Found")
    second = next(m for m in b.take() if m.to[1] == 7003)
    b.reply(second, "503 Service Unavailable", port=7003)
    assert [f for f in b.firsts() if f.startswith("SIP")] == ["SIP/2.0 404 Not Found"]
    assert b.log.lines.count("failed 404") == 2


def test_a_failure_route_that_always_forks_ends_at_max_branches(bench: Callable[..., Bench]) -> None:
    b = bench('max_branches=4\nrequest_route { t_on_failure("AGAIN"); t_relay(); }\n'
              'failure_route[AGAIN] { t_on_failure("AGAIN"); append_branch("sip:again@127.0.0.1:7000"); t_relay(); }\n')  # fmt: skip
    b.request()
    rounds = 0
    while invites := [m for m in b.take() if m.first.startswith("INVITE")]:
        rounds += 1
        b.reply(invites[-1], "486 Busy")
    assert rounds == 4


def test_send_failure_is_answered_477(bench: Callable[..., Bench]) -> None:
    b = bench("request_route { if (!t_relay()) exit; }\n")
    sender = b.worker.datapath.senders[b.listener]

    def broken(data: bytes, address: tuple[str, int]) -> None:
        if data.startswith(b"INVITE"):
            raise OSError(113, "No route to host")
        sender(data, address)

    b.worker.datapath.senders[b.listener] = broken
    b.request()
    assert [f for f in b.firsts() if not f.startswith("SIP/2.0 100")] == ["SIP/2.0 477 Unfortunately error on sending to next hop occurred (477/TM)"]


@pytest.mark.parametrize(
    "route",
    [
        'request_route { if (is_method("ACK")) { t_check_trans(); exit; } record_route(); t_relay(); }\n',
        'request_route { if (is_method("ACK")) { t_check_trans(); exit; } t_on_reply("R"); t_on_failure("F"); t_on_branch("B"); '
        'append_branch("sip:c@127.0.0.1:7001"); t_relay(); }\n'
        "onreply_route[R] { $avp(x) = $rs; }\nfailure_route[F] { if (t_branch_timeout()) t_reply(\"480\", \"Gone\"); }\nbranch_route[B] { $avp(y) = $ru; }\n",
        'request_route { if (is_method("ACK")) { t_check_trans(); exit; } t_newtran(); t_reply("486", "No"); }\n',
    ],
)
def test_a_transaction_leaves_nothing_for_the_garbage_collector(bench: Callable[..., Bench], route: str) -> None:
    b = bench(route)

    def traffic(first: int, last: int) -> None:
        for n in range(first, last):
            method = "INVITE" if n % 2 else "MESSAGE"
            text = b.request(method, branch=f"z9hG4bKg{n}", call_id=f"c{n}")
            sent = [m for m in b.take() if m.first.startswith(method)]
            for m in sent if n % 3 else ():
                b.reply(m, "486 Busy Here" if n % 4 else "200 OK")
            if n % 5 == 0 and method == "INVITE":
                b.recv(text.replace("INVITE", "CANCEL"))
            if method == "INVITE":
                b.recv(text.replace("INVITE", "ACK"))
        b.advance(400)
        b.take()

    traffic(0, 20)
    gc.collect()
    gc.disable()
    try:
        traffic(20, 80)
        assert (b.transactions, len(b.worker.timers)) == (0, 0)
        assert gc.collect() < 60
    finally:
        gc.enable()
