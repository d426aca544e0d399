"""A received SIP message: the text as it came, and an index of its header lines made in one pass.

Bodies of headers are parsed when somebody asks. The message never changes; a script's changes are edits (:mod:`.edits`) that are applied
when something is built from it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kamc.errors import SipError
from kamc.runtime.sip.addr import NameAddr, parse_addr
from kamc.runtime.sip.headers import KEYS
from kamc.runtime.sip.via import Via, parse_via, split_vias

#: a header line: (key, name as written, value, offset of the line, offset after its line end)
Header = tuple[str, str, str, int, int]

#: an index of more lines costs more than the text
_LONG_INDEX: Final = 64
_LINE: Final = re.compile(r"[^\n]*(?:\n[ \t][^\n]*)*\n?")
_STATUS: Final = re.compile(r"(?:SIP/2\.0|HTTP/1\.[01])[ \t]+([0-9]{3})[ \t]([^\r\n]*)\Z", re.I)
#: Kamailio takes any bytes for a method, and digits behind the version
_REQUEST: Final = re.compile(r"((?!SIP/2\.0 )[^ \t\r\n]+) +([^ \t]+) +((?:SIP/2\.0|HTTP/1\.[01])[0-9]*) *\Z", re.I)
#: a number that is none is relayed by Kamailio, too
_CSEQ: Final = re.compile(r"[ \t\r\n]*([^ \t\r\n]+)[ \t]+([^ \t\r\n]+)[ \t\r\n]*\Z")
#: headers that may be there once: with two of them nobody knows which one the next server believes
_SINGLE: Final = frozenset({"to", "from", "call-id", "cseq", "content-length", "max-forwards"})
#: a From or To that Kamailio takes (RFC 3261 section 20.39, and addresses of any kind); each stretch is read once
_ADDRESS: Final = re.compile(
    r'[ \t\r\n]*+(?:(?:"(?:[^"\\]|\\.)*+"[ \t\r\n]*+|[^"<>]*+)<[^<>\r\n\\"\0]+>|[^"<>;,\s]+)'
    r'(?:[ \t\r\n]*+;[ \t\r\n]*+[^;=,"<>\s\\]++(?:[ \t\r\n]*+=[ \t\r\n]*+(?:"(?:[^"\\]|\\.)*+"|[^;,"<>\s\\]*+))?)*[ \t\r\n]*+\Z',
    re.A,
)
#: how much of the Vias further down Kamailio looks at before it builds a reply
_FURTHER_VIA: Final = re.compile(r"[ \t\r\n]*+SIP[ \t\r\n]*+/[ \t\r\n]*+2\.0[ \t\r\n]*+/[ \t\r\n]*+[A-Z0-9]+[ \t\r\n]++[^ \t\r\n]", re.I)


class SipMessage:
    """See the module. ``status`` is 0 for requests, ``method`` of a reply is the one of its CSeq."""

    __slots__ = ("_addrs", "_cseq", "_method", "_via1", "_vias", "_wide_via", "body_start", "first", "first_line_end", "headers", "is_request", "open_ended",
                 "reason", "status", "text", "tm_key", "uri", "version")  # fmt: skip

    def __init__(self, text: str) -> None:
        self.text = text
        self._vias: list[Via] | None = None
        self._via1: Via | None = None
        self._cseq: tuple[int, str] | None = None
        self._addrs: dict[str, NameAddr | None] = {}
        #: what identifies the transaction of a request, once somebody has asked
        self.tm_key: tuple[Any, ...] | None = None
        #: there is more than one Via line
        self._wide_via = False
        #: the empty line behind the headers is missing
        self.open_ended = False
        self._parse_lines(text)

    # -- the one pass ----------------------------------------------------------------------------------------------------

    def _parse_lines(self, text: str) -> None:
        end = text.find("\r\n\r\n")
        head = text[: end + 2] if end >= 0 else ""
        if end < 0 or "\r\n " in head or "\r\n\t" in head or head.count("\n") != head.count("\r\n") or text[:2] == "\r\n":
            self._parse_slowly(text)
            return
        lines = head.split("\r\n")
        first_line = lines[0]
        self._parse_first_line(first_line)
        at = self.first_line_end = len(first_line) + 2
        self.body_start = end + 4
        headers: list[Header] = []
        first: dict[str, Header] = {}
        keys = KEYS
        for line in lines[1:-1]:
            name, colon, value = line.partition(":")
            key = keys[name]
            if not colon or not key:
                raise SipError("Bad header field")
            stop = at + len(line) + 2
            header = (key, name, value.lstrip(" \t"), at, stop)
            headers.append(header)
            if key not in first:
                first[key] = header
            else:
                self._repeated(key, name)
            at = stop
        self.headers = headers
        self.first = first

    def _parse_slowly(self, text: str) -> None:
        """Folded lines, bare line feeds, blank lines before the message, a head without an end."""
        at = 0
        while text.startswith(("\r", "\n"), at):
            at += 1
        match = re.compile(r"[^\n]*\n?").match(text, at)
        line = match.group() if match else ""
        self._parse_first_line(line.rstrip("\r\n"))
        at += len(line)
        self.first_line_end = at
        self.headers = []
        self.first = {}
        while True:
            if at >= len(text):
                self.open_ended = True  # Kamailio takes that, but does not relay it
                break
            if text.startswith("\r\n", at):
                at += 2
                break
            if text[at] == "\n":
                at += 1
                break
            found = _LINE.match(text, at)
            raw = found.group() if found else ""
            if not raw.endswith("\n"):
                raise SipError("Header line without an end")
            name, colon, value = raw.partition(":")
            key = KEYS[name]
            if not colon or not key:
                raise SipError("Bad header field")
            header = (key, name, value.rstrip("\r\n").lstrip(" \t\r\n"), at, at + len(raw))
            self.headers.append(header)
            if key in self.first:
                self._repeated(key, name)
            else:
                self.first[key] = header
            at += len(raw)
        self.body_start = at

    def _repeated(self, key: str, name: str) -> None:
        if key in _SINGLE:
            raise SipError(f"Duplicate {name} header field")
        if key == "via":
            self._wide_via = True

    def check(self) -> None:
        """Look at what everything else builds on: the first Via, others of a request, To. Raises SipError."""
        _ = self.via1
        if self.is_request and (self._wide_via or "," in self.first["via"][2]):
            for header in self.all("via"):
                if any(_FURTHER_VIA.match(value) is None for value in split_vias(header[2])):
                    raise SipError("Bad Via")
        if self.is_request and self.content_length is None and "content-length" in self.first:
            raise SipError("Bad Content-Length")
        if not self.has_good_address("to"):
            raise SipError("Bad To")
        if not self.is_request and not self.has_good_address("from"):
            raise SipError("Bad From")

    def has_good_address(self, key: str) -> bool:
        """Whether From or To is as Kamailio's parser wants it; also when it is not there."""
        header = self.first.get(key)
        if header is None:
            return True
        # a bare CR is looked at in To alone
        return _ADDRESS.match(header[2] if key == "to" else header[2].replace("\r", "")) is not None

    def _parse_first_line(self, line: str) -> None:
        parts = line.split(" ")
        if len(parts) == 3 and parts[2] == "SIP/2.0" and parts[0].isalpha() and parts[1]:
            self.is_request, self.status, self.reason = True, 0, ""
            self._method, self.uri, self.version = parts
            return
        match = _STATUS.match(line)
        if match is not None:
            self.is_request, self.status, self.reason = False, int(match.group(1)), match.group(2) or ""
            self._method, self.uri, self.version = "", "", line.split()[0]
            return
        match = _REQUEST.match(line)
        if match is None:
            raise SipError("Bad first line")
        self.is_request, self.status, self.reason = True, 0, ""
        self._method, self.uri, self.version = match.group(1), match.group(2), match.group(3)

    def rest(self) -> None:
        """Nobody will look at the message for a while: with very many header lines the index goes, and is made anew when it is asked for."""
        if len(self.headers) > _LONG_INDEX:
            del self.headers, self.first
            self._vias = None
            self._addrs = {}
            self.__class__ = _Resting

    # -- accessors -------------------------------------------------------------------------------------------------------

    @property
    def method(self) -> str:
        return self._method or self.cseq[1]

    @property
    def body(self) -> str:
        return self.text[self.body_start :]

    def value(self, key: str) -> str | None:
        """Value of the first header with that key."""
        header = self.first.get(key)
        return header[2] if header is not None else None

    def all(self, key: str) -> list[Header]:
        """All header lines with that key, in order."""
        if key not in self.first:
            return []
        return [h for h in self.headers if h[0] == key]

    @property
    def call_id(self) -> str:
        header = self.first.get("call-id")
        return header[2].strip() if header is not None else ""

    @property
    def cseq(self) -> tuple[int, str]:
        """Number (0 for one that is none) and method; (-1, "") when there is none or it is bad."""
        found = self._cseq
        if found is None:
            header = self.first.get("cseq")
            number, _, method = header[2].partition(" ") if header is not None else ("", "", "")
            if number.isdecimal() and method.isalpha() and len(number) < 11:
                found = int(number), method
            else:
                match = _CSEQ.match(header[2]) if header is not None else None
                number = match.group(1) if match is not None else ""
                found = (int(number) if number.isdecimal() and len(number) < 21 else 0, match.group(2)) if match is not None else (-1, "")
            self._cseq = found
        return found

    @property
    def vias(self) -> list[Via]:
        """All Via values. Raises SipError when one is bad."""
        found = self._vias
        if found is None:
            found = []
            for header in self.all("via"):
                for text in split_vias(header[2]):
                    via = parse_via(text)
                    if via is None:
                        raise SipError("Bad Via")
                    found.append(via)
            self._vias = found
        return found

    @property
    def via1(self) -> Via:
        """The topmost Via. Raises SipError when there is none."""
        found = self._via1
        if found is None:
            header = self.first.get("via")
            if header is None:
                raise SipError("No Via")
            value = header[2]
            found = parse_via(split_vias(value)[0] if "," in value else value)
            if found is None:
                raise SipError("Bad Via")
            self._via1 = found
        return found

    def address(self, key: str) -> NameAddr | None:
        """The first value of an address header (From, To, Contact, ...), or None when absent or bad."""
        cache = self._addrs
        if key in cache:
            return cache[key]
        header = self.first.get(key)
        found = parse_addr(header[2]) if header is not None else None
        cache[key] = found
        return found

    @property
    def from_(self) -> NameAddr | None:
        return self.address("from")

    @property
    def to(self) -> NameAddr | None:
        return self.address("to")

    @property
    def to_tag(self) -> str:
        to = self.address("to")
        return (to.tag or "") if to is not None else ""

    @property
    def from_tag(self) -> str:
        found = self.address("from")
        return (found.tag or "") if found is not None else ""

    @property
    def content_length(self) -> int | None:
        """The declared length; None when absent or no number."""
        value = self.value("content-length")
        value = value.strip() if value is not None else None
        return int(value) if value is not None and value.isdecimal() and len(value) < 10 else None


class _Resting(SipMessage):
    """A message without its index. A class of its own, since ``__getattr__`` makes every access slower."""

    __slots__ = ()

    def rest(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        # only called for a slot that is empty
        if name not in ("headers", "first"):
            raise AttributeError(name)
        self.__class__ = SipMessage  # type: ignore[assignment]
        self._parse_lines(self.text)
        return self.headers if name == "headers" else self.first


def parse_message(text: str) -> SipMessage:
    """Parse a message. Raises SipError for what cannot be a SIP message."""
    return SipMessage(text)
