"""$avp: stacks of values that live with the message or its transaction; the newest is on top."""

from __future__ import annotations

from kamc.declare import pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int, to_str
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv, index_getter, inner_name
from stdlib_modules.pv.base import Vars


class AvpVars(Vars):
    @pv_class("avp", set=True, index=True)
    def pv_avp(self, spec: PvSpec) -> BoundPv:
        literal, name_of = inner_name(self.rt, (spec.inner or "").strip())
        # a number name (i:5) is another avp than the text 5
        name = literal.removeprefix("s:")
        index, index_of = index_getter(self.rt, spec)
        if name_of is None and index is None and index_of is None:
            return self._plain(name)

        def key(ctx: Ctx) -> str:
            return name if name_of is None else to_str(name_of(ctx)).removeprefix("s:")

        def get(ctx: Ctx) -> Value:
            stack = ctx.avps.get(key(ctx))
            if not stack:
                return None
            if index == "*":
                return ", ".join(to_str(v) for v in reversed(stack))
            at = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            if at < 0:
                # only minus the count names a value: the newest
                return stack[-1] if at == -len(stack) else None
            return stack[-1 - at] if at < len(stack) else None

        def put(ctx: Ctx, value: Value) -> None:
            stack = ctx.avps.setdefault(key(ctx), [])
            if index == "*":
                stack.clear()
                if value is not None:
                    stack.append(value)
            elif value is None:
                if stack:
                    stack.pop()
            else:
                stack.append(value)

        return BoundPv(get, put)

    @staticmethod
    def _plain(name: str) -> BoundPv:
        def get(ctx: Ctx) -> Value:
            stack = ctx.avps.get(name)
            return stack[-1] if stack else None

        def put(ctx: Ctx, value: Value) -> None:
            avps = ctx.avps
            if value is None:
                stack = avps.get(name)
                if stack:
                    stack.pop()
            elif name in avps:
                avps[name].append(value)
            else:
                avps[name] = [value]

        return BoundPv(get, put)
