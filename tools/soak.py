"""Many transactions through one server, and what they leave behind: memory, timers, descriptors.

    python tools/soak.py [--transactions 200000]

Every fourth transaction is an INVITE that is refused (with its ACK), the others are MESSAGEs; one in fifty is never answered by the far end. The
resident size after a tenth of them is the measure for the end. Exits 1 when the end is more than 5 % above, or when a transaction, a timer or a
descriptor is left.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
import time

from rig import Server

WINDOW = 150
CFG = """
modparam("tm", "fr_timer", 2000)
modparam("tm", "wt_timer", 1000)
request_route {{
    if (is_method("ACK")) {{ t_check_trans(); exit; }}
    record_route();
    $ru = "sip:bob@127.0.0.1:{far}";
    t_relay();
}}
"""


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


class Traffic:
    """Both ends of all transactions."""

    def __init__(self, server: tuple[str, int], near: socket.socket, far: socket.socket) -> None:
        self.server, self.near, self.far = server, near, far
        self.open: dict[bytes, float] = {}
        self.done = 0
        self.serial = 0

    def begin(self) -> None:
        self.serial += 1
        n = self.serial
        method = "INVITE" if n % 4 == 0 else "MESSAGE"
        port = self.near.getsockname()[1]
        text = (f"{method} sip:{'silent' if n % 50 == 0 else 'bob'}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKs{n}\r\nMax-Forwards: 70\r\n"
                f"From: <sip:alice@a.test>;tag=f{n}\r\nTo: <sip:bob@b.test>\r\nCall-ID: s{n}\r\nCSeq: 1 {method}\r\nContact: <sip:alice@127.0.0.1:{port}>\r\n"
                f"X-Silent: {int(n % 50 == 0)}\r\nContent-Length: 0\r\n\r\n").encode()  # fmt: skip
        self.open[b"s%d" % n] = time.monotonic()
        self.near.sendto(text, self.server)

    def turn(self) -> None:
        """Read what there is at both ends."""
        for _ in range(400):
            try:
                data, source = self.far.recvfrom(65535)
            except BlockingIOError:
                break
            if data[:3] != b"ACK" and b"X-Silent: 1" not in data:
                head = b"SIP/2.0 486 Busy Here" if data[:6] == b"INVITE" else b"SIP/2.0 200 OK"
                kept = b"".join(line + b"\r\n" for line in data.split(b"\r\n") if line[:4] in (b"Via:", b"From", b"Call", b"CSeq", b"Reco"))
                self.far.sendto(head + b"\r\n" + kept + b"To: <sip:bob@b.test>;tag=t\r\nContent-Length: 0\r\n\r\n", source)
        for _ in range(400):
            try:
                data = self.near.recv(65535)
            except BlockingIOError:
                break
            if data[8:9] == b"1":
                continue
            found = re.search(rb"Call-ID: (s\d+)\r\nCSeq: 1 (\w+)", data)
            if found is None or self.open.pop(found[1], None) is None:
                continue
            self.done += 1
            if found[2] == b"INVITE":
                self._ack(found[1], data)

    def _ack(self, ident: bytes, data: bytes) -> None:
        to = re.search(rb"To: ([^\r]*)", data)
        assert to is not None
        self.near.sendto(b"ACK sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bK%s\r\nFrom: <sip:alice@a.test>;tag=f%s\r\nTo: %s\r\n"
                         b"Call-ID: %s\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
                         % (self.near.getsockname()[1], ident, ident[1:], to[1], ident), self.server)  # fmt: skip

    def run(self, until: int) -> None:
        while self.done < until:
            while len(self.open) < WINDOW and self.serial < until:
                self.begin()
            self.turn()
            now = time.monotonic()
            lost = [key for key, at in self.open.items() if now - at > 8]
            for key in lost:
                del self.open[key]
                self.done += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transactions", type=int, default=200_000)
    total = parser.parse_args().transactions
    near, far = udp(), udp()
    server = Server(CFG, far=far.getsockname()[1])
    try:
        server.wait()
        time.sleep(0.5)
        before = server.descriptors()
        traffic = Traffic(("127.0.0.1", server.port), near, far)
        traffic.run(total // 10)
        time.sleep(5)
        early = server.resident_mib()
        began = time.monotonic()
        traffic.run(total)
        took = time.monotonic() - began
        time.sleep(5)
        late, after = server.resident_mib(), server.descriptors()
        stats = server.rpc("tm.stats")
        timers = server.rpc("kamc.timers")
    finally:
        server.stop()
    print(f"{total} transactions, {0.9 * total / took:.0f} a second: {early:.1f} MiB after {total // 10}, {late:.1f} MiB at the end ({100 * late / early - 100:+.1f} %), "
          f"{stats['current']} transactions, {timers} timers, {after - before:+d} descriptors left, {stats['total']} made")  # fmt: skip
    return 0 if late <= early * 1.05 and stats["current"] == 0 and after == before and timers["armed"] == timers["periodic"] else 1


if __name__ == "__main__":
    sys.exit(main())
