"""Dialogs in a database, and CSeq numbers of calls that were authenticated downstream. Rows as those of Kamailio 5.6.3."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault

SCHEMA = """CREATE TABLE dialog (id INTEGER PRIMARY KEY NOT NULL, hash_entry INTEGER NOT NULL, hash_id INTEGER NOT NULL, callid VARCHAR(255) NOT NULL,
 from_uri VARCHAR(255) NOT NULL, from_tag VARCHAR(128) NOT NULL, to_uri VARCHAR(255) NOT NULL, to_tag VARCHAR(128) NOT NULL, caller_cseq VARCHAR(20) NOT NULL,
 callee_cseq VARCHAR(20) NOT NULL, caller_route_set VARCHAR(512), callee_route_set VARCHAR(512), caller_contact VARCHAR(255) NOT NULL,
 callee_contact VARCHAR(255) NOT NULL, caller_sock VARCHAR(64) NOT NULL, callee_sock VARCHAR(64) NOT NULL, state INTEGER NOT NULL, start_time INTEGER NOT NULL,
 timeout INTEGER DEFAULT 0 NOT NULL, sflags INTEGER DEFAULT 0 NOT NULL, iflags INTEGER DEFAULT 0 NOT NULL, toroute_name VARCHAR(32), req_uri VARCHAR(255) NOT NULL,
 xdata VARCHAR(512));
CREATE TABLE dialog_vars (id INTEGER PRIMARY KEY NOT NULL, hash_entry INTEGER NOT NULL, hash_id INTEGER NOT NULL, dialog_key VARCHAR(128) NOT NULL,
 dialog_value VARCHAR(512) NOT NULL);
