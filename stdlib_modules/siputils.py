"""Module siputils: tests and small changes of SIP parts."""

from __future__ import annotations

import email.utils
import re
import secrets

from kamc.declare import ANY, Module, Routes, function, pv_class
from kamc.declare.argtypes import Lit, PvArg
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_str
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.addr import NameAddr, parse_addr, parse_addr_list
from kamc.runtime.sip.headers import header_key
from kamc.runtime.sip.uri import Uri, parse_uri

_E164 = re.compile(r"\+[0-9]{2,15}\Z")
_NON_LETTER = re.compile(r"[^A-Za-z0-9]")
_RFB = Routes.REQUEST | Routes.FAILURE | Routes.BRANCH


#: status of a P-Charging-Vector
_MISSING, _PARSED, _GENERATED = 0, 1, 2
_VECTOR_PART = re.compile(r"\s*([A-Za-z-]+)\s*=\s*([^;,\s]*)")


def _vector(value: str) -> dict[str, str]:
    """Parameters of a P-Charging-Vector; a value ends at a space, as Kamailio reads it."""
    return {m[1].lower(): m[2] for part in value.split(";") if (m := _VECTOR_PART.match(part)) is not None}


def same_uri(a: str, b: str) -> bool:
    """URI comparison of RFC 3261 section 19.1.4."""
    x, y = parse_uri(a), parse_uri(b)
    if x is None or y is None:
        return a == b
    if (x.scheme, x.user, x.password, x.host.lower(), x.port) != (y.scheme, y.user, y.password, y.host.lower(), y.port):
        return False
    must = ("user", "ttl", "method", "maddr", "transport")
    names = set(x.param_map) | set(y.param_map)
    for name in names:
        in_x, in_y = name in x.param_map, name in y.param_map
        if in_x and in_y:
            if (x.param_map[name] or "").lower() != (y.param_map[name] or "").lower():
                return False
        elif name in must:
            return False
    return x.headers == y.headers


def same_aor(a: str, b: str) -> bool:
    """User and host, and ports where defaults do not make them equal."""
    x, y = parse_uri(a), parse_uri(b)
    if x is None or y is None:
        return False
    return (x.user or "", x.host.lower(), x.real_port()) == (y.user or "", y.host.lower(), y.real_port())


