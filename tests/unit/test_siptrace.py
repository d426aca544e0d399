"""Module siptrace: copies in the forms of Kamailio 5.6.3, compared byte by byte except for the time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.siptrace.hep import LOG, Way, encode, encode_old
from tests.harness import Bench

PLAIN = 'loadmodule "siptrace.so"\nmodparam("siptrace", "trace_to_database", 0)\nmodparam("siptrace", "duplicate_uri", "sip:127.0.0.1:9060")\n'
ON = PLAIN + 'modparam("siptrace", "trace_on", 1)\n'
HEP3 = ('modparam("siptrace", "hep_mode_on", 1)\nmodparam("siptrace", "hep_version", 3)\nmodparam("siptrace", "hep_capture_id", 77)\n'
        'modparam("siptrace", "auth_key", "sekret")\n')  # fmt: skip
ROUTE = """
request_route {
    if (is_method("ACK")) { t_check_trans(); exit; }
    if ($rU == "m") { sip_trace(); sl_send_reply("200", "m"); exit; }
    if ($rU == "t") { sip_trace("sip:127.0.0.1:9060", "corr2", "t"); t_relay(); exit; }
    if ($rU == "d") { sip_trace("", "", "d"); $rU = "x"; t_relay(); exit; }
    if ($rU == "h") { hlog("some text"); hlog("cid", "more text"); }
    if ($rU == "msg") { sip_trace_msg("text", "udp:192.0.2.1:5", "tcp:[2001:db8::1]:6", "", "c"); }
    sl_send_reply("200", "OK");
}
"""


def copies(b: Bench) -> list[str]:
    return [m.text for m in b.take() if m.to[1] == 9060]


def chunks(text: str) -> list[tuple[int, bytes]]:
    data = text.encode("latin-1")
    assert data[:4] == b"HEP3" and int.from_bytes(data[4:6], "big") == len(data)
    out, at = [], 6
    while at < len(data):
        kind, size = int.from_bytes(data[at + 2 : at + 4], "big"), int.from_bytes(data[at + 4 : at + 6], "big")
        out.append((kind, data[at + 6 : at + size]))
        at += size
    return out


def test_hep_3(bench) -> None:
    b = bench(ON + HEP3 + ROUTE)
    text = b.request("OPTIONS", "sip:m@127.0.0.1")
    (copy,) = copies(b)
    assert [(k, v.hex()) for k, v in chunks(copy) if k not in (9, 10, 14, 15)] == [
        (1, "02"), (2, "11"), (3, "7f000001"), (4, "7f000001"), (7, "1770"), (8, "13c4"), (11, "01"), (12, "0000004d")]  # fmt: skip
    assert dict(chunks(copy))[14] == b"sekret" and dict(chunks(copy))[15].decode() == text
    b.request("OPTIONS", "sip:h@127.0.0.1", call_id="ci")
    logs = [chunks(c) for c in copies(b)]
    assert [[k for k, _ in c] for c in logs] == [[1, 2, 3, 4, 8, 7, 9, 10, 11, 12, 17, 14, 15]] * 2
    assert [(dict(c)[11], dict(c)[17], dict(c)[15]) for c in logs] == [(b"\x64", b"ci", b"some text"), (b"\x64", b"cid", b"more text")]
    b.request("OPTIONS", "sip:msg@127.0.0.1")
    assert copies(b) == []


@pytest.mark.parametrize(
    ("version", "head"),
    [(1, "0110021117bf175b7f0000017f000001"), (2, "0210021117bf175b7f0000017f000001" + "c36a076b" + "50630200" + "01000000")],
)
def test_older_versions(version: int, head: str) -> None:
    way = Way("udp", ("127.0.0.1", 6079), ("127.0.0.1", 5979))
    assert encode_old(version, way, 0x6B076AC3 + 156496.4 / 1e6, 1, b"OPTIONS").hex() == head + b"OPTIONS".hex()


def test_ipv6_and_logs() -> None:
    way = Way("tcp", ("2001:db8::1", 1), ("[2001:db8::2]", 2))
    found = dict(chunks(encode(way, 1.5, 1, b"x", kind=LOG).decode("latin-1")))
    assert (found[1], found[2], found[5].hex()[:8], found[6].hex()[-2:], found[10]) == (b"\x0a", b"\x06", "20010db8", "02", (500000).to_bytes(4, "big"))
    assert (way.source_text, way.target_text) == ("tcp:[2001:db8::1]:1", "tcp:[[2001:db8::2]]:2")


def test_a_transaction_is_followed(bench) -> None:
    b = bench(ON + ROUTE)
    text = b.request("INVITE", "sip:t@127.0.0.1:7000", branch="z9hG4bKt")
    invite = next(m for m in b.sent if m.first.startswith("INVITE") and m.to[1] == 7000)
    b.reply(invite, "180 Ringing")
    b.reply(invite, "486 Busy Here")
    b.recv(text.replace("INVITE", "ACK"))
    b.request("OPTIONS", "sip:other@127.0.0.1", call_id="c2")
    assert [c.split("\r\n")[0].split(" ", 2)[:2] for c in copies(b)] == [
        ["INVITE", "sip:t@127.0.0.1:7000"], ["SIP/2.0", "100"], ["INVITE", "sip:t@127.0.0.1:7000"], ["SIP/2.0", "180"], ["SIP/2.0", "180"], ["SIP/2.0", "486"],
        ["ACK", "sip:t@127.0.0.1:7000"], ["SIP/2.0", "486"], ["ACK", "sip:t@127.0.0.1:7000"]]  # fmt: skip
    b.recv(text)
    assert [c.split()[0] for c in copies(b)] == ["INVITE"]


def test_headers_instead_of_hep(bench) -> None:
    b = bench(ON + 'modparam("siptrace", "xheaders_write", 1)\n' + ROUTE)
    b.request("OPTIONS", "sip:m@127.0.0.1")
    (copy,) = copies(b)
    assert ("Content-Length: 0\r\nX-Siptrace-Fromip: udp:127.0.0.1:6000\r\nX-Siptrace-Toip: udp:127.0.0.1:5060\r\nX-Siptrace-Time: 1700001000 0\r\n"
            "X-Siptrace-Method: OPTIONS\r\nX-Siptrace-Dir: in\r\n\r\n") in copy  # fmt: skip


def test_headers_of_another_server_are_read_and_removed(bench) -> None:
    b = bench(ON + 'modparam("siptrace", "xheaders_write", 1)\nmodparam("siptrace", "xheaders_read", 1)\n' + ROUTE)
    told = ("X-Siptrace-Fromip: udp:10.0.0.1:5070", "X-Siptrace-Toip: tcp:[2001:db8::1]:5080", "X-Siptrace-Time: 1600000000 250000", "X-Siptrace-Method: OPTIONS",
            "X-Siptrace-Dir: out")  # fmt: skip
    b.request("OPTIONS", "sip:m@127.0.0.1", *told)
    (copy,) = copies(b)
    assert copy.count("X-Siptrace-Fromip") == 1
    assert "X-Siptrace-Fromip: udp:10.0.0.1:5070\r\nX-Siptrace-Toip: udp:[2001:db8::1]:5080\r\nX-Siptrace-Time: 1600000000 250000\r\n" in copy
    assert "X-Siptrace-Dir: out" in copy
    # what does not bring them, or not all of them, is not copied
    b.request("OPTIONS", "sip:m@127.0.0.1")
    b.request("OPTIONS", "sip:m@127.0.0.1", *told[1:])
    b.request("OPTIONS", "sip:m@127.0.0.1", told[0].replace("5070", "x"), *told[1:])
    b.request("OPTIONS", "sip:m@127.0.0.1", *told[:2], "X-Siptrace-Time: now", *told[3:])
    assert copies(b) == []


def test_everything_with_trace_mode(bench) -> None:
    b = bench(ON + 'modparam("siptrace", "trace_mode", 1)\n' + ROUTE
              + 'event_route[siptrace:msg] { xlog("W $siptrace(src_addr) $siptrace(dst_port) $siptrace(direction)\\n"); if ($rm == "MESSAGE") drop; }\n')  # fmt: skip
    b.request("OPTIONS", "sip:x@127.0.0.1")
    assert [c.split()[0] for c in copies(b)] == ["OPTIONS", "SIP/2.0"]
    assert [line for line in b.log.lines if line.startswith("W ")] == ["W udp:127.0.0.1:6000 5060 in", "W udp:127.0.0.1:5060 6000 out"]
    b.request("MESSAGE", "sip:x@127.0.0.1")
    assert [c for c in copies(b) if c.startswith("MESSAGE")] == []


def test_rows(bench, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as db:
        db.execute("CREATE TABLE sip_trace (id INTEGER PRIMARY KEY, time_stamp, time_us, "
                   "callid, traced_user, msg, method, status, fromip, toip, fromtag, totag, direction)")  # fmt: skip
    b = bench(f'loadmodule "db_sqlite.so"\nloadmodule "siptrace.so"\nmodparam("siptrace", "trace_on", 1)\nmodparam("siptrace", "db_url", "sqlite:///{tmp_path}/t.db")\n'
              'modparam("siptrace", "traced_user_avp", "$avp(u)")\nmodparam("siptrace", "trace_flag", 5)\n'
              'request_route { $avp(u) = "joe"; setflag(5); t_newtran(); t_reply("200", "OK"); }\n')  # fmt: skip
    b.request("MESSAGE", call_id="c9")
    with sqlite3.connect(tmp_path / "t.db") as db:
        assert db.execute("SELECT callid, traced_user, method, status, fromip, toip, fromtag, direction FROM sip_trace ORDER BY id").fetchall() == [
            ("c9", "joe", "MESSAGE", "", "udp:127.0.0.1:6000", "udp:127.0.0.1:5060", "f1", "in"),
            ("c9", "", "MESSAGE", "200", "udp:127.0.0.1:5060", "udp:127.0.0.1:6000", "f1", "out")]  # fmt: skip
    assert b.worker.counters.values["siptrace", "traced_requests"] == 1


def test_switching(bench) -> None:
    b = bench(PLAIN + ROUTE)
    b.request("OPTIONS", "sip:m@127.0.0.1")
    assert copies(b) == []
    assert [b.rpc("siptrace.status", w) for w in ("check", "on", "check")] == ["Disabled", "Enabled", "Enabled"]
    b.request("OPTIONS", "sip:m@127.0.0.1")
    assert len(copies(b)) == 1
    with pytest.raises(RpcFault):
        b.rpc("siptrace.status", "x")


@pytest.mark.parametrize("param", ['"hep_version", 4', '"duplicate_uri", "nonsense"'])
def test_what_is_refused_at_start(bench, param: str) -> None:
    with pytest.raises(ConfigError, match="siptrace"):
        bench(PLAIN + f'modparam("siptrace", {param})\n' + ROUTE)
