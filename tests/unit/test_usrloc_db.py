"""usrloc: the location table in a database (db_mode 1 to 4), the order of contacts, keepalives."""

from __future__ import annotations

import itertools
import sqlite3
import time
from pathlib import Path

import pytest

from kamc.runtime.db import epoch_seconds, julian_day
from kamc.runtime.rpc.fault import RpcFault
from tests.harness import HEAD

LOCATION = """CREATE TABLE location (id INTEGER PRIMARY KEY NOT NULL, ruid VARCHAR(64) DEFAULT '' NOT NULL, username VARCHAR(64) DEFAULT '' NOT NULL,
 domain VARCHAR(64) DEFAULT NULL, contact VARCHAR(512) DEFAULT '' NOT NULL, received VARCHAR(128) DEFAULT NULL, path VARCHAR(512) DEFAULT NULL,
 expires TIMESTAMP WITHOUT TIME ZONE DEFAULT '2030-05-28 21:32:15' NOT NULL, q REAL DEFAULT 1.0 NOT NULL, callid VARCHAR(255) DEFAULT 'x' NOT NULL,
 cseq INTEGER DEFAULT 1 NOT NULL, last_modified TIMESTAMP WITHOUT TIME ZONE DEFAULT '2000-01-01 00:00:01' NOT NULL, flags INTEGER DEFAULT 0 NOT NULL,
 cflags INTEGER DEFAULT 0 NOT NULL, user_agent VARCHAR(255) DEFAULT '' NOT NULL, socket VARCHAR(64) DEFAULT NULL, methods INTEGER DEFAULT NULL,
 instance VARCHAR(255) DEFAULT NULL, reg_id INTEGER DEFAULT 0 NOT NULL, server_id INTEGER DEFAULT 0 NOT NULL, connection_id INTEGER DEFAULT 0 NOT NULL,
 keepalive INTEGER DEFAULT 0 NOT NULL, partition INTEGER DEFAULT 0 NOT NULL, CONSTRAINT ruid_idx UNIQUE (ruid));
CREATE TABLE location_attrs (id INTEGER PRIMARY KEY NOT NULL, ruid VARCHAR(64), username VARCHAR(64), domain VARCHAR(64), aname VARCHAR(64), atype INTEGER,
 avalue VARCHAR(512), last_modified TIMESTAMP);
CREATE TABLE version (table_name TEXT, table_version INT);
INSERT INTO version VALUES ('location', 9);"""
ROUTE = """request_route {
    if ($rm == "REGISTER") { if ($hdr(X-T) != $null) $xavp(ulattrs=>t) = $hdr(X-T); save("location"); exit; }
    $var(r) = lookup("location"); sl_send_reply("200", "r $var(r) $ru $du $xavp(ulattrs=>t)");
}"""
SERIAL = itertools.count(1)
MODULES = 'loadmodule "db_sqlite.so"\nloadmodule "usrloc.so"\nloadmodule "registrar.so"\n'


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(tmp_path / "l.db")
    connection.executescript(LOCATION)
    return connection


def add(database: sqlite3.Connection, ruid: str, user: str, contact: str, **more: object) -> None:
    row = {"ruid": ruid, "username": user, "contact": contact, "expires": "2100-01-01 00:00:00", **more}
    database.execute(f"INSERT INTO location ({','.join(row)}) VALUES ({','.join('?' * len(row))})", list(row.values()))
    database.commit()


def server(bench, tmp_path: Path, mode: int, params: str = ""):
    return bench(MODULES + f'modparam("usrloc", "db_url", "sqlite:///{tmp_path}/l.db")\nmodparam("usrloc", "db_mode", {mode})\n'
                 f'modparam("usrloc", "preload", "location")\nmodparam("usrloc", "timer_interval", 10)\n{params}\n{ROUTE}')  # fmt: skip


def register(b, user: str, *lines: str, cseq: int = 1, call_id: str = "c1") -> list[str]:
    b.recv(f"REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{user}{cseq}{call_id}\r\nFrom: <sip:{user}@a>;tag=1\r\nTo: <sip:{user}@a>\r\n"
           f"Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n" + "".join(x + "\r\n" for x in lines) + "\r\n")  # fmt: skip
    reply = b.take()[-1]
    assert reply.first == "SIP/2.0 200 OK"
    return [c.split("@")[0].removeprefix("<sip:") for c in (reply.get("Contact") or "").split(", ") if c]


