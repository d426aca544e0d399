"""Module tcpops: keepalive, lifetime, closing and events of single TCP connections."""

from __future__ import annotations

from kamc.declare import ANY, Module, function, pv_class
from kamc.declare.argtypes import PvArg
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.runtime.context import Ctx
from kamc.runtime.net.connection import Closing, Connection
from kamc.runtime.net.endpoint import Flow
from kamc.runtime.pv.bind import BoundPv

_KEYS = ("c_si", "c_sp", "conid", "ac_si", "ac_sp", "aconid")
_EVENTS = {Closing.PEER: "tcp:closed", Closing.IDLE: "tcp:timeout", Closing.RESET: "tcp:reset"}


class Tcpops(Module):
    name = "tcpops"
    kept = ("watched",)
    ignored_params = ("event_callback",)

    class Params:
        closed_event: int = 1

    def mod_init(self) -> None:
        self.watched: set[int] = set()
        self.rt.hooks.connection_closed["tcpops"] = self.closed

    def closed(self, conn: Connection, how: Closing) -> None:
        """``tcp:closed``, ``tcp:timeout`` and ``tcp:reset``: of every connection with closed_event 1, of chosen ones with 2."""
        chosen = conn.id in self.watched
        self.watched.discard(conn.id)
        event = _EVENTS.get(how)
        if event is None or not (self.p.closed_event == 1 or (self.p.closed_event == 2 and chosen)) or not self.rt.has_event(event):
            return
        self.rt.worker.run_event(event, self.rt.worker.fake_context(flow=Flow(conn.listener, *conn.remote, conn.id)))

    def _find(self, ctx: Ctx, number: int) -> int:
        """The number of a connection that is open, by default of the one in hand; else 0."""
        number = number or ctx.flow.conn
        return number if self.rt.worker.streams.is_open(number) else 0

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(ANY, arities=(3, 4))
    def tcp_keepalive_enable(self, ctx: Ctx, first: int, second: int, third: int, fourth: int = -1) -> int:
        """``[conid,] idle, count, interval``: TCP keepalive with these numbers (seconds, probes, seconds)."""
        number, idle, count, interval = (0, first, second, third) if fourth < 0 else (first, second, third, fourth)
        conn = self._find(ctx, number)
        return 1 if conn and self.rt.worker.streams.keepalive(conn, (idle, count, interval)) else -1

    @function(ANY)
    def tcp_keepalive_disable(self, ctx: Ctx, conid: int = 0) -> int:
        conn = self._find(ctx, conid)
        return 1 if conn and self.rt.worker.streams.keepalive(conn, None) else -1

    @function(ANY, arities=(1, 2))
    def tcp_set_connection_lifetime(self, ctx: Ctx, first: int, second: int = -1) -> int:
        """``[conid,] lifetime``: seconds of silence after which a connection is closed, from now on."""
        number, seconds = (0, first) if second < 0 else (first, second)
        conn = self._find(ctx, number)
        return 1 if conn and self.rt.worker.streams.set_lifetime(conn, seconds) else -1

    @function(ANY)
    def tcp_enable_closed_event(self, ctx: Ctx, conid: int = 0) -> int:
        conn = self._find(ctx, conid)
        if not conn:
            return -1
        self.everywhere(self.watch, conn)
        return 1

    def watch(self, number: int) -> None:
        """Of this connection the end is told."""
        self.watched.add(number)

    @function(ANY)
    def tcp_conid_state(self, ctx: Ctx, conid: int) -> int:
        """1 open, 3 being opened, -1 unknown."""
        conn = self.rt.worker.streams.connections.get(conid)
        if conn is None:
            return 1 if self.rt.worker.streams.is_open(conid) else -1
        return 3 if conn.opening else 1

    @function(ANY)
    def tcp_conid_alive(self, ctx: Ctx, conid: int) -> int:
        return 1 if self.rt.worker.streams.is_open(conid) else -1

    def _by_address(self, text: str) -> Connection | None:
        host, _, port = text.rpartition(":")
        host = host.rpartition(":")[2] if host.startswith(("tcp:", "tls:")) else host
        found: Connection | None = self.rt.worker.streams.find((host.strip("[]"), int(port) if port.isdecimal() else 0))
        return found

    @function(ANY)
    def tcp_con_alive(self, ctx: Ctx, addr: str) -> int:
        return 1 if self._by_address(addr) is not None else -1

    @function(ANY)
    def tcp_get_conid(self, ctx: Ctx, hostport: str, pvname: PvArg) -> int:
        """The id of the connection with an address goes into a variable, -1 when there is none."""
        conn = self._by_address(hostport)
        pvname.set(ctx, conn.id if conn is not None else -1)
        return 1 if conn is not None else -1

    @function(ANY)
    def tcp_set_otcpid(self, ctx: Ctx, conid: int) -> int:
        """Requests of this run leave over this connection."""
        ctx.forward_conn = conid
        return 1

    @function(ANY)
    def tcp_set_otcpid_flag(self, ctx: Ctx, mode: int) -> int:
        """Whether requests of this run leave over the connection that the request came by."""
        ctx.forward_conn = ctx.flow.conn if mode else 0
        return 1

    @function(ANY)
    def tcp_close_connection(self, ctx: Ctx, conid: int = 0) -> int:
        conn = self._find(ctx, conid)
        if not conn:
            return -1
        self.rt.worker.streams.hang_up(conn, "tcp_close_connection")
        return 1

    # -- $tcp(...) -------------------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_tcp(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _KEYS else f"the key is one of {' '.join(_KEYS)}"

    @pv_class("tcp")
    def pv_tcp(self, spec: PvSpec) -> BoundPv:
        """Of the connection in hand; the keys with ``a`` only while it is open."""
        key = spec.inner or ""
        field = {"c_si": 0, "c_sp": 1, "ac_si": 0, "ac_sp": 1}.get(key)

        def get(ctx: Ctx) -> Value:
            flow = ctx.flow
            if not flow.conn or (key.startswith("a") and not self.rt.worker.streams.is_open(flow.conn)):
                return None
            return flow.conn if field is None else (flow.remote_ip, flow.remote_port)[field]

        return BoundPv(get)


module = Tcpops
