"""Building messages: requests and replies to forward, replies of our own, ACK and CANCEL. Pure functions over text."""

from __future__ import annotations

from kamc.runtime.sip.edits import Edit, apply_edits
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.via import Via, split_vias


def _body_edit(msg: SipMessage, edits: list[Edit], *, need_length: bool = False) -> list[Edit]:
    """The edits plus one that keeps Content-Length true when the body changes (or a stream needs one)."""
    start, size = msg.body_start, len(msg.text)
    touched = any(stop > start or begin > start or (begin == start and new) for begin, stop, new in edits)
    header = msg.first.get("content-length")
    if not touched and not (need_length and header is None):
        return edits
    length = len(apply_edits(msg.text, edits, start, size))
    if header is None:
        return [*edits, (start - blank_line(msg), start - blank_line(msg), f"Content-Length: {length}\r\n")]
    if any(begin <= header[3] < stop for begin, stop, _ in edits):
        return edits
    return [*edits, (header[3], header[4], f"{header[1]}: {length}\r\n")]


def blank_line(msg: SipMessage) -> int:
    """Length of the line end between headers and body."""
    return 2 if msg.text[msg.body_start - 2 : msg.body_start] == "\r\n" else 1


def build_request(msg: SipMessage, edits: list[Edit], uri: str, via: str, *, need_length: bool = False, method: str | None = None) -> str:
    """A request to send on: new request line, our Via on top, the edits applied once. ``via`` is the whole header line or empty."""
    if edits or need_length:
        edits = _body_edit(msg, edits, need_length=need_length)
    line = f"{method or msg.method} {uri} {msg.version}\r\n"
    header = msg.first.get("via")
    at = header[3] if header is not None else msg.first_line_end
    text = msg.text
    if not edits:
        return f"{line}{text[msg.first_line_end : at]}{via}{text[at:]}"
    return line + apply_edits(text, [*edits, (at, at, via)], msg.first_line_end, len(text))


def build_forwarded_reply(msg: SipMessage, edits: list[Edit], *, status_line: str | None = None, need_length: bool = False) -> str:
    """A reply to send on: our Via removed, the edits applied."""
    header = msg.first.get("via")
    out = list(edits)
    if header is not None:
        values = split_vias(header[2])
        if len(values) == 1:
            out.append((header[3], header[4], ""))
        else:
            rest = ",".join(values[1:]).lstrip(" \t")
            out.append((header[3], header[4], f"{header[1]}: {rest}\r\n"))
    out = _body_edit(msg, out, need_length=need_length)
    text = msg.text
    first = (status_line + "\r\n") if status_line is not None else text[: msg.first_line_end].lstrip("\r\n")
    return first + apply_edits(text, out, msg.first_line_end, len(text))


def via_with_source(via_value: str, via: Via, ip: str, port: int, *, received: bool, rport: bool) -> str:
    """A topmost Via with where the message came from (RFC 3261 section 18.2.1, RFC 3581 section 4)."""
    out = via_value
    if rport and via.wants_rport and not via.param_map.get("rport"):
        at = _param_end(out, "rport")
        out = f"{out[:at]}={port}{out[at:].removeprefix('=')}" if at >= 0 else f"{out};rport={port}"
        rport = False
    if rport and not via.wants_rport:
        out += f";rport={port}"
    if received:
        out += f";received={ip}"
    return out


def _param_end(text: str, name: str) -> int:
    """Offset after a parameter's name, or -1."""
    lowered = text.lower()
    at = lowered.find(";")
    while at >= 0:
        begin = at + 1
        while begin < len(text) and text[begin] in " \t":
            begin += 1
        end = begin + len(name)
        if lowered.startswith(name, begin) and (end >= len(text) or text[end] in ";= \t,"):
            return end
        at = lowered.find(";", at + 1)
    return -1


def build_reply(
    msg: SipMessage, code: int, reason: str, *, to_tag: str, via1: str, server: str, headers: str = "", body: str = "", body_type: str = "",
    copy_rr: bool = True,
) -> str:  # fmt: skip
    """A reply of our own (RFC 3261 section 8.2.6): Via, From, To, Call-ID and CSeq in the request's order.

    ``via1`` is the first Via value with received and rport; Record-Route is copied to replies 180 to 299; Timestamp to 100.
    """
    out = [f"SIP/2.0 {code} {reason}\r\n"]
    first_via = True
    for key, name, value, start, end in msg.headers:
        if key == "via":
            if first_via:
                first_via = False
                values = split_vias(value)
                rest = "," + ",".join(values[1:]) if len(values) > 1 else ""
                out.append(f"{name}: {via1}{rest}\r\n")
            else:
                out.append(msg.text[start:end])
        elif key == "to":
            if to_tag and not msg.to_tag:
                out.append(f"{name}: {value};tag={to_tag}\r\n")
            else:
                out.append(msg.text[start:end])
        elif key in ("from", "call-id", "cseq") or (key == "record-route" and copy_rr and 180 <= code < 300) or (key == "timestamp" and code == 100):
            out.append(msg.text[start:end])
    out.append(headers)
    if server:
        out.append(server + "\r\n")
    if body_type:
        out.append(f"Content-Type: {body_type}\r\n")
    out.append(f"Content-Length: {len(body)}\r\n\r\n")
    out.append(body)
    return "".join(out)


def build_hop_request(sent: SipMessage, method: str, *, to: str | None = None, extra: str = "", prefix: str = "") -> str:
    """ACK for a negative reply (RFC 3261 section 17.1.1.3) or CANCEL (section 9.1) for a request that we sent.

    Same request line, topmost Via, From, Call-ID, Route and CSeq number; ``to`` is the To of the reply for an ACK. Headers whose name begins
    with ``prefix`` come along.
    """
    number = sent.cseq[0]
    out = [f"{method} {sent.uri} SIP/2.0\r\n"]
    via_done = False
    for key, name, value, start, end in sent.headers:
        if key == "via":
            if not via_done:
                out.append(f"Via: {split_vias(value)[0].strip()}\r\n")
                via_done = True
        elif key == "to":
            out.append(f"{name}: {to}\r\n" if to is not None else sent.text[start:end])
        elif key == "cseq":
            out.append(f"{name}: {number} {method}\r\n")
        elif key in ("from", "call-id", "route", "max-forwards") or (prefix and name.lower().startswith(prefix)):
            out.append(sent.text[start:end])
    out.append(f"Content-Length: 0\r\n{extra}\r\n")
    return "".join(out)


def rebuild(msg: SipMessage, edits: list[Edit]) -> str:
    """The message with its edits applied and nothing else changed."""
    edits = _body_edit(msg, list(edits))
    return apply_edits(msg.text, edits, 0, len(msg.text)).lstrip("\r\n")
