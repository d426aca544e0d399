"""Requests that the server sends inside of a dialog, to one side or both: BYE, REFER, OPTIONS to see who is there, any other."""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, function
from kamc.declare.argtypes import Lit
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.uri import split_quoted
from stdlib_modules.dialog.cseq import difference
from stdlib_modules.dialog.life import Life
from stdlib_modules.dialog.model import ANSWERED, CALLEE, CALLER, CONFIRMED, DELETED, KEEPALIVE_CALLEE, KEEPALIVE_CALLER, Dialog

_BRIDGE_SDP = ("v=0\r\no=kamailio-bridge 0 0 IN IP4 0.0.0.0\r\ns=kamailio\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 9 RTP/AVP 8 0\r\n"
               "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n")  # fmt: skip


class RequestFunctions(Life):

    # -- sending ---------------------------------------------------------------------------------------------------------

    def send_within(self, dialog: Dialog, side: str, method: str, headers: str = "", body: str = "", callback: Any = None, *, step: int = 1) -> bool:
        """Send a request to a side as if the other one had sent it, with the next CSeq of that one."""
        to, sender = dialog.leg(side), dialog.leg(CALLEE if side == CALLER else CALLER)
        if to is None or sender is None or not to.contact:
            self.rt.log.error("dialog: nobody knows yet where the %s of %s is", side, dialog.call_id)
            return False
        from_uri, to_uri = (dialog.from_uri, dialog.to_uri) if side == CALLEE else (dialog.to_uri, dialog.from_uri)
        sender.cseq += step
        number = sender.cseq + (difference(dialog) if side == CALLEE else 0)
        lines = f"To: <{to_uri}>;tag={to.tag}\r\nFrom: <{from_uri}>;tag={sender.tag}\r\nCSeq: {number} {method}\r\nCall-ID: {dialog.call_id}\r\n"
        routes = "".join(f"Route: {route}\r\n" for route in to.routes)
        extra = self.p.dlg_extra_hdrs if method == "BYE" else ""
        extra += self.p.lreq_callee_headers if side == CALLEE else ""
        try:
            sent = self.rt.module("tm").send_request(method, to.contact, nexthop=first_uri(to.routes), listener=to.socket,
                                                     headers=lines + routes + headers + extra, body=body, callback=callback)  # fmt: skip
        except SipError as err:
            self.rt.log.error("dialog: cannot send %s: %s", method, err)
            return False
        return sent is not None

    def send_bye(self, dialog: Dialog, sides: tuple[str, ...], headers: str = "") -> bool:
        """Hang up. The dialog is over when a first final reply comes, or none does."""
        sent = False
        for side in sides:
            dialog.byes += 1
            if self.send_within(dialog, side, "BYE", headers, callback=lambda t, code, reply: self._bye_answered(dialog, code)):
                sent = True
            else:
                dialog.byes -= 1
        return sent

    def _bye_answered(self, dialog: Dialog, code: int) -> None:
        if code < 200:
            return
        dialog.byes -= 1
        if dialog.state != DELETED:
            self.end(dialog, None, "end")
            self.table.remove(dialog)

    # -- functions -------------------------------------------------------------------------------------------------------

    def _sides(self, side: str) -> tuple[str, ...] | None:
        sides = {"caller": (CALLER,), "callee": (CALLEE,), "all": (CALLEE, CALLER)}.get(side)
        if sides is None:
            self.rt.log.error("dialog: a side is caller, callee or all, not %r", side)
        return sides

    @function(ANY)
    def dlg_bye(self, ctx: Ctx, side: Lit) -> int:
        dialog, sides = self.current(ctx), self._sides(side)
        if dialog is None or sides is None or dialog.state not in (ANSWERED, CONFIRMED):
            return -1
        if self.is_copy(dialog):
            return self.do_there(dialog, "dlg_bye", side)
        return 1 if self.send_bye(dialog, sides) else -1

    def _refer(self, dialog: Dialog | None, side: str, address: str) -> int:
        sides = self._sides(side)
        if dialog is None or sides is None:
            return -1
        headers = f"Referred-By: {self.p.bridge_controller}\r\nRefer-To: {address}\r\nContact: <{self.p.bridge_contact}>\r\n"
        return 1 if all(self.send_within(dialog, s, "REFER", headers) for s in sides) else -1

    @function(ANY)
    def dlg_refer(self, ctx: Ctx, side: Lit, address: str) -> int:
        """Ask a side to call somebody else."""
        dialog = self.current(ctx)
        if dialog is not None and self.is_copy(dialog):
            return self.do_there(dialog, "dlg_refer", side, address)
        return self._refer(dialog, side, address)

    @function(ANY)
    def dlg_refer_did(self, ctx: Ctx, h_entry: int, h_id: int, side: str, address: str) -> int:
        return self._refer(self.table.by_id.get((h_entry, h_id)), side, address)

    @function(ANY)
    def dlg_refer_cid(self, ctx: Ctx, callid: str, side: str, address: str) -> int:
        return self._refer(next(iter(self.table.by_call.get(callid, ())), None), side, address)

    @function(ANY)
    def dlg_req_within(self, ctx: Ctx, side: Lit, method: str, headers: str = "", content_type: str = "", content: str = "") -> int:
        dialog, sides = self.current(ctx), self._sides(side)
        if dialog is None or sides is None:
            return -1
        if self.is_copy(dialog):
            return self.do_there(dialog, "dlg_req_within", side, method, headers, content_type, content)
        lines = _lines(headers) + (f"Content-Type: {content_type}\r\n" if content_type else "")
        return 1 if all(self.send_within(dialog, s, method, lines, content) for s in sides) else -1

    # -- bridging --------------------------------------------------------------------------------------------------------

    def bridge(self, caller: str, callee: str, proxy: str = "", body: str = _BRIDGE_SDP) -> bool:
        """Call the first party, and refer it to the second when it answers."""
        controller, contact = self.p.bridge_controller, f"Contact: <{self.p.bridge_contact}>\r\n"
        tm = self.rt.module("tm")

        def answered(t: Any, code: int, reply: SipMessage | None) -> None:
            if not 200 <= code < 300 or reply is None:
                return
            msg = t.request_ctx.msg
            remote = reply.address("contact")
            routes = [value for header in reversed(reply.all("record-route")) for value in reversed(split_quoted(header[2], ","))]
            lines = (f"To: {reply.value('to')}\r\nFrom: {msg.value('from')}\r\nCSeq: {msg.cseq[0] + 1} REFER\r\nCall-ID: {msg.call_id}\r\n"
                     + "".join(f"Route: {route.strip()}\r\n" for route in routes)
                     + f"Referred-By: {controller}\r\nRefer-To: {callee}\r\n{contact}")  # fmt: skip
            tm.send_request("REFER", remote.uri if remote is not None else caller, nexthop=first_uri(routes) or proxy, headers=lines)

        headers = f"To: <{caller}>\r\nFrom: <{controller}>\r\n{contact}" + ("Content-Type: application/sdp\r\n" if body else "")
        try:
            return tm.send_request("INVITE", caller, nexthop=proxy, headers=headers, body=body, callback=answered) is not None
        except SipError as err:
            self.rt.log.error("dlg_bridge: %s", err)
            return False

    @function(ANY)
    def dlg_bridge(self, ctx: Ctx, _from: str, to: str, op: str) -> int:
        return 1 if self.bridge(_from, to, op) else -1

    # -- keepalive -------------------------------------------------------------------------------------------------------

    def ask_who_is_there(self) -> None:
        """OPTIONS to the sides that asked for it. Who does not answer, or knows no such call, is gone: the other one is told."""
        now = self.rt.wall_time()
        for dialog in self.table:
            if dialog.state != CONFIRMED:
                continue
            for flag, side in ((KEEPALIVE_CALLER, CALLER), (KEEPALIVE_CALLEE, CALLEE)):
                leg = dialog.leg(side)
                if leg is not None and dialog.iflags & flag and now - max(leg.asked, dialog.started) >= self.p.ka_interval:
                    leg.asked = now
                    # without a CSeq of its own: the party in whose name it goes would use that one next
                    self.send_within(dialog, side, "OPTIONS", callback=lambda t, code, reply, d=dialog, g=leg: self._asked(d, g, code), step=0)

    def _asked(self, dialog: Dialog, leg: Any, code: int) -> None:
        if code < 200 or dialog.state == DELETED:
            return
        leg.unanswered = leg.unanswered + 1 if code in (408, 481) else 0
        if leg.unanswered >= self.p.ka_failed_limit:
            self.send_bye(dialog, (CALLEE, CALLER))


def first_uri(routes: list[str]) -> str:
    """The URI of the first Route value; empty when there is none."""
    if not routes:
        return ""
    value = routes[0]
    return value[value.find("<") + 1 : value.find(">")] if "<" in value else value.partition(";")[0]


def _lines(text: str) -> str:
    return text if not text or text.endswith("\r\n") else text + "\r\n"
