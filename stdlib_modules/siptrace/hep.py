"""The Homer Encapsulation Protocol, versions 1 to 3: a captured message, where it went from and to, and when. Pure.

Version 3: https://github.com/sipcapture/HEP. The order of chunks is Kamailio's (recorded from 5.6.3).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

SIP, LOG = 1, 100
_PROTOCOLS: Final = {"udp": 17, "tcp": 6, "tls": 6, "ws": 6, "wss": 6, "sctp": 132}
#: kinds of chunks
_FAMILY, _PROTO, _SRC4, _DST4, _SRC6, _DST6, _SPORT, _DPORT, _SECONDS, _MICROS, _TYPE, _ID = range(1, 13)
_KEY, _PAYLOAD, _CORRELATION = 14, 15, 17


@dataclass(frozen=True, slots=True)
class Way:
    """How a message travelled."""

    proto: str
    source: tuple[str, int]
    target: tuple[str, int]

    @property
    def source_text(self) -> str:
        return f"{self.proto}:{_bracketed(self.source[0])}:{self.source[1]}"

    @property
    def target_text(self) -> str:
        return f"{self.proto}:{_bracketed(self.target[0])}:{self.target[1]}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _packed(host: str) -> bytes:
    return ipaddress.ip_address(host.strip("[]")).packed


def encode_old(version: int, way: Way, now: float, capture_id: int, payload: bytes) -> bytes:
    """Versions 1 and 2; the second has the time and the capture id, in the byte order of the machine as Kamailio sends them."""
    source, target = _packed(way.source[0]), _packed(way.target[0])
    head = struct.pack("!BBBBHH", version, 8 + len(source) + len(target), 2 if len(source) == 4 else 10, _PROTOCOLS.get(way.proto, 17), way.source[1], way.target[1])
    stamp = struct.pack("<IIHH", int(now), int(now * 1_000_000) % 1_000_000, capture_id & 0xFFFF, 0) if version == 2 else b""
    return head + source + target + stamp + payload


def _chunk(kind: int, data: bytes) -> bytes:
    return struct.pack("!HHH", 0, kind, 6 + len(data)) + data


def encode(way: Way, now: float, capture_id: int, payload: bytes, *, kind: int = SIP, key: str = "", correlation: str = "") -> bytes:
    """Version 3. Raises ValueError for addresses of two families."""
    source, target = _packed(way.source[0]), _packed(way.target[0])
    if len(source) != len(target):
        raise ValueError(f"{way.source[0]} and {way.target[0]} are of two families")
    four = len(source) == 4
    ports = [_chunk(_SPORT, struct.pack("!H", way.source[1])), _chunk(_DPORT, struct.pack("!H", way.target[1]))]
    if kind == LOG:
        ports.reverse()
    body = b"".join((
        _chunk(_FAMILY, b"\x02" if four else b"\x0a"), _chunk(_PROTO, bytes([_PROTOCOLS.get(way.proto, 17)])), _chunk(_SRC4 if four else _SRC6, source),
        _chunk(_DST4 if four else _DST6, target), *ports, _chunk(_SECONDS, struct.pack("!I", int(now))),
        _chunk(_MICROS, struct.pack("!I", int(now * 1_000_000) % 1_000_000)), _chunk(_TYPE, bytes([kind])), _chunk(_ID, struct.pack("!I", capture_id)),
        _chunk(_CORRELATION, correlation.encode("latin-1", "replace")) if correlation else b"",
        _chunk(_KEY, key.encode("latin-1", "replace")) if key else b"", _chunk(_PAYLOAD, payload),
    ))  # fmt: skip
    return b"HEP3" + struct.pack("!H", 6 + len(body)) + body
