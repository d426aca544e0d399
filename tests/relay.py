"""An rtpengine for tests: a node that answers the ng protocol on loopback from a thread, and remembers what it was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stdlib_modules.rtpengine.bencode import decode, encode

Answer = Callable[[dict[str, Any]], dict[str, Any] | bytes | None]


class Relay:
    """``asked`` are the commands, pings left out. ``answer`` may give another answer than ok; bytes are sent as they are, None is no answer at all."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.url = f"udp:127.0.0.1:{self.sock.getsockname()[1]}"
        self.asked: list[dict[str, Any]] = []
        self.pings = 0
        self.answer: Answer = self.usual

    @staticmethod
    def usual(command: dict[str, Any]) -> dict[str, Any]:
        if "sdp" in command:
            return {"result": "ok", "sdp": command["sdp"].replace("192.0.2.1", "203.0.113.9").replace("4000", "30000")}
        return {"result": "ok"}

    def serve(self) -> None:
        while True:
            data, source = self.sock.recvfrom(65535)
            if not data:
                return
            cookie, _, rest = data.partition(b" ")
            command = decode(rest)
            if command["command"] == "ping":
                self.pings += 1
                found: dict[str, Any] | bytes | None = {"result": "pong"}
            else:
                self.asked.append(command)
                found = self.answer(command)
            if found is not None:
                self.sock.sendto(found if isinstance(found, bytes) else cookie + b" " + encode(found), source)


@contextmanager
def relay() -> Iterator[Relay]:
    one = Relay()
    thread = threading.Thread(target=one.serve)
    thread.start()
    try:
        yield one
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", one.sock.getsockname())
        thread.join(5)
        one.sock.close()
