"""Selects, ``@part.sub[index]``: values are texts; a missing part is undefined (empty in expressions)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kamc.declare.values import Value, to_str
from kamc.runtime.sip.addr import NameAddr, parse_addr, parse_addr_list
from kamc.runtime.sip.headers import COMPACT
from kamc.runtime.sip.uri import Uri, parse_uri
from kamc.runtime.sip.via import Via

if TYPE_CHECKING:
    from kamc.runtime.api import Runtime
    from kamc.runtime.context import Ctx

_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)|\[(-?[0-9]+)\]|\[\"?([^\"\]]*)\"?\]")
_CREDENTIAL = re.compile(r'([A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^,\s]*))')
Select = Callable[["Ctx"], Value]
_ADDRESS = {"from": "from", "f": "from", "to": "to", "t": "to", "contact": "contact", "m": "contact", "refer_to": "refer-to", "rpid": "remote-party-id",
            "remote_party_id": "remote-party-id", "ppi": "p-preferred-identity", "pai": "p-asserted-identity"}  # fmt: skip


def bind_select(rt: Runtime, text: str, defined: bool) -> Select:
    """Bind a select. With ``defined`` undefined stays None, else it is the empty text."""
    steps: list[str | int] = []
    for match in _STEP.finditer(text.lstrip("@")):
        name, number, key = match.groups()
        steps.append(int(number) if number is not None else name if name is not None else key)
    found = _resolve(rt, steps)
    if defined:
        return found
    return lambda ctx: "" if (v := found(ctx)) is None else to_str(v)


def _none(ctx: Ctx) -> Value:
    return None


def _resolve(rt: Runtime, steps: list[str | int]) -> Select:
    head, rest = str(steps[0]), steps[1:]
    if head in ("ruri", "request_uri"):
        return lambda ctx: _uri_part(ctx.ruri, rest)
    if head in ("dst_uri", "duri"):
        return lambda ctx: _uri_part(ctx.du, rest)
    if head == "next_hop":
        return lambda ctx: _uri_part(ctx.du or ctx.ruri, rest)
    if head in _ADDRESS:
        key = _ADDRESS[head]
        return lambda ctx: _address_part(ctx.msg.value(key), rest)
    if head in ("method", "call_id", "cseq", "callid", "msg", "ua", "user_agent", "src", "dst", "received", "via", "v", "cfg_get", "cfg_selected", "hf_value", "tm", "sys", "rr", "record_route", "route", "event", "content_length", "content_type", "expires", "max_forwards", "subject", "organization", "priority", "allow", "supported", "require", "proxy_require", "unsupported", "accept", "accept_encoding", "accept_language", "content_disposition", "session_expires", "min_se", "sip_if_match", "server", "status", "reason", "timestamp", "warning", "date", "authorization", "proxy_authorization", "www_authenticate", "proxy_authenticate"):  # noqa: E501
        return _other(rt, head, rest)
    return _none


def _other(rt: Runtime, head: str, rest: list[str | int]) -> Select:
    if head == "cfg_get" and len(rest) >= 2:
        group, name = str(rest[0]), str(rest[-1])


        def setting(ctx: Ctx) -> Value:
            value = rt.settings.read(group, name)
            return str(value) if value is not None else None

        return setting
    if head == "cfg_selected" and rest:
        chosen, key = rt.settings.selected, str(rest[0])
        return lambda ctx: str(chosen.get(key, ""))
    if head == "method":
        return lambda ctx: ctx.msg.method
    if head in ("call_id", "callid"):
        return lambda ctx: ctx.msg.value("call-id")
    if head == "cseq":
        return lambda ctx: _cseq_part(ctx, rest)
    if head in ("via", "v"):
        return lambda ctx: _via_part(ctx, rest)
    if head in ("src", "dst"):
        return lambda ctx: _endpoint_part(ctx, head, rest)
    if head == "msg":
        return _message_part(rt, rest)
    if head == "hf_value" and rest:
        return lambda ctx: _hf_value(ctx, rest)
    if head in ("authorization", "proxy_authorization", "www_authenticate", "proxy_authenticate"):
        return lambda ctx: _credential(ctx, head.replace("_", "-"), rest)
    if head == "sys":
        return lambda ctx: str(os.getpid()) if rest and rest[0] == "pid" else None
    if head == "received":
        return lambda ctx: _endpoint_part(ctx, "dst", rest)
    name = {"user_agent": "user-agent", "ua": "user-agent", "rr": "record-route"}.get(head, head.replace("_", "-"))
    name = COMPACT.get(name, name)
    return lambda ctx: ctx.msg.value(name) if not rest else _address_part(ctx.msg.value(name), rest)


def _credential(ctx: Ctx, key: str, rest: list[str | int]) -> Value:
    """``@authorization["realm"].username``; without a realm the first header counts."""
    realm = str(rest[0]) if len(rest) > 1 else None
    field = str(rest[-1]) if rest else ""
    for header in ctx.msg.all(key):
        found = {m.group(1).lower(): m.group(2) if m.group(2) is not None else m.group(3) for m in _CREDENTIAL.finditer(header[2])}
        if realm is None or found.get("realm") == realm:
            return header[2] if not rest else found.get(field)
    return None


def _message_part(rt: Runtime, rest: list[str | int]) -> Select:
    part = str(rest[0]) if rest else ""
    if part in ("header", "h") and len(rest) > 1:
        name = str(rest[1]).lower().replace("_", "-")
        key = COMPACT.get(name, name)
        inner = rest[2:]
        return lambda ctx: ctx.msg.value(key) if not inner else _address_part(ctx.msg.value(key), inner)
    simple: dict[str, Callable[[Ctx], Value]] = {
        "len": lambda ctx: str(len(ctx.msg.text)), "id": lambda ctx: None, "body": lambda ctx: ctx.msg.body or None,
        "type": lambda ctx: "1" if ctx.msg.is_request else "2",
        "": lambda ctx: ctx.msg.text, "first_line": lambda ctx: ctx.msg.text[: ctx.msg.first_line_end].rstrip("\r\n"),
        "flags": lambda ctx: str(ctx.flags),
    }  # fmt: skip
    if part == "header" and len(rest) == 1:
        return lambda ctx: ctx.msg.text[ctx.msg.first_line_end : ctx.msg.body_start]
    if part in ("request", "response", "reply"):
        return lambda ctx: _first_line(ctx, rest[1:])
    return simple.get(part) or _resolve_header(rt, rest)


def _resolve_header(rt: Runtime, rest: list[str | int]) -> Select:
    return _resolve(rt, rest) if rest and isinstance(rest[0], str) and rest[0] != "msg" else _none


def _first_line(ctx: Ctx, rest: list[str | int]) -> Value:
    msg = ctx.msg
    part = str(rest[0]) if rest else ""
    if msg.is_request:
        if part == "uri":
            return _uri_part(msg.uri, rest[1:])
        return {"method": msg.method, "version": msg.version}.get(part, msg.text[: msg.first_line_end].rstrip("\r\n") if not part else None)
    return {"version": msg.version, "status": f"{msg.status}", "code": f"{msg.status}", "reason": msg.reason}.get(part)


def _cseq_part(ctx: Ctx, rest: list[str | int]) -> Value:
    header = ctx.msg.first.get("cseq")
    if header is None:
        return None
    if not rest:
        return header[2]
    number, method = ctx.msg.cseq
    return {"num": str(number), "method": method}.get(str(rest[0]))


def _endpoint_part(ctx: Ctx, head: str, rest: list[str | int]) -> Value:
    flow = ctx.flow
    ip, port = (flow.remote_ip, flow.remote_port) if head == "src" else (flow.listener.host, flow.listener.port)
    part = str(rest[0]) if rest else ""
    table = {"ip": ip, "port": str(port), "ip_port": f"{ip}:{port}", "proto_ip_port": f"{flow.proto}:{ip}:{port}", "proto": flow.proto}
    return table.get(part)


def _via_part(ctx: Ctx, rest: list[str | int]) -> Value:
    vias = ctx.msg.vias
    index = 1
    if rest and isinstance(rest[0], int):
        index, rest = rest[0], rest[1:]
    if index == 0 or abs(index) > len(vias):
        return None
    via = vias[index - 1 if index > 0 else index]
    if not rest:
        return via.text.strip()
    return _via_field(via, rest)


def _via_field(via: Via, rest: list[str | int]) -> Value:
    part = str(rest[0])
    if part in ("params", "param", "p") and len(rest) > 1:
        return via.param_map.get(str(rest[1]).lower())
    simple: dict[str, Value] = {"name": "SIP", "version": "2.0", "transport": via.proto, "host": via.host, "port": str(via.port) if via.port else None,
                                "comment": None, "params": via.params}  # fmt: skip
    if part in simple:
        return simple[part]
    return via.param_map.get(part)


def _uri_part(text: str | None, rest: list[str | int]) -> Value:
    if not text:
        return None
    if not rest:
        return text
    uri = parse_uri(text)
    return _parsed_uri_part(uri, rest) if uri is not None else None


def _parsed_uri_part(uri: Uri, rest: list[str | int]) -> Value:
    part = str(rest[0])
    if part == "params":
        if len(rest) > 1:
            return uri.param_map.get(str(rest[1]).lower()) or ""
        return uri.params
    if part == "hostport":
        return f"{uri.host}:{uri.real_port()}"
    # parts that a URI can have exist, empty, when it has them not
    table: dict[str, Value] = {"type": uri.scheme, "user": uri.user or "", "pwd": uri.password or "", "host": uri.host, "port": uri.port, "rn_user": uri.user or "",
                               "transport": uri.transport or "udp"}  # fmt: skip
    return table.get(part)


def _address_part(value: str | None, rest: list[str | int]) -> Value:
    if value is None:
        return None
    if not rest:
        return value
    if isinstance(rest[0], int):
        addresses = parse_addr_list(value) or []
        index, rest = rest[0], rest[1:]
        if index == 0 or abs(index) > len(addresses):
            return None
        address: NameAddr | None = addresses[index - 1 if index > 0 else index]
    else:
        address = parse_addr(value) or next(iter(parse_addr_list(value) or []), None)
    if address is None:
        return None
    part = str(rest[0]) if rest else "uri"
    if part in ("uri", "nameaddr"):
        inner = rest[1:]
        if part == "nameaddr" and inner and inner[0] == "uri":
            inner = inner[1:]
        return _uri_part(address.uri, inner)
    if part == "params" and len(rest) > 1:
        return address.param(str(rest[1]).lower())
    table: dict[str, Value] = {"tag": address.tag, "name": address.display or None, "params": address.params or None, "q": address.param("q"),
                               "expires": address.param("expires"), "methods": address.param("methods"), "received": address.param("received"),
                               "instance": address.param("+sip.instance")}  # fmt: skip
    return table.get(part)


def _hf_value(ctx: Ctx, rest: list[Any]) -> Value:
    name = str(rest[0]).lower().replace("_", "-")
    value = ctx.msg.value(COMPACT.get(name, name))
    return _address_part(value, rest[1:]) if len(rest) > 1 else value
