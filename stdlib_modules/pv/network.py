"""Variables of the network side: source, local socket, Via, what onsend_route sees."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kamc.declare import pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import PROTO_ID
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.via import Via
from stdlib_modules.pv.base import Vars

_K = {"IP4": 2, "IPv4": 2, "INET": 2, "IP6": 10, "IPv6": 10, "INET6": 10, "UDP": 1, "TCP": 2, "TLS": 3, "SCTP": 4, "WS": 5, "WSS": 6}


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class NetworkVars(Vars):
    @pv("si", "src_ip", inline="ctx.flow.remote_ip")
    def pv_si(self, ctx: Ctx) -> str:
        return ctx.flow.remote_ip

    @pv("siz")
    def pv_siz(self, ctx: Ctx) -> str:
        return bracketed(ctx.flow.remote_ip)

    @pv("sp", inline="ctx.flow.remote_port")
    def pv_sp(self, ctx: Ctx) -> int:
        return ctx.flow.remote_port

    @pv("sas")
    def pv_sas(self, ctx: Ctx) -> str:
        return f"{ctx.flow.proto}:{bracketed(ctx.flow.remote_ip)}:{ctx.flow.remote_port}"

    @pv("su")
    def pv_su(self, ctx: Ctx) -> str:
        tail = "" if ctx.flow.proto == "udp" else f";transport={ctx.flow.proto}"
        return f"sip:{bracketed(ctx.flow.remote_ip)}:{ctx.flow.remote_port}{tail}"

    @pv("sut")
    def pv_sut(self, ctx: Ctx) -> str:
        return f"sip:{bracketed(ctx.flow.remote_ip)}:{ctx.flow.remote_port};transport={ctx.flow.proto}"

    @pv("pr", "proto", inline="ctx.flow.proto")
    def pv_pr(self, ctx: Ctx) -> str:
        return ctx.flow.proto

    @pv("prid")
    def pv_prid(self, ctx: Ctx) -> int:
        return PROTO_ID.get(ctx.flow.proto, 0)

    @pv("conid")
    def pv_conid(self, ctx: Ctx) -> Value:
        return ctx.flow.conn or None

    @pv("Ri")
    def pv_Ri(self, ctx: Ctx) -> str:
        return ctx.flow.listener.host

    @pv("Rp")
    def pv_Rp(self, ctx: Ctx) -> int:
        return ctx.flow.listener.port

    @pv("Rn")
    def pv_Rn(self, ctx: Ctx) -> str | None:
        return ctx.flow.listener.name or None

    @pv("Ras")
    def pv_Ras(self, ctx: Ctx) -> str:
        return str(ctx.flow.listener)

    @pv("Ru")
    def pv_Ru(self, ctx: Ctx) -> str:
        s = ctx.flow.listener
        return f"sip:{bracketed(s.host)}:{s.port}" + ("" if s.proto == "udp" else f";transport={s.proto}")

    @pv("Rut")
    def pv_Rut(self, ctx: Ctx) -> str:
        s = ctx.flow.listener
        return f"sip:{bracketed(s.host)}:{s.port};transport={s.proto}"

    @pv("RAi")
    def pv_RAi(self, ctx: Ctx) -> str:
        return ctx.flow.listener.advertise_host or ctx.flow.listener.host

    @pv("RAp")
    def pv_RAp(self, ctx: Ctx) -> int:
        return ctx.flow.listener.via_port

    @pv("RAu")
    def pv_RAu(self, ctx: Ctx) -> str:
        s = ctx.flow.listener
        return f"sip:{s.via_host}:{s.via_port}" + ("" if s.proto == "udp" else f";transport={s.proto}")

    @pv("RAut")
    def pv_RAut(self, ctx: Ctx) -> str:
        s = ctx.flow.listener
        return f"sip:{s.via_host}:{s.via_port};transport={s.proto}"

    @pv_class("af")
    def pv_af(self, spec: PvSpec) -> BoundPv:
        if spec.inner == "id":
            return BoundPv(lambda ctx: 10 if ":" in ctx.flow.remote_ip else 2)
        return BoundPv(lambda ctx: "IPv6" if ":" in ctx.flow.remote_ip else "IPv4")

    @classmethod
    def check_pv_af(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("id", "name") else "the key is id or name"

    @pv_class("K")
    def pv_K(self, spec: PvSpec) -> BoundPv:
        number = _K[spec.inner or ""]
        return BoundPv(lambda ctx: number)

    @classmethod
    def check_pv_K(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _K else f"the key is one of {' '.join(_K)}"

    @pv("pp")
    def pv_pp(self, ctx: Ctx) -> int:
        return os.getpid()

    # -- Via -------------------------------------------------------------------------------------------------------------

    _VIA: dict[str, Callable[[Via], Value]] = {
        "host": lambda v: v.host, "port": lambda v: v.port or 5060, "proto": lambda v: v.proto, "protoid": lambda v: PROTO_ID.get(v.proto.lower(), 0),
        "branch": lambda v: v.branch or None, "rport": lambda v: v.param_map.get("rport"), "received": lambda v: v.received or None,
        "params": lambda v: v.params or None, "oc": lambda v: v.param_map.get("oc"), "ocalgo": lambda v: v.param_map.get("oc-algo"),
        "ocvalidity": lambda v: v.param_map.get("oc-validity"), "ocseq": lambda v: v.param_map.get("oc-seq"), "ocval": lambda v: v.param_map.get("oc"),
        "oc-seq": lambda v: v.param_map.get("oc-seq"), "oc-val": lambda v: v.param_map.get("oc"), "oc-algo": lambda v: v.param_map.get("oc-algo"),
        "oc-validity": lambda v: v.param_map.get("oc-validity"),
    }  # fmt: skip

    def _via(self, spec: PvSpec, index: int) -> BoundPv:
        part = self._VIA[spec.inner or ""]

        def get(ctx: Ctx) -> Value:
            try:
                vias = ctx.msg.vias
            except SipError:
                return None
            return part(vias[index]) if -len(vias) <= index < len(vias) else None

        return BoundPv(get)

    @pv_class("via0")
    def pv_via0(self, spec: PvSpec) -> BoundPv:
        return self._via(spec, 0)

    @pv_class("via1")
    def pv_via1(self, spec: PvSpec) -> BoundPv:
        return self._via(spec, 1)

    @pv_class("viaZ")
    def pv_viaZ(self, spec: PvSpec) -> BoundPv:
        return self._via(spec, -1)

    @classmethod
    def check_pv_via0(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in cls._VIA else "unknown part of a Via"

    check_pv_via1 = check_pv_viaZ = check_pv_via0

    # -- outgoing --------------------------------------------------------------------------------------------------------

    def _outgoing(self, spec: PvSpec, local: bool) -> BoundPv:
        def side(ctx: Ctx) -> tuple[str, int]:
            dest = ctx.outgoing[0]
            return (dest.listener.host, dest.listener.port) if local else (dest.ip, dest.port)

        table: dict[str, Callable[[Ctx], Value]] = {
            "ip": lambda ctx: side(ctx)[0], "port": lambda ctx: side(ctx)[1], "proto": lambda ctx: PROTO_ID.get(ctx.outgoing[0].proto, 0),
            "sproto": lambda ctx: str(ctx.outgoing[0].proto), "af": lambda ctx: 10 if ":" in side(ctx)[0] else 2,
            "buf": lambda ctx: str(ctx.outgoing[1]), "len": lambda ctx: len(ctx.outgoing[1]),
        }  # fmt: skip
        part = table[spec.inner or ""]
        return BoundPv(lambda ctx: part(ctx) if ctx.outgoing is not None else None)

    @pv_class("snd", "sndto")
    def pv_snd(self, spec: PvSpec) -> BoundPv:
        return self._outgoing(spec, local=False)

    @pv_class("sndfrom")
    def pv_sndfrom(self, spec: PvSpec) -> BoundPv:
        return self._outgoing(spec, local=True)

    @classmethod
    def check_pv_snd(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("ip", "af", "buf", "len", "port", "proto", "sproto") else "the key is one of ip af buf len port proto sproto"

    check_pv_sndfrom = check_pv_snd

    # -- received event --------------------------------------------------------------------------------------------------

    _RCV = ("af", "buf", "len", "safe", "proto", "srcip", "rcvip", "bufat", "hexat", "sproto", "evtype", "srcport", "rcvport")

    @pv_class("rcv", "recv", set=True)
    def pv_rcv(self, spec: PvSpec) -> BoundPv:
        key = spec.inner or ""

        def get(ctx: Ctx) -> Value:
            event: Any = ctx.recall("received_event")
            return event.get(key) if event is not None else None

        def put(ctx: Ctx, value: Value) -> None:
            event: Any = ctx.recall("received_event")
            if event is not None and key == "buf":
                event["buf"] = value

        return BoundPv(get, put)

    @classmethod
    def check_pv_rcv(cls, spec: PvSpec) -> str | None:
        return None if (spec.inner or "").split("/")[0] in cls._RCV else "unknown key"
