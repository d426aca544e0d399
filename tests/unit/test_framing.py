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
