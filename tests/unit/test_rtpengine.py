"""Module rtpengine: what goes to the relay is what Kamailio 5.6.3 sends for the same flags; nodes that are away; bencoding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamc.errors import ConfigError
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.rtpengine.bencode import decode, encode
from stdlib_modules.rtpengine.nodes import parse_nodes
from stdlib_modules.rtpengine.quality import Quality, QualityParams
from tests.conftest import ROOT
from tests.relay import Relay, relay

SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\n"
RECORDED = json.loads((ROOT / "tests" / "cases" / "rtpengine_flags.json").read_text())
FUNCTIONS = ("rtpengine_offer", "rtpengine_answer", "rtpengine_manage", "rtpengine_delete", "rtpengine_info", "rtpengine_query", "play_media", "play_dtmf", "stop_media",
             "start_recording", "stop_recording", "block_media", "unblock_media", "silence_media", "unsilence_media", "block_dtmf", "unblock_dtmf", "start_forwarding",
             "stop_forwarding", "rtpengine_connect")  # fmt: skip


@pytest.fixture
def node() -> Iterator[Relay]:
    with relay() as one:
        yield one


def start(bench, *nodes: str, more: str = "", route: str = ""):
    sets = "".join(f'modparam("rtpengine", "rtpengine_sock", "{text}")\n' for text in nodes)
    quick = 'modparam("rtpengine", "rtpengine_tout_ms", 100)\nmodparam("rtpengine", "rtpengine_retr", 1)\n'
    calls = "".join(f'\t\tcase "{name}": {name}("$hdr(X-Flags)"); break;\n' for name in FUNCTIONS)
    body = route or f'\tswitch ($rU) {{\n{calls}\t}}\n\txlog("OUT: $rc\\n");\n\tmsg_apply_changes();\n\txlog("OUT: $rb\\n");\n\tsl_send_reply("200", "OK");\n'
    return bench(f'loadmodule "rtpengine.so"\n{sets}{quick}{more}request_route {{\n{body}}}\n')


def printed(b) -> list[str]:
    return [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]


def run(b, function: str, flags: str = "", *, method: str = "INVITE", body: str = SDP, to_tag: str = "", kind: str = "application/sdp") -> tuple[str, str]:
    """(return code, body afterwards)."""
    before = len(printed(b))
    lines = [f"X-Flags: {flags or ' '}"] + ([f"Content-Type: {kind}"] if body else [])
    b.request(method, f"sip:{function}@h", *lines, body=body, to_tag=to_tag, branch="z9hG4bKone", cseq=before + 1)
    rc, after = printed(b)[before:]
    return rc, after.rstrip("\r")


def plain(command: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in command.items() if k not in ("sdp", "supports", "received-from")}


def test_flags_are_those_of_kamailio(bench, node: Relay) -> None:
    b = start(bench, node.url)
    for flags, expected in RECORDED:
        node.asked.clear()
        rc, _ = run(b, "rtpengine_offer", flags)
        if expected is None:
            assert (rc, node.asked) == ("-1", []), flags
            continue
        (command,) = node.asked
        assert command["supports"] == ["load limit"] and command["received-from"] == ["IP4", "127.0.0.1"]
        names = {"call1": "c1", "ft": "f1", "BRANCH": "z9hG4bKone"}
        assert plain(command) == {k: names.get(v, v) if isinstance(v, str) else v for k, v in expected.items()}, flags


@pytest.mark.parametrize(("function", "options", "command", "tags"), [
    ("rtpengine_answer", {}, None, ""), ("rtpengine_offer", {"body": ""}, None, ""), ("rtpengine_offer", {"kind": "text/plain"}, None, ""),
    ("rtpengine_delete", {"method": "BYE", "body": "", "to_tag": "tt"}, "delete", "f1"), ("rtpengine_manage", {}, "offer", "f1"),
    ("rtpengine_manage", {"method": "ACK", "to_tag": "tt"}, "answer", "tt f1"), ("rtpengine_manage", {"method": "BYE", "body": "", "to_tag": "tt"}, "delete", "f1"),
    ("rtpengine_manage", {"method": "CANCEL", "body": ""}, "delete", "f1"), ("rtpengine_manage", {"method": "UPDATE", "to_tag": "tt"}, "offer", "f1 tt"),
    ("rtpengine_manage", {"body": "", "to_tag": "tt"}, None, ""), ("rtpengine_manage", {"method": "OPTIONS"}, None, ""), ("rtpengine_query", {}, "query", "f1"),
    ("rtpengine_info", {"method": "INFO", "body": "a=x", "kind": "application/trickle-ice-sdpfrag", "to_tag": "tt"}, "offer", "f1 tt"),
    ("rtpengine_info", {"method": "INFO", "body": "Signal=1", "kind": "application/dtmf-relay"}, None, ""),
    ("play_media", {"flags": "file=/x.wav"}, "play media", "f1"), ("play_dtmf", {"flags": "code=5"}, "play DTMF", "f1"), ("stop_media", {}, "stop media", "f1"),
    ("start_recording", {}, "start recording", "f1"), ("block_media", {}, "block media", ""), ("block_media", {"flags": "directional"}, "block media", "f1"),
    ("block_media", {"flags": "from-tag=q"}, "block media", "q"), ("unblock_media", {}, "unblock media", "f1"), ("silence_media", {}, "silence media", ""),
    ("block_dtmf", {"flags": "to-tag", "to_tag": "tt"}, "block DTMF", ""), ("start_forwarding", {}, "start forwarding", ""), ("rtpengine_delete",
     {"flags": "to-tag", "method": "BYE", "body": "", "to_tag": "tt"}, "delete", "f1 tt"),
])  # fmt: skip
def test_commands_by_message(bench, node: Relay, function: str, options: dict[str, str], command: str | None, tags: str) -> None:
    b = start(bench, node.url)
    flags = options.get("flags", "")
    rc, _ = run(b, function, flags, **{k: v for k, v in options.items() if k != "flags"})
    if command is None:
        assert (rc, node.asked) == ("-1", [])
        return
    (asked,) = node.asked
    assert rc == "1" and asked["command"] == command
    assert " ".join(asked[k] for k in ("from-tag", "to-tag") if k in asked) == tags


def test_descriptions_are_exchanged(bench, node: Relay) -> None:
    b = start(bench, node.url)
    assert run(b, "rtpengine_offer") == ("1", SDP.replace("192.0.2.1", "203.0.113.9").replace("4000", "30000").removesuffix("\r\n"))
    parts = f"--x\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--x\r\nContent-Type: text/plain\r\n\r\nkept 4000\r\n--x--\r\n"
    rc, body = run(b, "rtpengine_offer", body=parts, kind="multipart/mixed;boundary=x")
    assert rc == "1" and "m=audio 30000" in body and "kept 4000" in body


@pytest.mark.parametrize("answer", [{"result": "error", "error-reason": "no"}, b"rubbish", {"result": "ok"}, {"result": "load limit"}])
def test_answers_that_are_no_help(bench, node: Relay, answer: Any) -> None:
    node.answer = lambda command: answer
    b = start(bench, node.url)
    assert run(b, "rtpengine_offer") == ("-1", SDP.removesuffix("\r\n"))


def test_a_node_that_is_away_is_left_alone_for_a_while(bench, node: Relay) -> None:
    with relay() as other:
        pass
    b = start(bench, f"{other.url}=100 {node.url}=1", more='modparam("rtpengine", "rtpengine_disable_tout", 60)\n')
    assert run(b, "rtpengine_offer")[0] == "1"
    shown = {row["url"]: row["disabled"] for row in b.rpc("rtpengine.show", "all")}
    assert shown == {other.url: 1, node.url: 0} and len(node.asked) == 1
    assert run(b, "rtpengine_offer")[0] == "1"
    assert b.rpc("rtpengine.get_hash_total") == 1
    assert run(b, "rtpengine_delete", method="BYE", body="")[0] == "1"
    assert b.rpc("rtpengine.get_hash_total") == 0
    b.time += 61
    assert [b.rpc("rtpengine.ping", url)["status"] for url in (node.url, other.url)] == ["success", "fail"]
    assert b.rpc("rtpengine.ping", "all") == {"url": "all", "status": "fail"} and b.rpc("rtpengine.enable", "all", 0) == {"url": "all", "status": "disable"}
    assert run(b, "rtpengine_offer")[0] == "-1"
    assert {row["disabled"] for row in b.rpc("rtpengine.show", "all")} == {"1(permanent)"}
    b.rpc("rtpengine.enable", node.url, 1)
    assert run(b, "rtpengine_offer")[0] == "1"
    with pytest.raises(RpcFault, match="Instance not found"):
        b.rpc("rtpengine.show", "udp:192.0.2.1:1")


def test_calls_of_a_node_that_was_switched_off(bench, node: Relay) -> None:
    for allowed in (0, 1):
        b = start(bench, node.url, more=f'modparam("rtpengine", "rtpengine_allow_op", {allowed})\n')
        assert run(b, "rtpengine_offer")[0] == "1"
        b.rpc("rtpengine.enable", "all", 0)
        assert run(b, "rtpengine_delete", method="BYE", body="")[0] == ("1" if allowed else "-1")
        assert run(b, "rtpengine_offer", "call-id=another")[0] == "-1"


def test_sets_and_variables(bench, node: Relay) -> None:
    with relay() as other:
        b = start(bench, f"1 == {node.url}", f"2 == {other.url}", more='modparam("rtpengine", "setid_default", 1)\nmodparam("rtpengine", "rtp_inst_pvar", "$avp(inst)")\n'
                  'modparam("rtpengine", "write_sdp_pv", "$avp(sdp)")\nmodparam("rtpengine", "read_sdp_pv", "$avp(from)")\n', route="""
	if (set_rtpengine_set("7")) xlog("OUT: wrong\\n");
	rtpengine_offer(); xlog("OUT: $rc $avp(inst) $(avp(sdp){s.len})\\n");
	set_rtpengine_set("2");
	$avp(from) = "v=0 of a variable";
	rtpengine_offer(); xlog("OUT: $rc $avp(inst) $avp(sdp)\\n");
	sl_send_reply("200", "$rb");
