"""Flags, destinations and branches: what a script sets for the messages that go out."""

from __future__ import annotations

from collections.abc import Callable

from kamc.declare import pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int, to_str
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.pv.bind import BoundPv, index_getter, inner_name
from kamc.runtime.sip.uri import Uri, parse_uri
from stdlib_modules.pv.base import Vars, text_only


class TargetVars(Vars):
    # -- flags -----------------------------------------------------------------------------------------------------------

    def _flag_pair(self, attribute: str) -> tuple[Callable[[Ctx], Value], Callable[[Ctx, Value], None]]:
        def get(ctx: Ctx) -> Value:
            return int(getattr(ctx, attribute))

        def put(ctx: Ctx, value: Value) -> None:
            setattr(ctx, attribute, to_int(value) & 0xFFFFFFFF)

        return get, put

    @pv("mf", set="set_mf", inline="ctx.flags")
    def pv_mf(self, ctx: Ctx) -> int:
        return ctx.flags

    def set_mf(self, ctx: Ctx, value: Value) -> None:
        ctx.flags = to_int(value) & 0xFFFFFFFF

    @pv("mF", set="set_mf")
    def pv_mF(self, ctx: Ctx) -> str:
        return f"{ctx.flags:08X}"

    @pv("bf", set="set_bf")
    def pv_bf(self, ctx: Ctx) -> int:
        return ctx.bflags

    def set_bf(self, ctx: Ctx, value: Value) -> None:
        ctx.bflags = to_int(value) & 0xFFFFFFFF

    @pv("bF", set="set_bf")
    def pv_bF(self, ctx: Ctx) -> str:
        return f"{ctx.bflags:08X}"

    @pv("sf", set="set_sf")
    def pv_sf(self, ctx: Ctx) -> int:
        return int(self.rt.worker.shared.get("\0sflags", 0))

    def set_sf(self, ctx: Ctx, value: Value) -> None:
        self.rt.worker.shared["\0sflags"] = to_int(value) & 0xFFFFFFFF

    @pv("sF", set="set_sf")
    def pv_sF(self, ctx: Ctx) -> str:
        return f"{self.pv_sf(ctx):08X}"

    def _one_flag(self, spec: PvSpec, get_all: Callable[[Ctx], int], set_all: Callable[[Ctx, Value], None]) -> BoundPv:
        literal, getter = inner_name(self.rt, (spec.inner or "").strip())

        def bit(ctx: Ctx) -> int:
            return to_int(getter(ctx)) if getter is not None else int(literal)

        def put(ctx: Ctx, value: Value) -> None:
            mask = 1 << bit(ctx)
            set_all(ctx, get_all(ctx) | mask if to_int(value) else get_all(ctx) & ~mask)

        return BoundPv(lambda ctx: get_all(ctx) >> bit(ctx) & 1, put)

    @pv_class("Mf", set=True, kind="int")
    def pv_Mf(self, spec: PvSpec) -> BoundPv:
        return self._one_flag(spec, self.pv_mf, self.set_mf)

    @pv_class("Bf", set=True, kind="int")
    def pv_Bf(self, spec: PvSpec) -> BoundPv:
        return self._one_flag(spec, self.pv_bf, self.set_bf)

    @pv_class("Sf", set=True, kind="int")
    def pv_Sf(self, spec: PvSpec) -> BoundPv:
        return self._one_flag(spec, self.pv_sf, self.set_sf)

    # -- destinations ----------------------------------------------------------------------------------------------------

    @pv("du", "duri", set="set_du", inline="ctx.du")
    def pv_du(self, ctx: Ctx) -> str | None:
        return ctx.du

    @text_only
    def set_du(self, ctx: Ctx, value: Value) -> None:
        ctx.du = to_str(value) or None
        if value:
            ctx.ruri_used = False

    def _du(self, ctx: Ctx) -> Uri | None:
        return parse_uri(ctx.du) if ctx.du else None

    @pv("fs", set="set_fs")
    def pv_fs(self, ctx: Ctx) -> str | None:
        return str(ctx.send_socket) if ctx.send_socket is not None else None

    def set_fs(self, ctx: Ctx, value: Value) -> None:
        if not value:
            ctx.send_socket = None
            return
        found = self.rt.worker.find_socket(to_str(value))
        if found is None:
            self.rt.log.error("$fs: %s is no listening socket", value)
            return
        ctx.send_socket = found

    @pv("fsn", set="set_fsn")
    def pv_fsn(self, ctx: Ctx) -> str | None:
        return (ctx.send_socket.name or None) if ctx.send_socket is not None else None

    def set_fsn(self, ctx: Ctx, value: Value) -> None:
        ctx.send_socket = self.rt.worker.find_listener_name(to_str(value)) if value else None

    @pv("fsp")
    def pv_fsp(self, ctx: Ctx) -> Value:
        return ctx.send_socket.port if ctx.send_socket is not None else None

    @pv("mts")
    def pv_mts(self, ctx: Ctx) -> str:
        return "rq" if ctx.msg.is_request else "rp"

    @pv("dd")
    def pv_dd(self, ctx: Ctx) -> str | None:
        uri = self._du(ctx)
        return uri.host if uri is not None else None

    @pv("dp")
    def pv_dp(self, ctx: Ctx) -> str | None:
        uri = self._du(ctx)
        return str(uri.real_port()) if uri is not None else None

    @pv("dP")
    def pv_dP(self, ctx: Ctx) -> str | None:
        uri = self._du(ctx)
        return (uri.param_map.get("transport") or "UDP") if uri is not None else None

    @pv_class("nh")
    def pv_nh(self, spec: PvSpec) -> BoundPv:
        def next_hop(ctx: Ctx) -> Uri | None:
            return parse_uri(ctx.du or ctx.ruri)

        table: dict[str, Callable[[Uri], Value]] = {
            "U": lambda u: u.user, "d": lambda u: u.host, "p": lambda u: str(u.real_port()), "P": lambda u: u.param_map.get("transport") or "UDP",
            "i": lambda u: self.rt.datapath.lookup(u.host),
        }  # fmt: skip
        key = spec.inner or ""
        if key == "u":
            return BoundPv(lambda ctx: ctx.du or ctx.ruri)
        part = table[key]
        return BoundPv(lambda ctx: part(u) if (u := next_hop(ctx)) is not None else None)

    @classmethod
    def check_pv_nh(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("u", "U", "d", "p", "P", "i") else "the key is one of u U d p P i"

    @pv("ds")
    def pv_ds(self, ctx: Ctx) -> str | None:
        if not ctx.branches:
            return None
        return "Contact: " + ", ".join(self._branch_text(b) for b in ctx.branches)

    @staticmethod
    def _branch_text(b: Branch) -> str:
        return f"<{b.uri}>" + (f";q={b.q / 1000:g}" if b.q >= 0 else "")

    @pv("br", set="set_br")
    def pv_br(self, ctx: Ctx) -> str | None:
        return ctx.branches[0].uri if ctx.branches else None

    def set_br(self, ctx: Ctx, value: Value) -> None:
        if value is None:
            ctx.branches.clear()
        else:
            self.rt.modules["core"].append_branch(ctx, to_str(value))

    @pv("bR")
    def pv_bR(self, ctx: Ctx) -> str | None:
        return ", ".join(self._branch_text(b) if b.q >= 0 else b.uri for b in ctx.branches) or None

    _BRANCH_FIELDS = {"uri": "uri", "dst_uri": "dst_uri", "path": "path", "q": "q", "flags": "flags", "instance": "instance", "ruid": "ruid",
                      "location_ua": "user_agent", "send_socket": "send_socket"}  # fmt: skip

    @pv_class("branch", set=True, index=True)
    def pv_branch(self, spec: PvSpec) -> BoundPv:
        key = spec.inner or ""
        if key == "count":
            return BoundPv(lambda ctx: len(ctx.branches) or None)
        index, index_of = index_getter(self.rt, spec)
        field = self._BRANCH_FIELDS.get(key, "")

        def at(ctx: Ctx) -> Branch | None:
            number = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            return ctx.branches[number] if -len(ctx.branches) <= number < len(ctx.branches) else None

        def get(ctx: Ctx) -> Value:
            branch = at(ctx)
            return self.branch_value(branch, field) if branch is not None else None

        def put(ctx: Ctx, value: Value) -> None:
            branch = at(ctx)
            if branch is None:
                return
            if field == "uri" and value is None:
                ctx.branches.remove(branch)
                return
            self.set_branch_value(branch, field, value)

        return BoundPv(get, put)

    @classmethod
    def check_pv_branch(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in (*cls._BRANCH_FIELDS, "count", "otcpid") else "unknown branch attribute"

    @staticmethod
    def branch_value(branch: Branch, field: str) -> Value:
        value = getattr(branch, field, None)
        return str(value) if field == "send_socket" and value is not None else value

    def set_branch_value(self, branch: Branch, field: str, value: Value) -> None:
        if field == "send_socket":
            parts = to_str(value).split(":")
            found = self.rt.worker.find_listener(parts[0], parts[1], int(parts[2])) if len(parts) == 3 and parts[2].isdigit() else None
            branch.send_socket = found
        elif field in ("q", "flags"):
            setattr(branch, field, to_int(value))
        elif field:
            setattr(branch, field, to_str(value) if value is not None else None)

    @pv_class("sbranch", set=True)
    def pv_sbranch(self, spec: PvSpec) -> BoundPv:
        field = self._BRANCH_FIELDS.get(spec.inner or "", "")

        def get(ctx: Ctx) -> Value:
            return self.branch_value(ctx.sbranch, field) if ctx.sbranch is not None else None

        def put(ctx: Ctx, value: Value) -> None:
            if ctx.sbranch is None:
                ctx.sbranch = Branch("")
            self.set_branch_value(ctx.sbranch, field, value)

        return BoundPv(get, put)

    @pv("ruid")
    def pv_ruid(self, ctx: Ctx) -> str | None:
        return ctx.ruid

    @pv("location_ua")
    def pv_location_ua(self, ctx: Ctx) -> str | None:
        return ctx.location_ua
