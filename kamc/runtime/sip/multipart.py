"""Bodies of several parts (RFC 2046 section 5.1). Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.uri import parse_params


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body: where it lies in the body, its type and its content."""

    start: int
    end: int
    type: str
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
    boundary = parse_params(value.partition(";")[2]).get("boundary")
    return boundary.strip('"') if boundary else None


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
        out.append(Part(at, end, mime_type(fields.get("content-type", "text/plain")), content.removesuffix("\r\n"), raw, line_end + 1 + len(head) + len(sep)))
        at = following
    return out
