"""Databases: text tables, SQLite, and what modules see of both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.db import DbError, shown
from kamc.runtime.dbtext import TextDatabase, read_table, split_cells

HEADER = "id(int,auto) name(string) age(int,null) score(double) note(string,null)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "dbtext"
    folder.mkdir()
    (folder / "people").write_text(HEADER + "1:ann:30:1.50:\n2:b\\:o\\\\b::2.25:two\\nlines\n\n")
    (folder / "version").write_text("table_name(string) table_version(int)\npeople:3\n")
    return folder


@pytest.fixture(params=["text", "sqlite"])
def database(request, bench, folder: Path, tmp_path: Path):
    b = bench('loadmodule "db_text.so"\nloadmodule "db_sqlite.so"\nrequest_route { exit; }\n')
    if request.param == "text":
        return b.worker.rt.database(f"text://{folder}")
    db = b.worker.rt.database(f"sqlite:///{tmp_path}/x.db")
    db.raw("CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, age INT, score REAL, note TEXT)")
    db.raw("CREATE TABLE version (table_name TEXT, table_version INT)")
    db.raw("INSERT INTO version VALUES ('people', 3)")
    db.insert("people", {"name": "ann", "age": 30, "score": 1.5})
    db.insert("people", {"name": "b:o\\b", "score": 2.25, "note": "two\nlines"})
    return db


def test_reading_and_writing(database) -> None:
    assert database.select("people", ("name", "age", "score"), order="id").rows == [("ann", 30, 1.5), ("b:o\\b", None, 2.25)]
    assert database.select("people", ("note",), (("name", "=", "b:o\\b"),)).rows == [("two\nlines",)]
    database.insert("people", {"name": "cy:\xc3\xa9", "age": 5, "score": 0.0})
    assert database.select("people", ("id", "name"), (("age", "<", 30),)).rows == [(3, "cy:\xc3\xa9")]
    assert database.select("people", ("id",), (("age", ">=", 5), ("name", "!=", "ann"))).rows == [(3,)]
    assert database.update("people", {"age": 31}, (("name", "=", "ann"),)) == 1
    assert database.select("people", ("name",), order="age").rows[-1] == ("ann",)
    assert database.delete("people", (("id", "=", 2),)) == 1
    assert len(database.select("people").rows) == 2
    assert database.select("people").columns == ("id", "name", "age", "score", "note")
    assert len(database.select("people", limit=1).rows) == 1
    database.delete("people")
    assert database.select("people").rows == []


def test_what_fails_says_so(database) -> None:
    for ask in (lambda: database.select("nobody"), lambda: database.select("people", ("shoe",)), lambda: database.insert("people", {"shoe": 1}),
                lambda: database.select("people", (), (("name", "~", "x"),))):  # fmt: skip
        with pytest.raises(DbError):
            ask()
    database.check_version("people", 3)
    with pytest.raises(ConfigError, match="has version 3, not 4"):
        database.check_version("people", 4)
    with pytest.raises(ConfigError, match="does not name nobody"):
        database.check_version("nobody", 1)


def test_changes_are_in_the_file_and_changes_of_the_file_are_seen(folder: Path) -> None:
    db = TextDatabase(folder, ":")
    db.insert("people", {"name": "x:y", "score": 1.0})
    assert (folder / "people").read_text().endswith("3:x\\:y::1.00:\n")
    again = TextDatabase(folder, ":")
    assert again.select("people", ("name",), (("id", "=", 3),), "", 0).rows == [("x:y",)]
    (folder / "people").write_text(HEADER + "7:new:1:1:\n")
    os.utime(folder / "people", ns=(1, 1))
    assert db.select("people", ("name",), (), "", 0).rows == [("new",)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("id int\n", ":1:"), ("id(int)\nx\n", "'x' is no int"), ("id(int) b(string)\n1\n", "1 cells for 2 columns"), ("id(int) b(string)\n1:a\n1:a:b\n", ":3:")],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(DbError, match=problem):
        read_table(tmp_path / "t", ":")


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", ""])
def test_table_names_stay_in_their_folder(folder: Path, name: str) -> None:
    with pytest.raises(DbError, match="no table name"):
        TextDatabase(folder, ":").select(name, (), (), "", 0)


PEOPLE = "id(int,auto) name(string) age(int,null) w(double,null)\n1:ann:30:1.5\n2:bob::\n3:c d:7:2\n"


@pytest.fixture
def query(bench, tmp_path: Path):
    """Module db_text with two tables: what ``db_text.query`` answers."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "people").write_text(PEOPLE)
    (tmp_path / "t" / "version").write_text("table_name(string) table_version(int)\npeople:1\n")
    b = bench(f'loadmodule "db_text.so"\nmodparam("db_text", "default_connection", "text://{tmp_path}/t")\nrequest_route {{ exit; }}\n')
    return lambda sql: b.rpc("db_text.query", sql)


