"""Variables of the message: request line, headers, body, buffer, flags, branches."""

from __future__ import annotations

import re
from collections.abc import Callable

from kamc.declare import pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int, to_str
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.pv.bind import BoundPv, index_getter, inner_name
from kamc.runtime.sip.build import build_request
from kamc.runtime.sip.edits import apply_edits
from kamc.runtime.sip.headers import header_key
from kamc.runtime.sip.message import Header
from kamc.runtime.sip.uri import Uri, parse_uri, split_quoted
from stdlib_modules.pv.base import METHOD_IDS, OTHER_METHOD, Vars, text_only


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

    # -- headers by name -------------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_hdr(cls, spec: PvSpec) -> str | None:
        name = (spec.inner or "").strip()
        return f"{name!r} is no name of a header" if "$" not in name and re.search(r"[\s:]", name) else None

    check_pv_hfl = check_pv_hdrc = check_pv_hflc = check_pv_hdr

    def _header_lines(self, spec: PvSpec) -> Callable[[Ctx], list[Header]]:
        literal, getter = inner_name(self.rt, (spec.inner or "").strip())
        if getter is None:
            key = header_key(literal) or literal.lower()
            return lambda ctx: ctx.msg.all(key)
        return lambda ctx: ctx.msg.all(header_key(to_str(getter(ctx)).strip()))

    @pv_class("hdr", index=True, kind="str")
    def pv_hdr(self, spec: PvSpec) -> BoundPv:
        index, index_of = index_getter(self.rt, spec)
        literal, getter = inner_name(self.rt, (spec.inner or "").strip())
        if index is None and index_of is None and getter is None:
            key = header_key(literal) or literal.lower()

            def first(ctx: Ctx) -> Value:
                header = ctx.msg.first.get(key)
                return header[2] if header is not None else None

            return BoundPv(first)
        lines = self._header_lines(spec)

        def get(ctx: Ctx) -> Value:
            found = lines(ctx)
            if index == "*":
                return ",".join(h[2] for h in found) if found else None
            at = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            return found[at][2] if -len(found) <= at < len(found) else None

        return BoundPv(get)

    @pv_class("hdrc", kind="int")
    def pv_hdrc(self, spec: PvSpec) -> BoundPv:
        lines = self._header_lines(spec)
        return BoundPv(lambda ctx: len(lines(ctx)))

    @pv_class("hfl", index=True, kind="str")
    def pv_hfl(self, spec: PvSpec) -> BoundPv:
        lines = self._header_lines(spec)
        index, index_of = index_getter(self.rt, spec)
        # Kamailio 5.6 has the contacts of one header the other way round, and no counting from the end
        older = self.rt.compat == "5.6" and (spec.inner or "").strip().lower() in ("contact", "m")

        def get(ctx: Ctx) -> Value:
            found = lines(ctx)
            if index == "*":
                return ",".join(h[2] for h in found) if found else None
            members = [m.strip() for h in found for m in split_quoted(h[2], ",")]
            at = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            if older:
                members = [m.strip() for h in found for m in reversed(split_quoted(h[2], ","))]
                return members[at] if 0 <= at < len(members) else None
            return members[at] if -len(members) <= at < len(members) else None

        return BoundPv(get)

    @pv_class("hflc", kind="int")
    def pv_hflc(self, spec: PvSpec) -> BoundPv:
        lines = self._header_lines(spec)
        return BoundPv(lambda ctx: sum(len(split_quoted(h[2], ",")) for h in lines(ctx)))

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
            number = counters.get(("core", "rcv_requests"), 0) + counters.get(("core", "rcv_replies"), 0)
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

    # -- flags -----------------------------------------------------------------------------------------------------------

    def _flag_pair(self, attribute: str) -> tuple[Callable[[Ctx], Value], Callable[[Ctx, Value], None]]:
        def get(ctx: Ctx) -> Value:
            return int(getattr(ctx, attribute))

        def put(ctx: Ctx, value: Value) -> None:
            setattr(ctx, attribute, to_int(value) & 0xFFFFFFFF)

        return get, put

    @pv("mf", set="set_mf", inline="ctx.flags")
    def pv_mf(self, ctx: Ctx) -> int:
        return ctx.flags

    def set_mf(self, ctx: Ctx, value: Value) -> None:
        ctx.flags = to_int(value) & 0xFFFFFFFF

    @pv("mF", set="set_mf")
    def pv_mF(self, ctx: Ctx) -> str:
        return f"{ctx.flags:08X}"

    @pv("bf", set="set_bf")
    def pv_bf(self, ctx: Ctx) -> int:
        return ctx.bflags

    def set_bf(self, ctx: Ctx, value: Value) -> None:
        ctx.bflags = to_int(value) & 0xFFFFFFFF

    @pv("bF", set="set_bf")
    def pv_bF(self, ctx: Ctx) -> str:
        return f"{ctx.bflags:08X}"

    @pv("sf", set="set_sf")
    def pv_sf(self, ctx: Ctx) -> int:
        return int(self.rt.worker.shared.get("\0sflags", 0))

    def set_sf(self, ctx: Ctx, value: Value) -> None:
        self.rt.worker.shared["\0sflags"] = to_int(value) & 0xFFFFFFFF

    @pv("sF", set="set_sf")
    def pv_sF(self, ctx: Ctx) -> str:
        return f"{self.pv_sf(ctx):08X}"

    def _one_flag(self, spec: PvSpec, get_all: Callable[[Ctx], int], set_all: Callable[[Ctx, Value], None]) -> BoundPv:
        literal, getter = inner_name(self.rt, (spec.inner or "").strip())

        def bit(ctx: Ctx) -> int:
            return to_int(getter(ctx)) if getter is not None else int(literal)

        def put(ctx: Ctx, value: Value) -> None:
            mask = 1 << bit(ctx)
            set_all(ctx, get_all(ctx) | mask if to_int(value) else get_all(ctx) & ~mask)

        return BoundPv(lambda ctx: get_all(ctx) >> bit(ctx) & 1, put)

    @pv_class("Mf", set=True, kind="int")
    def pv_Mf(self, spec: PvSpec) -> BoundPv:
        return self._one_flag(spec, self.pv_mf, self.set_mf)

    @pv_class("Bf", set=True, kind="int")
    def pv_Bf(self, spec: PvSpec) -> BoundPv:
        return self._one_flag(spec, self.pv_bf, self.set_bf)

    @pv_class("Sf", set=True, kind="int")
    def pv_Sf(self, spec: PvSpec) -> BoundPv:
        return self._one_flag(spec, self.pv_sf, self.set_sf)

    # -- destinations ----------------------------------------------------------------------------------------------------

    @pv("du", "duri", set="set_du", inline="ctx.du")
    def pv_du(self, ctx: Ctx) -> str | None:
        return ctx.du

    @text_only
    def set_du(self, ctx: Ctx, value: Value) -> None:
        ctx.du = to_str(value) or None
        if value:
            ctx.ruri_used = False

    def _du(self, ctx: Ctx) -> Uri | None:
        return parse_uri(ctx.du) if ctx.du else None

    @pv("fs", set="set_fs")
    def pv_fs(self, ctx: Ctx) -> str | None:
        return str(ctx.send_socket) if ctx.send_socket is not None else None

    def set_fs(self, ctx: Ctx, value: Value) -> None:
        if not value:
            ctx.send_socket = None
            return
        parts = to_str(value).split(":")
        proto = parts.pop(0) if parts[0] in ("udp", "tcp", "tls", "sctp") else ""
        port = int(parts.pop()) if len(parts) > 1 and parts[-1].isdigit() else 0
        found = self.rt.worker.find_listener(proto, ":".join(parts), port)
        if found is None:
            self.rt.log.error("$fs: %s is no listening socket", value)
            return
        ctx.send_socket = found

    @pv("fsn", set="set_fsn")
    def pv_fsn(self, ctx: Ctx) -> str | None:
        return (ctx.send_socket.name or None) if ctx.send_socket is not None else None

    def set_fsn(self, ctx: Ctx, value: Value) -> None:
        ctx.send_socket = self.rt.worker.find_listener_name(to_str(value)) if value else None

    @pv("fsp")
    def pv_fsp(self, ctx: Ctx) -> Value:
        return ctx.send_socket.port if ctx.send_socket is not None else None

    @pv("mts")
    def pv_mts(self, ctx: Ctx) -> str:
        return "rq" if ctx.msg.is_request else "rp"

    @pv("dd")
    def pv_dd(self, ctx: Ctx) -> str | None:
        uri = self._du(ctx)
        return uri.host if uri is not None else None

    @pv("dp")
    def pv_dp(self, ctx: Ctx) -> str | None:
        uri = self._du(ctx)
        return str(uri.real_port()) if uri is not None else None

    @pv("dP")
    def pv_dP(self, ctx: Ctx) -> str | None:
        uri = self._du(ctx)
        return (uri.param_map.get("transport") or "UDP") if uri is not None else None

    @pv_class("nh")
    def pv_nh(self, spec: PvSpec) -> BoundPv:
        def next_hop(ctx: Ctx) -> Uri | None:
            return parse_uri(ctx.du or ctx.ruri)

        table: dict[str, Callable[[Uri], Value]] = {
            "U": lambda u: u.user, "d": lambda u: u.host, "p": lambda u: str(u.real_port()), "P": lambda u: u.param_map.get("transport") or "UDP",
            "i": lambda u: self.rt.datapath.lookup(u.host),
        }  # fmt: skip
        key = spec.inner or ""
        if key == "u":
            return BoundPv(lambda ctx: ctx.du or ctx.ruri)
        part = table[key]
        return BoundPv(lambda ctx: part(u) if (u := next_hop(ctx)) is not None else None)

    @classmethod
    def check_pv_nh(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("u", "U", "d", "p", "P", "i") else "the key is one of u U d p P i"

    @pv("ds")
    def pv_ds(self, ctx: Ctx) -> str | None:
        if not ctx.branches:
            return None
        return "Contact: " + ", ".join(self._branch_text(b) for b in ctx.branches)

    @staticmethod
    def _branch_text(b: Branch) -> str:
        return f"<{b.uri}>" + (f";q={b.q / 1000:g}" if b.q >= 0 else "")

    @pv("br", set="set_br")
    def pv_br(self, ctx: Ctx) -> str | None:
        return ctx.branches[0].uri if ctx.branches else None

    def set_br(self, ctx: Ctx, value: Value) -> None:
        if value is None:
            ctx.branches.clear()
        else:
            self.rt.modules["core"].append_branch(ctx, to_str(value))

    @pv("bR")
    def pv_bR(self, ctx: Ctx) -> str | None:
        return ", ".join(self._branch_text(b) if b.q >= 0 else b.uri for b in ctx.branches) or None

    _BRANCH_FIELDS = {"uri": "uri", "dst_uri": "dst_uri", "path": "path", "q": "q", "flags": "flags", "instance": "instance", "ruid": "ruid",
                      "location_ua": "user_agent", "send_socket": "send_socket"}  # fmt: skip

    @pv_class("branch", set=True, index=True)
    def pv_branch(self, spec: PvSpec) -> BoundPv:
        key = spec.inner or ""
        if key == "count":
            return BoundPv(lambda ctx: len(ctx.branches) or None)
        index, index_of = index_getter(self.rt, spec)
        field = self._BRANCH_FIELDS.get(key, "")

        def at(ctx: Ctx) -> Branch | None:
            number = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            return ctx.branches[number] if -len(ctx.branches) <= number < len(ctx.branches) else None

        def get(ctx: Ctx) -> Value:
            branch = at(ctx)
            return self.branch_value(branch, field) if branch is not None else None

        def put(ctx: Ctx, value: Value) -> None:
            branch = at(ctx)
            if branch is None:
                return
            if field == "uri" and value is None:
                ctx.branches.remove(branch)
                return
            self.set_branch_value(branch, field, value)

        return BoundPv(get, put)

    @classmethod
    def check_pv_branch(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in (*cls._BRANCH_FIELDS, "count", "otcpid") else "unknown branch attribute"

    @staticmethod
    def branch_value(branch: Branch, field: str) -> Value:
        value = getattr(branch, field, None)
        return str(value) if field == "send_socket" and value is not None else value

    def set_branch_value(self, branch: Branch, field: str, value: Value) -> None:
        if field == "send_socket":
            parts = to_str(value).split(":")
            found = self.rt.worker.find_listener(parts[0], parts[1], int(parts[2])) if len(parts) == 3 and parts[2].isdigit() else None
            branch.send_socket = found
        elif field in ("q", "flags"):
            setattr(branch, field, to_int(value))
        elif field:
            setattr(branch, field, to_str(value) if value is not None else None)

    @pv_class("sbranch", set=True)
    def pv_sbranch(self, spec: PvSpec) -> BoundPv:
        field = self._BRANCH_FIELDS.get(spec.inner or "", "")

        def get(ctx: Ctx) -> Value:
            return self.branch_value(ctx.sbranch, field) if ctx.sbranch is not None else None

        def put(ctx: Ctx, value: Value) -> None:
            if ctx.sbranch is None:
                ctx.sbranch = Branch("")
            self.set_branch_value(ctx.sbranch, field, value)

        return BoundPv(get, put)

    @pv("ruid")
    def pv_ruid(self, ctx: Ctx) -> str | None:
        return ctx.ruid

    @pv("location_ua")
    def pv_location_ua(self, ctx: Ctx) -> str | None:
        return ctx.location_ua
