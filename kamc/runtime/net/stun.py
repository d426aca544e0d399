"""STUN binding requests on SIP sockets (RFC 5389 section 7, RFC 3489 for clients without a magic cookie): bytes in, bytes out."""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

_HEAD: Final = struct.Struct("!HH4s12s")
_COOKIE: Final = bytes.fromhex("2112a442")
_BINDING: Final = 0x0001
#: the two bits of a message type that make it a request, an indication or a response
_CLASS: Final = 0x0110
_MAPPED, _ERROR, _UNKNOWN, _XOR_MAPPED, _SOFTWARE = 0x0001, 0x0009, 0x000A, 0x0020, 0x8022
#: attributes that one has to understand and that change nothing here: RFC 3489 and RFC 5389 section 18.2
_UNDERSTOOD: Final = frozenset({0x0001, 0x0002, 0x0003, 0x0004, 0x0005, 0x0006, 0x0007, 0x0008, 0x0009, 0x000A, 0x000B, 0x0014, 0x0015, 0x0020})
_MOST_UNKNOWN: Final = 16


def is_stun(data: bytes) -> bool:
    """Whether a datagram is a STUN message: no SIP message begins with two zero bits and a byte below two (RFC 5764 section 5.1.2)."""
    return len(data) >= _HEAD.size and data[0] < 2


def answer(data: bytes, ip: str, port: int, software: str) -> bytes | None:
    """The response to a message from an address; None for what is no request, which is never answered."""
    kind, length, cookie, ident = _HEAD.unpack_from(data)
    if kind & _CLASS:
        return None
    modern = cookie == _COOKIE
    tail = _attribute(_SOFTWARE, software.encode("latin-1", "replace")) if modern else b""
    if kind != _BINDING:
        return _message(kind | 0x0110, cookie + ident, _error(600, "Global Failure") + tail)
    unknown = _unknown_attributes(data) if length == len(data) - _HEAD.size else None
    if unknown is None:
        return _message(kind | 0x0110, cookie + ident, _error(400, "Bad Request") + tail)
    if unknown:
        listed = _attribute(_UNKNOWN, b"".join(struct.pack("!H", u) for u in unknown[:_MOST_UNKNOWN]))
        return _message(kind | 0x0110, cookie + ident, _error(420, "Unknown Attribute") + listed + tail)
    address = ipaddress.ip_address(ip)
    family = 1 if address.version == 4 else 2
    packed = address.packed
    if modern:
        mask = cookie + ident
        packed = bytes(a ^ b for a, b in zip(packed, mask, strict=False))
        port ^= int.from_bytes(mask[:2])
    mapped = _attribute(_XOR_MAPPED if modern else _MAPPED, struct.pack("!BBH", 0, family, port) + packed)
    return _message(kind | 0x0100, cookie + ident, mapped + tail)


def _message(kind: int, ident: bytes, attributes: bytes) -> bytes:
    return struct.pack("!HH", kind, len(attributes)) + ident + attributes


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _error(code: int, reason: str) -> bytes:
    return _attribute(_ERROR, struct.pack("!HBB", 0, code // 100, code % 100) + reason.encode())


def _unknown_attributes(data: bytes) -> list[int] | None:
    """The attributes that would have to be understood and are not; None when they cannot be read."""
    found = []
    at = _HEAD.size
    while at < len(data):
        if at + 4 > len(data):
            return None
        kind, size = struct.unpack_from("!HH", data, at)
        at += 4 + size + (-size % 4)
        if at > len(data):
            return None
        if kind < 0x8000 and kind not in _UNDERSTOOD:
            found.append(kind)
    return found
