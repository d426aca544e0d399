"""Messages out of a stream."""

from __future__ import annotations

import pytest

from kamc.errors import SipError
from kamc.runtime.sip.framing import PING, StreamFramer


def message(body: str = "", length: str | None = None, head: str = "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n") -> bytes:
    return (head + f"{length if length is not None else f'Content-Length: {len(body)}'}\r\n\r\n{body}").encode()


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_pieces_of_any_size_give_the_same_messages(step: int) -> None:
    whole = [message(), message("hello\r\n\r\nworld"), message("x" * 300, "l : 300"), message("end", "CONTENT-LENGTH:3")]
    stream = b"\r\n" + whole[0] + b"\r\n\r\n" + whole[1] + b"\r\n" + whole[2] + whole[3]
    framer = StreamFramer(4096)
    found = [m for at in range(0, len(stream), step) for m in framer.feed(stream[at : at + step])]
    assert [m for m in found if m != PING] == whole
    assert found.count(PING) == 1
    assert framer.pending == 0


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n", id="no length"),
        pytest.param(b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: -1\r\n\r\n", id="negative"),
        pytest.param(b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 4294967297\r\n\r\n", id="huge"),
        pytest.param(b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 600\r\n\r\n", id="over the limit"),
        pytest.param(b"A" * 600, id="headers without an end"),
    ],
)
def test_a_stream_that_cannot_be_understood_ends(stream: bytes) -> None:
    with pytest.raises(SipError):
        list(StreamFramer(512).feed(stream))


def test_without_length_when_the_cfg_allows_it() -> None:
    data = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n"
    assert list(StreamFramer(512, accept_no_length=True).feed(data)) == [data]


POST = b"POST /RPC HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"


@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_a_chunked_request_of_http_comes_whole(step: int) -> None:
    stream = POST + b"Transfer-Encoding: chunked\r\nX: y\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: no\r\n\r\n" + message()
    framer = StreamFramer(4096)
    found = [m for at in range(0, len(stream), step) for m in framer.feed(stream[at : at + step])]
    assert found == [POST + b"X: y\r\nContent-Length: 11\r\n\r\nhello world", message()]
    assert framer.pending == 0


def test_with_two_lengths_the_connection_is_to_end() -> None:
    messages = StreamFramer(4096).feed(POST + b"Transfer-Encoding: chunked\r\nContent-Length: 35\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + message())
    assert next(messages) == POST + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi"
    with pytest.raises(SipError, match="nothing behind it is read"):
        next(messages)


@pytest.mark.parametrize("body", [b"zz\r\nhello\r\n", b"5\r\nhelloX0\r\n\r\n", b"fffffffffffffffffffff\r\n", b"600\r\n" + b"x" * 0x600 + b"\r\n", b"1;" + b"a" * 900])
def test_chunks_that_cannot_be_read_end_the_stream(body: bytes) -> None:
    with pytest.raises(SipError):
        list(StreamFramer(512).feed(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body))


def test_only_http_has_chunks() -> None:
    with pytest.raises(SipError, match="no Content-Length"):
        list(StreamFramer(512).feed(b"MESSAGE sip:a@b SIP/2.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
