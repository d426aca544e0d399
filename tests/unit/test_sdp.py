"""Session descriptions (RFC 4566), and module sdpops where the recorded programs do not reach."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamc.runtime.sip.sdp import SdpError, parse_sdp
from tests.conftest import Compile
from tests.harness import HEAD, Bench

SDPOPS = HEAD + 'loadmodule "sdpops.so"\n'
SDP = "v=0\r\no=a 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0 8\r\nb=AS:64\r\na=rtcp:5009\r\na=x\r\nm=video 0/2 RTP/AVP 99\r\n"
MULTIPART = f"--q\r\nContent-Type: text/plain\r\n\r\nhello\r\n--q\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--q--\r\n"


def sent(b: Bench, body: str, kind: str = "application/sdp") -> str:
    b.request("MESSAGE", "sip:bob@127.0.0.1:7000", f"Content-Type: {kind}", body=body)
    return b.take()[0].text.partition("\r\n\r\n")[2]


@pytest.mark.parametrize("text", ["", "hello", "v=0\r\nm=\r\n", "v=0\r\nm=audio x RTP/AVP 0\r\n", "v=0\r\nm=audio 1 RTP/AVP 0\r\n", "m=audio 1 RTP/AVP 0\r\n"])
def test_what_cannot_be_used(text: str) -> None:
    with pytest.raises(SdpError):
        parse_sdp(text)


@given(st.text(alphabet="vmcao= 0189audio/RTPAVP:*-\r\n", max_size=200))
def test_places_are_those_of_the_text(text: str) -> None:
    text = "v=0\r\nc=IN IP4 1.1.1.1\r\n" + text
    try:
        sdp = parse_sdp(text)
    except SdpError:
        return
    assert "".join(text[line.start : line.end] for line in sdp.lines) == text
    for stream in sdp.streams:
        for payload, start, end in stream.payloads:
            assert text[start:end].lstrip(" ") == payload


def test_the_part_of_a_multipart_body_is_changed(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { sdp_remove_codecs_by_id("8"); t_relay(); }\n', head=SDPOPS)
    assert sent(b, MULTIPART, "multipart/mixed;boundary=q") == MULTIPART.replace(" 0 8", " 0")


def test_changes_that_overlap(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { sdp_remove_codecs_by_id("8"); sdp_remove_codecs_by_id("8,0"); sdp_remove_media("audio"); sdp_remove_line_by_prefix("a="); t_relay(); }\n',
              head=SDPOPS)  # fmt: skip
    assert sent(b, SDP) == SDP[: SDP.index("m=audio")] + SDP[SDP.index("m=video") :]


def test_iterator(bench: Callable[..., Bench]) -> None:
    b = bench("""request_route {
        sdp_iterator_start("i");
        while (sdp_iterator_next("i")) {
            if ($sdpitval(i) =~ "^a=x") { sdp_iterator_rm("i"); }
            if ($sdpitval(i) =~ "^s=") { sdp_iterator_insert("i", "i=before\\r\\n"); sdp_iterator_append("i", "u=after\\r\\n"); }
        }
        $var(e) = sdp_iterator_end("i"); $var(f) = sdp_iterator_end("i");
        xlog("ended $var(e) $var(f) [$sdpitval(i)]\\n");
        t_relay();
    }\n""", head=SDPOPS)
    assert sent(b, SDP) == SDP.replace("s=-\r\n", "i=before\r\ns=-\r\nu=after\r\n").replace("a=x\r\n", "")
    assert "ended 1 -1 [<null>]" in b.log.lines


def test_values_of_newer_versions(bench: Callable[..., Bench]) -> None:
    names = ("c:ip", "o:ip", "m0:b:AS", "m0:b:RR", "m0:rtp:port", "m0:rtcp:port", "m1:rtp:port", "m2:rtp:port", "sess_version")
    b = bench(f'request_route {{ xlog("got {" ".join(f"$sdp({n})" for n in names)}\\n"); t_relay(); }}\n', head=SDPOPS)
    sent(b, SDP)
    assert "got 10.0.0.1 10.0.0.1 64 <null> 5000 5009 0 <null> 1" in b.log.lines


def test_a_name_that_does_not_exist(compile_text: Compile) -> None:
    compiled = compile_text(SDPOPS + 'request_route { xlog("$sdp(m0:colour)\\n"); }\n')
    assert [d.code for d in compiled.diagnostics] == ["K0504"]
