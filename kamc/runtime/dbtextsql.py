"""SQL over the tables of db_text: SQLite answers it, with the tables that a statement names in its memory.

More than Kamailio's own reading of SQL, which knows ``select`` with conditions and one order, and ``delete``. Texts may stand in single or in double quotes.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from kamc.runtime.db import Cell, DbError, Rows

if TYPE_CHECKING:
    from kamc.runtime.dbtext import Column, TextTable

_TYPES: Final = {"int": "INTEGER", "double": "REAL"}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _columns(table: TextTable) -> str:
    """Their definitions; numbers that a table gives itself are given by SQLite, as long as each is there once."""
    auto = next((at for at, column in enumerate(table.columns) if column.auto and column.kind == "int"), -1)
    if auto >= 0 and len({row[auto] for row in table.rows}) < len(table.rows):
        auto = -1
    return ", ".join(f"{_quoted(column.name)} {_TYPES.get(column.kind, 'TEXT')}{' PRIMARY KEY' if at == auto else ''}" for at, column in enumerate(table.columns))


def execute(text: str, known: Callable[[str], TextTable | None], keep: Callable[[TextTable, Sequence[Sequence[Cell]]], None]) -> tuple[Rows | None, int]:
    """Run a statement over the tables that it names. The rows that it gives, None for one that gives none, and how many it has changed; what has
    changed is given to ``keep``. Raises DbError."""
    tables = [table for name in dict.fromkeys(re.findall(r"[\w.-]+", text)) if (table := known(name)) is not None]
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for table in tables:
            name = _quoted(table.path.name)
            database.execute(f"CREATE TABLE {name} ({_columns(table)})")
            database.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(table.columns))})", table.rows)
        before = database.total_changes
        cursor = database.execute(text)
        found = Rows(tuple(c[0] for c in cursor.description), cursor.fetchall()) if cursor.description is not None else None
        changed = database.total_changes - before
        for table in tables if changed else ():
            rows = database.execute(f"SELECT * FROM {_quoted(table.path.name)}").fetchall()
            if rows != [tuple(row) for row in table.rows]:
                keep(table, rows)
        return found, changed
    except (sqlite3.Error, sqlite3.Warning) as err:
        raise DbError(f"{text}: {err}") from None
    finally:
        database.close()


def shown(rows: Rows, tables: Sequence[Sequence[Column]], line: Callable[[list[Cell]], str]) -> list[str]:
    """Rows as Kamailio's ``db_text.query`` prints them: what the columns are, and a line for each as it would lie in a file."""
    kinds = {column.name: column.text for columns in tables for column in columns}
    header, total = " ".join(kinds.get(name, f"{name}(string)") for name in rows.columns), len(rows.rows)
    return [header, "", *(line(list(row)).rstrip("\n") for row in rows.rows), "", f"total rows {total} / {total}"]
