"""Module keepalive: who is asked how often, what counts as an answer, and who hears of it. As recorded from Kamailio 5.6.3, but for what the module's page names."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault
from tests.harness import HEAD, Bench, built

ROUTES = """request_route {
    if ($rU == "add") { ka_add_destination("$hdr(X-D)", "owner"); xlog("add $rc\\n"); exit; }
    if ($rU == "del") { ka_del_destination("$hdr(X-D)", "owner"); xlog("del $rc\\n"); exit; }
    ka_is_alive("$hdr(X-D)");
    xlog("alive $rc\\n");
}
event_route[keepalive:dst-up] { xlog("UP $ru $rm\\n"); }
event_route[keepalive:dst-down] { xlog("DOWN $ru $rm\\n"); }
"""
PARAMS = 'modparam("keepalive", "ping_interval", 10)\nmodparam("keepalive", "delete_counter", 2)\nmodparam("keepalive", "ping_from", "sip:me@here.test")\n'
A, B = "sip:127.0.0.1:7001", "sip:127.0.0.1:7002;transport=udp"


def head(*destinations: str, params: str = PARAMS) -> str:
    listed = "".join(f'modparam("keepalive", "destination", "{one}")\n' for one in destinations)
    return f'{HEAD}loadmodule "keepalive.so"\n{params}{listed}'


def events(b: Bench) -> list[str]:
    out = [line for line in b.log.lines if line.startswith(("UP", "DOWN"))]
    b.log.lines.clear()
    return out


def asked(b: Bench, do: str, destination: str) -> str:
    b.request("OPTIONS", f"sip:{do}@127.0.0.1", f"X-D: {destination}")
    return next(line for line in reversed(b.log.lines) if line.startswith(do if do != "is" else "alive")).split()[1]


def states(b: Bench) -> dict[str, int]:
    return {row["uri"]: row["state"] for row in b.rpc("keepalive.list")}


def answer_all(b: Bench, *statuses: str) -> None:
    for ping, status in zip(b.take(), statuses, strict=True):
        b.reply(ping, status)


def test_pings_and_their_answers(bench: Any) -> None:
    b = bench(ROUTES, head=head(A, B.removeprefix("sip:")))
    b.advance(1)
    pings = b.sent
    assert [p.first for p in pings] == [f"OPTIONS {A} SIP/2.0", f"OPTIONS {B} SIP/2.0"]
    assert (pings[0].get("From") or "").startswith("<sip:me@here.test>;tag=") and pings[1].get("To") == f"<{B}>" and states(b) == {A: 0, B: 0}
    answer_all(b, "200 OK", "404 Not Found")
    assert events(b) == [f"UP {A} OPTIONS", f"DOWN {B} OPTIONS"] and states(b) == {A: 1, B: 2}
    assert [asked(b, "is", d) for d in (A, "127.0.0.1:7001", B, B.removeprefix("sip:"), "sip:127.0.0.1:7002", "sip:", "")] == ["1", "1", "2", "2", "-1", "-1", "-1"]
    b.log.lines.clear()
    b.advance(10)
    answer_all(b, "302 Elsewhere", "202 Accepted")
    assert events(b) == [f"DOWN {A} OPTIONS", f"UP {B} OPTIONS"]
    b.advance(10)
    answer_all(b, "503 No", "200 OK")
    assert events(b) == [] and states(b) == {A: 2, B: 1}


def test_one_that_does_not_answer_is_given_up(bench: Any) -> None:
    b = bench(ROUTES, head=head(A) + 'modparam("tm", "fr_timer", 2000)\n')
    b.advance(3)
    assert events(b) == [f"DOWN {A} OPTIONS"] and b.firsts()
    b.advance(97)
    # a third failure is more than delete_counter allows
    assert len({m.get("Call-ID") for m in b.take()}) == 2 and events(b) == [] and states(b) == {A: 2}


def test_a_good_answer_forgets_failures(bench: Any) -> None:
    b = bench(ROUTES, head=head(A))
    b.advance(1)
    for status in ("500 No", "500 No", "200 OK", "500 No", "500 No", "500 No"):
        answer_all(b, status)
        b.advance(10)
    assert b.take() == []


def test_one_that_cannot_be_sent_to_stays_unknown(bench: Any) -> None:
    b = bench(ROUTES, head=head("sip:127.0.0.1:7001;transport=tls"))
    b.advance(1)
    assert b.take() == [] and any("unable to ping" in line for line in b.log.lines)
    assert asked(b, "is", "127.0.0.1:7001;transport=tls") == "1" and list(states(b).values()) == [0]


def test_added_and_removed_while_it_runs(bench: Any) -> None:
    b = bench(ROUTES, head=head())
    assert [asked(b, "add", d) for d in (A, A, "127.0.0.1:7003", "sip:", "<sip:x")] == ["1", "1", "1", "-1", "-1"]
    assert [(row["uri"], row["owner"]) for row in b.rpc("keepalive.list")] == [("sip:127.0.0.1:7003", "owner"), (A, "owner")]
    assert asked(b, "is", A) == "1"
    b.advance(1)
    assert len(b.sent) == 2
    assert [asked(b, "del", d) for d in ("127.0.0.1:7003", "sip:127.0.0.1:7003", "<sip:x")] == ["1", "-1", "-1"]
    b.log.lines.clear()
    answer_all(b, "200 OK", "200 OK")
    assert events(b) == [f"UP {A} OPTIONS"]


def test_commands(bench: Any) -> None:
    b = bench(ROUTES, head=head(A))
    assert b.rpc("keepalive.add", B, "list") == b.rpc("keepalive.add", A.removeprefix("sip:"), "other") == "Ok. Destination added."
    assert b.rpc("keepalive.get", A, "other") == {"uri": A, "owner": "other", "state": 0} == {**b.rpc("keepalive.get", A, "_params"), "owner": "other"}
    b.advance(1)
    answer_all(b, "200 OK", "500 No", "200 OK")
    when, never = time.ctime(int(b.worker.rt.wall_time())), time.ctime(0)
    assert b.rpc("keepalive.list")[1] == {"uri": B, "owner": "list", "last checked": when, "last up": never, "last down": when, "state": 2}
    assert b.rpc("keepalive.del", B, "list") == "Ok. Destination removed."
    for command, params, text in (("add", (A, "other"), "couldn't add"), ("add", ("sip:", "x"), "couldn't add"), ("add", (A,), "Not enough"), ("get", (), "Not enough"),
                                  ("get", (A, "nobody"), "couldn't get"), ("get", ("sip:", "x"), "couldn't get"), ("del", (A,), "Not enough"),
                                  ("del", (A, "nobody"), "couldn't delete"), ("del", ("sip:", "x"), "couldn't delete")):  # fmt: skip
        with pytest.raises(RpcFault, match=text):
            b.rpc(f"keepalive.{command}", *params)
    assert b.rpc("keepalive.flush") == "Ok. Destination list flushed." and b.rpc("keepalive.list") == []


def test_what_another_worker_has_seen(bench: Any) -> None:
    b = bench(ROUTES, head=head(A))
    module = b.worker.rt.module("keepalive")
    for uri in (A, B):
        module.follow(uri, "_params", 2, 1.0, 0.0, 1.0, 1)
    assert asked(b, "is", A) == asked(b, "is", B) == "2" and states(b) == {A: 2, B: 2}


def test_over_a_reload(bench: Any) -> None:
    """What is known of a destination stays; what the configuration lists no more goes, what was added meanwhile does not."""
    b = bench(ROUTES, head=head(A, "127.0.0.1:7009"))
    asked(b, "add", B)
    b.advance(1)
    answer_all(b, "200 OK", "200 OK", "500 No")
    b.files = built(b.folder, head(A, "127.0.0.1:7004") + ROUTES)
    b.load()
    assert states(b) == {A: 1, "sip:127.0.0.1:7004": 0, B: 2}
    b.advance(1)
    assert [m.first for m in b.take()] == ["OPTIONS sip:127.0.0.1:7004 SIP/2.0"]


@pytest.mark.parametrize(("params", "text"), [
    ('modparam("keepalive", "ping_interval", 0)\n', "ping_interval"), ('modparam("keepalive", "destination", "sip:")\n', "no destination"),
])  # fmt: skip
def test_parameters_that_are_wrong(bench: Any, params: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        bench("request_route { exit; }\n", head=head(params=params))
