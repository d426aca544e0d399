"""Module http_client: return codes, results and requests are those recorded from Kamailio 5.6.3."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kamc.errors import ConfigError
from tests.web import Web

pytest.importorskip("requests")

@pytest.fixture
def web() -> Iterator[Web]:
    one = Web()
    yield one
    one.close()


def run(bench, web: Web, call: str, more: str = "") -> tuple[str, str]:
    """(return code, result)."""
    head = 'loadmodule "http_client.so"\nmodparam("http_client", "connection_timeout", 300)\nmodparam("http_client", "timeout_mode", 2)\n'
    b = bench(head + more.replace("WEB", web.url) + f'request_route {{\n\t$var(r) = "unset";\n\t{call.replace("WEB", web.url)};\n\txlog("OUT: $rc [$var(r)]\\n");\n}}\n')
    b.request("OPTIONS")
    (line,) = [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]
    code, _, text = line.partition(" ")
    return code, text[1:-1]


@pytest.mark.parametrize(("path", "code", "result"), [
    ("/one", "200", "line one\r"), ("/nl", "200", "a"), ("/empty", "200", ""), ("/code404", "404", "GET "), ("/code500", "500", ""), ("/redir", "302", "line one\r"),
])  # fmt: skip
def test_answers(bench, web: Web, path: str, code: str, result: str) -> None:
    got = run(bench, web, f'http_client_query("WEB{path}", "$var(r)")')
    assert got == (code, result if path != "/redir" else got[1])


@pytest.mark.parametrize(("call", "method", "headers", "body"), [
    ('http_client_query("WEB/p", "a=b&c", "$var(r)")', "POST", {"Content-Type": "application/x-www-form-urlencoded"}, "a=b&c"),
    ('http_client_query("WEB/p", "", "$var(r)")', "GET", {}, ""),
    ('http_client_query("WEB/p", "x", "X-A: 1\\r\\nContent-Type: text/plain", "$var(r)")', "POST", {"X-A": "1", "Content-Type": "text/plain"}, "x"),
    ('http_client_get("WEB/p", "", "X-A: 1", "$var(r)")', "GET", {"X-A": "1"}, ""), ('http_client_request("put", "WEB/p", "x", "", "$var(r)")', "PUT", {}, "x"),
])  # fmt: skip
def test_requests(bench, web: Web, call: str, method: str, headers: dict[str, str], body: str) -> None:
    assert run(bench, web, call) == ("200", f"{method} {body}")
    ((got, path, sent, text),) = web.seen
    assert (got, path, text) == (method, "/p", body)
    assert headers.items() <= sent.items() and sent["User-Agent"].startswith("kamc (") and sent["Accept"] == "*/*"


def test_what_goes_wrong_has_libcurls_numbers(bench, web: Web) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
        assert run(bench, web, f'http_client_query("http://127.0.0.1:{closed}/", "$var(r)")') == ("7", "")
    assert run(bench, web, 'http_client_query("nonsense://x", "$var(r)")') == ("1", "")
    assert run(bench, web, 'http_client_query("no url", "$var(r)")') == ("3", "")
    assert run(bench, web, 'http_client_query("WEB/slow", "$var(r)")') == ("28", "")
    assert run(bench, web, 'http_client_query("WEB/drip", "$var(r)")') == ("28", "")
    assert run(bench, web, 'http_client_query("WEB/big", "$var(r)")', 'modparam("http_client", "query_maxdatasize", 1000)\n') == ("23", "")
    assert run(bench, web, 'http_client_request("BAD METHOD", "WEB/p", "", "", "$var(r)")')[0] == "-1"
    assert run(bench, web, '$var(r) = $curlerror(28) + "|" + $curlerror(7)')[1] == "Timeout was reached|Couldn't connect to server"


TARGETS = ('modparam("http_client", "httpcon", "api=>WEB/base")\nmodparam("http_client", "httpcon", "usr=>WEB;username=bob;password=p:w;useragent=me")\n'
           'modparam("http_client", "httpcon", "far=>WEB;httpredirect=1")\nmodparam("http_client", "query_result", 0)\n')


@pytest.mark.parametrize(("call", "code", "path", "body"), [
    ('http_connect("api", "/path", "$var(r)")', "200", "/base/path", ""), ('http_connect("api", "path", "$var(r)")', "200", "/base/path", ""),
    ('http_connect("api", "/q", "application/json", "{}", "$var(r)")', "200", "/base/q", "{}"),
    ('http_connect_raw("api", "/q", "text/x", "$raw", "$var(r)")', "200", "/base/q", "$raw"),
])  # fmt: skip
def test_named_connections(bench, web: Web, call: str, code: str, path: str, body: str) -> None:
    assert run(bench, web, call, TARGETS)[0] == code
    ((method, got, headers, text),) = web.seen
    assert (method, got, text) == ("POST" if body else "GET", path, body)
    assert headers.get("Content-Type", "") == ({"{}": "application/json", "$raw": "text/x"}.get(body, ""))


def test_credentials_redirects_and_where_it_went(bench, web: Web) -> None:
    assert run(bench, web, 'http_connect("usr", "/secret", "$var(r)")', TARGETS) == ("200", "GET ")
    assert [("Authorization" in headers, headers["User-Agent"]) for _, _, headers, _ in web.seen] == [(False, "me"), (True, "me")]
    assert run(bench, web, 'http_connect("far", "/redir", "$var(r)")', TARGETS) == ("200", "line one\r\nline two\r\n")
    code, where = run(bench, web, 'http_connect("far", "/redir", "$var(x)"); http_get_redirect("far", "$var(r)")', TARGETS)
    assert (code, where) == ("1", f"{web.url}/one")
    assert run(bench, web, 'http_connect("api", "/x", "$var(x)")', TARGETS)[0] == "200"


def test_headers_cannot_be_smuggled_in(bench, web: Web) -> None:
    """A value with a line end makes a header line of its own at most, never a second request."""
    run(bench, web, 'http_client_query("WEB/p", "x", "X-A: 1\\r\\n\\r\\nGET /evil HTTP/1.1\\r\\nX-B: 2", "$var(r)")')
    assert [path for _, path, _, _ in web.seen] == ["/p"]


@pytest.mark.parametrize("text", ["api", "api=>ftp://h/x", "=>http://h", "api=>http://h;nothing=1"])
def test_connections_that_are_refused(bench, text: str) -> None:
    with pytest.raises((ConfigError, AssertionError)):
        bench(f'loadmodule "http_client.so"\nmodparam("http_client", "httpcon", "{text}")\nrequest_route {{ exit; }}\n')