class Siputils(Module):
    name = "siputils"
    depends = ("sl",)

    class Params:
        options_accept: str = "*/*"
        options_accept_encoding: str = ""
        options_accept_language: str = "en"
        options_support: str = ""
        contact_flds_separator: str = "*"
        rpid_prefix: str = ""
        rpid_suffix: str = ";party=calling;id-type=subscriber;screen=yes"
        rpid_avp: str = ""
        e164_max_len: int = 15

    # -- OPTIONS ---------------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST)
    def options_reply(self, ctx: Ctx) -> int:
        """Answer an OPTIONS for this host: 200 with what we accept."""
        uri = parse_uri(ctx.ruri)
        if ctx.msg.method != "OPTIONS" or uri is None or uri.user:
            return -1
        p = self.p
        lines = [f"Accept: {p.options_accept}\r\n", f"Accept-Encoding: {p.options_accept_encoding}\r\n", f"Accept-Language: {p.options_accept_language}\r\n",
                 f"Supported: {p.options_support}\r\n"]  # fmt: skip
        ctx.reply_headers = [*(ctx.reply_headers or []), *lines]
        return int(self.rt.module("sl").send_reply(ctx, 200, "OK"))

    # -- tests -----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def has_totag(self, ctx: Ctx) -> int:
        return 1 if ctx.msg.to_tag else -1

    @function(ANY)
    def is_request(self, ctx: Ctx) -> int:
        return 1 if ctx.msg.is_request else -1

    @function(ANY)
    def is_reply(self, ctx: Ctx) -> int:
        return -1 if ctx.msg.is_request else 1

    @function(ANY)
    def is_sip(self, ctx: Ctx) -> int:
        return 1 if ctx.msg.version.upper().startswith("SIP") else -1

    @function(ANY)
    def is_http(self, ctx: Ctx) -> int:
        return 1 if ctx.msg.version.upper().startswith("HTTP") else -1

    @function(Routes.REQUEST | Routes.LOCAL)
    def is_user(self, ctx: Ctx, username: str) -> int:
        """Whether the credentials are of that user."""
        pv = self.rt.module("pv")
        found = pv.credentials(ctx) if pv is not None else None
        return 1 if found and found.get("username") == username else -1

    @function(ANY)
    def is_uri(self, ctx: Ctx, uri: str) -> int:
        return 1 if parse_uri(uri) is not None else -1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.LOCAL)
    def is_e164(self, ctx: Ctx, pvar: PvArg) -> int:
        return self._e164(to_str(pvar.get(ctx)))

    def _e164(self, text: str) -> int:
        return 1 if _E164.match(text) and len(text) - 1 <= self.p.e164_max_len and text[1] != "0" else -1

    @function(ANY)
    def is_uri_user_e164(self, ctx: Ctx, pvar: PvArg) -> int:
        uri = parse_uri(to_str(pvar.get(ctx)))
        return self._e164(uri.user or "") if uri is not None else -1

    @function(Routes.REQUEST)
    def is_rpid_user_e164(self, ctx: Ctx) -> int:
        rpid = self.rt.pv(self.p.rpid_avp)(ctx) if self.p.rpid_avp else None
        text = to_str(rpid)
        uri = parse_uri(text) or parse_uri(a.uri if (a := parse_addr(text)) else "")
        return self._e164((uri.user or "") if uri is not None else text.split("@")[0])

    @function(ANY)
    def is_tel_number(self, ctx: Ctx, tval: str) -> int:
        return 1 if re.fullmatch(r"\+?[0-9]+", tval) else -1

    @function(ANY)
    def is_numeric(self, ctx: Ctx, tval: str) -> int:
        return 1 if re.fullmatch(r"[0-9]+", tval) else -1

    @function(ANY)
    def is_alphanum(self, ctx: Ctx, tval: str) -> int:
        return 1 if re.fullmatch(r"[A-Za-z0-9]+", tval) else -1

    @function(ANY)
    def is_alphanumex(self, ctx: Ctx, tval: str, eset: str) -> int:
        return 1 if tval and not [c for c in tval if not (c.isascii() and c.isalnum()) and c not in eset] else -1

    @function(ANY)
    def cmp_uri(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if same_uri(str1, str2) else -1

    @function(ANY)
    def cmp_aor(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if same_aor(str1, str2) else -1

    @function(ANY)
    def cmp_hdr_name(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if header_key(str1) == header_key(str2) != "" else -1

    @function(ANY)
    def is_gruu(self, ctx: Ctx, uri: str = "") -> int:
        """1 for a public, 2 for a temporary GRUU (RFC 5627)."""
        parsed = parse_uri(uri or ctx.ruri)
        if parsed is None or "gr" not in parsed.param_map:
            return -1
        return 1 if parsed.param_map["gr"] else 2

    @function(ANY)
    def is_supported(self, ctx: Ctx, option: Lit) -> int:
        tags = [t.strip().lower() for h in ctx.msg.all("supported") for t in h[2].split(",")]
        return 1 if option.lower() in tags else -1

    @function(ANY)
    def is_first_hop(self, ctx: Ctx, mode: int = 0) -> int:
        """One Via and no Record-Route of others (requests); the reply's next Via is the last one (replies)."""
        msg = ctx.msg
        if msg.is_request:
            vias = len(msg.vias)
            if mode == 0 and "record-route" in msg.first:
                ours = all(self._ours(a) for h in msg.all("record-route") for a in parse_addr_list(h[2]) or [])
                return 1 if vias == 1 and ours else -1
            return 1 if vias == 1 else -1
        routes = [a for h in msg.all("record-route") for a in parse_addr_list(h[2]) or []]
        if not routes:
            return 1
        return 1 if self._ours(routes[0]) and all(self._ours(a) for a in routes) else -1

    def _ours(self, address: NameAddr) -> bool:
        uri = address.parsed
        return uri is not None and bool(self.rt.is_myself(uri.host, uri.port_number, uri.transport))

    @function(ANY)
    def hdr_date_check(self, ctx: Ctx, tdiff: int) -> int:
        """Whether the Date header is within that many seconds of now."""
        value = ctx.msg.value("date")
        if value is None:
            return -1
        try:
            moment = email.utils.parsedate_to_datetime(value.strip()).timestamp()
        except ValueError:
            return -3
        return 1 if abs(self.rt.wall_time() - moment) <= tdiff else -4

    @function(ANY)
    def sip_parse_headers(self, ctx: Ctx) -> int:
        return 1

    # -- URI parameters --------------------------------------------------------------------------------------------------

    @function(_RFB)
    def uri_param(self, ctx: Ctx, param: str, value: str = "\0") -> int:
        uri = parse_uri(ctx.ruri)
        if uri is None or param.lower() not in uri.param_map:
            return -1
        return 1 if value == "\0" or (uri.param_map[param.lower()] or "") == value else -1

    @function(_RFB)
    def uri_param_any(self, ctx: Ctx, param: str) -> int:
        uri = parse_uri(ctx.ruri)
        return 1 if uri is not None and param.lower() in uri.param_map else -1

    @function(Routes.REQUEST)
    def add_uri_param(self, ctx: Ctx, param: Lit) -> int:
        uri = parse_uri(ctx.ruri)
        if uri is None:
            return -1
        if param:
            self.rt.module("core").set_ruri(ctx, uri.replaced(params=f"{uri.params};{param}".strip(";")))
        return 1

    @function(Routes.REQUEST | Routes.LOCAL)
    def get_uri_param(self, ctx: Ctx, name: Lit, var: PvArg) -> int:
        uri = parse_uri(ctx.ruri)
        if uri is None or name.lower() not in uri.param_map:
            return -1
        var.set(ctx, uri.param_map[name.lower()] or "")
        return 1

    @function(_RFB)
    def uri_param_rm(self, ctx: Ctx, param: str) -> int:
        uri = parse_uri(ctx.ruri)
        if uri is None or param.lower() not in uri.param_map:
            return -1
        kept = ";".join(p for p in uri.params.split(";") if p.partition("=")[0].strip().lower() != param.lower())
        self.rt.module("core").set_ruri(ctx, uri.replaced(params=kept))
        return 1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH, "tel2sip", "tel2sip2")
    def tel2sip(self, ctx: Ctx, uri: str, hostpart: str, result: PvArg) -> int:
        """tel URI → sip URI with ``user=phone`` (RFC 3261 section 19.1.6). 2 when it was no tel URI."""
        if not uri.lower().startswith("tel:"):
            return 2
        number, _, params = uri[4:].partition(";")
        user = re.sub(r"[-.()]", "", number)
        params = ";".join(sorted(params.lower().split(";"))) if params else ""
        result.set(ctx, f"sip:{user}{';' + params if params else ''}@{hostpart};user=phone")
        return 1

    def _set_part(self, ctx: Ctx, uri: PvArg, **parts: str | None) -> int:
        parsed = parse_uri(to_str(uri.get(ctx)))
        if parsed is None or uri.set is None:
            return -1
        uri.set(ctx, parsed.replaced(**parts))
        return 1

    @function(ANY)
    def set_uri_user(self, ctx: Ctx, uri: PvArg, user: PvArg) -> int:
        return self._set_part(ctx, uri, user=to_str(user.get(ctx)) or None)

    @function(ANY)
    def set_uri_host(self, ctx: Ctx, uri: PvArg, host: PvArg) -> int:
        text = to_str(host.get(ctx))
        return self._set_part(ctx, uri, host=text) if text else -1

    # -- Contact ---------------------------------------------------------------------------------------------------------

    def _contact(self, ctx: Ctx) -> tuple[NameAddr, Uri, int] | None:
        """The first Contact, its URI, and where the URI stands in the text."""
        header = ctx.msg.first.get("contact")
        addresses = parse_addr_list(header[2]) if header is not None else None
        uri = addresses[0].parsed if addresses else None
        if header is None or not addresses or uri is None:
            return None
        return addresses[0], uri, ctx.msg.text.index(addresses[0].uri, header[3])

    def _replace_contact(self, ctx: Ctx, found: tuple[NameAddr, Uri, int], new: str) -> int:
        address, _, at = found
        if address.has_brackets or ";" not in new:
            ctx.add_edit(at, at + len(address.uri), new)
        else:
            ctx.add_edit(at, at + len(address.uri), f"<{new}>")
        return 1

    @function(Routes.REQUEST | Routes.ONREPLY)
    def encode_contact(self, ctx: Ctx, encoding_prefix: Lit, hostpart: Lit) -> int:
        found = self._contact(ctx)
        if found is None:
            return -1
        uri = found[1]
        sep = self.p.contact_flds_separator[:1]
        inner = sep.join((encoding_prefix, uri.user or "", uri.password or "", uri.host, uri.port, uri.transport))
        return self._replace_contact(ctx, found, f"sip:{inner}@{hostpart}")

    def _decoded(self, user: str) -> str | None:
        fields = user.split(self.p.contact_flds_separator[:1])
        if len(fields) != 6:
            return None
        _, name, password, host, port, transport = fields
        login = (name + (f":{password}" if password else "") + "@") if name else ""
        return f"sip:{login}{host}{':' + port if port else ''}{';transport=' + transport if transport else ''}"

    @function(Routes.REQUEST)
    def decode_contact(self, ctx: Ctx) -> int:
        uri = parse_uri(ctx.ruri)
        new = self._decoded(uri.user or "") if uri is not None else None
        return -1 if new is None else int(self.rt.module("core").set_ruri(ctx, new))

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY)
    def decode_contact_header(self, ctx: Ctx) -> int:
        found = self._contact(ctx)
        new = self._decoded(found[1].user or "") if found is not None else None
        return -1 if found is None or new is None else self._replace_contact(ctx, found, new)

    @staticmethod
    def _packed(text: str) -> str:
        import base64

        return base64.urlsafe_b64encode(text.encode("latin-1")).decode("ascii").rstrip("=")

    @staticmethod
    def _unpacked(text: str) -> str | None:
        import base64

        try:
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("latin-1")
        except ValueError:
            return None

    @function(Routes.REQUEST | Routes.ONREPLY)
    def contact_param_encode(self, ctx: Ctx, pname: str, saddr: str) -> int:
        """The Contact's URI goes, encoded, into a parameter of a URI that points at us."""
        found = self._contact(ctx)
        if found is None:
            return -1
        return self._replace_contact(ctx, found, f"{saddr};{pname}={self._packed(found[0].uri)}")

    @function(Routes.REQUEST | Routes.ONREPLY)
    def contact_param_encode_alias(self, ctx: Ctx, pname: str, saddr: str) -> int:
        found = self._contact(ctx)
        if found is None:
            return -1
        from kamc.runtime.net.endpoint import PROTO_ID

        flow = ctx.flow
        alias = f"{flow.remote_ip}~{flow.remote_port}~{PROTO_ID.get(flow.proto, 1)}"
        return self._replace_contact(ctx, found, f"{saddr};{pname}={self._packed(found[0].uri + ';alias=' + alias)}")

    def _param_uri(self, uri: Uri | None, pname: str) -> str | None:
        value = uri.param_map.get(pname.lower()) if uri is not None else None
        return self._unpacked(value) if value else None

    @function(Routes.REQUEST | Routes.ONREPLY)
    def contact_param_decode(self, ctx: Ctx, pname: str) -> int:
        found = self._contact(ctx)
        new = self._param_uri(found[1], pname) if found is not None else None
        return -1 if found is None or new is None else self._replace_contact(ctx, found, new)

    @function(Routes.REQUEST)
    def contact_param_decode_ruri(self, ctx: Ctx, pname: str) -> int:
        new = self._param_uri(parse_uri(ctx.ruri), pname)
        return -1 if new is None else int(self.rt.module("core").set_ruri(ctx, new))

    @function(Routes.REQUEST | Routes.ONREPLY)
    def contact_param_rm(self, ctx: Ctx, pname: str) -> int:
        found = self._contact(ctx)
        if found is None or pname.lower() not in found[1].param_map:
            return -1
        kept = ";".join(p for p in found[1].params.split(";") if p.partition("=")[0].strip().lower() != pname.lower())
        return self._replace_contact(ctx, found, found[1].replaced(params=kept))

    @function(ANY)
    def contact_param_check(self, ctx: Ctx, pname: str) -> int:
        found = self._contact(ctx)
        return 1 if found is not None and pname.lower() in found[1].param_map else -1

    # -- identity headers ------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST | Routes.FAILURE | Routes.BRANCH, arities=(0, 2))
    def append_rpid_hf(self, ctx: Ctx, prefix: Lit = "\0", suffix: Lit = "\0") -> int:
        rpid = to_str(self.rt.pv(self.p.rpid_avp)(ctx)) if self.p.rpid_avp else ""
        if not rpid:
            return -1
        before = self.p.rpid_prefix if prefix == "\0" else prefix
        after = self.p.rpid_suffix if suffix == "\0" else suffix
        at = ctx.msg.body_start - 2
        ctx.add_edit(at, at, f"Remote-Party-ID: {before}{rpid}{after}\r\n")
        return 1

    @function(ANY)
    def sip_p_charging_vector(self, ctx: Ctx, flags: str) -> int:
        """P-Charging-Vector (RFC 7315): r removes, g generates when missing, f generates anew."""
        lines = ctx.msg.all("p-charging-vector")
        if "r" in flags or "f" in flags:
            for h in lines:
                ctx.add_edit(h[3], h[4], "")
        if "f" in flags or ("g" in flags and not lines):
            at = ctx.msg.body_start - 2
            value = f"icid-value={secrets.token_hex(16)}; icid-generated-at={ctx.flow.listener.via_host}"
            ctx.remember("charging_vector", (_GENERATED, f"P-Charging-Vector: {value}\r\n", _vector(value)))
            ctx.add_edit(at, at, f"P-Charging-Vector: {value}\r\n")
        return 1

    def _charging_vector(self, ctx: Ctx) -> tuple[int, str, dict[str, str]]:
        """(status, text, parameters) of P-Charging-Vector, or of the one that was generated."""
        made: tuple[int, str, dict[str, str]] | None = ctx.recall("charging_vector")
        if made is not None:
            return made
        value = ctx.msg.value("p-charging-vector")
        parts = _vector(value) if value is not None else {}
        if value is None or "icid-value" not in parts:
            return _MISSING, "", {}
        return _PARSED, value.strip(), parts

    @pv_class("pcv")
    def pv_pcv(self, spec: PvSpec) -> BoundPv:
        """``$pcv(all|value|genaddr|orig|term|status)``; status is 0 without one, 1 for the request's, 2 for a generated one."""
        key = spec.inner or ""
        name = {"value": "icid-value", "genaddr": "icid-generated-at", "orig": "orig-ioi", "term": "term-ioi"}.get(key, "")

        def get(ctx: Ctx) -> Value:
            status, text, parts = self._charging_vector(ctx)
            if key == "status":
                return status
            return (text or None) if key == "all" else parts.get(name)

        return BoundPv(get)

    @classmethod
    def check_pv_pcv(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("all", "value", "genaddr", "orig", "term", "status") else f"unknown name {spec.inner!r}"


module = Siputils
