"""TCP and TLS: connections that were accepted or opened, found by id or by the address of the peer (RFC 3261 section 18).

A write never waits: what the socket does not take is queued on the connection, up to tcp_conn_wq_max bytes. A connection that cannot be
opened, breaks or falls silent is closed, and whoever sent over it hears of it through ``Hub.lost``.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from kamc.errors import SipError
from kamc.runtime.counters import Counters
from kamc.runtime.hooks import Hooks
from kamc.runtime.log import Log
from kamc.runtime.net.connection import Address, Closing, Connection, SecurityFacts
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.proxyproto import read_header
from kamc.runtime.net.sockopts import Param, server_options, stream_options
from kamc.runtime.net.tally import Tally
from kamc.runtime.sip.framing import PING, PONG, StreamFramer

_READ: Final = 65536
#: connections taken per wake-up
_BATCH: Final = 16
#: not an error: the socket, or TLS above it, has to wait
_WAITS: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Loop(Protocol):
    """What is needed of an event loop."""

    def add_reader(self, fd: int, callback: Callable[[], Any]) -> Any: ...

    def add_writer(self, fd: int, callback: Callable[[], Any]) -> Any: ...

    def remove_reader(self, fd: int) -> Any: ...

    def remove_writer(self, fd: int) -> Any: ...


def bind_tcp(listener: Listener, param: Param = lambda name: 0) -> socket.socket:
    """A listening socket. Raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in listener.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server_options(sock, param)
        sock.setblocking(False)
        sock.bind((listener.host, listener.port))
        sock.listen(int(param("tcp_listen_backlog") or 1024))
    except OSError:
        sock.close()
        raise
    return sock


