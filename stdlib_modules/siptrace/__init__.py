"""Module siptrace: copies of SIP messages to a capture server, plain or in HEP, and to a table.
https://www.kamailio.org/docs/modules/stable/modules/siptrace.html

What is traced beyond a single message is known by Call-ID (dialog) or Call-ID and CSeq number (transaction).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from kamc.declare import ANY, Module, Routes, Spread, function, pv_class, rpc
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_str
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Cell, Database
from kamc.runtime.net.endpoint import Dest, Flow, Listener
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.store.mirror import Codec
from kamc.runtime.tm.transaction import Transaction
from stdlib_modules.siptrace.hep import LOG, Way, encode, encode_old

#: seconds that a transaction, and a dialog, is followed
#: an end of a way, as X-Siptrace headers have it
_END: Final = re.compile(r"(\w+):\[?([0-9A-Fa-f.:]+?)\]?:(\d{1,5})")
_TRANSACTION, _DIALOG = 240, 12 * 3600
_SHORT: Final = {"m": "m", "M": "m", "t": "t", "T": "t", "d": "d", "D": "d"}
_FIELDS: Final = ("src_addr", "dst_addr", "src_host", "dst_host", "src_port", "dst_port", "src_proto", "dst_proto", "direction", "src_hostip", "dst_hostip")


def _told(msg: SipMessage) -> tuple[SipMessage, Way, str, float] | None:
    """What ``xheaders_write`` of another server has written into a copy: the message without it, the way that it took, its direction and time.
    None when it is not there, or cannot be read."""
    said = {h[1].lower().removeprefix("x-siptrace-"): (h[2].strip(), h[3], h[4]) for h in msg.headers if h[1].lower().startswith("x-siptrace-")}
    ends = [_END.fullmatch(said[name][0]) if name in said else None for name in ("fromip", "toip")]
    time_of = re.fullmatch(r"(\d{1,10}) (\d{1,6})", said["time"][0]) if "time" in said else None
    direction = said["dir"][0] if "dir" in said else ""
    if ends[0] is None or ends[1] is None or time_of is None or direction not in ("in", "out"):
        return None
    text, shift = msg.text, 0
    for _, begin, end in sorted(said.values(), key=lambda line: line[1]):
        text = text[: begin - shift] + text[end - shift :]
        shift += end - begin
    way = Way(ends[0][1].lower(), (ends[0][2], int(ends[0][3])), (ends[1][2], int(ends[1][3])))
    return parse_message(text), way, direction, int(time_of[1]) + int(time_of[2]) / 1_000_000


class Siptrace(Module):
    name = "siptrace"
    stats = {"siptrace": ("traced_requests", "traced_replies")}
    tuning_params = ("trace_delayed", "trace_init_mode", "trace_ephemeral_socket", "trace_db_mode", "data_mode", "trace_dialog_ack", "trace_dialog_spiral")
    ignored_params = ("evcb_msg", "trace_sl_acks")

    class Params:
        trace_on: int = 0
        trace_flag: int = -1
        trace_mode: int = 0
        duplicate_uri: str = ""
        traced_user_avp: str = ""
        trace_table_avp: str = ""
        trace_to_database: int = 1
        trace_local_ip: str = ""
        xheaders_write: int = 0
        xheaders_read: int = 0
        hep_mode_on: int = 0
        hep_version: int = 1
        hep_capture_id: int = 1
        auth_key: str = ""
        force_send_sock: str = ""
        send_sock_addr: str = ""
        send_sock_name: str = ""
        db_url: str = "mysql://kamailio:kamailiorw@localhost/kamailio"
        table: str = "sip_trace"
        date_column: str = "time_stamp"
        callid_column: str = "callid"
        traced_user_column: str = "traced_user"
        msg_column: str = "msg"
        method_column: str = "method"
        status_column: str = "status"
        fromip_column: str = "fromip"
        toip_column: str = "toip"
        fromtag_column: str = "fromtag"
        totag_column: str = "totag"
        direction_column: str = "direction"

    def mod_init(self) -> None:
        p = self.p
        if p.hep_version not in (1, 2, 3):
            raise ConfigError(f"siptrace: hep_version is 1, 2 or 3, not {p.hep_version}")
        self.on = bool(p.trace_on)
        self.target = self._address(p.duplicate_uri) if p.duplicate_uri else None
        self.db: Database | None = self.rt.database(p.db_url) if p.trace_to_database else None
        self.user = self.rt.pv(p.traced_user_avp) if p.traced_user_avp else None
        self.table = self.rt.pv(p.trace_table_avp) if p.trace_table_avp else None
        #: "call-id" or "call-id\ncseq" → where its copies go
        self.followed = self.rt.store.table("siptrace", codec=Codec(list, tuple))
        self.current: tuple[Way, str] | None = None
        self.rt.hooks.incoming_filters.append(self.incoming)
        self.rt.hooks.outgoing_filters.append(self.outgoing)
        if p.trace_flag >= 0:
            self.rt.hooks.transactions.append(self.watch)

    def activate(self, previous: Any) -> None:
        super().activate(previous)
        self.carry(previous, "on", "trace_on")

    def _address(self, uri: str) -> tuple[str, int]:
        """Raises ConfigError."""
        parsed = parse_uri(uri)
        ip = self.rt.datapath.lookup(parsed.host.strip("[]")) if parsed is not None and parsed.host else None
        if parsed is None or ip is None:
            raise ConfigError(f"siptrace: {uri!r} is no URI of a capture server")
        return ip, parsed.real_port()

    def _socket(self) -> Listener | None:
        p = self.p
        if p.send_sock_name:
            found: Listener | None = self.rt.worker.find_listener_name(p.send_sock_name)
            return found
        text = p.send_sock_addr or p.force_send_sock
        if text:
            found = self.rt.worker.find_socket(text.removeprefix("sip:"))
            return found
        return next((s for s in self.rt.listeners if s.proto == "udp"), None)

    # -- what passes by --------------------------------------------------------------------------------------------------

    def _followed(self, msg: SipMessage) -> tuple[str, int] | None:
        """Where copies of a message go that a script asked to follow."""
        call = msg.call_id
        found = self.followed.get(f"{call}\n{msg.cseq[0]}") or self.followed.get(call)
        return (found[0], found[1]) if found is not None else None

    def _passing(self, text: str, way: Way, direction: str) -> None:
        automatic = bool(self.p.trace_mode & 1)
        if not self.on or not (automatic or len(self.followed)):
            return
        try:
            msg = parse_message(text)
            target = self._followed(msg)
        except SipError:
            return
        if automatic:
            self.current = way, direction
            flow = Flow(next(iter(self.rt.listeners)), way.source[0], way.source[1])
            wanted = self.rt.run_event("siptrace:msg", Ctx(self.rt, msg, flow, Routes.EVENT)) if self.rt.has_event("siptrace:msg") else True
            self.current = None
            if wanted:
                self.copy(msg, way, direction, self.target, "")
        elif target is not None:
            self.copy(msg, way, direction, target, "")

    def incoming(self, text: str, flow: Flow) -> str:
        self._passing(text, Way(flow.proto, (flow.remote_ip, flow.remote_port), (flow.listener.host, flow.listener.port)), "in")
        return text

    def outgoing(self, text: str, dest: Dest) -> str:
        self._passing(text, Way(dest.proto, (self.p.trace_local_ip or dest.listener.host, dest.listener.port), (dest.ip, dest.port)), "out")
        return text

    def watch(self, event: str, t: Transaction, what: Any) -> None:
        """A transaction of a request with trace_flag set."""
        if event == "created" and self.on and what.flags >> self.p.trace_flag & 1 and self._followed(what.msg) is None:
            self._follow(what.msg, "t", self.target)
            self._copy_received(what, self.target, "")

    def _follow(self, msg: SipMessage, mode: str, target: tuple[str, int] | None) -> None:
        key, seconds = (msg.call_id, _DIALOG) if mode == "d" else (f"{msg.call_id}\n{msg.cseq[0]}", _TRANSACTION)
        self.followed.put(key, target or ("", 0), self.rt.wall_time() + seconds)
        if len(self.followed) % 1000 == 0:
            for _ in self.followed.scan():
                pass  # looking at them drops the old ones

    # -- copies ----------------------------------------------------------------------------------------------------------

    def _copy_received(self, ctx: Ctx, target: tuple[str, int] | None, correlation: str) -> None:
        flow = ctx.flow
        self.copy(ctx.msg, Way(flow.proto, (flow.remote_ip, flow.remote_port), (flow.listener.host, flow.listener.port)), "in", target, correlation, ctx)

    def copy(self, msg: SipMessage, way: Way, direction: str, target: tuple[str, int] | None, correlation: str, ctx: Ctx | None = None) -> None:
        """Send a copy, store a copy."""
        now = self.rt.wall_time()
        if self.p.xheaders_read:
            told = _told(msg)
            if told is None:
                return
            msg, way, direction, now = told
        if target is not None and target[0]:
            self._send(msg, way, direction, target, correlation, now)
        if self.db is not None:
            self._store(msg, way, direction, now, ctx)

    def _send(self, msg: SipMessage, way: Way, direction: str, target: tuple[str, int], correlation: str, now: float) -> None:
        p = self.p
        payload = msg.text.encode("latin-1", "replace")
        if p.hep_mode_on and p.hep_version == 3:
            self._emit(encode(way, now, p.hep_capture_id, payload, key=p.auth_key, correlation=correlation), target)
        elif p.hep_mode_on:
            self._emit(encode_old(p.hep_version, way, now, p.hep_capture_id, payload), target)
        elif p.xheaders_write:
            extra = (f"X-Siptrace-Fromip: {way.source_text}\r\nX-Siptrace-Toip: {way.target_text}\r\nX-Siptrace-Time: {int(now)} {int(now * 1_000_000) % 1_000_000}\r\n"
                     f"X-Siptrace-Method: {msg.cseq[1]}\r\nX-Siptrace-Dir: {direction}\r\n")  # fmt: skip
            at = msg.body_start - 2
            self._emit((msg.text[:at] + extra + msg.text[at:]).encode("latin-1", "replace"), target)
        else:
            self._emit(payload, target)

    def _emit(self, data: bytes, target: tuple[str, int]) -> bool:
        listener = self._socket()
        if listener is None:
            self.rt.log.error("siptrace: no UDP socket to send copies from")
            return False
        try:
            self.rt.datapath.senders[listener](data, target)
        except OSError as err:
            self.rt.log.error("siptrace: cannot send to %s:%d: %s", target[0], target[1], err.strerror or err)
            return False
        return True

    def _store(self, msg: SipMessage, way: Way, direction: str, now: float, ctx: Ctx | None) -> None:
        p = self.p
        user = self.user(ctx) if self.user is not None and ctx is not None else None
        table = self.table(ctx) if self.table is not None and ctx is not None else None
        row: dict[str, Cell] = {
            p.date_column: datetime.fromtimestamp(int(now)), "time_us": int(now * 1_000_000) % 1_000_000, p.callid_column: msg.call_id,
            p.traced_user_column: to_str(user) if user is not None else "", p.msg_column: msg.text, p.method_column: msg.cseq[1],
            p.status_column: str(msg.status) if not msg.is_request else "", p.fromip_column: way.source_text, p.toip_column: way.target_text,
            p.fromtag_column: msg.from_tag, p.totag_column: msg.to_tag, p.direction_column: direction,
        }  # fmt: skip
        self.rt.counters.add("siptrace", "traced_requests" if msg.is_request else "traced_replies")
        assert self.db is not None
        self.db.post(to_str(table) if table is not None else p.table, row, lambda err: self.rt.log.error("siptrace: a message is not stored: %s", err))

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(ANY)
    def sip_trace(self, ctx: Ctx, address: str = "", correlation_id: str = "", mode: str = "m") -> int:
        """Copy this message (m), its transaction (t) or its dialog (d) to an address, or to duplicate_uri."""
        kind = _SHORT.get(mode[:1])
        if kind is None:
            self.rt.log.error("sip_trace: the mode is m, t or d, not %r", mode)
            return -1
        try:
            target = self._address(address) if address else self.target
        except ConfigError as err:
            self.rt.log.error("%s", err)
            return -1
        if not self.on:
            return 1
        if kind != "m" and ctx.msg.is_request:
            if self._followed(ctx.msg) is not None:
                return 1  # a repetition: it was copied when it came in
            self._follow(ctx.msg, kind, target)
        self._copy_received(ctx, target, correlation_id)
        return 1

    @function(ANY)
    def sip_trace_mode(self, ctx: Ctx, tmode: str) -> int:
        """Follow what the message belongs to: m, t or d."""
        return self.sip_trace(ctx, "", "", tmode)

    @function(ANY)
    def sip_trace_msg(self, ctx: Ctx, vmsg: str, saddr: str, taddr: str, daddr: str, corrid: str) -> int:
        """Send any text as captured between two addresses, ``proto:ip:port``, to ``daddr`` or duplicate_uri."""
        ends = []
        for text in (saddr, taddr):
            found = re.fullmatch(r"(\w+):\[?([^\]]+?)\]?:(\d+)", text)
            if found is None:
                self.rt.log.error("sip_trace_msg: %r is no proto:ip:port", text)
                return -1
            ends.append(found)
        try:
            target = self._address(daddr) if daddr else self.target
            way = Way(ends[0][1], (ends[0][2], int(ends[0][3])), (ends[1][2], int(ends[1][3])))
            data = encode(way, self.rt.wall_time(), self.p.hep_capture_id, vmsg.encode("latin-1", "replace"), key=self.p.auth_key, correlation=corrid)
        except (ConfigError, ValueError) as err:
            self.rt.log.error("sip_trace_msg: %s", err)
            return -1
        return 1 if target is not None and self._emit(data, target) else -1

    def _log(self, correlation: str, text: str) -> int:
        listener = self._socket()
        if self.target is None or listener is None:
            self.rt.log.error("hlog: duplicate_uri is not set")
            return -1
        way = Way("udp", (listener.host, listener.port), self.target)
        data = encode(way, self.rt.wall_time(), self.p.hep_capture_id, text.encode("latin-1", "replace"), kind=LOG, key=self.p.auth_key, correlation=correlation)
        return 1 if self._emit(data, self.target) else -1

    @function(ANY, "hlog")
    def hlog_here(self, ctx: Ctx, message: str) -> int:
        """A log line for the capture server, beside the messages of the call."""
        return self._log(ctx.msg.call_id, message)

    @function(ANY)
    def hlog(self, ctx: Ctx, correlation_id: str, message: str) -> int:
        return self._log(correlation_id, message)

    # -- variables and RPC -----------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_siptrace(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _FIELDS else f"the name is one of {', '.join(_FIELDS)}"

    @pv_class("siptrace")
    def pv_siptrace(self, spec: PvSpec) -> BoundPv:
        """The way of the message, in event_route[siptrace:msg]."""
        name = spec.inner or ""

        def get(ctx: Ctx) -> Value:
            if self.current is None:
                return None
            way, direction = self.current
            if name == "direction":
                return direction
            host, port = way.source if name.startswith("src") else way.target
            what = name.partition("_")[2]
            if what == "addr":
                return way.source_text if name.startswith("src") else way.target_text
            return port if what == "port" else way.proto if what == "proto" else host

        return BoundPv(get)

    @rpc("siptrace.status", spread=Spread.EVERY, wrong="Not enough parameters (on, off or check)")
    def rpc_status(self, what: str) -> str:
        """Switch tracing on or off, or check."""
        if what not in ("on", "off", "check"):
            raise RpcFault(500, "Bad parameter (on, off or check)")
        if what != "check":
            self.on = what == "on"
        return "Enabled" if self.on else "Disabled"


module = Siptrace
