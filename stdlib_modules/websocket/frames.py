"""One WebSocket connection (RFC 6455): frames in and out, pings, and how it ends. Each message is one SIP message (RFC 7118)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, Protocol

from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from kamc.runtime.net.connection import Closing, Connection
from kamc.runtime.net.tcp import TcpHub

#: as large as a datagram may be
MAX_MESSAGE: Final = 65535
_REASONS: Final = {
    CloseReason.NORMAL_CLOSURE: "Normal closure", CloseReason.PROTOCOL_ERROR: "Protocol error", CloseReason.INVALID_FRAME_PAYLOAD_DATA: "Invalid data",
    CloseReason.MESSAGE_TOO_BIG: "Message too big",
}  # fmt: skip


class State(Enum):
    OPEN = "OPEN"
    CLOSING = "CLOSING"


class Counting(Protocol):
    def add(self, group: str, name: str, by: int = 1) -> None: ...


def count(counters: Counting, name: str) -> None:
    """For all connections, and for those of the subprotocol."""
    for kind in ("", "sip_"):
        counters.add("websocket", f"ws_{kind}{name}")


class WebSocket:
    """What stands in for the SIP framing of a connection once the handshake is over; times are of ``clock``."""

    def __init__(self, conn: Connection, hub: TcpHub, counters: Counting, clock: Callable[[], float]) -> None:
        self.conn, self.hub, self.counters, self.clock = conn, hub, counters, clock
        self.state = State.OPEN
        self.awaiting_pong = False
        self.last_used = clock()
        self.closing_since = 0.0
        self._frames = FrameProtocol(client=False, extensions=[])
        self._message = bytearray()

    # -- in --------------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Whole messages; pings and closes are answered here."""
        self.last_used = self.clock()
        self._frames.receive_bytes(data)
        try:
            for frame in self._frames.received_frames():
                message = self._frame(frame)
                if message is not None:
                    yield message
                if self.conn.id not in self.hub.connections:
                    return
        except ParseFailed as err:
            self._fail(err.code)

    def _frame(self, frame: Frame) -> bytes | None:
        payload = frame.payload
        if isinstance(payload, tuple):
            self._closed_by_peer()
            return None
        if frame.frame_finished:
            self._count("received_frames")
        if frame.opcode is Opcode.PING:
            self._write(self._frames.pong(payload if isinstance(payload, bytes) else b""))
            return None
        if frame.opcode is Opcode.PONG:
            self.awaiting_pong = False
            return None
        self._message += payload.encode() if isinstance(payload, str) else payload
        if len(self._message) > MAX_MESSAGE:
            self._fail(CloseReason.MESSAGE_TOO_BIG)
            return None
        if not frame.message_finished:
            return None
        message = bytes(self._message)
        self._message.clear()
        if self.state is not State.OPEN:
            return None
        if not message.strip(b"\r\n") and message:
            self._write(self._frames.send_data("\r\n"))
            return None
        if not message:
            self._count("failed_connections")
            self.hub.close(self.conn, "an empty message", Closing.OWN)
            return None
        return message

    # -- out -------------------------------------------------------------------------------------------------------------

    def encode(self, data: bytes) -> bytes:
        """A text frame when it is UTF-8, else a binary one. Raises OSError after the end was announced."""
        if self.state is not State.OPEN:
            raise ConnectionError("the WebSocket connection is being closed")
        self.last_used = self.clock()
        self._count("transmitted_frames")
        try:
            return bytes(self._frames.send_data(data.decode()))
        except UnicodeDecodeError:
            return bytes(self._frames.send_data(data))

    def ping(self, data: bytes) -> None:
        """Raises OSError."""
        self._control(self._frames.ping(data))
        self.awaiting_pong = True

    def pong(self, data: bytes) -> None:
        """One that was not asked for. Raises OSError."""
        self._control(self._frames.pong(data))

    def _control(self, frame: bytes | bytearray) -> None:
        if self.state is not State.OPEN:
            raise ConnectionError("the WebSocket connection is being closed")
        self.last_used = self.clock()
        self._count("transmitted_frames")
        self.hub.write_raw(self.conn, bytes(frame))

    def _write(self, frame: bytes | bytearray) -> None:
        """An answer to a frame: a peer that reads nothing loses its connection."""
        self._count("transmitted_frames")
        try:
            self.hub.write_raw(self.conn, bytes(frame))
        except OSError as err:
            self.hub.close(self.conn, err.strerror or str(err), Closing.RESET)

    # -- end -------------------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Begin to close: the peer answers, or is cut off after rm_delay_interval. Raises OSError."""
        if self.state is not State.OPEN:
            return
        self._control(self._frames.close(code, reason))
        self._count("local_closed_connections")
        self.state, self.closing_since = State.CLOSING, self.clock()

    def _closed_by_peer(self) -> None:
        if self.state is State.CLOSING:
            self.hub.close(self.conn, "by the peer", Closing.PEER)
            return
        self._count("remote_closed_connections")
        self._last_words(CloseReason.NORMAL_CLOSURE)

    def _fail(self, code: CloseReason) -> None:
        self._count("failed_connections")
        self._last_words(code)

    def _last_words(self, code: CloseReason) -> None:
        self.state, self.closing_since = State.CLOSING, self.clock()
        self.conn.close_when_sent = True
        self._write(self._frames.close(code, _REASONS.get(code, "")))

    def _count(self, name: str) -> None:
        count(self.counters, name)