CREATE TABLE version (table_name TEXT, table_version INT);
INSERT INTO version VALUES ('dialog', 7), ('dialog_vars', 1);"""
ROUTE = """request_route {
    if ($hdr(X-Load) != $null) { $var(r) = dlg_db_load_callid("$hdr(X-Load)"); sl_send_reply("200", "r $var(r)"); exit; }
    if ($hdr(X-Extra) != $null) { $var(r) = dlg_db_load_extra(); sl_send_reply("200", "r $var(r)"); exit; }
    if (has_totag()) { loose_route(); if ($rm == "INFO") $dlg_var(later) = "z"; t_relay(); exit; }
    dlg_manage(); $dlg_var(who) = "me"; set_dlg_profile("calls", "x"); set_dlg_profile("all"); dlg_setflag("1"); record_route();
    $du = "sip:127.0.0.1:7000"; t_relay();
}
event_route[dialog:end] { xlog("L_NOTICE", "over $ci $dlg_var(who)\\n"); }"""


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(tmp_path / "d.db")
    connection.executescript(SCHEMA)
    return connection


def server(bench, tmp_path: Path, mode: int, params: str = ""):
    return bench(f'loadmodule "db_sqlite.so"\nloadmodule "dialog.so"\nmodparam("dialog", "db_url", "sqlite:///{tmp_path}/d.db")\n'
                 f'modparam("dialog", "db_mode", {mode})\nmodparam("dialog", "profiles_with_value", "calls")\n'
                 f'modparam("dialog", "profiles_no_value", "all")\n{params}\n{ROUTE}')  # fmt: skip


def call(b, call_id: str = "c1") -> str:
    """An answered call; its Route."""
    b.request("INVITE", "sip:bob@h", "Record-Route: <sip:far;lr>", branch=f"z9hG4bK{call_id}", call_id=call_id)
    invite = b.take()[-1]
    b.reply(invite, "200 OK", "Contact: <sip:bob@127.0.0.1:7000>")
    b.take()
    return invite.all("Record-Route")[0]


def within(b, method: str, route: str, cseq: int, call_id: str = "c1") -> str:
    b.request(method, "sip:bob@127.0.0.1:7000", f"Route: {route}", to_tag="t1", cseq=cseq, call_id=call_id)
    return b.take()[-1]


WHAT = "callid, from_tag, to_tag, caller_cseq, state, sflags, caller_route_set, callee_contact"


def rows(database: sqlite3.Connection, columns: str = WHAT) -> list[tuple[object, ...]]:
    return database.execute(f"SELECT {columns} FROM dialog").fetchall()


def variables(database: sqlite3.Connection) -> dict[str, str]:
    return dict(database.execute("SELECT dialog_key, dialog_value FROM dialog_vars").fetchall())


def test_dialogs_are_written_at_once(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 1)
    route = call(b)
    b.advance(0)
    assert rows(database) == [("c1", "f1", "t1", "1", 3, 2, "<sip:far;lr>", "sip:bob@127.0.0.1:7000")]
    assert json.loads(str(rows(database, "xdata")[0][0])) == {"profiles": [{"name": "calls", "value": "x"}, {"name": "all"}]}
    assert variables(database) == {"who": "me"}
    within(b, "ACK", route, 1)
    b.advance(0)
    assert rows(database, "state") == [(4,)]
    within(b, "BYE", route, 2)
    b.advance(0)
    assert rows(database) == []
    assert variables(database) == {}
    assert any("over c1 me" in line for line in b.log.lines)


def test_dialogs_are_written_by_the_timer_and_at_the_end(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 2, 'modparam("dialog", "db_update_period", 10)')
    route = call(b)
    assert rows(database) == []
    b.advance(10)
    assert rows(database, "callid") == [("c1",)]
    within(b, "INFO", route, 2)
    b.worker.stop()
    assert variables(database) == {"who": "me", "later": "z"}
    b = server(bench, tmp_path, 3, 'modparam("dialog", "db_skip_load", 1)')
    call(b, "c2")
    b.advance(50)
    assert rows(database, "callid") == [("c1",)]
    b.worker.stop()
    assert rows(database, "callid") == [("c1",), ("c2",)]


def test_dialogs_of_an_earlier_run_go_on(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 1)
    route = call(b)
    within(b, "ACK", route, 1)
    b.advance(0)
    b = server(bench, tmp_path, 1)
    (known,) = b.rpc("dlg.list")
    assert (known["call-id"], known["state"], known["profiles"], known["variables"]) == ("c1", 4, ["all", {"calls": "x"}], [{"who": "me"}])
    assert b.rpc("dlg.profile_get_size", "calls") == 1
    assert b.rpc("dlg.stats_active")["all"] == 1
    assert within(b, "BYE", route, 2).first.startswith("BYE sip:bob@127.0.0.1:7000")
    b.advance(0)
    assert rows(database) == []
    assert any("over c1 me" in line for line in b.log.lines)


def test_the_lifetime_of_a_dialog_goes_on(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    call(first := server(bench, tmp_path, 1, 'modparam("dialog", "default_timeout", 100)'))
    first.advance(0)
    database.execute("UPDATE dialog SET timeout = timeout - 70")
    database.commit()
    b = server(bench, tmp_path, 1)
    b.advance(29)
    assert b.rpc("dlg.list")[0]["state"] == 3
    b.advance(2)
    assert b.rpc("dlg.list")[0]["state"] == 5
    assert rows(database) == []


@pytest.mark.parametrize("header", ["X-Load: c1", "X-Extra: 1"])
def test_dialogs_of_another_server(bench, tmp_path: Path, database: sqlite3.Connection, header: str) -> None:
    b = server(bench, tmp_path, 1)
    call(other := server(bench, tmp_path, 1))
    other.advance(0)
    assert b.rpc("dlg.list") == []
    b.request("MESSAGE", "sip:x@h", header)
    assert b.firsts() == ["SIP/2.0 200 r 1"]
    assert b.rpc("dlg.list")[0]["call-id"] == "c1"
    database.execute("DROP TABLE dialog")
    b.request("MESSAGE", "sip:x@h", header, cseq=2)
    assert b.firsts() == ["SIP/2.0 200 r -1"]


def test_rows_that_make_no_dialog_are_left_out(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    call(first := server(bench, tmp_path, 1))
    first.advance(0)
    for change in ("caller_cseq = 'x'", "xdata = '{'", "state = 'up'", "timeout = 'never'"):
        database.execute(f"UPDATE dialog SET {change}")
        database.commit()
        b = server(bench, tmp_path, 1)
        assert b.rpc("dlg.list") == []
        assert any("left out" in line for line in b.log.lines)


def test_a_database_that_fails_is_tried_again(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 1)
    database.execute("ALTER TABLE dialog RENAME TO away")
    call(b)
    b.advance(0)
    assert any("dialog: table dialog:" in line for line in b.log.lines)
    database.execute("ALTER TABLE away RENAME TO dialog")
    b.advance(61)
    assert rows(database, "callid") == [("c1",)]


@pytest.mark.parametrize(("params", "message"), [('modparam("dialog", "db_mode", 4)', "db_mode is 0"), ('modparam("dialog", "enable_dmq", 1)', "enable_dmq")])
def test_modes_that_are_not_there(bench, tmp_path: Path, database: sqlite3.Connection, params: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        server(bench, tmp_path, 0, params)


def test_dialogs_in_a_file(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 0)
    call(b)
    b.rpc("dlg.dump_file", str(tmp_path / "dump"))
    (found,) = [json.loads(line) for line in (tmp_path / "dump").read_text().splitlines()]
    assert (found["call_id"], found["profiles"], found["variables"], found["caller"]["tag"]) == ("c1", {"all": "", "calls": "x"}, {"who": "me"}, "f1")
    with pytest.raises(RpcFault, match="cannot write"):
        b.rpc("dlg.dump_file", str(tmp_path / "no" / "dump"))


# -- CSeq --------------------------------------------------------------------------------------------------------------------

AUTH = """loadmodule "dialog.so"
loadmodule "uac.so"
modparam("dialog", "track_cseq_updates", 1)
modparam("uac", "credential", "u:realm:pw")
request_route {
    if (has_totag()) { loose_route(); t_relay(); exit; }
    dlg_manage(); record_route(); t_on_failure("F"); $du = "sip:127.0.0.1:7000"; t_relay();
}
failure_route[F] { if (t_check_status("407")) { uac_auth(); t_relay(); } }"""


def test_cseq_numbers_of_an_authenticated_call(bench) -> None:
    b = bench(AUTH)
    b.request("INVITE", "sip:bob@h", cseq=10)
    b.reply(b.take()[-1], "407 Who", 'Proxy-Authenticate: Digest realm="realm", nonce="abc"')
    ack, again = b.take()
    assert (ack.get("CSeq"), again.get("CSeq")) == ("10 ACK", "11 INVITE")
    answer = b.reply(again, "200 OK", "Contact: <sip:bob@127.0.0.1:7000>")
    assert b.take()[-1].get("CSeq") == "10 INVITE"
    b.recv(answer, ("127.0.0.1", 7000))
    assert b.take()[-1].get("CSeq") == "10 INVITE"
    route = again.all("Record-Route")[0]
    assert within(b, "ACK", route, 10).get("CSeq") == "11 ACK"
    info = within(b, "INFO", route, 11)
    assert info.get("CSeq") == "12 INFO"
    b.reply(info, "200 OK")
    assert b.take()[-1].get("CSeq") == "11 INFO"
    b.recv(f"INFO sip:alice@127.0.0.1:6000 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:7000;branch=z9hG4bKup\r\nFrom: <sip:bob@b.test>;tag=t1\r\n"
           f"To: <sip:alice@a.test>;tag=f1\r\nCall-ID: c1\r\nCSeq: 7 INFO\r\nRoute: {route}\r\n\r\n", ("127.0.0.1", 7000))  # fmt: skip
    assert b.take()[-1].get("CSeq") == "7 INFO"
    listed = b.rpc("dlg.list")[0]
    b.rpc("dlg.end_dlg", listed["h_entry"], listed["h_id"])
    assert sorted(m.get("CSeq") or "" for m in b.take()) == ["13 BYE", "8 BYE"]


def test_cseq_numbers_stay_without_the_parameter(bench) -> None:
    b = bench(AUTH.replace('modparam("dialog", "track_cseq_updates", 1)\n', ""))
    b.request("INVITE", "sip:bob@h", cseq=10)
    b.reply(b.take()[-1], "407 Who", 'Proxy-Authenticate: Digest realm="realm", nonce="abc"')
    assert b.take()[-1].get("CSeq") == "10 INVITE"
