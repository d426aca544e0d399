"""Module db_sqlite: ``sqlite:///relative/path`` (from the folder of the configuration) or ``sqlite:////absolute/path``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from kamc.declare import Module, modparam
from kamc.errors import ConfigError
from kamc.runtime.db import Connection, DbError, julian_day

#: up to the first semicolon outside of quotes and comments; each stretch is read once
_FIRST: Final = re.compile(r"""(?:[^;'"/-]++|'[^']*+(?:'|\Z)|"[^"]*+(?:"|\Z)|--[^\n]*+|/\*(?:.*?\*/|.*)|[/-])*+;""", re.S)
_JOURNALS = ("WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF")


def first_statement(text: str) -> str:
    """SQLite executes the first statement of a text; what follows is not looked at, so nothing can be smuggled in behind it."""
    match = _FIRST.match(text)
    return match[0] if match is not None else text


class DbSqlite(Module):
    name = "db_sqlite"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.readonly: set[str] = set()
        self.journals: dict[str, str] = {}
        self.timeouts: dict[str, int] = {}
        self.open: dict[str, Connection] = {}

    @modparam("db_set_readonly")
    def set_readonly(self, path: str) -> None:
        self.readonly.add(path)

    @modparam("db_set_journal_mode")
    def set_journal(self, text: str) -> None:
        """``/path=WAL``."""
        path, _, mode = text.partition("=")
        if mode.upper() not in _JOURNALS:
            raise ValueError(f"{text!r}: the form is FILE=MODE, with {', '.join(_JOURNALS)}")
        self.journals[path] = mode.upper()

    @modparam("db_set_busy_timeout")
    def set_timeout(self, text: str) -> None:
        """``/path=milliseconds``."""
        path, _, value = text.partition("=")
        if not value.isdigit():
            raise ValueError(f"{text!r}: the form is FILE=MILLISECONDS")
        self.timeouts[path] = int(value)

    def connect(self, url: str) -> Connection:
        """Raises DbError, and ConfigError when SQLAlchemy is not installed."""
        try:
            import sqlalchemy as sa

            from kamc.runtime.dbsql import SqlConnection
        except ImportError:
            raise ConfigError("db_sqlite needs SQLAlchemy: pip install 'kamc[db]'") from None
        path = url.partition("://")[2].removeprefix("/")
        if not path:
            raise DbError("the URL names no file: sqlite:///path")
        known = self.open.get(path)
        if known is not None:
            return known
        whole = path if path.startswith("/") else str(Path(self.rt.base or ".") / path)
        name = f"file:{whole}" + ("?mode=ro" if path in self.readonly else "")
        place = sa.URL.create("sqlite", database=name, query={"uri": "true"})
        connection = SqlConnection(place, times=julian_day, statement=first_statement, connect_args={"timeout": self.timeouts.get(path, 500) / 1000})
        if path in self.journals:
            connection.raw(f"PRAGMA journal_mode={self.journals[path]}")
        else:
            connection.raw("SELECT 1")
        self.open[path] = connection
        return connection

    def destroy(self) -> None:
        for connection in self.open.values():
            connection.close()


module = DbSqlite