def look_up(b, user: str) -> str:
    b.recv(f"OPTIONS sip:{user}@a SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{next(SERIAL)}\r\nFrom: <sip:x@a>;tag=1\r\nTo: <sip:x@a>\r\n"
           "Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n")  # fmt: skip
    return b.take()[-1].first.partition(" r ")[2]


def rows(database: sqlite3.Connection, columns: str = "contact, cseq, q, user_agent, methods, connection_id") -> list[tuple[object, ...]]:
    return database.execute(f"SELECT {columns} FROM location ORDER BY contact").fetchall()


@pytest.mark.parametrize("mode", [1, 3])
def test_changes_are_written_at_once(bench, tmp_path: Path, database: sqlite3.Connection, mode: int) -> None:
    b = server(bench, tmp_path, mode)
    assert register(b, "a", "Contact: <sip:1@127.0.0.1:6002>;expires=100;q=0.3") == ["1"]
    assert rows(database) == [("sip:1@127.0.0.1:6002", 1, 0.3, "n/a", None, -1)]
    (expires,) = database.execute("SELECT expires FROM location").fetchone()
    assert abs(epoch_seconds(expires) - b.worker.wall_clock() - 100) <= 1
    assert register(b, "a", "Contact: <sip:1@127.0.0.1:6002>", "Allow: INVITE, ACK", "User-Agent: me", cseq=2) == ["1"]
    assert rows(database) == [("sip:1@127.0.0.1:6002", 2, -1.0, "me", 5, -1)]
    register(b, "a", "Contact: <sip:2@127.0.0.1:6002>", cseq=3)
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>;expires=0", cseq=4)
    assert [r[0] for r in rows(database)] == ["sip:2@127.0.0.1:6002"]
    assert look_up(b, "a").startswith("1 sip:2@")
    b.rpc("ul.rm", "location", "a@x")
    assert rows(database) == []
    assert look_up(b, "a").startswith("-1 ")


def test_changes_are_written_by_the_timer(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 2)
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>")
    register(b, "b", "Contact: <sip:2@127.0.0.1:6002>")
    assert b.rpc("ul.lookup", "location", "a")["Contacts"][0]["Contact"]["State"] == "CS_NEW"
    assert rows(database) == []
    b.advance(11)
    assert [r[:2] for r in rows(database)] == [("sip:1@127.0.0.1:6002", 1), ("sip:2@127.0.0.1:6002", 1)]
    assert b.rpc("ul.lookup", "location", "a")["Contacts"][0]["Contact"]["State"] == "CS_SYNC"
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>", cseq=2)
    assert b.rpc("ul.lookup", "location", "a")["Contacts"][0]["Contact"]["State"] == "CS_DIRTY"
    register(b, "b", "Contact: *", "Expires: 0", cseq=2)
    register(b, "c", "Contact: <sip:3@127.0.0.1:6002>")
    register(b, "c", "Contact: *", "Expires: 0", cseq=2)
    b.rpc("ul.flush")
    assert [r[:2] for r in rows(database)] == [("sip:1@127.0.0.1:6002", 2)]
    register(b, "d", "Contact: <sip:4@127.0.0.1:6002>")
    b.worker.stop()
    assert len(rows(database)) == 2


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_contacts_of_an_earlier_run(bench, tmp_path: Path, database: sqlite3.Connection, mode: int) -> None:
    add(database, "u1", "a", "sip:1@127.0.0.1:6001", q=0.5, expires=time.time() / 86400 + 2440587.5 + 1)
    add(database, "u2", "a", "sip:2@127.0.0.1:6001", q=0.7, received="sip:127.0.0.1:5", user_agent="me")
    add(database, "u3", "b", "sip:3@127.0.0.1:6001", expires="2001-01-01 00:00:00")
    add(database, "u4", "c", "sip:4@127.0.0.1:6001", expires="whenever")
    b = server(bench, tmp_path, mode)
    assert look_up(b, "a").startswith("1 sip:2@127.0.0.1:6001 sip:127.0.0.1:5")
    assert look_up(b, "b").startswith("-1 ")
    assert look_up(b, "c").startswith("-1 ")
    assert any("row u4" in line for line in b.log.lines)
    assert [b.rpc(f"ul.db_{n}", "location") for n in ("users", "contacts", "expired_contacts")] == [1, 2, 1]
    b.advance(11)
    assert len(rows(database)) == (4 if mode == 4 else 3)


