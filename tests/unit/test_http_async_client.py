"""Module http_async_client in memory (requests are made at once there), and over a server whose transactions wait."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

import pytest

from kamc.errors import ConfigError
from tests.conftest import Server
from tests.web import Web

pytest.importorskip("requests")

HEAD = 'loadmodule "http_async_client.so"\n'
SHOW = """route[DONE] {
	xlog("OUT: $http_ok $http_rs $http_rr [$http_rb] $http_bs $http_hdr(X-Web) $http_err $http_xdata $rm\\n");
	t_reply("200", "done");
}
"""


@pytest.fixture
def web() -> Iterator[Web]:
    one = Web()
    yield one
    one.close()


def printed(b) -> list[str]:
    return [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]


def start(bench, web: Web, body: str, more: str = ""):
    return bench(HEAD + f"request_route {{\n{body.replace('WEB', web.url)}\n}}\n{SHOW}{more.replace('WEB', web.url)}")


def test_a_request_goes_on_with_the_answer(bench, web: Web) -> None:
    b = start(bench, web, '\tt_newtran();\n\thttp_async_query("WEB/nl", "DONE");\n\txlog("OUT: not here\\n");')
    b.request("MESSAGE")
    assert printed(b) == ["1 200 OK [a\nb\n] 4 <null> <null>  MESSAGE"]
    assert b.firsts()[-1] == "SIP/2.0 200 done"
    b.advance(60)
    assert b.transactions == 0


def test_what_http_req_says(bench, web: Web) -> None:
    b = start(bench, web, """	$http_req(all) = $null;
	$http_req(method) = "PUT";
	$http_req(hdr) = "Content-Type: application/json";
	$http_req(hdr) = "Authorization: Bearer abc";
	$http_req(hdr) = "X-Split: a\\r\\nX-Evil: 1";
	$http_req(body) = "{}";
	$http_req(suspend) = 0;
	$var(rc) = http_async_query("WEB/p", "DONE");
	xlog("OUT: $var(rc) $http_req(body)\\n");
	sl_send_reply("202", "Accepted");
""")  # fmt: skip
    b.request("MESSAGE")
    ((method, path, headers, body),) = web.seen
    assert (method, path, body) == ("PUT", "/p", "{}")
    assert headers["Authorization"] == "Bearer abc" and headers["Content-Type"] == "application/json" and "X-Evil" not in headers
    assert printed(b)[0].startswith("1 200 OK [PUT {}] 6") and printed(b)[1] == "1 <null>"
    assert b.firsts() == ["SIP/2.0 202 Accepted"]


def test_errors_are_told(bench, web: Web) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}/"
        b = start(bench, web, f'\tt_newtran();\n\thttp_async_query("{closed}", "DONE");')
        b.request("MESSAGE")
    assert printed(b)[0].startswith("0 <null> <null> [<null>] <null> <null> Couldn't connect to server")
    assert [b.worker.counters.get("http_async_client", name) for name in ("requests", "replies", "errors", "timeouts")] == [1, 0, 1, 0]
    b = start(bench, web, '\thttp_async_send_xdata("WEB/code404", "DONE", "more"); http_async_query("WEB/", "NOWHERE"); xlog("OUT: $rc\\n");')
    b.request("MESSAGE")
    assert re.match(r"1 404 Not Found \[GET \] 4 <null> <null> more OPTIONS", printed(b)[0]) and printed(b)[1] == "-1"


def test_a_configuration_that_is_refused(bench) -> None:
    with pytest.raises(ConfigError, match="connection_timeout"):
        bench(HEAD + 'modparam("http_async_client", "connection_timeout", 0)\nrequest_route { exit; }\n')
    with pytest.raises(AssertionError, match="the key is one of"):
        bench(HEAD + "request_route { $http_req(nothing) = 1; }\n")


TEXT = """#!KAMAILIO
debug=1
disable_tcp=yes
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "http_async_client.so"
modparam("http_async_client", "connection_timeout", 4000)
request_route {
	if ($rU == "slow") {
		t_newtran();
		$avp(kept) = $ci;
		http_async_query("WEB/slow", "SLOW");
	}
	if ($rU == "call") { t_on_reply("R"); $du = "sip:127.0.0.1:" + $hdr(X-Port); t_relay(); exit; }
	sl_send_reply("200", "$rU");
}
onreply_route[R] {
	if (status =~ "200") { http_async_query("WEB/nl", "REPLY"); }
}
route[REPLY] { append_hf("X-Web: $http_rs\\r\\n"); }
route[SLOW] { t_reply("200", "$http_rs $avp(kept) $rU"); }
"""


def first(text: str) -> str:
    return text.split("\r\n")[0].removeprefix("SIP/2.0 ")


def test_nobody_waits_for_it(serve: Callable[..., Server], web: Web) -> None:
    server = serve(TEXT.replace("WEB", web.url))
    server.send("MESSAGE", "sip:slow@h", call_id="one")
    assert first(server.ask("OPTIONS", "sip:quick@h")) == "200 quick"
    web.go_on.set()
    assert first(server.receive()) == "200 200 one slow"


def test_a_reply_that_waits(serve: Callable[..., Server], web: Web) -> None:
    server = serve(TEXT.replace("WEB", web.url))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as callee:
        callee.bind(("127.0.0.1", 0))
        callee.settimeout(5)
        server.send("INVITE", "sip:call@h", f"X-Port: {callee.getsockname()[1]}")
        invite = callee.recv(9999).decode()
        kept = "".join(f"{line}\r\n" for line in invite.split("\r\n") if re.match(r"(Via|From|Call-ID|CSeq):", line))
        callee.sendto(f"SIP/2.0 200 OK\r\n{kept}To: <sip:bob@127.0.0.1>;tag=t\r\nContent-Length: 0\r\n\r\n".encode(), server.address)
    while (answer := server.receive()).startswith("SIP/2.0 1"):
        pass
    assert first(answer) == "200 OK" and "X-Web: 200\r\n" in answer
