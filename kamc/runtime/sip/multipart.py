"""Bodies of several parts (RFC 2046 section 5.1). Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.uri import parse_params

_SDP: Final = "application/sdp"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body: where it lies in the body, its type and its content."""

    start: int
    end: int
    type: str
    content_type: str
    content: str
    raw: str
    #: where the content begins in the body
    at: int


def mime_type(text: str | None) -> str:
    return (text or "").partition(";")[0].strip().lower()


def boundary_of(msg: SipMessage) -> str | None:
    value = msg.value("content-type")
    if value is None or not mime_type(value).startswith("multipart/"):
        return None
    return boundary_in(value)


def boundary_in(content_type: str) -> str | None:
    """The boundary parameter, which may be empty; None without one, or with a quote that does not end."""
    boundary = parse_params(content_type.partition(";")[2]).get("boundary")
    if boundary is None:
        return None
    if boundary.startswith('"'):
        return boundary[1:-1] if len(boundary) > 1 and boundary.endswith('"') else None
    return boundary


def parts_of(body: str, boundary: str) -> list[Part]:
    """The parts between the boundary lines; start and end cover the part with its leading boundary."""
    out = []
    mark = f"--{boundary}"
    at = body.find(mark)
    while at >= 0:
        line_end = body.find("\n", at)
        if line_end < 0 or body.startswith("--", at + len(mark)):
            break
        following = body.find(mark, line_end)
        end = following if following >= 0 else len(body)
        raw = body[line_end + 1 : end]
        head, sep, content = raw.partition("\r\n\r\n")
        if not sep:
            head, sep, content = raw.partition("\n\n")
        fields = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in head.splitlines())}
        kind = fields.get("content-type", "text/plain")
        out.append(Part(at, end, mime_type(kind), kind, content.removesuffix("\r\n"), raw, line_end + 1 + len(head) + len(sep)))
        at = following
    return out


def find_part(body: str, boundary: str, kind: str, depth: int = 4) -> tuple[int, str] | None:
    """Where the first part of a type begins in the body, and its content; also in bodies of several parts inside of it."""
    for part in parts_of(body, boundary):
        if part.type == kind:
            return part.at, part.content
        inner = boundary_in(part.content_type) if depth and part.type.startswith("multipart/") else None
        found = find_part(part.content, inner, kind, depth - 1) if inner is not None else None
        if found is not None:
            return part.at + found[0], found[1]
    return None


def find_sdp(msg: SipMessage) -> tuple[int, str] | None:
    """Where the session description begins in the message, and its text; None when there is none."""
    if not msg.body:
        return None
    kind = mime_type(msg.value("content-type"))
    if kind == _SDP:
        return msg.body_start, msg.body
    boundary = boundary_of(msg)
    part = find_part(msg.body, boundary, _SDP) if boundary is not None else None
    return (msg.body_start + part[0], part[1]) if part is not None else None
