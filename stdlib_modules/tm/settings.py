"""Timers and switches of single transactions."""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, Routes, function
from kamc.runtime.context import Ctx
from kamc.runtime.tm.transaction import Transaction

_RFTB = Routes.REQUEST | Routes.FAILURE | Routes.TM_ONREPLY | Routes.BRANCH


class SettingFunctions:
    """Before the transaction exists a setting waits in the context; the watcher below applies it."""

    rt: Any

    def current(self, ctx: Ctx) -> Transaction | None:
        raise NotImplementedError

    def child_init(self) -> None:
        self.rt.hooks.transactions.append(self._apply)

    def _apply(self, event: str, t: Transaction, ctx: Any) -> None:
        if event == "created" and isinstance(ctx, Ctx):
            for name, value in (ctx.recall("tm_settings") or {}).items():
                setattr(t, name, value)

    def _set(self, ctx: Ctx, **values: Any) -> int:
        t = self.current(ctx)
        if t is None:
            ctx.remember("tm_settings", {**(ctx.recall("tm_settings") or {}), **values})
            return 1
        for name, value in values.items():
            setattr(t, name, value)
        return 1

    @function(_RFTB)
    def t_set_fr(self, ctx: Ctx, fr_inv_timeout: int, fr_timeout: int = 0) -> int:
        values = {}
        if fr_inv_timeout > 0:
            values["fr_inv"] = fr_inv_timeout / 1000
        if fr_timeout > 0:
            values["fr"] = fr_timeout / 1000
        t = self.current(ctx)
        if t is not None and ctx.kind is Routes.TM_ONREPLY and "fr_inv" in values and 0 <= ctx.branch_index < len(t.branches):
            branch = t.branches[ctx.branch_index]
            if branch.client.waiting:
                branch.client.restart_fr(self.rt.now(), values["fr_inv"])
        return self._set(ctx, **values)

    @function(_RFTB)
    def t_reset_fr(self, ctx: Ctx) -> int:
        p = self.rt.tm.params
        return self._set(ctx, fr=p.fr_timer / 1000, fr_inv=p.fr_inv_timer / 1000)

    @function(_RFTB)
    def t_set_retr(self, ctx: Ctx, retr_t1_interval: int, retr_t2_interval: int) -> int:
        values = {}
        if retr_t1_interval > 0:
            values["retr_t1"] = retr_t1_interval / 1000
        if retr_t2_interval > 0:
            values["retr_t2"] = retr_t2_interval / 1000
        return self._set(ctx, **values)

    @function(_RFTB)
    def t_reset_retr(self, ctx: Ctx) -> int:
        p = self.rt.tm.params
        return self._set(ctx, retr_t1=p.retr_timer1 / 1000, retr_t2=p.retr_timer2 / 1000)

    @function(_RFTB)
    def t_set_max_lifetime(self, ctx: Ctx, inv_lifetime: int, noninv_lifetime: int) -> int:
        chosen = inv_lifetime if ctx.msg.method == "INVITE" else noninv_lifetime
        return self._set(ctx, max_life=chosen / 1000) if chosen > 0 else 1

    @function(_RFTB)
    def t_reset_max_lifetime(self, ctx: Ctx) -> int:
        p = self.rt.tm.params
        return self._set(ctx, max_life=(p.max_inv_lifetime if ctx.msg.method == "INVITE" else p.max_noninv_lifetime) / 1000)

    @function(Routes.REQUEST)
    def t_set_auto_inv_100(self, ctx: Ctx, on: int) -> int:
        return self._set(ctx, auto_inv_100=bool(on))

    @function(_RFTB)
    def t_set_disable_6xx(self, ctx: Ctx, on: int) -> int:
        return self._set(ctx, disable_6xx=bool(on))

    @function(_RFTB)
    def t_set_disable_internal_reply(self, ctx: Ctx, on: int) -> int:
        return self._set(ctx, no_internal_reply=bool(on))

    @function(_RFTB)
    def t_set_no_auto_ack(self, ctx: Ctx, on: int) -> int:
        return self._set(ctx, no_auto_ack=bool(on))

    @function(_RFTB)
    def t_set_disable_failover(self, ctx: Ctx, on: int) -> int:
        return self._set(ctx, no_failover=bool(on))

    @function(_RFTB, "t_set_no_e2e_cancel_reason", "t_disable_e2e_cancel_reason")
    def t_set_no_e2e_cancel_reason(self, ctx: Ctx, on: int) -> int:
        return self._set(ctx, no_cancel_reason=bool(on))

    @function(Routes.BRANCH)
    def t_msg_apply_changes(self, ctx: Ctx) -> int:
        textopsx = self.rt.module("textopsx")
        return int(textopsx.apply(ctx)) if textopsx is not None else -1

    @function(ANY)
    def t_use_uac_headers(self, ctx: Ctx) -> int:
        ctx.remember("uac_headers", True)
        return 1
