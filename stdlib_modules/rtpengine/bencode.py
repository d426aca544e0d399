"""Bencoding, as the ng protocol of rtpengine has it: texts, numbers, lists, dictionaries."""

from __future__ import annotations

from typing import Any

_DEEPEST = 64


def encode(value: Any) -> bytes:
    """Texts are latin-1. Raises TypeError for what has no place in it."""
    if isinstance(value, str):
        data = value.encode("latin-1", "replace")
        return b"%d:%s" % (len(data), data)
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, dict):
        return b"d" + b"".join(encode(k) + encode(v) for k, v in value.items()) + b"e"
    if isinstance(value, list | tuple):
        return b"l" + b"".join(map(encode, value)) + b"e"
    raise TypeError(f"{type(value).__name__} cannot be bencoded")


def decode(data: bytes) -> Any:
    """Raises ValueError for what is no bencoding, or more than that."""
    value, end = _value(data, 0, 0)
    if end != len(data):
        raise ValueError("there is more behind it")
    return value


def _number(data: bytes, start: int, stop: bytes) -> tuple[int, int]:
    end = data.find(stop, start, start + 24)
    text = data[start:end]
    if end < 0 or not text.removeprefix(b"-").isdigit():
        raise ValueError("no number")
    return int(text), end + 1


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    kind = data[at : at + 1]
    if kind == b"i":
        return _number(data, at + 1, b"e")
    if kind in (b"l", b"d"):
        items = []
        at += 1
        while data[at : at + 1] != b"e":
            item, at = _value(data, at, depth + 1)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        keys = items[::2]
        if len(items) % 2 or not all(isinstance(k, str) for k in keys):
            raise ValueError("no dictionary")
        return dict(zip(keys, items[1::2], strict=True)), at + 1
    size, at = _number(data, at, b":")
    if size < 0 or at + size > len(data):
        raise ValueError("a text is cut off")
    return data[at : at + size].decode("latin-1"), at + size
