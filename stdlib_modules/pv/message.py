"""Variables of the message: request line, headers, body, buffer, flags, branches."""

from __future__ import annotations

from collections.abc import Callable

from kamc.declare import pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_str
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.build import build_request
from kamc.runtime.sip.edits import apply_edits
from kamc.runtime.sip.methods import METHOD_IDS, OTHER_METHOD
from kamc.runtime.sip.uri import Uri, parse_uri
from stdlib_modules.pv.base import Vars, text_only


def uri_of(ctx: Ctx) -> Uri | None:
    return parse_uri(ctx.ruri) if ctx.msg.is_request else None


class MessageVars(Vars):
    # -- request line ----------------------------------------------------------------------------------------------------

    @pv("rm", inline="ctx.msg.method")
    def pv_rm(self, ctx: Ctx) -> str:
        return ctx.msg.method

    @pv("rmid")
    def pv_rmid(self, ctx: Ctx) -> int:
        return METHOD_IDS.get(ctx.msg.method, OTHER_METHOD)

    @pv("rv")
    def pv_rv(self, ctx: Ctx) -> str | None:
        return ctx.msg.version or None

    @pv("ru", "ruri", set="set_ru")
    def pv_ru(self, ctx: Ctx) -> str | None:
        if self.rt.compat == "5.6" and ctx.msg.is_request and parse_uri(ctx.ruri) is None:
            return None
        return ctx.ruri if ctx.msg.is_request else None

    @text_only
    def set_ru(self, ctx: Ctx, value: Value) -> None:
        if not isinstance(value, str):
            self.rt.log.error("$ru wants a text")
            return
        ctx.ruri = value
        ctx.ruri_used = False

    @pv("rul")
    def pv_rul(self, ctx: Ctx) -> int:
        return len(ctx.ruri)

    @pv("rU", "ruri.user", set="set_rU")
    def pv_rU(self, ctx: Ctx) -> str | None:
        uri = uri_of(ctx)
        return (uri.user or None) if uri is not None else None

    @text_only
    def set_rU(self, ctx: Ctx, value: Value) -> None:
        self.rt.modules["core"].rewriteuser(ctx, value or "")

    @pv("rUl")
    def pv_rUl(self, ctx: Ctx) -> int:
        uri = uri_of(ctx)
        return len(uri.user or "") if uri is not None else 0

    @pv("rd", "ruri.domain", set="set_rd")
    def pv_rd(self, ctx: Ctx) -> str | None:
        uri = uri_of(ctx)
        return (uri.host or None) if uri is not None else None

    @text_only
    def set_rd(self, ctx: Ctx, value: Value) -> None:
        if not isinstance(value, str) or not value:
            self.rt.log.error("$rd wants a text")
            return
        self.rt.modules["core"].rewritehost(ctx, value)

    @pv("rp", set="set_rp")
    def pv_rp(self, ctx: Ctx) -> str | None:
        uri = uri_of(ctx)
        if uri is None:
            return None
        return uri.port or ("5061" if uri.transport == "tls" else "5060")

    def set_rp(self, ctx: Ctx, value: Value) -> None:
        self.rt.modules["core"].rewriteport(ctx, to_str(value) if value else "")

    @pv("rP")
    def pv_rP(self, ctx: Ctx) -> str | None:
        uri = uri_of(ctx)
        if uri is None:
            return None
        return uri.param_map.get("transport") or "UDP"

    @pv("rz")
    def pv_rz(self, ctx: Ctx) -> str | None:
        uri = uri_of(ctx)
        if uri is None:
            return None
        return "tel" if uri.param_map.get("user") == "phone" and uri.scheme == "sip" else uri.scheme

    @pv("ou", "ouri")
    def pv_ou(self, ctx: Ctx) -> str | None:
        return ctx.msg.uri or None

    @pv("oul")
    def pv_oul(self, ctx: Ctx) -> int:
        return len(ctx.msg.uri)

    @pv("oU")
    def pv_oU(self, ctx: Ctx) -> str | None:
        uri = parse_uri(ctx.msg.uri)
        return (uri.user or None) if uri is not None else None

    @pv("oUl")
    def pv_oUl(self, ctx: Ctx) -> int:
        return len(self.pv_oU(ctx) or "")

    @pv("od")
    def pv_od(self, ctx: Ctx) -> str | None:
        uri = parse_uri(ctx.msg.uri)
        return (uri.host or None) if uri is not None else None

    @pv("op")
    def pv_op(self, ctx: Ctx) -> str | None:
        uri = parse_uri(ctx.msg.uri)
        return (uri.port or ("5061" if uri.transport == "tls" else "5060")) if uri is not None else None

    @pv("oP")
    def pv_oP(self, ctx: Ctx) -> str | None:
        uri = parse_uri(ctx.msg.uri)
        return (uri.param_map.get("transport") or "UDP") if uri is not None else None

    # -- status line -----------------------------------------------------------------------------------------------------

    @pv("rs")
    def pv_rs(self, ctx: Ctx) -> str | None:
        return str(ctx.msg.status) if not ctx.msg.is_request else None

    @pv("rsi")
    def pv_rsi(self, ctx: Ctx) -> int:
        return ctx.msg.status

    @pv("rr")
    def pv_rr(self, ctx: Ctx) -> str | None:
        return ctx.msg.reason if not ctx.msg.is_request else None

    # -- simple headers --------------------------------------------------------------------------------------------------

    @pv("ci")
    def pv_ci(self, ctx: Ctx) -> str | None:
        header = ctx.msg.first.get("call-id")
        return header[2].rstrip(" \t") if header is not None else None

    @pv("cs")
    def pv_cs(self, ctx: Ctx) -> str | None:
        number = ctx.msg.cseq[0]
        return str(number) if number >= 0 else None

    @pv("csb")
    def pv_csb(self, ctx: Ctx) -> str | None:
        return ctx.msg.value("cseq")

    @pv("ua")
    def pv_ua(self, ctx: Ctx) -> str | None:
        header = ctx.msg.first.get("user-agent")
        return header[2] if header is not None else None

    @pv("ct")
    def pv_ct(self, ctx: Ctx) -> str | None:
        return ctx.msg.value("contact")

    @pv("cts")
    def pv_cts(self, ctx: Ctx) -> str | None:
        address = ctx.msg.address("contact")
        return (address.display or None) if address is not None else None

    @pv("ctu")
    def pv_ctu(self, ctx: Ctx) -> str | None:
        from kamc.runtime.sip.addr import parse_addr_list

        value = ctx.msg.value("contact")
        addresses = parse_addr_list(value) if value else None
        return addresses[0].uri if addresses else None

    @pv("cT")
    def pv_cT(self, ctx: Ctx) -> str | None:
        value = ctx.msg.value("content-type")
        return value.rstrip() if value is not None else None

    @pv("cl")
    def pv_cl(self, ctx: Ctx) -> int:
        return ctx.msg.content_length or 0

    @pv("rb")
    def pv_rb(self, ctx: Ctx) -> str | None:
        return ctx.msg.body

    @pv("bs")
    def pv_bs(self, ctx: Ctx) -> int:
        return len(ctx.msg.body)

    # -- the buffer ------------------------------------------------------------------------------------------------------

    @pv("mb")
    def pv_mb(self, ctx: Ctx) -> str:
        return ctx.msg.text

    @pv("ml")
    def pv_ml(self, ctx: Ctx) -> int:
        return len(ctx.msg.text)

    @pv("mbu")
    def pv_mbu(self, ctx: Ctx) -> str:
        if ctx.msg.is_request:
            return build_request(ctx.msg, ctx.edits, ctx.ruri, "")
        return apply_edits(ctx.msg.text, ctx.edits, 0, len(ctx.msg.text))

    @pv("mt")
    def pv_mt(self, ctx: Ctx) -> int:
        return 1 if ctx.msg.is_request else 2

    @pv("mi")
    def pv_mi(self, ctx: Ctx) -> int:
        number = ctx.recall("msg_id")
        if number is None:
            counters = self.rt.counters.values
            number = counters.get(("core", "rcv_requests"), 0) + counters.get(("core", "rcv_replies"), 0) - self.rt.worker.first_message
            ctx.remember("msg_id", number)
        return int(number)

    @pv_class("msg")
    def pv_msg(self, spec: PvSpec) -> BoundPv:
        getters: dict[str, Callable[[Ctx], Value]] = {
            "len": lambda ctx: len(ctx.msg.text),
            "buf": lambda ctx: ctx.msg.text,
            "body": lambda ctx: ctx.msg.body,
            "body_len": lambda ctx: len(ctx.msg.body),
            "hdrs": lambda ctx: ctx.msg.text[ctx.msg.first_line_end : ctx.msg.body_start],
            "hdrs_len": lambda ctx: ctx.msg.body_start - ctx.msg.first_line_end,
            "hdrc": lambda ctx: len(ctx.msg.headers),
            "fline": lambda ctx: ctx.msg.text[: ctx.msg.first_line_end].rstrip("\r\n"),
            "fpart": lambda ctx: ctx.msg.text[: ctx.msg.body_start],
            "lpart": lambda ctx: ctx.msg.text[ctx.msg.first_line_end :],
        }
        return BoundPv(getters[spec.inner or ""])

    @classmethod
    def check_pv_msg(cls, spec: PvSpec) -> str | None:
        known = ("len", "buf", "body", "body_len", "hdrs", "hdrs_len", "hdrc", "fline", "fpart", "lpart")
        return None if spec.inner in known else f"the key is one of {' '.join(known)}"

    @pv_class("msgbuf", set=True)
    def pv_msgbuf(self, spec: PvSpec) -> BoundPv:
        at = int(spec.inner or "0") if (spec.inner or "0").lstrip("-").isdigit() else 0

        def get(ctx: Ctx) -> Value:
            return ctx.msg.text[at : at + 1] or None

        return BoundPv(get)
