"""TCP: connections that were accepted or opened, found by id or by the address of the peer (RFC 3261 section 18).

A write never waits: what the socket does not take is queued on the connection, up to tcp_conn_wq_max bytes. A connection that cannot be
opened, breaks or falls silent is closed, and whoever sent over it hears of it through ``Hub.lost``.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Protocol

from kamc.errors import SipError
from kamc.runtime.log import Log
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.sip.framing import PING, PONG, StreamFramer

_READ: Final = 65536
#: connections taken per wake-up
_BATCH: Final = 16
_BUSY: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})

Address = tuple[str, int]


class Loop(Protocol):
    """What is needed of an event loop."""

    def add_reader(self, fd: int, callback: Callable[[], Any]) -> Any: ...

    def add_writer(self, fd: int, callback: Callable[[], Any]) -> Any: ...

    def remove_reader(self, fd: int) -> Any: ...

    def remove_writer(self, fd: int) -> Any: ...


def bind_tcp(listener: Listener, backlog: int = 1024) -> socket.socket:
    """A listening socket. Raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in listener.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((listener.host, listener.port))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


class Closing(Enum):
    """Why a connection ended."""

    PEER = "closed by the peer"
    RESET = "reset"
    IDLE = "idle"
    OWN = "closed here"


class Connection:
    """One TCP connection. ``remotes`` are the peer addresses that lead to it: its own and aliases."""

    __slots__ = ("close_when_sent", "deadline", "framer", "id", "lifetime", "listener", "opening", "out", "remote", "remotes", "sock")

    def __init__(self, number: int, sock: socket.socket, listener: Listener, remote: Address, framer: StreamFramer, *, opening: bool) -> None:
        self.id, self.sock, self.listener, self.remote, self.framer, self.opening = number, sock, listener, remote, framer, opening
        self.out = bytearray()
        self.remotes = [remote]
        self.deadline = 0.0
        #: seconds of silence that it survives
        self.lifetime = 0.0
        self.close_when_sent = False


