"""Module textopsx: applying changes, reply status, header values, iterators over headers and body lines."""

from __future__ import annotations

import fnmatch
from typing import Any

from kamc.declare import ANY, Module, Routes, function, pv_class
from kamc.declare.argtypes import Regex
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.build import build_request, rebuild
from kamc.runtime.sip.message import parse_message
from kamc.runtime.tm.engine import REASONS
from stdlib_modules.textopsx.hfvalue import HeaderValues

_RO = Routes.REQUEST | Routes.ONREPLY
_KEPT = frozenset({"via", "from", "to", "call-id", "cseq", "route", "record-route", "contact", "content-length", "content-type", "max-forwards"})


class _Iterator:
    """Position over a list of (text, start, end); -1 before the first."""

    __slots__ = ("at", "items")

    def __init__(self, items: list[tuple[str, str, int, int]]) -> None:
        self.items = items
        self.at = -1

    @property
    def current(self) -> tuple[str, str, int, int] | None:
        return self.items[self.at] if 0 <= self.at < len(self.items) else None


class Textopsx(HeaderValues, Module):
    name = "textopsx"

    def mod_init(self) -> None:
        self.iterators: dict[str, _Iterator] = {}
        self.lines: dict[str, _Iterator] = {}

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
        self.iterators[iname] = _Iterator([(h[1], h[2], h[3], h[4]) for h in ctx.msg.headers])
        return 1

    @staticmethod
    def _step(found: _Iterator | None, by: int) -> int:
        if found is None:
            return -1
        found.at += by
        if found.current is None:
            found.at = max(-1, min(found.at, len(found.items)))
            return -1
        return 1

    @function(ANY)
    def hf_iterator_next(self, ctx: Ctx, iname: str) -> int:
        return self._step(self.iterators.get(iname), 1)

    @function(ANY)
    def hf_iterator_prev(self, ctx: Ctx, iname: str) -> int:
        return self._step(self.iterators.get(iname), -1)

    @function(ANY)
    def hf_iterator_end(self, ctx: Ctx, iname: str) -> int:
        return 1 if self.iterators.pop(iname, None) is not None else -1

    @staticmethod
    def _edit(ctx: Ctx, found: _Iterator | None, where: str, text: str) -> int:
        item = found.current if found is not None else None
        if item is None:
            return -1
        begin, end = {"rm": (item[2], item[3]), "after": (item[3], item[3]), "before": (item[2], item[2])}[where]
        ctx.add_edit(begin, end, text)
        return 1

    @function(ANY)
    def hf_iterator_rm(self, ctx: Ctx, iname: str) -> int:
        return self._edit(ctx, self.iterators.get(iname), "rm", "")

    @function(ANY)
    def hf_iterator_append(self, ctx: Ctx, iname: str, htext: str) -> int:
        return self._edit(ctx, self.iterators.get(iname), "after", htext)

    @function(ANY)
    def hf_iterator_insert(self, ctx: Ctx, iname: str, htext: str) -> int:
        return self._edit(ctx, self.iterators.get(iname), "before", htext)

    # -- body line iterators ---------------------------------------------------------------------------------------------

    @function(ANY)
    def bl_iterator_start(self, ctx: Ctx, iname: str) -> int:
        if not ctx.msg.body:
            return -1
        at = ctx.msg.body_start
        items = []
        for line in ctx.msg.body.splitlines(keepends=True):
            items.append(("", line, at, at + len(line)))
            at += len(line)
        self.lines[iname] = _Iterator(items)
        return 1

    @function(ANY)
    def bl_iterator_next(self, ctx: Ctx, iname: str) -> int:
        return self._step(self.lines.get(iname), 1)

    @function(ANY)
    def bl_iterator_end(self, ctx: Ctx, iname: str) -> int:
        return 1 if self.lines.pop(iname, None) is not None else -1

    @function(ANY)
    def bl_iterator_rm(self, ctx: Ctx, iname: str) -> int:
        return self._edit(ctx, self.lines.get(iname), "rm", "")

    @function(ANY)
    def bl_iterator_append(self, ctx: Ctx, iname: str, text: str) -> int:
        return self._edit(ctx, self.lines.get(iname), "after", text)

    @function(ANY)
    def bl_iterator_insert(self, ctx: Ctx, iname: str, text: str) -> int:
        return self._edit(ctx, self.lines.get(iname), "before", text)

    # -- variables -------------------------------------------------------------------------------------------------------

    def _item(self, table: str, name: str, part: int) -> Any:
        def get(ctx: Ctx) -> Value:
            found = getattr(self, table).get(name)
            item = found.current if found is not None else None
            return item[part] if item is not None else None

        return get

    @pv_class("hfitname")
    def pv_hfitname(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self._item("iterators", (spec.inner or "").strip(), 0))

    @pv_class("hfitbody")
    def pv_hfitbody(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self._item("iterators", (spec.inner or "").strip(), 1))

    @pv_class("blitval")
    def pv_blitval(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self._item("lines", (spec.inner or "").strip(), 1))


module = Textopsx
