"""Adding, removing and testing headers."""

from __future__ import annotations

import email.utils
from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Routes, function
from kamc.declare.argtypes import Lit, Regex
from kamc.runtime.context import Ctx
from kamc.runtime.sip.build import blank_line
from kamc.runtime.sip.headers import header_key
from kamc.runtime.sip.message import Header, SipMessage
from kamc.runtime.sip.via import split_vias

_RFB = Routes.REQUEST | Routes.FAILURE | Routes.BRANCH


def end_of_headers(msg: SipMessage) -> int:
    return msg.body_start - blank_line(msg)


def removed(ctx: Ctx, header: Header) -> bool:
    """Whether an edit takes the header's line away already."""
    return any(begin <= header[3] and header[4] <= end and end > begin for begin, end, _ in ctx.edits)


def remove_headers(ctx: Ctx, headers: list[Header]) -> int:
    done = 0
    for header in headers:
        if not removed(ctx, header):
            ctx.add_edit(header[3], header[4], "")
            done += 1
    return 1 if done or headers else -1


class HeaderFunctions:
    rt: Any

    def _anchor(self, ctx: Ctx, hdr: str, *, after: bool) -> int | None:
        header = ctx.msg.first.get(header_key(hdr))
        if header is None:
            return None
        return header[4] if after else header[3]

    @function(ANY)
    def append_hf(self, ctx: Ctx, txt: str, hdr: Lit = "") -> int:
        """After the last header, or after the named one."""
        at = self._anchor(ctx, hdr, after=True) if hdr else None
        at = end_of_headers(ctx.msg) if at is None else at
        ctx.add_edit(at, at, txt)
        return 1

    @function(ANY)
    def insert_hf(self, ctx: Ctx, txt: str, hdr: Lit = "") -> int:
        """Before the first header, or before the named one."""
        at = self._anchor(ctx, hdr, after=False) if hdr else None
        at = ctx.msg.first_line_end if at is None else at
        ctx.add_edit(at, at, txt)
        return 1

    @function(_RFB)
    def append_urihf(self, ctx: Ctx, prefix: Lit, suffix: Lit) -> int:
        at = end_of_headers(ctx.msg)
        ctx.add_edit(at, at, f"{prefix}{ctx.ruri}{suffix}")
        return 1

    @function(_RFB)
    def append_to_reply(self, ctx: Ctx, txt: str) -> int:
        """A header line for replies that this server makes."""
        ctx.reply_headers = [*(ctx.reply_headers or []), txt]
        return 1

    @function(_RFB)
    def append_time(self, ctx: Ctx) -> int:
        return self.append_to_reply(ctx, f"Date: {email.utils.formatdate(self.rt.wall_time(), usegmt=True)}\r\n")

    @function(ANY)
    def append_time_to_request(self, ctx: Ctx) -> int:
        return self.append_hf(ctx, f"Date: {email.utils.formatdate(self.rt.wall_time(), usegmt=True)}\r\n")

    @function(ANY, "remove_hf", "remove_hf_pv")
    def remove_hf(self, ctx: Ctx, hname: str) -> int:
        key = header_key(hname)
        if key not in ctx.msg.first:
            return -1
        return remove_headers(ctx, ctx.msg.all(key))

    @function(ANY)
    def remove_hf_idx(self, ctx: Ctx, hname: str, idx: int) -> int:
        found = ctx.msg.all(header_key(hname))
        if not -len(found) <= idx < len(found):
            return -1
        return remove_headers(ctx, [found[idx]])

    def _matching(self, ctx: Ctx, pattern: Any, skip: Any = None) -> list[Header]:
        return [h for h in ctx.msg.headers if pattern.test(h[1]) and (skip is None or not skip.test(h[1]))]

    @function(ANY)
    def remove_hf_re(self, ctx: Ctx, re: Regex) -> int:
        found = self._matching(ctx, re)
        return remove_headers(ctx, found) if found else -1

    @function(ANY)
    def remove_hf_re_pv(self, ctx: Ctx, re: str) -> int:
        found = self._matching(ctx, self.rt.dynamic_regex(re))
        return remove_headers(ctx, found) if found else -1

    @function(ANY)
    def remove_hf_exp(self, ctx: Ctx, expmatch: Regex, expskip: Regex) -> int:
        found = self._matching(ctx, expmatch, expskip)
        return remove_headers(ctx, found) if found else -1

    @function(ANY)
    def remove_hf_exp_pv(self, ctx: Ctx, expmatch: str, expskip: str) -> int:
        found = self._matching(ctx, self.rt.dynamic_regex(expmatch), self.rt.dynamic_regex(expskip))
        return remove_headers(ctx, found) if found else -1

    @function(ANY)
    def remove_hf_match(self, ctx: Ctx, hname: str, op: str, expr: str) -> int:
        """Remove headers whose body compares: eq, ne, sw, in, re."""
        tests: dict[str, Callable[[str], bool]] = {
            "eq": lambda v: v == expr, "ne": lambda v: v != expr, "sw": lambda v: v.startswith(expr), "in": lambda v: expr in v,
            "re": lambda v: bool(self.rt.dynamic_regex(expr).test(v)),
        }  # fmt: skip
        test = tests.get(op)
        if test is None:
            self.rt.log.error("remove_hf_match: unknown operator %r", op)
            return -1
        found = [h for h in ctx.msg.all(header_key(hname)) if test(h[2].strip())]
        return remove_headers(ctx, found) if found else -1

    @function(ANY, "is_present_hf", "is_present_hf_pv")
    def is_present_hf(self, ctx: Ctx, hf_name: str) -> int:
        return 1 if header_key(hf_name) in ctx.msg.first else -1

    @function(ANY)
    def is_present_hf_re(self, ctx: Ctx, hf_name_re: Regex) -> int:
        return 1 if self._matching(ctx, hf_name_re) else -1

    @function(ANY)
    def is_present_hf_re_pv(self, ctx: Ctx, hf_name_re: str) -> int:
        return 1 if self._matching(ctx, self.rt.dynamic_regex(hf_name_re)) else -1

    @function(ANY)
    def via_param_rm(self, ctx: Ctx, name: str, idx: int) -> int:
        """Remove a parameter of a Via; index 1 is the first, -1 the last."""
        places = [(h, i, v) for h in ctx.msg.all("via") for i, v in enumerate(split_vias(h[2]))]
        at = idx - 1 if idx > 0 else idx
        if idx == 0 or not -len(places) <= at < len(places):
            return -1
        header, number, value = places[at]
        parts = value.split(";")
        kept = [parts[0], *(p for p in parts[1:] if p.partition("=")[0].strip().lower() != name.lower())]
        if len(kept) == len(parts):
            return -1
        values = split_vias(header[2])
        values[number] = ";".join(kept)
        ctx.add_edit(header[3], header[4], f"{header[1]}: {','.join(values)}\r\n")
        return 1