class TcpHub:
    """All connections of a worker. ``param`` reads a core parameter; times are of ``clock``."""

    def __init__(self, log: Log, clock: Callable[[], float], param: Callable[[str], int], receive: Callable[..., None], lost: Callable[[Address], None]) -> None:
        self.log, self.clock, self.param, self.receive, self.lost = log, clock, param, receive, lost
        self.loop: Loop | None = None
        self.connections: dict[int, Connection] = {}
        self._by_remote: dict[Address, Connection] = {}
        self._next_id = 0
        #: modules that want to hear of the end of connections, by their names
        self.on_closed: dict[str, Callable[[Connection, Closing], None]] = {}

    # -- life ------------------------------------------------------------------------------------------------------------

    def serve(self, loop: Loop, listener: Listener, sock: socket.socket) -> None:
        self.loop = loop
        loop.add_reader(sock.fileno(), lambda: self._accept(listener, sock))

    def _accept(self, listener: Listener, server: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                sock, address = server.accept()
            except OSError as err:
                if err.errno not in _BUSY:
                    self.log.error("cannot accept on %s: %s", listener, err.strerror or err)
                return
            if len(self.connections) >= self.param("tcp_max_connections"):
                self.log.error("tcp_max_connections reached, closing the connection from %s:%d", address[0], address[1])
                sock.close()
                continue
            self._add(sock, listener, (address[0], address[1]), opening=False)

    def _add(self, sock: socket.socket, listener: Listener, remote: Address, *, opening: bool) -> Connection:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._next_id += 1
        framer = StreamFramer(self.param("tcp_rd_buf_size"), accept_no_length=bool(self.param("tcp_accept_no_cl")))
        conn = Connection(self._next_id, sock, listener, remote, framer, opening=opening)
        self.connections[conn.id] = conn
        self._by_remote[remote] = conn
        seconds = self.param("tcp_connection_lifetime")
        conn.lifetime = float(seconds) if seconds >= 0 else 1e9
        conn.deadline = self.clock() + (self.param("tcp_connect_timeout") if opening else conn.lifetime)
        assert self.loop is not None
        if opening:
            self.loop.add_writer(sock.fileno(), lambda: self._writable(conn))
        else:
            self.loop.add_reader(sock.fileno(), lambda: self._readable(conn))
        return conn

    def close(self, conn: Connection, why: str = "", how: Closing = Closing.OWN) -> None:
        """Close a connection and forget its addresses."""
        if self.connections.pop(conn.id, None) is None:
            return
        for remote in conn.remotes:
            if self._by_remote.get(remote) is conn:
                del self._by_remote[remote]
        if self.loop is not None:
            self.loop.remove_reader(conn.sock.fileno())
            self.loop.remove_writer(conn.sock.fileno())
        conn.sock.close()
        if why:
            self.log.info("tcp connection %d with %s:%d closed: %s", conn.id, *conn.remote, why)
        if conn.opening or conn.out:
            self.lost(conn.remote)
        for told in self.on_closed.values():
            told(conn, how)

    def close_idle(self) -> None:
        """Close what is over its lifetime or could not be opened in time. Called once a second."""
        now = self.clock()
        for conn in [c for c in self.connections.values() if c.deadline <= now]:
            self.close(conn, "no connection in time" if conn.opening else "idle", Closing.IDLE)

    def shutdown(self) -> None:
        for conn in list(self.connections.values()):
            conn.out.clear()
            conn.opening = False
            self.close(conn)

    def add_alias(self, number: int, port: int) -> bool:
        """Let a connection also be used for another port of its peer (the port of a Via). False when another one has it."""
        conn = self.connections.get(number)
        if conn is None:
            return False
        address = (conn.remote[0], port)
        if self._by_remote.setdefault(address, conn) is not conn:
            return False
        if address not in conn.remotes:
            conn.remotes.append(address)
        return True

    def find(self, remote: Address) -> Connection | None:
        """The connection with a peer."""
        return self._by_remote.get(remote)

    def set_lifetime(self, number: int, seconds: float) -> bool:
        conn = self.connections.get(number)
        if conn is None:
            return False
        conn.lifetime = seconds
        conn.deadline = self.clock() + seconds
        return True

    # -- in --------------------------------------------------------------------------------------------------------------

    def _readable(self, conn: Connection) -> None:
        try:
            data = conn.sock.recv(_READ)
        except OSError as err:
            if err.errno not in _BUSY:
                self.close(conn, err.strerror or str(err), Closing.RESET)
            return
        if not data:
            self.close(conn, "by the peer", Closing.PEER)
            return
        conn.deadline = self.clock() + conn.lifetime
        try:
            for message in conn.framer.feed(data):
                if message is PING:
                    if self.param("tcp_crlf_ping"):
                        self._write(conn, PONG)
                    continue
                self.receive(message, conn.listener, conn.remote, conn.id)
                if conn.id not in self.connections:
                    return
        except SipError as err:
            self.log.error("tcp connection %d with %s:%d: %s", conn.id, *conn.remote, err)
            self.close(conn)

    # -- out -------------------------------------------------------------------------------------------------------------

    def send(self, listener: Listener, data: bytes, remote: Address, number: int = 0, *, connect: bool = True, close: bool = False) -> None:
        """Write over connection ``number``, else one with that peer, else a new one from the listener's address. Raises OSError."""
        conn = self.connections.get(number) or self._by_remote.get(remote)
        if conn is None:
            if not connect or self.param("tcp_no_connect"):
                raise OSError(errno.ENOTCONN, "no connection, and none may be opened")
            conn = self._connect(listener, remote)
        conn.close_when_sent |= close
        self._write(conn, data)

    def _connect(self, listener: Listener, remote: Address) -> Connection:
        if len(self.connections) >= self.param("tcp_max_connections"):
            raise OSError(errno.EMFILE, "tcp_max_connections reached")
        sock = socket.socket(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.bind((listener.host, 0))
            status = sock.connect_ex(remote)
            if status not in (0, errno.EINPROGRESS):
                raise OSError(status, errno.errorcode.get(status, "cannot connect"))
            conn = self._add(sock, listener, remote, opening=True)
        except OSError:
            sock.close()
            raise
        # a refusal by a near peer is known at once
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            conn.opening = False
            self.close(conn)
            raise OSError(failed, "cannot connect")
        return conn

    def _write(self, conn: Connection, data: bytes) -> None:
        if conn.opening or conn.out:
            if len(conn.out) + len(data) > max(self.param("tcp_conn_wq_max"), len(data)):
                raise OSError(errno.ENOBUFS, "the peer does not read, tcp_conn_wq_max reached")
            conn.out += data
            return
        conn.out += data
        self._flush(conn)
        if conn.out and conn.id in self.connections and self.loop is not None:
            conn.deadline = self.clock() + max(0, self.param("tcp_send_timeout"))
            self.loop.add_writer(conn.sock.fileno(), lambda: self._writable(conn))

    def _writable(self, conn: Connection) -> None:
        assert self.loop is not None
        if conn.opening:
            failed = conn.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                self.close(conn, errno.errorcode.get(failed, "cannot connect"))
                return
            conn.opening = False
            conn.deadline = self.clock() + conn.lifetime
            self.loop.add_reader(conn.sock.fileno(), lambda: self._readable(conn))
        self._flush(conn)
        if not conn.out and conn.id in self.connections:
            self.loop.remove_writer(conn.sock.fileno())

    def _flush(self, conn: Connection) -> None:
        try:
            while conn.out:
                del conn.out[: conn.sock.send(conn.out)]
        except OSError as err:
            if err.errno not in _BUSY:
                self.close(conn, err.strerror or str(err), Closing.RESET)
            return
        conn.deadline = self.clock() + conn.lifetime
        if conn.close_when_sent:
            self.close(conn, "set_reply_close")
