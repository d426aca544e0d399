"""SIP, SIPS and TEL URIs, RFC 3261 section 19.1 and RFC 3966. Parsed once per distinct text (a small cache: URIs repeat)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_SCHEME: Final = re.compile(r"(sips?|tels?|urn(?=:)|http|https|cid)s?:", re.I)
_HOSTPORT: Final = re.compile(r"(\[[^][\s<>@\"]*\]|[A-Za-z0-9_\-][A-Za-z0-9_.\0\-]*)(?::([0-9]*))?\Z")
_TEL: Final = re.compile(r"[+0-9A-Da-d*#p.()w-]+\Z")

DEFAULT_PORT: Final = 5060
TLS_PORT: Final = 5061


class Uri:
    """The parts of a URI; ``user`` None means absent. ``port`` is text as written, ``params`` and ``headers`` without ``;`` and ``?``."""

    __slots__ = ("headers", "host", "param_map", "params", "password", "port", "scheme", "user")

    def __init__(self, scheme: str, user: str | None, password: str | None, host: str, port: str, params: str, headers: str) -> None:
        self.scheme, self.user, self.password, self.host, self.port, self.params, self.headers = scheme, user, password, host, port, params, headers
        self.param_map = parse_params(params) if params else {}

    @property
    def port_number(self) -> int:
        """The port, 0 where none is given."""
        return int(self.port) if self.port else 0

    @property
    def transport(self) -> str:
        """Lower-case value of the transport parameter, or empty."""
        return (self.param_map.get("transport") or "").lower()

    @property
    def is_sips(self) -> bool:
        return self.scheme in ("sips", "tels")

    def proto(self) -> str:
        """The transport that the URI asks for."""
        t = self.transport
        if t == "tcp" and self.is_sips:
            return "tls"
        return t or ("tls" if self.is_sips else "udp")

    def real_port(self) -> int:
        """The port, or the default of the transport."""
        return self.port_number or (TLS_PORT if self.proto() == "tls" else DEFAULT_PORT)

    def __str__(self) -> str:
        out = f"{self.scheme}:"
        if self.user is not None:
            out += self.user + (f":{self.password}" if self.password is not None else "") + "@"
        out += self.host + (f":{self.port}" if self.port else "")
        return out + (f";{self.params}" if self.params else "") + (f"?{self.headers}" if self.headers else "")

    def replaced(self, **parts: str | None) -> str:
        """The URI as text with some parts exchanged."""
        new = Uri.__new__(Uri)
        for slot in ("scheme", "user", "password", "host", "port", "params", "headers"):
            object.__setattr__(new, slot, parts.get(slot, getattr(self, slot)))
        return str(new)


def parse_params(text: str, sep: str = ";") -> dict[str, str | None]:
    """``a=1;b`` → mapping with lower-case names; the first of a name counts."""
    out: dict[str, str | None] = {}
    for part in split_quoted(text, sep) if '"' in text else text.split(sep):
        key, eq, value = part.partition("=")
        key = key.strip().lower()
        if key:
            out.setdefault(key, value.strip() if eq else None)
    return out


def split_quoted(text: str, sep: str) -> list[str]:
    """Split outside of double quotes and angle brackets."""
    if sep not in text:
        return [text]
    if '"' not in text and "<" not in text:
        return text.split(sep)
    out, start, quoted, angle = [], 0, False, 0
    at, size = 0, len(text)
    while at < size:
        c = text[at]
        if quoted:
            if c == "\\":
                at += 1
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        elif c == "<":
            angle += 1
        elif c == ">":
            angle = max(0, angle - 1)
        elif c == sep and not angle:
            out.append(text[start:at])
            start = at + 1
        at += 1
    out.append(text[start:])
    return out


@lru_cache(maxsize=4096)
def parse_uri(text: str) -> Uri | None:
    """Parse a URI; None when it is none."""
    match = _SCHEME.match(text)
    if match is None:
        return None
    scheme = text[: match.end() - 1].lower()
    if scheme not in ("sip", "sips", "tel", "tels", "urn"):
        return None
    rest = text[match.end() :]
    if scheme in ("tel", "tels"):
        number, _, params = rest.partition(";")
        return Uri(scheme, number, None, "", "", params, "") if _TEL.match(number) else None
    if scheme == "urn":
        return Uri(scheme, None, None, rest, "", "", "") if rest else None
    return _parse_sip(scheme, rest)


def _parse_sip(scheme: str, rest: str) -> Uri | None:
    user: str | None = None
    password: str | None = None
    userinfo, at, tail = rest.partition("@")
    if at and not userinfo and "@" in tail:
        # sip:@bob@host: Kamailio's user is @bob
        userinfo, at, tail = tail.partition("@")
        userinfo = "@" + userinfo
    if at:
        if "@" in tail.split("?", 1)[0].split(";", 1)[0]:
            return None
        user, colon, word = userinfo.partition(":")
        password = word if colon else None
        if not user or ":" in word or "[" in user:
            return None
        rest = tail
    headers = params = ""
    if "?" in rest:
        rest, _, headers = rest.partition("?")
    if ";" in rest:
        rest, _, params = rest.partition(";")
    match = _HOSTPORT.match(rest)
    if match is None:
        # sip:;lr is a URI to Kamailio: one that leads nowhere
        return Uri(scheme, None, None, "", "", params, headers) if not rest and params and user is None else None
    host, port = match.group(1), match.group(2) or ""
    if port and (len(port) > 5 or int(port) > 65535):
        return None
    if any(c in "\t\r\n" for c in (user or "")) or any(c in " \t\r\n<>" for c in params):
        return None
    return Uri(scheme, user, password, host, port, params, headers)
