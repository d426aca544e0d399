"""Variables of the script: $var and its kin, $shv, evaluation, selects, statistics, constants."""

from __future__ import annotations

from kamc import LANGUAGE
from kamc.declare import pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int, to_str
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv, inner_name
from kamc.runtime.settings import Settings
from stdlib_modules.pv.base import Vars


class ScriptVars(Vars):
    @pv_class("vn", set=True)
    def pv_vn(self, spec: PvSpec) -> BoundPv:
        """As $var with a space of its own, and undefined while unset."""
        slots = self.rt.worker.undefined_vars
        name = (spec.inner or "").strip()

        def put(ctx: Ctx, value: Value) -> None:
            slots[name] = value

        return BoundPv(lambda ctx: slots.get(name), put)

    @pv_class("var", "vz", set=True)
    def pv_var(self, spec: PvSpec) -> BoundPv:
        slots = self.rt.vars
        name = (spec.inner or "").strip()

        def get(ctx: Ctx) -> Value:
            value: Value = slots.get(name, 0)
            return value

        def put(ctx: Ctx, value: Value) -> None:
            slots[name] = 0 if value is None else value

        return BoundPv(get, put)

    @classmethod
    def check_pv_var(cls, spec: PvSpec) -> str | None:
        return None if (spec.inner or "").strip() else "a variable needs a name"

    check_pv_vn = check_pv_shv = check_pv_var

    @pv_class("shv", set=True)
    def pv_shv(self, spec: PvSpec) -> BoundPv:
        shared = self.rt.worker.shared
        name = (spec.inner or "").strip()

        def put(ctx: Ctx, value: Value) -> None:
            shared[name] = 0 if value is None else value

        return BoundPv(lambda ctx: shared.get(name, 0), put)

    @pv_class("shvinc")
    def pv_shvinc(self, spec: PvSpec) -> BoundPv:
        shared = self.rt.worker.shared
        name = (spec.inner or "").strip()

        def get(ctx: Ctx) -> Value:
            return int(shared.update_one(name, lambda value: (value if isinstance(value, int) else 0) + 1))

        return BoundPv(get)

    @pv_class("_s")
    def pv_s(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self.rt.format(spec.inner or ""))

    @pv_class("sel")
    def pv_sel(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self.rt.select("@" + (spec.inner or "").strip(), True))

    @pv_class("ccp")
    def pv_ccp(self, spec: PvSpec) -> BoundPv:
        """A core setting by ``group.name``."""
        group, _, name = (spec.inner or "").partition(".")
        settings: Settings = self.rt.settings

        def get(ctx: Ctx) -> Value:
            return settings.read(group, name)

        return BoundPv(get)

    @pv_class("stat")
    def pv_stat(self, spec: PvSpec) -> BoundPv:
        literal, getter = inner_name(self.rt, (spec.inner or "").strip())

        def get(ctx: Ctx) -> Value:
            counters = self.rt.counters
            key = counters.find(to_str(getter(ctx)) if getter is not None else literal)
            value = counters.get(*key) if key is not None else None
            return str(value) if value is not None else None

        return BoundPv(get)

    @pv_class("cnt", kind="int")
    def pv_cnt(self, spec: PvSpec) -> BoundPv:
        from kamc.declare.pvspec import parse_pv

        inner = parse_pv((spec.inner or "").strip())
        name = inner.inner or ""
        if inner.name == "avp":
            key = name.removeprefix("s:")
            return BoundPv(lambda ctx: len(ctx.avps.get(key, ())))
        get_all = self.rt.bind(inner).get
        return BoundPv(lambda ctx: self.rt.modules["pv"].xavp_count(ctx, inner) if inner.name in ("xavp", "xavi", "xavu") else int(get_all(ctx) is not None))

    @classmethod
    def check_pv_cnt(cls, spec: PvSpec) -> str | None:
        return None if (spec.inner or "").strip().startswith(("$avp(", "$xavp(", "$xavi(", "$xavu(")) else "the name is an avp or xavp"

    @pv_class("version")
    def pv_version(self, spec: PvSpec) -> BoundPv:
        """The Kamailio whose language this is; ``full`` also names what really runs."""
        number = ".".join(map(str, LANGUAGE))
        text = {"num": number, "full": f"kamailio {number} ({self.rt.signature()})", "hash": "kamc"}.get(spec.inner or "", number)
        return BoundPv(lambda ctx: text)

    @pv_class("ksr")
    def pv_ksr(self, spec: PvSpec) -> BoundPv:
        if spec.inner == "verval":
            major, minor, patch = LANGUAGE
            return BoundPv(lambda ctx: major * 1000000 + minor * 1000 + patch)
        return BoundPv(lambda ctx: ".".join(map(str, LANGUAGE)))

    @pv("true")
    def pv_true(self, ctx: Ctx) -> int:
        return 1

    @pv_class("expires")
    def pv_expires(self, spec: PvSpec) -> BoundPv:
        pick = min if spec.inner == "min" else max

        def get(ctx: Ctx) -> Value:
            from kamc.runtime.sip.addr import parse_addr_list

            default = ctx.msg.value("expires")
            values = []
            for header in ctx.msg.all("contact"):
                for address in parse_addr_list(header[2]) or []:
                    text = address.param("expires") or default
                    if text is not None and text.strip().isdecimal():
                        values.append(int(text))
            if not values and default is not None and default.strip().isdecimal():
                values.append(int(default))
            return pick(values) if values else None

        return BoundPv(get)

    @classmethod
    def check_pv_expires(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("min", "max") else "the key is min or max"

    @pv_class("rpl")
    def pv_rpl(self, spec: PvSpec) -> BoundPv:
        key = spec.inner or ""

        def get(ctx: Ctx) -> Value:
            if ctx.msg.is_request:
                return None
            vias = ctx.msg.vias
            if key == "cntvia":
                return len(vias)
            if key == "cntrr":
                return len(ctx.msg.all("record-route"))
            if len(vias) < 2:
                return None
            via = vias[1]
            host, port = via.received or via.host, via.rport or via.real_port
            table: dict[str, Value] = {"duri": f"sip:{host}:{port};transport={via.proto.lower()}", "dhost": host, "dport": port, "dproto": via.proto.lower()}
            return table.get(key)

        return BoundPv(get)

    # -- the last error --------------------------------------------------------------------------------------------------

    def _error(self, ctx: Ctx, part: int) -> Value:
        error = ctx.recall("error")
        return error[part] if error is not None else None

    @pv("err.class")
    def pv_err_class(self, ctx: Ctx) -> Value:
        return self._error(ctx, 0) or 0

    @pv("err.level")
    def pv_err_level(self, ctx: Ctx) -> Value:
        return self._error(ctx, 1) or 0

    @pv("err.info")
    def pv_err_info(self, ctx: Ctx) -> Value:
        return self._error(ctx, 2)

    @pv("err.rcode")
    def pv_err_rcode(self, ctx: Ctx) -> Value:
        return self._error(ctx, 3)

    @pv("err.rreason")
    def pv_err_rreason(self, ctx: Ctx) -> Value:
        return self._error(ctx, 4)

    @pv("sid")
    def pv_sid(self, ctx: Ctx) -> int:
        return int(self.rt.param("server_id") or 0)

    @staticmethod
    def number(value: Value) -> int:
        return to_int(value)
