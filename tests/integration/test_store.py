"""What outlives a worker that is killed, and a server that is started again."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Server
from tests.integration.test_reload import reload, rpc, status, until
from tests.phone import Phone, header

TEXT = """#!KAMAILIO
debug=1
disable_tcp=yes
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "htable.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("htable", "htable", "t=>size=4;initval=0")
request_route {
	if (method == "REGISTER") { save("location"); exit; }
	if ($rU == "count") {
		$sht(t=>n) = $sht(t=>n) + 1;
		$shv(n) = $shv(n) + 1;
		sl_send_reply("200", "$sht(t=>n) $shv(n)");
		exit;
	}
	if (lookup("location")) { sl_send_reply("200", "$ru"); exit; }
	sl_send_reply("404", "Not Found");
}
"""


def first(text: str) -> str:
    return text.split("\r\n")[0].removeprefix("SIP/2.0 ")


def fill(server: Server) -> None:
    for user in ("ann", "bob"):
        answer = server.ask("REGISTER", "sip:127.0.0.1", "Expires: 600", to=f"<sip:{user}@127.0.0.1>")
        assert first(answer) == "200 OK"
    server.ask("OPTIONS", "sip:count@127.0.0.1")


def check(server: Server) -> None:
    for user in ("ann", "bob"):
        assert first(server.ask("OPTIONS", f"sip:{user}@127.0.0.1")).startswith("200 sip:alice@127.0.0.1:")
    assert first(server.ask("OPTIONS", "sip:count@127.0.0.1")) == "200 2 2"
    assert rpc(server, "ul.dump", "brief")["Domains"][0]["Domain"]["Stats"]["Records"] == 2


def test_a_worker_that_is_killed(serve: Callable[..., Server]) -> None:
    server = serve(TEXT)
    fill(server)
    (before,) = status(server)["workers"]
    os.kill(before, signal.SIGKILL)
    until(lambda: status(server)["workers"] not in ([before], []))
    check(server)


def test_a_server_that_is_started_again(serve: Callable[..., Server], tmp_path: Path) -> None:
    store = tmp_path / "store"
    server = serve(TEXT, "--store", str(store))
    fill(server)
    server.stop()
    assert oct(store.stat().st_mode & 0o777) == "0o700"
    check(serve(TEXT, "--store", str(store)))
    again = serve(TEXT)
    assert first(again.ask("OPTIONS", "sip:ann@127.0.0.1")) == "404 Not Found"
    mine = f"kamc-store-{again.process.pid}-*"
    assert len(list(Path("/dev/shm").glob(mine))) == 1
    again.stop()
    assert list(Path("/dev/shm").glob(mine)) == []


def test_stores_of_killed_servers_go(serve: Callable[..., Server]) -> None:
    server = serve(TEXT)
    mine = f"kamc-store-{server.process.pid}-*"
    server.process.kill()
    server.process.wait(5)
    assert len(list(Path("/dev/shm").glob(mine))) == 1
    serve(TEXT)
    assert list(Path("/dev/shm").glob(mine)) == []


HANGS = """from kamc.declare import ANY, Module, function
from kamc.runtime.context import Ctx


class Hangs(Module):
    name = "hangs"

    @function(ANY)
    def for_ever(self, ctx: Ctx) -> int:
        while True:
            pass


module = Hangs
"""


def test_a_worker_that_hangs_says_where_and_is_replaced(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    text = TEXT.replace('loadmodule "pv.so"', 'loadmodule "pv.so"\nloadmodule "hangs.so"')
    text = text.replace("request_route {", 'request_route {\n\tif ($rU == "hang") {\n\t\tfor_ever();\n\t}')
    server = serve(text, "-L", str(tmp_path), "--hang-timeout", "1")
    fill(server)
    (before,) = status(server)["workers"]
    server.send("OPTIONS", "sip:hang@127.0.0.1")
    until(lambda: status(server)["workers"] not in ([before], []))
    check(server)
    line = text.split("\n").index("\t\tfor_ever();") + 1
    assert f'kamailio.cfg", line {line} in request_route' in server.text()
    assert "hangs, it is ended" in server.text()


CALLS = """#!KAMAILIO
debug=1
disable_tcp=yes
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "dialog.so"
modparam("dialog", "default_timeout", 3600)
modparam("dialog", "profiles_with_value", "who")
request_route {
	if ($rU == "ready") { sl_send_reply("200", "OK"); exit; }
	if (has_totag()) {
		loose_route();
		if (is_method("BYE")) { append_hf("X-Who: $dlg_var(who)\\r\\n"); }
		t_relay();
		exit;
	}
	if (is_method("INVITE")) {
		dlg_manage();
		$dlg_var(who) = $fU;
		set_dlg_profile("who", "$fU");
		record_route();
	}
	t_relay();
}
"""


def test_a_call_outlives_a_worker(serve: Callable[..., Server]) -> None:
    server = serve(CALLS)
    callee = Phone("bob", "udp", server.port)
    caller = Phone("ann", "udp", server.port)
    try:
        target = callee.contact.strip("<>")
        caller.request("INVITE", target, call_id="c1")
        invite = callee.until("INVITE")
        callee.answer(invite, "200 OK")
        ok = caller.until("SIP/2.0 200")
        routes = [f"Route: {value}" for value in reversed(re.findall(r"^Record-Route: (.*?)\r$", ok, re.M))]
        caller.request("ACK", target, *routes, call_id="c1", to=header(ok, "To"))
        callee.until("ACK")
        (before,) = status(server)["workers"]
        os.kill(before, signal.SIGKILL)
        until(lambda: status(server)["workers"] not in ([before], []))
        (dialog,) = rpc(server, "dlg.list")
        assert dialog["call-id"] == "c1"
        assert rpc(server, "dlg.profile_get_size", "who", "ann") == 1
        caller.request("BYE", target, *routes, call_id="c1", to=header(ok, "To"), cseq=2)
        bye = callee.until("BYE")
        assert header(bye, "X-Who") == "ann"
        callee.answer(bye, "200 OK")
        caller.until("SIP/2.0 200")
        (before,) = status(server)["workers"]
        os.kill(before, signal.SIGKILL)
        until(lambda: status(server)["workers"] not in ([before], []))
        assert rpc(server, "dlg.list") == []
    finally:
        caller.close()
        callee.close()


def test_a_worker_that_cannot_start_is_tried_again(serve: Callable[..., Server], tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text("1 sip:127.0.0.1:5099\n")
    more = f'loadmodule "dispatcher.so"\nmodparam("dispatcher", "list_file", "{listed}")\n'
    server = serve(TEXT.replace("request_route {", more + "request_route {", 1))
    (before,) = status(server)["workers"]
    listed.unlink()
    os.kill(before, signal.SIGKILL)
    until(lambda: "could not start" in server.text())
    assert status(server)["workers"] == []
    listed.write_text("1 sip:127.0.0.1:5099\n")
    until(lambda: status(server)["workers"] != [])
    assert first(server.ask("OPTIONS", "sip:nobody@127.0.0.1")) == "404 Not Found"
    # and with another configuration, when that is what it takes
    (before,) = status(server)["workers"]
    listed.unlink()
    os.kill(before, signal.SIGKILL)
    until(lambda: status(server)["workers"] == [])
    server.cfg.write_text(TEXT)
    assert reload(server)["state"] == "active"
    until(lambda: status(server)["workers"] != [])
    assert first(server.ask("OPTIONS", "sip:nobody@127.0.0.1")) == "404 Not Found"
