"""Functions that wait: the run is set aside, the worker goes on, and everything is as it was when it comes back."""

from __future__ import annotations

from tests.harness import HEAD, Bench

CFG = HEAD + 'loadmodule "cfgutils.so"\n'


def test_a_pause_holds_up_nobody(bench) -> None:
    b: Bench = bench('request_route { if ($rm == "MESSAGE") { route(SLOW); } sl_send_reply("200", "$rm $var(x)"); }\n'
                     'route[SLOW] { $var(x) = "mine"; sleep("2"); xlog("back\\n"); return 1; }\n', head=CFG)  # fmt: skip
    b.request("MESSAGE")
    assert b.firsts() == []
    b.request("OPTIONS")
    assert b.firsts() == ["SIP/2.0 200 OPTIONS mine"]
    b.advance(1.9)
    assert b.firsts() == []
    b.advance(0.2)
    assert b.firsts() == ["SIP/2.0 200 MESSAGE mine"]


def test_variables_come_back_with_their_run(bench) -> None:
    b: Bench = bench('request_route { $var(x) = $rm; if ($rm == "MESSAGE") usleep("500000"); sl_send_reply("200", "$var(x)"); }\n', head=CFG)
    b.request("MESSAGE")
    b.request("OPTIONS")
    b.advance(1)
    assert b.firsts() == ["SIP/2.0 200 OPTIONS", "SIP/2.0 200 MESSAGE"]


def test_pauses_in_loops_and_at_every_depth(bench) -> None:
    b: Bench = bench('request_route { $var(i) = 0; while ($var(i) < 3) { $var(i) = $var(i) + 1; route(A); } sl_send_reply("200", "$var(i)"); }\n'
                     "route[A] { usleep(100000); return; }\n", head=CFG)  # fmt: skip
    for n in range(5):
        b.request("OPTIONS", branch=f"z9hG4bKn{n}")
    assert b.take() == []
    b.advance(0.25)
    assert b.take() == []
    b.advance(0.1)
    assert b.firsts() == ["SIP/2.0 200 3"] * 5
    assert b.worker.waits.job is None
    assert len(b.worker.timers) == 0


def test_replies_wait_for_a_reply_route_that_waits(bench) -> None:
    b: Bench = bench('request_route { t_on_reply("R"); t_relay(); }\nonreply_route[R] { if ($rs == 180) sleep("1"); xlog("reply $rs\\n"); }\n', head=CFG)
    b.request()
    sent = b.take()[-1]
    b.reply(sent, "180 Ringing")
    b.reply(sent, "200 OK")
    assert b.take() == []
    b.advance(1)
    assert b.firsts() == ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]


def test_a_timer_of_a_transaction_waits_for_its_failure_route(bench) -> None:
    b: Bench = bench('modparam("tm", "fr_timer", 1000)\nrequest_route { t_on_failure("F"); t_relay(); }\n'
                     'failure_route[F] { sleep("3"); t_reply("486", "Later"); }\n', head=CFG)  # fmt: skip
    b.request("MESSAGE")
    b.take()
    b.advance(1.5)
    assert all(m.first.startswith("MESSAGE") for m in b.take())
    b.advance(3)
    assert b.firsts() == ["SIP/2.0 486 Later"]
    b.advance(10)
    assert b.transactions == 0


def test_an_error_after_a_pause_is_logged_and_the_greenlet_serves_on(bench) -> None:
    b: Bench = bench('request_route { if ($rm == "MESSAGE") { sleep("1"); } sl_send_reply("200", "$rm"); }\n', head=CFG)
    sl = b.worker.rt.module("sl")
    whole = b.worker.datapath.local_reply_text
    b.worker.datapath.local_reply_text = lambda ctx, *rest: 1 / 0 if ctx.msg.method == "MESSAGE" else whole(ctx, *rest)
    b.request("MESSAGE")
    b.advance(1)
    assert any("ZeroDivisionError" in line for line in b.log.lines)
    b.request("OPTIONS")
    assert b.firsts() == ["SIP/2.0 200 OPTIONS"]
    assert sl is b.worker.rt.module("sl")


def test_locks_are_waited_for(bench) -> None:
    b: Bench = bench('request_route { lock("k"); usleep("500000"); xlog("$rm\\n"); unlock("k"); sl_send_reply("200", "$rm"); }\n', head=CFG)
    b.request("MESSAGE")
    b.request("OPTIONS")
    b.advance(0.6)
    assert b.firsts() == ["SIP/2.0 200 MESSAGE"]
    b.advance(0.5)
    assert b.firsts() == ["SIP/2.0 200 OPTIONS"]


def test_a_lock_that_nobody_gives_back_is_free_when_its_run_has_ended(bench) -> None:
    b: Bench = bench('request_route { lock("k"); usleep("500000"); sl_send_reply("200", "$rm"); }\n', head=CFG)
    b.request("MESSAGE")
    b.request("OPTIONS")
    b.advance(2)
    assert b.firsts() == ["SIP/2.0 200 MESSAGE", "SIP/2.0 200 OPTIONS"]


def test_without_a_function_that_waits_nothing_runs_in_greenlets(bench) -> None:
    b: Bench = bench('request_route { sl_send_reply("200", "OK"); }\n', head=CFG)
    assert not b.worker.waits.active


def test_too_many_runs_wait(bench) -> None:
    """New requests are refused for now; what belongs to something that is there is not, and neither is anything once the runs have ended."""
    b: Bench = bench('request_route { if ($rm == "MESSAGE") sleep("2"); sl_send_reply("200", "$rm"); }\n', head=CFG)
    b.worker.waits.most = 2
    for n in range(2):
        b.request("MESSAGE", branch=f"z9hG4bKm{n}")
    assert b.worker.counters.get("kamc", "waiting_routes") == 2
    b.request("OPTIONS")
    (refused,) = b.take()
    assert (refused.first, refused.get("Retry-After")) == ("SIP/2.0 503 Too Many Routes Waiting", "5")
    b.request("OPTIONS", to_tag="there")
    assert b.firsts() == ["SIP/2.0 200 OPTIONS"]
    assert b.worker.counters.get("kamc", "refused_requests") == 1
    b.advance(3)
    assert b.firsts() == ["SIP/2.0 200 MESSAGE"] * 2 and b.worker.counters.get("kamc", "waiting_routes") == 0
    b.request("OPTIONS", branch="z9hG4bKlast")
    assert b.firsts() == ["SIP/2.0 200 OPTIONS"]

