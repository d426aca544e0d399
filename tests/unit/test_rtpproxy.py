"""Module rtpproxy: its commands, return codes and descriptions are those recorded from Kamailio 5.6.3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.rtpproxy.sdp import read
from tests.conftest import ROOT
from tests.relay import TextRelay, relay

SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\n"
HEAD = 'loadmodule "rtpproxy.so"\nmodparam("rtpproxy", "rtpproxy_tout", 1)\nmodparam("rtpproxy", "rtpproxy_retr", 1)\n'
ROUTE = """request_route {
	$var(f) = $hdr(X-Flags); $var(ip) = $hdr(X-IP);
	if ($hdr(X-Ice) =~ "^[0-9]") $avp(ice) = $(hdr(X-Ice){s.int});
	if ($hdr(X-Ice) =~ "x") $avp(ice) = "x";
	switch ($rU) {
		case "offer": if ($var(ip) != "") rtpproxy_offer("$var(f)", "$var(ip)"); else rtpproxy_offer("$var(f)"); break;
		case "answer": rtpproxy_answer("$var(f)"); break;
		case "manage": if ($var(ip) != "") rtpproxy_manage("$var(f)", "$var(ip)"); else rtpproxy_manage("$var(f)"); break;
		case "destroy": rtpproxy_destroy("$var(f)"); break;
		case "unforce": unforce_rtp_proxy("$var(f)"); break;
		case "rec": start_recording(); break;
		case "s2c": rtpproxy_stream2uac("/var/x", "3"); break;
		case "s2s": rtpproxy_stream2uas("/var/x", "-1"); break;
		case "ss2c": rtpproxy_stop_stream2uac(); break;
		case "ss2s": rtpproxy_stop_stream2uas(); break;
		case "stat": xlog("OUT: $rtpstat\\n"); break;
		case "relay": rtpproxy_offer(); t_on_reply("R"); t_relay(); exit;
		case "managed": rtpproxy_manage(); t_on_reply("R"); t_on_failure("F"); t_relay(); exit;
		case "late": t_on_reply("R"); t_relay(); exit;
	}
	$var(rc) = $rc;
	msg_apply_changes();
	xlog("OUT: $var(rc) $(rb{s.encode.hexa})\\n");
	sl_send_reply("200", "OK");
}
onreply_route[R] { rtpproxy_manage("co"); }
failure_route[F] { rtpproxy_manage(); }
"""


@pytest.fixture
def node() -> Iterator[TextRelay]:
    with relay(TextRelay) as one:
        yield one


def start(bench, *nodes: str, more: str = ""):
    return bench(HEAD + "".join(f'modparam("rtpproxy", "rtpproxy_sock", "{text}")\n' for text in nodes) + more + ROUTE)


def printed(b) -> list[str]:
    return [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]


def ask(b, row: dict[str, Any]) -> tuple[str, str]:
    """(return code, body afterwards)."""
    serial = len(printed(b)) + 1
    to_tag = f";tag={row['to_tag']}" if row.get("to_tag") else ""
    body, kind = row.get("body", ""), row.get("type", "application/sdp" if row.get("body") else "")
    b.recv(f"{row['method']} sip:{row['function']}@h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKn{serial}\r\nFrom: <sip:a@h>;tag=ft\r\n"
           f"To: <sip:b@h>{to_tag}\r\nCall-ID: call1\r\nCSeq: {serial} {row['method']}\r\nX-Flags: {row.get('flags', '')}\r\nX-IP: {row.get('ip', '')}\r\n"
           f"X-Ice: {row.get('ice', '')}\r\n"
           + (f"Content-Type: {kind}\r\n" if kind else "") + f"Content-Length: {len(body)}\r\n\r\n{body}")  # fmt: skip
    rc, _, text = printed(b)[-1].partition(" ")
    return rc, bytes.fromhex(text).decode("latin-1") if text not in ("", "<null>") else ""


def offer(b, **more: str) -> tuple[str, str]:
    return ask(b, {"method": "INVITE", "function": "offer", "body": SDP, **more})


@pytest.mark.parametrize(("case", "more"), [
    ("rtpproxy", ""), ("rtpproxy_ice", 'modparam("rtpproxy", "ice_candidate_priority_avp", "$avp(ice)")\n'),
    ("rtpproxy_timeout", 'modparam("rtpproxy", "timeout_socket", "xmlrpc:http://127.0.0.1:8000/RPC2")\n'),
])  # fmt: skip
def test_what_kamailio_did(bench, node: TextRelay, case: str, more: str) -> None:
    b = start(bench, node.url, more=more)
    recorded = json.loads((ROOT / "tests" / "cases" / f"{case}.json").read_text())
    assert len(recorded) > 7
    for row in recorded:
        node.said.clear()
        rc, after = ask(b, row)
        said = [c.replace(f"z9hG4bKn{len(printed(b))}", "BRANCH") for c in node.said]
        what = row["method"], row["function"], row["flags"], row["to_tag"]
        assert (what, said, rc) == (what, [c.rstrip() if row["function"] == "rec" else c for c in row["commands"]], row["rc"])
        assert (what, after) == (what, row["body"] if row["after"] is None else row["after"])


@pytest.mark.parametrize(("user", "body", "status", "reply_body", "commands"), [
    ("relay", SDP, "200 OK", SDP, ["Uc0,8 c1 127.0.0.1 4000 f1;1", "Lc0,8 c1 127.0.0.1 4000 f1;1 tt;1"]),
    ("managed", SDP, "183 Progress", SDP, ["Uc0,8 c1 127.0.0.1 4000 f1;1", "Lc0,8 c1 127.0.0.1 4000 f1;1 tt;1"]),
    ("managed", "", "200 OK", SDP, ["Uc0,8 c1 127.0.0.1 4000 tt;1 f1;1"]), ("late", SDP, "200 OK", SDP, ["Uc0,8 c1 127.0.0.1 4000 tt;1 f1;1"]),
    ("managed", SDP, "200 OK", "", ["Uc0,8 c1 127.0.0.1 4000 f1;1"]), ("managed", SDP, "486 Busy", "", ["Uc0,8 c1 127.0.0.1 4000 f1;1", "D c1 f1 tt", "D c1 f1"]),
])  # fmt: skip
def test_replies(bench, node: TextRelay, user: str, body: str, status: str, reply_body: str, commands: list[str]) -> None:
    b = start(bench, node.url)
    b.request("INVITE", f"sip:{user}@127.0.0.1:7000", *(["Content-Type: application/sdp"] if body else []), body=body)
    out = [m for m in b.take() if m.first.startswith("INVITE")][-1]
    kept = "".join(f"{name}: {value}\r\n" for name in ("Via", "From", "Call-ID", "CSeq") for value in out.all(name))
    kind = "Content-Type: application/sdp\r\n" if reply_body else ""
    b.recv(f"SIP/2.0 {status}\r\n{kept}To: {out.get('To')};tag=tt\r\n{kind}Content-Length: {len(reply_body)}\r\n\r\n{reply_body}", ("127.0.0.1", 7000))
    assert node.said == commands
    if reply_body:
        assert "m=audio 30000" in b.take()[-1].text


def test_a_node_that_is_away(bench, node: TextRelay) -> None:
    with relay(TextRelay) as other:
        pass
    b = start(bench, f"{other.url}=100 {node.url}=1")
    assert offer(b)[0] == "1"
    assert {row["url"]: row["disabled"] for row in b.rpc("rtpproxy.list")} == {other.url: 1, node.url: 0}
    b.rpc("rtpproxy.enable", "all", 0)
    assert offer(b)[0] == "-1"
    b.rpc("rtpproxy.enable", node.url, 1)
    assert offer(b)[0] == "1"
    with pytest.raises(RpcFault):
        b.rpc("rtpproxy.enable", "udp:192.0.2.1:1", 1)


@pytest.mark.parametrize("answer", ["E8", "0", "rubbish", "", "99999"])
def test_answers_that_are_no_help(bench, node: TextRelay, answer: str) -> None:
    b = start(bench, node.url)
    node.reply = lambda command: answer
    assert offer(b) == ("-1", SDP)


def test_an_answer_without_an_address(bench, node: TextRelay) -> None:
    node.reply = lambda command: "31000"
    assert "c=IN IP4 127.0.0.1\r\n" in offer(start(bench, node.url))[1]


def test_sets_identifiers_and_statistics(bench, node: TextRelay) -> None:
    more = 'modparam("rtpproxy", "extra_id_pv", "$hdr(X-IP)")\nmodparam("rtpproxy", "nortpproxy_str", "")\n'
    b = start(bench, f"0 == {node.url}", more=more)
    rc, body = offer(b, flags="b", ip="mine")
    assert rc == "1" and "nortpproxy" not in body
    assert node.said == ["Uc0,8 call1;mine 127.0.0.1 4000 ft;1"]
    ask(b, {"method": "BYE", "function": "stat", "to_tag": "tt"})
    assert "60 10 20 30 40" in printed(b) and node.said[-1] == "Q call1 ft;1 tt"


@pytest.mark.parametrize("text", ["", "v=0\r\n", "m=audio 4000 RTP/AVP 0\r\n", "m=audio x RTP/AVP 0\r\nc=IN IP4 h\r\n", "c=IN IP4 192.0.2.1\r\n"])
def test_descriptions_that_are_none(text: str) -> None:
    assert read(text) is None