@pytest.mark.parametrize(("sql", "lines"), [
    ("select * from people", [PEOPLE.split("\n")[0], "", "1:ann:30:1.50", "2:bob::", "3:c d:7:2.00", "", "total rows 3 / 3"]),
    ('select name from people where name="bob"', ["name(string)", "", "bob", "", "total rows 1 / 1"]),
    ("select * from people order by name desc", [PEOPLE.split("\n")[0], "", "3:c d:7:2.00", "2:bob::", "1:ann:30:1.50", "", "total rows 3 / 3"]),
    ("select name from people where age>6 and age<30", ["name(string)", "", "c d", "", "total rows 1 / 1"]),
    ("select * from people where id=9", ["statement returned 0 rows"]),
    ("select * from nosuch", ["error executing sql statement"]), ("frob", ["error executing sql statement"]),
    ("select nocol from people", ["error executing sql statement"]), ("insert into people (nocol) values (1)", ["error executing sql statement"]),
    ("select * from '.people'", ["error executing sql statement"]), ("update people set age='old'", ["error executing sql statement"]),
    ("select count(*) from people", ["count(*)(string)", "", "3", "", "total rows 1 / 1"]),
    ("select * from people; delete from people", ["error executing sql statement"]),
])  # fmt: skip
def test_sql_over_text(query, tmp_path: Path, sql: str, lines: list[str]) -> None:
    """As Kamailio 5.6.3 answers, where it can."""
    assert query(sql) == lines
    assert (tmp_path / "t" / "people").read_text() == PEOPLE


def test_sql_that_changes_text(query, tmp_path: Path) -> None:
    assert query("delete from people where name='bob'") == ["1 affected rows"] and query("delete from people where name='bob'") == ["0 affected rows"]
    assert query("insert into people (name, age) values ('z:d', 44)") == ["1 affected rows"] and query("update people set w=2.5 where age=44") == ["1 affected rows"]
    assert (tmp_path / "t" / "people").read_text().split("\n", 1)[1] == "1:ann:30:1.50\n3:c d:7:2.00\n4:z\\:d:44:2.50\n"
    assert query("select * from version")[2] == "people:1"


def test_sql_in_a_route(bench, tmp_path: Path) -> None:
    (tmp_path / "people").write_text(PEOPLE)
    b = bench(f'loadmodule "db_text.so"\nloadmodule "sqlops.so"\nmodparam("sqlops", "sqlcon", "ca=>text://{tmp_path}")\n'
              'request_route { sql_query("ca", "select age,name from people where age>6 order by age", "r"); xlog("$dbr(r=>rows) $dbr(r=>[0,1]) $dbr(r=>[1,0])\\n"); }\n')
    b.request("OPTIONS")
    assert "2 c d 30" in b.log.lines and b.rpc("db_text.query", "select id from people where id=1")[2] == "1" and b.rpc("db_text.dump") == "Dump OK"


def test_no_connection_to_ask(bench) -> None:
    b = bench('loadmodule "db_text.so"\nmodparam("db_text", "default_connection", "text:///nowhere")\nrequest_route { exit; }\n')
    assert b.rpc("db_text.query", "select 1") == ["invalid connection : text:///nowhere"]


def test_escapes() -> None:
    assert split_cells(r"a\:b:\\:\n\t::x\q", ":") == ["a:b", "\\", "\n\t", "", "xq"]


def test_urls(bench) -> None:
    rt = bench('loadmodule "db_text.so"\nrequest_route { exit; }\n').worker.rt
    with pytest.raises(ConfigError, match="needs module db_mysql"):
        rt.database("mysql://user:secret@host/db")
    with pytest.raises(ConfigError, match="no database URL"):
        rt.database("somewhere")
    with pytest.raises(ConfigError, match="no folder"):
        rt.database("text:///nowhere")
    assert shown("mysql://user:secret@host/db") == "mysql://user:***@host/db"
