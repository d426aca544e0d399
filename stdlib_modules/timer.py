"""Module timer: routes that run at intervals and can be switched on and off. https://www.kamailio.org/docs/modules/stable/modules/timer.html"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kamc.declare import ANY, Module, Routes, function, modparam
from kamc.declare.argtypes import Lit
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx


@dataclass(slots=True)
class Declared:
    route: str
    interval: float
    enabled: bool


class TimerModule(Module):
    name = "timer"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.declared: dict[str, Declared] = {}

    @modparam("declare_timer")
    def set_declared(self, text: str) -> None:
        """``ID=ROUTE,INTERVAL in milliseconds[,slow|fast[,enable]]``."""
        name, eq, rest = text.partition("=")
        parts = [p.strip() for p in rest.split(",")]
        if not eq or len(parts) < 2 or len(parts) > 4 or not parts[1].isdigit() or not int(parts[1]):
            raise ValueError(f"{text!r}: the form is ID=ROUTE,MILLISECONDS,slow|fast,enable")
        if len(parts) > 2 and parts[2] not in ("slow", "fast", ""):
            raise ValueError(f"{text!r}: a timer is slow or fast")
        if len(parts) > 3 and parts[3] not in ("enable", "disable", ""):
            raise ValueError(f"{text!r}: the last word is enable")
        if name.strip() in self.declared:
            raise ValueError(f"timer {name.strip()!r} is declared twice")
        self.declared[name.strip()] = Declared(parts[0], int(parts[1]) / 1000, len(parts) > 3 and parts[3] == "enable")

    def mod_init(self) -> None:
        for name, timer in self.declared.items():
            if self.rt.route_function("request", timer.route) is None:
                raise ConfigError(f"timer: there is no route[{timer.route}] for timer {name}")
            self.rt.every(timer.interval, lambda timer=timer: self._run(timer), once=True)

    def _run(self, timer: Declared) -> None:
        if timer.enabled:
            self.rt.datapath.run(self.rt.route_function("request", timer.route), self.rt.worker.fake_context(Routes.REQUEST))

    @function(ANY)
    def timer_enable(self, ctx: Ctx, timer_id: Lit, enable_disable: int) -> int:
        timer = self.declared.get(timer_id)
        if timer is None:
            self.rt.log.error("timer_enable: there is no timer %s", timer_id)
            return -1
        timer.enabled = bool(enable_disable)
        return 1


module = TimerModule
