"""The database drivers against real servers: what modules write and read is the same in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from kamc.errors import ConfigError
from kamc.runtime.db import DbError, epoch_seconds, parse_url
from tests import databases

SQL = 'loadmodule "sqlops.so"\nmodparam("sqlops", "sqlcon", "c=>URL")\n'


@pytest.fixture(scope="module", params=databases.KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.Server]:
    with databases.server(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
def clean(server: databases.Server) -> databases.Server:
    server.empty()
    return server


def printed(b) -> list[str]:
    return [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]


def test_rows_go_in_and_come_out(bench, clean: databases.Server) -> None:
    clean.execute("CREATE TABLE t (id INTEGER, name VARCHAR(64), q REAL, at TIMESTAMP NULL, q2 VARCHAR(64), PRIMARY KEY (id))")
    b = bench(clean.load + "request_route { exit; }\n")
    db = b.worker.rt.database(clean.url)
    umlaut = "J\u00fcrgen \u20ac".encode().decode("latin-1")
    at = datetime(2026, 11, 26, 8, 0, 0)
    db.insert("t", {"id": 1, "name": umlaut, "q": 0.5, "at": at, "q2": None})
    db.insert("t", {"id": 2, "name": "o'hara; DROP TABLE t --", "q": 1, "at": None, "q2": "%s %% \\"})
    assert clean.rows("SELECT name FROM t WHERE id = 1") == [("J\u00fcrgen \u20ac",)]
    found = db.select("t", ("id", "name", "q", "at", "q2"), (("id", ">=", 1),), order="id").rows
    assert [row[:3] for row in found] == [(1, umlaut, 0.5), (2, "o'hara; DROP TABLE t --", 1)]
    assert epoch_seconds(found[0][3]) == at.timestamp()
    assert found[1][3:] == (None, "%s %% \\")
    assert db.select("t", (), (("name", "=", umlaut),)).rows[0][0] == 1
    assert db.update("t", {"q": 0.25}, (("id", "=", 1), ("name", "!=", "x"))) == 1
    assert db.update("t", {"q": 0.25}, (("id", "=", 77),)) == 0
    assert db.select("t", ("q",), (("id", "=", 1),)).rows == [(0.25,)]
    assert db.delete("t", (("id", "=", 2),)) == 1
    assert len(db.select("t").rows) == 1


def test_what_the_script_asks(bench, clean: databases.Server) -> None:
    clean.execute("CREATE TABLE t (a VARCHAR(20), n INTEGER)", "INSERT INTO t VALUES ('x', 1)", "INSERT INTO t VALUES (NULL, 2)")
    b = bench(clean.load + SQL.replace("URL", clean.url) + """request_route {
	sql_query("c", "select a, n from t where a like '%x' or a is null order by n", "r");
	xlog("OUT: $dbr(r=>rows) $dbr(r=>cols) $dbr(r=>colname[1]) $dbr(r=>[0,0]) $dbr(r=>[1,0]) $dbr(r=>[1,1])\\n");
	sql_query("c", "insert into t values ($(rU{sql.val}), 3)");
	sql_query("c", "select a from t where a = $(rU{sql.val})", "r");
	$var(rc) = $rc;
	$var(a) = $dbr(r=>[0,0]);
	sql_query("c", "select nothing from nowhere", "r");
	xlog("OUT: $var(rc) $var(a) $rc\\n");
}
""")  # fmt: skip
    b.request("OPTIONS", "sip:o%b@h")
    assert printed(b) == ["2 2 n x <null> 2", "1 o%b -1"]


def test_a_connection_that_broke_is_made_again(bench, clean: databases.Server) -> None:
    clean.execute("CREATE TABLE t (id INTEGER)")
    b = bench(clean.load + "request_route { exit; }\n")
    db = b.worker.rt.database(clean.url)
    db.insert("t", {"id": 1})
    if clean.kind == "mysql":
        for (number,) in clean.rows("SELECT id FROM information_schema.processlist WHERE user = 'kam'"):
            clean.execute(f"KILL {number}")
    elif clean.kind == "postgres":
        clean.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'kamailio' AND pid <> pg_backend_pid()")
    assert db.select("t", ("id",)).rows == [(1,)]


def test_errors_name_the_cause(bench, clean: databases.Server) -> None:
    b = bench(clean.load + "request_route { exit; }\n")
    db = b.worker.rt.database(clean.url)
    with pytest.raises(DbError, match="no_such_table"):
        db.select("no_such_table")
    with pytest.raises(ConfigError, match="cannot open database"):
        b.worker.rt.database(clean.url.replace("/kamailio", "/nothing").replace("/db.sqlite", "/no/db.sqlite"))


def test_versions_of_tables(bench, clean: databases.Server) -> None:
    clean.execute("CREATE TABLE version (table_name VARCHAR(32), table_version INTEGER)", "INSERT INTO version VALUES ('subscriber', 7)")
    b = bench(clean.load + "request_route { exit; }\n")
    db = b.worker.rt.database(clean.url)
    db.check_version("subscriber", 7)
    with pytest.raises(ConfigError, match="has version 7, not 6"):
        db.check_version("subscriber", 6)


@pytest.mark.parametrize(("url", "parts"), [
    ("mysql://u:p@h:33/d", ("u", "p", "h", 33, "d")), ("mysql://h/d", ("", "", "h", 0, "d")), ("postgres://u@h/d", ("u", "", "h", 0, "d")),
    ("mysql://u:p@s:s/w@h/d", ("u", "p@s:s/w", "h", 0, "d")), ("mysql://u:p@[::1]:3/d", ("u", "p", "::1", 3, "d")), ("mysql:///d", ("", "", "", 0, "d")),
])  # fmt: skip
def test_urls(url: str, parts: tuple[object, ...]) -> None:
    assert tuple(parse_url(url)) == parts


@pytest.mark.parametrize("url", ["mysql://", "mysql://h", "mysql:h/d", "://u:p@h/d", "mysql://u:p@h:x/d", "mysql://h/"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(DbError):
        parse_url(url)
