"""Module rr: Record-Route and loose routing (RFC 3261 sections 16.4, 16.6, 16.12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Module, Routes, function, pv
from kamc.declare.argtypes import Lit, Regex
from kamc.declare.values import to_str
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import BELOW, Dest, Listener
from kamc.runtime.sip.addr import NameAddr, parse_addr_list
from kamc.runtime.sip.build import blank_line
from kamc.runtime.sip.edits import SocketText
from kamc.runtime.sip.uri import Uri, parse_uri

_RFB = Routes.REQUEST | Routes.FAILURE | Routes.BRANCH


class Rr(Module):
    name = "rr"
    ignored_params = ("enable_socket_mismatch_warning",)

    class Params:
        append_fromtag: int = 1
        enable_double_rr: int = 1
        enable_full_lr: int = 0
        add_username: int = 0
        custom_user_avp: str = ""
        force_send_socket: int = 0
        ignore_sips: int = 0
        sockname_mode: int = 0
        loose_route_mode: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: told about the parameters of our own Route when it is taken off
        self.on_route: list[Callable[[Ctx, str], None]] = []

    # -- Record-Route ----------------------------------------------------------------------------------------------------

    def _user(self, ctx: Ctx) -> str:
        if self.p.custom_user_avp:
            custom = to_str(self.rt.pv(self.p.custom_user_avp)(ctx))
            if custom:
                return custom + "@"
        if self.p.add_username:
            uri = parse_uri(ctx.ruri)
            if uri is not None and uri.user:
                return uri.user + "@"
        return ""

    def _params(self, ctx: Ctx, extra: str) -> str:
        lr = ";lr=on" if self.p.enable_full_lr else ";lr"
        tag = f";ftag={ctx.msg.from_tag}" if self.p.append_fromtag and ctx.msg.from_tag else ""
        return lr + tag + "".join(ctx.rr_params or ()) + (extra if not extra or extra.startswith(";") else ";" + extra)

    def _value(self, ctx: Ctx, listener: Listener, proto: str, extra: str, *, double: str = "") -> str:
        transport = f";transport={proto}" if proto != "udp" else ""
        scheme = "sips" if not self.p.ignore_sips and ctx.ruri[:5].lower() == "sips:" else "sip"
        name = f";sn={listener.name}" if self.p.sockname_mode and listener.name else ""
        port = f":{listener.via_port}" if listener.via_port != (5061 if listener.proto == "tls" else 5060) or listener.proto != "udp" else ""
        return f"<{scheme}:{self._user(ctx)}{listener.via_host}{port}{transport}{name}{double}{self._params(ctx, extra)}>"

    def _insert(self, ctx: Ctx, value: str) -> int:
        """On top of the headers; a second call in one run replaces nothing and is refused."""
        if ctx.recall("record_routed") and ctx.kind is Routes.REQUEST:
            self.rt.log.error("record_route: called twice for one request")
            return -1
        ctx.remember("record_routed", True)
        at = ctx.msg.first_line_end
        ctx.add_edit(at, at, value)
        return 1

    @function(_RFB)
    def record_route(self, ctx: Ctx, sparams: str = "") -> int:
        """With enable_double_rr a request that leaves by another socket gets two values, the outgoing one on top."""
        incoming, proto = ctx.flow.listener, ctx.flow.proto
        single = f"Record-Route: {self._value(ctx, incoming, proto, sparams)}\r\n"
        if not self.p.enable_double_rr or (len(self.rt.worker.listeners) < 2 and proto not in BELOW):
            return self._insert(ctx, single)
        inner = f"Record-Route: {self._value(ctx, incoming, proto, sparams, double=';r2=on')}\r\n"

        def choose(dest: Dest) -> str:
            if dest.listener is incoming and dest.proto == proto:
                return single
            return f"Record-Route: {self._value(ctx, dest.listener, dest.proto, sparams, double=';r2=on')}\r\n{inner}"

        return self._insert(ctx, SocketText.of(single, choose))

    def _preset(self, ctx: Ctx, text: str, *, double: bool) -> str:
        r2 = ";r2=on" if double else ""
        return f"Record-Route: <sip:{self._user(ctx)}{text}{r2}{self._params(ctx, '')}>\r\n"

    @function(_RFB)
    def record_route_preset(self, ctx: Ctx, string: str, string2: str = "") -> int:
        """Given addresses instead of the socket's; the second one is for the incoming side."""
        if not string2:
            return self._insert(ctx, self._preset(ctx, string, double=False))
        return self._insert(ctx, self._preset(ctx, string, double=True) + self._preset(ctx, string2, double=True))

    @function(_RFB)
    def record_route_advertised_address(self, ctx: Ctx, address: str) -> int:
        transport = f";transport={ctx.flow.proto}" if ctx.flow.proto != "udp" else ""
        return self._insert(ctx, self._preset(ctx, address + transport, double=False))

    @function(_RFB)
    def add_rr_param(self, ctx: Ctx, param: str) -> int:
        """For the Record-Route of this request, also one that is there already."""
        at = ctx.msg.first_line_end
        for index, (begin, end, text) in enumerate(ctx.edits):
            if begin == end == at and text.startswith("Record-Route:"):


                def add(value: str) -> str:
                    return value.replace(">\r\n", f"{param}>\r\n")

                ctx.edits[index] = (begin, end, text.map(add) if isinstance(text, SocketText) else add(text))
                return 1
        ctx.rr_params = [*(ctx.rr_params or []), param]
        return 1

    @function(Routes.REQUEST | Routes.FAILURE)
    def remove_record_route(self, ctx: Ctx) -> int:
        at = ctx.msg.first_line_end
        ctx.edits = [e for e in ctx.edits if not (e[0] == e[1] == at and e[2].startswith("Record-Route:"))]
        ctx.remember("record_routed", False)
        return 1

    # -- loose routing ---------------------------------------------------------------------------------------------------

    @staticmethod
    def routes(ctx: Ctx) -> list[tuple[int, int, NameAddr]]:
        """All Route values: (header number, position in the header, address)."""
        out = []
        for number, header in enumerate(ctx.msg.all("route")):
            for position, address in enumerate(parse_addr_list(header[2]) or []):
                out.append((number, position, address))
        return out

    def next_hop(self, ctx: Ctx) -> str | None:
        """URI of the first Route that goes out with the request; None when none does."""
        skip = ctx.recall("routes_used", 0)
        headers = ctx.msg.all("route")
        gone = {begin for begin, end, text in ctx.edits if end > begin and not text}
        values = self.routes(ctx)[skip:]
        for number, _, address in values:
            if headers[number][3] in gone and skip == 0:
                continue
            return address.uri
        return None

    def _is_ours(self, uri: Uri | None) -> bool:
        return uri is not None and bool(self.rt.is_myself(uri.host, uri.port_number, uri.transport or ("tls" if uri.is_sips else "")))

    def _consume(self, ctx: Ctx, count: int) -> None:
        """Take the first values out of the Route headers."""
        headers = ctx.msg.all("route")
        left = count
        for header in headers:
            addresses = parse_addr_list(header[2]) or []
            if left <= 0:
                return
            if len(addresses) <= left:
                ctx.add_edit(header[3], header[4], "")
            else:
                rest = ", ".join(_text(a) for a in addresses[left:])
                ctx.add_edit(header[3], header[4], f"{header[1]}: {rest}\r\n")
            left -= len(addresses)
        ctx.remember("routes_used", count)

    def _route(self, ctx: Ctx, *, strict: bool = True) -> int:
        """1 routed by Route, -1 nothing to do. Without ``strict`` nobody looks whether the previous hop was a strict router."""
        values = self.routes(ctx)
        if not values:
            return -1
        ruri = parse_uri(ctx.ruri)
        first = values[0][2]
        if strict and ruri is not None and self._is_ours(ruri) and ((not ruri.user and not _loose(first)) or "lr" in ruri.param_map):
            return self._after_strict(ctx, values)
        if not self._is_ours(first.parsed):
            self._follow(ctx, values, 0)
            return 1
        return self._after_loose(ctx, values)

    def _remember(self, ctx: Ctx, params: str) -> None:
        ctx.remember("route_params", params)

    def _after_loose(self, ctx: Ctx, values: list[tuple[int, int, NameAddr]]) -> int:
        """The topmost Route is ours: drop it (both of a pair), go on by the next or by the request URI."""
        own = values[0][2].parsed
        self._remember(ctx, own.params if own is not None else "")
        used = 1
        self._send_from(ctx, own, forced=bool(self.p.force_send_socket))
        if self.p.enable_double_rr and len(values) > 1 and own is not None and "r2" in own.param_map and self._is_ours(values[1][2].parsed):
            second = values[1][2].parsed
            used = 2
            self._send_from(ctx, second, forced=True)
        self._consume(ctx, used)
        follows = len(values) > used
        if follows:
            self._follow(ctx, values, used)
        for hook in self.on_route:
            hook(ctx, own.params if own is not None else "")
        if follows:
            return 1
        # the route set ends here: a request of a dialog goes on to its target, one with a preloaded route or for us has none
        return 1 if ctx.msg.to_tag and not self._is_ours(parse_uri(ctx.ruri)) else -1

    def _send_from(self, ctx: Ctx, own: Uri | None, *, forced: bool) -> None:
        """Use the socket that a Route of ours names: by ``sn`` (sockname_mode), else, when it is forced, by its address."""
        if own is None:
            return
        name = own.param_map.get("sn") if self.p.sockname_mode else None
        found = self.rt.worker.find_listener_name(name) if name else None
        if found is None and forced:
            found = self.rt.worker.find_listener(own.proto(), own.host, own.real_port())
        if found is not None:
            ctx.send_socket = found

    def _follow(self, ctx: Ctx, values: list[tuple[int, int, NameAddr]], used: int) -> None:
        """The first Route that is left is the next hop."""
        following = values[used][2]
        parsed = following.parsed
        if parsed is not None and "lr" not in parsed.param_map:
            self._to_strict(ctx, values, used, following)
        else:
            ctx.du = following.uri
            ctx.ruri_used = False

    def _to_strict(self, ctx: Ctx, values: list[tuple[int, int, NameAddr]], used: int, following: NameAddr) -> None:
        """The next hop is a strict router: its URI becomes the request URI, the old one the last Route."""
        ctx.edits = [e for e in ctx.edits if not any(e[:2] == (h[3], h[4]) for h in ctx.msg.all("route"))]
        self._consume(ctx, used + 1)
        at = ctx.msg.body_start - blank_line(ctx.msg)
        headers = ctx.msg.all("route")
        at = headers[-1][4] if headers else at
        ctx.add_edit(at, at, f"Route: <{ctx.ruri}>\r\n")
        ctx.ruri, ctx.ruri_used = following.uri, False

    def _after_strict(self, ctx: Ctx, values: list[tuple[int, int, NameAddr]]) -> int:
        """The previous hop was a strict router: our URI is the request URI, the target is the last Route."""
        ruri = parse_uri(ctx.ruri)
        self._remember(ctx, ruri.params if ruri is not None else "")
        last = values[-1][2]
        inner = values[:-1]
        skip = 0
        if inner and self._is_ours(inner[0][2].parsed) and ruri is not None and "r2" in ruri.param_map:
            skip = 1
        target = last.uri
        rest = inner[skip:]
        for header in ctx.msg.all("route"):
            ctx.add_edit(header[3], header[4], "")
        ctx.remember("routes_used", len(values))
        if rest:
            first = ctx.msg.all("route")[0]
            ctx.add_edit(first[3], first[3], "Route: " + ", ".join(_text(a) for _, _, a in rest) + "\r\n")
            ctx.du = rest[0][2].uri
        ctx.ruri, ctx.ruri_used = target, False
        return 1

    @function(Routes.REQUEST)
    def loose_route(self, ctx: Ctx) -> int:
        return self._route(ctx, strict=not self.p.loose_route_mode)

    @function(Routes.REQUEST)
    def loose_route_mode(self, ctx: Ctx, vmode: int) -> int:
        """As loose_route(); mode 1 does without the look for a strict router."""
        return self._route(ctx, strict=not vmode)

    @function(Routes.REQUEST)
    def loose_route_preloaded(self, ctx: Ctx) -> int:
        """Only for requests whose routes the caller brought along, which means without To tag."""
        if ctx.msg.to_tag:
            return -1
        return self._route(ctx)

    @function(ANY)
    def rr_next_hop_route(self, ctx: Ctx) -> int:
        """Set the destination to the first Route that is left."""
        uri = self.next_hop(ctx)
        if uri is None:
            return -1
        ctx.du = uri
        return 1

    # -- questions -------------------------------------------------------------------------------------------------------

    def route_params(self, ctx: Ctx) -> str:
        """Parameters of the Route value that was ours."""
        return str(ctx.recall("route_params", ""))

    @function(Routes.REQUEST)
    def check_route_param(self, ctx: Ctx, re: Regex) -> int:
        params = ctx.recall("route_params")
        return 1 if params is not None and re.test(";" + params) else -1

    @function(Routes.REQUEST)
    def is_direction(self, ctx: Ctx, dir: Lit) -> int:
        """downstream: from caller to callee, judged by ftag."""
        params = ctx.recall("route_params")
        upstream = False
        if params is not None:
            ftag = next((p.partition("=")[2] for p in params.split(";") if p.startswith("ftag=")), None)
            upstream = ftag is not None and ftag != ctx.msg.from_tag
        return 1 if upstream == dir.lower().startswith("up") else -1

    @pv("route_uri")
    def pv_route_uri(self, ctx: Ctx) -> str | None:
        values = self.routes(ctx)
        return values[0][2].uri if values else None

    @pv("rdir")
    def pv_rdir(self, ctx: Ctx) -> str:
        return "upstream" if self.is_direction(ctx, "upstream") > 0 else "downstream"

    @pv("fti")
    def pv_fti(self, ctx: Ctx) -> str | None:
        return ctx.msg.from_tag or None

    @pv("tti")
    def pv_tti(self, ctx: Ctx) -> str | None:
        return ctx.msg.to_tag or None


def _loose(address: NameAddr) -> bool:
    uri = address.parsed
    return uri is not None and "lr" in uri.param_map


def _text(address: NameAddr) -> str:
    head = f"{address.display} <{address.uri}>" if address.display else f"<{address.uri}>"
    return head + (f";{address.params}" if address.params else "")


module = Rr
