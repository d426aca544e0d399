"""Module ctl: control sockets with the binary RPC protocol, for kamcmd. https://www.kamailio.org/docs/modules/stable/modules/ctl.html

The text protocol of old FIFOs (parameter ``fifo``) is left out.
"""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import Any, Final

from kamc.declare import Module, modparam, rpc
from kamc.errors import ConfigError
from kamc.runtime.doors import Door, give
from kamc.runtime.rpc.binrpc import REQUEST, BinrpcError, Packet, Reader, fault, reply, single
from kamc.runtime.rpc.fault import RpcFault

#: connections at a time
MAX_CONNECTIONS: Final = 256
_FAMILIES: Final = {"unix": True, "unixs": True, "unixd": False, "tcp": True, "udp": False}


class Connection(asyncio.Protocol):
    """One client of a stream socket."""

    def __init__(self, door: Door, name: str) -> None:
        self.door, self.name = door, name
        self.reader = Reader(self.ctl.limit)
        self.transport: Any = None
        self.peer = ""

    @property
    def ctl(self) -> Ctl:
        """The module of the generation that runs."""
        owner: Ctl = self.door.owner
        return owner

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

    def __init__(self, door: Door) -> None:
        self.door = door
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            ctl: Ctl = self.door.owner
            packet = single(data, ctl.limit)
        except BinrpcError as err:
            ctl.rt.log.error("ctl: bad datagram: %s", err)
            return
        if addr:
            ctl.rt.worker.waits.detached(lambda: self.transport.sendto(ctl.answer(packet), addr))


def _shown(name: str) -> tuple[str, str]:
    """``unix:/path`` → (unix_stream, /path)."""
    kind, _, where = name.partition(":")
    return {"unix": "unix_stream", "unixs": "unix_stream", "unixd": "unix_dgram"}.get(kind, kind), where


class Ctl(Module):
    name = "ctl"
    kept = ("connections",)
    tuning_params = ("binrpc_struct_max_body_size", "binrpc_buffer_size", "autoconversion")

    class Params:
        mode: int = 0o600
        binrpc_max_body_size: int = 32

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.names: list[str] = []
        self.user = self.group = ""
        self.connections: set[Connection] = set()
        self.doors: list[tuple[str, Door]] = []

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

    def open_doors(self) -> None:
        for name in self.names:
            try:
                self.doors.append((name, self._open(name)))
            except (OSError, KeyError, OverflowError) as err:
                raise ConfigError(f"ctl: cannot open {name}: {err}") from None

    def activate(self, previous: Any) -> None:
        super().activate(previous)
        for _, door in self.doors:
            door.owner = self

    def child_init(self) -> None:
        loop = self.rt.worker.loop
        if loop is None:
            return
        for name, door in self.doors:
            if door.server is None:
                door.server = loop.create_task(self._serve(loop, name, door))

    @staticmethod
    async def _serve(loop: asyncio.AbstractEventLoop, name: str, door: Door) -> None:
        assert isinstance(door.file, socket.socket)
        if _FAMILIES[name.partition(":")[0]]:
            door.server = await loop.create_server(partial(Connection, door, name), sock=door.file)
        else:
            door.server, _ = await loop.create_datagram_endpoint(partial(Datagrams, door), sock=door.file)

    # -- sockets ---------------------------------------------------------------------------------------------------------

    def _open(self, name: str) -> Door:
        kind, _, where = name.partition(":")
        if not kind.startswith("unix"):
            found: Door = self.rt.open_door(name, partial(self._bind, name))
            return found
        path = where if where.startswith("/") else os.path.join(self.rt.worker.run_dir or ".", where)
        door: Door = self.rt.open_door(path, partial(self._bind, name, path), path)
        give(path, self.p.mode, self.user or -1, self.group or -1)
        return door

    @staticmethod
    def _bind(name: str, path: str = "") -> socket.socket:
        kind, _, where = name.partition(":")
        stream = _FAMILIES[kind]
        host, colon, port = where.rpartition(":")
        host, port = (host.strip("[]"), port) if colon else (where, "2049")
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
        try:
            if not path:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(path or (host, int(port)))
            if stream:
                sock.listen(100)
        except (OSError, OverflowError):
            sock.close()
            raise
        sock.setblocking(False)
        return sock

    # -- calls -----------------------------------------------------------------------------------------------------------

    def answer(self, packet: Packet) -> bytes:
        """Run a command."""
        if packet.kind != REQUEST or not packet.values or not isinstance(packet.values[0], str):
            return fault(packet.cookie, 400, "Invalid request")
        name, params = packet.values[0], packet.values[1:]
        if name not in self.rt.worker.rpc.commands:
            return fault(packet.cookie, 500, f"command {name} not found")
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
