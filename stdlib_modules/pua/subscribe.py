"""SUBSCRIBE requests (RFC 6665): a dialog for each watcher of a presentity, refreshed before its time is over."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

from kamc.errors import SipError
from kamc.runtime.sip.addr import parse_addr_list
from kamc.runtime.sip.message import SipMessage
from stdlib_modules.pua.records import EVENTS, Record, Records, lifetime

#: seconds that a subscription is asked to last beyond what was wanted
_MARGIN: Final = 10
_FIRST: Final = 10
_NOT_SENT: Final = 477


@dataclass(frozen=True, slots=True)
class Wish:
    """``contact`` is where NOTIFYs go, by default the watcher's address. ``expires`` in seconds: -1 for ``default_expires``, 0 to end it."""

    uri: str
    watcher: str
    event: str
    flag: int
    id: str = ""
    expires: int = -1
    contact: str = ""
    extra_headers: str = ""
    proxy: str = ""


class Subscriber:
    rt: Any
    p: Any
    records: Records
    #: keys of subscriptions that wait for an answer
    asked: set[str]

    def subscribe(self, wish: Wish) -> bool:
        """Begin, refresh or end a subscription. False when there is nothing to end, or an answer is waited for. Raises ValueError for an unknown event."""
        if wish.event not in EVENTS:
            raise ValueError(f"unknown event {wish.event!r}")
        record = Record(wish.uri, wish.event, wish.flag, wish.id, watcher=wish.watcher)
        record = self.records.get(record.key) or record
        if record.key in self.asked or (not record.call_id and wish.expires == 0):
            return False
        seconds = lifetime(self.p, wish.expires)
        desired = self.rt.wall_time() + seconds if wish.expires > 0 else 0
        self._renew(replace(record, contact=wish.contact or record.contact or wish.watcher, extra_headers=wish.extra_headers or record.extra_headers,
                            proxy=wish.proxy or record.proxy, desired=desired), seconds)  # fmt: skip
        return True

    def _renew(self, record: Record, seconds: int) -> None:
        if not record.call_id:
            record = replace(record, call_id=self.rt.own_call_id(lambda: f"{secrets.token_hex(12)}@kamc"), from_tag=secrets.token_hex(8), cseq=_FIRST - 1)
        record = replace(record, cseq=record.cseq + 1)
        to_tag = f";tag={record.to_tag}" if record.to_tag else ""
        headers = (f"To: <{record.uri}>{to_tag}\r\nFrom: <{record.watcher}>;tag={record.from_tag}\r\nCSeq: {record.cseq} SUBSCRIBE\r\nCall-ID: {record.call_id}\r\n"
                   f"Max-Forwards: 70\r\nEvent: {record.event}\r\nContact: <{record.contact}>\r\nExpires: {seconds + _MARGIN if seconds else 0}\r\n"
                   f"{record.extra_headers}")  # fmt: skip
        routes = [a.uri for a in parse_addr_list(record.routes) or ()] if record.routes else []
        headers += "".join(f"Route: <{route}>\r\n" for route in routes)
        self.asked.add(record.key)
        self.rt.worker.waits.detached(self._ask, record, seconds, headers, routes[0] if routes else record.proxy)

    def _ask(self, record: Record, seconds: int, headers: str, nexthop: str) -> None:
        try:
            sent = self.rt.module("tm").send_request("SUBSCRIBE", record.remote_contact or record.uri, nexthop=nexthop, headers=headers,
                                                     callback=lambda t, code, reply: self._told(record, seconds, code, reply))  # fmt: skip
        except SipError as err:
            self.rt.log.error("pua: SUBSCRIBE to %s: %s", record.uri, err)
            sent = None
        if sent is None:
            self._told(record, seconds, _NOT_SENT, None)

    def _told(self, record: Record, seconds: int, code: int, reply: SipMessage | None) -> None:
        if code < 200:
            return
        self.asked.discard(record.key)
        text = (reply.value("expires") or "").strip() if reply is not None else ""
        granted = int(text) if text.isdecimal() else 0
        if code >= 300 or reply is None or not seconds or not granted:
            self.records.delete(record)
            if code >= 300:
                self.rt.log.error("pua: SUBSCRIBE to %s was answered %d", record.uri, code)
            return
        contact = reply.address("contact")
        routes = record.routes
        if not record.to_tag:
            found = [a.uri for header in reply.all("record-route") for a in parse_addr_list(header[2]) or ()]
            routes = ", ".join(f"<{uri}>" for uri in reversed(found))
        self.records.put(replace(record, to_tag=reply.to_tag, expires=self.rt.wall_time() + granted, routes=routes, version=record.version + 1,
                                 remote_contact=contact.uri if contact is not None else record.remote_contact))  # fmt: skip

    def refresh_subscription(self, record: Record, now: float) -> None:
        """Its time is nearly over."""
        if record.key not in self.asked:
            self._renew(record, round(record.desired - now) if record.desired else self.p.default_expires)

    def move_contact(self, msg: SipMessage) -> bool:
        """A request of the other side says where it is now. False when it belongs to no subscription of this server."""
        contact = msg.address("contact")
        record = self.records.find(lambda r: r.call_id == msg.call_id and r.from_tag == msg.to_tag and r.to_tag == msg.from_tag) if msg.to_tag else None
        if record is None or contact is None:
            return False
        if record.remote_contact != contact.uri:
            self.records.put(replace(record, remote_contact=contact.uri))
        return True
