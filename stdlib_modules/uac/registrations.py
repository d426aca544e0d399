"""Registrations of the server at other servers: what they are, when they are sent, what the answers make of them.

A record is told apart by its ``l_uuid``, which is also the user of the Contact that is registered.
"""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, fields
from typing import Any, Final

from kamc.declare import Module
from kamc.errors import ConfigError, SipError
from kamc.runtime.db import DbError
from kamc.runtime.sip.addr import parse_addr_list
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.uac.auth import HEADERS, Credential, answer_to

#: flags of a record, as RPC shows them
DISABLED, ONGOING, ONLINE, AUTH_SENT, INIT = 1, 2, 4, 8, 16
_VERSION: Final = 5
#: seconds by which a registration is renewed early, beside the interval of the timer
_EARLY: Final = 3
_COLUMNS: Final = ("l_uuid", "l_username", "l_domain", "r_username", "r_domain", "realm", "auth_username", "auth_password", "auth_ha1", "auth_proxy", "expires",
                   "flags", "reg_delay", "contact_addr", "socket")  # fmt: skip


@dataclass(slots=True)
class Registration:
    """A row of the table and the state of its registration. Times are wall-clock seconds."""

    l_uuid: str
    l_username: str
    l_domain: str
    r_username: str
    r_domain: str
    realm: str
    auth_username: str
    auth_password: str
    auth_ha1: str
    auth_proxy: str
    expires: int
    flags: int = 0
    reg_delay: int = 0
    contact_addr: str = ""
    socket: str = ""
    added: float = 0.0
    #: seconds of reg_random_delay that it waits
    wait: int = 0
    timer_expires: float = 0.0
    call_id: str = ""
    tag: str = ""
    cseq: int = 9

    @property
    def credential(self) -> Credential:
        return Credential(self.auth_username, self.realm, self.auth_ha1 or self.auth_password, bool(self.auth_ha1))

    def as_row(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in _COLUMNS if name != "flags")


def make_registration(values: dict[str, Any]) -> Registration:
    """From a row or an RPC call; ``.`` stands for an empty text. Raises ValueError."""
    known = {f.name for f in fields(Registration)}
    texts = {k: "" if v is None or v == "." else v for k, v in values.items() if k in known}
    for name in ("expires", "flags", "reg_delay"):
        texts[name] = int(texts.get(name) or 0)
    record = Registration(**{k: v if isinstance(v, int) else str(v) for k, v in texts.items()})  # type: ignore[arg-type]
    if not record.l_uuid or not record.l_username or not record.r_username or not record.r_domain or not record.auth_proxy:
        raise ValueError(f"record {record.l_uuid!r}: l_uuid, l_username, r_username, r_domain and auth_proxy are needed")
    if not record.auth_password and not record.auth_ha1:
        raise ValueError(f"record {record.l_uuid!r} has neither auth_password nor auth_ha1")
    if record.auth_ha1 and len(record.auth_ha1) != 32:
        raise ValueError(f"record {record.l_uuid!r}: auth_ha1 has 32 characters")
    if parse_uri(record.auth_proxy) is None:
        raise ValueError(f"record {record.l_uuid!r}: auth_proxy {record.auth_proxy!r} is no URI")
    return record


