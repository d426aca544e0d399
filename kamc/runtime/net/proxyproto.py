"""The PROXY protocol, versions 1 and 2: a load balancer says in front of the first byte who the client is (``tcp_accept_haproxy``).
https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
"""

from __future__ import annotations

import ipaddress
from typing import Final

from kamc.errors import SipError

_V1: Final = b"PROXY "
_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
#: bytes of the longest header of version 1, its line end included
_LONGEST_V1: Final = 107
#: the fixed part of version 2
_HEAD_V2: Final = 16
#: version 2: family and transport → bytes of an address
_FAMILIES: Final = {0x11: 4, 0x21: 16}

#: who the client is; None: the balancer itself (a health check)
Source = tuple[str, int] | None


def read_header(data: bytes | bytearray) -> tuple[int, Source] | None:
    """(bytes of the header, the client); None when more bytes are needed. Raises SipError for what is no header."""
    if data.startswith(_V2[: len(data)]):
        return _version_2(data)
    if data.startswith(_V1[: len(data)]):
        return _version_1(data)
    raise SipError("no PROXY header")


def _version_1(data: bytes | bytearray) -> tuple[int, Source] | None:
    end = data.find(b"\r\n", 0, _LONGEST_V1)
    if end < 0:
        if len(data) >= _LONGEST_V1:
            raise SipError("a PROXY header without an end")
        return None
    words = bytes(data[:end]).decode("latin-1").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return end + 2, None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6") or not (words[4].isdecimal() and int(words[4]) < 65536):
        raise SipError("a bad PROXY header")
    try:
        source = ipaddress.ip_address(words[2])
    except ValueError:
        raise SipError("a bad address in a PROXY header") from None
    return end + 2, (str(source), int(words[4]))


def _version_2(data: bytes | bytearray) -> tuple[int, Source] | None:
    if len(data) < _HEAD_V2:
        return None
    command, family = data[12], data[13]
    size = _HEAD_V2 + int.from_bytes(data[14:16], "big")
    if command not in (0x20, 0x21):
        raise SipError("a bad PROXY header")
    if len(data) < size:
        return None
    width = _FAMILIES.get(family)
    if command == 0x20 or width is None:
        return size, None
    if size < _HEAD_V2 + 2 * width + 4:
        raise SipError("a short PROXY header")
    address = ipaddress.ip_address(bytes(data[_HEAD_V2 : _HEAD_V2 + width]))
    at = _HEAD_V2 + 2 * width
    return size, (str(address), int.from_bytes(data[at : at + 2], "big"))
