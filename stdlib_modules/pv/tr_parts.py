"""Transformations that take texts apart: uri, param, nameaddr, tobody, line, urialias; and re.subst's neighbours by other modules."""

from __future__ import annotations

import re

from kamc.declare import transformation
from kamc.declare.values import Value, to_str
from kamc.runtime.net.endpoint import PROTO_ID, is_ip
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.sip.uri import Uri, parse_uri


def _uri(value: Value) -> Uri | None:
    return parse_uri(to_str(value))


def _unquoted(text: str | None) -> str:
    text = text or ""
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text


def _pairs(value: Value, sep: str) -> list[tuple[str, str]]:
    out = []
    for part in to_str(value).split(sep or ";"):
        name, _, text = part.partition("=")
        out.append((name.strip(), _unquoted(text.strip())))
    if out and out[-1] == ("", ""):
        out.pop()
    return out


class PartTransformations:
    @staticmethod
    @transformation("uri.user")
    def uri_user(value: Value) -> Value:
        return (u.user or "") if (u := _uri(value)) else None

    @staticmethod
    @transformation("uri.host", "uri.domain")
    def uri_host(value: Value) -> Value:
        return u.host if (u := _uri(value)) else None

    @staticmethod
    @transformation("uri.passwd")
    def uri_passwd(value: Value) -> Value:
        return (u.password or "") if (u := _uri(value)) else None

    @staticmethod
    @transformation("uri.port")
    def uri_port(value: Value) -> Value:
        return u.port if (u := _uri(value)) else None

    @staticmethod
    @transformation("uri.params")
    def uri_params(value: Value) -> Value:
        return u.params if (u := _uri(value)) and u.scheme != "tel" else ""

    @staticmethod
    @transformation("uri.headers")
    def uri_headers(value: Value) -> Value:
        return u.headers if (u := _uri(value)) else None

    @staticmethod
    @transformation("uri.scheme")
    def uri_scheme(value: Value) -> Value:
        return u.scheme if (u := _uri(value)) else None

    @staticmethod
    @transformation("uri.param")
    def uri_param(value: Value, name: str) -> Value:
        return _unquoted(u.param_map.get(name.lower())) if (u := _uri(value)) else None

    @staticmethod
    def _known(value: Value, name: str) -> Value:
        return (u.param_map.get(name) or "") if (u := _uri(value)) else None

    @staticmethod
    @transformation("uri.transport")
    def uri_transport(value: Value) -> Value:
        return PartTransformations._known(value, "transport")

    @staticmethod
    @transformation("uri.ttl")
    def uri_ttl(value: Value) -> Value:
        return PartTransformations._known(value, "ttl")

    @staticmethod
    @transformation("uri.uparam")
    def uri_uparam(value: Value) -> Value:
        return PartTransformations._known(value, "user")

    @staticmethod
    @transformation("uri.maddr")
    def uri_maddr(value: Value) -> Value:
        return PartTransformations._known(value, "maddr")

    @staticmethod
    @transformation("uri.method")
    def uri_method(value: Value) -> Value:
        return PartTransformations._known(value, "method")

    @staticmethod
    @transformation("uri.lr")
    def uri_lr(value: Value) -> Value:
        return PartTransformations._known(value, "lr")

    @staticmethod
    @transformation("uri.r2")
    def uri_r2(value: Value) -> Value:
        return PartTransformations._known(value, "r2")

    @staticmethod
    @transformation("uri.rmparam")
    def uri_rmparam(value: Value, name: str) -> Value:
        u = _uri(value)
        if u is None:
            return to_str(value)
        return u.replaced(params=";".join(p for p in u.params.split(";") if p.partition("=")[0].lower() != name.lower()))

    @staticmethod
    @transformation("uri.duri")
    def uri_duri(value: Value) -> Value:
        u = _uri(value)
        if u is None:
            return ""
        transport = u.param_map.get("transport")
        return f"{u.scheme}:{u.host}" + (f":{u.port}" if u.port else "") + (f";transport={transport}" if transport else "")

    @staticmethod
    @transformation("uri.saor")
    def uri_saor(value: Value) -> Value:
        u = _uri(value)
        return f"{u.scheme}:{u.user + '@' if u.user else ''}{u.host}" if u is not None else ""

    @staticmethod
    @transformation("uri.suri")
    def uri_suri(value: Value) -> Value:
        u = _uri(value)
        if u is None:
            return ""
        transport = u.param_map.get("transport")
        return f"{u.scheme}:{u.user + '@' if u.user else ''}{u.host}" + (f":{u.port}" if u.port else "") + (f";transport={transport}" if transport else "")

    @staticmethod
    @transformation("uri.tosocket")
    def uri_tosocket(value: Value) -> Value:
        u = _uri(value)
        if u is None or not is_ip(u.host) or not u.port:
            return ""
        return f"{u.transport or 'udp'}:{u.host}:{u.port}"

    # -- param -----------------------------------------------------------------------------------------------------------

    @staticmethod
    @transformation("param.value")
    def param_value(value: Value, name: str, sep: str = ";") -> Value:
        return next((v for n, v in _pairs(value, sep) if n.lower() == name.lower()), "")

    @staticmethod
    @transformation("param.in")
    def param_in(value: Value, name: str, sep: str = ";") -> Value:
        return int(any(n.lower() == name.lower() for n, _ in _pairs(value, sep)))

    @staticmethod
    @transformation("param.valueat")
    def param_valueat(value: Value, index: int, sep: str = ";") -> Value:
        pairs = _pairs(value, sep)
        return pairs[index][1] if -len(pairs) <= index < len(pairs) else ""

    @staticmethod
    @transformation("param.name")
    def param_name(value: Value, index: int, sep: str = ";") -> Value:
        pairs = _pairs(value, sep)
        return pairs[index][0] if -len(pairs) <= index < len(pairs) else ""

    @staticmethod
    @transformation("param.count")
    def param_count(value: Value, sep: str = ";") -> Value:
        return len(_pairs(value, sep)) if to_str(value) else ""

    # -- addresses -------------------------------------------------------------------------------------------------------

    @staticmethod
    @transformation("nameaddr.name")
    def nameaddr_name(value: Value) -> Value:
        text = to_str(value)
        head, bracket, _ = text.partition("<")
        # the blank before the bracket belongs to the name, as recorded
        return head.lstrip() if bracket else ""

    @staticmethod
    @transformation("nameaddr.uri")
    def nameaddr_uri(value: Value) -> Value:
        text = to_str(value)
        address = parse_addr(text)
        if address is not None:
            return address.uri
        return "" if "<" in text or '"' in text else text.partition(";")[0].strip()

    @staticmethod
    @transformation("nameaddr.len")
    def nameaddr_len(value: Value) -> Value:
        text = to_str(value)
        end = text.find(">")
        return end + 1 if end >= 0 else len(text)

    @staticmethod
    @transformation("tobody.uri")
    def tobody_uri(value: Value) -> Value:
        return a.uri if (a := parse_addr(to_str(value))) else ""

    @staticmethod
    @transformation("tobody.tag")
    def tobody_tag(value: Value) -> Value:
        return (a.tag or "") if (a := parse_addr(to_str(value))) else ""

    @staticmethod
    @transformation("tobody.user")
    def tobody_user(value: Value) -> Value:
        a = parse_addr(to_str(value))
        u = a.parsed if a is not None else None
        return (u.user or "") if u is not None else ""

    @staticmethod
    @transformation("tobody.host")
    def tobody_host(value: Value) -> Value:
        a = parse_addr(to_str(value))
        u = a.parsed if a is not None else None
        return u.host if u is not None else ""

    @staticmethod
    @transformation("tobody.params")
    def tobody_params(value: Value) -> Value:
        return a.params if (a := parse_addr(to_str(value))) else ""

    @staticmethod
    @transformation("tobody.display")
    def tobody_display(value: Value) -> Value:
        return a.display if (a := parse_addr(to_str(value))) else ""

    # -- lines -----------------------------------------------------------------------------------------------------------

    @staticmethod
    def _text_lines(value: Value) -> list[str]:
        lines = [line.removesuffix("\r") for line in to_str(value).split("\n")]
        if lines and lines[-1] == "":
            lines.pop()
        return lines

    @staticmethod
    @transformation("line.count")
    def line_count(value: Value) -> Value:
        return len(PartTransformations._text_lines(value))

    @staticmethod
    @transformation("line.at")
    def line_at(value: Value, index: int) -> Value:
        lines = PartTransformations._text_lines(value)
        return lines[index] if -len(lines) <= index < len(lines) else ""

    @staticmethod
    @transformation("line.sw")
    def line_sw(value: Value, start: str) -> Value:
        return next((line for line in PartTransformations._text_lines(value) if line.startswith(start)), "")

    # -- aliases ---------------------------------------------------------------------------------------------------------

    @staticmethod
    @transformation("urialias.encode")
    def urialias_encode(value: Value) -> Value:
        u = _uri(value)
        return f"{u.host}~{u.real_port()}~{PROTO_ID.get(u.proto(), 1)}" if u is not None else ""

    @staticmethod
    @transformation("urialias.decode")
    def urialias_decode(value: Value) -> Value:
        match = re.fullmatch(r"(?:alias=)?([^~]+)~(\d+)~(\d)", to_str(value))
        if match is None:
            return ""
        proto = next((p for p, n in PROTO_ID.items() if n == int(match.group(3))), "udp")
        return f"sip:{match.group(1)}:{match.group(2)};transport={proto}"