class TcpHub:
    """All connections of a worker. ``param`` reads a core parameter; times are of ``clock``."""

    def __init__(self, log: Log, clock: Callable[[], float], param: Param, receive: Callable[..., None], lost: Callable[[Address], None],
                 counters: Counters) -> None:  # fmt: skip
        self.log, self.clock, self.param, self.receive, self.lost = log, clock, param, receive, lost
        self.tally = Tally(counters)
        self.loop: Loop | None = None
        self.connections: dict[int, Connection] = {}
        self._by_remote: dict[tuple[bool, str, int], Connection] = {}
        #: the same by the listener as well, for tcp_connection_match
        self._by_socket: dict[tuple[Listener, Address], Connection] = {}
        #: of the generation that runs
        self.hooks = Hooks()
        self._last_number = 0
        #: connections by the address that they came from, and all bytes that wait to be written
        self._by_source: dict[str, int] = {}
        self.queued = 0

    # -- life ------------------------------------------------------------------------------------------------------------

    def serve(self, loop: Loop, listener: Listener, sock: socket.socket) -> None:
        self.loop = loop
        loop.add_reader(sock.fileno(), lambda: self._accept(listener, sock))

    def _accept(self, listener: Listener, server: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                sock, address = server.accept()
            except _WAITS:
                return
            except OSError as err:
                self.log.error("cannot accept on %s: %s", listener, err.strerror or err)
                return
            self.accepted(sock, listener, (address[0], address[1]))

    def accepted(self, sock: socket.socket, listener: Listener, remote: Address, *, named: bool = False) -> None:
        """A client has connected. ``named``: a load balancer has said who it is."""
        full = self._no_room(listener, remote[0])
        if not full and self.param("tcp_accept_unique") and self.find(remote, secure=listener.proto == "tls") is not None:
            full = "one connection of an address with tcp_accept_unique"
        if full:
            self.tally.rejected()
            self.log.error("%s reached, closing the connection from %s:%d", full, *remote)
            sock.close()
            return
        conn = self._add(sock, listener, remote, opening=False)
        if named:
            conn.behind_proxy = False
        if conn.secure and not conn.behind_proxy:
            self._secure(conn)

    @property
    def measured(self) -> dict[str, Callable[[], int]]:
        """Statistics of the moment, of this worker."""
        return {"current_opened_connections": lambda: len(self.connections), "current_write_queue_size": lambda: self.queued}

    def _count(self) -> int:
        """How many connections the server has."""
        return len(self.connections)

    def _number(self) -> int:
        """The number of the next connection."""
        self._last_number += 1
        return self._last_number

    def _no_room(self, listener: Listener, ip: str) -> str:
        """The limit that one more connection would break; empty when there is room."""
        if self._count() >= self.param("tcp_max_connections"):
            return "tcp_max_connections"
        if listener.proto == "tls" and sum(c.secure for c in self.connections.values()) >= self.param("tls_max_connections"):
            return "tls_max_connections"
        most = self.param("tcp_accept_iplimit")
        return "tcp_accept_iplimit" if 0 < most <= self._by_source.get(ip, 0) else ""

    def _add(self, sock: socket.socket, listener: Listener, remote: Address, *, opening: bool) -> Connection:
        sock.setblocking(False)
        stream_options(sock, self.param)
        framer = StreamFramer(self.param("tcp_rd_buf_size"), accept_no_length=bool(self.param("tcp_accept_no_cl")))
        conn = Connection(self._number(), sock, listener, remote, framer, opening=opening)
        conn.behind_proxy = not opening and bool(self.param("tcp_accept_haproxy"))
        self.connections[conn.id] = conn
        self._by_remote[conn.key(remote)] = conn
        self._by_socket[listener, remote] = conn
        self._by_source[remote[0]] = self._by_source.get(remote[0], 0) + 1
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
        self.tally.ended(conn, how)
        self._left(conn.source)
        self.queued -= len(conn.out)
        for remote in conn.remotes:
            if self._by_remote.get(conn.key(remote)) is conn:
                del self._by_remote[conn.key(remote)]
            if self._by_socket.get((conn.listener, remote)) is conn:
                del self._by_socket[conn.listener, remote]
        if self.loop is not None:
            self.loop.remove_reader(conn.sock.fileno())
            self.loop.remove_writer(conn.sock.fileno())
        conn.sock.close()
        if why:
            self.log.info("%s connection %d with %s:%d closed: %s", conn.proto, conn.id, *conn.remote, why)
        if conn.opening or conn.out:
            self.lost(conn.remote)
        for told in self.hooks.connection_closed.values():
            told(conn, how)

    def _left(self, ip: str) -> None:
        left = self._by_source.get(ip, 1) - 1
        if left:
            self._by_source[ip] = left
        else:
            self._by_source.pop(ip, None)

    def hang_up(self, number: int, why: str) -> None:
        """Close a connection by its number, if it is still there."""
        conn = self.connections.get(number)
        if conn is not None:
            self.close(conn, why)

    def finish(self, number: int, why: str) -> None:
        """Close a connection by its number once all that was written to it has left."""
        conn = self.connections.get(number)
        if conn is not None and conn.out:
            conn.close_when_sent = True
        elif conn is not None:
            self.close(conn, why)

    def close_idle(self) -> None:
        """Close what is over its lifetime or could not be opened in time. Called once a second."""
        now = self.clock()
        for conn in [c for c in self.connections.values() if c.deadline <= now]:
            self.close(conn, "no connection in time" if conn.opening or conn.shaking else "idle", Closing.IDLE)
        slow = self.param("tcp_msg_read_timeout")
        if slow > 0:
            for conn in [c for c in self.connections.values() if c.message_since and c.message_since + slow <= now]:
                self.log.warning("%s:%d takes more than %d seconds for one message", *conn.remote, slow)
                self.close(conn, "tcp_msg_read_timeout", Closing.IDLE)

    def shutdown(self) -> None:
        for conn in list(self.connections.values()):
            self.queued -= len(conn.out)
            conn.out.clear()
            conn.opening = False
            self.close(conn)

    def add_alias(self, number: int, port: int) -> bool:
        """Let a connection also be used for another port of its peer (the port of a Via). False when another one has it."""
        conn = self.connections.get(number)
        if conn is None:
            return False
        address = (conn.remote[0], port)
        if self._by_remote.setdefault(conn.key(address), conn) is not conn:
            return False
        if address not in conn.remotes:
            conn.remotes.append(address)
            self._by_socket.setdefault((conn.listener, address), conn)
        return True

    def find(self, remote: Address, *, secure: bool | None = None) -> Connection | None:
        """The connection with a peer, over TLS, without it, or whichever there is."""
        if secure is None:
            return self._by_remote.get((False, *remote)) or self._by_remote.get((True, *remote))
        return self._by_remote.get((secure, *remote))

    def is_open(self, number: int) -> bool:
        return number in self.connections

    def security_of(self, number: int) -> SecurityFacts | None:
        """What the handshake of a TLS connection has shown; None for one without TLS."""
        conn = self.connections.get(number)
        if conn is None or self.hooks.security is None or not isinstance(conn.sock, ssl.SSLSocket):
            return None
        if conn.facts is None:
            conn.facts = self.hooks.security.facts(conn.sock)
        return conn.facts

    def keepalive(self, number: int, times: tuple[int, int, int] | None) -> bool:
        """TCP keepalive of a connection: seconds of silence, probes, seconds between them; None switches it off. False when it is gone."""
        conn = self.connections.get(number)
        if conn is None:
            return False
        try:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(times is not None))
            for option, value in zip((socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT, socket.TCP_KEEPINTVL), times or (), strict=False):
                conn.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        except OSError as err:
            self.log.error("keepalive of connection %d: %s", number, err.strerror or err)
            return False
        return True

    def set_lifetime(self, number: int, seconds: float) -> bool:
        conn = self.connections.get(number)
        if conn is None:
            return False
        conn.lifetime = seconds
        conn.deadline = self.clock() + seconds
        return True

    # -- in --------------------------------------------------------------------------------------------------------------

    def _readable(self, conn: Connection) -> None:
        if conn.behind_proxy and not self._past_proxy(conn):
            return
        if conn.shaking:
            self._shake(conn)
            return
        while conn.id in self.connections:
            try:
                data = conn.sock.recv(_READ)
            except _WAITS:
                return
            except OSError as err:
                self.close(conn, err.strerror or str(err), Closing.RESET)
                return
            if not data:
                self.close(conn, "by the peer", Closing.PEER)
                return
            conn.deadline = self.clock() + conn.lifetime
            if not conn.established:
                self.tally.established(conn)
            try:
                self._feed(conn, data)
            except SipError as err:
                self.log.error("%s connection %d with %s:%d: %s", conn.proto, conn.id, *conn.remote, err)
                self.close(conn)
                return
            # what TLS has decrypted already wakes nobody
            if not isinstance(conn.sock, ssl.SSLSocket) or not conn.sock.pending():
                return

    def _feed(self, conn: Connection, data: bytes) -> None:
        """Bytes of the peer. Raises SipError."""
        if conn.codec is not None and conn.framer.pending:
            data = conn.framer.take_rest() + data
        source = conn.codec or conn.framer
        for message in source.feed(data):
            if message is PING:
                if self.param("tcp_crlf_ping"):
                    self._write(conn, PONG)
                continue
            self.receive(message, conn.listener, conn.remote, conn.id, conn.proto)
            if conn.id not in self.connections:
                return
            if conn.codec is not None and source is not conn.codec:
                # the message has switched the connection to another framing
                self._feed(conn, b"")
                return
        # a message that has begun and does not come to its end
        conn.message_since = (conn.message_since or self.clock()) if conn.codec is None and conn.framer.pending else 0.0

    def _past_proxy(self, conn: Connection) -> bool:
        """Read the header of a load balancer, which says where the client is, and nothing behind it. False when more has to come."""
        try:
            seen = conn.sock.recv(_READ, socket.MSG_PEEK)
            found = read_header(conn.early + seen) if seen else None
            if found is None or not seen:
                conn.early += conn.sock.recv(max(1, len(seen)))
                if not seen:
                    self.close(conn, "by the peer", Closing.PEER)
                return False
            size, source = found
            conn.sock.recv(size - len(conn.early))
        except _WAITS:
            return False
        except (OSError, SipError) as err:
            self.log.error("%s:%d: %s", *conn.remote, err)
            self.close(conn)
            return False
        conn.behind_proxy = False
        conn.early.clear()
        if source is not None and self._moves(conn, source):
            return False
        if source is not None:
            conn.remote = source
            conn.remotes.append(source)
            self._by_remote.setdefault(conn.key(source), conn)
        if conn.secure:
            self._secure(conn)
        return not conn.secure

    def _moves(self, conn: Connection, source: Address) -> bool:
        """Whether the client that a load balancer named belongs elsewhere: the connection has gone there then."""
        return False

    # -- TLS -------------------------------------------------------------------------------------------------------------

    def _secure(self, conn: Connection) -> None:
        """Begin the handshake: as the client of a connection that we opened, else as the server."""
        security = self.hooks.security
        if security is None:
            self.close(conn, "module tls is not loaded", Closing.OWN)
            return
        try:
            if conn.opening:
                conn.sock = security.client(conn.sock, conn.listener, conn.remote, conn.wish)
            else:
                conn.sock = security.server(conn.sock, conn.listener)
        except OSError as err:
            self.log.error("tls with %s:%d: %s", *conn.remote, err.strerror or err)
            self.close(conn, "no TLS", Closing.OWN)
            return
        conn.shaking = True
        conn.lifetime = security.lifetime
        conn.deadline = self.clock() + self.param("tcp_connect_timeout")
        self._shake(conn)

    def _shake(self, conn: Connection) -> None:
        assert self.loop is not None and isinstance(conn.sock, ssl.SSLSocket)
        try:
            conn.sock.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self.loop.add_writer(conn.sock.fileno(), lambda: self._writable(conn))
            return
        except OSError as err:
            self.log.error("tls handshake with %s:%d: %s", *conn.remote, getattr(err, "reason", None) or err.strerror or err)
            self.close(conn, "no TLS", Closing.RESET)
            return
        self.tally.established(conn)
        conn.shaking = conn.opening = False
        conn.deadline = self.clock() + conn.lifetime
        self._secured(conn)
        if conn.out:
            self._flush_or_wait(conn)
        if conn.id in self.connections:
            self._readable(conn)

    def _secured(self, conn: Connection) -> None:
        """A handshake is over."""

    # -- out -------------------------------------------------------------------------------------------------------------

    def send(self, listener: Listener, data: bytes, remote: Address, number: int = 0, *, connect: bool = True, close: bool = False,
             wish: tuple[str, str] = ("", "")) -> None:  # fmt: skip
        """Write over connection ``number``, else one with that peer, else a new one from the listener's address. Raises OSError."""
        conn = self.connections.get(number) or (self._by_socket.get((listener, remote)) if self.param("tcp_connection_match") else None)
        conn = conn or self.find(remote, secure=listener.proto == "tls")
        if conn is None:
            if not connect or self.param("tcp_no_connect"):
                raise OSError(errno.ENOTCONN, "no connection, and none may be opened")
            conn = self._connect(listener, remote)
            conn.wish = wish
        conn.close_when_sent |= close
        self._write(conn, data)

    def _connect(self, listener: Listener, remote: Address) -> Connection:
        if self._count() >= self.param("tcp_max_connections"):
            raise OSError(errno.EMFILE, "tcp_max_connections reached")
        sock = socket.socket(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            own = self.param("tcp_source_ipv6" if ":" in remote[0] else "tcp_source_ipv4")
            sock.bind((str(own) if own else listener.host, 0))
            status = sock.connect_ex(remote)
            if status not in (0, errno.EINPROGRESS):
                self.tally.not_opened()
                raise OSError(status, errno.errorcode.get(status, "cannot connect"))
            conn = self._add(sock, listener, remote, opening=True)
        except OSError:
            sock.close()
            raise
        # a refusal by a near peer is known at once
        failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            self.tally.not_opened()
            conn.opening = False
            self.close(conn)
            raise OSError(failed, "cannot connect")
        return conn

    def _write(self, conn: Connection, data: bytes) -> None:
        if conn.codec is not None:
            data = conn.codec.encode(data)
        self.write_raw(conn, data)

    def write_raw(self, conn: Connection, data: bytes) -> None:
        """Write bytes that need no framing. Raises OSError when the peer does not read."""
        if conn.opening or conn.shaking or conn.out:
            for waiting, limit, why in (len(conn.out), "tcp_conn_wq_max", "the peer does not read"), (self.queued, "tcp_wq_max", "too many peers do not read"):
                if waiting + len(data) > max(self.param(limit), len(data)):
                    self.tally.queue_full()
                    raise OSError(errno.ENOBUFS, f"{why}, {limit} reached")
            conn.out += data
            self.queued += len(data)
            return
        conn.out += data
        self.queued += len(data)
        self._flush_or_wait(conn)

    def _flush_or_wait(self, conn: Connection) -> None:
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
            self.tally.established(conn)
            self.loop.add_reader(conn.sock.fileno(), lambda: self._readable(conn))
            if conn.secure:
                self.loop.remove_writer(conn.sock.fileno())
                self._secure(conn)
                return
            conn.opening = False
            conn.deadline = self.clock() + conn.lifetime
        if conn.shaking:
            self.loop.remove_writer(conn.sock.fileno())
            self._shake(conn)
            return
        self._flush(conn)
        if not conn.out and conn.id in self.connections:
            self.loop.remove_writer(conn.sock.fileno())

    def _flush(self, conn: Connection) -> None:
        try:
            while conn.out:
                sent = conn.sock.send(conn.out)
                del conn.out[:sent]
                self.queued -= sent
        except _WAITS:
            return
        except OSError as err:
            self.close(conn, err.strerror or str(err), Closing.RESET)
            return
        conn.deadline = self.clock() + conn.lifetime
        if conn.close_when_sent:
            self.close(conn, "set_reply_close")