class Registrar(Module):
    rt: Any
    p: Any

    def start_registrations(self) -> None:
        """Raises ConfigError."""
        p = self.p
        self.records: dict[str, Registration] = {}
        self.reg_active: bool = bool(p.reg_active)
        if not p.reg_db_url and not p.reg_contact_addr:
            return
        if not p.reg_contact_addr:
            raise ConfigError("uac: reg_db_url needs reg_contact_addr, the address to register")
        if p.reg_timer_interval <= 0:
            raise ConfigError("uac: reg_timer_interval is a number of seconds above 0")
        if p.reg_db_url:
            self.rt.database(p.reg_db_url).check_version(p.reg_db_table, _VERSION)
            try:
                self.load_registrations()
            except DbError as err:
                raise ConfigError(f"uac: cannot load {p.reg_db_table}: {err}") from None
        self.rt.every(float(p.reg_timer_interval), self.renew, once=True)

    def child_init(self) -> None:
        """Nobody waits for the first interval to be registered."""
        if self.rt.previous is None and self.rt.first and self.records:
            self.rt.timers.arm(self.rt.now(), lambda _: self.renew())

    def activate(self, previous: Any) -> None:
        """Registrations go on where they are the same; those that were added by command stay."""
        super().activate(previous)
        if previous is None or not previous.records or not self.p.reg_contact_addr:
            return
        for name, before in previous.records.items():
            fresh = self.records.get(name)
            if (fresh is None and not self.p.reg_db_url) or (fresh is not None and fresh.as_row() == before.as_row()):
                self.records[name] = before
        self.carry(previous, "reg_active", "reg_active")
        self.count_registrations()

    def load_registrations(self) -> None:
        """Read the table. Records that are as they were keep their state. Raises DbError."""
        rows = self.rt.database(self.p.reg_db_url).select(self.p.reg_db_table, _COLUMNS)
        found: dict[str, Registration] = {}
        for row in rows.rows:
            try:
                record = make_registration(dict(zip(rows.columns, row, strict=True)))
            except (ValueError, TypeError) as err:
                self.rt.log.error("uac: %s; it is left out", err)
                continue
            known = self.records.get(record.l_uuid)
            record.added = self.rt.wall_time()
            if self.p.reg_random_delay > 0 and not record.reg_delay:
                record.wait = random.randint(1, self.p.reg_random_delay)
            found[record.l_uuid] = known if known is not None and known.as_row() == record.as_row() else record
        self.records = found
        self.count_registrations()

    def share(self, record: Registration) -> None:
        """Tell the other workers how a registration stands: one of them renews it."""
        self.rt.tell_peers("uac", "follow", record.l_uuid, record.flags, record.timer_expires)

    def follow(self, uuid: str, flags: int, expires: float) -> None:
        record = self.records.get(uuid)
        if record is not None:
            record.flags, record.timer_expires = flags, expires
            self.count_registrations()

    def count_registrations(self) -> None:
        if not self.rt.first:
            return
        flags = [r.flags for r in self.records.values()]
        values = self.rt.counters.values
        values["uac", "regtotal"] = len(flags)
        values["uac", "regactive"] = sum(f & ONLINE != 0 for f in flags)
        values["uac", "regdisabled"] = sum(f & DISABLED != 0 for f in flags)

    # -- sending ---------------------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Send what is due."""
        now = self.rt.wall_time()
        if not self.reg_active:
            return
        for record in list(self.records.values()):
            if record.flags & (DISABLED | ONGOING) or record.added + (record.reg_delay or record.wait) > now:
                continue
            # a failure waits for its retry interval to the end, a registration is renewed before its own
            early = self.p.reg_timer_interval + _EARLY if record.flags & ONLINE else 0
            if not record.flags & INIT or record.timer_expires < now + early:
                self.register(record)

    def register(self, record: Registration, expires: int | None = None) -> None:
        record.flags = (record.flags | ONGOING | INIT) & ~AUTH_SENT
        if not (self.p.reg_keep_callid and record.call_id):
            record.call_id, record.tag, record.cseq = f"{secrets.token_hex(10)}@kamc", secrets.token_hex(8), 9
        record.timer_expires = self.rt.wall_time() + self.p.reg_timer_interval
        self.share(record)
        self._send_register(record, record.expires if expires is None else expires, "")

    def _send_register(self, record: Registration, expires: int, credentials: str) -> None:
        record.cseq += 1
        contact = record.contact_addr or self.p.reg_contact_addr
        address = f"<sip:{record.r_username}@{record.r_domain}>"
        headers = (f"To: {address}\r\nFrom: {address};tag={record.tag}\r\nCSeq: {record.cseq} REGISTER\r\nCall-ID: {record.call_id}\r\n"
                   f"Contact: <sip:{record.l_uuid}@{contact}>\r\nExpires: {expires}\r\n{credentials}")  # fmt: skip
        try:
            sent = self.rt.module("tm").send_request("REGISTER", f"sip:{record.r_domain}", nexthop=record.auth_proxy, headers=headers,
                                                     socket=record.socket or self.p.default_socket,
                                                     callback=lambda t, code, reply: self._answered(record, expires, code, reply))  # fmt: skip
        except SipError as err:
            self.rt.log.error("uac: registration %s: %s", record.l_uuid, err)
            sent = None
        if sent is None:
            self._failed(record, 0)

    def _answered(self, record: Registration, expires: int, code: int, reply: SipMessage | None) -> None:
        if code < 200:
            return
        if code in HEADERS and reply is not None and not record.flags & AUTH_SENT:
            credentials = answer_to(reply, [record.credential], "REGISTER", f"sip:{record.r_domain}", "")
            if credentials is not None:
                record.flags |= AUTH_SENT
                self._send_register(record, expires, credentials)
                return
        if 200 <= code < 300:
            self._registered(record, expires, reply)
            return
        minimum = (reply.value("min-expires") or "").strip() if code == 423 and reply is not None else ""
        if minimum.isdecimal() and int(minimum) > expires > 0:
            record.expires = int(minimum)
            self._send_register(record, record.expires, "")
            return
        self._failed(record, code)

    def _registered(self, record: Registration, expires: int, reply: SipMessage | None) -> None:
        granted = self._granted(record, expires, reply)
        record.flags &= ~(ONGOING | AUTH_SENT | ONLINE)
        if granted > 0:
            record.flags |= ONLINE
        record.timer_expires = self.rt.wall_time() + granted
        self.share(record)
        self.count_registrations()

    @staticmethod
    def _granted(record: Registration, expires: int, reply: SipMessage | None) -> int:
        """Seconds that the registrar gave to our contact."""
        if reply is None:
            return expires
        for header in reply.all("contact"):
            for address in parse_addr_list(header[2]) or []:
                uri = address.parsed
                value = address.param_map.get("expires") or ""
                if uri is not None and uri.user == record.l_uuid and value.isdecimal():
                    return int(value)
        whole = (reply.value("expires") or "").strip()
        return int(whole) if whole.isdecimal() else expires

    def _failed(self, record: Registration, code: int) -> None:
        self.rt.log.error("uac: registration %s at %s failed with %d", record.l_uuid, record.r_domain, code)
        record.flags &= ~(ONGOING | AUTH_SENT | ONLINE)
        if self.p.reg_retry_interval > 0:
            record.timer_expires = self.rt.wall_time() + self.p.reg_retry_interval
        else:
            record.flags |= DISABLED
        self.share(record)
        self.count_registrations()
