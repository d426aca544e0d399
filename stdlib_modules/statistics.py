"""Module statistics: counters of the script. https://www.kamailio.org/docs/modules/stable/modules/statistics.html"""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, Module, Routes, function, modparam
from kamc.declare.argtypes import Lit
from kamc.declare.values import EvalError, to_int
from kamc.runtime.context import Ctx

_GROUP = "script"


class Statistics(Module):
    name = "statistics"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: name → whether it can be reset
        self.variables: dict[str, bool] = {}

    @modparam("variable")
    def set_variable(self, text: str) -> None:
        """``name`` or ``name/no_reset``."""
        name, slash, flag = text.strip().partition("/")
        if not name or (slash and flag != "no_reset"):
            raise ValueError(f"{text!r}: the form is NAME or NAME/no_reset")
        self.variables[name] = not slash

    def mod_init(self) -> None:
        for name in self.variables:
            self.rt.counters.register(_GROUP, name)

    def _name(self, ctx: Ctx, text: str) -> str | None:
        """The variable that a text, or the value of a pseudo-variable, names."""
        value: Any = self.rt.pv(text)(ctx) if text.startswith("$") else text
        if value not in self.variables:
            self.rt.log.error("statistics: there is no variable %s", value)
            return None
        return str(value)

    @function(ANY)
    def update_stat(self, ctx: Ctx, variable: Lit, value: Lit) -> int:
        """Add a number, which may have a sign or come from a pseudo-variable."""
        name = self._name(ctx, variable)
        amount: Any = self.rt.pv(value)(ctx) if value.startswith("$") else value
        try:
            number = to_int(amount.lstrip("+") if isinstance(amount, str) else amount)
        except (EvalError, TypeError):
            self.rt.log.error("update_stat: %r is no number", amount)
            return -1
        if name is None:
            return -1
        if number:
            self.rt.counters.add(_GROUP, name, number)
        return 1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH | Routes.LOCAL)
    def reset_stat(self, ctx: Ctx, variable: Lit) -> int:
        name = self._name(ctx, variable)
        if name is None:
            return -1
        if self.variables[name]:
            self.rt.counters.values[_GROUP, name] = 0
        return 1


module = Statistics
