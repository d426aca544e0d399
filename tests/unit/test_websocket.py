"""WebSocket connections over real sockets on loopback. Answers, close codes and texts as those of Kamailio 5.6.3, unless a test says otherwise."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode

from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.tcp import bind_tcp
from kamc.runtime.rpc.fault import RpcFault
from tests.harness import Bench
from tests.unit.test_tcp import Loop

HEAD = "tcp_accept_no_cl=yes\n"
BODY = """
request_route {
    if ($rU == "go") { ws_close(4001, "go away"); exit; }
    if ($rU == "other") { $var(o) = $hdr(X-Other); $var(rc) = ws_close(4002, "you too", "$var(o)"); append_to_reply("X-Rc: $var(rc)\\r\\n"); }
    append_to_reply("X-Proto: $proto $pr\\r\\n");
    sl_send_reply("200", "OK");
}
event_route[xhttp:request] {
    ws_handle_handshake();
    xlog("after\\n");
}
event_route[websocket:closed] { xlog("closed $si:$sp $ws_conid\\n"); }
"""
HEADERS = {"Host": "h", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Protocol": "chat, sip"}  # fmt: skip
OPTIONS = ("OPTIONS sip:{user}@h SIP/2.0\r\nVia: SIP/2.0/WS x.invalid;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: 1\r\n"
           "CSeq: 1 OPTIONS\r\n{more}Content-Length: 0\r\n\r\n")  # fmt: skip


class Client:
    """A browser."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.sock = socket.create_connection(net.address, timeout=5)
        self.frames = FrameProtocol(client=True, extensions=[])
        self.pending: list[Frame] = []

    def send(self, data: bytes | bytearray) -> None:
        self.sock.sendall(data)

    def raw(self) -> bytes:
        """What comes next, whatever it is; empty when the connection has ended."""
        self.sock.setblocking(False)
        for _ in range(200):
            try:
                return self.sock.recv(65536)
            except BlockingIOError:
                self.net.loop.turn(0.02)
            except ConnectionResetError:
                return b""
        raise AssertionError("nothing came")

    def shake(self, drop: str = "", **changed: str) -> str:
        headers = {k: changed.get(k.replace("-", "_"), v) for k, v in HEADERS.items() if k != drop}
        headers |= {k.replace("_", "-"): v for k, v in changed.items() if k.replace("_", "-") not in HEADERS}
        self.send(("GET / HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode())
        return self.raw().decode()

    def ask(self, user: str = "x", more: str = "") -> str:
        self.send(self.frames.send_data(OPTIONS.format(user=user, more=more)))
        return str(self.frame().payload)

    def frame(self) -> Frame:
        while not self.pending:
            data = self.raw()
            if not data:
                raise EOFError
            self.frames.receive_bytes(data)
            self.pending += self.frames.received_frames()
        return self.pending.pop(0)

    def ends(self, code: int | None, reason: str = "") -> bool:
        """A close frame, unless the code is None, and then the end of the connection."""
        if code is not None and self.frame().payload != (code, reason):
            return False
        return self.raw() == b""


class Net:
    def __init__(self, bench: Callable[..., Bench], params: str = "", head: str = HEAD) -> None:
        mods = 'loadmodule "xhttp.so"\nloadmodule "websocket.so"\nloadmodule "statistics.so"\nmodparam("websocket", "ping_application_data", "Hallo")\n'
        self.bench = bench(head + mods + params + BODY)
        self.loop = Loop()
        self.hub = self.bench.worker.streams
        self.server = bind_tcp(Listener("tcp", "127.0.0.1", 0))
        self.address = self.server.getsockname()
        listener = Listener("tcp", *self.address)
        self.bench.worker.listeners.append(listener)
        self.bench.worker.datapath.add_listener(listener, self.hub.send)
        self.hub.serve(self.loop, listener, self.server)
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self))
        return self.clients[-1]

    def open(self) -> Client:
        client = self.client()
        assert client.shake().startswith("HTTP/1.1 101 ")
        return client

    def stat(self, name: str) -> int:
        (text,) = self.bench.rpc("stats.get_statistics", f"ws_{name}")
        return int(text.rpartition(" = ")[2])


@pytest.fixture
def net(bench: Callable[..., Bench]) -> Iterator[Callable[..., Net]]:
    made: list[Net] = []

    def make(params: str = "", head: str = HEAD) -> Net:
        made.append(Net(bench, params, head))
        return made[-1]

    yield make
    for one in made:
        one.hub.shutdown()
        one.server.close()
        for client in one.clients:
            client.sock.close()


# -- handshake ---------------------------------------------------------------------------------------------------------------


