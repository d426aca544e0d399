"""Media relays for tests: nodes on loopback that answer from a thread and remember what they were asked; rtpengine's ng protocol, and rtpproxy's commands."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

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
            self.take(cookie, rest, source)

    def take(self, cookie: bytes, rest: bytes, source: tuple[str, int]) -> None:
        command = decode(rest)
        if command["command"] == "ping":
            self.pings += 1
            found: dict[str, Any] | bytes | None = {"result": "pong"}
        else:
            self.asked.append(command)
            found = self.answer(command)
        if found is not None:
            self.sock.sendto(found if isinstance(found, bytes) else cookie + b" " + encode(found), source)


class TextRelay(Relay):
    """An rtpproxy. ``said`` are the commands, questions about versions left out; ``reply`` may give another answer, None for none at all."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.reply: Callable[[str], str | None] = self.ordinary

    @staticmethod
    def ordinary(command: str) -> str:
        return {"U": "30000 203.0.113.9", "L": "30000 203.0.113.9", "Q": "60 10 20 30 40"}.get(command[0], "0")

    def take(self, cookie: bytes, rest: bytes, source: tuple[str, int]) -> None:
        command = rest.decode("latin-1").strip("\n")
        if command.startswith("V"):
            found: str | None = "20040107" if command == "V" else "1"
        else:
            self.said.append(command)
            found = self.reply(command)
        if found is not None:
            self.sock.sendto(cookie + f" {found}\n".encode("latin-1"), source)


R = TypeVar("R", bound=Relay)


@contextmanager
def relay(kind: type[R] = Relay) -> Iterator[R]:  # type: ignore[assignment]
    one = kind()
    thread = threading.Thread(target=one.serve)
    thread.start()
    try:
        yield one
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", one.sock.getsockname())
        thread.join(5)
        one.sock.close()
