"""Connections of the TCP hub, over real sockets on loopback and a clock that the test moves."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kamc.runtime.counters import Counters
from kamc.runtime.log import Log
from kamc.runtime.net.connection import Closing
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.sockopts import type_of_service
from kamc.runtime.net.tcp import TcpHub, bind_tcp
from kamc.runtime.net.udp import bind_udp

MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n"


class Loop:
    """An event loop that turns only when told."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], Any]] = {}
        self.writers: dict[int, Callable[[], Any]] = {}

    def add_reader(self, fd: int, callback: Callable[[], Any]) -> None:
        self.readers[fd] = callback

    def add_writer(self, fd: int, callback: Callable[[], Any]) -> None:
        self.writers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        self.readers.pop(fd, None)

    def remove_writer(self, fd: int) -> None:
        self.writers.pop(fd, None)

    def turn(self, timeout: float = 1.0) -> None:
        """Wait until something is ready and run it."""
        with selectors.DefaultSelector() as selector:
            for fd in {*self.readers, *self.writers}:
                mask = (selectors.EVENT_READ if fd in self.readers else 0) | (selectors.EVENT_WRITE if fd in self.writers else 0)
                selector.register(fd, mask)
            for key, mask in selector.select(timeout):
                if mask & selectors.EVENT_WRITE and key.fd in self.writers:
                    self.writers[key.fd]()
                if mask & selectors.EVENT_READ and key.fd in self.readers:
                    self.readers[key.fd]()

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(200):
            if condition():
                return
            self.turn()
        raise AssertionError("it did not come to that")


class Setup:
    def __init__(self) -> None:
        self.now = 100.0
        self.params = {"tcp_max_connections": 3, "tcp_rd_buf_size": 4096, "tcp_accept_no_cl": 0, "tcp_connect_timeout": 5, "tcp_connection_lifetime": 60,
                       "tcp_crlf_ping": 1, "tcp_no_connect": 0, "tcp_conn_wq_max": 4000, "tcp_send_timeout": 5, "tcp_wq_max": 6000}  # fmt: skip
        self.got: list[tuple[bytes, int]] = []
        self.lost: list[tuple[str, int]] = []
        self.loop = Loop()
        self.counters = Counters()
        self.hub = TcpHub(Log(-9), lambda: self.now, lambda name: self.params.get(name, 0), self.receive, self.lost.append, self.counters)
        self.server = bind_tcp(Listener("tcp", "127.0.0.1", 0))
        self.address = self.server.getsockname()
        self.listener = Listener("tcp", *self.address)
        self.clients: list[socket.socket] = []
        self.hub.serve(self.loop, self.listener, self.server)

    def receive(self, message: bytes, listener: Listener, remote: tuple[str, int], number: int, proto: str) -> None:
        self.got.append((message, number))

    def client(self) -> socket.socket:
        before = len(self.hub.connections)
        sock = socket.create_connection(self.address, timeout=5)
        self.clients.append(sock)
        self.loop.until(lambda: len(self.hub.connections) > before)
        return sock

    def counted(self) -> dict[str, int]:
        """Statistics that are not zero."""
        return {name: value for (group, name), value in self.counters.values.items() if group == "tcp" and value}

    def close(self) -> None:
        self.hub.shutdown()
        self.server.close()
        for sock in self.clients:
            sock.close()


@pytest.fixture
def net() -> Iterator[Setup]:
    setup = Setup()
    yield setup
    setup.close()


def test_the_answer_goes_over_the_connection_of_the_request(net: Setup) -> None:
    one, two = net.client(), net.client()
    two.sendall(MESSAGE)
    net.loop.until(lambda: bool(net.got))
    number = net.got[0][1]
    net.hub.send(net.listener, b"answer", ("127.0.0.1", 9), number)
    assert two.recv(100) == b"answer"
    net.hub.send(net.listener, b"by address", one.getsockname())
    assert one.recv(100) == b"by address"


