"""Module nathelper: finding clients behind NAT, and repairing what they say of themselves."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Module, Routes, function, pv
from kamc.declare.argtypes import PvArg
from kamc.declare.pvspec import parse_pv
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import PROTO_ID
from kamc.runtime.pv.bind import bind
from kamc.runtime.sip.addr import NameAddr, parse_addr_list
from kamc.runtime.sip.uri import Uri, parse_uri
from stdlib_modules.nathelper.pings import Pings

_ROB = Routes.REQUEST | Routes.ONREPLY | Routes.BRANCH | Routes.LOCAL
_PRIVATE = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
#: RFC 6598, carrier-grade NAT: counts with nat_addr_mode 1
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_CONNECTION = re.compile(r"^c=IN IP4 ([0-9.]+)", re.M)
_ORIGIN = re.compile(r"^o=\S+ \S+ \S+ IN IP4 ([0-9.]+)", re.M)
_PROTO_NAME = {number: name for name, number in PROTO_ID.items()}
_ALIAS_VALUE = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z.-]+)~(\d{1,5})~([1-6])\Z")


def text_of(address: NameAddr, uri: str, extra: str = "") -> str:
    """An address with another URI and further header parameters."""
    params = f";{address.params}" if address.params else ""
    return f"{address.display + ' ' if address.display else ''}<{uri}>{params}{extra}"


class Nathelper(Pings, Module):
    name = "nathelper"
    tuning_params = ("natping_processes",)

    class Params:
        nortpproxy_str: str = "a=nortpproxy:yes"
        received_avp: str = ""
        append_sdp_oldmediaip: int = 1
        nat_addr_mode: int = 1
        alias_name: str = ""
        natping_interval: int = 0
        ping_nated_only: int = 0
        natping_disable_bflag: int = -1
        sipping_bflag: int = -1
        sipping_from: str = ""
        sipping_method: str = "OPTIONS"
        force_socket: str = ""
        keepalive_timeout: int = 0
        udpping_from_path: int = 0
        filter_server_id: int = 0
        natping_socket: str = ""
        ignore_path: int = 0

    def mod_init(self) -> None:
        self.alias = self.p.alias_name.rstrip("=") or "alias"
        self.received = None
        if self.p.received_avp:
            self.received = bind(self.rt, parse_pv(self.p.received_avp))
            if self.received.set is None:
                raise ConfigError(f"nathelper: received_avp {self.p.received_avp} cannot be set")
        self.start_pings()

    def activate(self, previous: Any) -> None:
        super().activate(previous)
        if previous is not None and previous.p.natping_interval == self.p.natping_interval:
            self.pinging, self.waiting, self.share, self.second, self.heard, self.mark = (
                previous.pinging, previous.waiting, previous.share, previous.second, previous.heard, previous.mark)  # fmt: skip

    # -- tests -----------------------------------------------------------------------------------------------------------

    def private(self, host: str) -> bool:
        """A private IPv4 address (RFC 1918; with nat_addr_mode 1 also RFC 6598)."""
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            return False
        return any(address in net for net in _PRIVATE) or bool(self.p.nat_addr_mode and address in _SHARED)

    @function(ANY)
    def is_rfc1918(self, ctx: Ctx, ip_address: str) -> int:
        return 1 if self.private(ip_address) else -1

    @staticmethod
    def _contact(ctx: Ctx) -> Uri | None:
        address = ctx.msg.address("contact")
        return address.parsed if address is not None else None

    def _sdp_hosts(self, ctx: Ctx) -> list[str]:
        return _CONNECTION.findall(ctx.msg.body)

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH | Routes.LOCAL)
    def nat_uac_test(self, ctx: Ctx, flags: int) -> int:
        """1 private Contact, 2 source is not the Via's address, 4 private Via, 8 private address in the SDP, 16 source port is not the
        Via's, 32 private source, 64 WebSocket, 128 source port is not the Contact's, 256 source is not the SDP's address."""
        flow, via, contact = ctx.flow, ctx.msg.via1, self._contact(ctx)
        tests: tuple[tuple[int, Callable[[], bool]], ...] = (
            (1, lambda: contact is not None and self.private(contact.host)),
            (2, lambda: via.host.strip("[]") != flow.remote_ip),
            (4, lambda: self.private(via.host)),
            (8, lambda: any(map(self.private, self._sdp_hosts(ctx)))),
            (16, lambda: via.real_port != flow.remote_port),
            (32, lambda: self.private(flow.remote_ip)),
            (64, lambda: flow.proto in ("ws", "wss")),
            (128, lambda: contact is not None and contact.real_port() != flow.remote_port),
            (256, lambda: any(host != flow.remote_ip for host in self._sdp_hosts(ctx))),
        )
        return 1 if any(flags & bit and test() for bit, test in tests) else -1

    # -- Contact ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def _source(ctx: Ctx) -> tuple[str, int]:
        ip = ctx.flow.remote_ip
        return (f"[{ip}]" if ":" in ip else ip), ctx.flow.remote_port

    def _rewrite(self, ctx: Ctx, change: Callable[[NameAddr, Uri], str | None]) -> int:
        """Change every Contact. ``change`` gives the new text or None; returns how many were changed, -1 when there is no good one."""
        changed, good = 0, False
        for header in ctx.msg.all("contact"):
            addresses = parse_addr_list(header[2])
            if not addresses:
                continue
            out = []
            before = changed
            for address in addresses:
                uri = address.parsed
                new = change(address, uri) if uri is not None else None
                good |= uri is not None
                changed += new is not None
                out.append(new if new is not None else text_of(address, address.uri) if uri is not None else address.uri)
            if changed > before:
                ctx.add_edit(header[3], header[4], f"{header[1]}: {', '.join(out)}\r\n")
        return changed if good else -1

    @function(_ROB)
    def fix_nated_contact(self, ctx: Ctx) -> int:
        """Address and port of every Contact become those that the message came from."""
        host, port = self._source(ctx)
        return 1 if self._rewrite(ctx, lambda a, uri: text_of(a, uri.replaced(host=host, port=str(port)))) > 0 else -1

    def _with_alias(self, uri: Uri, host: str, port: int, proto: int) -> str:
        params = ";".join(p for p in (uri.params or "").split(";") if p and not p.startswith(f"{self.alias}="))
        return str(uri.replaced(params=f"{params};{self.alias}={host}~{port}~{proto}".lstrip(";")))

    def _alias_from_source(self, ctx: Ctx) -> int:
        """1 when a Contact got an alias, 2 when none needed one, -1 without a Contact."""
        host, port = self._source(ctx)
        proto = ctx.flow.proto

        def change(address: NameAddr, uri: Uri) -> str | None:
            if uri.host == host and uri.real_port() == port and uri.param_map.get("transport", "") == proto:
                return None
            return text_of(address, self._with_alias(uri, host, port, PROTO_ID[proto]))

        changed = self._rewrite(ctx, change)
        return 1 if changed > 0 else 2 if changed == 0 else -1

    @function(_ROB | Routes.FAILURE, arities=(0, 3))
    def add_contact_alias(self, ctx: Ctx, ip_addr: str = "", port: str = "", proto: str = "") -> int:
        """``;alias=address~port~transport`` where a Contact is not where the message came from, or of what is given."""
        if not ip_addr:
            return self._alias_from_source(ctx)
        number = PROTO_ID.get(proto.lower())
        if number is None or not port.isdecimal() or not 0 < int(port) < 65536:
            self.rt.log.error("add_contact_alias: no address: %s %s %s", ip_addr, port, proto)
            return -1
        return 1 if self._rewrite(ctx, lambda a, uri: text_of(a, self._with_alias(uri, ip_addr, int(port), number))) > 0 else -1

    @function(_ROB)
    def set_contact_alias(self, ctx: Ctx, trim: int = 0) -> int:
        """As add_contact_alias(); an alias that is there gives way."""
        return self._alias_from_source(ctx)

    @function(ANY)
    def set_alias_to_pv(self, ctx: Ctx, target_avp: PvArg) -> int:
        """The address that the alias of the first Contact names, as a URI, into a variable."""
        address = ctx.msg.address("contact")
        uri = parse_uri(address.uri) if address is not None else None
        match = _ALIAS_VALUE.match(uri.param_map.get(self.alias) or "") if uri is not None else None
        if match is None or target_avp is None or target_avp.set is None:
            self.rt.log.error("set_alias_to_pv: the Contact has no alias")
            return -1
        target_avp.set(ctx, f"sip:{match[1]}:{match[2]};transport={_PROTO_NAME[int(match[3])]}")
        return 1

    @pv("rr_count")
    def pv_rr_count(self, ctx: Ctx) -> int:
        """How many Record-Route values the message has."""
        return len(self._record_routes(ctx))

    @pv("rr_top_count")
    def pv_rr_top_count(self, ctx: Ctx) -> int:
        """How many of them the last proxy has put in: 2 when the first is one of a pair."""
        values = self._record_routes(ctx)
        first = values[0].parsed if values else None
        return min(1, len(values)) if first is None or "r2" not in first.param_map else 2

    @staticmethod
    def _record_routes(ctx: Ctx) -> list[NameAddr]:
        return [a for h in ctx.msg.all("record-route") for a in parse_addr_list(h[2]) or []]

    @function(Routes.REQUEST | Routes.BRANCH | Routes.LOCAL)
    def handle_ruri_alias(self, ctx: Ctx, mode: int = 0) -> int:
        """The alias of the request URI becomes the destination and is taken out. ``mode`` 1 takes the last one instead of the first.
        2 when there is none, -1 when it is none."""
        uri = parse_uri(ctx.ruri)
        if uri is None:
            return -1
        params = (uri.params or "").split(";")
        places = [i for i, p in enumerate(params) if p.startswith(f"{self.alias}=")]
        if not places:
            return 2
        place = places[-1 if mode == 1 else 0]
        match = _ALIAS_VALUE.match(params[place].partition("=")[2])
        if match is None:
            self.rt.log.error("handle_ruri_alias: bad alias in %s", ctx.ruri)
            return -1
        host, port, proto = match[1], int(match[2]), _PROTO_NAME[int(match[3])]
        ctx.du = f"sip:{host}:{port}" + (f";transport={proto}" if proto != "udp" else "")
        del params[place]
        ctx.ruri = str(uri.replaced(params=";".join(params)))
        ctx.ruri_used = False
        return 1

    # -- REGISTER --------------------------------------------------------------------------------------------------------

    def _source_uri(self, ctx: Ctx) -> str:
        host, port = self._source(ctx)
        return f"sip:{host}:{port}" + (f";transport={ctx.flow.proto}" if ctx.flow.proto != "udp" else "")

    @function(Routes.REQUEST)
    def fix_nated_register(self, ctx: Ctx) -> int:
        """Where the request came from goes into received_avp, for the registrar."""
        if self.received is None or self.received.set is None:
            self.rt.log.error("fix_nated_register: received_avp is not set")
            return -1
        self.received.set(ctx, self._source_uri(ctx))
        return 1

    @function(Routes.REQUEST)
    def add_rcv_param(self, ctx: Ctx, flag: int = 0) -> int:
        """``;received=`` for another registrar: of the Contact header, with a flag of the Contact URI."""
        source = self._source_uri(ctx)

        def change(address: NameAddr, uri: Uri) -> str:
            if flag:
                return text_of(address, f"{address.uri};received={source}")
            return text_of(address, address.uri, f';received="{source}"')

        return 1 if self._rewrite(ctx, change) > 0 else -1

    # -- SDP -------------------------------------------------------------------------------------------------------------

    @function(_ROB | Routes.FAILURE)
    def fix_nated_sdp(self, ctx: Ctx, flags: int, ip_address: str = "") -> int:
        """1 adds a=direction:active, 2 puts the source (or the given) address into c=, 4 adds nortpproxy_str, 8 puts it into o=."""
        msg = ctx.msg
        if not msg.body:
            return -1
        address = ip_address or ctx.flow.remote_ip
        start, end = msg.body_start, len(msg.text)
        added = "a=direction:active\r\n" if flags & 1 else ""
        if flags & 4:
            added += self.p.nortpproxy_str.rstrip("\r\n") + "\r\n"
        for bit, pattern in ((2, _CONNECTION), (8, _ORIGIN)):
            if not flags & bit:
                continue
            for match in pattern.finditer(msg.body):
                if match[1] != address:
                    ctx.add_edit(start + match.start(1), start + match.end(1), address)
                    old = f"a=oldmediaip:{match[1]}\r\n"
                    if bit == 2 and self.p.append_sdp_oldmediaip and old not in added and "a=oldmediaip:" not in msg.body:
                        added += old
        if added:
            ctx.add_edit(end, end, ("" if msg.body.endswith("\n") else "\r\n") + added)
        return 1

    @classmethod
    def check_call_add_contact_alias(cls, args: tuple[int | str | None, ...]) -> str | None:
        return None if len(args) < 3 or args[2] is None or "$" in str(args[2]) or str(args[2]).lower() in PROTO_ID else f"unknown transport {args[2]!r}"


module = Nathelper
