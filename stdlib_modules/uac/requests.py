"""Requests of the script: ``$uac_req(...)`` and ``uac_req_send()``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from kamc.declare import ANY, Routes, function, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int, to_str
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import Flow
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.message import SipMessage
from stdlib_modules.uac.auth import HEADERS, Credential, answer_to


@dataclass(slots=True)
class Request:
    """What ``$uac_req`` holds. Numbers are 0 and texts None until they are set."""

    method: str | None = None
    ruri: str | None = None
    turi: str | None = None
    ttag: str | None = None
    furi: str | None = None
    ftag: str | None = None
    hdrs: str | None = None
    body: str | None = None
    ouri: str | None = None
    sock: str | None = None
    auser: str | None = None
    apasswd: str | None = None
    callid: str | None = None
    evparam: str | None = None
    evroute: int = 0
    flags: int = 0
    cseqno: int = 0
    evcode: int = 0
    evtype: int = 0
    fr_timeout: int = 0
    fr_inv_timeout: int = 0
    #: number of the CSeq that was sent last, for the answer to a challenge
    sent_cseq: int = field(default=0, repr=False)


_NUMBERS = frozenset({"evroute", "flags", "cseqno", "evcode", "evtype", "fr_timeout", "fr_inv_timeout"})
_KEYS = frozenset(f.name for f in fields(Request)) - {"sent_cseq"}


class RequestFunctions:
    rt: Any
    p: Any
    current: Request

    @classmethod
    def check_pv_uac_req(cls, spec: PvSpec) -> str | None:
        return None if spec.inner == "all" or spec.inner in _KEYS else f"the key is one of all {' '.join(sorted(_KEYS))}"

    @pv_class("uac_req", set=True)
    def pv_uac_req(self, spec: PvSpec) -> BoundPv:
        key = spec.inner or ""
        if key == "all":
            return BoundPv(lambda ctx: None, lambda ctx, value: self._reset() if value is None else None)

        def put(ctx: Ctx, value: Value) -> None:
            if key in _NUMBERS:
                setattr(self.current, key, to_int(value) if value is not None else 0)
            else:
                setattr(self.current, key, None if value is None else to_str(value))

        return BoundPv(lambda ctx: getattr(self.current, key), put)

    def _reset(self) -> None:
        self.current = Request()

    @function(ANY)
    def uac_req_send(self, ctx: Ctx) -> int:
        """Send the request of ``$uac_req``. A challenge is answered with ``auser`` and ``apasswd``; ``event_route[uac:reply]`` hears of the
        final reply when ``evroute`` is 1."""
        request = self.current
        if not request.method or not request.ruri:
            self.rt.log.error("uac_req_send: method and ruri are needed")
            return -1
        snapshot = Request(**{f.name: getattr(request, f.name) for f in fields(Request)})
        return 1 if self._send(snapshot, {}, "") else -1

    def _send(self, request: Request, names: dict[str, str], credentials: str) -> bool:
        """Send; ``names`` are the From, Call-ID and CSeq of an earlier try."""
        furi, turi = request.furi or request.ruri or "", request.turi or request.ruri or ""
        lines = [
            names.get("from") or f"From: <{furi}>" + (f";tag={request.ftag}" if request.ftag else ""),
            f"To: <{turi}>" + (f";tag={request.ttag}" if request.ttag else ""),
        ]
        if names or request.callid:
            lines.append(f"Call-ID: {names.get('call-id') or request.callid}")
        if names or request.cseqno:
            request.sent_cseq = int(names["cseq"]) + 1 if names else request.cseqno
            lines.append(f"CSeq: {request.sent_cseq} {request.method}")
        headers = "\r\n".join(lines) + "\r\n" + (request.hdrs or "") + credentials
        tm = self.rt.module("tm")
        try:
            sent = tm.send_request(request.method, request.ruri, nexthop=request.ouri or "", socket=request.sock or self.p.default_socket, headers=headers,
                                   body=request.body or "", callback=lambda t, code, reply: self._replied(request, t, code, reply))  # fmt: skip
        except SipError as err:
            self.rt.log.error("uac_req_send: %s", err)
            return False
        if sent is None:
            return False
        if request.fr_timeout:
            sent.fr = request.fr_timeout / 1000
        return True

    def _replied(self, request: Request, t: Any, code: int, reply: SipMessage | None) -> None:
        if code < 200:
            return
        msg = t.request_ctx.msg
        tried = any(h[1].lower() in ("authorization", "proxy-authorization") for h in msg.headers)
        if reply is not None and code in HEADERS and request.auser and request.apasswd and not tried:
            known = [Credential(request.auser, "", request.apasswd, bool(request.flags & 1))]
            line = answer_to(reply, known, request.method or "", request.ruri or "", request.body or "")
            names = {"from": f"From: {msg.value('from')}", "call-id": msg.call_id, "cseq": str(msg.cseq[0])}
            if line is not None and self._send(request, names, line):
                return
        if request.evroute == 1:
            self._tell(request, t, code, reply)

    def _tell(self, request: Request, t: Any, code: int, reply: SipMessage | None) -> None:
        """Run ``event_route[uac:reply]`` with ``$uac_req`` as it was sent, and the outcome in evcode and evtype (1 a reply, 2 none came)."""
        before, self.current = self.current, request
        request.evcode, request.evtype = code, 1 if reply is not None else 2
        try:
            if reply is not None:
                flow: Flow = t.request_ctx.flow
                self.rt.run_event("uac:reply", Ctx(self.rt, reply, flow, Routes.EVENT))
            else:
                self.rt.worker.run_event("uac:reply")
        finally:
            self.current = before
