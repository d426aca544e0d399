"""Databases of the configuration: a URL names a driver, which is the module ``db_NAME`` of the same scheme.

Modules ask ``rt.database(url)`` and call :class:`Database`. A query of a driver that blocks runs in a thread while its run is set aside
(``runtime/waits.py``), so a slow server holds up nobody; functions that query are declared with ``waits=True``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from kamc.errors import ConfigError

if TYPE_CHECKING:
    from kamc.runtime.api import Runtime

T = TypeVar("T")
Cell = int | float | str | datetime | None
#: (column, operator, value), all of which have to hold
Where = Sequence[tuple[str, str, Cell]]


#: changes that may wait for one database
_MOST_POSTED: Final = 100_000


class DbError(Exception):
    """A query that failed: the database is away, a table or column is missing, the text is no SQL."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a query. Texts are latin-1, as everywhere in the runtime."""

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


class Connection(Protocol):
    """What a driver gives for a URL. Every method raises DbError."""

    #: whether a call may take long
    blocking: bool

    def select(self, table: str, columns: Sequence[str], where: Where, order: str, limit: int) -> Rows: ...

    def insert(self, table: str, row: Mapping[str, Cell]) -> None: ...

    def update(self, table: str, values: Mapping[str, Cell], where: Where) -> int: ...

    def delete(self, table: str, where: Where) -> int: ...

    def raw(self, text: str) -> Rows | None: ...

    def close(self) -> None: ...


class Database:
    """A database as modules use it."""

    def __init__(self, rt: Runtime, connection: Connection, url: str) -> None:
        self._rt, self._connection, self.url = rt, connection, url
        #: what was posted and is not written, in its order
        self._posted: deque[tuple[Callable[[], object], Callable[[BaseException], None]]] = deque()
        self._writing = False

    def close(self) -> None:
        """What waits is written first."""
        self._write(list(self._posted))
        self._posted.clear()
        self._connection.close()

    def _run(self, function: Callable[..., T], *args: Any) -> T:
        return self._rt.worker.waits.call(function, *args) if self._connection.blocking else function(*args)

    def select(self, table: str, columns: Sequence[str] = (), where: Where = (), *, order: str = "", limit: int = 0) -> Rows:
        """Rows of a table; no columns stand for all of them, a limit of 0 for none. Raises DbError."""
        return self._run(self._connection.select, table, columns, where, order, limit)

    def found(self, module: str, table: str, columns: Sequence[str] = (), where: Where = (), *, limit: int = 0) -> list[tuple[Cell, ...]] | None:
        """Rows as ``select`` gives them. None, and an error in the log, when the database does not answer."""
        try:
            return self.select(table, columns, where, limit=limit).rows
        except DbError as err:
            self._rt.log.error("%s: table %s: %s", module, table, err)
            return None

    def insert(self, table: str, row: Mapping[str, Cell]) -> None:
        self._run(self._connection.insert, table, row)

    def _post(self, work: Callable[[], object], failed: Callable[[BaseException], None]) -> None:
        if not self._connection.blocking:
            self._write([(work, failed)])
            return
        if len(self._posted) >= _MOST_POSTED:
            failed(DbError(f"{shown(self.url)} is too slow: {_MOST_POSTED} changes wait for it"))
            return
        self._posted.append((work, failed))
        if not self._writing:
            self._write_next()

    def _write_next(self) -> None:
        """One thread at a time, so that changes are written in the order in which they were made."""
        batch = list(self._posted)
        self._posted.clear()
        self._writing = bool(batch)
        if batch:
            self._rt.worker.waits.aside_of_runs(lambda: self._write(batch), lambda err: None, self._write_next)

    @staticmethod
    def _write(batch: list[tuple[Callable[[], object], Callable[[BaseException], None]]]) -> None:
        for work, failed in batch:
            try:
                work()
            except Exception as err:
                failed(err)

    def post(self, table: str, row: Mapping[str, Cell], failed: Callable[[BaseException], None]) -> None:
        """Insert without waiting for it, from places that cannot wait; what goes wrong is given to ``failed``."""
        self._post(lambda: self._connection.insert(table, row), failed)

    def post_update(self, table: str, values: Mapping[str, Cell], where: Where, failed: Callable[[BaseException], None]) -> None:
        self._post(lambda: self._connection.update(table, values, where), failed)

    def post_delete(self, table: str, where: Where, failed: Callable[[BaseException], None]) -> None:
        self._post(lambda: self._connection.delete(table, where), failed)

    def post_raw(self, text: str, failed: Callable[[BaseException], None]) -> None:
        """Any SQL whose answer nobody reads, without waiting for it."""
        self._post(lambda: self._connection.raw(text), failed)

    def update(self, table: str, values: Mapping[str, Cell], where: Where) -> int:
        """Returns how many rows were changed."""
        return self._run(self._connection.update, table, values, where)

    def delete(self, table: str, where: Where = ()) -> int:
        return self._run(self._connection.delete, table, where)

    def raw(self, text: str) -> Rows | None:
        """Any SQL; None for one that answers with no rows."""
        return self._run(self._connection.raw, text)

    def check_version(self, table: str, wanted: int) -> None:
        """Whether table ``version`` says what the module was written for. Raises ConfigError."""
        try:
            found = self.select("version", ("table_version",), (("table_name", "=", table),)).rows
        except DbError as err:
            raise ConfigError(f"cannot read the version of table {table} from {shown(self.url)}: {err}") from None
        if not found:
            raise ConfigError(f"table version of {shown(self.url)} does not name {table}")
        if found[0][0] != wanted:
            raise ConfigError(f"table {table} of {shown(self.url)} has version {found[0][0]}, not {wanted}: create it with this version's schema")


