"""Module websocket: SIP over WebSocket (RFC 7118). https://www.kamailio.org/docs/modules/stable/modules/websocket.html

A connection begins as HTTP on a TCP or TLS socket: ``event_route[xhttp:request]`` calls ``ws_handle_handshake()``, and from there on it
carries frames (:mod:`.frames`).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from typing import Any, Final

from kamc.declare import ANY, Module, Spread, function, pv, rpc
from kamc.declare.routes import Exit
from kamc.errors import ConfigError
from kamc.runtime import http
from kamc.runtime.context import Ctx
from kamc.runtime.net.connection import Closing, Connection
from kamc.runtime.net.endpoint import Flow
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.websocket.frames import State, WebSocket, count

#: RFC 6455 section 1.3
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = 13
_COUNTED: Final = ("failed_connections", "local_closed_connections", "received_frames", "remote_closed_connections", "transmitted_frames")
_SHOWN: Final = 50
_MECHANISMS: Final = range(3)


class Websocket(Module):
    name = "websocket"
    kept = ("enabled", "most")
    depends = ("sl", "tm")
    stats = {"websocket": (
        *(f"ws_{kind}{name}" for kind in ("", "sip_", "msrp_") for name in (*_COUNTED, "current_connections", "max_concurrent_connections", "successful_handshakes")),
        "ws_failed_handshakes",
    )}  # fmt: skip
    tuning_params = ("keepalive_processes", "verbose_list")
    ignored_params = ("event_callback",)

    class Params:
        keepalive_mechanism: int = 1
        keepalive_timeout: int = 180
        keepalive_interval: int = 1
        ping_application_data: str = ""
        sub_protocols: int = 1
        cors_mode: int = 0
        timer_interval: int = 1
        rm_delay_interval: int = 5

    def mod_init(self) -> None:
        p = self.p
        if p.keepalive_mechanism not in _MECHANISMS:
            raise ConfigError("websocket: keepalive_mechanism is 0, 1 or 2")
        if p.cors_mode not in range(3):
            raise ConfigError("websocket: cors_mode is 0, 1 or 2")
        if p.sub_protocols & ~1 or not p.sub_protocols:
            raise ConfigError("websocket: sub_protocols is 1 (sip): msrp is not implemented by kamc")
        for name, seconds in {"keepalive_timeout": p.keepalive_timeout, "keepalive_interval": p.keepalive_interval, "timer_interval": p.timer_interval}.items():
            if seconds < 1:
                raise ConfigError(f"websocket: {name} is at least 1 second")
        if p.rm_delay_interval < 0:
            raise ConfigError("websocket: rm_delay_interval is at least 0 seconds")
        #: of ws.enable and ws.disable
        self.enabled = True
        self.most = 0
        self.ping_data = (p.ping_application_data or self.rt.server_header.partition(":")[2].strip() or "kamc").encode()[:125]
        self.hub = self.rt.worker.streams
        self.rt.hooks.connection_closed["websocket"] = self.closed
        for kind in ("", "sip_"):
            self.rt.hooks.statistics["websocket", f"ws_{kind}current_connections"] = lambda: len(self.sockets())
            self.rt.hooks.statistics["websocket", f"ws_{kind}max_concurrent_connections"] = lambda: self.most
            self.rt.hooks.partial |= {("websocket", f"ws_{kind}{what}_connections") for what in ("current", "max_concurrent")}
        self.rt.every(float(p.timer_interval), self._cut_off)
        if p.keepalive_mechanism:
            self.rt.every(float(p.keepalive_interval), self._keep_alive)

    def sockets(self) -> list[WebSocket]:
        return [c.codec for c in self.hub.connections.values() if isinstance(c.codec, WebSocket)]

    # -- handshake -------------------------------------------------------------------------------------------------------

    @function(ANY)
    def ws_handle_handshake(self, ctx: Ctx) -> int:
        """Answer the HTTP request in hand: with 101 it becomes a WebSocket connection, else the script ends here."""
        conn = self.hub.connections.get(ctx.flow.conn)
        if conn is None or not http.is_http(ctx) or conn.codec is not None:
            self.rt.log.error("ws_handle_handshake: not in an HTTP request")
            raise Exit
        try:
            if self._handshake(ctx, conn):
                return 1
        except OSError as err:
            self.rt.log.error("ws_handle_handshake: %s", err.strerror or err)
        raise Exit

    def _handshake(self, ctx: Ctx, conn: Connection) -> bool:
        def values(name: str) -> list[str]:
            return [h[2].strip() for h in ctx.msg.headers if h[1].lower() == name]

        def tokens(name: str) -> set[str]:
            return {token.strip().lower() for value in values(name) for token in value.split(",")}

        keys, versions = values("sec-websocket-key"), values("sec-websocket-version")
        version = re.match(r"\d+", versions[0]) if versions else None
        if not self.enabled:
            return self._refuse(ctx, 503, "Service Unavailable")
        if len(keys) > 1 or len(versions) > 1:
            return self._refuse(ctx, 400, "Bad Request")
        if versions and (version is None or int(version[0]) != _VERSION):
            return self._refuse(ctx, 426, "Upgrade Required", f"Sec-WebSocket-Version: {_VERSION}\r\n")
        wanted = "upgrade" in tokens("connection") and "websocket" in tokens("upgrade") and "sip" in tokens("sec-websocket-protocol")
        if not wanted or not keys or not versions:
            return self._refuse(ctx, 400, "Bad Request", f"Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: {_VERSION}\r\n")
        # RFC 6455 section 4.2.2: proof that the key was read
        accept = base64.b64encode(hashlib.sha1((keys[0] + _GUID).encode("latin-1", "replace")).digest()).decode()
        origin = {1: ["*"], 2: values("origin")[:1]}.get(self.p.cors_mode, [])
        lines = [f"Access-Control-Allow-Origin: {value}\r\n" for value in origin]
        lines += ["Sec-WebSocket-Protocol: sip\r\n", "Upgrade: websocket\r\n", "Connection: upgrade\r\n", f"Sec-WebSocket-Accept: {accept}\r\n"]
        http.answer(ctx, 101, "Switching Protocols", "".join(lines), close=False)
        conn.codec = WebSocket(conn, self.hub, self.rt.counters, self.rt.now)
        self.most = max(self.most, len(self.sockets()))
        count(self.rt.counters, "successful_handshakes")
        return True

    def _refuse(self, ctx: Ctx, code: int, reason: str, headers: str = "") -> bool:
        self.rt.counters.add("websocket", "ws_failed_handshakes")
        http.answer(ctx, code, reason, headers, close=True)
        return False

    # -- life and end ----------------------------------------------------------------------------------------------------

    def _find(self, number: int) -> WebSocket | None:
        conn = self.hub.connections.get(number)
        return conn.codec if conn is not None and isinstance(conn.codec, WebSocket) else None

    @function(ANY, arities=(0, 2, 3))
    def ws_close(self, ctx: Ctx, status: int = 1000, reason: str = "Normal closure", connection_id: int = 0) -> int:
        """Begin to close the connection of the message, or another one."""
        number = connection_id or ctx.flow.conn
        found = self._find(number)
        if found is None and self.hub.is_open(number) and 0 <= status <= 65535:
            # another worker holds it
            self.rt.tell_peers(self.name, "close_here", number, status, reason)
            return 1
        if found is None or not 0 <= status <= 65535:
            self.rt.log.error("ws_close: %s", "no such connection" if found is None else f"no status {status}")
            return -1
        try:
            found.close(status, reason)
        except OSError as err:
            self.rt.log.error("ws_close: %s", err.strerror or err)
            return -1
        return 1

    def close_here(self, number: int, status: int, reason: str) -> None:
        """Another worker was asked to close a connection, which may be held here."""
        found = self._find(number)
        if found is not None:
            with contextlib.suppress(OSError):
                found.close(status, reason)

    def _keep_alive(self) -> None:
        """Ask clients that were silent, and let go of those that did not answer the time before."""
        old = self.rt.now() - self.p.keepalive_timeout
        for socket in self.sockets():
            if socket.state is not State.OPEN or socket.last_used >= old:
                continue
            if socket.awaiting_pong:
                count(self.rt.counters, "failed_connections")
                self.hub.close(socket.conn, "no pong", Closing.IDLE)
                continue
            try:
                (socket.pong if self.p.keepalive_mechanism == 2 else socket.ping)(self.ping_data)
            except OSError as err:
                self.hub.close(socket.conn, err.strerror or str(err), Closing.RESET)

    def _cut_off(self) -> None:
        """Clients that do not answer a close."""
        old = self.rt.now() - self.p.rm_delay_interval
        for socket in self.sockets():
            if socket.state is State.CLOSING and socket.closing_since <= old:
                self.hub.close(socket.conn, "close was not answered", Closing.OWN)

    def closed(self, conn: Connection, how: Closing) -> None:
        """``event_route[websocket:closed]``."""
        if not isinstance(conn.codec, WebSocket) or not self.rt.has_event("websocket:closed"):
            return
        ctx = self.rt.worker.fake_context(flow=Flow(conn.listener, *conn.remote))
        ctx.remember("ws_conid", conn.id)
        self.rt.worker.run_event("websocket:closed", ctx)

    @pv("ws_conid")
    def pv_ws_conid(self, ctx: Ctx) -> int | None:
        """In ``event_route[websocket:closed]``: the number of the connection."""
        number: int | None = ctx.recall("ws_conid")
        return number

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _named(self, number: Any) -> WebSocket:
        found = self._find(int(number)) if str(number).isdecimal() else None
        if found is None:
            raise RpcFault(500, "Unknown connection ID")
        return found

    @staticmethod
    def _send(send: Any, *args: Any) -> dict[str, Any]:
        try:
            send(*args)
        except OSError:
            raise RpcFault(500, "Error sending frame") from None
        return {}

    @rpc("ws.dump", spread=Spread.JOIN)
    def rpc_dump(self, order: str = "id_hash") -> dict[str, Any]:
        """The first 50 connections: by number, or by when they were last used."""
        found = self.sockets()
        if order in ("used_desc", "used_asc"):
            found.sort(key=lambda s: s.last_used, reverse=order == "used_asc")
        elif order != "id_hash":
            raise RpcFault(400, "Bad display order parameter")
        now = self.rt.now()
        lines = []
        for socket in found[:_SHOWN]:
            conn, listener = socket.conn, socket.conn.listener
            pong = " awaiting Pong," if socket.awaiting_pong else ""
            lines.append(f"{conn.id}: {conn.proto}:{conn.remote[0]}:{conn.remote[1]} -> {conn.proto}:{listener.host}:{listener.port} "
                         f"(state: {socket.state.value},{pong}  last used {int(now - socket.last_used)}s ago, sub-protocol: sip)")  # fmt: skip
        return {"connections": lines, "info": {"wscounter": len(found), "truncated": "yes" if len(found) > _SHOWN else "no"}}

    @rpc("ws.close", spread=Spread.EVERY, wrong="Invalid Parameters")
    def rpc_close(self, number: int) -> dict[str, Any]:
        """Begin to close a connection."""
        return self._send(self._named(number).close, 1000, "Normal closure")

    @rpc("ws.ping", spread=Spread.EVERY, wrong="Invalid Parameters")
    def rpc_ping(self, number: int) -> dict[str, Any]:
        """Send a ping."""
        return self._send(self._named(number).ping, self.ping_data)

    @rpc("ws.pong", spread=Spread.EVERY, wrong="Invalid Parameters")
    def rpc_pong(self, number: int) -> dict[str, Any]:
        """Send a pong that nobody asked for."""
        return self._send(self._named(number).pong, self.ping_data)

    @rpc("ws.enable", spread=Spread.EVERY)
    def rpc_enable(self) -> None:
        """Take new connections."""
        self.enabled = True

    @rpc("ws.disable", spread=Spread.EVERY)
    def rpc_disable(self) -> None:
        """Refuse new connections with 503."""
        self.enabled = False


module = Websocket
