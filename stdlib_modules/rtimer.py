"""Module rtimer: routes that run at intervals. https://www.kamailio.org/docs/modules/stable/modules/rtimer.html"""

from __future__ import annotations

import re
from typing import Any

from kamc.declare import Module, Routes, modparam, pv
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx


def attributes(text: str, allowed: tuple[str, ...]) -> dict[str, str]:
    """``name=value;name=value``. Raises ValueError."""
    out: dict[str, str] = {}
    for part in text.split(";"):
        name, eq, value = part.strip().partition("=")
        if not part.strip():
            continue
        if not eq or name.strip() not in allowed:
            raise ValueError(f"{part.strip()!r}: the names are {', '.join(allowed)}")
        out[name.strip()] = value.strip()
    return out


def seconds(text: str) -> float:
    """``10`` seconds or ``100000u`` microseconds. Raises ValueError."""
    found = re.fullmatch(r"(\d+)(u?)", text)
    if found is None or not int(found[1]):
        raise ValueError(f"interval {text!r} is no number of seconds, or of microseconds with a u behind it")
    return int(found[1]) / (1_000_000 if found[2] else 1)


class Rtimer(Module):
    name = "rtimer"

    class Params:
        default_interval: int = 120

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: name → interval text; empty for the default
        self.timers: dict[str, str] = {}
        #: (timer, route)
        self.executions: list[tuple[str, str]] = []

    @modparam("timer")
    def set_timer(self, text: str) -> None:
        """``name=tst;interval=10;mode=1``: every timer runs beside the others here, whatever the mode."""
        found = attributes(text, ("name", "interval", "mode"))
        if not found.get("name"):
            raise ValueError(f"{text!r} has no name")
        if found.get("interval"):
            seconds(found["interval"])
        self.timers[found["name"]] = found.get("interval", "")

    @modparam("exec")
    def set_exec(self, text: str) -> None:
        """``timer=tst;route=TOCK``."""
        found = attributes(text, ("timer", "route"))
        if not found.get("timer") or not found.get("route"):
            raise ValueError(f"{text!r}: the form is timer=NAME;route=NAME")
        if found["timer"] not in self.timers:
            raise ValueError(f"there is no timer {found['timer']!r}: its parameter stands before")
        self.executions.append((found["timer"], found["route"]))

    def mod_init(self) -> None:
        for name, route in self.executions:
            if self.rt.route_function("request", route) is None:
                raise ConfigError(f"rtimer: there is no route[{route}]")
            interval = seconds(self.timers[name]) if self.timers[name] else float(max(1, self.p.default_interval))
            self.rt.every(interval, lambda route=route: self._run(route), once=True)

    def _run(self, route: str) -> None:
        function = self.rt.route_function("request", route)
        self.rt.datapath.run(function, self.rt.worker.fake_context(Routes.REQUEST))

    @pv("rtimer_worker")
    def pv_worker(self, ctx: Ctx) -> int:
        """The number of the process that runs the timer: there is one."""
        return 0


module = Rtimer
