"""Requests handed to processes outside by a FIFO or a Unix socket: t_write_req and t_write_unix. They answer by RPC (``tm.reply``)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kamc.declare import Routes, function, modparam
from kamc.declare.argtypes import Lit
from kamc.declare.values import to_str
from kamc.runtime.context import Ctx
from kamc.runtime.sip.addr import parse_addr_list
from kamc.runtime.sip.headers import header_key
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.tm.transaction import Transaction

_RF = Routes.REQUEST | Routes.FAILURE
_VERSION: Final = "0.3"
#: Kamailio's internal flags of a message, as it prints them for a request that came in the usual way
_FLAGS: Final = "08"
_NOTHING: Final = "."


@dataclass(frozen=True, slots=True)
class Extra:
    """One element of ``tw_append``: ``title=kind[name]``."""

    kind: str
    name: str
    title: str


def parse_append(text: str) -> tuple[str, list[Extra]]:
    """``name:element;element``, where an element is ``hdr[Name]``, ``msg[body]`` or ``title=avp[name]``. Raises ValueError."""
    name, colon, rest = text.partition(":")
    if not colon or not name.strip() or not rest.strip():
        raise ValueError(f"{text!r} is not name:element;element")
    out = []
    for part in filter(None, (p.strip() for p in rest.split(";"))):
        title, _, spec = part.rpartition("=")
        kind, bracket, inner = spec.strip().partition("[")
        inner = inner.removesuffix("]").strip()
        if not bracket or not spec.strip().endswith("]") or kind not in ("hdr", "msg", "avp") or not inner:
            raise ValueError(f"{part!r} of {name} is neither hdr[Name], msg[body] nor title=avp[name]")
        if kind == "msg" and inner != "body":
            raise ValueError(f"{part!r} of {name}: of a message there is only body")
        if kind == "avp" and not title:
            raise ValueError(f"{part!r} of {name} needs a title: title=avp[name]")
        out.append(Extra(kind, inner, title.strip()))
    return name.strip(), out


def route_set(msg: SipMessage) -> tuple[str, str]:
    """(route set, next hop) of a request's Record-Route, each a dot when there is none."""
    values = [a for h in msg.all("record-route") for a in parse_addr_list(h[2]) or []]
    if not values:
        return _NOTHING, _NOTHING
    texts = [f"<{a.uri}>" for a in values]
    return ",".join([texts[0], *texts]), values[0].uri


def _without_parameters(value: str) -> str:
    head, close, _ = value.strip().rpartition(">")
    return head + close if close else value.strip().partition(";")[0]


class ExternalFunctions:
    rt: Any
    p: Any

    def current(self, ctx: Ctx) -> Transaction | None:
        raise NotImplementedError

    def suspend(self, ctx: Ctx, *, trying: bool = True) -> Transaction | None:
        raise NotImplementedError

    @modparam("tw_append")
    def set_append(self, text: str) -> None:
        name, elements = parse_append(text)
        self.appends: dict[str, list[Extra]] = {**getattr(self, "appends", {}), name: elements}

    def _picture(self, ctx: Ctx, t: Transaction, info: str) -> str:
        """The lines that describe a request. ``info`` is ``method/name of a tw_append``."""
        action, _, append = info.partition("/")
        msg = ctx.msg
        uri = parse_uri(ctx.ruri)
        contacts = [a for h in msg.all("contact") for a in parse_addr_list(h[2]) or []]
        sender = msg.from_
        routes, hop = route_set(msg)
        lines = [
            _VERSION, f"sip_request.{action}", msg.method, uri.user or "" if uri is not None else "", uri.host if uri is not None else "",
            ctx.flow.listener.host, str(ctx.flow.listener.port), ctx.ruri, contacts[-1].uri if contacts else sender.uri if sender is not None else "",
            _without_parameters(msg.value("from") or ""), (msg.value("to") or "").strip(), msg.call_id, msg.from_tag, msg.to_tag, str(msg.cseq[0]),
            f"{t.hash_index}:{t.label}", routes, hop, f"P-MsgFlags: {_FLAGS}",
        ]  # fmt: skip
        body = _NOTHING
        for extra in getattr(self, "appends", {}).get(append, ()):
            if extra.kind == "msg":
                body = msg.body
            elif extra.kind == "hdr":
                value = msg.value(header_key(extra.name))
                lines += [f"{extra.title or extra.name}: {value.strip()}"] if value is not None else []
            else:
                values = ctx.avps.get(extra.name) or []
                lines += [f"{extra.title}: {to_str(values[0])}"] if values else []
        return "\n".join([*lines, _NOTHING, body, ""])

    def _hand_over(self, ctx: Ctx, info: str, write: Callable[[bytes], None]) -> int:
        t = self.current(ctx)
        if t is None or t.status >= 200:
            self.rt.log.error("t_write: there is no transaction that waits for an answer")
            return -1
        try:
            write(self._picture(ctx, t, info).encode("latin-1", "replace"))
        except OSError as err:
            self.rt.log.error("t_write: %s", err.strerror or err)
            return -1
        # the answer has to come within fr_timer
        return 1 if self.suspend(ctx, trying=False) is not None else -1

    @function(_RF)
    def t_write_req(self, ctx: Ctx, fifo: Lit, info: Lit) -> int:
        """Write the request into a FIFO that a process reads from."""

        def write(data: bytes) -> None:
            descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)

        return self._hand_over(ctx, info, write)

    @function(_RF)
    def t_write_unix(self, ctx: Ctx, path: Lit, info: Lit) -> int:
        """Send the request to a Unix datagram socket."""

        def write(data: bytes) -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                # a send to a full socket waits unix_tx_timeout milliseconds at the most
                peer.settimeout(max(0.001, self.p.unix_tx_timeout / 1000))
                peer.sendto(data, path)

        return self._hand_over(ctx, info, write)
