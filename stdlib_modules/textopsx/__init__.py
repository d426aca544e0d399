"""Module textopsx: applying changes, reply status, header values, iterators over headers and body lines."""

from __future__ import annotations

import fnmatch
from typing import Any

from kamc.declare import ANY, Module, Routes, function, pv_class
from kamc.declare.argtypes import Regex
from kamc.declare.pvspec import PvSpec
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.build import build_request, rebuild
from kamc.runtime.sip.message import parse_message
from kamc.runtime.tm.params import REASONS
from stdlib_modules.textopsx.hfvalue import HeaderValues
from stdlib_modules.textopsx.iterators import Iterators, line_pieces

_RO = Routes.REQUEST | Routes.ONREPLY
_KEPT = frozenset({"via", "from", "to", "call-id", "cseq", "route", "record-route", "contact", "content-length", "content-type", "max-forwards"})


class Textopsx(HeaderValues, Module):
    name = "textopsx"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        # variables are bound before mod_init
        self.iterators = Iterators()
        self.lines = Iterators()

    # -- applying --------------------------------------------------------------------------------------------------------

    def apply(self, ctx: Ctx) -> int:
        """The edits become the message."""
        if ctx.msg.is_request:
            text = build_request(ctx.msg, ctx.edits, ctx.msg.uri, "")
        else:
            text = rebuild(ctx.msg, ctx.edits)
        return self._replace(ctx, text)

    def _replace(self, ctx: Ctx, text: str) -> int:
        try:
            msg = parse_message(text)
            msg.via1  # noqa: B018 - a message without a Via is refused
        except SipError as err:
            self.rt.log.error("the changed message is no SIP message: %s", err)
            return -1
        ruri = ctx.ruri
        ctx.replace_message(msg)
        ctx.ruri = ruri
        if ctx.extra is not None:
            ctx.extra.pop("credentials", None)
            ctx.extra.pop("record_routed", None)
        t = ctx.t
        if t is not None and t.request_ctx is ctx:
            t.msg = msg
        return 1

    @function(_RO)
    def msg_apply_changes(self, ctx: Ctx) -> int:
        if ctx.t is not None and ctx.msg.is_request and ctx.t.request_ctx is not ctx:
            return -1
        return self.apply(ctx)

    @function(_RO)
    def msg_set_buffer(self, ctx: Ctx, data: str) -> int:
        rc = self._replace(ctx, data)
        if rc > 0 and ctx.msg.is_request:
            ctx.ruri = ctx.msg.uri
        return rc

    @function(ANY)
    def msg_changed_route(self, ctx: Ctx, rname: str) -> int:
        """Run a route over the message with its changes applied; the message itself stays as it is."""
        function_ = self.rt.route_function("request", rname)
        if function_ is None:
            return -1
        work = ctx.copy_for(ctx.kind)
        if self.apply(work) < 0:
            return -1
        return 1 if self.rt.datapath.run(function_, work) else -1

    @function(Routes.ONREPLY)
    def change_reply_status(self, ctx: Ctx, code: int, reason: str) -> int:
        """Another status for the reply that goes on; a 2xx of an INVITE cannot become negative."""
        status = ctx.msg.status
        if not 100 <= code <= 699:
            return -1
        if (status < 200) != (code < 200) or (200 <= status < 300 and not 200 <= code < 300):
            self.rt.log.error("change_reply_status: %d cannot become %d", status, code)
            return -1
        ctx.new_status = (code, reason)
        return 1

    @function(Routes.ONREPLY)
    def change_reply_status_code(self, ctx: Ctx, vcode: int) -> int:
        return self.change_reply_status(ctx, vcode, ctx.msg.reason or REASONS.get(vcode, ""))

    @function(ANY)
    def remove_body(self, ctx: Ctx) -> int:
        msg = ctx.msg
        if msg.body:
            ctx.edits = [e for e in ctx.edits if e[0] < msg.body_start]
            ctx.add_edit(msg.body_start, len(msg.text), "")
        return 1

    @function(ANY)
    def keep_hf(self, ctx: Ctx, re: Regex = None) -> int:
        """Remove all headers but the needed ones and those that match."""
        for h in ctx.msg.headers:
            if h[0] not in _KEPT and not (re is not None and re.test(h[1])):
                ctx.add_edit(h[3], h[4], "")
        return 1

    @function(ANY)
    def fnmatch(self, ctx: Ctx, value: str, expr: str, flags: str = "") -> int:
        """Shell pattern; flag ``i`` ignores case."""
        if "i" in flags:
            value, expr = value.lower(), expr.lower()
        return 1 if fnmatch.fnmatchcase(value, expr) else -1

    # -- header iterators ------------------------------------------------------------------------------------------------

    @function(ANY)
    def hf_iterator_start(self, ctx: Ctx, iname: str) -> int:
        return self.iterators.start(iname, [(h[1], h[2], h[3], h[4]) for h in ctx.msg.headers])

    @function(ANY)
    def hf_iterator_next(self, ctx: Ctx, iname: str) -> int:
        return self.iterators.step(iname, 1)

    @function(ANY)
    def hf_iterator_prev(self, ctx: Ctx, iname: str) -> int:
        return self.iterators.step(iname, -1)

    @function(ANY)
    def hf_iterator_end(self, ctx: Ctx, iname: str) -> int:
        return self.iterators.end(iname)

    @function(ANY)
    def hf_iterator_rm(self, ctx: Ctx, iname: str) -> int:
        return self.iterators.remove(ctx, iname)

    @function(ANY)
    def hf_iterator_append(self, ctx: Ctx, iname: str, htext: str) -> int:
        return self.iterators.append(ctx, iname, htext)

    @function(ANY)
    def hf_iterator_insert(self, ctx: Ctx, iname: str, htext: str) -> int:
        return self.iterators.insert(ctx, iname, htext)

    # -- body line iterators ---------------------------------------------------------------------------------------------

    @function(ANY)
    def bl_iterator_start(self, ctx: Ctx, iname: str) -> int:
        return self.lines.start(iname, line_pieces(ctx.msg.body, ctx.msg.body_start)) if ctx.msg.body else -1

    @function(ANY)
    def bl_iterator_next(self, ctx: Ctx, iname: str) -> int:
        return self.lines.step(iname, 1)

    @function(ANY)
    def bl_iterator_end(self, ctx: Ctx, iname: str) -> int:
        return self.lines.end(iname)

    @function(ANY)
    def bl_iterator_rm(self, ctx: Ctx, iname: str) -> int:
        return self.lines.remove(ctx, iname)

    @function(ANY)
    def bl_iterator_append(self, ctx: Ctx, iname: str, text: str) -> int:
        return self.lines.append(ctx, iname, text)

    @function(ANY)
    def bl_iterator_insert(self, ctx: Ctx, iname: str, text: str) -> int:
        return self.lines.insert(ctx, iname, text)

    # -- variables -------------------------------------------------------------------------------------------------------

    @pv_class("hfitname")
    def pv_hfitname(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self.iterators.getter((spec.inner or "").strip(), 0))

    @pv_class("hfitbody")
    def pv_hfitbody(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self.iterators.getter((spec.inner or "").strip(), 1))

    @pv_class("blitval")
    def pv_blitval(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self.lines.getter((spec.inner or "").strip(), 1))


module = Textopsx
