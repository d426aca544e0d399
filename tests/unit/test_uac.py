"""Module uac, digest answers, and HTTP on the sockets of xhttp."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kamc.runtime.net.endpoint import Listener
from kamc.runtime.sip.digest import Answer, credentials, ha1, parse_digest
from stdlib_modules.uac.replace import mixed, other
from tests.harness import HEAD, Bench

# -- digest ------------------------------------------------------------------------------------------------------------------


def test_the_example_of_rfc_2617() -> None:
    secret = ha1("Mufasa", "testrealm@host.com", "Circle Of Life")
    answer = Answer(secret, "dcd98b7102dd2f0e8b11d0f600bfb0c093", "GET", "/dir/index.html", "", "auth", "00000001", "0a4f113b")
    assert answer.response() == "6629fae49393a05397450978507c4ef1"


def test_sha_256_and_session_variants() -> None:
    plain = Answer(ha1("u", "r", "p", "SHA-256"), "n", "REGISTER", "sip:r", "SHA-256")
    wanted = hashlib.sha256(b"u:r:p").hexdigest() + ":n:" + hashlib.sha256(b"REGISTER:sip:r").hexdigest()
    assert plain.response() == hashlib.sha256(wanted.encode()).hexdigest()
    session = Answer(ha1("u", "r", "p"), "n", "REGISTER", "sip:r", "MD5-sess", cnonce="c")
    first = hashlib.md5((hashlib.md5(b"u:r:p").hexdigest() + ":n:c").encode()).hexdigest()
    assert session.response() == hashlib.md5(f"{first}:n:{hashlib.md5(b'REGISTER:sip:r').hexdigest()}".encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('Digest realm="a, b", nonce="x\\"y", qop="auth,auth-int", stale=FALSE', {"realm": "a, b", "nonce": 'x"y', "qop": "auth,auth-int", "stale": "FALSE"}),
        ("digest  nonce=abc", {"nonce": "abc"}),
        ("Basic realm=x", None),
        ('Digest realm="open', None),
        ("Digest =", None),
        ("", None),
    ],
)
def test_reading_challenges(text: str, parts: dict[str, str] | None) -> None:
    assert parse_digest(text) == parts


def test_credentials_follow_the_challenge() -> None:
    value = credentials({"realm": "r", "nonce": "n", "qop": "auth-int,auth", "opaque": "o"}, "u", ha1("u", "r", "p"), "INVITE", "sip:x", cnonce="cc")
    got = parse_digest(value)
    assert got is not None
    assert (got["qop"], got["nc"], got["cnonce"], got["opaque"], got["algorithm"]) == ("auth", "00000001", "cc", "o", "MD5")
    assert "qop" not in (parse_digest(credentials({"realm": "r", "nonce": "n"}, "u", "s", "INVITE", "sip:x", cnonce="cc")) or {})


# -- From and To -------------------------------------------------------------------------------------------------------------


def test_each_address_leads_to_the_other() -> None:
    token = mixed("sip:alice@wire.test", "sip:hidden@anon.test", "secret")
    assert other(token, "sip:alice@wire.test", "secret") == "sip:hidden@anon.test"
    assert other(token, "sip:hidden@anon.test", "secret") == "sip:alice@wire.test"
    assert other(token, "sip:alice@wire.test", "another") != "sip:hidden@anon.test"
    assert other("%%%", "sip:a@b", "secret") is None
    assert other(token, "sip:" + "x" * 500, "secret") is None


UAC = HEAD + 'loadmodule "uac.so"\n'


@pytest.mark.parametrize("text", ["a\\rX: 1", "a\\nX: 1", "a\\r\\nX: 1"])
def test_a_line_end_begins_no_header(tmp_path: Path, text: str) -> None:
    bench = Bench(tmp_path, f'request_route {{ $var(a) = "{text}"; uac_replace_from("$var(a)", ""); uac_replace_to("", "$var(a)"); t_relay(); }}', head=UAC)
    bench.request()
    sent = next(m for m in bench.take() if m.first.startswith("INVITE"))
    assert sent.get("From") == "<sip:alice@a.test>;tag=f1" and "X: 1" not in sent.text


def test_replies_get_the_address_that_the_request_came_with(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 'request_route { record_route(); uac_replace_from("Mister X", "sip:x@anon.test"); t_relay(); }', head=UAC)
    bench.request()
    sent = next(m for m in bench.take() if m.first.startswith("INVITE"))
    assert sent.get("From") == '"Mister X" <sip:x@anon.test>;tag=f1'
    assert ";vsf=" in (sent.get("Record-Route") or "")
    bench.reply(sent, "486 Busy")
    answer = next(m for m in bench.take() if m.first.startswith("SIP/2.0 486"))
    assert answer.get("From") == "<sip:alice@a.test>;tag=f1"


def test_requests_of_the_script_answer_a_challenge_and_report_the_end(tmp_path: Path) -> None:
    route = """
