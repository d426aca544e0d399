"""Answers to HTTP requests that came over the stream sockets of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kamc.runtime.context import Ctx


def is_http(ctx: Ctx) -> bool:
    return ctx.msg.version[:5].upper() == "HTTP/"


def answer(ctx: Ctx, code: int, reason: str, headers: str = "", body: str = "", *, close: bool | None = None) -> None:
    """Answer the request in hand, once: a second answer is not sent. ``headers`` are whole lines.

    The connection is closed afterwards with ``close``, by default when the request or ``set_reply_close()`` want that. Raises OSError when it
    is gone.
    """
    if ctx.replied:
        return
    ctx.replied = True
    flow, rt = ctx.flow, ctx.rt
    if close is None:
        close = ctx.reply_close or any(h[1].lower() == "connection" and "close" in h[2].lower() for h in ctx.msg.headers)
    lines = [f"{ctx.msg.version} {code} {reason}\r\n", f"Sia: SIP/2.0/{flow.proto.upper()} {flow.remote_ip}:{flow.remote_port}\r\n"]
    lines += ctx.reply_headers or []
    lines.append(headers)
    if rt.server_header:
        lines.append(f"{rt.server_header}\r\n")
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    rt.datapath.send_raw(flow, "".join(lines) + body, close=close)
