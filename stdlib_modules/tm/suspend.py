"""Transactions that are set aside and gone on with later: what t_suspend, t_continue and the async module share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamc.declare import Routes
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.tm.branch import ClientBranch
from kamc.runtime.tm.transaction import Transaction


class Suspension:
    rt: Any

    def current(self, ctx: Ctx) -> Transaction | None:
        raise NotImplementedError

    def t_newtran(self, ctx: Ctx) -> int:
        raise NotImplementedError

    def suspend(self, ctx: Ctx, *, trying: bool = True) -> Transaction | None:
        """Set the transaction of a run aside, making one when there is none; ``trying`` answers an INVITE with 100. None when that cannot be."""
        t = self.current(ctx)
        if t is None and (not ctx.msg.is_request or self.t_newtran(ctx) < 0):
            return None
        t = self.current(ctx)
        if t is None or t.status >= 200:
            return None
        t.suspended = True
        t.extra["suspended"] = ctx
        t.extra["suspend_fr"] = self.rt.timers.arm(self.rt.now() + t.fr, lambda now, t=t: self._suspended_too_long(t, now))
        if trying and ctx.kind is Routes.REQUEST:
            self.rt.tm.trying(t)
        return t

    def _suspended_too_long(self, t: Transaction, now: float) -> None:
        """Nobody continued it: it ends as if it had been sent to somebody who never answered."""
        if not t.suspended or t.status >= 200:
            return
        t.suspended = False
        uri = t.request_ctx.ruri
        branch = ClientBranch(t, len(t.branches), uri, Branch(uri), self.rt.datapath.reply_dest(t.request_ctx))
        t.branches.append(branch)
        t.branch_timed_out(branch, now)

    def resume(self, t: Transaction, function: Callable[[Ctx], Any]) -> bool:
        """Go on with a suspended transaction: run a route (or the rest of one) over its request. False for one that is not suspended or
        was answered in the meantime, by a CANCEL or a timer."""
        if not t.suspended or t.status >= 200:
            return False
        t.suspended = False
        self.rt.timers.disarm(t.extra.pop("suspend_fr", None))
        held = t.extra.pop("suspended")
        work = held.copy_for(Routes.FAILURE if held.kind & Routes.FAILURE else Routes.REQUEST)
        work.t = t
        t.lend(work, work.branch_index)
        self.rt.datapath.run(function, work)
        t.take_back(work)
        if t.status < 200 and not t.suspended and not any(b.client.waiting for b in t.branches):
            best = t.best()
            if best is not None:
                t.all_failed(self.rt.now())
            else:
                self.rt.tm.reply(t, 500, "Server Internal Error")
        return True
