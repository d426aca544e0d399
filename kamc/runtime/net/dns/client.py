"""Questions to name servers over UDP, with repetitions; answers that were cut are fetched over TCP (RFC 1035, RFC 7766)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.resolver

#: RFC 6891: what fits into an unfragmented datagram almost everywhere
_PAYLOAD: Final = 1232
#: rcodes that the next server may not share
_TRY_NEXT: Final = frozenset({dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR})

Server = tuple[str, int]


class Loop(Protocol):
    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> Any: ...

    def remove_reader(self, fd: int) -> Any: ...

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Any: ...

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any) -> Any: ...


@dataclass(slots=True)
class Settings:
    """Where and how often to ask. ``timeout`` is the seconds that one server has for one try."""

    servers: list[Server]
    search: list[dns.name.Name]
    timeout: float
    attempts: int

    @classmethod
    def of_system(cls) -> Settings:
        """As /etc/resolv.conf says; without one nobody can be asked."""
        try:
            found = dns.resolver.Resolver(configure=True)
        except (dns.resolver.NoResolverConfiguration, dns.exception.DNSException, OSError):
            return cls([], [], 5.0, 2)
        return cls([(str(s), found.port) for s in found.nameservers], list(found.search), float(found.timeout or 5.0), 2)


def usable(query: dns.message.Message, answer: dns.message.Message) -> bool:
    return query.is_response(answer) and answer.rcode() not in _TRY_NEXT


class Question:
    """One question on its way. ``done`` is called once, with the answer or None."""

    def __init__(self, client: Client, query: dns.message.Message, done: Callable[[dns.message.Message | None], None]) -> None:
        self.client, self.query, self.done = client, query, done
        settings = client.settings
        self.tries: Iterator[Server] = iter([server for _ in range(settings.attempts) for server in settings.servers])
        self.sock: socket.socket | None = None
        self.timer: Any = None

    def next_try(self) -> None:
        self._let_go()
        loop = self.client.loop
        for server in self.tries:
            sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            try:
                # a socket of its own: a port that nobody can guess, and answers of this server alone (RFC 5452)
                sock.connect(server)
                sock.send(self.query.to_wire())
            except OSError:
                sock.close()
                continue
            self.sock, self.server = sock, server
            loop.add_reader(sock.fileno(), self._readable)
            self.timer = loop.call_later(self.client.settings.timeout, self.next_try)
            return
        self.done(None)

    def _readable(self) -> None:
        assert self.sock is not None
        try:
            answer = dns.message.from_wire(self.sock.recv(65535))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.next_try()
            return
        except dns.exception.DNSException:
            return  # not an answer: a real one may still come
        if not self.query.is_response(answer):
            return
        if answer.flags & dns.flags.TC:
            self._let_go()
            self._over_tcp()
        elif usable(self.query, answer):
            self._end(answer)
        else:
            self.next_try()

    def _over_tcp(self) -> None:
        loop, timeout, server = self.client.loop, self.client.settings.timeout, self.server

        def ask() -> None:
            try:
                answer = dns.query.tcp(self.query, server[0], timeout, server[1])
            except (dns.exception.DNSException, OSError, EOFError):
                loop.call_soon_threadsafe(self.next_try)
                return
            loop.call_soon_threadsafe(self._end, answer)

        self.client.threads.submit(ask)

    def _end(self, answer: dns.message.Message) -> None:
        self._let_go()
        self.done(answer)

    def _let_go(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.sock is not None:
            self.client.loop.remove_reader(self.sock.fileno())
            self.sock.close()
            self.sock = None


class Client:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop: Loop = None  # type: ignore[assignment]  # set before the first question that waits
        self._threads: ThreadPoolExecutor | None = None

    @property
    def threads(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2, "dns")
        return self._threads

    @staticmethod
    def query(name: dns.name.Name, kind: str) -> dns.message.Message:
        return dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)

    def ask(self, name: dns.name.Name, kind: str, done: Callable[[dns.message.Message | None], None]) -> None:
        """Ask, and go on; ``done`` gets the answer, or None when no server gave one."""
        Question(self, self.query(name, kind), done).next_try()

    def ask_now(self, name: dns.name.Name, kind: str) -> dns.message.Message | None:
        """The same while nothing is served yet: this waits."""
        query, settings = self.query(name, kind), self.settings
        for _ in range(settings.attempts):
            for host, port in settings.servers:
                try:
                    answer, _ = dns.query.udp_with_fallback(query, host, settings.timeout, port, ignore_unexpected=True)
                except (dns.exception.DNSException, OSError, EOFError):
                    continue
                if usable(query, answer):
                    return answer
        return None
