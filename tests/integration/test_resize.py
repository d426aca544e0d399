"""Another number of workers while calls are on their way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.proc.control import ask
from tests.conftest import Server
from tests.integration.test_reload import reload, rpc, status, until
from tests.integration.test_workers import TEXT, pids_of, reason, who
from tests.phone import DOMAIN, Phone, header


def resize(server: Server, count: Any) -> dict[str, Any]:
    found: dict[str, Any] = ask(str(server.cfg.parent), {"do": "workers", "count": count})
    return found


def started(serve: Callable[..., Server], workers: int, *args: str) -> Server:
    return serve(TEXT, "--workers", str(workers), "--alias", DOMAIN, *args)


def served_by(server: Server, begin: str, count: int = 60) -> set[int]:
    """The processes that answer requests of new calls."""
    return {int(reason(server.ask("OPTIONS", "sip:who@h", call_id=f"{begin}{n}")).split()[1]) for n in range(count)}


def ring(a: Phone, b: Phone) -> tuple[str, str]:
    """A call that rings: its Call-ID, and the INVITE that the callee has."""
    call_id = f"ring-{a.user}"
    a.request("INVITE", f"sip:{b.user}@{DOMAIN}", call_id=call_id)
    invite = b.until("INVITE")
    b.answer(invite, "180 Ringing")
    a.until("SIP/2.0 180")
    return call_id, invite


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2), (3, 1)])
def test_calls_go_on(serve: Callable[..., Server], phones: Callable[..., list[Phone]], before: int, after: int) -> None:
    server = started(serve, before)
    there = phones(server, *(f"{side}{n}" for n in range(12) for side in "ab"))
    pairs = list(zip(there[::2], there[1::2], strict=True))
    talks = [a.dial(b) for a, b in pairs[:6]]
    rings = [ring(a, b) for a, b in pairs[6:]]
    assert resize(server, after)["workers"] == after
    # calls that ring: some are answered, some given up by the caller
    for (a, b), (call_id, invite) in zip(pairs[6:9], rings[:3], strict=True):
        b.answer(invite, "200 OK")
        ok = a.until("SIP/2.0 200")
        routes = [f"Route: {value}" for value in reversed(re.findall(r"^Record-Route: (.*?)\r$", ok, re.M))]
        a.request("ACK", b.contact.strip("<>"), *routes, call_id=call_id, to=header(ok, "To"))
        b.until("ACK")
    for (a, b), (call_id, invite) in zip(pairs[9:], rings[3:], strict=True):
        branch = invite  # the transaction of the callee's side
        a.serial -= 1
        a.request("CANCEL", f"sip:{b.user}@{DOMAIN}", call_id=call_id)
        a.until("SIP/2.0 200")
        b.answer(b.until("CANCEL"), "200 OK")
        b.answer(branch, "487 Request Terminated")
        a.until("SIP/2.0 487")
    # what was answered before is hung up after it
    until(lambda: len(rpc(server, "dlg.list")) >= len(talks))
    for (a, b), talk in zip(pairs[:6], talks, strict=True):
        a.hang_up(b, talk)
    until(lambda: rpc(server, "dlg.stats_active")["ongoing"] == 3)
    assert served_by(server, "new") == set(pids_of(server)[:after])
    assert int(rpc(server, "stats.get_statistics", "dialog:processed_dialogs")[0].rpartition(" ")[2]) == 12
    until(lambda: len(status(server)["workers"]) == after)
    assert int(rpc(server, "stats.get_statistics", "dialog:processed_dialogs")[0].rpartition(" ")[2]) == 12
    assert rpc(server, "tm.stats")["total"] >= 18


def test_dialogs_and_profiles_move(serve: Callable[..., Server], phones: Callable[..., list[Phone]]) -> None:
    server = started(serve, 2)
    there = phones(server, *(f"{side}{n}" for n in range(8) for side in "ab"))
    pairs = list(zip(there[::2], there[1::2], strict=True))
    talks = [a.dial(b) for a, b in pairs]
    for count in (4, 3, 6, 1, 2):
        assert resize(server, count)["workers"] == count
        until(lambda: len(rpc(server, "dlg.list")) == len(talks))
        until(lambda: {reason(server.ask("OPTIONS", "sip:size@h", call_id=f"size{count}-{n}")) for n in range(20)} == {f"200 {len(talks)}"})  # noqa: B023
    for (a, b), talk in zip(pairs, talks, strict=True):
        a.hang_up(b, talk)
    assert set(rpc(server, "dlg.stats_active").values()) == {0}


def test_connections_stay_open(serve: Callable[..., Server], phones: Callable[..., list[Phone]]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = started(serve, 4, "-l", f"tcp:127.0.0.1:{port}")
    by_stream = phones(server, "tim", "tom", transport="tcp", port=port)
    by_datagram = phones(server, "uma")
    for count in (6, 1, 3):
        assert resize(server, count)["workers"] == count
        for a in by_stream:
            a.call(by_datagram[0])
            by_datagram[0].call(a)
        by_stream[0].call(by_stream[1])
        assert rpc(server, "core.tcp_info")["opened_connections"] == 2
    for phone in (*by_stream, *by_datagram):
        phone.close()
    until(lambda: len(status(server)["workers"]) == 3)


def test_workers_that_die_meanwhile(serve: Callable[..., Server], phones: Callable[..., list[Phone]]) -> None:
    server = started(serve, 3)
    a, b, c, d = phones(server, "ann", "bob", "cat", "dan")
    talk = a.dial(b)
    ring(c, d)
    resize(server, 6)
    os.kill(pids_of(server)[1], signal.SIGKILL)
    until(lambda: len(status(server)["workers"]) == 6)
    resize(server, 2)
    last = max(rpc(server, "core.psx"), key=lambda p: p["IDX"])["PID"]
    with contextlib.suppress(ProcessLookupError):
        # it may have ended already
        os.kill(last, signal.SIGKILL)
    until(lambda: last not in status(server)["workers"])
    a.hang_up(b, talk)
    assert served_by(server, "again") == set(pids_of(server)[:2])


def test_a_reload_between(serve: Callable[..., Server], phones: Callable[..., list[Phone]]) -> None:
    server = started(serve, 2)
    there = phones(server, "ann", "bob")
    ring(*there)
    resize(server, 4)
    server.cfg.write_text(TEXT.replace('"200", "$pp', '"200", "$pp new'))
    assert reload(server)["state"] == "active"
    resize(server, 3)
    assert {reason(server.ask("OPTIONS", "sip:who@h", call_id=f"r{n}")).split()[2] for n in range(20)} == {"new"}
    for worker in range(3):
        server.sock.sendto(who(f"x{worker}", "i").replace(b"127.0.0.1:5;", b"127.0.0.1:%d;" % server.sock.getsockname()[1]), ("127.0.0.1", server.port))
        assert reason(server.receive()).split()[2] == "new"


def test_what_is_refused(serve: Callable[..., Server], capsys: pytest.CaptureFixture[str]) -> None:
    server = started(serve, 2)
    for count in (0, 17, -1, "3", True, 2.5):
        with pytest.raises(ConfigError, match="1 to 16"):
            resize(server, count)
    assert resize(server, 2) == {"workers": 2, "leaving": []}
    assert rpc(server, "kamc.workers") == {"workers": 2, "leaving": []}
    assert rpc(server, "kamc.workers", 3) == {"workers": 3, "leaving": []}
    from kamc.cli import main

    assert main(["reload", "-Y", str(server.cfg.parent), "--workers", "2"]) == 0
    assert "2 workers serve" in capsys.readouterr().out


def test_one_worker_stays_one(serve: Callable[..., Server]) -> None:
    server = serve(TEXT)
    with pytest.raises(ConfigError, match="started with one worker"):
        resize(server, 2)


def test_children_are_followed(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor")
    server = serve(TEXT, "--workers", "auto")
    assert len(status(server)["workers"]) == min(8, len(os.sched_getaffinity(0)))
    server.cfg.write_text(TEXT + "children=1\n")
    done = reload(server)
    assert "serve with 1 workers" in done["plan"]
    until(lambda: len(status(server)["workers"]) == 1)
