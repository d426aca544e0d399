"""Connections of the TCP hub, over real sockets on loopback and a clock that the test moves."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kamc.runtime.log import Log
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.tcp import Closing, TcpHub, bind_tcp

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
                       "tcp_crlf_ping": 1, "tcp_no_connect": 0, "tcp_conn_wq_max": 4000, "tcp_send_timeout": 5}  # fmt: skip
        self.got: list[tuple[bytes, int]] = []
        self.lost: list[tuple[str, int]] = []
        self.loop = Loop()
        self.hub = TcpHub(Log(-9), lambda: self.now, self.params.__getitem__, lambda m, listener, remote, number, proto: self.got.append((m, number)), self.lost.append)
        self.server = bind_tcp(Listener("tcp", "127.0.0.1", 0))
        self.address = self.server.getsockname()
        self.listener = Listener("tcp", *self.address)
        self.clients: list[socket.socket] = []
        self.hub.serve(self.loop, self.listener, self.server)

    def client(self) -> socket.socket:
        before = len(self.hub.connections)
        sock = socket.create_connection(self.address, timeout=5)
        self.clients.append(sock)
        self.loop.until(lambda: len(self.hub.connections) > before)
        return sock

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
    net.hub.on_closed["test"] = lambda conn, how: ends.append(how)
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
