"""Builds ``samples/`` to ``out/``, starts the server on loopback, and shows a registration and a call going through it.

Run by ``make run``. With ``--once`` it ends after the call (exit status 0 when everything went through), else it serves until Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KAMC = [sys.executable, "-m", "kamc"]


class Phone:
    """A very small SIP phone: a UDP socket and the messages that it needs."""

    def __init__(self, name: str, server: tuple[str, int]) -> None:
        self.name, self.server = name, server
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(5)
        self.port = self.sock.getsockname()[1]
        self.calls = 0

    def request(self, method: str, uri: str, *, to: str, cseq: int, call_id: str, extra: str = "", branch: str = "") -> None:
        self.calls += 1
        branch = branch or f"z9hG4bK{self.name}{self.calls}"
        text = (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch};rport\r\nMax-Forwards: 70\r\n"
                f"From: <sip:{self.name}@demo.test>;tag={self.name}1\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
                f"Contact: <sip:{self.name}@127.0.0.1:{self.port}>\r\n{extra}Content-Length: 0\r\n\r\n")  # fmt: skip
        print(f"  {self.name:5} -> {method} {uri}")
        self.sock.sendto(text.encode(), self.server)

    def receive(self, wanted: str) -> str:
        """The next message whose first line holds the wanted text."""
        while True:
            text = self.sock.recv(65535).decode("latin-1")
            line = text.split("\r\n", 1)[0]
            print(f"  {self.name:5} <- {line}")
            if wanted in line:
                return text

    def reply(self, request: str, status: str) -> None:
        keep = "".join(line + "\r\n" for line in request.split("\r\n") if re.match(r"(Via|From|Call-ID|CSeq|Record-Route):", line))
        to = re.search(r"^To: (.*?)\r?$", request, re.M)
        tag = "" if to and ";tag=" in to.group(1) else f";tag={self.name}2"
        text = f"SIP/2.0 {status}\r\n{keep}To: {to.group(1) if to else ''}{tag}\r\nContact: <sip:{self.name}@127.0.0.1:{self.port}>\r\nContent-Length: 0\r\n\r\n"
        print(f"  {self.name:5} -> {status}")
        self.sock.sendto(text.encode(), self.server)


def header(text: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*?)\r?$", text, re.M)
    return found.group(1) if found else ""


def play(server: tuple[str, int]) -> None:
    """Register bob, call him from alice, hang up."""
    alice, bob = Phone("alice", server), Phone("bob", server)
    print("a registration:")
    bob.request("REGISTER", "sip:demo.test", to="<sip:bob@demo.test>", cseq=1, call_id="reg-bob", extra="Expires: 600\r\n")
    bob.receive("200")
    print("a call:")
    alice.request("INVITE", "sip:bob@demo.test", to="<sip:bob@demo.test>", cseq=1, call_id="call-1")
    invite = bob.receive("INVITE")
    bob.reply(invite, "180 Ringing")
    alice.receive("180")
    bob.reply(invite, "200 OK")
    answer = alice.receive("200")
    route = header(answer, "Record-Route")
    extra = f"Route: {route}\r\n" if route else ""
    target = f"sip:bob@127.0.0.1:{bob.port}"
    alice.request("ACK", target, to=header(answer, "To"), cseq=1, call_id="call-1", extra=extra)
    bob.receive("ACK")
    alice.request("BYE", target, to=header(answer, "To"), cseq=2, call_id="call-1", extra=extra)
    bob.reply(bob.receive("BYE"), "200 OK")
    alice.receive("200")


def free_port(wanted: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(server: subprocess.Popen[bytes], address: tuple[str, int]) -> None:
    ping = "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKping;rport\r\nFrom: <sip:x@y>;tag=1\r\nTo: <sip:y>\r\n" \
           "Call-ID: ping\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        s.settimeout(0.2)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise SystemExit(f"the server ended with status {server.returncode}")
            s.sendto(ping.format(port=s.getsockname()[1]).encode(), address)
            try:
                s.recv(4096)
                return
            except OSError:
                continue
    raise SystemExit("the server did not come up")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--once", action="store_true")
    options.add_argument("--port", type=int, default=15060)
    args = options.parse_args()
    out = ROOT / "out"
    out.mkdir(exist_ok=True)
    for cfg in sorted((ROOT / "samples").glob("*.cfg")):
        subprocess.run([*KAMC, "build", str(cfg.relative_to(ROOT)), "-o", str(out / cfg.stem)], check=True, cwd=ROOT)
    port = free_port(args.port)
    with tempfile.TemporaryDirectory(prefix="kamc") as run_dir:
        server = subprocess.Popen([*KAMC, "run", str(out / "kamailio"), "-l", f"udp:127.0.0.1:{port}", "-Y", run_dir], cwd=ROOT)
        try:
            wait_ready(server, ("127.0.0.1", port))
            print(f"serving samples/kamailio.cfg on udp:127.0.0.1:{port}")
            play(("127.0.0.1", port))
            print("the registration and the call went through")
            if not args.once:
                print("serving until Ctrl-C")
                server.wait()
        except KeyboardInterrupt:
            print()
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
                server.wait(10)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    raise SystemExit(main())
