"""Module topos: what each side sees, requests both ways, and a call that outlives a restart."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from tests.harness import Bench, Message

MEMORY = 'loadmodule "topos.so"\nmodparam("topos", "storage", "memory")\n'
ROUTE = """
request_route {
    xlog("SEE $rm $ru $ct\\n");
    if (is_method("CANCEL")) { t_relay(); exit; }
    if (has_totag()) { if (!loose_route()) { sl_send_reply("404", "Not here"); exit; } t_relay(); exit; }
    if ($rU == "no") { sl_send_reply("403", "No"); exit; }
    record_route(); $ru = "sip:bob@127.0.0.1:7000"; t_relay();
}
"""
COLUMNS = ("s_method, s_cseq, a_callid, a_uuid, b_uuid, a_contact, b_contact, as_contact, bs_contact, "
           "a_tag, b_tag, a_rr, b_rr, s_rr, rectime, x_context, x_via, x_vbranch, x_rr")  # fmt: skip


def tables(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE version (table_name TEXT, table_version INTEGER)")
        for name in ("topos_d", "topos_t"):
            db.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, {COLUMNS})")
            db.execute("INSERT INTO version VALUES (?, 2)", (name,))


def call(b: Bench, status: str = "200 OK") -> tuple[Message, Message]:
    """An INVITE through a proxy at 192.0.2.9 and its reply, as they left."""
    b.recv("INVITE sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa\r\nVia: SIP/2.0/UDP 192.0.2.33;branch=z9hG4bKinner\r\n"
           "Record-Route: <sip:192.0.2.9;lr>\r\nFrom: <sip:alice@a.test>;tag=f1\r\nTo: <sip:bob@b.test>\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n"
           "Contact: Al <sip:alice@192.0.2.33>;x=1\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
    invite = next(m for m in b.take() if m.first.startswith("INVITE"))
    b.reply(invite, status, "Contact: <sip:bob@127.0.0.1:7000>")
    return invite, next(m for m in reversed(b.take()) if m.first.startswith("SIP/2.0"))


def contact_of(message: Message) -> str:
    return re.search(r"<([^>]*)>", message.get("Contact"))[1]


def within(b: Bench, method: str, ruri: str, tags: tuple[str, str], port: int, call_id: str = "c1") -> None:
    b.serial += 1
    b.recv(f"{method} {ruri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKw{b.serial}\r\nFrom: <sip:x@y>;tag={tags[0]}\r\n"
           f"To: <sip:z@y>;tag={tags[1]}\r\nCall-ID: {call_id}\r\nCSeq: 5 {method}\r\nContact: <sip:in@127.0.0.1:{port}>\r\nContent-Length: 0\r\n\r\n",
           ("127.0.0.1", port))  # fmt: skip


def test_what_the_sides_see(bench) -> None:
    b = bench(MEMORY + ROUTE)
    invite, ok = call(b)
    assert len(invite.all("Via")) == 1 and invite.get("Record-Route") is None and "192.0.2" not in invite.text
    assert re.fullmatch(r"Al <sip:btpsh-[0-9a-f]{24}@127.0.0.1:5060>;x=1", invite.get("Contact"))
    assert ok.all("Via") == ["SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKa", "SIP/2.0/UDP 192.0.2.33;branch=z9hG4bKinner"]
    assert ok.all("Record-Route") == ["<sip:192.0.2.9;lr>"] and "127.0.0.1:7000" not in ok.text
    assert re.fullmatch(r"<sip:atpsh-[0-9a-f]{24}@127.0.0.1:5060>", ok.get("Contact"))
    assert "tps" not in ok.get("Via")


def test_requests_both_ways(bench) -> None:
    b = bench(MEMORY + ROUTE)
    invite, ok = call(b)
    b.log.lines.clear()
    within(b, "INFO", contact_of(ok), ("f1", "t1"), 6000)
    (info,) = b.take()
    assert (info.first, info.to[1], len(info.all("Via")), info.get("Route")) == ("INFO sip:bob@127.0.0.1:7000 SIP/2.0", 7000, 1, None)
    assert contact_of(info).startswith("sip:btpsh-")
    b.reply(info, "200 OK", "Contact: <sip:bob@127.0.0.1:7001>")
    assert contact_of(b.take()[-1]).startswith("sip:atpsh-")
    within(b, "BYE", contact_of(invite), ("t1", "f1"), 7000)
    (bye,) = b.take()
    assert (bye.first, bye.to[0], bye.all("Route"), len(bye.all("Via"))) == ("BYE sip:alice@192.0.2.33 SIP/2.0", "192.0.2.9", ["<sip:192.0.2.9;lr>"], 1)
    b.reply(bye, "200 OK", port=5060)
    (done,) = b.take()
    assert done.get("Via").startswith("SIP/2.0/UDP 127.0.0.1:7000;branch=z9hG4bKw") and "tps" not in done.get("Via")
    assert next(line.partition("SEE ")[2] for line in b.log.lines if "SEE" in line) == "INFO sip:bob@127.0.0.1:7000 <sip:in@127.0.0.1:6000>"


def test_a_call_outlives_a_restart(tmp_path: Path) -> None:
    tables(tmp_path / "t.db")
    cfg = f'loadmodule "db_sqlite.so"\nloadmodule "topos.so"\nmodparam("topos", "db_url", "sqlite:///{tmp_path}/t.db")\n{ROUTE}'
    invite, ok = call(Bench(tmp_path, cfg))
    again = Bench(tmp_path, cfg)
    within(again, "INFO", contact_of(ok), ("f1", "t1"), 6000)
    assert again.take()[0].first == "INFO sip:bob@127.0.0.1:7000 SIP/2.0"
    within(again, "BYE", contact_of(invite), ("t1", "f1"), 7000)
    assert again.take()[0].get("Route") == "<sip:192.0.2.9;lr>"
    with sqlite3.connect(tmp_path / "t.db") as db:
        assert db.execute("SELECT a_callid, a_tag, b_tag, b_contact FROM topos_d").fetchall() == [("c1", "f1", "t1", "sip:bob@127.0.0.1:7000")]
        assert db.execute("SELECT count(*) FROM topos_t").fetchone()[0] >= 3
    again.advance(11000)
    with sqlite3.connect(tmp_path / "t.db") as db:
        assert [db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("topos_d", "topos_t")] == [0, 0]


def test_call_ids(bench) -> None:
    b = bench(MEMORY + 'modparam("topos", "mask_callid", 1)\n' + ROUTE)
    invite, ok = call(b)
    masked = invite.get("Call-ID")
    assert masked.startswith("btpsh-") and ok.get("Call-ID") == "c1"
    within(b, "BYE", contact_of(invite), ("t1", "f1"), 7000, masked)
    (bye,) = b.take()
    assert bye.get("Call-ID") == "c1"
    b.reply(bye, "200 OK", port=5060)
    assert b.take()[-1].get("Call-ID") == masked


def test_contacts_by_parameter(bench) -> None:
    b = bench(MEMORY + 'modparam("topos", "contact_mode", 1)\nmodparam("topos", "contact_host", "sip.example")\n' + ROUTE)
    invite, ok = call(b)
    assert re.fullmatch(r"sip:alice@sip.example;tps=btpsh-[0-9a-f]+", contact_of(invite))
    within(b, "INFO", contact_of(ok).replace("sip.example", "127.0.0.1"), ("f1", "t1"), 6000)
    assert b.take()[0].first == "INFO sip:bob@127.0.0.1:7000 SIP/2.0"


def test_what_is_left_alone(bench) -> None:
    b = bench(MEMORY + ROUTE)
    b.request("REGISTER", "sip:bob@127.0.0.1")
    assert contact_of(b.take()[-1]) == "sip:alice@127.0.0.1:6000"
    b.request("MESSAGE", "sip:no@127.0.0.1")
    assert "tps" not in b.take()[-1].text
    _, moved = call(b, "302 Moved")
    assert contact_of(moved) == "sip:bob@127.0.0.1:7000"
    within(b, "INFO", "sip:atpsh-000000000000000000000000@127.0.0.1", ("f1", "t1"), 6000)
    assert b.take()[-1].first.startswith("SIP/2.0 404")


@pytest.mark.parametrize("params", ['"storage", "redis"', '"contact_mode", 2'])
def test_what_is_refused_at_start(bench, params: str) -> None:
    with pytest.raises(ConfigError, match="topos: "):
        bench(MEMORY + f'modparam("topos", {params})\n' + ROUTE)


NAMES = ('modparam("topos", "contact_mode", 2)\nmodparam("topos", "xavu_cfg", "_tps_")\nmodparam("topos", "xavu_field_a_contact", "ca")\n'
         'modparam("topos", "xavu_field_b_contact", "cb")\nmodparam("topos", "xavu_field_contact_host", "host")\n')  # fmt: skip


def test_the_script_names_the_contacts(bench) -> None:
    b = bench(MEMORY + NAMES + ROUTE.replace("record_route();", '$xavu(_tps_=>ca) = "ac"; $xavu(_tps_=>cb) = "bc"; $xavu(_tps_=>host) = "h.test"; record_route();'))
    invite, ok = call(b)
    assert re.fullmatch(r"sip:ac@h\.test:5060;tps=btpsh-[0-9a-f]{24}", contact_of(invite))
    assert re.fullmatch(r"sip:bc@h\.test:5060;tps=atpsh-[0-9a-f]{24}", contact_of(ok))
    within(b, "BYE", contact_of(ok).replace("h.test:5060", "127.0.0.1:5060"), ("f1", "t1"), 6000)
    assert b.take()[0].first == "BYE sip:bob@127.0.0.1:7000 SIP/2.0"


def test_without_the_names_the_call_goes_on_as_it_is(bench) -> None:
    b = bench(MEMORY + NAMES + ROUTE)
    invite, ok = call(b)
    assert (len(invite.all("Via")), contact_of(invite), contact_of(ok)) == (3, "sip:alice@192.0.2.33", "sip:bob@127.0.0.1:7000")
    assert "tps" not in invite.text and any("$xavu(_tps_=>ca) is not set" in line for line in b.log.lines)
    with pytest.raises(ConfigError, match="contact_mode 2 needs"):
        bench(MEMORY + 'modparam("topos", "contact_mode", 2)\n' + ROUTE)


def test_an_ack_without_contact_gets_ours(bench) -> None:
    b = bench(MEMORY + ROUTE)
    _, ok = call(b)
    b.recv(f"ACK {contact_of(ok)} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKack\r\nFrom: <sip:x@y>;tag=f1\r\nTo: <sip:z@y>;tag=t1\r\n"
           "Call-ID: c1\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
    (ack,) = b.take()
    assert ack.first == "ACK sip:bob@127.0.0.1:7000 SIP/2.0" and contact_of(ack).startswith("sip:btpsh-")
