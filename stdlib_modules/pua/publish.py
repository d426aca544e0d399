"""PUBLISH requests (RFC 3903): one publication after the other for each record, refreshed before its time is over, published anew when the other side
does not know it any more."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from kamc.errors import SipError
from kamc.runtime.markup import with_version
from kamc.runtime.sip.message import SipMessage
from stdlib_modules.pua import bodies
from stdlib_modules.pua.records import EVENTS, Record, Records, lifetime

#: seconds that a publication is asked to last beyond what was wanted, and one after a 412 more than that
_MARGIN: Final = 1
_MORE: Final = 3
_UNKNOWN: Final = 412
_NOT_SENT: Final = 477
#: what waits for the answer to an earlier one
_MOST_QUEUED: Final = 100

#: status, ETag and seconds of an answer; 0 when there was none
Answered = Callable[[int, str, int], None]


class PublishError(ValueError):
    """A publication that cannot be sent."""


class ETagError(PublishError):
    """There is no publication with this ETag."""


@dataclass(frozen=True, slots=True)
class Publication:
    """``expires`` in seconds, -1 for ``default_expires``. A body that is ``once`` is sent only with the first one. ``etag`` names one of several."""

    uri: str
    event: str
    flag: int
    id: str = ""
    expires: int = -1
    body: str | None = None
    content_type: str = ""
    extra_headers: str = ""
    proxy: str = ""
    etag: str = ""
    once: bool = False
    #: the other side did not know the one before
    again: bool = False
    answered: Answered | None = None


class Publisher:
    rt: Any
    p: Any
    records: Records
    #: key of a record → what is to be sent after the answer that it waits for
    waiting: dict[str, deque[Publication]]

    def publish(self, what: Publication) -> bool:
        """Send a publication, or keep it until the one before it was answered. False when there is nothing to take back. Raises PublishError."""
        if what.event not in EVENTS:
            raise PublishError(f"unknown event {what.event!r}")
        record = self._record_of(what)
        key = record.key
        queue = self.waiting.get(key)
        if queue is not None:
            if len(queue) >= _MOST_QUEUED:
                raise PublishError(f"{_MOST_QUEUED} publications of {what.uri} wait for an answer")
            queue.append(what)
            return True
        known = bool(record.etag)
        if not known and what.expires == 0:
            return False
        if known and what.once:
            what = replace(what, body=None)
        if not known and what.body is None:
            raise PublishError("a publication that is not known needs a body")
        self._send(record, what)
        return True

    def _record_of(self, what: Publication) -> Record:
        """The one that it changes, or a new one. Raises ETagError."""
        record = Record(what.uri, what.event, what.flag, what.id)
        if what.etag:
            found = self.records.find(lambda r: r.etag == what.etag and r.uri == what.uri and r.event == what.event and r.flag == what.flag)
            if found is None:
                raise ETagError("Wrong ETag")
            return found
        return self.records.get(record.key) or record

    def _prepared(self, record: Record, what: Publication) -> tuple[str, Record]:
        """The body to send, and the record with what it takes from it. Raises PublishError."""
        if what.body is None or (what.expires == 0 and what.event == "presence"):
            return "", record
        try:
            if what.event == "presence":
                body, tuple_id = bodies.presence(what.body, record.tuple_id or f"0x{secrets.token_hex(6)}")
                return body, replace(record, tuple_id=tuple_id)
        except ValueError as err:
            raise PublishError(f"the document for {what.uri}: {err}") from None
        if (what.event == "dialog" and self.p.dlginfo_increase_version) or (what.event == "reg" and self.p.reginfo_increase_version):
            return with_version(what.body, record.version), record
        return what.body, record

    def _send(self, record: Record, what: Publication) -> None:
        body, record = self._prepared(record, what)
        seconds = lifetime(self.p, what.expires)
        wall = self.rt.wall_time()
        record = replace(record, desired=wall + seconds if what.expires > 0 else 0, extra_headers=what.extra_headers or record.extra_headers,
                         proxy=what.proxy or record.proxy, version=record.version + 1)  # fmt: skip
        headers = f"To: <{record.uri}>\r\nFrom: <{record.uri}>;tag={secrets.token_hex(8)}\r\nMax-Forwards: 70\r\nEvent: {record.event}\r\n"
        headers += f"Expires: {seconds + _MARGIN if seconds else 0}\r\n"
        if record.etag:
            headers += f"SIP-If-Match: {record.etag}\r\n"
        if body:
            headers += f"Content-Type: {what.content_type}\r\n"
        headers += record.extra_headers
        self.waiting[record.key] = deque()
        # a name may have to be looked up: whoever publishes does not wait for that
        self.rt.worker.waits.detached(self._transmit, record, what, headers, body)

    def _transmit(self, record: Record, what: Publication, headers: str, body: str) -> None:
        try:
            sent = self.rt.module("tm").send_request("PUBLISH", record.uri, nexthop=record.proxy or self.p.outbound_proxy, headers=headers, body=body,
                                                     callback=lambda t, code, reply: self._answered(record, what, code, reply))  # fmt: skip
        except SipError as err:
            self.rt.log.error("pua: PUBLISH for %s: %s", record.uri, err)
            sent = None
        if sent is None:
            self.rt.log.error("pua: PUBLISH for %s cannot be sent", record.uri)
            self._answered(record, what, _NOT_SENT, None)

    def _answered(self, record: Record, what: Publication, code: int, reply: SipMessage | None) -> None:
        if code < 200:
            return
        etag = (reply.value("sip-etag") or "").strip() if reply is not None else ""
        seconds = (reply.value("expires") or "").strip() if reply is not None else ""
        granted = int(seconds) if seconds.isdecimal() else 0
        try:
            if code < 300 and etag and granted:
                self.records.put(replace(record, etag=etag, expires=self.rt.wall_time() + granted))
            else:
                self._refused(record, what, code)
        finally:
            self._go_on(record.key)
        if what.answered is not None:
            what.answered(code, etag, granted)

    def _refused(self, record: Record, what: Publication, code: int) -> None:
        """It is over; a publication that the other side has forgotten begins anew, when there is something to say."""
        self.records.delete(record)
        if code >= 300 or what.expires:
            self.rt.log.info("pua: PUBLISH for %s was answered %d", record.uri, code)
        if code == _UNKNOWN and what.body is not None and what.expires and not what.etag and not what.again:
            left = round(record.desired - self.rt.wall_time()) + _MORE if record.desired else -1
            self.waiting.setdefault(record.key, deque()).appendleft(replace(what, expires=left, again=True))

    def _go_on(self, key: str) -> None:
        """Send what has waited."""
        queue = self.waiting.pop(key, None)
        while queue:
            what = queue.popleft()
            try:
                self.publish(what)
            except PublishError as err:
                self.rt.log.error("pua: %s", err)
                continue
            if key in self.waiting:
                self.waiting[key].extend(queue)
                return

    def refresh_publication(self, record: Record, now: float) -> None:
        """Its time is nearly over."""
        if record.key in self.waiting:
            return
        left = round(record.desired - now) if record.desired else -1
        try:
            self._send(record, Publication(record.uri, record.event, record.flag, record.id, left))
        except PublishError as err:
            self.rt.log.error("pua: %s", err)
