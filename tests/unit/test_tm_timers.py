"""One test per timer of RFC 3261 section 17 and 16.8 and RFC 6026, by its name, in virtual time.

Kamailio's parameters stand behind them: retr_timer1 is T1 (500 ms), retr_timer2 T2 (4 s), fr_timer (30 s) B, F and H, fr_inv_timer (120 s) C,
wt_timer (5 s) D, I, J, K, L and M.
"""

from __future__ import annotations

import pytest

from tests.harness import Bench, Message

RELAY = 'request_route { if (is_method("ACK") && !has_totag()) { t_check_trans(); exit; } t_relay(); }\n'
LOCAL = 'request_route { if (is_method("ACK")) { t_check_trans(); xlog("ACK seen\\n"); exit; } t_newtran(); t_reply("$rU", "Local"); }\n'


@pytest.fixture
def relay(bench) -> Bench:
    return bench(RELAY)


def times(b: Bench, seconds: float, start: str, since: float) -> list[float]:
    """When messages with that first line left, within some seconds from now on, counted from ``since``."""
    b.advance(seconds)
    return [round(m.at - since, 3) for m in b.take() if m.first.startswith(start)]


def invite(b: Bench, **options) -> Message:
    b.request("INVITE", **options)
    return next(m for m in b.take() if m.first.startswith("INVITE"))


def test_timer_a_repeats_an_invite_at_doubling_intervals(relay: Bench) -> None:
    sent = invite(relay)
    assert times(relay, 16, "INVITE", sent.at) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5]  # capped at T2, as Kamailio does


def test_timer_a_ends_with_a_provisional_reply(relay: Bench) -> None:
    sent = invite(relay)
    relay.reply(sent, "100 Trying")
    assert times(relay, 20, "INVITE", sent.at) == []


def test_timer_b_gives_up_an_invite_that_nobody_answers(relay: Bench) -> None:
    sent = invite(relay)
    assert times(relay, 40, "SIP/2.0 408", sent.at)[:1] == [30.0]


def test_timer_c_ends_a_call_that_only_rings(relay: Bench) -> None:
    sent = invite(relay)
    relay.reply(sent, "180 Ringing")
    relay.take()
    relay.advance(125)
    out = relay.take()
    assert [round(m.at - sent.at) for m in out if m.first.startswith("CANCEL")][:1] == [120]
    assert any(m.first.startswith("SIP/2.0 408") for m in out)


def test_timer_c_begins_anew_with_each_provisional_reply(relay: Bench) -> None:
    sent = invite(relay)
    relay.reply(sent, "180 Ringing")
    relay.advance(100)
    relay.reply(sent, "180 Ringing")
    relay.take()
    assert times(relay, 75, "CANCEL", sent.at) == []
    # max_inv_lifetime bounds it all
    assert times(relay, 10, "CANCEL", sent.at)[0] == 180.0


def test_timer_d_acknowledges_repeated_negative_replies_until_it_ends(relay: Bench) -> None:
    sent = invite(relay)
    relay.reply(sent, "486 Busy Here")
    relay.take()
    relay.advance(4)
    relay.take()
    relay.reply(sent, "486 Busy Here")
    assert [m.first.split()[0] for m in relay.take()] == ["ACK"]
    relay.advance(2)
    assert relay.transactions == 0


def test_timer_e_repeats_other_requests_up_to_t2(relay: Bench) -> None:
    relay.request("MESSAGE")
    (sent,) = relay.take()
    assert times(relay, 16, "MESSAGE", sent.at) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5]


def test_timer_e_goes_on_at_t2_after_a_provisional_reply(relay: Bench) -> None:
    relay.request("MESSAGE")
    (sent,) = relay.take()
    relay.reply(sent, "100 Trying")
    assert times(relay, 13, "MESSAGE", sent.at) == [4.0, 8.0, 12.0]


def test_timer_f_gives_up_other_requests(relay: Bench) -> None:
    relay.request("MESSAGE")
    (sent,) = relay.take()
    assert times(relay, 40, "SIP/2.0 408", sent.at) == [30.0]


def test_timer_g_repeats_a_negative_reply_to_an_invite(bench) -> None:
    b = bench(LOCAL)
    b.request("INVITE", "sip:486@127.0.0.1")
    (reply,) = b.take()
    assert times(b, 4.9, "SIP/2.0 486", reply.at) == [0.5, 1.5, 3.5]


def test_timer_h_ends_a_reply_that_nobody_acknowledges(bench) -> None:
    b = bench(LOCAL)
    b.request("INVITE", "sip:486@127.0.0.1")
    b.advance(5.5)
    b.take()
    assert (times(b, 60, "SIP/2.0 486", b.time), b.transactions) == ([], 0)


def test_timer_i_absorbs_repeated_acks(bench) -> None:
    b = bench(LOCAL)
    text = b.request("INVITE", "sip:486@127.0.0.1")
    for _ in range(3):
        b.recv(text.replace("INVITE", "ACK"))
        b.advance(1)
    b.take()
    assert times(b, 1, "SIP/2.0 486", b.time) == []
    assert not any("ACK seen" in line for line in b.log.lines)
    b.advance(3)
    assert b.transactions == 0


def test_timer_j_answers_repeated_requests_until_it_ends(bench) -> None:
    b = bench('request_route { xlog("script\\n"); t_newtran(); t_reply("200", "Once"); }\n')
    text = b.request("MESSAGE")
    b.advance(4)
    b.recv(text)
    assert b.firsts() == ["SIP/2.0 200 Once"] * 2
    b.advance(2)
    assert b.transactions == 0
    b.recv(text)
    assert (b.firsts(), sum("script" in line for line in b.log.lines)) == (["SIP/2.0 200 Once"], 3)


def test_timer_k_absorbs_repeated_replies(relay: Bench) -> None:
    relay.request("MESSAGE")
    (sent,) = relay.take()
    relay.reply(sent, "200 OK")
    assert relay.firsts() == ["SIP/2.0 200 OK"]
    relay.advance(4)
    relay.reply(sent, "200 OK")
    assert relay.firsts() == []
    relay.advance(2)
    assert relay.transactions == 0


def test_timer_l_absorbs_a_repeated_invite_after_a_2xx(relay: Bench) -> None:
    relay.request("INVITE", branch="z9hG4bKl")
    sent = next(m for m in relay.take() if m.first.startswith("INVITE"))
    relay.reply(sent, "200 OK")
    relay.take()
    relay.request("INVITE", branch="z9hG4bKl")
    assert relay.firsts() == ["SIP/2.0 200 OK"]
    relay.advance(6)
    assert relay.transactions == 0


def test_timer_m_passes_repeated_2xx_on(relay: Bench) -> None:
    sent = invite(relay)
    for _ in range(3):
        relay.reply(sent, "200 OK")
        relay.advance(1)
    assert relay.firsts() == ["SIP/2.0 200 OK"] * 3
    relay.advance(6)
    assert (relay.transactions, len(relay.worker.timers)) == (0, 0)