def test_keepalive_is_answered_and_broken_framing_closes(net: Setup) -> None:
    sock = net.client()
    sock.sendall(b"\r\n\r\n")
    net.loop.turn()
    assert sock.recv(100) == b"\r\n"
    sock.sendall(b"INVITE sip:a@b SIP/2.0\r\nNo-Length: 1\r\n\r\n")
    net.loop.until(lambda: not net.hub.connections)
    assert sock.recv(100) == b""
    assert net.got == []


def test_idle_connections_are_closed_and_said_so(net: Setup) -> None:
    ends: list[Closing] = []
    net.hub.hooks.connection_closed["test"] = lambda conn, how: ends.append(how)
    kept, idle = net.client(), net.client()
    net.now += 59
    kept.sendall(MESSAGE)
    net.loop.until(lambda: bool(net.got))
    net.now += 2
    net.hub.close_idle()
    assert len(net.hub.connections) == 1
    assert ends == [Closing.IDLE]
    assert idle.recv(10) == b""


def test_connections_beyond_the_limit_are_closed(net: Setup) -> None:
    kept = [net.client() for _ in range(3)]
    with socket.create_connection(net.address, timeout=5) as extra:
        net.loop.turn()
        assert extra.recv(10) == b""
    assert len(net.hub.connections) == len(kept)


def test_a_refused_connection_is_an_error_at_once_or_heard_of(net: Setup) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()
    try:
        net.hub.send(net.listener, b"x", closed)
    except OSError:
        assert net.hub.connections == {}
    else:
        net.loop.until(lambda: bool(net.lost))
        assert net.lost == [closed]


def test_a_peer_that_does_not_read_is_given_up(net: Setup) -> None:
    sock = net.client()
    peer = sock.getsockname()
    with pytest.raises(OSError, match="does not read"):
        for _ in range(10_000):
            net.hub.send(net.listener, b"x" * 3000, peer)
    net.now += 6
    net.hub.close_idle()
    assert net.hub.connections == {}
    assert net.lost == [peer]


def test_no_new_connection_when_none_may_be_opened(net: Setup) -> None:
    with pytest.raises(OSError, match="no connection"):
        net.hub.send(net.listener, b"x", net.address, connect=False)
    net.params["tcp_no_connect"] = 1
    with pytest.raises(OSError, match="no connection"):
        net.hub.send(net.listener, b"x", net.address)


def test_an_alias_leads_to_the_connection_and_cannot_be_taken(net: Setup) -> None:
    one, two = net.client(), net.client()
    numbers = {net.hub.find(s.getsockname()).id: s for s in (one, two)}  # type: ignore[union-attr]
    first, second = numbers
    assert net.hub.add_alias(first, 5099)
    assert not net.hub.add_alias(second, 5099)
    net.hub.send(net.listener, b"alias", ("127.0.0.1", 5099))
    assert numbers[first].recv(100) == b"alias"


# -- limits ------------------------------------------------------------------------------------------------------------------


def test_connections_of_one_source(net: Setup) -> None:
    net.params["tcp_accept_iplimit"] = 2
    one, _two = net.client(), net.client()
    third = socket.create_connection(net.address, timeout=5)
    net.clients.append(third)
    net.loop.turn()
    assert third.recv(10) == b"" and len(net.hub.connections) == 2
    one.close()
    net.loop.until(lambda: len(net.hub.connections) == 1)
    net.client()
    assert len(net.hub.connections) == 2


def test_a_message_that_comes_byte_by_byte(net: Setup) -> None:
    net.params["tcp_msg_read_timeout"] = 20
    slow, quick = net.client(), net.client()
    for at in range(len(MESSAGE) - 1):
        slow.sendall(MESSAGE[at : at + 1])
        net.loop.turn()
        net.now += 1
        net.hub.close_idle()
        if at == 10:
            quick.sendall(MESSAGE)
            net.loop.until(lambda: bool(net.got))
        if len(net.hub.connections) == 1:
            break
    assert at == 19 and slow.recv(10) == b""
    net.now += 30
    net.hub.close_idle()
    assert len(net.hub.connections) == 1  # silence between messages is something else


