"""Module tmx: tm for scripts, continued: other transactions, route tests, suspension, $T_* variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Exit, Module, Routes, function, pv, pv_class
from kamc.declare.argtypes import Flag, Lit
from kamc.declare.pvspec import PvSpec, PvSyntaxError, parse_format
from kamc.declare.values import Value
from kamc.runtime.context import Ctx
from kamc.runtime.net.steer import MOST_WORKERS
from kamc.runtime.pv.bind import BoundPv, bind_text
from kamc.runtime.tm.branch import ClientBranch
from kamc.runtime.tm.transaction import Transaction
from kamc.runtime.waits import Job


class Tmx(Module):
    name = "tmx"
    depends = ("tm",)
    ignored_params = ("precheck_trans",)

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: requests that t_precheck_trans saw, as long as their script runs
        self.prechecked: dict[Any, Job] = {}

    def mod_init(self) -> None:
        stats = self.rt.tm.stats
        values: dict[str, Callable[[], int]] = {
            "UAS_transactions": lambda: stats["total"], "UAC_transactions": lambda: stats["local"], "inuse_transactions": lambda: stats["current"],
            "active_transactions": lambda: stats["current"] - stats["waiting"], "rpl_received": lambda: stats["rpl_received"],
            "rpl_absorbed": lambda: stats["rpl_received"] - (stats["rpl_sent"] - stats["rpl_generated"]), "rpl_generated": lambda: stats["rpl_generated"],
            "rpl_relayed": lambda: stats["rpl_sent"] - stats["rpl_generated"], "rpl_sent": lambda: stats["rpl_sent"],
        }  # fmt: skip
        for kind in ("2xx", "3xx", "4xx", "5xx", "6xx"):
            values[f"{kind}_transactions"] = lambda kind=kind: stats[kind]  # type: ignore[misc]
        for name, value in values.items():
            self.rt.hooks.statistics["tmx", name] = value
            self.rt.hooks.partial.add(("tmx", name))

    def _t(self, ctx: Ctx) -> Transaction | None:
        return ctx.t if ctx.t is not None and not ctx.t.deleted else None

    # -- tests -----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def t_is_failure_route(self, ctx: Ctx) -> int:
        return 1 if ctx.kind & Routes.FAILURE else -1

    @function(ANY)
    def t_is_branch_route(self, ctx: Ctx) -> int:
        return 1 if ctx.kind & Routes.BRANCH else -1

    @function(ANY)
    def t_is_reply_route(self, ctx: Ctx) -> int:
        return 1 if ctx.kind & Routes.ONREPLY else -1

    @function(ANY)
    def t_is_request_route(self, ctx: Ctx) -> int:
        return 1 if ctx.kind & Routes.REQUEST else -1

    @function(Routes.REQUEST)
    def t_precheck_trans(self, ctx: Ctx) -> int:
        """Whether the same request is in work elsewhere: here that is one whose route is suspended or waits. The first is noted."""
        t = self.rt.tm.find(ctx.msg)
        if t is not None and t.suspended and t.msg is not ctx.msg:
            return 1
        job, key = self.rt.worker.waits.job, self.rt.tm.keys_of(ctx.msg)
        if key in self.prechecked:
            return 1 if self.prechecked[key] is not job else -1
        if job is not None:
            self.prechecked[key] = job
            job.at_end.append(lambda: self.prechecked.pop(key, None) and None)
        return -1

    # -- other transactions ----------------------------------------------------------------------------------------------

    @function(ANY, waits=True)
    def t_cancel_callid(self, ctx: Ctx, callid: str, cseq: str, flag: int, rcode: int = 0) -> int:
        """Cancel an INVITE by Call-ID and CSeq; the flag is set in its transaction."""
        t = self.rt.tm.by_callid(callid, cseq)
        if t is None:
            return self._hand_over_call(callid, "cancel_here", cseq, flag, rcode)
        return self._cancel(t, flag, rcode)

    def cancel_here(self, callid: str, cseq: str, flag: int, rcode: int) -> int:
        """Another worker was asked to cancel a call that is here."""
        t = self.rt.tm.by_callid(callid, cseq)
        return self._cancel(t, flag, rcode) if t is not None else -1

    def _cancel(self, t: Transaction, flag: int, rcode: int) -> int:
        if not t.is_invite:
            return -1
        if 0 <= flag < 32:
            t.flags |= 1 << flag
        t.canceled = True
        extra = f"Reason: SIP;cause={rcode}\r\n" if rcode else ""
        t.cancel_branches(self.rt.now(), extra)
        return 1

    @function(Routes.ONREPLY)
    def t_cancel_branches(self, ctx: Ctx, which: Lit) -> int:
        """``all``, ``others`` or ``this`` branch."""
        t = self._t(ctx)
        if t is None:
            return -1
        for branch in t.live:
            own = branch.index == ctx.branch_index
            if which == "all" or (which == "this" and own) or (which == "others" and not own):
                branch.send_cancel(self.rt.now())
        return 1

    @function(ANY, waits=True)
    def t_cancel_branch_idx(self, ctx: Ctx, tindex: int, tlabel: int, bindex: int) -> int:
        t = self.rt.tm.find_id(tindex, tlabel)
        if t is None:
            return self._hand_over(tindex % MOST_WORKERS, "cancel_branch_here", tindex, tlabel, bindex)
        return self.cancel_branch_here(tindex, tlabel, bindex)

    def cancel_branch_here(self, tindex: int, tlabel: int, bindex: int) -> int:
        t = self.rt.tm.find_id(tindex, tlabel)
        if t is None or not 0 <= bindex < len(t.branches):
            return -1
        t.branches[bindex].send_cancel(self.rt.now())
        return 1

    @function(ANY, waits=True)
    def t_reply_callid(self, ctx: Ctx, callid: str, cseq: str, code: int, reason: str) -> int:
        if self.rt.tm.by_callid(callid, cseq) is None:
            return self._hand_over_call(callid, "reply_here", cseq, code, reason)
        return self.reply_here(callid, cseq, code, reason)

    def reply_here(self, callid: str, cseq: str, code: int, reason: str) -> int:
        t = self.rt.tm.by_callid(callid, cseq)
        return 1 if t is not None and self.rt.tm.reply(t, code, reason) else -1

    @function(ANY)
    def t_uac_ack_local(self, ctx: Ctx, callid: str, cseq: str, headers: int = 0, body: int = 0) -> int:
        self.rt.log.error("t_uac_ack_local: locally sent INVITEs are acknowledged at once by this version")
        return -1

    # -- flags -----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def t_flush_flags(self, ctx: Ctx) -> int:
        t = self._t(ctx)
        if t is None:
            return -1
        t.flags = ctx.flags
        return 1

    @function(ANY)
    def t_flush_xflags(self, ctx: Ctx) -> int:
        t = self._t(ctx)
        if t is None:
            return -1
        t.xflags = ctx.xflags
        return 1

    def _vbflags(self, ctx: Ctx) -> dict[str, Any] | None:
        t = self._t(ctx)
        return t.extra if t is not None else None

    @function(ANY)
    def t_vbflag_set(self, ctx: Ctx, flag: Flag) -> int:
        held = self._vbflags(ctx)
        if held is None:
            return -1
        held["vbflags"] = held.get("vbflags", 0) | 1 << flag
        return 1

    @function(ANY)
    def t_vbflag_reset(self, ctx: Ctx, flag: Flag) -> int:
        held = self._vbflags(ctx)
        if held is None:
            return -1
        held["vbflags"] = held.get("vbflags", 0) & ~(1 << flag)
        return 1

    @function(ANY)
    def t_vbflag_is_set(self, ctx: Ctx, flag: Flag) -> int:
        held = self._vbflags(ctx)
        return 1 if held is not None and held.get("vbflags", 0) >> flag & 1 else -1

    # -- suspension and drop ---------------------------------------------------------------------------------------------

    @function(ANY)
    def t_suspend(self, ctx: Ctx) -> int:
        """Set the transaction aside; ``t_continue`` goes on with it."""
        return 1 if self.rt.module("tm").suspend(ctx) is not None else -1

    @function(ANY, waits=True)
    def t_continue(self, ctx: Ctx, tindex: int, tlabel: int, rtname: str) -> int:
        """Go on with a suspended transaction in a named route."""
        t = self.rt.tm.find_id(tindex, tlabel)
        if t is None:
            return self._hand_over(tindex % MOST_WORKERS, "continue_here", tindex, tlabel, rtname)
        return self._continue(t, rtname)

    def continue_here(self, tindex: int, tlabel: int, rtname: str) -> int:
        """Another worker was asked to go on with a transaction that is here."""
        t = self.rt.tm.find_id(tindex, tlabel)
        return self._continue(t, rtname) if t is not None else -1

    def _hand_over(self, to: int, method: str, *args: Any) -> int:
        """Have the worker that owns a transaction do something with it; -1 when there is no other one."""
        peers = self.rt.worker.peers
        if peers is None or to == peers.index or not peers.roll.there(to):
            return -1
        return peers.ask_module(to, self.name, method, *args) or -1

    def _hand_over_call(self, call_id: str, method: str, *args: Any) -> int:
        peers = self.rt.worker.peers
        return self._hand_over(peers.owner_of_call(call_id), method, call_id, *args) if peers is not None else -1

    def _continue(self, t: Transaction, rtname: str) -> int:
        function_ = self.rt.route_function("request", rtname)
        if function_ is None:
            self.rt.log.error("t_continue: no route[%s]", rtname)
            return -1
        return 1 if self.rt.module("tm").resume(t, function_) else -1

    @function(ANY)
    def t_drop(self, ctx: Ctx, rcode: int = 500) -> int:
        """Let the transaction go without another reply than the given code, and end the script."""
        t = self._t(ctx)
        if t is None:
            return -1
        t.status = rcode
        t.wait(self.rt.now())
        raise Exit

    @function(Routes.REQUEST | Routes.EVENT)
    def t_reuse_branch(self, ctx: Ctx) -> int:
        """In a branch failure route: take the failed branch's target again; t_relay() then starts it anew."""
        branch = self._branch(ctx)
        if branch is None or not ctx.kind & Routes.BRANCH_FAILURE:
            return -1
        target = branch.target
        ctx.ruri, ctx.du, ctx.path, ctx.q, ctx.send_socket = branch.uri, target.dst_uri, target.path, target.q, target.send_socket
        ctx.bflags, ctx.instance, ctx.ruid, ctx.location_ua = branch.flags, target.instance, target.ruid, target.user_agent
        ctx.ruri_used = False
        return 1

    # -- variables -------------------------------------------------------------------------------------------------------

    def _branch(self, ctx: Ctx) -> ClientBranch | None:
        t = self._t(ctx)
        if t is None:
            return None
        index = ctx.branch_index
        return t.branches[index] if 0 <= index < len(t.branches) else None

    @pv("T_branch_idx")
    def pv_branch_idx(self, ctx: Ctx) -> int:
        """The branch; in a failure route the number of branches, which is the one that would come next."""
        t = self._t(ctx)
        if ctx.kind is Routes.FAILURE and t is not None:
            return len(t.branches)
        return max(0, ctx.branch_index)

    @pv("T_reply_code")
    def pv_reply_code(self, ctx: Ctx) -> int:
        tm = self.rt.module("tm")
        t = self._t(ctx)
        if t is None and ctx.msg.is_request:
            return 0
        return int(tm.status_of(ctx))

    @pv("T_reply_reason")
    def pv_reply_reason(self, ctx: Ctx) -> str | None:
        if not ctx.msg.is_request:
            return ctx.msg.reason
        branch = self._branch(ctx)
        if branch is None:
            return None
        return branch.reply.reason if branch.reply is not None and not branch.faked else "Request Timeout"

    @pv("T_reply_last")
    def pv_reply_last(self, ctx: Ctx) -> int:
        t = self._t(ctx)
        return max((b.status for b in t.live), default=0) if t is not None else 0

    @pv("T_reply_ruid")
    def pv_reply_ruid(self, ctx: Ctx) -> str | None:
        branch = self._branch(ctx)
        return branch.target.ruid if branch is not None else None

    def _keys(self, spec: PvSpec, prefix: str) -> BoundPv:
        key = spec.inner or ""

        def of_branch(part: Callable[[ClientBranch], Value]) -> Callable[[Ctx], Value]:
            return lambda ctx: part(b) if (b := self._branch(ctx)) is not None else None

        def of_t(part: Callable[[Transaction], Value]) -> Callable[[Ctx], Value]:
            return lambda ctx: part(t) if (t := self._t(ctx)) is not None else None

        table: dict[str, Callable[[Ctx], Value]] = {
            "id_index": of_t(lambda t: t.hash_index), "id_label": of_t(lambda t: t.label), "id_index_n": of_t(lambda t: t.hash_index),
            "id_label_n": of_t(lambda t: t.label), "branch_index": lambda ctx: self.pv_branch_idx(ctx), "reply_code": lambda ctx: self.pv_reply_code(ctx),
            "reply_reason": lambda ctx: self.pv_reply_reason(ctx), "reply_last": lambda ctx: self.pv_reply_last(ctx),
            "reply_type": of_branch(lambda b: 1 if b.faked else 0), "uri": of_branch(lambda b: b.uri), "ruid": of_branch(lambda b: b.target.ruid),
            "flags": of_branch(lambda b: b.flags),
        }  # fmt: skip
        return BoundPv(table[key])

    _T_KEYS = ("uri", "ruid", "flags", "id_label", "id_index", "reply_code", "reply_type", "id_label_n", "id_index_n", "branch_index", "reply_reason", "reply_last")

    @pv_class("T", "T_branch")
    def pv_T(self, spec: PvSpec) -> BoundPv:
        return self._keys(spec, "T")

    @classmethod
    def check_pv_T(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in cls._T_KEYS else f"the key is one of {' '.join(cls._T_KEYS)}"

    def _in_other(self, spec: PvSpec, other: Callable[[Ctx], Ctx | None]) -> BoundPv:
        """A variable read in the context of another message."""
        inner = bind_text(self.rt, spec.inner or "")

        def get(ctx: Ctx) -> Value:
            found = other(ctx)
            return inner.get(found) if found is not None else None

        return BoundPv(get)

    @classmethod
    def check_pv_T_rpl(cls, spec: PvSpec) -> str | None:
        try:
            parse_format(spec.inner or "")
        except PvSyntaxError as err:
            return str(err)
        return None if (spec.inner or "").strip().startswith("$") else "the name is a variable"

    check_pv_T_req = check_pv_T_inv = check_pv_T_rpl

    @pv_class("T_rpl")
    def pv_T_rpl(self, spec: PvSpec) -> BoundPv:
        """A variable of the reply: the one in hand, in failure routes the chosen one."""

        def other(ctx: Ctx) -> Ctx | None:
            if not ctx.msg.is_request:
                return ctx
            branch = self._branch(ctx)
            if branch is None or branch.reply is None or branch.faked:
                return None
            return Ctx(self.rt, branch.reply, ctx.flow, Routes.TM_ONREPLY)

        return self._in_other(spec, other)

    @pv_class("T_req")
    def pv_T_req(self, spec: PvSpec) -> BoundPv:
        """A variable of the request of this transaction."""

        def other(ctx: Ctx) -> Ctx | None:
            t = self._t(ctx)
            if t is None or ctx.msg.is_request:
                return None
            return Ctx(self.rt, t.msg, t.flow, Routes.REQUEST)

        return self._in_other(spec, other)

    @pv_class("T_inv")
    def pv_T_inv(self, spec: PvSpec) -> BoundPv:
        """A variable of the INVITE that a CANCEL means."""

        def other(ctx: Ctx) -> Ctx | None:
            t = self.rt.tm.lookup_cancelled(ctx) if ctx.msg.method == "CANCEL" else None
            return t.request_ctx if t is not None else None

        return self._in_other(spec, other)

module = Tmx

