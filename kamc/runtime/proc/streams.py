"""The connections of one worker of several. Whoever wants to write to an address, or knows a connection by its number, finds its holder here."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from kamc.runtime.net.connection import Address, Closing, Connection, SecurityFacts
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.steer import MOST_WORKERS
from kamc.runtime.net.tcp import TcpHub

if TYPE_CHECKING:
    from kamc.runtime.proc.peers import Peers


class SharedHub(TcpHub):
    """All connections with an address are held by one worker; the number of a connection says by which."""

    def __init__(self, peers: Peers, *rest: Any) -> None:
        super().__init__(*rest)
        self.peers = peers
        #: number → what its handshake has shown, for the workers that the messages of a connection go to
        self._known = peers.worker.store.table("connections")
        for number in [n for n, _ in self._known.scan() if int(n) % MOST_WORKERS == peers.index]:
            self._known.delete(number)
        self._lost_here, self.lost = self.lost, self._lost_for_all

    def _lost_for_all(self, remote: Address) -> None:
        """The transactions that wrote to a connection may be anywhere."""
        self._lost_here(remote)
        self.peers.tell_all("lost", remote)

    def _number(self) -> int:
        return super()._number() * MOST_WORKERS + self.peers.index

    def _elsewhere(self, number: int) -> int:
        """The worker that holds a connection, -1 when that is this one."""
        holder = number % MOST_WORKERS
        return -1 if number in self.connections or holder == self.peers.index or not self.peers.roll.there(holder) else holder

    def _count(self) -> int:
        return self.peers.exchange.marks.total()

    def _add(self, sock: socket.socket, listener: Listener, remote: Address, *, opening: bool) -> Connection:
        conn = super()._add(sock, listener, remote, opening=opening)
        self.peers.exchange.marks.part(self.peers.index, len(self.connections))
        self._known.put(str(conn.id), [])
        return conn

    def _secured(self, conn: Connection) -> None:
        facts = super().security_of(conn.id)
        if facts is not None:
            self._known.put(str(conn.id), list(facts))

    def is_open(self, number: int) -> bool:
        return super().is_open(number) or self._known.get(str(number)) is not None

    def security_of(self, number: int) -> SecurityFacts | None:
        if number in self.connections:
            return super().security_of(number)
        row = self._known.get(str(number))
        return SecurityFacts(*row) if row else None

    def keepalive(self, number: int, times: tuple[int, int, int] | None) -> bool:
        return self._there(number, "keepalive", times) or super().keepalive(number, times)

    def close(self, conn: Connection, why: str = "", how: Closing = Closing.OWN) -> None:
        super().close(conn, why, how)
        self._known.delete(str(conn.id))
        self.peers.exchange.marks.part(self.peers.index, len(self.connections))

    def accepted(self, sock: socket.socket, listener: Listener, remote: Address, *, named: bool = False) -> None:
        holder = self.peers.holder(remote[0])
        if holder == self.peers.index:
            super().accepted(sock, listener, remote, named=named)
            return
        self.peers.tell(holder, "connection", (listener.proto, listener.host, listener.port), *remote, named, fds=(sock.fileno(),))
        sock.close()

    def _feed(self, conn: Connection, data: bytes) -> None:
        with self.peers.in_order():
            super()._feed(conn, data)

    def _moves(self, conn: Connection, source: Address) -> bool:
        if self.peers.holder(source[0]) == self.peers.index:
            return False
        copy = conn.sock.dup()
        self.close(conn)
        self.accepted(copy, conn.listener, source, named=True)
        return True

    def send(self, listener: Listener, data: bytes, remote: Address, number: int = 0, *, connect: bool = True, close: bool = False,
             wish: tuple[str, str] = ("", "")) -> None:  # fmt: skip
        holder = self._elsewhere(number) if number else -1
        if holder < 0 and number not in self.connections:
            holder = self.peers.holder(remote[0])
        if holder < 0 or holder == self.peers.index:
            super().send(listener, data, remote, number, connect=connect, close=close, wish=wish)
            return
        place = listener.proto, listener.host, listener.port
        self.peers.tell(holder, "send", self.peers.index, data, place, remote, number, connect, close, wish)

    def _there(self, number: int, name: str, *args: Any) -> bool:
        """Have another worker do something with its connection. False when it is not another one's."""
        holder = self._elsewhere(number)
        if holder < 0:
            return False
        self.peers.tell(holder, "stream", name, number, *args)
        return True

    def hang_up(self, number: int, why: str) -> None:
        if not self._there(number, "hang_up", why):
            super().hang_up(number, why)

    def finish(self, number: int, why: str) -> None:
        if not self._there(number, "finish", why):
            super().finish(number, why)

    def add_alias(self, number: int, port: int) -> bool:
        return self._there(number, "add_alias", port) or super().add_alias(number, port)

    def set_lifetime(self, number: int, seconds: float) -> bool:
        return self._there(number, "set_lifetime", seconds) or super().set_lifetime(number, seconds)