def test_the_answer_to_a_handshake(net: Callable[..., Net]) -> None:
    n = net('modparam("websocket", "cors_mode", 2)\n')
    c = n.client()
    text = c.shake(Origin="http://x.test")
    port = c.sock.getsockname()[1]
    # the accept value is the one of RFC 6455 section 1.3
    assert text.split("\r\n")[:7] == [
        "HTTP/1.1 101 Switching Protocols", f"Sia: SIP/2.0/TCP 127.0.0.1:{port}", "Access-Control-Allow-Origin: http://x.test", "Sec-WebSocket-Protocol: sip",
        "Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ]  # fmt: skip
    assert "Content-Length: 0\r\n\r\n" in text and n.stat("sip_successful_handshakes") == 1
    assert any("after" in line for line in n.bench.log.lines)


@pytest.mark.parametrize(("drop", "changed", "first", "headers"), [
    ("Upgrade", {}, "400 Bad Request", {"Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Version: 13"}),
    ("Connection", {}, "400 Bad Request", {"Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Version: 13"}),
    ("Sec-WebSocket-Key", {}, "400 Bad Request", {"Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Version: 13"}),
    ("Sec-WebSocket-Version", {}, "400 Bad Request", {"Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Version: 13"}),
    ("", {"Sec_WebSocket_Protocol": "msrp"}, "400 Bad Request", {"Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Version: 13"}),
    ("", {"Sec_WebSocket_Version": "8"}, "426 Upgrade Required", {"Sec-WebSocket-Version: 13"}),
    ("", {"sec-websocket-key": "another"}, "400 Bad Request", set()),
])  # fmt: skip
def test_handshakes_that_are_refused(net: Callable[..., Net], drop: str, changed: dict[str, str], first: str, headers: set[str]) -> None:
    n = net()
    c = n.client()
    text = c.shake(drop, **changed)
    assert text.startswith(f"HTTP/1.1 {first}\r\n")
    assert {line for line in text.split("\r\n") if line.startswith("Sec-")} == headers
    assert c.raw() == b"" and n.stat("failed_handshakes") == 1
    assert not any("after" in line for line in n.bench.log.lines)  # the script has ended


@pytest.mark.parametrize(("name", "value"), [
    ("keepalive_mechanism", 3), ("cors_mode", 3), ("sub_protocols", 2), ("sub_protocols", 0), ("keepalive_timeout", 0), ("rm_delay_interval", -1),
])  # fmt: skip
def test_bad_parameters(net: Callable[..., Net], name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        net(f'modparam("websocket", "{name}", {value})\n')


# -- frames ------------------------------------------------------------------------------------------------------------------


def test_sip_over_it(net: Callable[..., Net]) -> None:
    c = net().open()
    assert "X-Proto: ws ws\r\n" in c.ask()
    text = OPTIONS.format(user="x", more="")
    # in pieces, with a ping between them; two messages in one segment
    c.send(c.frames.send_data(text[:30], fin=False) + c.frames.ping(b"hi") + c.frames.send_data(text[30:]) + c.frames.send_data(text))
    frames = [c.frame() for _ in range(3)]
    assert (frames[0].opcode, bytes(frames[0].payload)) == (Opcode.PONG, b"hi")
    assert all(f.opcode is Opcode.TEXT and str(f.payload).startswith("SIP/2.0 200") for f in frames[1:])


def test_what_is_no_utf8_comes_and_goes_in_binary_frames(net: Callable[..., Net]) -> None:
    c = net().open()
    c.send(c.frames.send_data(OPTIONS.format(user="x", more="").replace("tag=1", "tag=ä").encode("latin-1")))
    frame = c.frame()
    assert frame.opcode is Opcode.BINARY and b"tag=\xe4" in bytes(frame.payload)


def test_bytes_that_come_right_behind_the_handshake(net: Callable[..., Net]) -> None:
    n = net()
    c = n.client()
    head = "GET / HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in HEADERS.items()) + "\r\n"
    c.send(head.encode() + bytes(c.frames.ping(b"early")))
    got = b""
    while b"early" not in got:
        got += c.raw()
    assert got.startswith(b"HTTP/1.1 101") and got.endswith(b"\x8a\x05early")


def masked(first: int, second: int, data: bytes = b"", key: bytes = b"\0\0\0\0") -> bytes:
    return bytes([first, 0x80 | second]) + key + data


@pytest.mark.parametrize(("data", "code", "reason"), [
    (bytes([0x81, 3]) + b"abc", 1002, "Protocol error"),  # not masked
    (masked(0xC1, 3, b"abc"), 1002, "Protocol error"),  # a reserved bit
    (masked(0x83, 1, b"a"), 1002, "Protocol error"),  # unknown opcode; Kamailio says 1008
    (masked(0x80, 3, b"abc"), 1002, "Protocol error"),  # the rest of nothing; Kamailio takes it
    (masked(0x09, 1, b"a"), 1002, "Protocol error"),  # a ping in pieces
    (masked(0x81, 2, b"\xff\xff"), 1007, "Invalid data"),  # text that is no UTF-8; Kamailio takes it
    (masked(0x81, 0), None, ""),
    (masked(0x88, 0), 1000, "Normal closure"),
    (masked(0x88, 2, b"\x03\xe8"), 1000, "Normal closure"),
])  # fmt: skip
def test_frames_that_end_the_connection(net: Callable[..., Net], data: bytes, code: int | None, reason: str) -> None:
    n = net()
    c = n.open()
    c.send(data)
    assert c.ends(code, reason)
    assert n.hub.connections == {}
    assert n.stat("remote_closed_connections" if code == 1000 else "failed_connections") == 1
    assert sum("closed 127.0.0.1:" in line for line in n.bench.log.lines) == 1


def test_what_is_no_sip_ends_the_connection(net: Callable[..., Net]) -> None:
    n = net()
    c = n.open()
    c.send(c.frames.send_data("hello world"))
    assert c.ends(None) and n.hub.connections == {}


def test_empty_lines_are_answered_and_other_data_is_not_lost(net: Callable[..., Net]) -> None:
    c = net().open()
    c.send(c.frames.send_data("\r\n\r\n"))
    assert c.frame().payload == "\r\n"
    assert c.ask().startswith("SIP/2.0 200")


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_message_that_is_too_big(net: Callable[..., Net], pieces: int) -> None:
    c = net().open()
    part = "x" * (65536 // pieces + 1)
    for index in range(pieces):
        c.send(c.frames.send_data(part, fin=index == pieces - 1))
    assert c.frame().payload == (CloseReason.MESSAGE_TOO_BIG, "Message too big")


# -- closing -----------------------------------------------------------------------------------------------------------------


def test_a_script_closes_and_the_client_answers(net: Callable[..., Net]) -> None:
    n = net()
    c = n.open()
    c.send(c.frames.send_data(OPTIONS.format(user="go", more="")))
    assert c.frame().payload == (4001, "go away")
    c.send(c.frames.close(4001))
    assert c.raw() == b""
    assert n.stat("local_closed_connections") == 1


def test_a_client_that_does_not_answer_a_close_is_cut_off(net: Callable[..., Net]) -> None:
    n = net('modparam("websocket", "rm_delay_interval", 3)\n')
    one, two = n.open(), n.open()
    number = int(n.bench.rpc("ws.dump")["connections"][0].partition(":")[0])
    assert "X-Rc: 1\r\n" in two.ask("other", f"X-Other: {number}\r\n")
    assert one.frame().payload == (4002, "you too")
    assert "X-Rc: -1\r\n" in two.ask("other", "X-Other: 999\r\n")
    n.bench.advance(2)
    assert len(n.hub.connections) == 2
    n.bench.advance(3)
    assert len(n.hub.connections) == 1 and one.raw() == b""


@pytest.mark.parametrize(("mechanism", "opcode"), [(1, Opcode.PING), (2, Opcode.PONG)])
def test_silent_clients_are_asked(net: Callable[..., Net], mechanism: int, opcode: Opcode) -> None:
    n = net(f'modparam("websocket", "keepalive_timeout", 30)\nmodparam("websocket", "keepalive_mechanism", {mechanism})\n')
    silent, alive = n.open(), n.open()
    n.bench.advance(32)
    for c in (silent, alive):
        frame = c.frame()
        assert (frame.opcode, bytes(frame.payload)) == (opcode, b"Hallo")
    alive.send(alive.frames.pong(b"Hallo"))
    n.loop.turn()
    n.bench.advance(32)
    assert alive.frame().opcode is opcode
    assert len(n.hub.connections) == (1 if mechanism == 1 else 2)


# -- RPC ---------------------------------------------------------------------------------------------------------------------


def test_commands(net: Callable[..., Net]) -> None:
    n = net()
    c = n.open()
    port = c.sock.getsockname()[1]
    rpc = n.bench.rpc
    number = next(iter(n.hub.connections))

    def dump(*args: str) -> list[Any]:
        return rpc("ws.dump", *args)["connections"]

    shown = f"{number}: ws:127.0.0.1:{port} -> ws:127.0.0.1:{n.address[1]} (state: OPEN,{{}}  last used 0s ago, sub-protocol: sip)"
    assert dump() == [shown.format("")]
    rpc("ws.ping", number)
    assert c.frame().opcode is Opcode.PING
    assert dump("used_desc") == [shown.format(" awaiting Pong,")]
    rpc("ws.pong", number)
    assert c.frame().opcode is Opcode.PONG
    for name, wrong in (("ws.ping", 99), ("ws.close", "x"), ("ws.dump", "upside_down")):
        with pytest.raises(RpcFault):
            rpc(name, wrong)
    rpc("ws.disable")
    assert n.client().shake().startswith("HTTP/1.1 503 Service Unavailable")
    rpc("ws.enable")
    rpc("ws.close", number)
    assert c.frame().payload == (1000, "Normal closure")
    with pytest.raises(RpcFault, match="Error sending frame"):
        rpc("ws.ping", number)


# -- routing -----------------------------------------------------------------------------------------------------------------


def test_nobody_is_called_over_websocket(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { $du = "sip:127.0.0.1:7000;transport=ws"; t_relay(); }\n')
    b.worker.listeners.append(Listener("tcp", "127.0.0.1", 5060))
    b.worker.datapath.add_listener(b.worker.listeners[-1], b.worker.streams.send)
    b.request("MESSAGE", "sip:x@h")
    assert b.firsts() == ["SIP/2.0 477 Unfortunately error on sending to next hop occurred (477/TM)"]
