"""Replies from the script, hooks, and questions about replies."""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, Routes, function
from kamc.declare.argtypes import BranchFailureRoute, BranchRoute, FailureRoute, Lit, Regex, ReplyRoute
from kamc.runtime.context import Ctx
from kamc.runtime.tm.branch import ClientBranch
from kamc.runtime.tm.transaction import Transaction

_RFO = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY
_RFTB = Routes.REQUEST | Routes.FAILURE | Routes.TM_ONREPLY | Routes.BRANCH
_SET = {"branch_route": "branch", "failure_route": "failure", "onreply_route": "reply", "branch_failure_route": "branch_failure"}


class ReplyFunctions:
    rt: Any
    p: Any

    def current(self, ctx: Ctx) -> Transaction | None:
        raise NotImplementedError

    # -- replying --------------------------------------------------------------------------------------------------------

    @function(_RFO)
    def t_reply(self, ctx: Ctx, code: int, reason: str) -> int:
        """Answer the transaction. In a request route one is made when there is none."""
        t = self.current(ctx)
        if t is None:
            return -1
        if not 100 <= code <= 699:
            return -1
        if 300 <= code < 400 and t.status < 200:
            ctx.add_redirect_contacts(self.p.rich_redirect)
        return 1 if self.rt.tm.reply(t, code, reason, ctx=ctx) else -1

    @function(_RFO)
    def t_send_reply(self, ctx: Ctx, code: int, reason: str) -> int:
        """As t_reply, but makes the transaction when there is none."""
        if self.current(ctx) is None and ctx.msg.is_request and self.rt.module("tm").t_newtran(ctx) < 0:
            return -1
        return self.t_reply(ctx, code, reason)

    @function(_RFO, error="reads")
    def t_reply_error(self, ctx: Ctx) -> int:
        code, reason = ctx.recall("error_reply", (self.p.default_code, self.p.default_reason))
        return self.t_reply(ctx, code, reason)

    @function(Routes.REQUEST)
    def t_retransmit_reply(self, ctx: Ctx) -> int:
        t = self.current(ctx) or self.rt.tm.lookup(ctx)
        if t is None or not t.reply_text:
            return -1
        t.repeat_reply()
        return 1

    # -- hooks -----------------------------------------------------------------------------------------------------------

    def _hook(self, ctx: Ctx, kind: str, name: str) -> int:
        name = "" if name == "0" else name
        if ctx.kind is Routes.BRANCH:
            ctx.set_hook(kind, name)
            return 1
        t = self.current(ctx)
        if t is not None and (ctx.msg is t.msg or ctx.kind is not Routes.REQUEST):
            if name:
                t.hooks[kind] = name
            else:
                t.hooks.pop(kind, None)
        else:
            ctx.set_hook(kind, name)
        return 1

    @function(_RFTB)
    def t_on_failure(self, ctx: Ctx, failure_route: FailureRoute) -> int:
        return self._hook(ctx, "failure", failure_route)

    @function(_RFTB)
    def t_on_branch_failure(self, ctx: Ctx, branch_failure_route: BranchFailureRoute) -> int:
        return self._hook(ctx, "branch_failure", branch_failure_route)

    @function(_RFTB)
    def t_on_reply(self, ctx: Ctx, onreply_route: ReplyRoute) -> int:
        return self._hook(ctx, "reply", onreply_route)

    @function(Routes.REQUEST | Routes.FAILURE)
    def t_on_branch(self, ctx: Ctx, branch_route: BranchRoute) -> int:
        return self._hook(ctx, "branch", branch_route)

    @function(ANY)
    def t_is_set(self, ctx: Ctx, target: Lit) -> int:
        kind = _SET.get(target)
        if kind is None:
            return -1
        if ctx.hook(kind):
            return 1
        t = self.current(ctx)
        return 1 if t is not None and t.hooks.get(kind) else -1

    # -- questions -------------------------------------------------------------------------------------------------------

    def _branch(self, ctx: Ctx) -> ClientBranch | None:
        t = self.current(ctx)
        if t is None or not 0 <= ctx.branch_index < len(t.branches):
            return None
        return t.branches[ctx.branch_index]

    def status_of(self, ctx: Ctx) -> int:
        """The status that functions look at: the reply in hand, the chosen one in failure routes, else what was sent."""
        t = self.current(ctx)
        if not ctx.msg.is_request:
            return ctx.new_status[0] if ctx.new_status is not None else ctx.msg.status
        if t is None:
            return 0
        if ctx.kind in (Routes.FAILURE, Routes.BRANCH_FAILURE):
            branch = self._branch(ctx)
            return branch.status if branch is not None else t.status
        return t.status

    @function(_RFO)
    def t_check_status(self, ctx: Ctx, re: Regex) -> int:
        return 1 if re.test(str(self.status_of(ctx))) else -1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH)
    def t_get_status_code(self, ctx: Ctx) -> int:
        return self.status_of(ctx) or -1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.EVENT)
    def t_branch_timeout(self, ctx: Ctx) -> int:
        branch = self._branch(ctx)
        return 1 if branch is not None and branch.faked and branch.status == 408 else -1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.EVENT)
    def t_branch_replied(self, ctx: Ctx) -> int:
        branch = self._branch(ctx)
        return 1 if branch is not None and branch.replied else -1

    @function(_RFTB)
    def t_any_timeout(self, ctx: Ctx) -> int:
        t = self.current(ctx)
        return 1 if t is not None and any(b.faked and b.status == 408 for b in t.live) else -1

    @function(_RFTB)
    def t_any_replied(self, ctx: Ctx) -> int:
        t = self.current(ctx)
        return 1 if t is not None and any(b.replied for b in t.live) else -1

    @function(_RFTB)
    def t_grep_status(self, ctx: Ctx, code: int) -> int:
        t = self.current(ctx)
        return 1 if t is not None and any(b.status == code and b.replied for b in t.live) else -1

    @function(_RFTB)
    def t_is_canceled(self, ctx: Ctx) -> int:
        t = self.current(ctx)
        return 1 if t is not None and t.canceled else -1

    @function(_RFTB)
    def t_is_expired(self, ctx: Ctx) -> int:
        t = self.current(ctx)
        return 1 if t is not None and t.extra.get("expired") else -1

    @function(Routes.TM_ONREPLY)
    def t_is_retr_async_reply(self, ctx: Ctx) -> int:
        return -1

    @function(Routes.FAILURE)
    def t_drop_replies(self, ctx: Ctx, mode: Lit = "") -> int:
        """Forget the replies of earlier branches: all (default, ``n`` none), or only the last round (``l``)."""
        t = self.current(ctx)
        if t is None:
            return -1
        if mode != "n":
            t.first_live = len(t.branches)
        return 1

    @function(Routes.REQUEST)
    def t_save_lumps(self, ctx: Ctx) -> int:
        t = self.current(ctx)
        if t is None:
            return -1
        t.edits = list(ctx.edits)
        return 1