def test_users_of_several_domains(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 1, 'modparam("usrloc", "use_domain", 1)\nmodparam("usrloc", "expires_type", 1)')
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>")
    (found,) = rows(database, "username, domain, expires")
    assert found[:2] == ("a", "a")
    assert isinstance(found[2], int)


def test_attributes_of_contacts(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    extra = 'modparam("usrloc", "xavp_contact", "ulattrs")'
    b = server(bench, tmp_path, 1, extra)
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>", "X-T: blue")
    assert look_up(b, "a").endswith(" blue")
    assert database.execute("SELECT aname, atype, avalue FROM location_attrs").fetchall() == [("t", 2, "blue")]
    assert look_up(server(bench, tmp_path, 1, extra), "a").endswith(" blue")
    register(b, "a", "Contact: *", "Expires: 0", cseq=2)
    assert database.execute("SELECT * FROM location_attrs").fetchall() == []


def test_a_database_that_fails(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 1)
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>")
    database.execute("ALTER TABLE location RENAME TO away")
    assert register(b, "b", "Contact: <sip:2@127.0.0.1:6002>") == ["2"]
    assert any("insert of contact" in line for line in b.log.lines)
    database.execute("ALTER TABLE away RENAME TO location")
    b.advance(11)
    assert len(rows(database)) == 2


def test_a_database_that_is_all_there_is_and_fails(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    b = server(bench, tmp_path, 3)
    database.execute("DROP TABLE location")
    b.recv("REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:a@a>\r\nCall-ID: 1\r\n"
           "CSeq: 1 REGISTER\r\nContact: <sip:1@127.0.0.1:6002>\r\n\r\n")  # fmt: skip
    assert b.take()[-1].first == "SIP/2.0 500 Server Internal Error"


def test_the_parameters_of_writing(bench, tmp_path: Path, database: sqlite3.Connection) -> None:
    add(database, "u1", "a", "sip:1@127.0.0.1:6002", callid="c1", socket="tcp:127.0.0.1:1")
    add(database, "u2", "b", "sip:2@127.0.0.1:6002", callid="c1", socket="udp:127.0.0.2:1")
    add(database, "u3", "c", "sip:3@127.0.0.1:6002", callid="c1", server_id=7)
    add(database, "u4", "d", "sip:4@127.0.0.1:6002", callid="c1")
    b = server(bench, tmp_path, 1, "\n".join(f'modparam("usrloc", "{name}", {value})' for name, value in (
        ("db_clean_tcp", 1), ("skip_remote_socket", 1), ("server_id_filter", 1), ("db_ops_ruid", 0), ("db_check_update", 1), ("db_insert_null", 1))))  # fmt: skip
    assert [look_up(b, user).split()[0] for user in "abcd"] == ["-1", "-1", "-1", "1"]
    database.execute("DELETE FROM location WHERE username = 'd'")
    database.commit()
    register(b, "d", "Contact: <sip:4@127.0.0.1:6002>", cseq=2)
    assert [r[0] for r in rows(database, "username")] == ["b", "c", "d"]


def test_no_database_no_numbers(bench) -> None:
    b = bench('loadmodule "usrloc.so"\nloadmodule "registrar.so"\n' + ROUTE)
    with pytest.raises(RpcFault, match="not supported"):
        b.rpc("ul.db_users", "location")


def test_julian_days() -> None:
    from datetime import datetime

    moment = datetime(2026, 11, 25, 23, 40, 1)
    assert epoch_seconds(julian_day(moment)) == moment.timestamp()
    assert epoch_seconds("2026-11-25 23:40:01") == epoch_seconds(moment)
    assert epoch_seconds(None) == epoch_seconds("") == 0
    assert epoch_seconds(1700000000) == 1700000000
    with pytest.raises(ValueError, match="isoformat"):
        epoch_seconds("soon")


ORDER = {
    0: ["1", "12", "312", "3412", "3412", "3412", "341256", "41256", "41256", "741256"],
    1: ["1", "21", "321", "4321", "1432", "2143", "652143", "65214", "26514", "726514"],
}  # fmt: skip


@pytest.mark.parametrize("newest_first", [0, 1])
def test_the_order_of_contacts(bench, newest_first: int) -> None:
    b = bench(f'loadmodule "usrloc.so"\nloadmodule "registrar.so"\nmodparam("usrloc", "desc_time_order", {newest_first})\n' + ROUTE)
    steps = [("1",), ("2",), ("3;q=0.5",), ("4;q=0.2",), ("1",), ("2;q=0.9",), ("5", "6"), ("3;expires=0",), ("2",), ("7;q=0.5",)]
    seen = []
    for number, contacts in enumerate(steps):
        parts = [c.partition(";") for c in contacts]
        lines = [f"Contact: <sip:{name}@127.0.0.1:6002>{semicolon}{rest}" for name, semicolon, rest in parts]
        seen.append("".join(register(b, "a", *lines, cseq=number + 1)))
    assert seen == ORDER[newest_first]
    assert look_up(b, "a").split()[1] == "sip:7@127.0.0.1:6002"


KEEPALIVE = ('loadmodule "usrloc.so"\nloadmodule "registrar.so"\nmodparam("usrloc", "timer_interval", 10)\nmodparam("registrar", "use_path", 1)\n'
             'modparam("registrar", "path_mode", 0)\nmodparam("usrloc", "ka_timeout", 25)\nmodparam("usrloc", "ka_loglevel", 1)\n')  # fmt: skip


def test_keepalives(bench) -> None:
    b = bench(KEEPALIVE + 'modparam("usrloc", "ka_mode", 1)\n' + ROUTE + '\nreply_route { xlog("L_NOTICE", "seen $rs\\n"); }', head=HEAD)
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>", "Path: <sip:127.0.0.1:6003;lr>")
    b.advance(10)
    (asked,) = b.take()
    assert asked.first == "OPTIONS sip:1@127.0.0.1:6002 SIP/2.0"
    assert asked.to == ("127.0.0.1", 6003)
    assert asked.get("Route") == "<sip:127.0.0.1:6003;lr>"
    assert asked.get("To") == "<sip:a@kamailio.org>"
    b.advance(0.25)
    b.reply(asked, "404 Not Found", port=6003)
    contact = b.rpc("ul.lookup", "location", "a")["Contacts"][0]["Contact"]
    assert contact["KA-Roundtrip"] == pytest.approx(250000, abs=1000)
    assert any("keepalive roundtrip: 0.25" in line and "to-uri: [sip:a@kamailio.org] remote-addr: [udp:127.0.0.1:6003]" in line for line in b.log.lines)
    assert any("seen 404" in line for line in b.log.lines)
    b.advance(31)
    with pytest.raises(RpcFault, match="not found"):
        b.rpc("ul.lookup", "location", "a")


def test_only_contacts_behind_nat_are_kept_alive(bench) -> None:
    b = bench(KEEPALIVE + 'modparam("usrloc", "ka_mode", 2)\nmodparam("usrloc", "nat_bflag", 3)\nmodparam("usrloc", "ka_reply_codes", "200")\n'
              'request_route { if ($rU == "n") setbflag(3); save("location"); }')  # fmt: skip
    for user in ("n", "m"):
        b.recv(f"REGISTER sip:{user}@h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{user}\r\nFrom: <sip:{user}@a>;tag=1\r\nTo: <sip:{user}@a>\r\n"
               f"Call-ID: {user}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@127.0.0.1:6002>\r\n\r\n")  # fmt: skip
    b.take()
    b.advance(10)
    (asked,) = b.take()
    assert asked.get("To") == "<sip:n@kamailio.org>"
    b.reply(asked, "404 Not Found", port=6002)
    assert b.rpc("ul.lookup", "location", "n")["Contacts"][0]["Contact"]["KA-Roundtrip"] == 0


def test_tables_that_the_configuration_names_are_there_from_the_start(bench) -> None:
    b = bench('loadmodule "usrloc.so"\nloadmodule "registrar.so"\nrequest_route { if (is_method("REGISTER")) { save("location", "0x02"); } lookup("other"); '
              'registered("location"); }\n')  # fmt: skip
    assert [row["Domain"]["Domain"] for row in b.rpc("ul.dump")["Domains"]] == ["location", "other"]
    assert b.worker.counters.get("usrloc", "location_users") == 0
    for domain, text in (("location", "AOR not found"), ("nosuch", "Domain table not found")):
        with pytest.raises(RpcFault, match=text):
            b.rpc("ul.lookup", domain, "bob")
    assert len(b.rpc("ul.dump")["Domains"]) == 2
