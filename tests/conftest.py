"""Shared fixtures: a compile helper, a running server, where the recorded material lies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamc.compile import Compiled, compile_cfg
from kamc.diagnostics import DiagnosticSink
from kamc.nodes import CfgFile
from kamc.parser import parse_text
from tests.harness import Bench

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

Compile = Callable[..., Compiled]


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Parser tables in a folder of the run, so that tests do not depend on the user's cache."""
    os.environ["KAMC_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def compile_text(tmp_path: Path) -> Compile:
    """Compile a configuration text (written to kamailio.cfg in an empty folder)."""

    def run(text: str, **options: object) -> Compiled:
        path = tmp_path / "kamailio.cfg"
        path.write_text(text, encoding="latin-1")
        return compile_cfg(str(path), **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def parse() -> Callable[[str], tuple[CfgFile | None, DiagnosticSink]]:
    def run(text: str) -> tuple[CfgFile | None, DiagnosticSink]:
        sink = DiagnosticSink()
        return parse_text(text, "test.cfg", sink, env={}), sink

    return run


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """A server in memory, on a virtual clock."""
    made: list[Bench] = []

    def make(text: str, **options: Any) -> Bench:
        made.append(Bench(tmp_path, text, **options))
        return made[-1]

    yield make
    for one in made:
        if one.worker.rt is not None:
            one.worker.rt.release()
            for database in one.worker.rt.databases.values():
                database.close()


class Server:
    """``kamc run`` on an ephemeral port, or on the one of its configuration. ``target`` is what runs instead of the text."""

    def __init__(self, folder: Path, text: str, *args: str, port: int = 0, target: Path | None = None) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = port or int(probe.getsockname()[1])
        self.cfg = folder / "kamailio.cfg"
        self.cfg.write_text(text, encoding="latin-1")
        self.log_path = folder / "log"
        self.log = self.log_path.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kamc", "run", str(target or self.cfg), *(() if port else ("-l", f"udp:127.0.0.1:{self.port}")), "-Y", str(folder), *args],
            stdout=self.log, stderr=self.log, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(5)
        self.address = ("127.0.0.1", self.port)
        self.serial = 0

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 20
        self.sock.settimeout(0.2)
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.text()
            self.send("OPTIONS", "sip:ready@127.0.0.1")
            try:
                self.sock.recv(65535)
                break
            except TimeoutError:
                continue
        else:
            raise AssertionError("the server did not come up:\n" + self.text())
        self.sock.settimeout(0.3)
        try:
            while True:
                self.sock.recv(65535)
        except TimeoutError:
            self.sock.settimeout(5)

    def text(self) -> str:
        self.log.flush()
        return self.log_path.read_text(encoding="latin-1")

    def send(self, method: str, uri: str, *lines: str, body: str = "", to: str = "<sip:bob@127.0.0.1>", call_id: str = "", cseq: int = 1) -> None:
        self.serial += 1
        port = self.sock.getsockname()[1]
        extra = "".join(line + "\r\n" for line in lines)
        self.sock.sendto(
            (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKtest{self.serial};rport\r\nMax-Forwards: 70\r\n"
             f"From: <sip:alice@127.0.0.1>;tag=a{self.serial}\r\nTo: {to}\r\nCall-ID: {call_id or f'call{self.serial}'}\r\nCSeq: {cseq} {method}\r\n"
             f"Contact: <sip:alice@127.0.0.1:{port}>\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}").encode("latin-1"),
            self.address,
        )  # fmt: skip

    def receive(self) -> str:
        return self.sock.recv(65535).decode("latin-1")

    def ask(self, method: str, uri: str, *lines: str, **options: str) -> str:
        self.send(method, uri, *lines, **options)  # type: ignore[arg-type]
        return self.receive()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(10)
        self.sock.close()
        self.log.close()
        return status


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers; they are ended with the test."""
    started: list[Server] = []

    def run(text: str, *args: str, ready: bool = True, port: int = 0, target: Path | None = None) -> Server:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        server = Server(folder, text, *args, port=port, target=target)
        started.append(server)
        if ready:
            server.wait_ready()
        return server

    yield run
    for server in started:
        server.stop()
