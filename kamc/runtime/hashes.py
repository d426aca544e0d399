"""Kamailio's hash over texts, where a configuration can see its numbers."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def _half(text: str, h: int) -> int:
    data = text.encode("latin-1", "replace")
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        v = int.from_bytes(data[at : at + 4], "big")
        h += v ^ (v >> 3)
    v = int.from_bytes(data[whole:], "big")
    return (h + (v ^ (v >> 3))) & _MASK


def core_hash(first: str, second: str = "", size: int = 0) -> int:
    """Over groups of four bytes of two texts, folded; cut to ``size`` (a power of two), 0 for all 32 bits."""
    h = _half(second, _half(first, 0))
    h = (h + (h >> 11) + (h >> 13) + (h >> 23)) & _MASK
    return h & (size - 1) if size else h
