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
