"""Module xmlrpc: calls, answers, faults. Layout and texts are those of Kamailio 5.6.3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xmlrpc.client import Fault, dumps, loads

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamc.errors import ConfigError
from stdlib_modules.xmlrpc import DocumentError, fault, read_call, response
from tests.harness import HEAD, Bench
from tests.unit.test_xhttp import Http

LOAD = HEAD + 'loadmodule "htable.so"\nloadmodule "xmlrpc.so"\nmodparam("htable", "htable", "t=>size=4;")\n'
ROUTED = LOAD + 'modparam("xmlrpc", "route", "XMLRPC")\nmodparam("xmlrpc", "url_match", "^/RPC")\nmodparam("xmlrpc", "url_skip", "^/RPC/no")\n'
ROUTE = """request_route { exit; }
route[XMLRPC] {
    xlog("see $rm $ru $hdr(Content-Type)\\n");
    if ($hdr(X-No) == "1") { xmlrpc_reply("403", "Not <you>"); return; }
    if ($hdr(X-Ok) == "1") { xmlrpc_reply("200", "Fine"); return; }
    if ($hdr(X-Bad) == "1") { xmlrpc_reply("x", "Bad"); return; }
    dispatch_rpc();
}
"""


class Web:
    """A server whose HTTP requests are answered one by one."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.http = bench, Http(bench)

    def ask(self, method: str, url: str, body: str, headers: str = "") -> str:
        text = f"{method} {url} HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n{headers}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        return self.http.ask(text)[0]

    def close(self) -> None:
        self.http.hub.shutdown()
        self.http.server.close()


@pytest.fixture
def make(bench: Callable[..., Bench]) -> Iterator[Callable[..., Web]]:
    made: list[Web] = []

    def run(text: str, head: str) -> Web:
        made.append(Web(bench(text, head=head)))
        return made[-1]

    yield run
    for web in made:
        web.close()


@pytest.fixture
def web(make: Callable[..., Web]) -> Web:
    return make(ROUTE, ROUTED)


def ask(web: Web, name: str, *params: object, headers: str = "", url: str = "/RPC2") -> object:
    answer = web.ask("POST", url, dumps(params, name), headers)
    assert answer.startswith("HTTP/1.1 200 OK\r\n") and "\r\nContent-Type: text/xml\r\n" in answer
    return loads(answer.partition("\r\n\r\n")[2])[0][0]


def test_calls(web: Web) -> None:
    assert ask(web, "core.echo", "a", 5, -3, True) == ["a", "5", "-3", "1"]
    assert set(ask(web, "core.uptime")) == {"now", "up_since", "uptime"}
    assert ask(web, "htable.sets", "t", "k<", "v&\n\u00e9") == "Ok. Key set to new value."
    assert ask(web, "htable.dump", "t")[0]["slot"] == [{"name": "k<", "value": "v&\n\u00e9", "type": "str"}]
    assert "core.echo" in ask(web, "system.listMethods")
    assert ask(web, "corex.debug", 1)["new"] == 1
    assert any(line == "see POST sip:127.0.0.1:9 text/xml" for line in web.bench.log.lines)


@pytest.mark.parametrize(("name", "params", "headers", "code", "text"), [
    ("no.such", (), "", 500, "Method Not Found"), ("htable.get", ("nosuch", "x"), "", 500, "No such htable"),
    ("htable.dump", (), "", 400, "error at parameter 0: expected string type but end of packet encountered"), ("htable.dump", ("t", 1), "", 400, "Invalid Parameters"),
    ("core.echo", (), "X-No: 1\r\n", 403, "Not <you>"),
])  # fmt: skip
def test_faults(web: Web, name: str, params: tuple[object, ...], headers: str, code: int, text: str) -> None:
    with pytest.raises(Fault) as found:
        ask(web, name, *params, headers=headers)
    assert (found.value.faultCode, found.value.faultString) == (code, text)


def test_answers_of_the_script(web: Web) -> None:
    assert ask(web, "core.echo", headers="X-Ok: 1\r\n") == 1
    assert web.ask("POST", "/RPC2", dumps((), "core.echo"), "X-Bad: 1\r\n") == ""


@pytest.mark.parametrize("body", ["", "nonsense", "<a/>", "<methodCall/>", "<methodCall><methodName></methodName></methodCall>", "\xff\xfe",
                                  '<!DOCTYPE x [<!ENTITY a "b">]><methodCall><methodName>&a;</methodName></methodCall>',
                                  "<methodCall><methodName>core.echo</methodName><params><param><value><int>x</int></value></param></params></methodCall>",
                                  "<value>" * 500])  # fmt: skip
def test_what_is_no_document(web: Web, body: str) -> None:
    with pytest.raises(Fault, match="Invalid XML-RPC Document"):
        loads(web.ask("POST", "/RPC2", body).partition("\r\n\r\n")[2])


@given(st.text(max_size=200))
def test_any_text_is_a_call_or_none(body: str) -> None:
    try:
        read_call(body.encode("utf-8", "replace").decode("latin-1"))
    except DocumentError:
        pass


def test_other_urls_are_for_others(web: Web) -> None:
    assert web.ask("POST", "/other", dumps((), "core.echo")) == ""
    assert web.ask("POST", "/RPC/no", dumps((), "core.echo")) == ""


def test_without_a_route(make: Callable[..., Web]) -> None:
    web = make("request_route { exit; }\n", LOAD + 'modparam("xmlrpc", "autoconversion", 1)\nmodparam("xmlrpc", "double_lf_to_crlf", 1)\n')
    assert ask(web, "core.echo", "a", "7", url="/") == ["a", "7"]
    assert ask(web, "htable.seti", "t", "n", "7", url="/") == "Ok. Key set to new value."
    assert ask(web, "core.prints", "a\n\nb", url="/") == "a\r\nb"


def test_a_route_that_is_not_there(bench) -> None:
    with pytest.raises(ConfigError, match=r"no route\[XMLRPC\]"):
        bench("request_route { exit; }\n", head=ROUTED)


def test_layout() -> None:
    head = '<?xml version="1.0"?>\n<methodResponse>\n<params>\n<param>\n<value>'
    assert response("x") == head + "<string>x</string>\n</value>\n</param>\n</params>\n</methodResponse>"
    assert response([1, 1 << 40, 1.5, None]) == (head + "<array><data>\n<value><int>1</int></value>\n<value><string>1099511627776</string></value>\n"
                                                 "<value><double>1.5</double></value>\n<value><string></string></value>\n</data></array></value>\n</param>\n</params>\n"
                                                 "</methodResponse>")  # fmt: skip
    assert "<name>faultString</name>\n<value><string>a &lt; b</string></value>" in fault(400, "a < b")
