"""A call whose media goes through a real rtpengine (skipped where it is not installed)."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from stdlib_modules.rtpengine.nodes import Node, NodeError
from tests.conftest import Server
from tests.integration.test_reload import rpc, until
from tests.phone import DOMAIN, Phone, header

TEXT = """#!KAMAILIO
debug=1
disable_tcp=yes
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "rtpengine.so"
modparam("rtpengine", "rtpengine_sock", "NODE")
request_route {
	if ($rU == "ready") { sl_send_reply("200", "OK"); exit; }
	if (method == "REGISTER") { save("location"); exit; }
	if (has_totag()) {
		loose_route();
		if (is_method("BYE")) { append_hf("X-Counted: $rtpestat\\r\\n"); }
		rtpengine_manage();
		t_relay();
		exit;
	}
	record_route();
	if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
	rtpengine_manage("replace-origin replace-session-connection");
	t_on_reply("MEDIA");
	t_relay();
}
onreply_route[MEDIA] {
	rtpengine_manage("replace-origin replace-session-connection");
}
"""


@pytest.fixture
def events() -> int:
    """A port for what the relay tells by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def engine(tmp_path: Path, events: int) -> Iterator[str]:
    """The URL of a running rtpengine."""
    program = shutil.which("rtpengine")
    if program is None:
        pytest.skip("rtpengine is not installed")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "engine.log").open("wb") as log:
        process = subprocess.Popen([program, "--config-file=none", "--foreground", "--log-stderr", "--table=-1", "--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{port}",
                                    f"--pidfile={tmp_path}/engine.pid", "--port-min=42000", "--port-max=42100",
                                    "--delete-delay=0", f"--dtmf-log-dest=127.0.0.1:{events}"], stdout=log, stderr=log, cwd=tmp_path)  # fmt: skip
    node, deadline = Node(f"udp:127.0.0.1:{port}"), time.monotonic() + 10
    try:
        while True:
            try:
                assert node.ask({"command": "ping"}, tries=1, seconds=0.2) == {"result": "pong"}
                break
            except NodeError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "engine.log").read_text()
                time.sleep(0.05)
        yield node.url
    finally:
        process.terminate()
        process.wait(10)


def described(sock: socket.socket) -> str:
    return f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {sock.getsockname()[1]} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"


def port_of(text: str) -> int:
    return int(re.findall(r"m=audio (\d+)", text)[0])


def media() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # even, as RTP wants it
    for port in range(43000, 43200, 2):
        try:
            sock.bind(("127.0.0.1", port))
            break
        except OSError:
            continue
    sock.settimeout(5)
    return sock


def rtp(number: int) -> bytes:
    return b"\x80\x00" + number.to_bytes(2) + (160 * number).to_bytes(4) + b"abcd" + bytes(160)


def digit(number: int, event: int) -> list[bytes]:
    """One as telephone-event packets (RFC 4733) from a number on: 20, 40 and 60 ms, and the end three times."""
    at = (160 * number).to_bytes(4)
    return [bytes([0x80, (0x80 if not step else 0) | 101]) + (number + step).to_bytes(2) + at + b"abcd" + bytes([event, (0x80 if step > 2 else 0) | 10])
            + min(160 * (step + 1), 640).to_bytes(2) for step in range(6)]  # fmt: skip


@contextmanager
def pair(server: Server) -> Iterator[tuple[Phone, Phone, socket.socket, socket.socket]]:
    """Two registered phones, and a socket for the media of each."""
    with ExitStack() as stack:
        a, b = (stack.enter_context(closing(Phone(name, "udp", server.port))) for name in ("ann", "bob"))
        voice_a, voice_b = (stack.enter_context(closing(media())) for _ in range(2))
        a.register()
        b.register()
        yield a, b, voice_a, voice_b


DIGITS = """loadmodule "xlog.so"
modparam("rtpengine", "dtmf_events_sock", "127.0.0.1:EVENTS")
modparam("rtpengine", "dtmf_event_callid", "$avp(callid)")
modparam("rtpengine", "dtmf_event", "$avp(digit)")
event_route[rtpengine:dtmf-event] {
	xlog("digit $avp(digit) of $avp(callid)\\n");
}
request_route"""


@pytest.mark.parametrize("workers", ["1", "3"])
def test_digits_are_heard(serve: Callable[..., Server], engine: str, events: int, workers: str) -> None:
    server = serve(TEXT.replace("NODE", engine).replace("request_route", DIGITS.replace("EVENTS", str(events))), "--alias", DOMAIN, "--workers", workers)
    with pair(server) as (a, b, voice_a, voice_b):
        more = "a=rtpmap:101 telephone-event/8000\r\n"
        sdp = "Content-Type: application/sdp"
        a.request("INVITE", f"sip:bob@{DOMAIN}", sdp, call_id="digits", body=described(voice_a).replace("AVP 0", "AVP 0 101") + more)
        b.answer(b.until("INVITE"), "200 OK", sdp, body=described(voice_b).replace("AVP 0", "AVP 0 101") + more)
        to_b = port_of(a.until("SIP/2.0 200"))
        for packet in (*map(rtp, range(1, 4)), *digit(10, 5), *digit(20, 11)):
            voice_a.sendto(packet, ("127.0.0.1", to_b))
            voice_b.recv(999)
        until(lambda: "digit 5 of digits" in server.text() and "digit 11 of digits" in server.text())


def test_media_goes_through_it(serve: Callable[..., Server], engine: str) -> None:
    server = serve(TEXT.replace("NODE", engine), "--alias", DOMAIN)
    with pair(server) as (a, b, voice_a, voice_b):
        sdp = "Content-Type: application/sdp"
        a.request("INVITE", f"sip:bob@{DOMAIN}", sdp, call_id="media", body=described(voice_a))
        invite = b.until("INVITE")
        to_a = port_of(invite)
        assert to_a != voice_a.getsockname()[1]
        b.answer(invite, "200 OK", sdp, body=described(voice_b))
        ok = a.until("SIP/2.0 200")
        to_b = port_of(ok)
        assert to_b != voice_b.getsockname()[1]
        routes = [f"Route: {value}" for value in reversed(re.findall(r"^Record-Route: (.*?)\r$", ok, re.M))]
        target, to = header(ok, "Contact").strip("<>"), header(ok, "To")
        a.request("ACK", target, *routes, call_id="media", to=to)
        b.until("ACK")
        for number in range(1, 6):
            voice_a.sendto(rtp(number), ("127.0.0.1", to_b))
            voice_b.sendto(rtp(number + 100), ("127.0.0.1", to_a))
            assert voice_b.recv(999) == rtp(number)
            assert voice_a.recv(999) == rtp(number + 100)
        assert rpc(server, "rtpengine.get_hash_total") == 1
        assert [row["disabled"] for row in rpc(server, "rtpengine.show", "all")] == [0]
        a.request("BYE", target, *routes, call_id="media", to=to, cseq=2)
        bye = b.until("BYE")
        assert re.fullmatch(r"RTP: 1720 bytes, 10 packets, 0 errors; RTCP: .*", header(bye, "X-Counted"))
        b.answer(bye, "200 OK")
        a.until("SIP/2.0 200")
        assert rpc(server, "rtpengine.get_hash_total") == 0
        with pytest.raises(TimeoutError):
            voice_a.sendto(rtp(9), ("127.0.0.1", to_b))
            voice_b.settimeout(0.3)
            voice_b.recv(999)
