"""Module topoh: addresses of one side are masked towards the other. https://www.kamailio.org/docs/modules/stable/modules/topoh.html

Everything works on the texts at the edge, so scripts, tm and other modules see what was hidden. What comes in is unmasked wherever our mask is
found. What goes out is masked: of requests the Vias below ours, the Record-Routes that are not ours and the Contact; of replies the
Record-Routes of the proxies behind us and the Contact. A Call-ID is masked towards the callee (``mask_callid``): a request that came with a
masked one gets a parameter in its Via that tells so, which its replies bring back and which never leaves us.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from kamc.declare import Module, Routes, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import Dest, Flow
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.sip.edits import Edit, apply_edits
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.sip.uri import parse_uri, split_quoted
from kamc.runtime.sip.via import split_vias
from stdlib_modules.topoh.mask import Mask

#: requests whose Contact is no address of a dialog
_KEPT: Final = frozenset({"REGISTER", "PUBLISH"})
#: seconds that the direction of a request is remembered for its CANCEL and ACK
_REMEMBERED: Final = 300
_ROUTES: Final = ("route", "record-route", "contact", "refer-to", "referred-by")


class Topoh(Module):
    name = "topoh"
    ignored_params = ("event_callback", "sanity_checks", "uri_prefix_checks")

    class Params:
        mask_key: str = "aL9.n8~Hm]Z"
        mask_ip: str = "127.0.0.8"
        mask_callid: int = 0
        mask_mode: int = 0
        uparam_name: str = "line"
        uparam_prefix: str = "sr-"
        vparam_name: str = "branch"
        vparam_prefix: str = "z9hG4bKsr-"
        callid_prefix: str = "!!:"
        event_mode: int = 3
        use_mode: int = 0

    def mod_init(self) -> None:
        p = self.p
        if not p.mask_ip or not p.mask_key:
            raise ConfigError("topoh: mask_ip and mask_key must not be empty")
        if self.rt.is_myself(p.mask_ip):
            raise ConfigError(f"topoh: mask_ip {p.mask_ip} is an address of this server: masked requests would come back as its own")
        if p.mask_mode or p.use_mode:
            raise ConfigError("topoh: mask_mode and use_mode are not implemented by kamc: only 0")
        if p.callid_prefix == "" and p.mask_callid:
            raise ConfigError("topoh: mask_callid needs a callid_prefix")
        self.mask = Mask(p.mask_key)
        #: marks requests from the masked side, in their own Via, between coming in and going out
        self.mark = "th" + hashlib.sha256(p.mask_key.encode("latin-1", "replace")).hexdigest()[:8]
        self.upstream = self.rt.store.table("topoh")
        self.masked_uri = re.compile(rf"sips?:(?:[^@>;]*@)?{re.escape(p.mask_ip)}[^>,\s]*?;{re.escape(p.uparam_name)}={re.escape(p.uparam_prefix)}([\w-]+)[^>,\s]*")
        self.rt.hooks.incoming_filters.append(self.incoming)
        self.rt.hooks.outgoing_filters.append(self.outgoing)

    # -- in --------------------------------------------------------------------------------------------------------------

    def incoming(self, text: str, flow: Flow) -> str:
        """Unmask what was masked by us."""
        if self.p.mask_ip not in text and self.p.callid_prefix not in text:
            return text
        try:
            msg = parse_message(text)
        except SipError:
            return text
        edits: list[Edit] = []
        if msg.is_request:
            start = len(msg.method) + 1
            new = self._unmask_uris(msg.uri)
            if new != msg.uri:
                edits.append((start, start + len(msg.uri), new))
        masked = False
        for header in msg.headers:
            key, name, value, begin, end = header
            new = value
            if key == "via":
                new = ", ".join(self._unmask_via(v.strip()) for v in split_vias(value)) if self.p.mask_ip in value else value
            elif key in _ROUTES:
                new = self._unmask_uris(value)
            elif key in ("call-id", "replaces") and value.lstrip().startswith(self.p.callid_prefix):
                head, semicolon, tail = value.strip().partition(";") if key == "replaces" else (value.strip(), "", "")
                shown = self.mask.show(head[len(self.p.callid_prefix) :])
                masked = masked or (key == "call-id" and shown is not None)
                new = value if shown is None else shown + semicolon + tail
            if new != value:
                edits.append((begin, end, f"{name}: {new}\r\n"))
        if masked and msg.is_request:
            edits = self._marked(msg, edits)
        return apply_edits(text, edits, 0, len(text))

    def _unmask_uris(self, value: str) -> str:
        return self.masked_uri.sub(lambda m: self.mask.show(m[1]) or m[0], value) if self.p.mask_ip in value else value

    def _unmask_via(self, value: str) -> str:
        found = re.search(rf";{re.escape(self.p.vparam_name)}={re.escape(self.p.vparam_prefix)}([\w-]+)", value)
        return (self.mask.show(found[1]) or value) if found is not None else value

    def _marked(self, msg: SipMessage, edits: list[Edit]) -> list[Edit]:
        """The first Via with our mark."""
        header = msg.first.get("via")
        if header is None:
            return edits
        values = split_vias(header[2])
        values[0] = f"{values[0].rstrip()};{self.mark}"
        return [*(e for e in edits if e[0] != header[3]), (header[3], header[4], f"{header[1]}: {', '.join(v.strip() for v in values)}\r\n")]

    # -- out -------------------------------------------------------------------------------------------------------------

    def outgoing(self, text: str, dest: Dest) -> str:
        """Mask what the other side must not see."""
        try:
            msg = parse_message(text)
            first = msg.via1
        except SipError:
            return text
        marked = self.mark in first.param_map
        if not self._wanted(msg, dest, text):
            return text
        edits = self._request(msg) if msg.is_request else self._reply(msg, marked)
        return apply_edits(text, edits, 0, len(text))

    def _wanted(self, msg: SipMessage, dest: Dest, text: str) -> bool:
        """Event routes may leave a message as it is, with drop."""
        for bit, name in ((1, "topoh:msg-outgoing"), (2, "topoh:msg-sending")):
            if self.p.event_mode & bit and self.rt.has_event(name):
                ctx = Ctx(self.rt, msg, Flow(dest.listener, dest.ip, dest.port), Routes.EVENT)
                ctx.outgoing = (dest, text)
                if not self.rt.run_event(name, ctx):
                    return False
        return True

    def _request(self, msg: SipMessage) -> list[Edit]:
        edits: list[Edit] = []
        vias = [(header, value.strip()) for header in msg.all("via") for value in split_vias(header[2])]
        upstream = len(vias) > 1 and f";{self.mark}" in vias[1][1]
        if upstream and msg.method == "INVITE":
            self.upstream.put(msg.via1.branch, 1, self.rt.wall_time() + _REMEMBERED)
        elif len(vias) == 1 and msg.method in ("ACK", "CANCEL"):
            upstream = self.upstream.get(msg.via1.branch) is not None
        for number, header in enumerate(msg.all("via")):
            values = [v.strip() for v in split_vias(header[2])]
            kept = values[:1] if number == 0 else []
            masked = [self._masked_via(v) for v in values[len(kept) :]]
            if masked:
                edits.append((header[3], header[4], f"{header[1]}: {', '.join(kept + masked)}\r\n"))
        self._mask_list(msg, "record-route", edits, len(msg.all("record-route")))
        if msg.method not in _KEPT:
            self._mask_contact(msg, edits)
        if not upstream:
            self._mask_callid(msg, edits)
        return edits

    def _reply(self, msg: SipMessage, marked: bool) -> list[Edit]:
        edits: list[Edit] = []
        header = msg.first["via"]
        if marked:
            edits.append((header[3], header[4], f"{header[1]}: {header[2].replace(f';{self.mark}', '', 1)}\r\n"))
            self._mask_callid(msg, edits)
        records = msg.all("record-route")
        own = next((i for i, h in enumerate(records) if any(self._ours(v) for v in split_quoted(h[2], ","))), 0)
        self._mask_list(msg, "record-route", edits, own)
        if msg.cseq[1] not in _KEPT and not 300 <= msg.status < 400:
            self._mask_contact(msg, edits)
        return edits

    def _ours(self, value: str) -> bool:
        address = parse_addr(value.strip())
        uri = address.parsed if address is not None else None
        return uri is not None and bool(self.rt.is_myself(uri.host, uri.port_number))

    def _masked_via(self, value: str) -> str:
        proto = value.split(None, 1)[0]
        return f"{proto} {self.p.mask_ip};{self.p.vparam_name}={self.p.vparam_prefix}{self.mask.hide(value)}"

    def _masked_uri(self, uri: str) -> str:
        lr = ";lr" if ";lr" in uri else ""
        return f"sip:{self.p.mask_ip};{self.p.uparam_name}={self.p.uparam_prefix}{self.mask.hide(uri)}{lr}"

    def _mask_list(self, msg: SipMessage, key: str, edits: list[Edit], count: int) -> None:
        """The first ``count`` headers: values that are not ours."""
        for header in msg.all(key)[:count]:
            values = [v.strip() for v in split_quoted(header[2], ",")]
            new = [v if self._ours(v) else self._masked_address(v) for v in values]
            if new != values:
                edits.append((header[3], header[4], f"{header[1]}: {', '.join(new)}\r\n"))

    def _masked_address(self, value: str) -> str:
        address = parse_addr(value)
        if address is None or parse_uri(address.uri) is None:
            return value
        head = f"{address.display} " if address.display else ""
        return f"{head}<{self._masked_uri(address.uri)}>" + (f";{address.params}" if address.params else "")

    def _mask_contact(self, msg: SipMessage, edits: list[Edit]) -> None:
        for header in msg.all("contact"):
            if header[2].strip() == "*":
                continue
            values = [v.strip() for v in split_quoted(header[2], ",")]
            edits.append((header[3], header[4], f"{header[1]}: {', '.join(map(self._masked_address, values))}\r\n"))

    def _mask_callid(self, msg: SipMessage, edits: list[Edit]) -> None:
        header = msg.first.get("call-id")
        if self.p.mask_callid and header is not None:
            edits.append((header[3], header[4], f"{header[1]}: {self._masked_callid(header[2].strip())}\r\n"))

    def _masked_callid(self, value: str) -> str:
        return f"{self.p.callid_prefix}{self.mask.hide(value)}"

    # -- variables -------------------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_th(cls, spec: PvSpec) -> str | None:
        return None if spec.inner == "ecallid" else "the name is ecallid"

    @pv_class("th")
    def pv_th(self, spec: PvSpec) -> BoundPv:
        """The Call-ID as the other side sees it."""
        return BoundPv(lambda ctx: self._masked_callid(ctx.msg.call_id) if self.p.mask_callid else None)


module = Topoh
