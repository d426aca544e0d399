"""A run that stands at a breakpoint in one of several workers, and the commands that find it."""

from __future__ import annotations

from collections.abc import Callable

from tests.conftest import Server
from tests.integration.test_reload import rpc, until

TEXT = """#!KAMAILIO
debug=1
disable_tcp=yes
loadmodule "debugger.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "kex.so"
request_route {
	$var(x) = $ci;
	sl_send_reply("200", "$var(x)");
}
"""


def test_the_worker_in_which_a_run_stands(serve: Callable[..., Server]) -> None:
    server = serve(TEXT, "--workers", "3")
    assert rpc(server, "dbg.bp", "on") == "200 ok"
    asked = [f"call-{number}" for number in range(6)]
    for call_id in asked:
        server.send("OPTIONS", "sip:x@127.0.0.1", call_id=call_id)
    until(lambda: rpc(server, "stats.get_statistics", "waiting_routes") == [f"kamc:waiting_routes = {len(asked)}"])
    answered = []
    for _ in asked:
        pid = next(row["pid"] for row in rpc(server, "dbg.ls") if row["state"])
        assert [row["pid"] for row in rpc(server, "dbg.ls", pid)] == [pid]
        assert rpc(server, "dbg.bp", "show", pid).endswith("n=assign")
        answered.append(rpc(server, "dbg.bp", "eval", pid, "$ci").removeprefix("$ci : t=str v="))
        assert rpc(server, "dbg.bp", "move", pid) == "200 ok"
        assert server.receive().startswith(f"SIP/2.0 200 {answered[-1]}\r\n")
    assert sorted(answered) == asked
    assert rpc(server, "dbg.bp", "on") == "200 ok"
    pids = [row["pid"] for row in rpc(server, "dbg.ls")]
    assert rpc(server, "dbg.bp", "keep", pids[1]) == "200 ok"
    # the other two hear of it right after
    until(lambda: [row["set"] for row in rpc(server, "dbg.ls")] == [0, 2, 0])
