"""The binary RPC protocol of module ctl, which kamcmd speaks. Pure: bytes in, values out.

A packet is ``0xA1``, a byte with type (4 bits), length of the length - 1 (2 bits), length of the cookie - 1 (2 bits), the body's length, the
cookie, the body. A value begins with a byte: bit 7 says that the size does not fit, bits 4 to 6 are the size (or the size of the size), bits 0 to 3
the kind. Structures and arrays have no size; a byte of their kind with bit 7 set ends them. Facts: Kamailio's binrpc documentation in ``ctl``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

MAGIC: Final = 0xA1
REQUEST, REPLY, FAULT = 0, 1, 3
INT, STR, DOUBLE, STRUCT, ARRAY, NAME, BYTES = range(7)
#: structures within structures
MAX_DEPTH: Final = 16


class Member(dict[str, Any]):
    """One name and its value, in a list: here they stand without a structure around them."""


class Members(list[dict[str, Any]]):
    """An answer of several structures: here all of their members stand in one, in which names repeat."""


class BinrpcError(ValueError):
    """Bytes that are no packet."""


@dataclass(frozen=True, slots=True)
class Packet:
    kind: int
    cookie: bytes
    values: list[Any]


# -- writing ---------------------------------------------------------------------------------------------------------------


def _number(value: int) -> bytes:
    """As few bytes as it takes; negative ones and those that would look negative take four or eight."""
    if -0x80000000 <= value < 0:
        return value.to_bytes(4, "big", signed=True)
    if value < 0:
        return max(value, -(1 << 63)).to_bytes(8, "big", signed=True)
    bits = value.bit_length()
    return min(value, (1 << 63) - 1).to_bytes(8 if bits > 56 else (bits + 7) // 8 + (bits == 32), "big")


def _record(kind: int, data: bytes) -> bytes:
    if kind in (INT, DOUBLE) or len(data) < 8:
        # eight bytes overflow into bit 7, as Kamailio sends them
        return bytes([(len(data) << 4 | kind) & 0xFF]) + data
    size = len(data).to_bytes((len(data).bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(size) << 4 | kind]) + size + data


def _text(kind: int, value: str) -> bytes:
    return _record(kind, value.encode("latin-1", "replace") + b"\0")


def encode(value: Any) -> bytes:
    """One value: a number, a text, a list, or a dict with texts as keys. None is what Kamailio writes for a text that is not there."""
    if isinstance(value, bool | int):
        return _record(INT, _number(int(value)))
    if isinstance(value, float):
        return _record(DOUBLE, _number(int(value * 1000)))
    if isinstance(value, dict):
        return bytes([STRUCT]) + b"".join(_text(NAME, str(key)) + _member(item) for key, item in value.items()) + bytes([0x80 | STRUCT])
    if isinstance(value, list | tuple):
        return bytes([ARRAY]) + b"".join(map(encode, value)) + bytes([0x80 | ARRAY])
    return _text(STR, "<null string>" if value is None else str(value))


def _member(value: Any) -> bytes:
    """A value in a structure. kamcmd knows no lists there: as Kamailio writes them they are structures in which names may repeat (of items with one name) or
    items stand without one."""
    if isinstance(value, list | tuple):
        return bytes([STRUCT]) + b"".join(map(_item, value)) + bytes([0x80 | STRUCT])
    return encode(value)


def _item(value: Any) -> bytes:
    """Of a list in a structure."""
    if not isinstance(value, dict) or len(value) != 1:
        return encode(value)
    ((key, inner),) = value.items()
    return _text(NAME, str(key)) + _member(inner) if isinstance(value, Member) or isinstance(inner, dict | list) else encode(value)


def packet(kind: int, cookie: bytes, body: bytes) -> bytes:
    size = len(body).to_bytes(max(1, (len(body).bit_length() + 7) // 8), "big")
    return bytes([MAGIC, kind << 4 | (len(size) - 1) << 2 | (len(cookie) - 1)]) + size + cookie + body


def reply(cookie: bytes, result: Any) -> bytes:
    """The answer to a call: the items of a list stand side by side."""
    if result is None:
        return packet(REPLY, cookie, b"")
    if isinstance(result, Members):
        members = b"".join(_text(NAME, key) + _member(value) for one in result for key, value in one.items())
        return packet(REPLY, cookie, bytes([STRUCT]) + members + bytes([0x80 | STRUCT]) if result else b"")
    return packet(REPLY, cookie, b"".join(map(encode, result)) if isinstance(result, list) else encode(result))


def fault(cookie: bytes, code: int, text: str) -> bytes:
    return packet(FAULT, cookie, encode(code) + encode(text))


# -- reading ---------------------------------------------------------------------------------------------------------------


def _size(data: bytes, at: int, head: int) -> tuple[int, int]:
    """Size of a value and where it begins."""
    size = head >> 4 & 7
    if head & 0x80:
        if at + size > len(data):
            raise BinrpcError("a size is cut off")
        return int.from_bytes(data[at : at + size], "big"), at + size
    return size, at


def _value(data: bytes, at: int, depth: int) -> tuple[int, Any, int]:
    """(kind, value, where the next one begins)."""
    if at >= len(data):
        raise BinrpcError("a value is cut off")
    head = data[at]
    kind = head & 0x0F
    if kind in (STRUCT, ARRAY):
        if head & 0x80:
            raise BinrpcError("a structure ends that has not begun")
        return _compound(data, at + 1, kind, depth + 1)
    size, begin = _size(data, at + 1, head)
    if kind in (INT, DOUBLE) and head & 0x80 and not head >> 4 & 7:
        size, begin = 8, at + 1
    end = begin + size
    if end > len(data):
        raise BinrpcError("a value is cut off")
    raw = data[begin:end]
    if kind in (INT, DOUBLE):
        if size > 8:
            raise BinrpcError("a number is too long")
        number = int.from_bytes(raw, "big", signed=size in (4, 8))
        return kind, number if kind == INT else number / 1000, end
    if kind in (STR, NAME):
        return kind, raw.partition(b"\0")[0].decode("latin-1"), end
    if kind == BYTES:
        return kind, raw.decode("latin-1"), end
    raise BinrpcError(f"there is no kind {kind}")


def _compound(data: bytes, at: int, kind: int, depth: int) -> tuple[int, Any, int]:
    """A structure in which something stands without a name is a list."""
    if depth > MAX_DEPTH:
        raise BinrpcError("structures are nested too deep")
    items: list[Any] = []
    name: str | None = None
    nameless = kind == ARRAY
    while True:
        if at >= len(data):
            raise BinrpcError("a structure does not end")
        if data[at] == 0x80 | kind:
            return kind, items if nameless else {key: value for one in items for key, value in one.items()}, at + 1
        inner, value, at = _value(data, at, depth)
        if kind == ARRAY:
            items.append(value)
        elif inner == NAME:
            name = value
        elif name is None:
            nameless = True
            items.append(value)
        else:
            items.append({name: value})
            name = None


def decode(data: bytes) -> list[Any]:
    """All values of a body. Raises BinrpcError."""
    out, at = [], 0
    while at < len(data):
        kind, value, at = _value(data, at, 0)
        if kind == NAME:
            raise BinrpcError("a name stands outside of a structure")
        out.append(value)
    return out


class Reader:
    """Packets out of a stream. ``limit`` bounds a body, in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Raises BinrpcError: the stream cannot be read any further."""
        self._data += data
        while True:
            found, used = self._first()
            if found is None:
                return
            del self._data[:used]
            yield found

    def _first(self) -> tuple[Packet | None, int]:
        data = self._data
        if len(data) < 2:
            if data and data[0] != MAGIC:
                raise BinrpcError("no binrpc")
            return None, 0
        if data[0] != MAGIC:
            raise BinrpcError("no binrpc")
        size_bytes, cookie_bytes = (data[1] >> 2 & 3) + 1, (data[1] & 3) + 1
        start = 2 + size_bytes + cookie_bytes
        if len(data) < 2 + size_bytes:
            return None, 0
        size = int.from_bytes(data[2 : 2 + size_bytes], "big")
        if size > self.limit:
            raise BinrpcError(f"a body of {size} bytes is too long")
        if len(data) < start + size:
            return None, 0
        return Packet(data[1] >> 4, bytes(data[2 + size_bytes : start]), decode(bytes(data[start : start + size]))), start + size


def single(data: bytes, limit: int) -> Packet:
    """The packet of a datagram. Raises BinrpcError."""
    found = next(Reader(limit).feed(data), None)
    if found is None:
        raise BinrpcError("a packet is cut off")
    return found
