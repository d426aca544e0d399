"""Suspended transactions and the async module, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable

from tests.harness import HEAD, Bench

ASYNC = HEAD + 'loadmodule "async.so"\nasync_workers=1\n'
BOB = "sip:bob@127.0.0.1:7000"


def test_a_pause_goes_on_with_the_rest_of_its_block(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { $avp(x) = 1; if ($rm == "MESSAGE") { append_hf("X-A: 1\\r\\n"); async_sleep("2"); append_hf("X-B: $avp(x)\\r\\n"); t_relay(); } '
              'xlog("behind\\n"); }\n', head=ASYNC)  # fmt: skip
    b.request("MESSAGE", BOB)
    b.request("MESSAGE", BOB, branch="z9hG4bKx1")
    assert b.take() == []
    b.advance(1.9)
    assert b.take() == []
    b.advance(0.2)
    (relayed,) = b.take()
    assert (relayed.get("X-A"), relayed.get("X-B")) == ("1", "1")
    assert not [line for line in b.log.lines if "behind" in line]


def test_a_pause_inside_a_loop_ends_the_run(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { $var(i) = 0; while ($var(i) < 3) { $var(i) = $var(i) + 1; async_ms_sleep("500"); xlog("round $var(i)\\n"); break; } xlog("out\\n"); }\n',
              head=ASYNC)  # fmt: skip
    b.request("MESSAGE", BOB)
    b.advance(0.6)
    assert [line.partition(" ")[0] for line in b.log.lines if line.startswith(("round", "out"))] == ["round"]


def test_a_pause_that_cannot_suspend_goes_on_at_once(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { t_newtran(); t_reply("200", "Done"); async_sleep("5"); xlog("went on\\n"); }\n', head=ASYNC)
    b.request("MESSAGE", BOB)
    assert [line for line in b.log.lines if "went on" in line]
    assert [line for line in b.log.lines if "cannot be suspended" in line]


def test_a_route_that_runs_later(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { if (!async_ms_route("LATER", "1500")) { sl_send_reply("500", "No"); } exit; }\nroute[LATER] { t_reply("480", "Slept"); }\n', head=ASYNC)
    b.request("INVITE", BOB)
    assert b.firsts() == ["SIP/2.0 100 trying -- your call is important to us"]
    b.advance(1.6)
    assert b.firsts()[0] == "SIP/2.0 480 Slept"


def test_a_cancelled_pause_is_not_gone_on_with(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { if (is_method("CANCEL")) { t_relay(); exit; } async_route("LATER", "3"); }\nroute[LATER] { xlog("ran\\n"); t_relay(); }\n', head=ASYNC)
    b.request("INVITE", BOB, branch="z9hG4bKinv")
    b.take()
    b.request("CANCEL", BOB, branch="z9hG4bKinv")
    assert {line.split(" ", 1)[1] for line in b.firsts()} == {"200 canceling", "487 Request canceled"}
    b.advance(4)
    assert not [line for line in b.log.lines if line.startswith("ran")]


def test_a_pause_longer_than_the_timer_ends_in_the_failure_route(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("tm", "fr_timer", 1000)\nrequest_route { t_on_failure("F"); async_route("LATER", "30"); }\nroute[LATER] { xlog("ran\\n"); }\n'
              'failure_route[F] { if (t_branch_timeout()) { t_reply("504", "$T_reply_code"); } }\n', head=ASYNC)  # fmt: skip
    b.request("MESSAGE", BOB)
    b.advance(40)
    assert b.firsts() == ["SIP/2.0 504 408"]
    assert not [line for line in b.log.lines if line.startswith("ran")]


def test_tasks(bench: Callable[..., Bench]) -> None:
    b = bench('async_workers_group="name=side;workers=2"\nrequest_route { async_task_data("T", "d1"); async_task_group_data("T", "side", "d2"); '
              '$var(rc) = async_task_group_route("T", "none"); xlog("rc $var(rc) [$async(data)]\\n"); async_task_route("R"); }\n'
              'route[T] { xlog("task $async(gname) $async(data)\\n"); }\nroute[R] { t_reply("200", "Aside"); }\n', head=ASYNC)  # fmt: skip
    b.request("MESSAGE", BOB)
    b.advance(0)
    assert [line for line in b.log.lines if line.startswith(("task", "rc"))] == ["rc -1 [<null>]", "task default d1", "task side d2"]
    assert b.firsts() == ["SIP/2.0 200 Aside"]


def test_without_workers_there_are_no_tasks(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { if (!async_task_route("R")) { sl_send_reply("500", "No task"); } }\nroute[R] { t_reply("200", "Aside"); }\n',
              head=HEAD + 'loadmodule "async.so"\n')  # fmt: skip
    b.request("MESSAGE", BOB)
    b.advance(0)
    assert b.firsts() == ["SIP/2.0 500 No task"]


def test_an_unknown_route(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { $var(r) = "NONE"; if (!async_route("$var(r)", "1")) { sl_send_reply("500", "No route"); } }\n', head=ASYNC)
    b.request("MESSAGE", BOB)
    assert b.firsts() == ["SIP/2.0 500 No route"]
