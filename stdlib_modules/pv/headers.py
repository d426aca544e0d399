"""$hdr, $hfl and kin: headers of a message by name."""

from __future__ import annotations

import re
from collections.abc import Callable

from kamc.declare import pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int, to_str
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv, index_getter, inner_name
from kamc.runtime.sip.headers import header_key
from kamc.runtime.sip.message import Header
from kamc.runtime.sip.uri import split_quoted
from stdlib_modules.pv.base import Vars


class HeaderVars(Vars):
    @classmethod
    def check_pv_hdr(cls, spec: PvSpec) -> str | None:
        name = (spec.inner or "").strip()
        return f"{name!r} is no name of a header" if "$" not in name and re.search(r"[\s:]", name) else None

    check_pv_hfl = check_pv_hdrc = check_pv_hflc = check_pv_hdr

    def _header_lines(self, spec: PvSpec) -> Callable[[Ctx], list[Header]]:
        literal, getter = inner_name(self.rt, (spec.inner or "").strip())
        if getter is None:
            key = header_key(literal) or literal.lower()
            return lambda ctx: ctx.msg.all(key)
        return lambda ctx: ctx.msg.all(header_key(to_str(getter(ctx)).strip()))

    @pv_class("hdr", index=True, kind="str")
    def pv_hdr(self, spec: PvSpec) -> BoundPv:
        index, index_of = index_getter(self.rt, spec)
        literal, getter = inner_name(self.rt, (spec.inner or "").strip())
        if index is None and index_of is None and getter is None:
            key = header_key(literal) or literal.lower()

            def first(ctx: Ctx) -> Value:
                header = ctx.msg.first.get(key)
                return header[2] if header is not None else None

            return BoundPv(first)
        lines = self._header_lines(spec)

        def get(ctx: Ctx) -> Value:
            found = lines(ctx)
            if index == "*":
                return ",".join(h[2] for h in found) if found else None
            at = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            return found[at][2] if -len(found) <= at < len(found) else None

        return BoundPv(get)

    @pv_class("hdrc", kind="int")
    def pv_hdrc(self, spec: PvSpec) -> BoundPv:
        lines = self._header_lines(spec)
        return BoundPv(lambda ctx: len(lines(ctx)))

    @pv_class("hfl", index=True, kind="str")
    def pv_hfl(self, spec: PvSpec) -> BoundPv:
        lines = self._header_lines(spec)
        index, index_of = index_getter(self.rt, spec)
        # Kamailio 5.6 has the contacts of one header the other way round, and no counting from the end
        older = self.rt.compat == "5.6" and (spec.inner or "").strip().lower() in ("contact", "m")

        def get(ctx: Ctx) -> Value:
            found = lines(ctx)
            if index == "*":
                return ",".join(h[2] for h in found) if found else None
            members = [m.strip() for h in found for m in split_quoted(h[2], ",")]
            at = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            if older:
                members = [m.strip() for h in found for m in reversed(split_quoted(h[2], ","))]
                return members[at] if 0 <= at < len(members) else None
            return members[at] if -len(members) <= at < len(members) else None

        return BoundPv(get)

    @pv_class("hflc", kind="int")
    def pv_hflc(self, spec: PvSpec) -> BoundPv:
        lines = self._header_lines(spec)
        return BoundPv(lambda ctx: sum(len(split_quoted(h[2], ",")) for h in lines(ctx)))
