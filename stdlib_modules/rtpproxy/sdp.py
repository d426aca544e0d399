"""The session descriptions that rtpproxy is asked about: what each stream says, and the description with the relay in it. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MEDIA: Final = re.compile(r"m=(\S+) (\d+)(/\d+)? (\S+)(.*)", re.S)
_CONNECTION: Final = re.compile(r"(c=IN IP[46] )(\S+)(.*)", re.S)
_ORIGIN: Final = re.compile(r"(o=.* IN) IP[46] \S+(.*)", re.S)
_RTCP: Final = re.compile(r"a=rtcp:(\d+)(.*)", re.S)
NOWHERE: Final = ("0.0.0.0", "::")


@dataclass(slots=True)
class Stream:
    """One ``m=`` line: its port, the address that it is at, its payload types."""

    line: int
    port: int
    address: str
    payloads: tuple[str, ...]
    #: its own c= line, -1 where that of the session counts
    connection: int = -1
    rtcp: int = -1
    rtp: bool = True
    #: its last ICE candidate, -1 for none
    candidate: int = -1


@dataclass(slots=True)
class Description:
    """``lines`` keep their line ends."""

    lines: list[str]
    streams: list[Stream]
    #: the c= line of the session, -1 for none
    connection: int = -1


def read(text: str) -> Description | None:
    """None for one without a stream, or with a stream that is nowhere."""
    lines = text.splitlines(keepends=True)
    found = Description(lines, [])
    for at, line in enumerate(lines):
        media = _MEDIA.match(line)
        if media is not None:
            payloads = tuple(media[5].split())
            found.streams.append(Stream(at, int(media[2]), "", payloads, rtp="RTP/" in media[4]))
            continue
        stream = found.streams[-1] if found.streams else None
        if _CONNECTION.match(line):
            if stream is None:
                found.connection = at
            elif stream.connection < 0:
                stream.connection = at
        elif stream is not None and stream.rtcp < 0 and _RTCP.match(line):
            stream.rtcp = at
        elif stream is not None and line.startswith("a=candidate:"):
            stream.candidate = at
    for stream in found.streams:
        where = stream.connection if stream.connection >= 0 else found.connection
        match = _CONNECTION.match(lines[where]) if where >= 0 else None
        if match is None:
            return None
        stream.address = match[2].partition("/")[0]
    return found if found.streams else None


def _kind(address: str) -> str:
    return "IP6" if ":" in address else "IP4"


def _candidates(address: str, port: int, priority: int) -> str:
    """The relay as ICE candidates for RTCP and RTP (RFC 8839)."""
    foundation = re.sub(r"\D", "", address)
    return "".join(f"a=candidate:{foundation} {component} UDP {priority - component + 1} {address} {port + component - 1} typ relay\r\n" for component in (2, 1))


def rewritten(d: Description, places: list[tuple[str, int]], mark: str, priority: int = 0) -> str:
    """The description with each stream at its new (address, port). ``mark`` is a line behind it; with a ``priority`` the relay stands before the last
    candidate of each stream that has any."""
    lines = list(d.lines)
    for stream, (address, port) in zip(d.streams, places, strict=True):
        media = _MEDIA.match(lines[stream.line])
        assert media is not None
        if stream.port:
            lines[stream.line] = f"m={media[1]} {port}{media[3] or ''} {media[4]}{media[5]}"
        if stream.rtcp >= 0:
            rtcp = _RTCP.match(lines[stream.rtcp])
            assert rtcp is not None
            lines[stream.rtcp] = f"a=rtcp:{port + 1}{rtcp[2]}"
        if stream.connection >= 0:
            lines[stream.connection] = _moved(lines[stream.connection], address)
        if priority and stream.candidate >= 0:
            lines[stream.candidate] = _candidates(address, port, priority) + lines[stream.candidate]
    first = places[0][0]
    if d.connection >= 0:
        lines[d.connection] = _moved(lines[d.connection], first)
    for at, line in enumerate(lines):
        origin = _ORIGIN.match(line)
        if origin is not None:
            lines[at] = f"{origin[1]} {_kind(first)} {first}{origin[2]}"
    text = "".join(lines)
    if not mark:
        return text
    return (text if text.endswith("\n") else text + "\r\n") + mark + "\r\n"


def _moved(line: str, address: str) -> str:
    match = _CONNECTION.match(line)
    return f"c=IN {_kind(address)} {address}{match[3]}" if match is not None else line
