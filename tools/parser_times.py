"""How the time of each parser grows with the size of what it reads: the worst inputs that we know, from 4 to 64 KiB.

    python tools/parser_times.py

A ratio near 16 between 4 and 64 KiB is linear, one near 256 a square.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kamc.errors import SipError
from kamc.runtime.net.proxyproto import read_header
from kamc.runtime.rpc.binrpc import BinrpcError, decode
from kamc.runtime.rpc.jsonrpc import loads
from kamc.runtime.sip.addr import parse_addr, parse_addr_list
from kamc.runtime.sip.digest import parse_digest
from kamc.runtime.sip.framing import StreamFramer
from kamc.runtime.sip.message import parse_message
from kamc.runtime.sip.multipart import find_part
from kamc.runtime.sip.sdp import SdpError, parse_sdp
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.sip.via import parse_via, split_vias
from stdlib_modules.db_sqlite import first_statement
from stdlib_modules.registrar.save import _BEHIND_ADDRESS

SIZES = (4096, 16384, 65536)


def to_of(text: str) -> bool:
    return parse_message(f"OPTIONS sip:a SIP/2.0\r\nTo: {text}\r\n\r\n").has_good_address("to")


def byte_by_byte(text: str) -> None:
    framer = StreamFramer(1 << 20)
    for byte in text.encode():
        list(framer.feed(bytes([byte])))


def stream(text: str) -> None:
    list(StreamFramer(1 << 20).feed(text.encode("latin-1")))


#: the beginning of an HTTP request in chunks
_POST = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"

WORST: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
    "many headers": (parse_message, lambda n: "OPTIONS sip:a SIP/2.0\r\n" + "A: b\r\n" * (n // 6) + "\r\n"),
    "one long header": (parse_message, lambda n: "OPTIONS sip:a SIP/2.0\r\nA: " + "b" * n + "\r\n\r\n"),
    "folded lines": (parse_message, lambda n: "OPTIONS sip:a SIP/2.0\r\nA: b" + "\r\n c" * (n // 4) + "\r\n\r\n"),
    "via parameters": (parse_via, lambda n: "SIP/2.0/UDP h" + ";a=b" * (n // 4)),
    "via blanks": (parse_via, lambda n: "SIP/2.0/UDP h" + " " * n + "x"),
    "via quotes": (parse_via, lambda n: 'SIP/2.0/UDP h;a="' + '\\"' * (n // 2)),
    "many vias": (split_vias, lambda n: "SIP/2.0/UDP h," * (n // 14)),
    "to blanks": (to_of, lambda n: "a" + " " * n + "x"),
    "to quotes": (to_of, lambda n: '"' + '\\"' * (n // 2)),
    "to parameters": (to_of, lambda n: "<a>" + ";b = c " * (n // 7) + ";;"),
    "addresses": (parse_addr_list, lambda n: "<sip:a>," * (n // 8) + "<"),
    "address quotes": (parse_addr_list, lambda n: '"' * n),
    "uri": (parse_uri, lambda n: "sip:a@b" + ";c=d" * (n // 4)),
    "digest": (parse_digest, lambda n: "Digest " + 'a="b", ' * (n // 7) + "!"),
    "parts": (lambda t: find_part(t, "B", "application/sdp"), lambda n: "--B\r\n\r\nx\r\n" * (n // 10)),
    "sdp": (parse_sdp, lambda n: "v=0\r\nc=IN IP4 1.1.1.1\r\nm=audio 1 RTP/AVP 0\r\n" + "a=b\r\n" * (n // 5)),
    "stream byte by byte": (byte_by_byte, lambda n: "OPTIONS sip:a SIP/2.0\r\n" + "A: b\r\n" * (n // 6)),
    "http chunks": (stream, lambda n: _POST + "\r\n" + "1\r\na\r\n" * (n // 6) + "0\r\n\r\n"),
    "http chunks, slowly": (byte_by_byte, lambda n: _POST + "\r\n" + "1\r\na\r\n" * (n // 6)),
    "http headers": (stream, lambda n: "POST / HTTP/1.1\r\n" + "A: b\r\n" * (n // 6) + "Transfer-Encoding: chunked, x\r\n\r\n"),
    "http first line": (stream, lambda n: "POST " + " HTTP/1.1" * (n // 9) + "\r\n\r\n"),
    "behind a contact": (lambda t: _BEHIND_ADDRESS.sub(">", t), lambda n: ">" * n),
    "proxy header": (lambda t: read_header(t.encode("latin-1")), lambda n: "PROXY " + "x" * n),
    "binrpc": (lambda t: decode(t.encode("latin-1")), lambda n: "\xa1\x03" + "\x03" * n),
    "sql": (first_statement, lambda n: "/*" * (n // 2)),
    "json": (loads, lambda n: "[" * 500 + "]" * 500 + " " * n),
}  # fmt: skip


def cost(read: Callable[[str], object], text: str) -> float:
    """Milliseconds of processor time, the best of five."""
    best = float("inf")
    for _ in range(5):
        for cached in (parse_via, parse_uri, parse_addr):
            cached.cache_clear()
        begin = time.process_time_ns()
        try:
            read(text)
        except (SipError, SdpError, BinrpcError, ValueError):
            pass
        best = min(best, (time.process_time_ns() - begin) / 1e6)
    return best


def main() -> None:
    print(f"{'input':22}" + "".join(f"{size // 1024:8} KiB" for size in SIZES) + "   64/4")
    for name, (read, make) in WORST.items():
        times = [cost(read, make(size)) for size in SIZES]
        print(f"{name:22}" + "".join(f"{t:9.3f} ms" for t in times) + f"{times[-1] / max(times[0], 1e-3):7.1f}")


if __name__ == "__main__":
    main()
