"""Creating, looking up and relaying."""

from __future__ import annotations

from typing import Any

from kamc.declare import Exit, Routes, function
from kamc.declare.argtypes import Lit
from kamc.declare.values import to_int, to_str
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.tm.params import E_BAD_ADDRESS, E_BAD_URI, E_NO_SOCKET, E_SEND
from kamc.runtime.tm.transaction import Transaction

_RF = Routes.REQUEST | Routes.FAILURE
_ROB = Routes.REQUEST | Routes.ONREPLY | Routes.BRANCH
#: internal error → reply
_ERRORS = {
    E_SEND: (477, "Unfortunately error on sending to next hop occurred"), E_BAD_ADDRESS: (478, "Unresolvable destination"),
    E_BAD_URI: (479, "Regretfully, we were not able to process the URI"), -1: (500, "I'm terribly sorry, server error occurred"),
}  # fmt: skip


class RelayFunctions:
    rt: Any
    p: Any
    timer_variables: list[tuple[str, Any]]

    def current(self, ctx: Ctx) -> Transaction | None:
        raise NotImplementedError

    # -- looking up ------------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST)
    def t_lookup_request(self, ctx: Ctx) -> int:
        return 1 if self.rt.tm.lookup(ctx) is not None else -1

    @function(Routes.REQUEST)
    def t_lookup_cancel(self, ctx: Ctx, copy_flags: int = 0) -> int:
        """Whether the transaction that a CANCEL means is there; with 1 its flags are taken."""
        t = self.rt.tm.lookup_cancelled(ctx)
        if t is None:
            return -1
        if copy_flags:
            ctx.flags = t.flags
        return 1

    @function(_ROB)
    def t_check_trans(self, ctx: Ctx) -> int:
        """Known transaction? A repeated request gets the last reply again and an ACK for a negative reply is taken: both end the script."""
        msg = ctx.msg
        engine = self.rt.tm
        if not msg.is_request:
            return 1 if ctx.t is not None else -1
        if msg.method == "CANCEL":
            return 1 if engine.lookup_cancelled(ctx) is not None else -1
        t = ctx.t or engine.find(msg)
        if msg.method == "ACK":
            if t is not None and t.status >= 300 and t.is_invite:
                t.server.acked()
                raise Exit
            # an ACK for a 2xx belongs to no transaction: the script relays it
            return -1
        if t is None:
            return -1
        if t.msg is not msg:
            t.server.repeated()
            raise Exit
        return 1

    # -- creating --------------------------------------------------------------------------------------------------------

    def make(self, ctx: Ctx) -> Transaction | None:
        """The transaction of the request, created when there is none. None for an ACK; ends the script for a repetition."""
        engine = self.rt.tm
        if ctx.t is not None:
            found: Transaction = ctx.t
            return found
        msg = ctx.msg
        t = engine.find(msg)
        if msg.method == "ACK":
            if t is not None and t.is_invite and t.status >= 300:
                t.server.acked()
                raise Exit
            return None
        if t is not None:
            t.server.repeated()
            raise Exit
        created: Transaction = engine.new(ctx)
        return created

    @function(Routes.REQUEST)
    def t_newtran(self, ctx: Ctx) -> int:
        if ctx.t is not None:
            return 1 if ctx.t.msg is ctx.msg else -1
        try:
            return 1 if self.make(ctx) is not None else -1
        except SipError as err:
            self.rt.log.error("t_newtran: %s", err)
            return -1

    @function(Routes.REQUEST)
    def t_release(self, ctx: Ctx) -> int:
        t = self.current(ctx)
        if t is None:
            return -1
        t.released = True
        t.wait(self.rt.now())
        return 1

    @function(Routes.ANY)
    def t_exists(self, ctx: Ctx) -> int:
        return 1 if self.current(ctx) is not None else -1

    @function(Routes.ANY)
    def t_clean(self, ctx: Ctx) -> int:
        return 1

    # -- relaying --------------------------------------------------------------------------------------------------------

    def _can_be_relayed(self, ctx: Ctx) -> bool:
        """What is known before there is a transaction: the empty line behind the headers is missing, or the Request-URI is none."""
        if ctx.msg.open_ended:
            self.rt.log.error("t_relay: the header section has no end")
            return False
        if parse_uri(ctx.ruri) is None:
            self.rt.log.error("t_relay: bad Request-URI %r", ctx.ruri[:100])
            code, reason = _ERRORS[E_BAD_URI]
            ctx.remember("error_reply", (code, f"{reason} ({code}/SL)"))
            return False
        return True

    def _relay(self, ctx: Ctx, uri: str | None = None, *, flags: int = 0) -> int:
        """``flags``: 1 no 100 Trying, 2 no error reply of our own."""
        engine = self.rt.tm
        msg = ctx.msg
        if msg.method == "CANCEL" and ctx.kind & Routes.REQUEST and ctx.t is None:
            return self._relay_cancel(ctx, uri)
        if ctx.t is None and not self._can_be_relayed(ctx):
            return -1
        try:
            t = self.make(ctx)
        except SipError as err:
            self.rt.log.error("t_relay: %s", err)
            ctx.remember("error_reply", (400, "Bad Request (400/SL)"))
            return -1
        if t is None:
            return self._forward_ack(ctx, uri)
        if ctx.hooks:
            t.adopt_hooks(ctx)
        if not flags & 1 and ctx.kind is Routes.REQUEST:
            engine.trying(t)
        rc = self._fork(t, ctx, uri)
        if rc < 0:
            code, reason = _ERRORS.get(rc, _ERRORS[-1])
            # of what happened to a single branch sl_reply_error() does not know
            ctx.remember("error_reply", (code, f"{reason} ({-rc}/SL)") if rc in (E_BAD_ADDRESS, E_NO_SOCKET) else (500, f"{_ERRORS[-1][1]} (1/SL)"))
            waiting = any(b.client.waiting for b in t.branches)
            if not flags & 2 and not t.no_internal_reply and ctx.kind & Routes.REQUEST and t.status < 200 and not waiting:
                error = (code, f"{reason} ({-rc}/TM)")
                if self.p.delayed_reply:
                    ctx.remember("delayed_error", error)
                else:
                    engine.reply(t, *error)
        return rc

    def _relay_cancel(self, ctx: Ctx, uri: str | None) -> int:
        engine = self.rt.tm
        invite = engine.lookup_cancelled(ctx)
        if invite is not None:
            engine.cancel(ctx, invite)
            return 1
        if engine.params.unmatched_cancel == 2:
            return -1
        if engine.params.unmatched_cancel == 1:
            return 1 if self.rt.datapath.forward_stateless(ctx) else -1
        try:
            t = self.make(ctx)
        except SipError:
            return -1
        return self._fork(t, ctx, uri) if t is not None else -1

    def _forward_ack(self, ctx: Ctx, uri: str | None) -> int:
        dest = self.rt.datapath.resolve(ctx, uri) if uri is not None else None
        if uri is not None and dest is None:
            return -1
        return 1 if self.rt.datapath.forward_stateless(ctx, dest) else -1

    @staticmethod
    def _uri(host: str, port: int, proto: str = "") -> str:
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"sip:{host}" + (f":{port}" if port else "") + (f";transport={proto}" if proto else "")

    @function(_RF, arities=(0, 2), waits=True, error="leaves")
    def t_relay(self, ctx: Ctx, host: Lit = "", port: int = 0) -> int:
        return self._relay(ctx, self._uri(host, port) if host else None)

    def _to_proto(self, ctx: Ctx, proto: str, host: str, port: int) -> int:
        if host:
            return self._relay(ctx, self._uri(host, port, proto))
        uri = parse_uri(ctx.du or ctx.ruri)
        if uri is None:
            return -1
        return self._relay(ctx, self._uri(uri.host, uri.port_number, proto))

    @function(_RF, arities=(0, 2), waits=True, error="leaves")
    def t_relay_to_udp(self, ctx: Ctx, ip: Lit = "", port: int = 0) -> int:
        return self._to_proto(ctx, "udp", ip, port)

    @function(_RF, arities=(0, 2), waits=True, error="leaves")
    def t_relay_to_tcp(self, ctx: Ctx, ip: Lit = "", port: int = 0) -> int:
        return self._to_proto(ctx, "tcp", ip, port)

    @function(_RF, arities=(0, 2), waits=True, error="leaves")
    def t_relay_to_tls(self, ctx: Ctx, ip: Lit = "", port: int = 0) -> int:
        return self._to_proto(ctx, "tls", ip, port)

    @function(_RF, arities=(0, 2), waits=True, error="leaves")
    def t_relay_to_sctp(self, ctx: Ctx, ip: Lit = "", port: int = 0) -> int:
        return self._to_proto(ctx, "sctp", ip, port)

    def _proxy(self, text: str) -> str | None:
        """``[proto:]host[:port]`` → URI."""
        parts = text.split(":")
        proto = parts.pop(0) if parts[0] in ("udp", "tcp", "tls", "sctp") else ""
        if not parts or len(parts) > 2:
            return None
        return self._uri(parts[0], int(parts[1]) if len(parts) == 2 and parts[1].isdigit() else 0, proto)

    @function(_RF, waits=True, error="leaves")
    def t_relay_to(self, ctx: Ctx, first: Lit = "", second: Lit = "") -> int:
        """``t_relay_to([proxy] [, flags])``; one argument is flags when it is a number."""
        proxy, flags = ("", first) if (not second and first.startswith("0x")) or first.isdigit() else (first, second)
        uri = self._proxy(proxy) if proxy else None
        if proxy and uri is None:
            return -1
        number = int(flags, 0) if flags else 0
        # with flags alone Kamailio sends its 100 all the same
        return self._relay(ctx, uri, flags=number if proxy else number & ~1)

    @function(_RF, waits=True, error="leaves")
    def t_relay_to_proxy(self, ctx: Ctx, proxy: str) -> int:
        uri = self._proxy(proxy)
        return -1 if uri is None else self._relay(ctx, uri)

    def _from_avps(self, ctx: Ctx, host: str, port: str) -> str | None:
        """Host and port may be avp names."""
        values = [to_str(self.rt.pv(v)(ctx)) if v.startswith("$") else v for v in (host, port)]
        return self._uri(values[0], int(values[1]) if values[1].isdigit() else 0) if values[0] else None

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_relay_to_avp(self, ctx: Ctx, host: Lit, port: Lit) -> int:
        uri = self._from_avps(ctx, host, port)
        return -1 if uri is None else self._relay(ctx, uri)

    def _fork(self, t: Transaction, ctx: Ctx, uri: str | None) -> int:
        """Send the branches, with the timers that fr_timer_avp and fr_inv_timer_avp give."""
        for name, get in self.timer_variables:
            value = get(ctx)
            seconds = to_int(value) if value is not None else 0
            if seconds > 0:
                setattr(t, name, float(seconds))
        return int(self.rt.tm.relay_branches(t, ctx, uri))

    # -- forwarding without creating -------------------------------------------------------------------------------------

    def _nonack(self, ctx: Ctx, uri: str | None) -> int:
        t = self.current(ctx)
        return -1 if t is None else self._fork(t, ctx, uri)

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_forward_nonack(self, ctx: Ctx, ip: Lit, port: int) -> int:
        return self._nonack(ctx, self._uri(ip, port))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_forward_nonack_uri(self, ctx: Ctx) -> int:
        return self._nonack(ctx, None)

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_forward_nonack_udp(self, ctx: Ctx, ip: Lit, port: int) -> int:
        return self._nonack(ctx, self._uri(ip, port, "udp"))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_forward_nonack_tcp(self, ctx: Ctx, ip: Lit, port: int) -> int:
        return self._nonack(ctx, self._uri(ip, port, "tcp"))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_forward_nonack_tls(self, ctx: Ctx, ip: Lit, port: int) -> int:
        return self._nonack(ctx, self._uri(ip, port, "tls"))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_forward_nonack_sctp(self, ctx: Ctx, ip: Lit, port: int) -> int:
        return self._nonack(ctx, self._uri(ip, port, "sctp"))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_forward_nonack_to(self, ctx: Ctx, host: Lit, port: Lit) -> int:
        return self._nonack(ctx, self._from_avps(ctx, host, port))

    @function(Routes.REQUEST)
    def t_relay_cancel(self, ctx: Ctx) -> int:
        """Relay a CANCEL whose INVITE is known, which ends the script; 1 when there is none."""
        engine = self.rt.tm
        if ctx.msg.method != "CANCEL":
            return 1
        invite = engine.lookup_cancelled(ctx)
        if invite is None:
            return 1
        engine.cancel(ctx, invite)
        raise Exit

    # -- replication -----------------------------------------------------------------------------------------------------

    def _replicate(self, ctx: Ctx, uri: str) -> int:
        """A copy whose replies are swallowed."""
        try:
            t = self.make(ctx)
        except SipError:
            return -1
        if t is None:
            return self._forward_ack(ctx, uri)
        return int(self.rt.tm.relay_branches(t, ctx, uri, replicate=True))

    @function(Routes.REQUEST, arities=(1, 2), waits=True, error="leaves")
    def t_replicate(self, ctx: Ctx, uri: str, port: int = 0) -> int:
        return self._replicate(ctx, uri if uri.lower().startswith("sip") else self._uri(uri, port))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_replicate_udp(self, ctx: Ctx, host: Lit, port: int) -> int:
        return self._replicate(ctx, self._uri(host, port, "udp"))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_replicate_tcp(self, ctx: Ctx, host: Lit, port: int) -> int:
        return self._replicate(ctx, self._uri(host, port, "tcp"))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_replicate_tls(self, ctx: Ctx, host: Lit, port: int) -> int:
        return self._replicate(ctx, self._uri(host, port, "tls"))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_replicate_sctp(self, ctx: Ctx, host: Lit, port: int) -> int:
        return self._replicate(ctx, self._uri(host, port, "sctp"))

    @function(Routes.REQUEST, waits=True, error="leaves")
    def t_replicate_to(self, ctx: Ctx, host: Lit, port: Lit) -> int:
        uri = self._from_avps(ctx, host, port)
        return -1 if uri is None else self._replicate(ctx, uri)
