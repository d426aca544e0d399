"""PUBLISH (RFC 3903)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from kamc.declare import Routes, function
from kamc.declare.values import parse_int, to_int
from kamc.runtime.context import Ctx
from kamc.runtime.db import DbError
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.presence.notify import Notifier
from stdlib_modules.presence.packages import BodyError, Package, event_of
from stdlib_modules.presence.rows import Document

_REJECT: Final = 1


def aor(text: str) -> str | None:
    """``sip:user@domain`` of a URI, None for a text that is none."""
    uri = parse_uri(text)
    if uri is None or not uri.host:
        return None
    return f"sip:{uri.user}@{uri.host}" if uri.user else f"sip:{uri.host}"


class AnsweredError(Exception):
    """The request has its answer."""


class Publications(Notifier):
    serial = 0
    started = 0

    # -- what both methods need ------------------------------------------------------------------------------------------

    def answer(self, ctx: Ctx, code: int, reason: str, *headers: str) -> None:
        ctx.reply_headers = [*(ctx.reply_headers or ()), *(f"{header}\r\n" for header in headers)]
        self.rt.module("sl").send_reply(ctx, code, reason)

    def refuse(self, ctx: Ctx, code: int, reason: str, *headers: str) -> AnsweredError:
        self.answer(ctx, code, reason, *headers)
        return AnsweredError()

    def package_of(self, ctx: Ctx) -> tuple[Package, str]:
        """Raises AnsweredError for an event that nobody here knows (RFC 6665 section 4.2.1)."""
        header = ctx.msg.first.get("event")
        name, ident = event_of(header[2]) if header is not None else ("", "")
        found = self.packages.get(name)
        if found is None:
            raise self.refuse(ctx, 489, "Bad Event", f"Allow-Events: {', '.join(reversed(self.packages))}")
        return found, ident

    def expires_of(self, ctx: Ctx, package: Package) -> int:
        """Seconds. Raises AnsweredError for too few of them."""
        header = ctx.msg.first.get("expires")
        wanted = package.expires if header is None else max(0, parse_int(header[2].strip()) or 0)
        if self.p.max_expires and wanted > self.p.max_expires:
            return int(self.p.max_expires)
        if 0 < wanted < self.p.min_expires:
            if self.p.min_expires_action == _REJECT:
                raise self.refuse(ctx, 423, "Interval Too Brief", f"Min-Expires: {self.p.min_expires}")
            return int(self.p.min_expires)
        return wanted

    # -- PUBLISH ---------------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST, waits=True)
    def handle_publish(self, ctx: Ctx, sender_uri: str = "") -> int:
        """Take a publication and answer it; whoever watches the R-URI is told. -1 when it was refused."""
        return self.answered(ctx, lambda: self._publish(ctx, sender_uri))

    def answered(self, ctx: Ctx, work: Callable[[], None]) -> int:
        """1, -1 when the work has refused the request; 500 and -1 when the database does not do its part."""
        try:
            work()
        except AnsweredError:
            return -1
        except DbError as err:
            self.rt.log.error("presence: %s", err)
            self.answer(ctx, 500, "Server Internal Error")
            return -1
        return 1

    def _publish(self, ctx: Ctx, sender: str) -> None:
        package, _ = self.package_of(ctx)
        expires = self.expires_of(ctx, package)
        uri = aor(ctx.ruri)
        if uri is None:
            raise self.refuse(ctx, 400, "Invalid request")
        header = ctx.msg.first.get("sip-if-match")
        etag, body = header[2].strip() if header is not None else "", ctx.msg.body
        if not etag and not body:
            self.rt.log.error("presence: a PUBLISH with neither SIP-If-Match nor a body")
            raise self.refuse(ctx, 400, "Invalid request")
        if body:
            try:
                package.check(body)
            except BodyError as err:
                self.rt.log.error("presence: PUBLISH for %s: %s", uri, err)
                raise self.refuse(ctx, err.code, err.reason) from None
        known = next((d for d in self.records.published(uri, package.name) if d.etag == etag), None) if etag else None
        if etag and known is None:
            # as with Kamailio this is no failure of the function
            self.answer(ctx, 412, "Conditional request failed")
            return
        new = self._document(ctx, expires, body or (known.body if known is not None else ""), sender, known)
        self.records.change_documents(uri, package.name, lambda found: self._changed(found, etag, new if expires else None))
        self.answer(ctx, 200, "OK", f"Expires: {max(0, expires - self.p.expires_offset) if expires else 0}", f"SIP-ETag: {new.etag}")
        if known is not None or expires:
            self.notify_all(uri, package.name, gone=None if expires else new.body)

    def _document(self, ctx: Ctx, expires: int, body: str, sender: str, known: Document | None) -> Document:
        now = self.rt.wall_time()
        self.serial += 1
        ruid = known.ruid if known is not None else f"pres-{int(now):x}-{os.getpid():x}-{self.serial:x}"
        priority = known.priority if known is not None else 0
        if self.p.xavp_cfg:
            fields: Any = ctx.xavps.get("xavp", {}).get(self.p.xavp_cfg)
            held = fields[0].get("priority") if fields and isinstance(fields[0], dict) else None
            priority = to_int(held[0]) if held else priority
        etag = f"a.{self.started}.{os.getpid()}.{self.serial}.{self.rt.worker.index}"
        return Document(etag, now + expires, now, body, sender, priority, ruid)

    @staticmethod
    def _changed(found: list[Document], etag: str, new: Document | None) -> list[Document]:
        kept = [d for d in found if d.etag != etag] if etag else found
        return [new, *kept] if new is not None else kept
