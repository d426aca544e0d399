"""Via, RFC 3261 section 20.42."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from kamc.runtime.sip.uri import parse_params, split_quoted

#: unknown transports are read; that those that begin with some letters are not is how Kamailio does it
_VIA: Final = re.compile(
    r"[ \t\r\n]*+SIP[ \t\r\n]*+/[ \t\r\n]*+2\.0[ \t\r\n]*+/[ \t\r\n]*+((?![PDCLI])[A-Z0-9]+)[ \t\r\n]+(\[[0-9A-Fa-f:.%A-Za-z]+\]|[A-Za-z0-9_.\-]+)"
    r"[ \t\r\n]*+(?::[ \t\r\n]*+([0-9]{1,5}))?[ \t\r\n]*+"
    # parameters that have a name, and no bytes that end a text somewhere else
    r"((?:;[ \t\r\n]*+[^;=\s\0\"(]++[ \t\r\n]*+(?:=[ \t\r\n]*+(?:\"(?:[^\"\\\0]|\\.)*+\"|[^;\s\0\"(]*+)[ \t\r\n]*+)?)*)(?:\([^\0]*\)[ \t\r\n]*+)?\Z",
    re.S | re.I | re.A,
)
#: parameters that mean nothing without a value
_VALUED: Final = ("branch", "ttl", "maddr", "received", "i")


class Via:
    """One Via value. ``port`` 0 means none given; ``text`` is the value as written."""

    __slots__ = ("host", "param_map", "params", "port", "proto", "text")

    def __init__(self, text: str, proto: str, host: str, port: int, params: str) -> None:
        self.text, self.proto, self.host, self.port, self.params = text, proto, host, port, params
        self.param_map = parse_params(params) if params else {}

    @property
    def branch(self) -> str:
        return self.param_map.get("branch") or ""

    @property
    def received(self) -> str:
        return self.param_map.get("received") or ""

    @property
    def wants_rport(self) -> bool:
        return "rport" in self.param_map

    @property
    def rport(self) -> int:
        value = self.param_map.get("rport")
        return int(value) if value and value.isdecimal() and len(value) < 6 else 0

    @property
    def real_port(self) -> int:
        return self.port or (5061 if self.proto.upper() == "TLS" else 5060)


@lru_cache(maxsize=4096)
def parse_via(text: str) -> Via | None:
    """Parse one Via value; None when it is none."""
    match = _VIA.match(text)
    if match is None:
        return None
    proto, host, port, params = match.groups()
    via = Via(text, proto, host, int(port) if port else 0, params[1:] if params else "")
    known = via.param_map
    return None if any(name in known and known[name] is None for name in _VALUED) else via


def split_vias(value: str) -> list[str]:
    """The values of one Via header line, as written."""
    return split_quoted(value, ",") if "," in value else [value]
