"""Module jsonrpcs: JSON-RPC 2.0 over a Unix datagram socket and a FIFO, and from the script."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from kamc.declare import ANY, Module, function, pv_class, rpc
from kamc.declare.argtypes import IntStr
from kamc.declare.pvspec import PvSpec
from kamc.declare.routes import Routes
from kamc.declare.values import Value
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.doors import Door, give
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.jsonrpc import handle, loads

_HTTP, _FIFO, _DGRAM = 1, 2, 4
MAX_REQUEST = 65536
#: how often, and with what pause in seconds, a client's FIFO without a reader is tried
REPLY_TRIES, REPLY_WAIT = 20, 0.05


class Jsonrpcs(Module):
    """``transport`` is a mask: 1 HTTP (comes with xhttp), 2 FIFO, 4 datagram socket; 0 all."""

    name = "jsonrpcs"
    kept = ("last", "pending")
    tuning_params = ("dgram_workers", "dgram_timeout")

    class Params:
        pretty_format: int = 1
        transport: int = 6
        fifo_name: str = "kamailio_rpc.fifo"
        fifo_mode: int = 0o660
        fifo_group: IntStr = -1
        fifo_user: IntStr = -1
        fifo_reply_dir: str = "/tmp/"
        dgram_socket: str = "kamailio_rpc.sock"
        dgram_mode: int = 0o660
        dgram_group: IntStr = -1
        dgram_user: IntStr = -1

    def mod_init(self) -> None:
        self.last: tuple[int, str, str] | None = None
        self.pending = ""
        self.dgram: Door | None = None
        self.fifo: Door | None = None

    def open_doors(self) -> None:
        transport = self.p.transport or 7
        if transport & _DGRAM and self.p.dgram_socket:
            self.dgram = self._open_dgram()
        if transport & _FIFO and self.p.fifo_name:
            self.fifo = self._open_fifo()

    def child_init(self) -> None:
        loop = self.rt.worker.loop
        if loop is not None:
            for door, readable in ((self.dgram, self._dgram_readable), (self.fifo, self._fifo_readable)):
                if door is not None:
                    loop.add_reader(door.fileno(), readable)

    def _path(self, name: str) -> str:
        return name if name.startswith("/") else os.path.join(self.rt.worker.run_dir, name)

    def _door(self, name: str, make: Callable[[], socket.socket | int], path: str = "") -> Door:
        """Raises ConfigError."""
        try:
            door: Door = self.rt.open_door(name, make, path)
        except (OSError, OverflowError) as err:
            raise ConfigError(f"jsonrpcs: cannot open {name}: {err}") from None
        return door

    @staticmethod
    def _owned(path: str, mode: int, user: int | str, group: int | str) -> None:
        try:
            give(path, mode, user, group)
        except (OSError, KeyError) as err:
            raise ConfigError(f"jsonrpcs: cannot open {path}: {err}") from None

    # -- datagram socket -------------------------------------------------------------------------------------------------

    def _open_dgram(self) -> Door:
        p = self.p
        if p.dgram_socket.lower().startswith("udp:"):
            return self._open_udp(p.dgram_socket)
        path = self._path(p.dgram_socket)
        door = self._door(path, partial(_bound, socket.AF_UNIX, path), path)
        self._owned(path, p.dgram_mode, p.dgram_user, p.dgram_group)
        return door

    def _open_udp(self, name: str) -> Door:
        """``udp:address:port``: the same over the network. Whoever reaches that port commands the server."""
        host, _, port = name[4:].rpartition(":")
        host = host.strip("[]")
        if not port.isdecimal() or not host:
            raise ConfigError(f"jsonrpcs: dgram_socket {name}: not udp:address:port")
        return self._door(name, partial(_bound, socket.AF_INET6 if ":" in host else socket.AF_INET, (host, int(port))))

    def _dgram_readable(self) -> None:
        sock = self.dgram.file if self.dgram is not None else None
        if not isinstance(sock, socket.socket):
            return
        for _ in range(16):
            try:
                data, address = sock.recvfrom(MAX_REQUEST)
            except (BlockingIOError, InterruptedError):
                return
            self.rt.worker.waits.detached(self._serve_datagram, sock, data, address)

    def _serve_datagram(self, sock: socket.socket, data: bytes, address: Any) -> None:
        answer, _status = self.answer(data.decode("utf-8", "replace"))
        if answer is not None and address:
            with contextlib.suppress(OSError):
                sock.sendto(answer.encode(), address)

    # -- FIFO ------------------------------------------------------------------------------------------------------------

    def _open_fifo(self) -> Door:
        p = self.p
        path = self._path(p.fifo_name)

        def make() -> int:
            os.mkfifo(path, p.fifo_mode)
            # opened for writing as well, so that it never reports an end
            return os.open(path, os.O_RDWR | os.O_NONBLOCK)

        door = self._door(path, make, path)
        self._owned(path, p.fifo_mode, p.fifo_user, p.fifo_group)
        return door

    def _fifo_readable(self) -> None:
        if self.fifo is None:
            return
        with contextlib.suppress(BlockingIOError):
            self.pending += os.read(self.fifo.fileno(), MAX_REQUEST).decode("utf-8", "replace")
        while True:
            request, rest = _complete(self.pending)
            if request is None:
                if len(self.pending) > MAX_REQUEST:
                    self.pending = ""
                return
            self.pending = rest
            self.rt.worker.waits.detached(self._serve_fifo, request)

    def _serve_fifo(self, request: str) -> None:
        answer, _status = self.answer(request)
        reply = _reply_name(request)
        if answer is not None and reply:
            self._write_reply(os.path.join(self.p.fifo_reply_dir, os.path.basename(reply)), answer)

    def _write_reply(self, path: str, answer: str, tries: int = REPLY_TRIES) -> None:
        """Into the client's FIFO, which it may open for reading only after it has asked."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as err:
            if err.errno == errno.ENXIO and tries > 1:
                self.rt.timers.arm(self.rt.now() + REPLY_WAIT, lambda _: self._write_reply(path, answer, tries - 1))
                return
            self.rt.log.error("jsonrpcs: cannot write the reply to %s: %s", path, err.strerror)
            return
        with os.fdopen(fd, "wb") as out:
            out.write(answer.encode())

    def answer(self, text: str) -> tuple[str | None, int]:
        return handle(self.rt.worker.rpc, text, pretty=bool(self.p.pretty_format), log=self.rt.log)

    # -- script ----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def jsonrpc_exec(self, ctx: Ctx, cmd: str) -> int:
        """Run a request; the answer is in $jsonrpl."""
        answer, status = self.answer(cmd)
        self.last = (status, "OK" if status == 200 else "Error", answer or "")
        return 1 if status == 200 else -1

    @function(Routes.REQUEST)
    def jsonrpc_dispatch(self, ctx: Ctx) -> int:
        """Answer the JSON-RPC request in the body of an HTTP request. What is no JSON is logged and not answered."""
        xhttp = self.rt.module("xhttp")
        if xhttp is None or not (self.p.transport or 7) & _HTTP:
            self.rt.log.error("jsonrpc_dispatch: module xhttp and transport 1 are needed")
            return -1
        try:
            loads(ctx.msg.body)
        except ValueError as err:
            self.rt.log.error("jsonrpc_dispatch: the body is no JSON: %s", err)
            return -1
        answer, status = self.answer(ctx.msg.body)
        if not 100 <= status <= 699:
            status = 500
        reason = "OK" if status == 200 else "Internal Server Error" if status == 500 else "Error"
        result: int = xhttp.xhttp_reply(ctx, status, reason, "application/json" if answer else "", answer or "")
        return result

    @pv_class("jsonrpl")
    def pv_jsonrpl(self, spec: PvSpec) -> BoundPv:
        part = {"code": 0, "text": 1, "body": 2}[spec.inner or ""]

        def get(ctx: Ctx) -> Value:
            return self.last[part] if self.last is not None else None

        return BoundPv(get)

    @classmethod
    def check_pv_jsonrpl(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("code", "text", "body") else "the key is one of code text body"

    @rpc("jsonrpc.echo")
    def rpc_echo(self, *params: Any) -> list[Any]:
        """The parameters as given."""
        return list(params)


def _bound(family: int, address: Any) -> socket.socket:
    """A datagram socket. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.bind(address)
    except (OSError, OverflowError):
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _complete(text: str) -> tuple[str | None, str]:
    """The first whole JSON object and the rest; None when it is not complete."""
    start = text.find("{")
    if start < 0:
        return None, ""
    depth, quoted, at = 0, False, start
    while at < len(text):
        c = text[at]
        if quoted:
            if c == "\\":
                at += 1
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        elif c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                return text[start : at + 1], text[at + 1 :]
        at += 1
    return None, text[start:]


def _reply_name(text: str) -> str:
    try:
        found = loads(text).get("reply_name", "")
    except (ValueError, AttributeError):
        return ""
    return found if isinstance(found, str) else ""


module = Jsonrpcs
