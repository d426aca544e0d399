"""Module counters: counters for scripts, and RPC access to all of them."""

from __future__ import annotations

from kamc.declare import Module, Routes, Spread, function, modparam, rpc
from kamc.declare.argtypes import Lit
from kamc.runtime.context import Ctx
from kamc.runtime.rpc.fault import RpcFault

_WHERE = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.ONSEND


class CountersModule(Module):
    name = "counters"

    class Params:
        script_cnt_grp_name: str = "script"

    @modparam("script_counter")
    def set_counter(self, value: str) -> None:
        """``[group.]name [description]``."""
        name, _, doc = value.strip().partition(" ")
        group, name = self._split(name)
        self.rt.counters.register(group, name, doc=doc.strip())

    def _split(self, text: str) -> tuple[str, str]:
        group, dot, name = text.partition(".")
        return (group, name) if dot else (self.p.script_cnt_grp_name, text)

    def _known(self, text: str) -> tuple[str, str] | None:
        key = self._split(text)
        if key in self.rt.counters.values:
            return key
        self.rt.log.error("counter %s.%s is not declared (modparam counters/script_counter)", *key)
        return None

    @function(_WHERE)
    def cnt_inc(self, ctx: Ctx, name: Lit) -> int:
        return self.cnt_add(ctx, name, 1)

    @function(_WHERE)
    def cnt_add(self, ctx: Ctx, name: Lit, number: int) -> int:
        key = self._known(name)
        if key is None:
            return -1
        self.rt.counters.add(*key, by=number)
        return 1

    @function(_WHERE)
    def cnt_reset(self, ctx: Ctx, name: Lit) -> int:
        key = self._known(name)
        if key is None:
            return -1
        self.rt.counters.reset(*key)
        return 1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _value(self, group: str, name: str) -> int:
        value = self.rt.counters.get(group, name)
        if value is None:
            raise RpcFault(400, f"non-existent counter {group}.{name}")
        return int(value)

    @rpc("cnt.get", "cnt.get_raw", spread=Spread.SHOWN)
    def rpc_get(self, group: str, name: str) -> int:
        """Value of a counter."""
        return self._value(group, name)

    @rpc("cnt.reset", spread=Spread.SHOWN)
    def rpc_reset(self, group: str, name: str) -> None:
        """Set a counter to zero."""
        self._value(group, name)
        self.rt.counters.reset(group, name)

    @rpc("cnt.grps_list", "cnt.list_groups")
    def rpc_groups(self) -> list[str]:
        """Names of groups."""
        return list(self.rt.counters.groups())

    @rpc("cnt.var_list", "cnt.list_vars")
    def rpc_vars(self, group: str) -> list[str]:
        """Names of the counters of a group."""
        return [n for g, n in self.rt.counters.names() if g == group]

    @rpc("cnt.grp_get_all", "cnt.get_vars", spread=Spread.SHOWN)
    def rpc_all(self, group: str) -> dict[str, int]:
        """All counters of a group with their values."""
        return {n: self._value(g, n) for g, n in self.rt.counters.names() if g == group}

    @rpc("cnt.help")
    def rpc_help(self, group: str, name: str) -> str:
        """What a counter counts."""
        self._value(group, name)
        return str(self.rt.counters.docs.get((group, name)) or "kamailio statistic (no description)")


module = CountersModule


