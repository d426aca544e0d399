"""The status page: measures of blocks, what is collected, metrics, and the page itself in a browser (skipped where there is none)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.measure import BUCKETS, Measures
from kamc.status.facts import facts, metrics, routes_of
from kamc.status.render import page
from tests.conftest import Server
from tests.databases import free_port
from tests.harness import HEAD, Bench
from tests.integration.test_reload import reload, until

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
TEXT = """#!KAMAILIO
debug=1
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "textops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "dialog.so"
loadmodule "boom.so"
request_route {
	if (is_method("REGISTER")) { save("location"); exit; }
	route(WORK);
	if ($rU == "boom") boom();
	sl_send_reply("200", "OK");
}
route[WORK] { return; }
route[NEVER] { return; }
"""
BOOM = """from kamc.declare import ANY, Module, function


class Boom(Module):
    name = "boom"

    @function(ANY)
    def boom(self, ctx) -> int:
        raise RuntimeError("<script>alert(1)</script> & more")


module = Boom
"""


def fetch(port: int, path: str, host: str = "", method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host} if host else {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        return err.code, err.read().decode()


def up(port: int) -> bool:
    try:
        return fetch(port, "/data")[0] == 200
    except OSError:
        return False


@pytest.fixture
def plain_route() -> Iterator[None]:
    """What measuring exchanges in the process is put back."""
    before = Ctx.route
    yield
    Ctx.route = before  # type: ignore[method-assign]


def test_blocks_are_measured(bench: Callable[..., Bench], plain_route: None) -> None:
    b = bench('request_route { route(A); route(A); t_on_failure("F"); t_relay(); }\nroute[A] { return; }\nroute[B] { return; }\nfailure_route[F] { exit; }\n', head=HEAD)
    assert b.worker.rpc.call("kamc.routes", []) == []
    now = [0.0]

    def clock() -> float:
        now[0] += 0.002
        return now[0]

    b.worker.measures = Measures(clock)
    b.worker.measures.watch_calls()
    b.load()
    for n in range(3):
        b.request("MESSAGE", branch=f"z9hG4bKx{n}")
    b.reply(next(m for m in b.take() if m.first.startswith("MESSAGE")), "486 Busy")
    rows = {row["route"]: row for row in b.worker.rpc.call("kamc.routes", [])}
    assert {label: row["calls"] for label, row in rows.items()} == {"request_route": 3, "route[A]": 6, "route[B]": 0, "failure_route[F]": 1}
    assert rows["route[A]"]["longest"] == pytest.approx(0.002) and rows["request_route"]["seconds"] == pytest.approx(3 * 0.010)
    assert sum(rows["route[A]"]["buckets"]) == 6 and rows["route[A]"]["buckets"][BUCKETS.index(0.0025)] == 6
    b.load()
    b.request("MESSAGE", branch="z9hG4bKlast")
    assert {row["route"]: row["calls"] for row in b.worker.rpc.call("kamc.routes", [])}["request_route"] == 4


def test_errors_are_remembered(bench: Callable[..., Bench]) -> None:
    b = bench("request_route { sl_send_reply(\"200\", \"OK\"); }\n", head=HEAD)
    b.worker.datapath.report(ValueError("x"), None)
    (row,) = b.worker.rpc.call("kamc.errors", [])
    assert row["text"] == "ValueError: x" and row["where"] == row["call_id"] == ""
    for n in range(100):
        b.worker.datapath.report(ValueError(str(n)), None)
    assert len(b.worker.rpc.call("kamc.errors", [])) == 50


def answers(**more: Any) -> Callable[[str, list[Any]], Any]:
    known = {
        "core.version": "kamc", "core.uptime": {"uptime": 7}, "kamc.generations": [{}], "tm.stats": {"current": 2, "waiting": 1},
        "kamc.statistics": {"core.rcv_replies_2xx": 5},
        "kamc.routes": [{"route": 'route["a"]', "calls": 1, "seconds": 0.2, "longest": 0.2, "buckets": [0] * 8 + [1] + [0] * 5}] * 2, **more,
    }  # fmt: skip

    def ask(command: str, params: list[Any]) -> Any:
        if command not in known:
            raise ConfigError("there is no such command")
        return known[command]

    return ask


STATUS = {"pid": 1, "workers": [2, 3], "sockets": ["udp:127.0.0.1:5060"], "generation": 4, "reload": "idle", "reloads": []}


def test_facts_and_metrics() -> None:
    found = facts(answers(), STATUS)
    assert (found["calls_in_all"], found["contacts_in_all"], found["routes"][0]["calls"]) == (0, 0, 2)
    text = metrics(found)
    assert 'kamc_transactions{state="current"} 2\n' in text and 'kamc_replies_received_total{class="2xx"} 5\n' in text and "kamc_workers 2\n" in text
    assert r'kamc_route_seconds_bucket{route="route[\"a\"]",le="0.25"} 2' in text and r'kamc_route_seconds_bucket{route="route[\"a\"]",le="0.1"} 0' in text
    assert r'kamc_route_seconds_bucket{route="route[\"a\"]",le="+Inf"} 2' in text and r'kamc_route_seconds_sum{route="route[\"a\"]"} 0.4' in text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) kamc_\w+ .+|kamc_\w+(\{(\w+="(\\.|[^"\\])*",?)+\})? [\d.e+-]+', line), line


def test_rows_of_several_workers() -> None:
    rows = [{"route": "a", "calls": n, "seconds": 0.1 * n, "longest": 0.1 * n, "buckets": [n] + [0] * len(BUCKETS)} for n in (1, 2)]
    (one,) = routes_of(rows)
    assert (one["calls"], one["longest"], one["buckets"][0]) == (3, 0.2, 3)


def test_the_page_escapes() -> None:
    assert "<title>&lt;b&gt;</title>" in page("<b>", "") and "Route graph" not in page("x", "") and "<svg/>" in page("x", "<svg/>")


@pytest.fixture
def shown(serve: Callable[..., Server], tmp_path: Path) -> tuple[Server, int]:
    (tmp_path / "boom.py").write_text(BOOM)
    port = free_port()
    server = serve(TEXT, "-L", str(tmp_path), "--status-port", str(port))
    until(lambda: up(port))
    return server, port


def test_a_server_shows_itself(shown: tuple[Server, int]) -> None:
    server, port = shown
    server.ask("REGISTER", "sip:h", "Expires: 600", to="<sip:ann@h>")
    assert server.ask("OPTIONS", "sip:boom@h", call_id="bang").startswith("SIP/2.0 500")
    assert reload(server)["state"] == "unchanged"
    data = json.loads(fetch(port, "/data")[1])
    routes = {row["route"]: row["calls"] for row in data["routes"]}
    assert routes["request_route"] >= 3 and routes["route[WORK]"] >= 2 and routes["route[NEVER]"] == 0
    assert [c["aor"] for c in data["contacts"]] == ["ann"] and data["reloads"][-1]["state"] == "unchanged"
    assert data["errors"][0]["call_id"] == "bang" and re.search(r"kamailio\.cfg:15 in request_route$", data["errors"][0]["where"])
    assert "kamc_contacts 1\n" in fetch(port, "/metrics")[1] and "kamc_errors_total 1\n" in fetch(port, "/metrics")[1]
    assert fetch(port, "/data", "evil.test")[0] == 403 and fetch(port, "/data", method="POST")[0] == 405 and fetch(port, "/nosuch")[0] == 404
    assert fetch(port, "/data", f"localhost:{port}")[0] == 200
    page_pid = [int(p) for p in Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()]
    assert server.stop() == 0
    assert not [p for p in page_pid if os.path.exists(f"/proc/{p}")] and not up(port)


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_in_a_browser(shown: tuple[Server, int], tmp_path: Path) -> None:
    server, port = shown
    server.ask("REGISTER", "sip:h", "Expires: 600", "User-Agent: <img src=x onerror=alert(2)>", to="<sip:ann@h>")
    server.ask("OPTIONS", "sip:boom@h", call_id="bang")
    found = subprocess.run([str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}/profile",
                            "--virtual-time-budget=3000", "--dump-dom", f"http://127.0.0.1:{port}/"], capture_output=True, text=True, timeout=60)  # fmt: skip
    dom = found.stdout
    assert 'data-ready="yes"' in dom, found.stderr[-500:]
    assert "<td>request_route</td>" in dom and "<td>route[WORK]</td>" in dom and "route[NEVER]</td>" not in dom
    assert "<td>ann</td>" in dom and "&lt;img src=x onerror=alert(2)&gt;" in dom and "<img" not in dom
    assert "RuntimeError: &lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in dom and "<td>bang</td>" in dom
    assert "<svg" in dom and "NEVER" in dom.partition("<svg")[2]
    assert "None since the start." in dom and "No calls." in dom


def test_a_port_that_is_taken(serve: Callable[..., Server], shown: tuple[Server, int]) -> None:
    """The server serves all the same."""
    other = serve(TEXT.replace('loadmodule "boom.so"\n', "").replace("boom();", ";"), "--status-port", str(shown[1]))
    until(lambda: "cannot listen on" in other.text())
    assert other.ask("OPTIONS", "sip:x@h").startswith("SIP/2.0 200")


def test_nobody_answers(tmp_path: Path) -> None:
    from kamc.status.server import StatusServer

    with pytest.raises(ConfigError, match="no server answers"):
        StatusServer(str(tmp_path))._collect()
