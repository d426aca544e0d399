"""Module maxfwd: the Max-Forwards header (RFC 3261 sections 8.1.1.6 and 16.6 step 3)."""

from __future__ import annotations

from kamc.declare import Module, Routes, function
from kamc.runtime.context import Ctx


class Maxfwd(Module):
    name = "maxfwd"

    class Params:
        max_limit: int = 256

    @staticmethod
    def value(ctx: Ctx) -> int | None:
        """The number in the header; None when absent, -1 when it is no number."""
        header = ctx.msg.first.get("max-forwards")
        if header is None:
            return None
        text = header[2].strip()
        return int(text) if text.isdecimal() and len(text) < 10 else -1

    @function(Routes.REQUEST, "mf_process_maxfwd_header", "process_maxfwd", "maxfwd_process")
    def mf_process_maxfwd_header(self, ctx: Ctx, max_value: int) -> int:
        """Decrement, or add ``max_value`` where there is none. -1 at zero or for a bad header."""
        value = self.value(ctx)
        if value is None:
            at = ctx.msg.body_start - 2
            ctx.add_edit(at, at, f"Max-Forwards: {max_value}\r\n")
            return 2
        if value <= 0:
            return -1
        header = ctx.msg.first["max-forwards"]
        begin = ctx.msg.text.index(header[2].strip(), header[3] + len(header[1]))
        ctx.add_edit(begin, begin + len(header[2].strip()), str(min(value, self.p.max_limit + 1) - 1))
        return 1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.BRANCH, "is_maxfwd_lt", "mf_lowlimit")
    def is_maxfwd_lt(self, ctx: Ctx, max_value: int) -> int:
        """1 when the value is below the limit; -1 otherwise, -2 for a bad or missing header."""
        value = self.value(ctx)
        if value is None or value < 0:
            return -2
        return 1 if value < max_value else -1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.BRANCH)
    def maxfwd_at_least(self, ctx: Ctx, max_value: int) -> int:
        value = self.value(ctx)
        if value is None or value < 0:
            return -2
        return 1 if value >= max_value else -1


module = Maxfwd
