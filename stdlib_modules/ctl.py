"""Module ctl: control sockets with the binary RPC protocol, for kamcmd. https://www.kamailio.org/docs/modules/stable/modules/ctl.html

The text protocol of old FIFOs (parameter ``fifo``) is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
import socket
from functools import partial
from typing import Any, Final

from kamc.declare import Module, modparam, rpc
from kamc.errors import ConfigError
from kamc.runtime.rpc.binrpc import REQUEST, BinrpcError, Packet, Reader, fault, reply, single
from kamc.runtime.rpc.commands import RpcFault

#: connections at a time
MAX_CONNECTIONS: Final = 256
_FAMILIES: Final = {"unix": True, "unixs": True, "unixd": False, "tcp": True, "udp": False}


class Connection(asyncio.Protocol):
    """One client of a stream socket."""

    def __init__(self, ctl: Ctl, name: str) -> None:
        self.ctl, self.name = ctl, name
        self.reader = Reader(ctl.limit)
        self.transport: Any = None
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "<anonymous unix socket>"
        if len(self.ctl.connections) >= MAX_CONNECTIONS:
            self.ctl.rt.log.error("ctl: more than %d connections", MAX_CONNECTIONS)
            self.transport.abort()
            return
        self.ctl.connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for packet in self.reader.feed(data):
                self.ctl.rt.worker.waits.detached(self._serve, packet)
        except BinrpcError as err:
            self.ctl.rt.log.error("ctl: %s: %s", self.name, err)
            self.transport.close()

    def _serve(self, packet: Packet) -> None:
        self.transport.write(self.ctl.answer(packet))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ctl.connections.discard(self)


class Datagrams(asyncio.DatagramProtocol):
    """A datagram socket. What is no packet gets no answer."""

    def __init__(self, ctl: Ctl) -> None:
        self.ctl = ctl
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            packet = single(data, self.ctl.limit)
        except BinrpcError as err:
            self.ctl.rt.log.error("ctl: bad datagram: %s", err)
            return
        if addr:
            self.ctl.rt.worker.waits.detached(lambda: self.transport.sendto(self.ctl.answer(packet), addr))


def _shown(name: str) -> tuple[str, str]:
    """``unix:/path`` → (unix_stream, /path)."""
    kind, _, where = name.partition(":")
    return {"unix": "unix_stream", "unixs": "unix_stream", "unixd": "unix_dgram"}.get(kind, kind), where


class Ctl(Module):
    name = "ctl"
    tuning_params = ("binrpc_struct_max_body_size", "binrpc_buffer_size", "autoconversion")

    class Params:
        mode: int = 0o600
        binrpc_max_body_size: int = 32

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.names: list[str] = []
        self.user = self.group = ""
        self.connections: set[Connection] = set()
        self.paths: list[str] = []
        self.closers: list[Any] = []

    @modparam("binrpc")
    def set_binrpc(self, text: str) -> None:
        """``unix:path``, ``unixd:path``, ``tcp:address:port`` or ``udp:address:port``."""
        kind, _, where = text.partition(":")
        if kind not in _FAMILIES or not where:
            raise ValueError(f"{text!r}: the form is unix:PATH, unixd:PATH, tcp:ADDRESS:PORT or udp:ADDRESS:PORT")
        if not kind.startswith("unix") and not where.rpartition(":")[2].isdigit() and where.rpartition(":")[1]:
            raise ValueError(f"{text!r}: the port is a number")
        self.names.append(text)

    @modparam("user")
    def set_user(self, name: str) -> None:
        self.user = name

    @modparam("group")
    def set_group(self, name: str) -> None:
        self.group = name

    def mod_init(self) -> None:
        self.limit = max(1, self.p.binrpc_max_body_size) * 1024
        if not self.names:
            self.names.append(f"unixs:{os.path.join(self.rt.worker.run_dir or '.', 'kamailio_ctl')}")
        self.rt.worker.on_start.append(self._open)

    # -- sockets ---------------------------------------------------------------------------------------------------------

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises ConfigError."""
        for name in self.names:
            try:
                sock = self._bind(name)
            except (OSError, KeyError, OverflowError) as err:
                raise ConfigError(f"ctl: cannot open {name}: {err}") from None
            if _FAMILIES[name.partition(":")[0]]:
                server = loop.run_until_complete(loop.create_server(partial(Connection, self, name), sock=sock))
                self.closers.append(server)
            else:
                transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(lambda: Datagrams(self), sock=sock))
                self.closers.append(transport)

    def _bind(self, name: str) -> socket.socket:
        kind, _, where = name.partition(":")
        sort = socket.SOCK_STREAM if _FAMILIES[kind] else socket.SOCK_DGRAM
        if kind.startswith("unix"):
            path = where if where.startswith("/") else os.path.join(self.rt.worker.run_dir or ".", where)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            sock = socket.socket(socket.AF_UNIX, sort)
            sock.bind(path)
            self.paths.append(path)
            os.chmod(path, self.p.mode)
            uid = pwd.getpwnam(self.user).pw_uid if self.user else -1
            gid = grp.getgrnam(self.group).gr_gid if self.group else -1
            if uid >= 0 or gid >= 0:
                os.chown(path, uid, gid)
        else:
            host, colon, port = where.rpartition(":")
            host, port = (host, port) if colon else (where, "2049")
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, sort)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host.strip("[]"), int(port)))
        sock.setblocking(False)
        return sock

    def destroy(self) -> None:
        for closer in self.closers:
            closer.close()
        for path in self.paths:
            with contextlib.suppress(OSError):
                os.unlink(path)

    # -- calls -----------------------------------------------------------------------------------------------------------

    def answer(self, packet: Packet) -> bytes:
        """Run a command."""
        if packet.kind != REQUEST or not packet.values or not isinstance(packet.values[0], str):
            return fault(packet.cookie, 400, "Invalid request")
        name, params = packet.values[0], packet.values[1:]
        try:
            return reply(packet.cookie, self.rt.worker.rpc.call(name, params))
        except RpcFault as err:
            return fault(packet.cookie, err.code, err.text)
        except Exception as err:  # a command's bug must not end the worker
            self.rt.log.error("RPC %s failed: %r", name, err)
            return fault(packet.cookie, 500, "Internal Server Error")

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("ctl.listen")
    def rpc_listen(self) -> list[Any]:
        """Control sockets."""
        return [part for name in self.names for part in ("binrpc", *_shown(name), "")]

    @rpc("ctl.connections")
    def rpc_connections(self) -> int:
        """Number of open control connections."""
        return len(self.connections)

    @rpc("ctl.who")
    def rpc_who(self) -> list[Any]:
        """Open control connections."""
        return [part for c in self.connections for part in ("binrpc", _shown(c.name)[0], c.peer, "", _shown(c.name)[1])]


module = Ctl
