"""Name-addr and addr-spec: ``"Name" <uri>;params`` (RFC 3261 section 20.10), and lists of them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from kamc.runtime.sip.uri import Uri, parse_params, parse_uri, split_quoted

#: possessive throughout: each stretch is read once, whatever follows
_NAME_ADDR: Final = re.compile(r'[ \t\r\n]*+((?:"(?:[^"\\]|\\.)*+"|[^<>",;])*+)<([^<>\\]*+)>[ \t\r\n]*+(?:;(.*))?\Z', re.S)


class NameAddr:
    """One address. ``display`` keeps its quotes as written; ``params`` is the text after the first ``;``."""

    __slots__ = ("display", "has_brackets", "param_map", "params", "uri")

    def __init__(self, display: str, uri: str, params: str, has_brackets: bool) -> None:
        self.display, self.uri, self.params, self.has_brackets = display, uri, params, has_brackets
        self.param_map = parse_params(params) if params else {}

    @property
    def tag(self) -> str | None:
        return self.param_map.get("tag")

    @property
    def parsed(self) -> Uri | None:
        return parse_uri(self.uri)

    def param(self, name: str) -> str | None:
        value = self.param_map.get(name)
        return value[1:-1] if value and len(value) > 1 and value[0] == value[-1] == '"' else value


@lru_cache(maxsize=4096)
def parse_addr(text: str) -> NameAddr | None:
    """Parse one address; None when it is none."""
    match = _NAME_ADDR.match(text)
    if match is not None:
        return NameAddr(match.group(1).rstrip(" \t\r\n"), match.group(2).strip(), match.group(3) or "", True)
    if "<" in text or '"' in text:
        return None
    uri, _, params = text.strip().partition(";")
    uri = uri.strip()
    return NameAddr("", uri, params, False) if ":" in uri else None


def parse_addr_list(text: str) -> list[NameAddr] | None:
    """Parse a comma-separated list; None when one member is bad."""
    out = []
    for part in split_quoted(text, ","):
        addr = parse_addr(part)
        if addr is None:
            return None
        out.append(addr)
    return out
