"""The core as a module: core functions, core conditions, core variables. Generated code sees it as ``core``.

Names and behaviour: Kamailio core cookbook.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

from kamc.declare.module import Module, pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.net.endpoint import PROTO_ID, in_network, is_ip
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.uri import Uri, parse_uri


class Core(Module):
    """Functions return 1 for success and -1 for failure, as Kamailio's do; none of them touches ``$rc``."""

    name = "core"

    # -- log and control -------------------------------------------------------------------------------------------------

    def log(self, ctx: Ctx, level: int | str, text: str | None = None) -> int:
        if text is None:
            level, text = 3, str(level)
        if int(level) <= self.rt.log.level:
            self.rt.log.write(int(level), text, "<script>")
        return 1

    def error(self, ctx: Ctx, first: str, second: str) -> int:
        self.rt.log.error("%s: %s", first, second)
        return 1

    def exec(self, ctx: Ctx, command: str) -> int:
        """Start a shell command and go on: a worker does not wait for it."""
        try:
            subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as err:
            self.rt.log.error("exec(%r): %s", command, err)
            return -1
        return 1

    # -- flags -----------------------------------------------------------------------------------------------------------

    def setflag(self, ctx: Ctx, flag: int) -> int:
        ctx.flags |= 1 << flag
        return 1

    def resetflag(self, ctx: Ctx, flag: int) -> int:
        ctx.flags &= ~(1 << flag)
        return 1

    def isflagset(self, ctx: Ctx, flag: int) -> int:
        return 1 if ctx.flags >> flag & 1 else -1

    def _avp_flag(self, avp: str, flag: str) -> tuple[str, str]:
        return avp.lstrip("$%").removeprefix("avp(").rstrip(")"), flag

    def setavpflag(self, ctx: Ctx, avp: str, flag: str) -> int:
        name, flag = self._avp_flag(avp, flag)
        ctx.recall("avpflags", {}).setdefault(name, set()) if ctx.recall("avpflags") else ctx.remember("avpflags", {name: set()})
        ctx.recall("avpflags").setdefault(name, set()).add(flag)
        return 1

    def resetavpflag(self, ctx: Ctx, avp: str, flag: str) -> int:
        name, flag = self._avp_flag(avp, flag)
        (ctx.recall("avpflags") or {}).get(name, set()).discard(flag)
        return 1

    def isavpflagset(self, ctx: Ctx, avp: str, flag: str) -> int:
        name, flag = self._avp_flag(avp, flag)
        return 1 if flag in (ctx.recall("avpflags") or {}).get(name, ()) else -1

    # -- request URI -----------------------------------------------------------------------------------------------------

    def set_ruri(self, ctx: Ctx, uri: str) -> int:
        ctx.ruri = uri
        ctx.ruri_used = False
        return 1

    def _uri(self, ctx: Ctx) -> Uri | None:
        uri = parse_uri(ctx.ruri)
        if uri is None:
            self.rt.log.error("request URI %r cannot be changed: it is no SIP URI", ctx.ruri)
        return uri

    def _change(self, ctx: Ctx, **parts: str | None) -> int:
        uri = self._uri(ctx)
        return -1 if uri is None else self.set_ruri(ctx, uri.replaced(**parts))

    def rewriteuri(self, ctx: Ctx, uri: str) -> int:
        return self.set_ruri(ctx, uri)

    seturi = rewriteuri

    def rewriteuser(self, ctx: Ctx, user: str) -> int:
        return self._change(ctx, user=user or None) if user else self._change(ctx, user=None, password=None)

    setuser = setu = rewriteuser

    def rewriteuserpass(self, ctx: Ctx, text: str) -> int:
        user, colon, password = text.partition(":")
        return self._change(ctx, user=user or None, password=password if colon else None)

    setuserpass = setup = rewriteuserpass

    def rewritehost(self, ctx: Ctx, host: str) -> int:
        return self._change(ctx, host=host)

    sethost = seth = rewritehost

    def rewritehostport(self, ctx: Ctx, text: str) -> int:
        host, _, port = text.rpartition(":") if ":" in text and not text.endswith("]") else (text, "", "")
        return self._change(ctx, host=host or text, port=port)

    sethostport = sethp = rewritehostport

    def rewritehostporttrans(self, ctx: Ctx, text: str) -> int:
        uri = self._uri(ctx)
        if uri is None:
            return -1
        hostport, _, params = text.partition(";")
        host, _, port = hostport.rpartition(":") if ":" in hostport and not hostport.endswith("]") else (hostport, "", "")
        kept = [p for p in uri.params.split(";") if p and not p.lower().startswith("transport")] if params else [p for p in uri.params.split(";") if p]
        return self.set_ruri(ctx, uri.replaced(host=host or hostport, port=port, params=";".join([*([params] if params else []), *kept])))

    sethostporttrans = sethpt = rewritehostporttrans

    def rewriteport(self, ctx: Ctx, port: str) -> int:
        return self._change(ctx, port=port)

    setport = setp = rewriteport

    def prefix(self, ctx: Ctx, text: str) -> int:
        uri = self._uri(ctx)
        return -1 if uri is None else self.set_ruri(ctx, uri.replaced(user=text + (uri.user or "")))

    def strip(self, ctx: Ctx, count: int) -> int:
        uri = self._uri(ctx)
        if uri is None:
            return -1
        rest = (uri.user or "")[count:]
        return self.set_ruri(ctx, uri.replaced(user=rest) if rest else uri.replaced(user=None, password=None))

    def strip_tail(self, ctx: Ctx, count: int) -> int:
        uri = self._uri(ctx)
        if uri is None:
            return -1
        user = uri.user or ""
        rest = user[: len(user) - count] if count < len(user) else ""
        return self.set_ruri(ctx, uri.replaced(user=rest) if rest else uri.replaced(user=None, password=None))

    def revert_uri(self, ctx: Ctx) -> int:
        ctx.ruri = ctx.msg.uri
        ctx.ruri_used = False
        return 1

    def userphone(self, ctx: Ctx) -> int:
        uri = self._uri(ctx)
        if uri is None:
            return -1
        if "user" not in uri.param_map:
            self.set_ruri(ctx, uri.replaced(params=f"{uri.params};user=phone".strip(";")))
        return 1

    # -- branches and sockets --------------------------------------------------------------------------------------------

    def clear_branches(self, ctx: Ctx) -> int:
        ctx.branches.clear()
        ctx.ruri_used = True
        return 1

    def remove_branch(self, ctx: Ctx, index: int | None = None) -> int:
        if index is None:
            index = len(ctx.branches) - 1
        if index < 0:
            index += len(ctx.branches)
        if not 0 <= index < len(ctx.branches):
            return -1
        del ctx.branches[index]
        return 1

    def append_branch(self, ctx: Ctx, uri: str | None = None, q: int = -1) -> int:
        """A further destination. Without a URI the current one is copied and its $du moves along."""
        if len(ctx.branches) + 1 > self.rt.param("max_branches"):
            self.rt.log.error("more than max_branches destinations")
            return -1
        if uri is None:
            ctx.push_current_branch()
            ctx.du = ctx.path = ctx.instance = ctx.ruid = None
            ctx.bflags = 0
        else:
            ctx.branches.append(Branch(uri, None, ctx.path, q, ctx.send_socket, ctx.bflags))
        return 1

    def force_rport(self, ctx: Ctx) -> int:
        ctx.force_rport = True
        return 1

    add_rport = force_rport

    def add_local_rport(self, ctx: Ctx) -> int:
        ctx.add_local_rport = True
        return 1

    def force_tcp_alias(self, ctx: Ctx, port: int = 0) -> int:
        """The connection of the request also serves this port of its peer; without one, the port of the topmost Via."""
        if ctx.flow.proto == "udp":
            return 1
        return 1 if self.rt.worker.streams.add_alias(ctx.flow.conn, port or ctx.msg.via1.real_port) else -1

    add_tcp_alias = force_tcp_alias

    def set_advertised_address(self, ctx: Ctx, address: str) -> int:
        ctx.advertise = (address, ctx.advertise[1] if ctx.advertise else 0)
        return 1

    def set_advertised_port(self, ctx: Ctx, port: int) -> int:
        ctx.advertise = (ctx.advertise[0] if ctx.advertise else "", port)
        return 1

    def udp_mtu_try_proto(self, ctx: Ctx, proto: str) -> int:
        """The transport for requests of this run that are larger than udp_mtu."""
        ctx.mtu_proto = str(proto).lower()
        return 1

    def force_send_socket(self, ctx: Ctx, socket_id: tuple[str, str, int]) -> int:
        proto, host, port = socket_id
        found = self.rt.worker.find_listener(proto, host, port)
        if found is None:
            self.rt.log.error("force_send_socket: %s:%d is no listening socket", host, port)
            return -1
        ctx.send_socket = found
        return 1

    def set_forward_no_connect(self, ctx: Ctx) -> int:
        ctx.forward_no_connect = True
        return 1

    def set_reply_no_connect(self, ctx: Ctx) -> int:
        ctx.reply_no_connect = True
        return 1

    def set_forward_close(self, ctx: Ctx) -> int:
        ctx.forward_close = True
        return 1

    def set_reply_close(self, ctx: Ctx) -> int:
        ctx.reply_close = True
        return 1

    def cfg_select(self, ctx: Ctx, group: str, instance: int) -> int:
        """See an instance of a group of runtime variables until the run ends."""
        if not self.rt.settings.select(group, instance):
            self.rt.log.error("cfg_select: group instance '%s[%d]' does not exist", group, instance)
        return 1

    def cfg_reset(self, ctx: Ctx, group: str) -> int:
        """See the group itself again."""
        self.rt.settings.reset(group)
        return 1

    # -- stateless forwarding --------------------------------------------------------------------------------------------

    def forward(self, ctx: Ctx, host: str | None = None, port: Any = None, proto: str = "") -> int:
        """Send the request on without state: to the destination set, or to a host."""
        if host is None:
            return 1 if self.rt.datapath.forward_stateless(ctx) else -1
        if host == "uri:host" or port == "uri:port":
            uri = parse_uri(ctx.ruri)
            if uri is None:
                return -1
            host = uri.host if host == "uri:host" else host
            port = uri.port_number if port == "uri:port" else port
        dest = self.rt.datapath.dest_for(ctx, proto or "udp", host, int(port or 0) or (5061 if proto == "tls" else 5060))
        return 1 if dest is not None and self.rt.datapath.forward_stateless(ctx, dest) else -1

    def forward_udp(self, ctx: Ctx, host: str, port: Any = None) -> int:
        return self.forward(ctx, host, port, "udp")

    def forward_tcp(self, ctx: Ctx, host: str, port: Any = None) -> int:
        return self.forward(ctx, host, port, "tcp")

    def forward_tls(self, ctx: Ctx, host: str, port: Any = None) -> int:
        return self.forward(ctx, host, port, "tls")

    def forward_sctp(self, ctx: Ctx, host: str, port: Any = None) -> int:
        return self.forward(ctx, host, port, "sctp")

    # -- core conditions -------------------------------------------------------------------------------------------------

    def text_method(self, ctx: Ctx) -> str:
        return ctx.msg.method

    def text_uri(self, ctx: Ctx) -> str:
        return ctx.ruri if ctx.msg.is_request else str(ctx.msg.status)

    text_status = text_uri

    def text_from_uri(self, ctx: Ctx) -> str:
        address = ctx.msg.from_
        return address.uri if address is not None else ""

    def text_to_uri(self, ctx: Ctx) -> str:
        address = ctx.msg.to
        return address.uri if address is not None else ""

    def text_src_ip(self, ctx: Ctx) -> str:
        return ctx.flow.remote_ip

    def text_dst_ip(self, ctx: Ctx) -> str:
        return ctx.flow.listener.host

    def text_snd_ip(self, ctx: Ctx) -> str:
        return str(ctx.outgoing[0].listener.host) if ctx.outgoing else ""

    def text_to_ip(self, ctx: Ctx) -> str:
        return str(ctx.outgoing[0].ip) if ctx.outgoing else ""

    def test_method(self, ctx: Ctx, text: str) -> bool:
        return ctx.msg.method == text or ctx.msg.method.lower() == text.lower()

    def test_uri(self, ctx: Ctx, text: str) -> bool:
        return self.text_uri(ctx).lower() == text.lower()

    test_status = test_uri

    def test_from_uri(self, ctx: Ctx, text: str) -> bool:
        return self.text_from_uri(ctx).lower() == text.lower()

    def test_to_uri(self, ctx: Ctx, text: str) -> bool:
        return self.text_to_uri(ctx).lower() == text.lower()

    def _uri_myself(self, text: str) -> bool | None:
        """None for a URI that cannot be parsed."""
        uri = parse_uri(text)
        if uri is None:
            return None
        return bool(uri.host) and bool(self.rt.is_myself(uri.host, uri.real_port()))

    def test_uri_myself(self, ctx: Ctx, _: str) -> bool | None:
        return self._uri_myself(ctx.ruri)

    def test_from_uri_myself(self, ctx: Ctx, _: str) -> bool | None:
        return self._uri_myself(self.text_from_uri(ctx))

    def test_to_uri_myself(self, ctx: Ctx, _: str) -> bool | None:
        return self._uri_myself(self.text_to_uri(ctx))

    def _ip_test(self, ip: str, text: str) -> bool:
        if "/" in text:
            return in_network(ip, text)
        if is_ip(text):
            return in_network(ip, text.strip("[]"))
        return ip in self.rt.datapath.dns.addresses(text)

    def test_src_ip(self, ctx: Ctx, text: str) -> bool:
        return self._ip_test(ctx.flow.remote_ip, text)

    def test_dst_ip(self, ctx: Ctx, text: str) -> bool:
        return self._ip_test(ctx.flow.listener.host, text)

    def test_snd_ip(self, ctx: Ctx, text: str) -> bool:
        return self._ip_test(self.text_snd_ip(ctx), text)

    def test_to_ip(self, ctx: Ctx, text: str) -> bool:
        return self._ip_test(self.text_to_ip(ctx), text)

    test_src_ip_ip = test_src_ip_net = test_src_ip_host = test_src_ip
    test_dst_ip_ip = test_dst_ip_net = test_dst_ip_host = test_dst_ip
    test_snd_ip_ip = test_snd_ip_net = test_snd_ip_host = test_snd_ip
    test_to_ip_ip = test_to_ip_net = test_to_ip_host = test_to_ip

    def _ip_myself(self, ip: str) -> bool:
        return any(s.host == ip for s in self.rt.listeners)

    def test_src_ip_myself(self, ctx: Ctx, _: str) -> bool:
        return self._ip_myself(ctx.flow.remote_ip)

    def test_dst_ip_myself(self, ctx: Ctx, _: str) -> bool:
        return self._ip_myself(ctx.flow.listener.host)

    def test_snd_ip_myself(self, ctx: Ctx, _: str) -> bool:
        return self._ip_myself(self.text_snd_ip(ctx))

    def test_to_ip_myself(self, ctx: Ctx, _: str) -> bool:
        return self._ip_myself(self.text_to_ip(ctx))

    def test_proto_proto(self, ctx: Ctx, proto: str) -> bool:
        return ctx.flow.proto == proto

    def test_snd_proto_proto(self, ctx: Ctx, proto: str) -> bool:
        return bool(ctx.outgoing) and ctx.outgoing[0].proto == proto

    test_to_proto_proto = test_snd_proto_proto

    def number_proto(self, ctx: Ctx) -> int:
        return PROTO_ID.get(ctx.flow.proto, 0)

    def number_snd_proto(self, ctx: Ctx) -> int:
        return PROTO_ID.get(ctx.outgoing[0].proto, 0) if ctx.outgoing else 0

    number_to_proto = number_snd_proto

    def number_src_port(self, ctx: Ctx) -> int:
        return ctx.flow.remote_port

    def number_dst_port(self, ctx: Ctx) -> int:
        return ctx.flow.listener.port

    def number_snd_port(self, ctx: Ctx) -> int:
        return int(ctx.outgoing[0].listener.port) if ctx.outgoing else 0

    def number_to_port(self, ctx: Ctx) -> int:
        return int(ctx.outgoing[0].port) if ctx.outgoing else 0

    def number_af(self, ctx: Ctx) -> int:
        return 10 if ":" in ctx.flow.remote_ip else 2

    def number_snd_af(self, ctx: Ctx) -> int:
        return (10 if ":" in ctx.outgoing[0].ip else 2) if ctx.outgoing else 0

    number_to_af = number_snd_af

    def number_msg_len(self, ctx: Ctx) -> int:
        return len(ctx.msg.text)

    # -- variables of the core -------------------------------------------------------------------------------------------

    @pv("null")
    def pv_null(self, ctx: Ctx) -> Value:
        return None

    @pv("rc", "retcode", "?", inline="ctx.rc")
    def pv_rc(self, ctx: Ctx) -> int:
        return ctx.rc

    @pv_class("env")
    def pv_env(self, spec: PvSpec) -> BoundPv:
        name = spec.inner or ""
        return BoundPv(lambda ctx: os.environ.get(name))

    @pv_class("envn")
    def pv_envn(self, spec: PvSpec) -> BoundPv:
        name = spec.inner or ""
        return BoundPv(lambda ctx: to_int(os.environ[name]) if name in os.environ else None)

    def _define(self, name: str | None) -> str | None:
        value = self.rt.defines.get(name or "", None)
        return value if isinstance(value, str) else None

    @pv_class("def")
    def pv_def(self, spec: PvSpec) -> BoundPv:
        return BoundPv(lambda ctx: self._define(spec.inner))

    @pv_class("defv")
    def pv_defv(self, spec: PvSpec) -> BoundPv:
        def get(ctx: Ctx) -> Value:
            value = self._define(spec.inner)
            return value.strip("\"'") if value is not None else None

        return BoundPv(get)

    @pv_class("defs")
    def pv_defs(self, spec: PvSpec) -> BoundPv:
        return self.pv_defv(spec)

    @pv_class("defn", kind="int")
    def pv_defn(self, spec: PvSpec) -> BoundPv:
        def get(ctx: Ctx) -> Value:
            value = self._define(spec.inner)
            return to_int(value.strip("\"'")) if value is not None else 0

        return BoundPv(get)

    @pv("iuid")
    def pv_iuid(self, ctx: Ctx) -> str | None:
        value = self.rt.params.get("coreparam[iuid]")
        return str(value) if value is not None else None


module = Core


