"""``kamc db``: tables of Kamailio's schema on SQLite, and on MariaDB and PostgreSQL where they are installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from kamc import catalogue
from kamc.cli import main
from kamc.errors import ConfigError
from kamc.runtime.dbtables import Tables
from tests import databases

SCHEMA = Path("/usr/share/kamailio/db_sqlite")


@pytest.fixture(scope="module", params=databases.KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.Server]:
    with databases.server(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def test_all_tables_are_made_and_found_again(server: databases.Server) -> None:
    server.empty()
    tables = Tables(server.url)
    assert tables.create() == sorted(catalogue.tables())
    assert tables.create() == [] and tables.upgrade() == []
    assert dict(server.rows("select table_name, table_version from version")) == {name: row["version"] for name, row in catalogue.tables().items()}
    server.execute("insert into dispatcher (setid, destination) values (1, 'sip:h')", "insert into location (ruid, expires) values ('r', '2030-05-28 21:32:15')")
    assert [tuple(map(str, row)) for row in server.rows("select flags, priority, description from dispatcher")] == [("0", "0", "")]
    assert server.rows("select cseq, cflags, callid from location") == [(1, 0, "Default-Call-ID")]
    with pytest.raises(sa.exc.IntegrityError):
        server.execute("insert into location (ruid, expires) values ('r', '2030-05-28 21:32:15')")
    tables.close()


def test_an_older_table_gets_what_it_lacks(server: databases.Server) -> None:
    server.empty()
    server.execute("create table version (table_name varchar(32), table_version int)", "create table dispatcher (id int, setid int, destination varchar(192))",
                   "insert into dispatcher values (1, 7, 'sip:kept')", "insert into version values ('dispatcher', 3)",
                   "create table silo (id int)", "insert into version values ('silo', 99)")  # fmt: skip
    tables = Tables(server.url)
    done = tables.upgrade()
    assert "added dispatcher.attrs" in done and "dispatcher has version 4 now, 3 before" in done and "created location" in done
    assert any(line.startswith("left silo alone") for line in done) and not any("silo." in line for line in done)
    assert server.rows("select setid, destination, flags from dispatcher") == [(7, "sip:kept", 0)]
    assert [line for line in tables.upgrade() if not line.startswith("left silo")] == []
    tables.close()


def test_subscribers(server: databases.Server) -> None:
    server.empty()
    tables = Tables(server.url)
    tables.create()
    tables.add_user("sip:al@x.test", "p'w")
    tables.add_user("bo@x.test", "pw", plain=False)
    assert server.rows("select username, domain, password, ha1 from subscriber order by username") == [
        ("al", "x.test", "p'w", "a562dbf538b2fadabcb41fa6f81049fa"), ("bo", "x.test", "", "4737e3ac62fa39986fcea43382262991"),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="is there already"):
        tables.add_user("al@x.test", "other")
    for bad in ("al", "@x.test", "al@"):
        with pytest.raises(ConfigError, match="is not user@domain"):
            tables.add_user(bad, "pw")
    tables.close()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["db", "create"]) == 0 and "created subscriber" in capsys.readouterr().out
    assert main(["db", "create"]) == 0 and capsys.readouterr().out == "nothing to do\n"
    assert main(["db", "add-user", "al@x.test", "pw"]) == 0
    assert main(["db", "add-user", "al@x.test", "pw"]) == 1 and "is there already" in capsys.readouterr().err
    assert main(["db", "--url", "oracle://x/y", "create"]) == 1 and "a database is one of" in capsys.readouterr().err
    assert main(["db", "--url", "mysql://u:secret@127.0.0.1:1/y", "create"]) == 1
    error = capsys.readouterr().err
    assert "mysql://u:***@127.0.0.1:1/y" in error and "secret" not in error
    assert main(["db", "--url", "sqlite:////nowhere/x.db", "upgrade"]) == 1
    assert (tmp_path / "kamailio.db").is_file()


@pytest.mark.skipif(not SCHEMA.is_dir(), reason="Kamailio's scripts are not installed")
def test_it_is_the_schema_of_kamailio() -> None:
    """Names of tables and columns, and versions, of the scripts that come with Kamailio."""
    for name, row in catalogue.tables().items():
        text = (SCHEMA / f"{row['module']}-create.sql").read_text()
        found = re.search(rf"CREATE TABLE {name} \((.*?)\n\);", text, re.S)
        assert found is not None
        columns = [line.split()[0] for line in found[1].strip().splitlines() if not line.strip().startswith("CONSTRAINT")]
        assert columns == [c["name"] for c in row["columns"]], name
        version = re.search(rf"values \('{name}','(\d+)'\)", text)
        assert version is not None and int(version[1]) == row["version"], name
