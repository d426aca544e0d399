"""Tables of a database behind hash tables: loaded at the start and on request, written back at the end (``dbmode``) and on request."""

from __future__ import annotations

from typing import Any, Final

from kamc.declare.values import to_str
from kamc.runtime.db import Cell, Database
from stdlib_modules.htable.tables import HashTable, Item

#: of column key_type: the values of one name become NAME[0], NAME[1] ... and their number
_ARRAY: Final = 1
#: of column value_type
_NUMBER: Final = 1
_VERSION: Final = 2


def _leading_number(text: str) -> int:
    digits = text.strip()
    sign, digits = (-1, digits[1:]) if digits[:1] == "-" else (1, digits)
    end = next((i for i, c in enumerate(digits) if not c.isdigit()), len(digits))
    return sign * int(digits[:end] or 0)


class HtableDatabase:
    """See the module. ``p`` holds the parameters of htable. Methods raise DbError."""

    def __init__(self, db: Database, p: Any) -> None:
        self._db, self._p = db, p
        self._columns = (p.key_name_column, p.key_type_column, p.value_type_column, p.key_value_column)
        self._dated = bool(p.db_expires)

    def check(self, table: HashTable) -> None:
        """Raises ConfigError for a table that was made for another version of htable. One with columns of its own has no version."""
        if not table.columns:
            self._db.check_version(table.dbtable, _VERSION)

    def load(self, table: HashTable) -> None:
        """Make the items those of the database."""
        found = self._packed(table) if table.columns else self._typed(table)
        table.rows.clear()
        for key, (value, expires) in found.items():
            table.put(key, value)
            if expires and table.autoexpire:
                table.rows.set_expires(key, expires)

    def _packed(self, table: HashTable) -> dict[str, tuple[Item, float]]:
        """Columns of the cfg's choice: the first is the key, the others are joined to the value."""
        rows = self._db.select(table.dbtable, table.columns).rows

        def text(cell: Cell) -> str:
            return table.null if cell is None else str(cell)

        return {text(row[0]): (table.delimiter.join(map(text, row[1:])), 0) for row in rows}

    def _typed(self, table: HashTable) -> dict[str, tuple[Item, float]]:
        p, now = self._p, table.clock()
        columns = (*self._columns, p.expires_column) if self._dated else self._columns
        found: dict[str, tuple[Item, float]] = {}
        counts: dict[str, int] = {}
        for name, key_type, value_type, cell, *rest in self._db.select(table.dbtable, columns).rows:
            expires = _leading_number(str(rest[0] or 0)) if rest else 0
            if 0 < expires < now and table.autoexpire:
                continue
            key, text = _text(name), _text(cell)
            if key_type == _ARRAY:
                at = counts[key] = counts.get(key, -1) + 1
                key = f"{key}[{at}]"
            found[key] = (_leading_number(text) if value_type == _NUMBER else text, max(0, expires))
        for name, last in counts.items():
            found[name + p.array_size_suffix] = (last + 1, 0)
        return found

    def store(self, table: HashTable) -> None:
        """Make the rows of the database those of the table. One with columns of its own is not written."""
        self._db.delete(table.dbtable)
        for key, value in list(table.items()):
            row: dict[str, Cell] = dict(zip(self._columns, (key, 0, int(not isinstance(value, str)), to_str(value)), strict=True))
            if self._dated:
                row[self._p.expires_column] = int(table.rows.expires(key) or 0)
            self._db.insert(table.dbtable, row)


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)
