"""Module sl: stateless replies; ``send_reply`` chooses between stateless and stateful."""

from __future__ import annotations

from typing import Any

from kamc.declare import Module, Routes, Spread, function, pv_class, rpc
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.message import parse_message
from kamc.runtime.tm.params import REASONS

_CLASSES = ("1xx_replies", "200_replies", "202_replies", "2xx_replies", "300_replies", "301_replies", "302_replies", "3xx_replies", "400_replies",
            "401_replies", "403_replies", "404_replies", "407_replies", "408_replies", "483_replies", "4xx_replies", "500_replies", "5xx_replies",
            "6xx_replies", "xxx_replies", "failures", "received_ACKs", "sent_err_replies", "sent_replies")  # fmt: skip
#: not among the numbers by code
_NOT_SHOWN = frozenset({"1xx_replies", "sent_replies", "sent_err_replies"})
#: how long after our last negative stateless reply an ACK may be one for it, seconds
ACK_WINDOW = 4.0


class Sl(Module):
    name = "sl"
    ignored_params = ("bind_tm",)
    stats = {"sl": _CLASSES}

    class Params:
        default_code: int = 500
        default_reason: str = "Internal Server Error"
        rich_redirect: int = 0

    def mod_init(self) -> None:
        self.acks_until = 0.0
        self.rt.hooks.pre_request.append(self.filter_ack)

    def filter_ack(self, ctx: Ctx) -> bool:
        """An ACK for a negative stateless reply of ours ends here: its To tag is the one that we made for the request."""
        msg = ctx.msg
        if msg.method != "ACK" or ctx.rt is not self.rt or self.acks_until < self.rt.now():
            return True
        tag = msg.to_tag
        if not tag.startswith(self.rt.tag_prefix):
            return True
        try:
            own = self.rt.totag(msg)
        except SipError:
            return True
        if tag != own:
            return True
        self.rt.counters.add("sl", "received_ACKs")
        self.rt.run_event("sl:filtered-ack", ctx)
        return False

    def count(self, code: int) -> None:
        add = self.rt.counters.add
        add("sl", "sent_replies")
        exact = f"{code}_replies"
        if exact in _CLASSES:
            add("sl", exact)
        add("sl", f"{code // 100}xx_replies" if 100 <= code < 700 else "xxx_replies")

    def stateless(self, ctx: Ctx, code: int, reason: str) -> int:
        """Send it. 1 also for an ACK, which gets nothing."""
        if ctx.msg.method == "ACK":
            return 1
        if not 100 <= code <= 699:
            self.rt.log.error("reply code %d is not within 100 and 699", code)
            return -1
        if 300 <= code < 400:
            ctx.add_redirect_contacts(self.p.rich_redirect)
        self.count(code)
        if code >= 300:
            self.acks_until = self.rt.now() + ACK_WINDOW
        if not self.rt.datapath.stateless_reply(ctx, code, reason):
            self.rt.counters.add("sl", "failures")
            return -1
        if self.rt.has_event("sl:local-response"):
            self._local_response(ctx, code, reason)
        return 1

    def _local_response(self, ctx: Ctx, code: int, reason: str) -> None:
        """``event_route[sl:local-response]`` sees the reply that went out; what it changes stays there."""
        text = self.rt.datapath.local_reply_text(ctx, code, reason, self.rt.totag(ctx.msg))
        work = Ctx(self.rt, parse_message(text), ctx.flow, Routes.EVENT)
        self.rt.run_event("sl:local-response", work)

    @function(Routes.REQUEST, "sl_send_reply", "sl_reply")
    def sl_send_reply(self, ctx: Ctx, code: int, reason: str) -> int:
        return self.stateless(ctx, code, reason)

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY)
    def send_reply(self, ctx: Ctx, code: int, reason: str) -> int:
        """Stateful when a transaction is there, else stateless."""
        tm = self.rt.module("tm")
        t = tm.current(ctx) if tm is not None else None
        if t is not None:
            return int(tm.t_reply(ctx, code, reason))
        return self.stateless(ctx, code, reason) if ctx.msg.is_request else -1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY)
    def send_reply_mode(self, ctx: Ctx, code: int, reason: str, mode: int) -> int:
        """As send_reply; mode 1 keeps body lines of earlier replies out."""
        if mode & 1:
            ctx.reply_headers = None
        return self.send_reply(ctx, code, reason)

    def _error(self, ctx: Ctx) -> tuple[int, str]:
        code, reason = ctx.recall("error_reply", (self.p.default_code, "I'm terribly sorry, server error occurred (1/SL)"))
        return int(code), str(reason)

    @function(Routes.REQUEST, error="reads")
    def sl_reply_error(self, ctx: Ctx) -> int:
        """Answer with the last internal error."""
        code, reason = self._error(ctx)
        self.rt.counters.add("sl", "sent_err_replies")
        return self.stateless(ctx, code, reason)

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY, error="reads")
    def send_reply_error(self, ctx: Ctx) -> int:
        tm = self.rt.module("tm")
        t = tm.current(ctx) if tm is not None else None
        if t is not None:
            code, reason = self._error(ctx)
            return int(tm.t_reply(ctx, code, reason.replace("/SL)", "/TM)")))
        return self.sl_reply_error(ctx)

    @function(Routes.ONREPLY)
    def sl_forward_reply(self, ctx: Ctx, code: str = "", reason: str = "") -> int:
        """Pass the reply on without state, optionally with another status of the same class."""
        msg = ctx.msg
        if code:
            if not code.isdecimal() or int(code) // 100 != msg.status // 100:
                return -1
            ctx.new_status = (int(code), reason or REASONS.get(int(code), msg.reason))
        elif reason:
            ctx.new_status = (msg.status, reason)
        return 1 if self.rt.datapath.forward_reply(ctx) else -1

    @pv_class("ltt")
    def pv_ltt(self, spec: PvSpec) -> BoundPv:
        """The local To tag: of the transaction, else of a stateless reply."""

        def get(ctx: Ctx) -> Value:
            t = ctx.t
            if spec.inner in ("x", "t", None) and t is not None:
                return t.to_tag or self.rt.totag(ctx.msg)  # type: ignore[no-any-return]
            return None if spec.inner == "t" else self.rt.totag(ctx.msg)

        return BoundPv(get)

    @rpc("sl.stats", spread=Spread.SHOWN)
    def rpc_stats(self) -> dict[str, Any]:
        """Numbers of stateless replies by code."""
        get = self.rt.counters.get
        return {name.removesuffix("_replies"): get("sl", name) for name in _CLASSES if name.endswith("_replies") and name not in _NOT_SHOWN}


module = Sl