#: the Julian day on which the seconds of Unix begin, and the days that a number has to be between to be one
_JULIAN_EPOCH, _JULIAN_DAYS = 2440587.5, (1721425.5, 5373484.5)


def julian_day(value: datetime) -> float:
    """A time as Kamailio's db_sqlite stores it."""
    return value.timestamp() / 86400 + _JULIAN_EPOCH


def epoch_seconds(cell: Cell) -> float:
    """The time that a database holds, as seconds of Unix: a time, a text of one, a number of seconds, a Julian day; nothing is 0. Raises
    ValueError."""
    if cell is None or cell == "":
        return 0.0
    if isinstance(cell, datetime):
        return cell.timestamp()
    if isinstance(cell, str):
        return datetime.fromisoformat(cell).timestamp()
    if isinstance(cell, float) and _JULIAN_DAYS[0] <= cell <= _JULIAN_DAYS[1]:
        return round((cell - _JULIAN_EPOCH) * 86400)
    return float(cell)


class Url(NamedTuple):
    """The parts of a database URL; empty, and 0, for those that it does not name."""

    user: str
    password: str
    host: str
    port: int
    name: str


_URL: Final = re.compile(r"[A-Za-z0-9_]+://(?:(?P<user>[^:@/]*)(?::(?P<password>.*))?@)?(?P<host>\[[^\]]*\]|[^:/@]*)(?::(?P<port>\d+))?/(?P<name>[^/?]+)")


def parse_url(url: str) -> Url:
    """``driver://user:password@host:port/name``, as Kamailio reads it: nothing is percent-encoded, a password may hold anything. Raises DbError."""
    found = _URL.fullmatch(url)
    if found is None:
        raise DbError("the URL is not driver://user:password@host:port/database")
    return Url(found["user"] or "", found["password"] or "", (found["host"] or "").strip("[]"), int(found["port"] or 0), found["name"])


def shown(url: str) -> str:
    """A URL for messages: without the password."""
    scheme, sep, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    return f"{scheme}{sep}{credentials.partition(':')[0]}:***@{host}" if at and ":" in credentials else url


def open_database(rt: Runtime, url: str) -> Database:
    """The database of a URL; the same one for the same URL. Raises ConfigError."""
    known = rt.databases.get(url)
    if known is not None:
        return known
    scheme, sep, _ = url.partition(":")
    if not sep:
        raise ConfigError(f"{url!r} is no database URL: DRIVER://user:password@host/name")
    driver = rt.module(f"db_{scheme}")
    if driver is None:
        raise ConfigError(f"database {shown(url)} needs module db_{scheme}, which the configuration does not load")
    try:
        database = Database(rt, driver.connect(url), url)
    except DbError as err:
        raise ConfigError(f"cannot open database {shown(url)}: {err}") from None
    rt.databases[url] = database
    return database