def test_all_queues_together_are_limited(net: Setup) -> None:
    for _ in range(2):
        net.client()
    first, second = net.hub.connections.values()
    blocked = {id(c): c.sock for c in (first, second)}

    class Full:
        """A socket that takes nothing."""

        def __init__(self, sock: socket.socket) -> None:
            self.fileno, self.close, self.recv = sock.fileno, sock.close, sock.recv

        def send(self, data: bytes) -> int:
            raise BlockingIOError

    for conn in (first, second):
        conn.sock = Full(blocked[id(conn)])  # type: ignore[assignment]
        net.hub.send(net.listener, b"x" * 2900, conn.remote)
    with pytest.raises(OSError, match="tcp_wq_max"):
        net.hub.send(net.listener, b"x" * 300, first.remote)
    net.hub.close(first)
    assert net.hub.queued == 2900
    net.hub.send(net.listener, b"x" * 300, second.remote)


# -- PROXY protocol ----------------------------------------------------------------------------------------------------------

V2 = b"\r\n\r\n\0\r\nQUIT\n"
ADDRESS = bytes([192, 0, 2, 7, 127, 0, 0, 1]) + (5555).to_bytes(2, "big") + (5060).to_bytes(2, "big")


@pytest.mark.parametrize(("header", "remote"), [
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 5060\r\n", ("192.0.2.7", 5555)), (b"PROXY TCP6 2001:db8::1 ::1 5555 5060\r\n", ("2001:db8::1", 5555)),
    (V2 + b"\x21\x11\x00\x0c" + ADDRESS, ("192.0.2.7", 5555)), (V2 + b"\x21\x11\x00\x10" + ADDRESS + b"more", ("192.0.2.7", 5555)),
    (b"PROXY UNKNOWN\r\n", None), (V2 + b"\x20\x00\x00\x00", None),
])  # fmt: skip
@pytest.mark.parametrize("piece", [1, 1000])
def test_who_the_client_is_behind_a_load_balancer(net: Setup, header: bytes, remote: tuple[str, int] | None, piece: int) -> None:
    net.params["tcp_accept_haproxy"] = 1
    sock = net.client()
    own = sock.getsockname()
    whole = header + MESSAGE
    for at in range(0, len(whole), piece):
        sock.sendall(whole[at : at + piece])
        net.loop.turn()
    net.loop.until(lambda: bool(net.got))
    (conn,) = net.hub.connections.values()
    assert conn.remote == (remote or own) and net.got == [(MESSAGE, conn.id)]
    net.hub.send(net.listener, b"answer", conn.remote)
    assert sock.recv(10) == b"answer"
    sock.close()
    net.loop.until(lambda: not net.hub.connections)
    assert net.hub._by_remote == {} and net.hub._by_source == {}


@pytest.mark.parametrize("data", [
    MESSAGE, b"PROXY TCP4 nonsense 127.0.0.1 1 2\r\n", b"PROXY TCP4 1.2.3.4 127.0.0.1 99999 2\r\n", b"PROXY " + b"x" * 200, V2 + b"\x31\x11\x00\x0c" + ADDRESS,
    V2 + b"\x21\x11\x00\x04" + ADDRESS[:4],
])  # fmt: skip
def test_what_is_no_proxy_header_ends_the_connection(net: Setup, data: bytes) -> None:
    net.params["tcp_accept_haproxy"] = 1
    sock = net.client()
    sock.sendall(data)
    net.loop.until(lambda: not net.hub.connections)
    assert net.got == []


