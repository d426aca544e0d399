"""A whole server in memory: real compiler, real datapath, a list instead of sockets and a number instead of a clock."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kamc.codegen.package import build_files
from kamc.compile import compile_cfg
from kamc.runtime.log import Log
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.proc.worker import Worker

SERVER = ("127.0.0.1", 5060)
HEAD = """#!KAMAILIO
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "textopsx.so"
loadmodule "siputils.so"
loadmodule "kex.so"
loadmodule "corex.so"
"""


class MemoryLog(Log):
    """Keeps lines instead of writing them."""

    __slots__ = ("lines",)

    def __init__(self, level: int = 3) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def write(self, level: int, text: str, module: str = "") -> None:
        self.lines.append(text.rstrip("\n"))

    def say(self, level: int, text: str, name: str = "", facility: int | None = None) -> None:
        self.lines.append(text.rstrip("\n"))


class Message:
    """A message that the server sent: text, destination, time."""

    def __init__(self, text: str, to: tuple[str, int], at: float) -> None:
        self.text, self.to, self.at = text, to, at

    @property
    def first(self) -> str:
        return self.text.split("\r\n", 1)[0]

    def get(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*?)\r?$", self.text, re.M | re.I)
        return found.group(1) if found else None

    def all(self, name: str) -> list[str]:
        return re.findall(rf"^{name}: (.*?)\r?$", self.text, re.M | re.I)

    def __repr__(self) -> str:
        return f"<{self.first} to {self.to[1]} at {self.at:g}>"


def built(folder: Path, text: str) -> dict[str, bytes]:
    """A configuration as a build has it."""
    path = folder / "kamailio.cfg"
    path.write_text(text, encoding="latin-1")
    compiled = compile_cfg(str(path))
    assert compiled.program is not None, compiled.diagnostics
    return build_files(compiled.program, {}, {}, readable=False)


class Bench:
    """The server under test. ``take()`` gives what was sent since the last call. ``files``: a build to run instead of a text."""

    def __init__(self, folder: Path, text: str, *, head: str = HEAD, files: dict[str, bytes] | None = None) -> None:
        self.files, self.folder = files or built(folder, head + text), folder
        self.time = 1000.0
        self.log = MemoryLog()
        self.worker = Worker(self.log, clock=lambda: self.time, wall_clock=lambda: 1700000000.0 + self.time)
        self.sent: list[Message] = []
        self.listener = Listener("udp", *SERVER)
        self.worker.listeners.append(self.listener)
        self.worker.datapath.add_listener(self.listener, self._send)
        self.load()
        self.serial = 0

    def load(self) -> None:
        """Load the build, as the first generation or in the place of the one that runs."""
        first = self.worker.rt is None
        rt = self.worker.load(self.files, str(self.folder), {"debug": 3})
        if first:
            rt.start_repeating()
            for module in rt.modules.values():
                module.child_init()

    def _send(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append(Message(data.decode("latin-1"), address, self.time))

    def recv(self, text: str, source: tuple[str, int] = ("127.0.0.1", 6000)) -> None:
        self.worker.datapath.received(text.encode("latin-1"), self.listener, source)

    def request(self, method: str = "INVITE", uri: str = "sip:bob@127.0.0.1:7000", *lines: str, branch: str = "", call_id: str = "c1", cseq: int = 1,
                to_tag: str = "", body: str = "", port: int = 6000) -> str:  # fmt: skip
        self.serial += 1
        text = (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch={branch or f'z9hG4bKx{self.serial}'}\r\nMax-Forwards: 70\r\n"
                f"From: <sip:alice@a.test>;tag=f1\r\nTo: <sip:bob@b.test>{';tag=' + to_tag if to_tag else ''}\r\nCall-ID: {call_id}\r\n"
                f"CSeq: {cseq} {method}\r\nContact: <sip:alice@127.0.0.1:6000>\r\n" + "".join(line + "\r\n" for line in lines)
                + f"Content-Length: {len(body)}\r\n\r\n{body}")  # fmt: skip
        self.recv(text, ("127.0.0.1", port))
        return text

    def reply(self, to: Message, status: str, *lines: str, tag: str = "t1", port: int = 7000) -> str:
        kept = "".join(f"{line}\r\n" for line in to.text.split("\r\n") if re.match(r"(Via|From|Call-ID|CSeq|Record-Route):", line))
        target = to.get("To") or ""
        text = (f"SIP/2.0 {status}\r\n{kept}To: {target}{'' if ';tag=' in target else f';tag={tag}'}\r\n" + "".join(line + "\r\n" for line in lines)
                + "Content-Length: 0\r\n\r\n")  # fmt: skip
        self.recv(text, ("127.0.0.1", port))
        return text

    def advance(self, seconds: float) -> None:
        """Let the time pass; timers fire at their own moments."""
        end = self.time + seconds
        while True:
            deadline = self.worker.timers.next_deadline()
            if deadline is None or deadline > end:
                break
            self.time = max(self.time, deadline)
            self.worker.timers.expire(self.time)
        self.time = end

    def take(self) -> list[Message]:
        out, self.sent = self.sent, []
        return out

    def firsts(self) -> list[str]:
        return [m.first for m in self.take()]

    @property
    def transactions(self) -> int:
        return len(self.worker.engine.transactions())

    def rpc(self, name: str, *params: Any) -> Any:
        return self.worker.rpc.call(name, list(params))
