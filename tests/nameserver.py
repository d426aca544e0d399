"""A name server on loopback with records that a test writes, and the list of what it was asked."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


class NameServer:
    """``records``: (name, type) → texts of records, or None for a query that is never answered. A name that is not there does not exist."""

    def __init__(self, records: dict[tuple[str, str], list[str] | None] | None = None, *, address: tuple[str, int] = ("127.0.0.1", 0), ttl: int = 60) -> None:
        self.records = records or {}
        self.ttl = ttl
        self.asked: list[tuple[str, str]] = []
        #: answers over UDP say that they were cut
        self.truncate = False
        self.udp, self.tcp = self._sockets(address)
        self.address = self.udp.getsockname()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _sockets(address: tuple[str, int]) -> tuple[socket.socket, socket.socket]:
        """One port for both: the first that is free for both."""
        for _ in range(50):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind(address)
            try:
                return udp, socket.create_server(udp.getsockname())
            except OSError:
                udp.close()
        raise OSError("no port is free for UDP and TCP")

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for sock in (self.udp, self.tcp):
            sock.shutdown(socket.SHUT_RDWR) if sock is self.tcp else None
            sock.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                data, address = self.udp.recvfrom(4096)
                answer = self.answer(data)
                if answer is None:
                    continue
                if self.truncate:
                    answer.flags |= dns.flags.TC
                    answer.answer.clear()
                self.udp.sendto(answer.to_wire(), address)
            except OSError:
                return

    def _serve_tcp(self) -> None:
        while True:
            try:
                conn, _ = self.tcp.accept()
            except OSError:
                return
            with conn:
                data = conn.recv(4096)
                answer = self.answer(data[2:])
                if answer is not None:
                    wire = answer.to_wire()
                    conn.sendall(len(wire).to_bytes(2, "big") + wire)

    def answer(self, data: bytes) -> dns.message.Message | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        seen = name
        while (alias := self.records.get((seen, "CNAME"))) and kind != "CNAME":
            answer.answer.append(dns.rrset.from_text(seen + ".", self.ttl, "IN", "CNAME", alias[0]))
            seen = alias[0].rstrip(".").lower()
        found = self.records.get((seen, kind), [])
        if found is None:
            return None
        if found:
            answer.answer.append(dns.rrset.from_text(seen + ".", self.ttl, "IN", kind, *found))
        elif not any(known == seen for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
