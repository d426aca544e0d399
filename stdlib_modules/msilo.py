"""Module msilo: messages for who is not there, stored and sent when they register. https://www.kamailio.org/docs/modules/stable/modules/msilo.html

Table ``silo``. A message that has been taken by its owner is deleted; one that is not answered stays, until its time is over. Reminders have a time at which they
are sent (``snd_time_avp``).
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from typing import Any, Final

from kamc.declare import Module, Routes, function
from kamc.declare.pvspec import parse_pv
from kamc.declare.values import Value, parse_int, to_str
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Cell, DbError
from kamc.runtime.sip.uri import parse_uri

_VERSION: Final = 8
_TEXT: Final = "text/plain"
_STATS: Final = ("stored_messages", "dumped_messages", "failed_messages", "dumped_reminders", "failed_reminders")
_SEND_TIME_FORM: Final = "%Y%m%d%H%M%S"


def _owner(uri: str) -> tuple[str, str] | None:
    parsed = parse_uri(uri)
    return (parsed.user, parsed.host) if parsed is not None and parsed.user and parsed.host else None


class Msilo(Module):
    name = "msilo"
    depends = ("tm",)
    stats = {"msilo": _STATS}
    tuning_params = ("use_mode",)

    class Params:
        db_url: str = "mysql://kamailio:kamailiorw@localhost/kamailio"
        db_table: str = "silo"
        from_address: str = ""
        contact_hdr: str = ""
        extra_hdrs: str = ""
        content_type_hdr: str = ""
        offline_message: str = ""
        reminder: str = ""
        outbound_proxy: str = ""
        expire_time: int = 259200
        check_time: int = 60
        send_time: int = 0
        clean_period: int = 10
        use_contact: int = 1
        sc_mid: str = "id"
        sc_from: str = "src_addr"
        sc_to: str = "dst_addr"
        sc_uri_user: str = "username"
        sc_uri_host: str = "domain"
        sc_body: str = "body"
        sc_ctype: str = "ctype"
        sc_exp_time: str = "exp_time"
        sc_inc_time: str = "inc_time"
        sc_snd_time: str = "snd_time"
        sc_stored_hdrs: str = "extra_hdrs"
        sc_callid: str = "callid"
        sc_status: str = "status"
        snd_time_avp: str = ""
        extra_hdrs_avp: str = ""
        add_date: int = 1
        max_messages: int = 0
        add_contact: int = 0
        skip_notification_flag: int = -1

    def mod_init(self) -> None:
        p = self.p
        if not p.db_url:
            raise ConfigError("msilo: db_url is empty")
        if p.expire_time < 0 or p.check_time <= 0:
            raise ConfigError("msilo: expire_time and check_time are numbers of seconds")
        self.db = self.rt.database(p.db_url)
        self.db.check_version(p.db_table, _VERSION)
        self._format = {name: self.rt.format(getattr(p, name)) for name in ("from_address", "contact_hdr", "content_type_hdr", "offline_message", "extra_hdrs")}
        self._send_at, self._extra = self._variable("snd_time_avp"), self._variable("extra_hdrs_avp")
        #: rows that are on their way
        self.sending: set[int] = set()
        if p.clean_period > 0:
            self.rt.every(float(p.clean_period), lambda: self.rt.worker.waits.detached(self.clean), once=True)
        if p.send_time > 0 or p.reminder:
            self.rt.every(float(p.send_time or p.check_time), lambda: self.rt.worker.waits.detached(self.remind), once=True)

    def _variable(self, param: str) -> Callable[[Ctx], Value] | None:
        text = str(getattr(self.p, param))
        if not text:
            return None
        if parse_pv(text).name != "avp":
            raise ConfigError(f"msilo: {param} {text!r} is no AVP")
        found: Callable[[Ctx], Value] = self.rt.pv(text)
        return found

    # -- storing ---------------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST | Routes.FAILURE, waits=True)
    def m_store(self, ctx: Ctx, owner: str = "") -> int:
        """Store the MESSAGE in hand for the owner, by default the user of the R-URI. -1 without a body, or when it cannot be stored."""
        sender, target = ctx.msg.address("from"), ctx.msg.address("to")
        if sender is None or target is None:
            return -1
        return self._store(ctx, owner or ctx.ruri, sender.uri, target.uri)

    @function(Routes.REQUEST | Routes.FAILURE, waits=True)
    def m_store_addrs(self, ctx: Ctx, owner: str, srcaddr: str, dstaddr: str) -> int:
        """The same with other addresses of who sent it and for whom it was."""
        return self._store(ctx, owner or ctx.ruri, srcaddr, dstaddr)

    def _store(self, ctx: Ctx, owner: str, source: str, target: str) -> int:
        p, msg = self.p, ctx.msg
        if not msg.body:
            self.rt.log.error("msilo: the message has no body")
            return -1
        who = _owner(owner)
        if who is None:
            self.rt.log.error("msilo: %r names no user", owner)
            return -1
        now = int(self.rt.wall_time())
        header, kind = msg.first.get("expires"), msg.first.get("content-type")
        lifetime = parse_int(header[2].strip()) if header is not None else None
        row: dict[str, Cell] = {
            p.sc_from: source, p.sc_to: target, p.sc_uri_user: who[0], p.sc_uri_host: who[1], p.sc_body: msg.body,
            p.sc_ctype: kind[2].strip() if kind is not None else _TEXT, p.sc_exp_time: now + (lifetime if lifetime is not None else p.expire_time), p.sc_inc_time: now,
            p.sc_snd_time: self._reminder_time(ctx), p.sc_stored_hdrs: to_str(self._extra(ctx) or "") if self._extra is not None else "",
            p.sc_callid: "", p.sc_status: 0,
        }  # fmt: skip
        try:
            if p.max_messages > 0 and self._count(who) >= p.max_messages:
                self.rt.log.error("msilo: %s@%s has %d messages already", *who, p.max_messages)
                return -1
            self.db.insert(p.db_table, row)
        except DbError as err:
            self.rt.log.error("msilo: a message for %s@%s is not stored: %s", *who, err)
            return -1
        self.rt.counters.add("msilo", "stored_messages")
        self._tell_sender(ctx, source)
        return 1

    def _count(self, who: tuple[str, str]) -> int:
        p = self.p
        return len(self.db.select(p.db_table, (p.sc_mid,), ((p.sc_uri_user, "=", who[0]), (p.sc_uri_host, "=", who[1]))).rows)

    def _reminder_time(self, ctx: Ctx) -> int:
        """``YYYYMMDDHHMMSS`` of the AVP as seconds; 0 for a message that waits for its owner."""
        value = self._send_at(ctx) if self._send_at is not None else None
        if value is None:
            return 0
        try:
            return int(time.mktime(time.strptime(to_str(value), _SEND_TIME_FORM)))
        except (ValueError, OverflowError):
            self.rt.log.error("msilo: %r is no time YYYYMMDDHHMMSS", to_str(value))
            return 0

    def _tell_sender(self, ctx: Ctx, source: str) -> None:
        """That the message has been stored, where the configuration has a text for it."""
        p = self.p
        if not (p.from_address and p.offline_message) or (p.skip_notification_flag >= 0 and ctx.flags >> p.skip_notification_flag & 1):
            return
        contact = ctx.msg.address("contact")
        if p.use_contact and contact is None:
            return
        uri = contact.uri if p.use_contact and contact is not None else source
        text = {name: make(ctx) for name, make in self._format.items()}
        headers = f"To: <{source}>\r\nFrom: <{text['from_address']}>\r\n{text['contact_hdr']}{text['content_type_hdr'] or f'Content-Type: {_TEXT}{chr(13)}{chr(10)}'}"
        self._send(uri, headers, text["offline_message"], None)

    # -- sending ---------------------------------------------------------------------------------------------------------

    def _send(self, uri: str, headers: str, body: str, callback: Any) -> bool:
        try:
            return self.rt.module("tm").send_request("MESSAGE", uri, nexthop=self.p.outbound_proxy, headers=headers, body=body, callback=callback) is not None
        except SipError as err:
            self.rt.log.error("msilo: MESSAGE to %s: %s", uri, err)
            return False

    @function(Routes.REQUEST, waits=True)
    def m_dump(self, ctx: Ctx, owner: str = "") -> int:
        """Send what is stored for the owner, by default the user of To. -1 for a REGISTER that takes contacts away, and when the database does not answer."""
        target = ctx.msg.address("to")
        uri = owner or (target.uri if target is not None else "")
        who = _owner(uri)
        if who is None:
            self.rt.log.error("msilo: %r names no user", uri)
            return -1
        if ctx.msg.method == "REGISTER" and self._goes(ctx):
            return -1
        p = self.p
        rows = self._rows(((p.sc_uri_user, "=", who[0]), (p.sc_uri_host, "=", who[1]), (p.sc_snd_time, "=", 0)))
        if rows is None:
            return -1
        for row in rows:
            self._deliver(row, f"sip:{who[0]}@{who[1]}", "messages")
        return 1

    @staticmethod
    def _goes(ctx: Ctx) -> bool:
        contact, expires = ctx.msg.first.get("contact"), ctx.msg.first.get("expires")
        if contact is None:
            return True
        if contact[2].strip() == "*":
            return True
        address = ctx.msg.address("contact")
        own = address.param("expires") if address is not None else None
        value = own if own is not None else expires[2].strip() if expires is not None else None
        return value is not None and parse_int(value) == 0

    def _rows(self, where: tuple[tuple[str, str, Cell], ...]) -> list[tuple[Any, ...]] | None:
        p = self.p
        columns = (p.sc_mid, p.sc_from, p.sc_to, p.sc_uri_user, p.sc_uri_host, p.sc_body, p.sc_ctype, p.sc_inc_time, p.sc_stored_hdrs)
        try:
            return list(self.db.select(p.db_table, columns, where, order=p.sc_mid).rows)
        except DbError as err:
            self.rt.log.error("msilo: %s", err)
            return None

    def _deliver(self, row: tuple[Any, ...], uri: str, kind: str) -> None:
        number, source, _, _, _, raw, ctype, stored, extra = row
        if number in self.sending:
            return
        p = self.p
        body, more = (cell.decode("latin-1") if isinstance(cell, bytes) else str(cell or "") for cell in (raw, extra))
        sender = p.reminder if kind == "reminders" and p.reminder else source
        headers = f"To: <{uri}>\r\nFrom: <{sender}>\r\n"
        if p.add_date:
            headers += f"Date: {email.utils.formatdate(float(stored), usegmt=True)}\r\n"
            if str(ctype).partition(";")[0].strip() == _TEXT:
                title = "Reminder" if kind == "reminders" else "Offline"
                body = f"[{title} message - {time.ctime(float(stored))}] {body}"
        headers += f"Content-Type: {ctype or _TEXT}\r\n{self.p.extra_hdrs}{more}"
        if p.add_contact:
            headers += f"Contact: <{source}>\r\n"
        self.sending.add(number)
        if not self._send(uri, headers, body, lambda t, code, reply: self._answered(number, code, kind)):
            self.sending.discard(number)
            self.rt.counters.add("msilo", f"failed_{kind}")

    def _answered(self, number: int, code: int, kind: str) -> None:
        if code < 200:
            return
        self.sending.discard(number)
        if code >= 300:
            self.rt.counters.add("msilo", f"failed_{kind}")
            return
        self.rt.counters.add("msilo", f"dumped_{kind}")
        self.db.post_delete(self.p.db_table, ((self.p.sc_mid, "=", number),), lambda err: self.rt.log.error("msilo: %s", err))

    # -- time ------------------------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Forget what is over its time."""
        self.db.post_delete(self.p.db_table, ((self.p.sc_exp_time, "<", int(self.rt.wall_time())),), lambda err: self.rt.log.error("msilo: %s", err))

    def remind(self) -> None:
        """Send the reminders whose time has come."""
        p = self.p
        rows = self._rows(((p.sc_snd_time, "!=", 0), (p.sc_snd_time, "<=", int(self.rt.wall_time()))))
        for row in rows or ():
            self._deliver(row, f"sip:{row[3]}@{row[4]}", "reminders")


module = Msilo
