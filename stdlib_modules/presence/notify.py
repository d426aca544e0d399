"""NOTIFY requests: what a watcher is told, and what becomes of its subscription with the answer (RFC 6665 section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from kamc.declare import Routes
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.db import DbError
from kamc.runtime.markup import with_version
from kamc.runtime.net.endpoint import Flow
from kamc.runtime.sip.addr import parse_addr_list
from stdlib_modules.presence.packages import ACTIVE, STATE_NAMES, TERMINATED, Package
from stdlib_modules.presence.records import Records
from stdlib_modules.presence.rows import Subscription
from stdlib_modules.presence.winfo import watcherinfo

#: a watcher that answers so has no such subscription any more
_GONE: Final = frozenset({404, 410, 481, 489, 501, 604})
_NO_ANSWER: Final = 408
POLITE: Final = "polite-block"


class Notifier:
    rt: Any
    p: Any
    records: Records
    packages: dict[str, Package]

    def state_of(self, s: Subscription) -> str:
        if s.status == TERMINATED:
            return f"terminated;reason={s.reason or 'timeout'}"
        return f"{STATE_NAMES[s.status]};expires={max(0, round(s.expires - self.rt.wall_time()))}"

    def document_for(self, s: Subscription, gone: str | None = None) -> str:
        """What a watcher may see. ``gone`` is a document that has just been taken back."""
        package = self.packages[s.event]
        if s.status not in (ACTIVE, TERMINATED) or s.reason == "rejected":
            return ""
        if s.reason == POLITE:
            return package.politely()
        return package.combine([d.body for d in self.records.published(s.uri, s.event)], gone) or package.nothing(s.uri)

    def notify(self, s: Subscription, body: str | None = None, *, gone: str | None = None) -> None:
        """Tell a watcher. Of a subscription that is over this is the last word."""
        package = self.packages[s.event]
        winfo = package.is_winfo
        new = self.records.change(s, lambda now: replace(now, local_cseq=now.local_cseq + 1, version=now.version + 1)) if s.status != TERMINATED else None
        if new is None:
            s = replace(s, local_cseq=s.local_cseq + 1, version=s.version + 1)
        else:
            s = replace(s, local_cseq=new.local_cseq, version=new.version)
        if body is None:
            body = self.watchers_of(s) if winfo else self.document_for(s, gone)
            if package.numbered:
                body = with_version(body, s.version)
        headers = (f"To: <sip:{s.from_user}@{s.from_domain}>;tag={s.from_tag}\r\nFrom: <sip:{s.to_user}@{s.to_domain}>;tag={s.to_tag}\r\n"
                   f"CSeq: {s.local_cseq} NOTIFY\r\nCall-ID: {s.call_id}\r\nMax-Forwards: 70\r\nEvent: {s.event}{';id=' + s.event_id if s.event_id else ''}\r\n"
                   f"Contact: <{s.local_contact}>\r\nSubscription-State: {self.state_of(s)}\r\n")  # fmt: skip
        if body:
            headers += f"Content-Type: {package.content_type}\r\n"
        routes = [a.uri for a in parse_addr_list(s.routes) or ()] if s.routes else []
        headers += "".join(f"Route: <{route}>\r\n" for route in routes)
        try:
            sent = self.rt.module("tm").send_request("NOTIFY", s.contact, nexthop=routes[0] if routes else "", listener=self.rt.worker.find_socket(s.socket),
                                                     headers=headers, body=body, callback=lambda t, code, reply: self._heard(s, code, reply))  # fmt: skip
        except SipError as err:
            self.rt.log.error("presence: NOTIFY for %s: %s", s.watcher, err)
            sent = None
        if sent is None:
            self.rt.log.error("presence: NOTIFY to %s cannot be sent", s.contact)

    def _heard(self, s: Subscription, code: int, reply: Any) -> None:
        if code >= 200:
            # the database may have to be asked
            self.rt.worker.waits.detached(self._answered, s, code, reply)

    def _answered(self, s: Subscription, code: int, reply: Any) -> None:
        if reply is not None and self.rt.has_event("presence:notify-reply"):
            ctx = Ctx(self.rt, reply, Flow(self.rt.worker.listeners[0], "127.0.0.1", 0), Routes.EVENT)
            ctx.remember("presence subscription", s)
            self.rt.worker.run_event("presence:notify-reply", ctx)
        over = code in _GONE or (code == _NO_ANSWER and self.p.timeout_rm_subs)
        try:
            if over and s.status != TERMINATED and self.records.in_dialog(s.call_id, s.to_tag, s.from_tag) is not None:
                self.rt.log.info("presence: %s has answered %d: its subscription is over", s.watcher, code)
                self.records.change(s, lambda now: None)
                self.tell_of_watcher(replace(s, status=TERMINATED))
        except DbError as err:
            self.rt.log.error("presence: %s", err)

    # -- many ------------------------------------------------------------------------------------------------------------

    def notify_all(self, uri: str, event: str, *, gone: str | None = None) -> int:
        """Tell all watchers of a presentity. How many."""
        watching = self.records.watching(uri, event)
        for s in watching:
            if s.status == ACTIVE:
                self.notify(s, gone=gone)
        return len(watching)

    # -- watchers of watchers --------------------------------------------------------------------------------------------

    def watchers_of(self, s: Subscription, about: Iterable[Subscription] | None = None) -> str:
        """A document for a subscription to winfo."""
        watched = self.packages[s.event].watched
        rows = self.records.watching(s.uri, watched) if about is None else list(about)
        return watcherinfo(s.uri, watched, s.version, rows, full=about is None)

    def tell_of_watcher(self, changed: Subscription) -> None:
        """Somebody begins or ends to watch, or may now: who watches the watchers hears of it."""
        winfo = f"{changed.event}.winfo"
        if winfo not in self.packages:
            return
        for s in self.records.watching(changed.uri, winfo):
            if s.status != ACTIVE:
                continue
            about = None if changed.status == TERMINATED else [changed]
            self.notify(s, self.watchers_of(replace(s, version=s.version + 1), about))
