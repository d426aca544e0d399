"""Session descriptions (RFC 4566): the lines, and where each lies. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_PAYLOAD: Final = re.compile(r" +([^ \r\n]+)")
_CODEC_LINE: Final = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb):(\S+)", re.I)
_RTPMAP: Final = re.compile(r"a=rtpmap:(\d+) +([^/\s]+)", re.I)
#: payload types that need no rtpmap (RFC 3551 section 6, audio) → names as a cfg writes them, lower case
STATIC_CODECS: Final[dict[str, tuple[str, ...]]] = {
    "pcmu": ("0",), "gsm": ("3",), "g723": ("4",), "dvi4": ("5", "6", "16", "17"), "lpc": ("7",), "pcma": ("8",), "g722": ("9",), "l16": ("10", "11"),
    "qcelp": ("12",), "cn": ("13",), "mpa": ("14",), "g728": ("15",), "g729": ("18",),
}  # fmt: skip


#: Kamailio takes no more
_MOST_STREAMS: Final = 32


class SdpError(ValueError):
    """A description that cannot be used."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its text without the line end, and where it begins and (with its line end) stops."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class Stream:
    """An ``m=`` line and what follows it up to the next one. ``payloads`` are (text, start with the blank before it, end)."""

    media: str
    port: str
    transport: str
    payloads: list[tuple[str, int, int]]
    lines: list[Line] = field(default_factory=list)

    @property
    def span(self) -> tuple[int, int]:
        return self.lines[0].start, self.lines[-1].end

    def find(self, prefix: str) -> Line | None:
        return next((line for line in self.lines if line.text.startswith(prefix)), None)

    @property
    def active(self) -> bool:
        """Whether it is neither refused (port 0) nor inactive."""
        return self.port.partition("/")[0] != "0" and self.find("a=inactive") is None

    def codec_lines(self, payload: str) -> list[Line]:
        """The attributes that speak of a payload type."""
        return [line for line in self.lines if (found := _CODEC_LINE.match(line.text)) is not None and found[1] == payload]


@dataclass(slots=True)
class Sdp:
    """The lines before the first stream, the streams, and all lines in their order."""

    head: list[Line]
    streams: list[Stream]
    lines: list[Line]

    def of(self, media: str) -> list[Stream]:
        """Streams of a kind of media; empty is all."""
        return [s for s in self.streams if not media or s.media.lower() == media.lower()]

    def session_line(self, prefix: str) -> str | None:
        return next((line.text for line in self.head if line.text.startswith(prefix)), None)

    @property
    def connection(self) -> str | None:
        """The first ``c=`` line: the session's, else a stream's."""
        return next((line.text for line in self.lines if line.text.startswith("c=")), None)

    def payloads_named(self, codec: str) -> list[str]:
        """Payload types of a codec: the static ones, else those that an rtpmap gives to the name."""
        static = STATIC_CODECS.get(codec.lower())
        if static is not None:
            return list(static)
        found = (_RTPMAP.match(line.text) for line in self.lines)
        return list(dict.fromkeys(m[1] for m in found if m is not None and m[2].lower() == codec.lower()))


def parse_sdp(text: str) -> Sdp:
    """Split a description. Raises SdpError for one without ``v=``, with an ``m=`` or ``c=`` line that cannot be read, without a stream, or with one that has no
    address: neither its own nor the session's."""
    lines = [Line(m[0].rstrip("\r\n"), m.start(), m.end()) for m in _LINE.finditer(text) if m[0]]
    if not lines or not lines[0].text.startswith("v="):
        raise SdpError("it does not begin with v=")
    head: list[Line] = []
    streams: list[Stream] = []
    for line in lines:
        if line.text.startswith("m="):
            streams.append(_stream(line))
        (streams[-1].lines if streams else head).append(line)
    if not streams or len(streams) > _MOST_STREAMS:
        raise SdpError(f"{len(streams)} streams")
    bad = next((line.text for line in lines if line.text.startswith("c=") and len(line.text.split()) < 3), None)
    if bad is not None:
        raise SdpError(f"bad line {bad[:60]!r}")
    if not any(line.text.startswith("c=") for line in head):
        bare = next((s for s in streams if s.find("c=") is None), None)
        if bare is not None:
            raise SdpError(f"m={bare.media} has no address")
    return Sdp(head, streams, lines)


def _stream(line: Line) -> Stream:
    parts = line.text[2:].split(" ", 3)
    if len(parts) < 3 or not parts[1].partition("/")[0].removeprefix("-").isdecimal():
        raise SdpError(f"bad line {line.text[:60]!r}")
    offset = len(line.text) - len(parts[3]) - 1 if len(parts) > 3 else len(line.text)
    payloads = [(m[1], line.start + m.start(), line.start + m.end()) for m in _PAYLOAD.finditer(line.text, offset)]
    return Stream(parts[0], parts[1], parts[2], payloads, [line])
