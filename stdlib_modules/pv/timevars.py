"""Variables of time."""

from __future__ import annotations

import time
from collections.abc import Callable

from kamc.declare import pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from stdlib_modules.pv.base import Vars

_FIELDS: dict[str, Callable[[time.struct_time], int]] = {
    "sec": lambda t: t.tm_sec, "min": lambda t: t.tm_min, "hour": lambda t: t.tm_hour, "mday": lambda t: t.tm_mday, "mon": lambda t: t.tm_mon,
    "year": lambda t: t.tm_year, "wday": lambda t: (t.tm_wday + 1) % 7 + 1, "yday": lambda t: t.tm_yday, "isdst": lambda t: t.tm_isdst,
}  # fmt: skip
_STARTED = time.time()


class TimeVars(Vars):
    @pv("Ts")
    def pv_Ts(self, ctx: Ctx) -> int:
        return int(self.rt.wall_time())

    @pv("TS")
    def pv_TS(self, ctx: Ctx) -> int:
        return int(self.rt.wall_time())

    @pv("Tf")
    def pv_Tf(self, ctx: Ctx) -> str:
        return time.ctime(self.rt.wall_time())

    @pv("TF")
    def pv_TF(self, ctx: Ctx) -> str:
        return time.ctime(self.rt.wall_time())

    @pv("Tb")
    def pv_Tb(self, ctx: Ctx) -> int:
        return int(_STARTED)

    def _part(self, spec: PvSpec, convert: Callable[[float], time.struct_time]) -> BoundPv:
        field = _FIELDS[spec.inner or ""]
        return BoundPv(lambda ctx: field(convert(self.rt.wall_time())))

    @pv_class("time", kind="int")
    def pv_time(self, spec: PvSpec) -> BoundPv:
        return self._part(spec, time.localtime)

    @pv_class("utime", kind="int")
    def pv_utime(self, spec: PvSpec) -> BoundPv:
        return self._part(spec, time.gmtime)

    @classmethod
    def check_pv_time(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _FIELDS else f"the key is one of {' '.join(_FIELDS)}"

    check_pv_utime = check_pv_time

    @pv_class("timef")
    def pv_timef(self, spec: PvSpec) -> BoundPv:
        return BoundPv(lambda ctx: time.strftime(spec.inner or "", time.localtime(self.rt.wall_time())))

    @pv_class("utimef")
    def pv_utimef(self, spec: PvSpec) -> BoundPv:
        return BoundPv(lambda ctx: time.strftime(spec.inner or "", time.gmtime(self.rt.wall_time())))

    @pv_class("TV")
    def pv_TV(self, spec: PvSpec) -> BoundPv:
        def cached(ctx: Ctx) -> float:
            kept = ctx.recall("tv")
            if kept is None:
                kept = self.rt.wall_time()
                ctx.remember("tv", kept)
            return float(kept)

        def now(ctx: Ctx) -> float:
            value = self.rt.wall_time()
            ctx.remember("tv", value)
            return float(value)

        def text(moment: float) -> str:
            return f"{int(moment)}.{int(moment % 1 * 1000000):06d}"

        table: dict[str, Callable[[Ctx], Value]] = {
            "s": lambda ctx: int(cached(ctx)), "u": lambda ctx: int(cached(ctx) % 1 * 1000000), "sn": lambda ctx: int(now(ctx)),
            "un": lambda ctx: int(cached(ctx) % 1 * 1000000), "Sn": lambda ctx: text(now(ctx)), "Sm": lambda ctx: text(self.rt.now()),
            "Fn": lambda ctx: time.strftime("%Y-%m-%d %H:%M:%S.", time.localtime(now(ctx))) + f"{int(cached(ctx) % 1 * 1000000):06d}",
        }  # fmt: skip
        return BoundPv(table[spec.inner or ""])

    @classmethod
    def check_pv_TV(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("s", "u", "sn", "un", "Sn", "Sm", "Fn") else "the key is one of s u sn un Sn Sm Fn"
