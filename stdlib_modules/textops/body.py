"""Bodies: set, filter, multipart (RFC 2046 section 5.1)."""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, Routes, function
from kamc.declare.argtypes import Lit, PvArg
from kamc.runtime.context import Ctx
from kamc.runtime.sip.multipart import boundary_of, mime_type, parts_of
from stdlib_modules.textops.headers import end_of_headers

_RFB = Routes.REQUEST | Routes.FAILURE | Routes.BRANCH
_FROB = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH
_BOUNDARY = "unique-boundary-1"


class BodyFunctions:
    rt: Any

    def _set(self, ctx: Ctx, body: str, content_type: str | None) -> int:
        """Exchange the whole body and, with a type, the Content-Type."""
        msg = ctx.msg
        ctx.edits = [e for e in ctx.edits if not (e[0] >= msg.body_start and (e[1] > msg.body_start or e[2]))]
        ctx.add_edit(msg.body_start, len(msg.text), body)
        if content_type is not None:
            found = msg.all("content-type")
            ctx.edits = [e for e in ctx.edits if not e[2].lower().startswith("content-type:")]
            if found:
                ctx.add_edit(found[0][3], found[0][4], f"{found[0][1]}: {content_type}\r\n")
            else:
                at = end_of_headers(msg)
                ctx.add_edit(at, at, f"Content-Type: {content_type}\r\n")
        if not body and not msg.body:
            ctx.edits.pop(next(i for i, e in enumerate(ctx.edits) if e[:2] == (msg.body_start, len(msg.text))))
        return 1

    @function(_FROB)
    def set_body(self, ctx: Ctx, txt: str, content_type: str) -> int:
        if not txt:
            return -1
        return self._set(ctx, txt, content_type)

    @function(ANY)
    def set_body_hex(self, ctx: Ctx, htxt: str, content_type: str) -> int:
        try:
            return self._set(ctx, bytes.fromhex(htxt).decode("latin-1"), content_type)
        except ValueError:
            return -1

    @function(_RFB)
    def set_reply_body(self, ctx: Ctx, txt: str, content_type: str) -> int:
        """Body of replies that this server makes."""
        if not txt:
            return -1
        ctx.reply_body = (txt, content_type)
        return 1

    @function(_RFB)
    def set_reply_body_hex(self, ctx: Ctx, htxt: str, content_type: str) -> int:
        try:
            ctx.reply_body = (bytes.fromhex(htxt).decode("latin-1"), content_type)
        except ValueError:
            return -1
        return 1

    @function(ANY)
    def filter_body(self, ctx: Ctx, content_type: Lit) -> int:
        """Keep only the part of that type; -1 when there is none."""
        msg = ctx.msg
        wanted = content_type.strip().lower()
        boundary = boundary_of(msg)
        if boundary is None:
            return 1 if mime_type(msg.value("content-type")) == wanted and msg.body else -1
        for part in parts_of(msg.body, boundary):
            if part.type == wanted:
                return self._set(ctx, part.content, content_type)
        return -1

    @function(ANY)
    def has_body(self, ctx: Ctx, mime: Lit = "") -> int:
        """Whether there is a body (of that type): judged by Content-Length and Content-Type."""
        msg = ctx.msg
        length = msg.content_length
        if (length if length is not None else len(msg.body)) <= 0 or not msg.body:
            return -1
        if not mime:
            return 1
        return 1 if mime_type(msg.value("content-type")) == mime.strip().lower() else -1

    # -- multipart -------------------------------------------------------------------------------------------------------

    def _current(self, ctx: Ctx) -> tuple[str, str]:
        """Boundary and parts text of the multipart under construction, or of the message."""
        held = ctx.recall("multipart")
        if held is not None:
            return str(held[0]), str(held[1])
        boundary = boundary_of(ctx.msg)
        if boundary is None:
            return "", ""
        return boundary, ctx.msg.body.rpartition(f"--{boundary}--")[0] or ctx.msg.body

    def _finish(self, ctx: Ctx, boundary: str, parts: str) -> int:
        ctx.remember("multipart", (boundary, parts))
        return self._set(ctx, f"{parts}--{boundary}--\r\n", f'multipart/mixed;boundary="{boundary}"')

    @staticmethod
    def _part(boundary: str, content: str, content_type: str, disposition: str) -> str:
        line = f"Content-Disposition: {disposition}\r\n" if disposition else ""
        return f"--{boundary}\r\nContent-Type: {content_type}\r\n{line}\r\n{content}\r\n"

    @function(_RFB, arities=(0, 1, 2, 3))
    def set_body_multipart(self, ctx: Ctx, txt: str = "", content_type: str = "", boundary: str = "") -> int:
        """Make the body multipart/mixed; a body that is there becomes the first part."""
        mark = boundary or _BOUNDARY
        if txt:
            parts = self._part(mark, txt, content_type or "text/plain", "")
        elif ctx.msg.body:
            parts = self._part(mark, ctx.msg.body.removesuffix("\r\n"), (ctx.msg.value("content-type") or "text/plain").strip(), "")
        else:
            parts = ""
        at = end_of_headers(ctx.msg)
        if "mime-version" not in ctx.msg.first:
            ctx.add_edit(at, at, "Mime-Version: 1.0\r\n")
        return self._finish(ctx, mark, parts)

    @function(_RFB)
    def append_body_part(self, ctx: Ctx, txt: str, content_type: str, content_disposition: str = "") -> int:
        boundary, parts = self._current(ctx)
        if not boundary:
            return -1
        return self._finish(ctx, boundary, parts + self._part(boundary, txt, content_type, content_disposition))

    @function(_RFB)
    def append_body_part_hex(self, ctx: Ctx, htxt: str, content_type: str, content_disposition: str = "") -> int:
        try:
            return self.append_body_part(ctx, bytes.fromhex(htxt).decode("latin-1"), content_type, content_disposition)
        except ValueError:
            return -1

    @function(_RFB)
    def remove_body_part(self, ctx: Ctx, content_type: str) -> int:
        boundary = boundary_of(ctx.msg)
        if boundary is None:
            return -1
        done = -1
        for part in parts_of(ctx.msg.body, boundary):
            if part.type == content_type.lower():
                ctx.add_edit(ctx.msg.body_start + part.start, ctx.msg.body_start + part.end, "")
                done = 1
        return done

    def _get_part(self, ctx: Ctx, content_type: str, opv: Any, *, raw: bool) -> int:
        boundary = boundary_of(ctx.msg)
        if boundary is None or opv.set is None:
            return -1
        for part in parts_of(ctx.msg.body, boundary):
            if part.type == content_type.lower():
                opv.set(ctx, part.raw if raw else part.content)
                return 1
        return -1

    @function(_FROB)
    def get_body_part(self, ctx: Ctx, content_type: str, opv: PvArg) -> int:
        return self._get_part(ctx, content_type, opv, raw=False)

    @function(_FROB)
    def get_body_part_raw(self, ctx: Ctx, content_type: str, opv: PvArg) -> int:
        return self._get_part(ctx, content_type, opv, raw=True)


def drop_body(functions: BodyFunctions, ctx: Ctx) -> int:
    """Remove the body and what describes it; Content-Type stays, as Kamailio leaves it."""
    if not ctx.msg.body:
        return 1
    return functions._set(ctx, "", None)