request_route {
    $uac_req(method) = "MESSAGE"; $uac_req(ruri) = "sip:bob@127.0.0.1:7000"; $uac_req(furi) = "sip:me@here"; $uac_req(auser) = "u";
    $uac_req(apasswd) = "p"; $uac_req(evroute) = 1; $uac_req(body) = "hi";
    uac_req_send();
    $uac_req(all) = $null;
    xlog("L_ALERT", "OUT: [$uac_req(method)]\\n");
}
event_route[uac:reply] { xlog("L_ALERT", "OUT: $uac_req(evtype) $uac_req(evcode)\\n"); }
"""
    bench = Bench(tmp_path, route, head=UAC)
    bench.request("OPTIONS")
    first = bench.take()[0]
    assert first.first == "MESSAGE sip:bob@127.0.0.1:7000 SIP/2.0" and first.text.endswith("\r\n\r\nhi")
    bench.reply(first, "401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n"')
    second = bench.take()[0]
    number = int((first.get("CSeq") or "0").split()[0])
    assert second.get("CSeq") == f"{number + 1} MESSAGE" and second.get("Call-ID") == first.get("Call-ID") and second.get("From") == first.get("From")
    assert Answer(ha1("u", "r", "p"), "n", "MESSAGE", "sip:bob@127.0.0.1:7000").response() in (second.get("Authorization") or "")
    bench.reply(second, "401 Unauthorized", 'WWW-Authenticate: Digest realm="r", nonce="n"')
    assert bench.take() == []
    assert [line for line in bench.log.lines if line.startswith("OUT: ")] == ["OUT: [<null>]", "OUT: 1 401"]
    bench.request("OPTIONS")
    bench.take()
    bench.advance(60)
    assert bench.log.lines[-1] == "OUT: 2 408"


# -- HTTP --------------------------------------------------------------------------------------------------------------------

WEB = """
request_route { exit; }
event_route[xhttp:request] {
    if ($hu == "/boom") { $var(x) = $(hdr(X-N){s.int}); route(BOOM); }
    append_to_reply("X-A: 1\\r\\n");
    xhttp_reply("200", "OK", "text/plain", "$rm $hu $rb");
    xhttp_reply("200", "OK", "text/plain", "twice");
}
route[BOOM] { exit; }
"""


class _Stream:
    """Stands for the connections of a worker."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bool]] = []

    def send(self, listener: Listener, data: bytes, remote: tuple[str, int], number: int, *, connect: bool, close: bool) -> None:
        assert not connect
        self.sent.append((data.decode(), close))


def web(tmp_path: Path, request: str, params: str = "") -> list[tuple[str, bool]]:
    bench = Bench(tmp_path, params + WEB, head=HEAD + 'loadmodule "xhttp.so"\n')
    stream = _Stream()
    bench.worker.streams = stream  # type: ignore[assignment]
    bench.worker.datapath.received(request.encode(), Listener("tcp", "127.0.0.1", 5060), ("127.0.0.1", 9000), 7)
    return stream.sent


def test_http_requests_reach_the_event_route(tmp_path: Path) -> None:
    [(text, close)] = web(tmp_path, "POST /a?b=c HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
    assert text.startswith("HTTP/1.1 200 OK\r\nSia: SIP/2.0/TCP 127.0.0.1:9000\r\nX-A: 1\r\nContent-Type: text/plain\r\nServer: kamc")
    assert text.endswith("\r\nContent-Length: 14\r\n\r\nPOST /a?b=c hi")
    assert not close


def test_http_connections_close_when_asked(tmp_path: Path) -> None:
    assert [close for _, close in web(tmp_path, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")] == [True]


def test_urls_that_are_not_wanted_get_no_answer(tmp_path: Path) -> None:
    assert web(tmp_path, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 'modparam("xhttp", "url_match", "^/api")\n') == []
    assert web(tmp_path, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 'modparam("xhttp", "url_skip", "^/x")\n') == []