""")  # fmt: skip
        b.request("INVITE", "sip:x@h", "Content-Type: application/sdp", body=SDP)
        assert printed(b) == [f"1 {node.url} {len(SDP) + 5}", f"1 {other.url} v=0 of a variable"]
        assert [len(node.asked), len(other.asked)] == [1, 1]


def test_replies_bring_answers_and_late_offers(bench, node: Relay) -> None:
    b = start(bench, node.url, route='\trtpengine_manage();\n\tt_on_reply("R");\n\tt_relay();\n}\nonreply_route[R] {\n\trtpengine_manage();\n')
    for body, command in ((SDP, "answer"), ("", "offer")):
        node.asked.clear()
        b.request("INVITE", "sip:bob@127.0.0.1:7000", *(["Content-Type: application/sdp"] if body else []), body=body, call_id=f"c-{command}", cseq=len(command))
        out = [m for m in b.take() if m.first.startswith("INVITE")][-1]
        kept = "".join(f"{name}: {value}\r\n" for name in ("Via", "From", "Call-ID", "CSeq") for value in out.all(name))
        b.recv(f"SIP/2.0 200 OK\r\n{kept}To: {out.get('To')};tag=t1\r\nContent-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}", ("127.0.0.1", 7000))
        (reply,) = b.take()
        assert "m=audio 30000" in reply.text
        assert [(c["command"], c["from-tag"], c.get("to-tag")) for c in node.asked][-1] == (command, "f1", "t1")


def test_what_is_counted(bench, node: Relay) -> None:
    node.answer = lambda c: {"result": "ok", "totals": {"RTP": {"packets": 10, "bytes": 200, "errors": 1}, "RTCP": {"packets": 2, "bytes": 30, "errors": 0}}}
    b = start(bench, node.url, route='\txlog("OUT: $rtpestat\\n");\n\tsl_send_reply("200", "OK");\n')
    b.request("BYE", "sip:x@h", to_tag="tt")
    assert printed(b) == ["RTP: 200 bytes, 10 packets, 1 errors; RTCP: 30 bytes, 2 packets, 0 errors"]
    assert node.asked[-1]["to-tag"] == "tt"


@pytest.mark.parametrize("text", ["nonsense", "tcp:127.0.0.1:5", "udp:127.0.0.1", "udp:h:99999", "udp:h:5=x", "x == udp:h:5", "udp::5"])
def test_nodes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|a set has"):
        parse_nodes(text)


def test_a_configuration_that_is_refused(bench) -> None:
    with pytest.raises((ConfigError, AssertionError)):
        start(bench, "nonsense")


TEXTS = st.text(st.characters(max_codepoint=255), max_size=30)
TREES = st.recursive(st.integers(-(10**12), 10**12) | TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20)


@given(TREES)
def test_bencoding_goes_round(value: Any) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=80) | st.text("dlei0123456789:-x", max_size=60).map(str.encode))
def test_bencoding_of_rubbish(data: bytes) -> None:
    try:
        assert encode(decode(data)) is not None
    except ValueError:
        pass


@pytest.mark.parametrize("data", [b"", b"i5", b"ixe", b"5:abc", b"-1:a", b"l", b"d3:abce", b"di1ei2ee", b"i1ei2e", b"l" * 5000, b"999999999999999999999999:"])
def test_bencoding_that_is_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


QUALITY = json.loads((ROOT / "tests" / "cases" / "rtpengine_quality.json").read_text())
SCORES = sorted(name for name in QualityParams.__annotations__ if "label" not in name)


def test_scores_are_those_of_kamailio(bench, node: Relay) -> None:
    more = "".join(f'modparam("rtpengine", "{name}", "$avp({name})")\n' for name in SCORES)
    more += 'modparam("rtpengine", "mos_A_label_pv", "$avp(a)")\nmodparam("rtpengine", "mos_B_label_pv", "$avp(b)")\n'
    shown = "".join(f'\txlog("OUT: {name}=$avp({name})");\n' for name in SCORES)
    route = '\t$avp(a) = "A"; $avp(b) = "B";\n\tif ($rU == "rtpengine_query") rtpengine_query(); else rtpengine_delete();\n' + shown
    b = start(bench, node.url, more=more, route=route)
    for n, case in enumerate(QUALITY):
        node.answer = lambda command, answer=case["answer"]: answer
        before = len(printed(b))
        b.request("BYE", f"sip:{case['function']}@h", branch=f"z9hG4bKq{n}", cseq=n + 2)
        found = dict(line.split("=", 1) for line in printed(b)[before:])
        assert {name: value for name, value in found.items() if value != "<null>"} == case["set"]


NAMES = ["SSRC", "tags", "medias", "streams", "label", "1", "lowest MOS", "created"]


@given(answer=st.recursive(st.none() | st.integers() | st.text(max_size=3) | st.just({"MOS": 30}),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)))  # fmt: skip
def test_answers_of_any_form_set_scores_or_none(answer: Any) -> None:
    quality = Quality(lambda name: BoundPv(lambda ctx: "A", lambda ctx, value: None))
    quality.tell(None, answer if isinstance(answer, dict) else {"SSRC": answer, "tags": answer})
