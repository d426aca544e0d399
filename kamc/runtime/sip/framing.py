"""Messages out of a byte stream (RFC 3261 section 18.3): headers up to the empty line, then as many bytes as Content-Length says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from kamc.errors import SipError
from kamc.runtime.sip.chunked import ChunkedRequest, is_chunked

#: what a peer sends to keep a connection open (RFC 5626 section 3.5.1); the answer is one line end
PING: Final = b"\r\n\r\n"
PONG: Final = b"\r\n"
_LENGTH: Final = re.compile(rb"^(?:content-length|l)[ \t]*+:([^\r\n]*+)", re.I | re.M)
_END: Final = re.compile(rb"\r?\n\r?\n")


class StreamFramer:
    """One direction of a connection. ``limit`` is the largest message in bytes, headers included."""

    __slots__ = ("_buffer", "_checked", "_chunked", "_need", "accept_no_length", "limit")

    def __init__(self, limit: int, *, accept_no_length: bool = False) -> None:
        self.limit, self.accept_no_length = limit, accept_no_length
        self._buffer = bytearray()
        #: how far the end of the headers was looked for
        self._checked = 0
        #: length of the message in hand once its headers are there
        self._need = 0
        #: an HTTP request whose body comes in chunks and has not ended
        self._chunked: ChunkedRequest | None = None

    @property
    def pending(self) -> int:
        """Bytes of an unfinished message."""
        return len(self._buffer) + (self._chunked is not None)

    def take_rest(self) -> bytes:
        """What came after the last message, which something else has to understand."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._need = self._checked = 0
        return rest

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Whole messages, and PING where one stood between them. Raises SipError: the stream cannot be understood from there on."""
        buffer = self._buffer
        buffer += data
        while True:
            if self._chunked is not None:
                last = self._chunked.has_two_lengths
                message = self._next_chunks(self._chunked)
                if message is None:
                    return
                yield message
                if last:
                    # whatever the script made of it
                    raise SipError("a request with Transfer-Encoding and Content-Length: nothing behind it is read")
                continue
            if not self._need:
                if buffer.startswith((b"\r", b"\n", b"\0")):
                    if buffer.startswith(PING):
                        del buffer[: len(PING)]
                        yield PING
                        continue
                    if len(buffer) < len(PING) and PING.startswith(buffer):
                        return
                    del buffer[:2 if buffer.startswith(b"\r\n") else 1]
                    continue
                if not buffer or not self._measure():
                    return
                if self._chunked is not None:
                    continue
            if len(buffer) < self._need:
                return
            whole = bytes(buffer[: self._need])
            del buffer[: self._need]
            self._need = self._checked = 0
            yield whole

    def _next_chunks(self, request: ChunkedRequest) -> bytes | None:
        """What came goes to the chunked request in hand; the request when it is whole."""
        data = bytes(self._buffer)
        self._buffer.clear()
        self._checked = 0
        message = request.feed(data)
        if message is not None:
            self._chunked = None
            self._buffer += request.rest
        return message

    def _measure(self) -> bool:
        """Find the end of the headers and the length of the whole message; False when more bytes are needed."""
        buffer = self._buffer
        end = _END.search(buffer, max(0, self._checked - 3))
        if end is None:
            self._checked = len(buffer)
            if len(buffer) > self.limit:
                raise SipError(f"headers of more than {self.limit} bytes")
            return False
        if buffer.find(b" HTTP/1.1", 0, buffer.find(b"\n")) > 0 and is_chunked(buffer[: end.end()]):
            self._chunked = ChunkedRequest(bytes(buffer[: end.end()]), self.limit)
            return True
        length = _LENGTH.search(buffer, 0, end.start() + 1)
        if length is None and not self.accept_no_length:
            raise SipError("no Content-Length on a stream")
        digits = length[1].strip(b" \t") if length is not None else b"0"
        if not digits.isdigit():
            raise SipError("a Content-Length that is no number")
        if len(digits) > 9 or end.end() + int(digits) > self.limit:
            raise SipError(f"a message of more than {self.limit} bytes")
        self._need = end.end() + int(digits)
        return True