def test_options_of_sockets(net: Setup) -> None:
    net.params |= {"tcp_keepalive": 1, "tcp_keepidle": 33, "tcp_keepintvl": 11, "tcp_keepcnt": 4, "tos": 0x10}
    net.client()
    (conn,) = net.hub.connections.values()
    got = [conn.sock.getsockopt(socket.IPPROTO_TCP, o) for o in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
    assert got == [33, 11, 4] and conn.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert conn.sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0x10
    assert type_of_service("IPTOS_LOWDELAY") == 0x10 and type_of_service(None) == 0 and type_of_service("nonsense") == 0
    with bind_udp(Listener("udp", "127.0.0.1", 0), {"tos": 0x08, "maxsndbuffer": 9000, "pmtu_discovery": 1}.get) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0x08 and sock.getsockopt(socket.IPPROTO_IP, 10) == 2
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 18000


def test_one_connection_of_an_address_only(net: Setup) -> None:
    net.params["tcp_accept_unique"] = 1
    net.client()
    other = bind_tcp(Listener("tcp", "127.0.0.1", 0))
    net.hub.serve(net.loop, Listener("tcp", *other.getsockname()), other)
    with other, socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        net.clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(net.clients[0].getsockname())
        again.settimeout(5)
        again.connect(other.getsockname())
        net.loop.turn()
        assert again.recv(10) == b""
    assert len(net.hub.connections) == 1


def test_the_socket_to_send_from_can_choose_the_connection(net: Setup) -> None:
    other = bind_tcp(Listener("tcp", "127.0.0.1", 0))
    second = Listener("tcp", *other.getsockname())
    net.hub.serve(net.loop, second, other)
    first = net.client()
    with other, socket.socket() as again:
        for sock in (first, again):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(first.getsockname())
        again.settimeout(5)
        again.connect(other.getsockname())
        net.loop.until(lambda: len(net.hub.connections) == 2)
        net.hub.send(net.listener, b"to the newest", first.getsockname())
        assert again.recv(100) == b"to the newest"
        net.params["tcp_connection_match"] = 1
        net.hub.send(net.listener, b"by the socket", first.getsockname())
        assert first.recv(100) == b"by the socket"


def test_what_is_counted_of_accepted_connections(net: Setup) -> None:
    """As recorded from Kamailio 5.6.3: who says nothing is not established, and may be reset all the same."""
    silent = net.client()
    assert net.counted() == {} and net.hub.measured["current_opened_connections"]() == 1
    talking = net.client()
    for _ in range(2):
        talking.sendall(MESSAGE)
        net.loop.turn()
    net.loop.until(lambda: len(net.got) == 2)
    assert net.counted() == {"passive_open": 1, "established": 1}
    for sock in (silent, talking):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    net.loop.until(lambda: not net.hub.connections)
    assert net.counted() == {"passive_open": 1, "established": 1, "con_reset": 2}
    net.client().close()
    net.loop.until(lambda: not net.hub.connections)
    net.client()
    net.now += 100
    net.hub.close_idle()
    assert net.counted() == {"passive_open": 1, "established": 1, "con_reset": 2, "con_timeout": 1}
    for _ in range(4):
        net.clients.append(socket.create_connection(net.address, timeout=5))
        net.loop.turn()
    assert net.counted()["local_reject"] == 1


def test_what_is_counted_of_opened_connections(net: Setup) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(5)
        net.hub.send(net.listener, b"x", server.getsockname())
        peer = server.accept()[0]
        net.loop.until(lambda: net.counted() == {"connect_success": 1, "established": 1})
        assert peer.recv(10) == b"x"
        peer.close()
        net.loop.until(lambda: not net.hub.connections)
        closed = server.getsockname()
    with contextlib.suppress(OSError):
        net.hub.send(net.listener, b"x", closed)
        net.loop.until(lambda: bool(net.lost))
    assert net.counted() == {"connect_success": 1, "established": 1, "connect_failed": 1}


def test_what_is_counted_of_writes(net: Setup) -> None:
    peer = net.client().getsockname()
    with pytest.raises(OSError, match="does not read"):
        for _ in range(10_000):
            net.hub.send(net.listener, b"x" * 3000, peer)
    assert net.counted() == {"sendq_full": 1} and net.hub.measured["current_write_queue_size"]() > 0
    net.now += 6
    net.hub.close_idle()
    assert net.counted() == {"sendq_full": 1, "send_timeout": 1} and net.hub.measured["current_write_queue_size"]() == 0
