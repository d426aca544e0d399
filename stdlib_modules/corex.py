"""Module corex: core functions with evaluated arguments, sockets, files, message flags."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any

from kamc.declare import ANY, Module, Routes, Spread, function, modparam, pv_class, rpc, transformation
from kamc.declare.argtypes import Flag, Lit, PvArg
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_str
from kamc.runtime import memory
from kamc.runtime.context import Ctx
from kamc.runtime.net.dns.records import Record, Srv
from kamc.runtime.net.endpoint import Flow, Listener
from kamc.runtime.pv.bind import BoundPv, inner_name
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.uri import parse_uri

_IFLAGS = {"USE_UAC_FROM": 1, "USE_UAC_TO": 2, "UAC_AUTH": 4}


class Corex(Module):
    name = "corex"

    class Params:
        pass

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: domains whose subdomains are ours, as the configuration has them
        self.subdomains: list[str] = []
        #: what the name cache is to know: name, type, record, seconds, flags
        self.names: list[tuple[str, str, Record, int, int]] = []

    @modparam("alias_subdomains")
    def set_subdomains(self, value: str) -> None:
        """``[proto:]domain[:port]``: the domain and everything below it is ours."""
        self.subdomains.append(value)
        parts = value.split(":")
        proto = parts.pop(0) if parts[0] in ("udp", "tcp", "tls", "sctp") else ""
        port = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
        self.rt.aliases.append((proto, parts[0].lower(), port))

    @modparam("dns_cache")
    def add_name(self, value: str) -> None:
        """``type=A;name=host;addr=address;ttl=seconds;flags=0``; of an SRV record ``addr`` is the server, with ``priority``, ``weight`` and ``port``.
        Flag 1: the name has none, 2: for good."""
        found = dict(part.strip().partition("=")[::2] for part in value.split(";") if part.strip())
        kind, name, address = (found.get(key, "").strip() for key in ("type", "name", "addr"))
        unknown = found.keys() - {"type", "name", "addr", "ttl", "priority", "weight", "port", "flags"}
        numbers = {key: int(found.get(key) or 0) for key in ("ttl", "priority", "weight", "port", "flags")}
        if unknown or kind.upper() not in ("A", "AAAA", "SRV") or not name or not address or any(n < 0 for n in numbers.values()):
            raise ValueError(f"{value!r}: the form is type=A|AAAA|SRV;name=NAME;addr=ADDRESS;ttl=SECONDS;priority=N;weight=N;port=N;flags=N")
        record: Record = address
        if kind.upper() == "SRV":
            record = Srv(numbers["priority"], numbers["weight"], numbers["port"], address)
        elif ip_address(address).version != (4 if kind.upper() == "A" else 6):
            raise ValueError(f"{value!r}: {address} is no address of type {kind}")
        self.names.append((name.lower(), kind.upper(), record, numbers["ttl"], numbers["flags"]))

    def activate(self, previous: Any) -> None:
        super().activate(previous)
        for name in self.names:
            if not self.rt.datapath.dns.remember(*name):
                self.rt.log.error("corex: dns_cache: there is no room for %s", name[0])

    # -- branches and forwarding -----------------------------------------------------------------------------------------

    @function(Routes.REQUEST | Routes.FAILURE)
    def append_branch(self, ctx: Ctx, uri: str = "", q: str = "") -> int:
        """A further destination, ``q`` from 0 to 1."""
        number = -1
        if q:
            try:
                number = int(float(q) * 1000)
            except ValueError:
                self.rt.log.error("append_branch: bad q value %r", q)
                return -1
            if not 0 <= number <= 1000:
                return -1
        core = self.rt.module("core")
        if not uri:
            rc = int(core.append_branch(ctx))
            if rc > 0 and number >= 0:
                ctx.branches[-1].q = number
            return rc
        return int(core.append_branch(ctx, uri, number))

    @function(Routes.REQUEST, waits=True)
    def forward_uac(self, ctx: Ctx, bindex: int = 0) -> int:
        return self.forward_uac_uri(ctx, ctx.ruri, bindex)

    @function(Routes.REQUEST, waits=True)
    def forward_uac_uri(self, ctx: Ctx, vuri: str, bindex: int = 0) -> int:
        dest = self.rt.datapath.resolve(ctx, vuri)
        return 1 if dest is not None and self.rt.datapath.forward_stateless(ctx, dest) else -1

    @function(Routes.CORE_ONREPLY, waits=True)
    def forward_reply(self, ctx: Ctx) -> int:
        return 1 if self.rt.datapath.forward_reply(ctx) else -1

    def _send_copy(self, ctx: Ctx, proto: str, target: str) -> int:
        """The message as it came, to another host."""
        if target:
            host, _, port = target.rpartition(":") if ":" in target else (target, "", "")
            host, number = host or target, int(port) if port.isdigit() else 5060
        else:
            uri = parse_uri(ctx.du or ctx.ruri)
            if uri is None:
                return -1
            host, number = uri.host, uri.real_port()
        dest = self.rt.datapath.dest_for(ctx, proto, host, number)
        return 1 if dest is not None and self.rt.datapath.send(dest, ctx.msg.text) else -1

    @function(Routes.REQUEST | Routes.FAILURE, waits=True)
    def send_udp(self, ctx: Ctx, host: str = "") -> int:
        return self._send_copy(ctx, "udp", host)

    @function(Routes.REQUEST | Routes.FAILURE, waits=True)
    def send_tcp(self, ctx: Ctx, host: str = "") -> int:
        return self._send_copy(ctx, "tcp", host)

    @function(ANY, waits=True)
    def send_data(self, ctx: Ctx, uri: str, data: str) -> int:
        return self.sendx(ctx, uri, "", data)

    @function(ANY, waits=True)
    def sendx(self, ctx: Ctx, uri: str, sock: str, data: str) -> int:
        """Any text to a URI, optionally from a named socket."""
        work = ctx.copy_for(ctx.kind)
        if sock:
            work.send_socket = self._socket(sock)
            if work.send_socket is None:
                return -1
        dest = self.rt.datapath.resolve(work, uri)
        return 1 if dest is not None and self.rt.datapath.send(dest, data) else -1

    # -- sockets ---------------------------------------------------------------------------------------------------------

    def _socket(self, text: str) -> Listener | None:
        found: Listener | None = self.rt.worker.find_socket(text)
        return found

    @function(ANY)
    def set_send_socket(self, ctx: Ctx, saddr: str) -> int:
        found = self._socket(saddr)
        if found is None:
            return -1
        ctx.send_socket = found
        return 1

    @function(ANY)
    def set_send_socket_name(self, ctx: Ctx, sname: str) -> int:
        found = self.rt.worker.find_listener_name(sname)
        if found is None:
            return -1
        ctx.send_socket = found
        return 1

    def _receive_on(self, ctx: Ctx, found: Listener | None) -> int:
        if found is None:
            return -1
        ctx.flow = Flow(found, ctx.flow.remote_ip, ctx.flow.remote_port, ctx.flow.conn)
        return 1

    @function(ANY)
    def set_recv_socket(self, ctx: Ctx, saddr: str) -> int:
        return self._receive_on(ctx, self._socket(saddr))

    @function(ANY)
    def set_recv_socket_name(self, ctx: Ctx, sname: str) -> int:
        return self._receive_on(ctx, self.rt.worker.find_listener_name(sname))

    @function(ANY)
    def set_source_address(self, ctx: Ctx, saddr: str) -> int:
        """``proto:ip:port`` becomes where the message came from."""
        parts = saddr.rsplit(":", 2)
        if len(parts) != 3 or not parts[2].isdigit():
            return -1
        ctx.flow = Flow(ctx.flow.listener, parts[1], int(parts[2]), ctx.flow.conn)
        return 1

    @function(ANY)
    def is_socket_name(self, ctx: Ctx, sockname: str) -> int:
        return 1 if self.rt.worker.find_listener_name(sockname) is not None else -1

    @function(ANY)
    def is_incoming(self, ctx: Ctx) -> int:
        return -1 if ctx.outgoing is not None else 1

    @function(ANY)
    def is_faked_msg(self, ctx: Ctx) -> int:
        return 1 if ctx.recall("faked") or ctx.kind is Routes.FAILURE else -1

    @function(ANY)
    def add_tcp_alias(self, ctx: Ctx, port: int) -> int:
        return int(self.rt.module("core").force_tcp_alias(ctx, port))

    # -- Via -------------------------------------------------------------------------------------------------------------

    @function(ANY)
    def via_add_srvid(self, ctx: Ctx, flags: int) -> int:
        ctx.remember("via_srvid", bool(flags))
        return 1

    @function(ANY)
    def via_add_xavp_params(self, ctx: Ctx, flags: int) -> int:
        ctx.remember("via_xavp", bool(flags))
        return 1

    @function(ANY)
    def via_use_xavp_fields(self, ctx: Ctx, flags: int) -> int:
        ctx.remember("via_xavp_fields", bool(flags))
        return 1

    @function(ANY)
    def via_reply_add_xavp_params(self, ctx: Ctx, flags: int) -> int:
        ctx.remember("via_reply_xavp", bool(flags))
        return 1

    # -- flags -----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def msg_iflag_set(self, ctx: Ctx, flagname: str) -> int:
        if flagname not in _IFLAGS:
            return -1
        ctx.msg_iflags |= _IFLAGS[flagname]
        return 1

    @function(ANY)
    def msg_iflag_reset(self, ctx: Ctx, flagname: str) -> int:
        if flagname not in _IFLAGS:
            return -1
        ctx.msg_iflags &= ~_IFLAGS[flagname]
        return 1

    @function(ANY)
    def msg_iflag_is_set(self, ctx: Ctx, flagname: str) -> int:
        return 1 if ctx.msg_iflags & _IFLAGS.get(flagname, 0) else -1

    @function(ANY)
    def setxflag(self, ctx: Ctx, flag: Flag) -> int:
        ctx.xflags |= 1 << flag
        return 1

    @function(ANY)
    def resetxflag(self, ctx: Ctx, flag: Flag) -> int:
        ctx.xflags &= ~(1 << flag)
        return 1

    @function(ANY)
    def isxflagset(self, ctx: Ctx, flag: Flag) -> int:
        return 1 if ctx.xflags >> flag & 1 else -1

    @function(ANY)
    def msg_vbflag_set(self, ctx: Ctx, flag: Flag) -> int:
        ctx.remember("vbflags", ctx.recall("vbflags", 0) | 1 << flag)
        return 1

    @function(ANY)
    def msg_vbflag_reset(self, ctx: Ctx, flag: Flag) -> int:
        ctx.remember("vbflags", ctx.recall("vbflags", 0) & ~(1 << flag))
        return 1

    @function(ANY)
    def msg_vbflag_is_set(self, ctx: Ctx, flag: Flag) -> int:
        return 1 if ctx.recall("vbflags", 0) >> flag & 1 else -1

    @function(ANY)
    def msg_vbflag_parse(self, ctx: Ctx, pattern: Lit) -> int:
        """Set flags by a list of numbers and names of the form ``1,5``."""
        bits = [int(x) for x in pattern.split(",") if x.strip().isdigit()]
        if not bits:
            return -1
        value = ctx.recall("vbflags", 0)
        for bit in bits:
            value |= 1 << bit
        ctx.remember("vbflags", value)
        return 1

    # -- files -----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def file_read(self, ctx: Ctx, fpath: str, var: PvArg) -> int:
        try:
            with open(fpath, encoding="latin-1", newline="") as stream:
                text = stream.read()
        except (OSError, ValueError) as err:
            self.rt.log.error("file_read: %s: %s", fpath, err)
            return -1
        var.set(ctx, text)
        return 1

    @function(ANY)
    def file_write(self, ctx: Ctx, fpath: str, content: str) -> int:
        try:
            with open(fpath, "w", encoding="latin-1", newline="") as stream:
                stream.write(content)
        except (OSError, ValueError) as err:
            self.rt.log.error("file_write: %s: %s", fpath, err)
            return -1
        return 1

    # -- variables -------------------------------------------------------------------------------------------------------

    @pv_class("cfg")
    def pv_cfg(self, spec: PvSpec) -> BoundPv:
        """Place in the configuration: taken from the running frame of the generated code."""
        key = spec.inner or ""

        def get(ctx: Ctx) -> Value:
            frame = self.rt.cfg_frame()
            if frame is None:
                return None
            if key == "line":
                return int(frame.f_lineno)
            name = frame.f_code.co_filename
            if key in ("name", "file"):
                return str(name)
            route = str(frame.f_code.co_name)
            return route.removeprefix("route_") if route.startswith("route_") else "DEFAULT_ROUTE" if route == "request_route" else route

        return BoundPv(get)

    @classmethod
    def check_pv_cfg(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("line", "name", "file", "route") else "the key is one of line name file route"

    @pv_class("lsock")
    def pv_lsock(self, spec: PvSpec) -> BoundPv:
        """``$lsock(listen/name)`` and kin: a socket found by one attribute."""
        literal, getter = inner_name(self.rt, (spec.inner or "").strip())

        def get(ctx: Ctx) -> Value:
            text = to_str(getter(ctx)) if getter is not None else literal
            what, _, name = text.partition("/")
            found = self.rt.worker.find_listener_name(name) if what == "listen" or name else self._socket(text)
            return str(found) if found is not None else None

        return BoundPv(get)

    @staticmethod
    def _sock(value: Value, index: int) -> str:
        parts = to_str(value).split(":")
        return parts[index] if len(parts) >= 3 else ""

    @staticmethod
    @transformation("sock.host")
    def sock_host(value: Value) -> Value:
        return Corex._sock(value, 1)

    @staticmethod
    @transformation("sock.port")
    def sock_port(value: Value) -> Value:
        return Corex._sock(value, 2)

    @staticmethod
    @transformation("sock.proto")
    def sock_proto(value: Value) -> Value:
        return Corex._sock(value, 0)

    @staticmethod
    @transformation("sock.touri")
    def sock_touri(value: Value) -> Value:
        proto, host, port = (Corex._sock(value, i) for i in range(3))
        return f"sip:{host}:{port};transport={proto}" if host else ""

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("corex.list_sockets")
    def rpc_sockets(self) -> list[dict[str, Any]]:
        """Listening sockets."""
        return [{"PROTO": s.proto, "NAME": s.host, "ADDRLIST": {"ADDR": s.host}, "PORT": str(s.port), "MCAST": "no", "MHOMED": "no", "VIRTUAL": "no",
                 "SOCKNAME": s.name or "-", "ADVERTISE": f"{s.advertise_host}:{s.via_port}" if s.advertise_host else "-"} for s in self.rt.listeners]  # fmt: skip

    @rpc("corex.list_aliases")
    def rpc_aliases(self) -> list[dict[str, Any]]:
        """Aliases of this host."""
        return [{"PROTO": p or "*", "ADDR": h, "PORT": int(port or 0)} for p, h, port in self.rt.aliases]

    @rpc("corex.debug", spread=Spread.EVERY)
    def rpc_debug(self, level: int | None = None) -> dict[str, int]:
        """Show or set the debug level."""
        old = self.rt.log.level
        if level is None:
            return {"debug": old}
        self.rt.log.level = level
        return {"old": old, "new": self.rt.log.level}

    # -- memory: that of a worker, as none is set aside for sharing ------------------------------------------------------

    @rpc("corex.shm_status", "corex.shm_summary", spread=Spread.EVERY)
    def rpc_status(self) -> None:
        """Write to the log how much memory each worker has."""
        self.rt.log.write(-1, memory.summary())

    @rpc("corex.pkg_summary", spread=Spread.EVERY)
    def rpc_summary(self, selector: str | None = None, value: int | None = None) -> None:
        """pid|idx NUMBER: write to the log how much memory that worker has."""
        if selector is None or value is None:
            raise RpcFault(400, "Selector and value not provided")
        own = {"pid": os.getpid(), "idx": self.rt.log.rank}
        if selector not in own:
            raise RpcFault(500, "Unsupported selector type")
        if own[selector] != value:
            raise RpcFault(500, "Index value out of range" if selector == "idx" else "No such pid")
        self.rt.log.write(-1, memory.summary())

    @rpc("shm.info")
    def rpc_memory_info(self) -> dict[str, Any]:
        """Who gives out memory, and how much there is in bytes."""
        return memory.info()

    @rpc("shm.stats")
    def rpc_memory_stats(self) -> dict[str, int]:
        """Memory of this worker in bytes."""
        return memory.stats()


module = Corex


