"""Which worker owns a message (the workers of a server share no transaction).

A reply belongs to the worker whose transaction sent the request: its number is the first digit behind the cookie of our Via branch. A request belongs to
a worker by its Call-ID, so an INVITE, its CANCEL and ACK, and the requests of its dialog meet in one process. Bytes on a stream belong to a worker by
the address of the peer, so whoever sends there finds the connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from zlib import crc32

#: a Call-ID is told by the remainder of its first bytes, a number, divided by this prime: what net/filter.py can reckon in the kernel, too
HASHED: Final = 48
PRIME: Final = 16_777_213
#: the golden ratio of 32 bits, so that numbers which count up come to all workers
SPREAD: Final = 0x9E3779B1
#: what one digit of a branch can say
MOST_WORKERS: Final = 16

_CALL_ID: Final = re.compile(rb"\n(?:call-id|i)[ \t]*:[ \t]*(?:\r?\n[ \t]+)?([^ \t\r\n]+)", re.IGNORECASE)
#: the first Via's branch, when it is one with the cookie
_BRANCH: Final = re.compile(rb"\n(?:via|v)[ \t]*:[^\r\n,]*;[ \t]*branch[ \t]*=[ \t]*z9hG4bK([0-9a-f])", re.IGNORECASE)
_PLAIN_CALL_ID: Final = b"\nCall-ID: "
_LONGEST: Final = 512


def owner_of(call_id: bytes, count: int) -> int:
    return (int.from_bytes(call_id[:HASHED], "big") % PRIME * SPREAD & 0xFFFFFFFF) // 65536 % count


def owner_of_call(call_id: str, count: int) -> int:
    """The worker that takes the requests of a call."""
    return owner_of(call_id.encode("latin-1", "replace"), count)


def holder_of(ip: str, count: int) -> int:
    """The worker that holds the connections with an address."""
    return crc32(ip.encode("latin-1", "replace")) % count


def sender_of(data: bytes) -> int:
    """The worker that sent the request of a reply, as the branch says; -1 for requests, and for branches of others."""
    if not data.startswith(b"SIP/2.0 "):
        return -1
    found = _BRANCH.search(data)
    return int(found[1], 16) if found is not None else -1


def call_of(data: bytes) -> bytes:
    """The Call-ID of a message; empty when there is none."""
    at = data.find(_PLAIN_CALL_ID)
    if at >= 0:
        begin = at + len(_PLAIN_CALL_ID)
        end = data.find(b"\r\n", begin, begin + _LONGEST)
        if end > begin:
            call_id = data[begin:end]
            if b" " not in call_id:
                return call_id
    found = _CALL_ID.search(data)
    return found[1] if found is not None else b""


def owner(data: bytes, count: int, there: Callable[[int], bool] | None = None) -> int:
    """The worker, of ``count``, that a message belongs to; -1 when whoever has it may keep it. ``there`` says who else may have sent requests."""
    number = sender_of(data)
    if number >= 0:
        return number if number < count or (there is not None and there(number)) else -1
    call_id = call_of(data)
    return owner_of(call_id, count) if call_id else -1


def call_id_of(index: int, count: int, make: Callable[[], str]) -> str:
    """A Call-ID from ``make()`` whose requests come to worker ``index``."""
    while True:
        text = make()
        if count == 1 or owner_of_call(text, count) == index:
            return text
