"""Database servers for tests: SQLite always, MariaDB and PostgreSQL where their servers are installed, each on a private socket in a folder of
its own, ended with the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

KINDS = ("sqlite", "mysql", "postgres")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``url`` as a configuration names it, ``engine`` to prepare tables with. ``load`` is the module."""

    def __init__(self, kind: str, url: str, place: sa.URL) -> None:
        self.kind, self.url, self.load = kind, url, f'loadmodule "db_{kind}.so"\n'
        self.engine = sa.create_engine(place)

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def empty(self) -> None:
        """Drop every table."""
        with self.engine.begin() as connection:
            for name in sa.inspect(connection).get_table_names():
                connection.execute(sa.schema.DropTable(sa.Table(name, sa.MetaData())))


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    """A connection in which each statement counts at once."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _wait(engine_of: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with _connected(engine_of):
                return
        except sa.exc.SQLAlchemyError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


@contextmanager
def _mysql(folder: Path) -> Iterator[Server]:
    install, server = shutil.which("mariadb-install-db"), shutil.which("mariadbd") or "/usr/sbin/mariadbd"
    if install is None or not os.path.exists(server):
        pytest.skip("MariaDB's server is not installed")
    port, log = free_port(), folder / "log"
    user = getpass.getuser()
    subprocess.run([install, "--no-defaults", f"--datadir={folder}/data", f"--user={user}", "--auth-root-authentication-method=normal", "--skip-test-db"],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen([server, "--no-defaults", f"--datadir={folder}/data", f"--user={user}", f"--port={port}", "--bind-address=127.0.0.1",
                                    f"--socket={folder}/s", f"--pid-file={folder}/pid", "--innodb-flush-log-at-trx-commit=0"], stdout=out, stderr=out)  # fmt: skip
    try:
        _wait(f"mysql+pymysql://root@127.0.0.1:{port}/mysql", process, log)
        with _connected(f"mysql+pymysql://root@127.0.0.1:{port}/mysql") as connection:
            connection.exec_driver_sql("CREATE DATABASE kamailio CHARACTER SET utf8mb4")
            connection.exec_driver_sql("CREATE USER 'kam'@'%%' IDENTIFIED BY 'p@ss:w/rd'")
            connection.exec_driver_sql("GRANT ALL ON kamailio.* TO 'kam'@'%%'")
        yield Server("mysql", f"mysql://kam:p@ss:w/rd@127.0.0.1:{port}/kamailio", sa.URL.create("mysql+pymysql", "root", None, "127.0.0.1", port, "kamailio"))
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def _postgres(folder: Path) -> Iterator[Server]:
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").is_dir() else []
    if not homes:
        pytest.skip("PostgreSQL's server is not installed")
    # it refuses to run as root
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    if as_user:
        for path in (folder, *folder.parents):
            if path.stat().st_uid == 0 and path.is_relative_to("/tmp") and path != Path("/tmp"):
                path.chmod(path.stat().st_mode | 0o011)
        shutil.chown(folder, "postgres")
    port, log = free_port(), folder / "log"
    subprocess.run([*as_user, str(homes[-1] / "initdb"), "-D", str(folder / "data"), "-U", "root", "-A", "trust", "-E", "UTF8", "--no-sync"], check=True,
                   stdout=subprocess.DEVNULL, cwd="/")  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen([*as_user, str(homes[-1] / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"],
                                   stdout=out, stderr=out, cwd="/")  # fmt: skip
    try:
        _wait(f"postgresql+psycopg://root@127.0.0.1:{port}/postgres", process, log)
        with _connected(f"postgresql+psycopg://root@127.0.0.1:{port}/postgres") as connection:
            connection.exec_driver_sql("CREATE DATABASE kamailio")
        yield Server("postgres", f"postgres://root:p@ss@127.0.0.1:{port}/kamailio", sa.URL.create("postgresql+psycopg", "root", None, "127.0.0.1", port, "kamailio"))
    finally:
        # a fast shutdown: it does not wait for its clients
        process.send_signal(signal.SIGINT)
        process.wait(20)


@contextmanager
def _sqlite(folder: Path) -> Iterator[Server]:
    yield Server("sqlite", f"sqlite:///{folder}/db.sqlite", sa.URL.create("sqlite", database=f"{folder}/db.sqlite"))


@contextmanager
def server(kind: str, folder: Path) -> Iterator[Server]:
    """A server of a kind; the test is skipped, with the reason, where it is not installed."""
    with {"sqlite": _sqlite, "mysql": _mysql, "postgres": _postgres}[kind](folder) as found:
        yield found
        found.engine.dispose()
