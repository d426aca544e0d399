"""HTTP on the stream sockets: requests reach the script whole, answers are sent once, silence ends the connection."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.tcp import bind_tcp
from tests.harness import HEAD, Bench
from tests.unit.test_tcp import Loop

BODY = """
request_route { sl_send_reply("200", "OK"); }
event_route[xhttp:request] {
    if ($hu == "/RPC") { jsonrpc_dispatch(); exit; }
    if ($hu == "/silent") { exit; }
    if ($hu == "/refused") { xhttp_reply("200", "Fine", "", ""); return -1; }
    if ($hu == "/twice") { xhttp_reply("404", "First", "", ""); }
    xhttp_reply("200", "Fine", "text/plain", "$rm $rb");
}
"""


class Http:
    """One connection to the server at a time."""

    def __init__(self, bench: Bench) -> None:
        self.loop = Loop()
        hub = bench.worker.streams
        self.server = bind_tcp(Listener("tcp", "127.0.0.1", 0))
        listener = Listener("tcp", *self.server.getsockname())
        bench.worker.datapath.add_listener(listener, hub.send)
        hub.serve(self.loop, listener, self.server)
        self.hub = hub

    def ask(self, text: str) -> tuple[str, bool]:
        """What came back, and whether the server has closed the connection."""
        with socket.create_connection(self.server.getsockname(), timeout=5) as sock:
            sock.sendall(text.encode())
            sock.setblocking(False)
            got = b""
            for _ in range(6):
                self.loop.turn(0.02)
                try:
                    data = sock.recv(65536)
                except BlockingIOError:
                    continue
                if not data:
                    return got.decode(), True
                got += data
            return got.decode(), False


@pytest.fixture
def http(bench: Callable[..., Bench]) -> Iterator[Http]:
    head = 'loadmodule "xhttp.so"\nloadmodule "jsonrpcs.so"\nmodparam("jsonrpcs", "transport", 1)\n'
    made = Http(bench("tcp_accept_no_cl=yes\n" + BODY, head=HEAD + head))
    yield made
    made.hub.shutdown()
    made.server.close()


def post(body: str, url: str = "/x", *lines: str) -> str:
    return f"POST {url} HTTP/1.1\r\nHost: h\r\n" + "".join(f"{line}\r\n" for line in lines) + f"Content-Length: {len(body)}\r\n\r\n{body}"


def test_a_request_in_chunks_is_one_request(http: Http) -> None:
    text = "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n"
    answer, closed = http.ask(text)
    assert answer.startswith("HTTP/1.1 200 Fine\r\n")
    assert answer.endswith("\r\n\r\nPOST one two")
    assert not closed


def test_with_both_lengths_nothing_behind_the_request_is_read(http: Http) -> None:
    text = "POST {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 35\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n"
    answer, closed = http.ask(text.format("/x"))
    assert answer.count("HTTP/1.1 ") == 1
    assert closed
    # also when nobody answers it
    assert http.ask(text.format("/silent")) == ("", True)
    assert http.ask(text.format("/RPC")) == ("", True)


def test_other_codings_are_refused(http: Http) -> None:
    answer, closed = http.ask(post("hello", "/x", "Transfer-Encoding: gzip"))
    assert answer.startswith("HTTP/1.1 501 ")
    assert closed


def test_a_second_answer_is_not_sent(http: Http) -> None:
    answer, closed = http.ask(post("", "/twice"))
    assert answer.startswith("HTTP/1.1 404 First\r\n")
    assert "Fine" not in answer
    assert not closed


def test_a_negative_result_of_the_script_ends_the_connection(http: Http) -> None:
    """As in the real one, 5.6.3; tcp_script_mode keeps it open."""
    assert http.ask(post("", "/silent")) == ("", False)
    assert http.ask(post("no json", "/RPC")) == ("", False)
    answer, closed = http.ask(post("", "/refused"))
    assert answer.startswith("HTTP/1.1 200 Fine")
    assert closed


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"jsonrpc": "2.0", "method": "core.echo", "params": ["a"], "id": 1}', None),
        ('{"jsonrpc": "2.0", "id": 1}', -32600),
        ('{"a": {"a": {}}}', -32600),
        ("[]", -32600),
    ],
)
def test_what_json_rpc_answers(http: Http, body: str, error: int | None) -> None:
    answer, closed = http.ask(post(body, "/RPC"))
    head, _, text = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 ")
    assert json.loads(text).get("error", {}).get("code") == error
    assert not closed
