"""Module path: the Path header of edge proxies (RFC 3327)."""

from __future__ import annotations

import re
from urllib.parse import unquote

from kamc.declare import Module, Routes, function
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import PROTO_ID, Dest, Flow
from kamc.runtime.sip.edits import SocketText
from kamc.runtime.sip.uri import parse_uri

_TRIPLE = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z.-]+)~(\d{1,5})~([1-6])\Z")
_PROTO_NAME = {number: name for name, number in PROTO_ID.items()}


class Path(Module):
    name = "path"

    class Params:
        use_received: int = 0
        received_format: int = 0
        enable_r2: int = 0
        sockname_mode: int = 0
        received_name: str = "received"

    def mod_init(self) -> None:
        rr = self.rt.module("rr")
        if self.p.use_received and rr is not None:
            rr.on_route.append(self.follow_received)

    # -- adding ----------------------------------------------------------------------------------------------------------

    def _received(self, ctx: Ctx) -> str:
        """Where the request came from, as a parameter: an escaped URI, or address~port~transport with received_format 1."""
        flow = ctx.flow
        ip = f"[{flow.remote_ip}]" if ":" in flow.remote_ip else flow.remote_ip
        if self.p.received_format:
            return f";{self.p.received_name}={ip}~{flow.remote_port}~{PROTO_ID[flow.proto]}"
        transport = f"%3Btransport%3D{flow.proto}" if flow.proto != "udp" else ""
        return f";{self.p.received_name}=sip:{ip}%3A{flow.remote_port}{transport}"

    def _line(self, ctx: Ctx, way: Flow | Dest, user: str, tail: str, address: str = "") -> str:
        listener = way.listener
        transport = f";transport={way.proto}" if way.proto != "udp" and not address else ""
        socket = f";sn={listener.name}" if self.p.sockname_mode and listener.name else ""
        at = f"{user}@" if user else ""
        return f"Path: <sip:{at}{address or f'{listener.via_host}:{listener.via_port}'}{transport};lr{tail}{socket}>\r\n"

    def _add(self, ctx: Ctx, user: str, parameters: str, *, received: bool, address: str = "") -> int:
        """On top of other Path headers; with enable_r2 two of them when the request leaves by another socket."""
        msg = ctx.msg
        tail = (self._received(ctx) if received else "") + (f";{parameters}" if parameters else "")
        incoming = ctx.flow
        text = self._line(ctx, incoming, user, tail, address)
        if self.p.enable_r2 and not address:
            inner = self._line(ctx, incoming, user, tail + ";r2=on")

            def choose(dest: Dest) -> str:
                same = dest.listener is incoming.listener and dest.proto == incoming.proto
                return text if same else self._line(ctx, dest, user, ";r2=on") + inner

            insert: str = SocketText.of(text, choose)
        else:
            insert = text
        first = msg.first.get("path") or msg.first.get("via")
        at = first[3] if first is not None else msg.first_line_end
        ctx.add_edit(at, at, insert)
        return 1

    @function(Routes.REQUEST)
    def add_path(self, ctx: Ctx, user: str = "", parameters: str = "") -> int:
        return self._add(ctx, user, parameters, received=False)

    @function(Routes.REQUEST)
    def add_path_received(self, ctx: Ctx, user: str = "", parameters: str = "") -> int:
        """With where the request came from, for the way back."""
        return self._add(ctx, user, parameters, received=True)

    @function(Routes.REQUEST)
    def add_path_advertised_address(self, ctx: Ctx, address: str, user: str = "", parameters: str = "") -> int:
        return self._add(ctx, user, parameters, received=False, address=address)

    @function(Routes.REQUEST)
    def add_path_received_advertised_address(self, ctx: Ctx, address: str, user: str = "", parameters: str = "") -> int:
        return self._add(ctx, user, parameters, received=True, address=address)

    # -- following -------------------------------------------------------------------------------------------------------

    def follow_received(self, ctx: Ctx, params: str) -> None:
        """After loose_route(): a received parameter in our Route is where the request goes."""
        for part in params.split(";"):
            name, _, value = part.partition("=")
            if name != self.p.received_name or not value:
                continue
            match = _TRIPLE.match(value)
            if match is not None:
                proto = _PROTO_NAME[int(match[3])]
                uri = f"sip:{match[1]}:{match[2]}" + (f";transport={proto}" if proto != "udp" else "")
            else:
                uri = unquote(value.strip('"'), "latin-1")
            if parse_uri(uri) is None:
                self.rt.log.error("path: bad %s parameter %r in Route", self.p.received_name, value)
                return
            ctx.du = uri
            ctx.ruri_used = False
            return


module = Path
