"""Two servers on one Redis: what one of them knows, the other one knows, and either may die."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Server
from tests.integration.test_reload import status, until
from tests.integration.test_workers import TEXT, reason
from tests.phone import Phone
from tests.redis_server import RedisServer, redis_server


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Roamer(Phone):
    """A UDP phone that talks with whichever server it hears of, at first with its own."""

    def __init__(self, user: str, server: Server) -> None:
        super().__init__(user, "udp", server.port)
        own = self.sock.getsockname()
        self.sock.close()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(own)
        self.sock.settimeout(5)

    def send(self, text: str) -> None:
        self.sock.sendto(text.encode("latin-1"), self.server)

    def _arrived(self) -> Iterator[str]:
        data, self.server = self.sock.recvfrom(65535)
        yield data.decode("latin-1")


@pytest.fixture
def phone() -> Iterator[Callable[[str, Server], Roamer]]:
    with contextlib.ExitStack() as stack:

        def make(user: str, server: Server) -> Roamer:
            found = Roamer(user, server)
            stack.callback(found.close)
            return found

        yield make


def answer(server: Server, user: str) -> str:
    return reason(server.ask("OPTIONS", f"sip:{user}@h"))


def size(server: Server) -> int:
    return int(answer(server, "size").split()[1])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_phone_at_one_is_called_through_the_other(serve: Callable[..., Server], redis: RedisServer, phone: Callable[[str, Server], Roamer], workers: str) -> None:
    a, b = (serve(TEXT, "--store", redis.url, "--workers", workers) for _ in range(2))
    bob, ann = phone("bob", a), phone("ann", b)
    bob.register()
    ann.register()
    assert [answer(s, "who").split()[2:] for s in (a, b, a)] == [["1", "1"], ["2", "2"], ["3", "3"]]
    talk = ann.dial(bob)
    until(lambda: size(a) == size(b) == 1)
    assert a.stop() == 0
    third = serve(TEXT, "--store", redis.url)
    until(lambda: size(third) == 1)
    ann.hang_up(bob, talk)
    until(lambda: size(third) == size(b) == 0)
    ann.dial(bob)
    until(lambda: size(third) == 1)
    for pid in (b.process.pid, *status(b)["workers"]):
        os.kill(pid, signal.SIGKILL)
    until(lambda: size(third) == 0)
    ann.server = third.address
    ann.hang_up(bob, ann.dial(bob))


def test_a_server_without_its_redis(serve: Callable[..., Server], redis: RedisServer, phone: Callable[[str, Server], Roamer]) -> None:
    """It serves from its copy and remembers what it has done; the other one hears of it when Redis is back."""
    a, b = (serve(TEXT, "--store", redis.url) for _ in range(2))
    bob, ann = phone("bob", a), phone("ann", b)
    bob.register()
    until(lambda: answer(b, "who") != "")
    redis.stop()
    until(lambda: "is away" in a.text() and "is away" in b.text())
    cat = phone("cat", a)
    cat.register()
    ann.hang_up(bob, ann.dial(bob))
    redis.start()
    until(lambda: "is back" in a.text() and "is back" in b.text())
    ann.server = b.address
    ann.hang_up(cat, ann.dial(cat))


def test_a_start_without_redis(serve: Callable[..., Server]) -> None:
    server = serve(TEXT, "--store", "redis://127.0.0.1:1/0", ready=False)
    assert server.process.wait(20) == 1 and "cannot use the store at redis://127.0.0.1:1/0" in server.text()
