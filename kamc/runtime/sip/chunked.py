"""HTTP requests with a chunked body (RFC 9112 section 7.1) on a stream of SIP messages: h11 reads them, out comes a request with a Content-Length."""

from __future__ import annotations

import re
from typing import Final

import h11

from kamc.errors import SipError

_CHUNKED_HTTP: Final = re.compile(rb"[^\r\n]*[ \t]HTTP/1\.1[ \t]*\r?\n(?:[^\r\n]+\r?\n)*?transfer-encoding[ \t]*:[ \t]*chunked[ \t]*\r?\n", re.I)
#: lines that say how long the body is; what follows from them is said anew
_LENGTHS: Final = re.compile(rb"^(?:content-length|l|transfer-encoding|connection)[ \t]*+:[^\n]*\n", re.I | re.M)


def is_chunked(head: bytes | bytearray) -> bool:
    """Whether the header lines are those of an HTTP request whose body comes in chunks."""
    return _CHUNKED_HTTP.match(head) is not None


class ChunkedRequest:
    """One request. ``limit`` is its largest size in bytes, headers included."""

    def __init__(self, head: bytes, limit: int) -> None:
        self._head, self._limit = head, limit
        self._reader = h11.Connection(h11.SERVER, max_incomplete_event_size=limit)
        self._body = bytearray()
        #: nobody knows which length the sender meant: nothing behind this request is to be trusted (RFC 9112 section 6.3)
        self.has_two_lengths = re.search(rb"^(?:content-length|l)[ \t]*:", head, re.I | re.M) is not None
        #: what came behind the request
        self.rest = b""

    def feed(self, data: bytes) -> bytes | None:
        """The request once it is whole. Raises SipError for what is no such request."""
        try:
            self._reader.receive_data(data)
            while True:
                event = self._reader.next_event()
                if isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._head) + len(self._body) > self._limit:
                        raise SipError(f"a message of more than {self._limit} bytes")
                elif isinstance(event, h11.EndOfMessage):
                    self.rest = self._reader.trailing_data[0]
                    return self._whole()
                elif event is h11.NEED_DATA:
                    return None
        except h11.RemoteProtocolError as err:
            raise SipError(f"a chunked body that cannot be read: {err}") from None

    def _whole(self) -> bytes:
        lines, length = _LENGTHS.sub(b"", self._head), len(self._body)
        close = self.has_two_lengths or re.search(rb"^connection[ \t]*:[^\n]*close", self._head, re.I | re.M)
        connection = b"Connection: close\r\n" if close else b""
        return lines.rstrip(b"\r\n") + b"\r\n" + connection + b"Content-Length: %d\r\n\r\n" % length + bytes(self._body)
