"""Variables of addresses: From and To (readable and writable), identities, diversion, credentials."""

from __future__ import annotations

import re
from collections.abc import Callable

from kamc.declare import pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_str
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv, index_getter
from kamc.runtime.sip.addr import NameAddr, parse_addr_list
from kamc.runtime.sip.uri import Uri, parse_uri
from stdlib_modules.pv.base import Vars, text_only

_CREDENTIAL = re.compile(r"([A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|([^,\s]*))")


def _uri(address: NameAddr | None) -> Uri | None:
    return parse_uri(address.uri) if address is not None else None


class AddressVars(Vars):
    # -- From ------------------------------------------------------------------------------------------------------------

    @pv("fu", "from", set="set_fu")
    def pv_fu(self, ctx: Ctx) -> str | None:
        address = ctx.msg.from_
        return address.uri if address is not None else None

    @text_only
    def set_fu(self, ctx: Ctx, value: Value) -> None:
        self._replace(ctx, "from", value, lambda address: None)

    @pv("ful")
    def pv_ful(self, ctx: Ctx) -> int:
        return len(self.pv_fu(ctx) or "")

    @pv("fU", "from.user", set="set_fU")
    def pv_fU(self, ctx: Ctx) -> str | None:
        uri = _uri(ctx.msg.from_)
        return (uri.user or None) if uri is not None else None

    @text_only
    def set_fU(self, ctx: Ctx, value: Value) -> None:
        self._change_uri(ctx, "from", user=to_str(value) or None)

    @pv("fUl")
    def pv_fUl(self, ctx: Ctx) -> int:
        return len(self.pv_fU(ctx) or "")

    @pv("fd", "from.domain", set="set_fd")
    def pv_fd(self, ctx: Ctx) -> str | None:
        uri = _uri(ctx.msg.from_)
        return (uri.host or None) if uri is not None else None

    @text_only
    def set_fd(self, ctx: Ctx, value: Value) -> None:
        self._change_uri(ctx, "from", host=to_str(value))

    @pv("fn", set="set_fn")
    def pv_fn(self, ctx: Ctx) -> str | None:
        address = ctx.msg.from_
        return (address.display or None) if address is not None else None

    @text_only
    def set_fn(self, ctx: Ctx, value: Value) -> None:
        self._change_display(ctx, "from", to_str(value))

    @pv("ft")
    def pv_ft(self, ctx: Ctx) -> str | None:
        return ctx.msg.from_tag or None

    @pv("fts")
    def pv_fts(self, ctx: Ctx) -> str | None:
        return ctx.msg.from_tag or None

    # -- To --------------------------------------------------------------------------------------------------------------

    @pv("tu", "to", set="set_tu")
    def pv_tu(self, ctx: Ctx) -> str | None:
        address = ctx.msg.to
        return address.uri if address is not None else None

    @text_only
    def set_tu(self, ctx: Ctx, value: Value) -> None:
        self._replace(ctx, "to", value, lambda address: None)

    @pv("tul")
    def pv_tul(self, ctx: Ctx) -> int:
        return len(self.pv_tu(ctx) or "")

    @pv("tU", "to.user", set="set_tU")
    def pv_tU(self, ctx: Ctx) -> str | None:
        uri = _uri(ctx.msg.to)
        return (uri.user or None) if uri is not None else None

    @text_only
    def set_tU(self, ctx: Ctx, value: Value) -> None:
        self._change_uri(ctx, "to", user=to_str(value) or None)

    @pv("tUl")
    def pv_tUl(self, ctx: Ctx) -> int:
        return len(self.pv_tU(ctx) or "")

    @pv("td", "to.domain", set="set_td")
    def pv_td(self, ctx: Ctx) -> str | None:
        uri = _uri(ctx.msg.to)
        return (uri.host or None) if uri is not None else None

    @text_only
    def set_td(self, ctx: Ctx, value: Value) -> None:
        self._change_uri(ctx, "to", host=to_str(value))

    @pv("tn", set="set_tn")
    def pv_tn(self, ctx: Ctx) -> str | None:
        address = ctx.msg.to
        return (address.display or None) if address is not None else None

    @text_only
    def set_tn(self, ctx: Ctx, value: Value) -> None:
        self._change_display(ctx, "to", to_str(value))

    @pv("tt")
    def pv_tt(self, ctx: Ctx) -> str | None:
        return ctx.msg.to_tag or None

    @pv("tts")
    def pv_tts(self, ctx: Ctx) -> str | None:
        return ctx.msg.to_tag or None

    # -- changing them ---------------------------------------------------------------------------------------------------

    def _place(self, ctx: Ctx, key: str) -> tuple[NameAddr, int] | None:
        """The address and the offset of its header's value."""
        header = ctx.msg.first.get(key)
        address = ctx.msg.address(key)
        if header is None or address is None:
            return None
        return address, ctx.msg.text.index(header[2], header[3] + len(header[1]) + 1)

    def _replace(self, ctx: Ctx, key: str, value: Value, _: Callable[[NameAddr], None]) -> None:
        place = self._place(ctx, key)
        if place is None:
            return
        address, at = place
        begin = ctx.msg.text.index(address.uri, at + (len(address.display) if address.has_brackets else 0))
        ctx.edits = [e for e in ctx.edits if e[:2] != (begin, begin + len(address.uri))]
        ctx.add_edit(begin, begin + len(address.uri), to_str(value))

    def _change_uri(self, ctx: Ctx, key: str, **parts: str | None) -> None:
        address = ctx.msg.address(key)
        uri = _uri(address)
        if uri is None or address is None:
            self.rt.log.error("the URI in %s cannot be changed", key)
            return
        self._replace(ctx, key, uri.replaced(**parts), lambda a: None)

    def _change_display(self, ctx: Ctx, key: str, text: str) -> None:
        place = self._place(ctx, key)
        if place is None:
            return
        address, at = place
        if address.display:
            begin = ctx.msg.text.index(address.display, at)
            ctx.add_edit(begin, begin + len(address.display), text)
        elif address.has_brackets:
            ctx.add_edit(at, at, text + " ")
        else:
            end = at + len(address.uri)
            ctx.add_edit(at, end, f"{text} <{address.uri}>")

    # -- identities ------------------------------------------------------------------------------------------------------

    def _identity(self, key: str, spec: PvSpec, part: Callable[[NameAddr], Value]) -> BoundPv:
        index, index_of = index_getter(self.rt, spec)

        def get(ctx: Ctx) -> Value:
            values = [a for h in ctx.msg.all(key) for a in (parse_addr_list(h[2]) or [])]
            from kamc.declare.values import to_int

            at = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            return part(values[at]) if -len(values) <= at < len(values) else None

        return BoundPv(get)

    @pv_class("ai", index=True, optional=True)
    def pv_ai(self, spec: PvSpec) -> BoundPv:
        return self._identity("p-asserted-identity", spec, lambda a: a.uri)

    @pv_class("pu", index=True, optional=True)
    def pv_pu(self, spec: PvSpec) -> BoundPv:
        return self._identity("p-preferred-identity", spec, lambda a: a.uri)

    @pv_class("pU", index=True, optional=True)
    def pv_pU(self, spec: PvSpec) -> BoundPv:
        return self._identity("p-preferred-identity", spec, lambda a: u.user if (u := _uri(a)) else None)

    @pv_class("pd", index=True, optional=True)
    def pv_pd(self, spec: PvSpec) -> BoundPv:
        return self._identity("p-preferred-identity", spec, lambda a: u.host if (u := _uri(a)) else None)

    @pv_class("pn", index=True, optional=True)
    def pv_pn(self, spec: PvSpec) -> BoundPv:
        return self._identity("p-preferred-identity", spec, lambda a: a.display or None)

    @pv("re")
    def pv_re(self, ctx: Ctx) -> str | None:
        address = ctx.msg.address("remote-party-id")
        return address.uri if address is not None else None

    @pv("rt")
    def pv_rt(self, ctx: Ctx) -> str | None:
        address = ctx.msg.address("refer-to")
        return address.uri if address is not None else None

    def _diversion(self, ctx: Ctx, name: str) -> str | None:
        address = ctx.msg.address("diversion")
        return address.param(name) if address is not None else None

    @pv("di")
    def pv_di(self, ctx: Ctx) -> str | None:
        address = ctx.msg.address("diversion")
        return address.uri if address is not None else None

    @pv("dir")
    def pv_dir(self, ctx: Ctx) -> str | None:
        return self._diversion(ctx, "reason")

    @pv("dip")
    def pv_dip(self, ctx: Ctx) -> str | None:
        return self._diversion(ctx, "privacy")

    @pv("dic")
    def pv_dic(self, ctx: Ctx) -> str | None:
        return self._diversion(ctx, "counter")

    # -- credentials -----------------------------------------------------------------------------------------------------

    def credentials(self, ctx: Ctx) -> dict[str, str] | None:
        """Parameters of the Authorization (else Proxy-Authorization) header, names in lower case."""
        cached = ctx.recall("credentials")
        if cached is not None:
            return dict(cached)
        value = ctx.msg.value("authorization") or ctx.msg.value("proxy-authorization")
        if value is None or not value.lower().startswith("digest"):
            return None
        found = {m.group(1).lower(): m.group(2) if m.group(2) is not None else m.group(3) for m in _CREDENTIAL.finditer(value[6:])}
        ctx.remember("credentials", found)
        return found

    def _credential(self, ctx: Ctx, name: str) -> str | None:
        found = self.credentials(ctx)
        return found.get(name) if found else None

    @pv("au")
    def pv_au(self, ctx: Ctx) -> str | None:
        user = self._credential(ctx, "username")
        return user.split("@", 1)[0] if user else None

    @pv("aU")
    def pv_aU(self, ctx: Ctx) -> str | None:
        return self._credential(ctx, "username")

    @pv("ad")
    def pv_ad(self, ctx: Ctx) -> str | None:
        user = self._credential(ctx, "username")
        return user.split("@", 1)[1] if user and "@" in user else self._credential(ctx, "realm")

    @pv("ar")
    def pv_ar(self, ctx: Ctx) -> str | None:
        return self._credential(ctx, "realm")

    @pv("aa")
    def pv_aa(self, ctx: Ctx) -> str | None:
        return self._credential(ctx, "algorithm")

    @pv("adn")
    def pv_adn(self, ctx: Ctx) -> str | None:
        return self._credential(ctx, "nonce")

    @pv("adc")
    def pv_adc(self, ctx: Ctx) -> str | None:
        return self._credential(ctx, "cnonce")

    @pv("adr")
    def pv_adr(self, ctx: Ctx) -> str | None:
        return self._credential(ctx, "response")

    @pv("ado")
    def pv_ado(self, ctx: Ctx) -> str | None:
        return self._credential(ctx, "opaque")

    @pv("adu")
    def pv_adu(self, ctx: Ctx) -> str | None:
        return self._credential(ctx, "uri")

    @pv("Au")
    def pv_Au(self, ctx: Ctx) -> str | None:
        """The account: ``user@realm`` of the credentials, else the From URI without its scheme."""
        found = self.credentials(ctx)
        if found and found.get("username"):
            user = found["username"].split("@", 1)[0]
            return f"{user}@{found.get('realm', '')}"
        uri = _uri(ctx.msg.from_)
        return f"{uri.user}@{uri.host}" if uri is not None and uri.user else None

    @pv("AU")
    def pv_AU(self, ctx: Ctx) -> str | None:
        found = self.credentials(ctx)
        if found and found.get("username"):
            return found["username"].split("@", 1)[0]
        uri = _uri(ctx.msg.from_)
        return uri.user if uri is not None else None
