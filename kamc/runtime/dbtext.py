"""Tables in text files, as Kamailio's db_text has them: a line of column definitions, then a row per line, cells between colons.

https://www.kamailio.org/docs/modules/stable/modules/db_text.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from kamc.runtime import dbtextsql
from kamc.runtime.db import Cell, DbError, Rows, Where

_COLUMN = re.compile(r"([^\s(]+)\((int|double|string|str|blob|date|datetime|timestamp)((?:,(?:auto|null))*)\)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_UNESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0", "\\": "\\\\"}


@dataclass(slots=True)
class Column:
    name: str
    kind: str
    auto: bool
    null: bool
    text: str


@dataclass(slots=True)
class TextTable:
    """A table and the file that it lies in."""

    path: Path
    columns: list[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    stamp: tuple[int, int] = (0, 0)

    def index(self, name: str) -> int:
        for position, column in enumerate(self.columns):
            if column.name == name:
                return position
        raise DbError(f"table {self.path.name} has no column {name}")


def split_cells(line: str, delimiter: str) -> list[str]:
    """Cells with their escapes resolved."""
    cells, current, at = [], "", 0
    while at < len(line):
        char = line[at]
        if char == "\\" and at + 1 < len(line):
            following = line[at + 1]
            current += _ESCAPES.get(following, following)
            at += 2
            continue
        if char == delimiter:
            cells.append(current)
            current = ""
        else:
            current += char
        at += 1
    return [*cells, current]


def _cell(text: str, column: Column, where: str) -> Cell:
    if not text and (column.null or column.kind in ("int", "double", "datetime", "date", "timestamp")):
        return None
    try:
        return int(text) if column.kind in ("int",) else float(text) if column.kind == "double" else text
    except ValueError:
        raise DbError(f"{where}: {text!r} is no {column.kind} for column {column.name}") from None


def read_table(path: Path, delimiter: str) -> TextTable:
    """Raises DbError with file and line."""
    try:
        lines = path.read_text("latin-1").split("\n")
        stat = path.stat()
    except OSError as err:
        raise DbError(f"cannot read table {path}: {err.strerror or err}") from None
    columns = []
    for word in re.split(r"\)\s*", lines[0].strip()):
        if not word:
            continue
        found = _COLUMN.fullmatch(word + ")")
        if found is None:
            raise DbError(f"{path}:1: {word + ')'!r} is no column, which has the form name(type[,auto][,null])")
        columns.append(Column(found[1], found[2], "auto" in found[3], "null" in found[3], found[0]))
    table = TextTable(path, columns, stamp=(stat.st_mtime_ns, stat.st_size))
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = split_cells(line.rstrip("\r"), delimiter)
        if len(cells) == len(columns) + 1 and not cells[-1]:
            cells.pop()  # a row may end with a delimiter
        if len(cells) != len(columns):
            raise DbError(f"{path}:{number}: {len(cells)} cells for {len(columns)} columns")
        table.rows.append([_cell(text, column, f"{path}:{number}") for text, column in zip(cells, columns, strict=True)])
    return table


def _written(value: Cell, delimiter: str) -> str:
    text = "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
    return "".join("\\" + c if c == delimiter else _UNESCAPES.get(c, c) for c in text)


def _plain(value: Cell) -> str:
    """As a cell is read from a file; a time is its second."""
    return "" if value is None else str(int(value.timestamp())) if isinstance(value, datetime) else str(value)


def _holds(cell: Cell, operator: str, value: Cell) -> bool:
    if cell is None or value is None:
        return cell is value if operator == "=" else value is None and cell is not None and operator in ("!=", "<>")
    if isinstance(cell, int | float) and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return False
    elif isinstance(cell, str) and not isinstance(value, str):
        value = str(value)
    if operator == "=":
        return cell == value
    if operator in ("!=", "<>"):
        return cell != value
    if operator == "<":
        return cell < value  # type: ignore[operator]
    if operator == ">":
        return cell > value  # type: ignore[operator]
    if operator == "<=":
        return cell <= value  # type: ignore[operator]
    if operator == ">=":
        return cell >= value  # type: ignore[operator]
    raise DbError(f"unknown operator {operator!r}")


class TextDatabase:
    """A folder of tables. A file that changed on disk is read again; a change of ours is in the file when the call returns."""

    blocking = False

    def __init__(self, folder: Path, delimiter: str) -> None:
        if not folder.is_dir():
            raise DbError(f"{folder} is no folder")
        self.folder, self.delimiter = folder, delimiter
        self._tables: dict[str, TextTable] = {}

    def table(self, name: str) -> TextTable:
        if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
            raise DbError(f"{name!r} is no table name")
        path = self.folder / name
        known = self._tables.get(name)
        if known is not None:
            try:
                stat = path.stat()
                if (stat.st_mtime_ns, stat.st_size) == known.stamp:
                    return known
            except OSError:
                pass
        table = self._tables[name] = read_table(path, self.delimiter)
        return table

    @staticmethod
    def _matching(table: TextTable, where: Where) -> list[list[Cell]]:
        tests = [(table.index(column), operator, value) for column, operator, value in where]
        return [row for row in table.rows if all(_holds(row[i], operator, value) for i, operator, value in tests)]

    def select(self, table: str, columns: Sequence[str], where: Where, order: str, limit: int) -> Rows:
        found = self.table(table)
        rows = self._matching(found, where)
        if order:
            key = found.index(order)
            rows = sorted(rows, key=lambda row: (row[key] is not None, row[key]))
        names = tuple(columns) or tuple(c.name for c in found.columns)
        wanted = [found.index(name) for name in names]
        return Rows(names, [tuple(row[i] for i in wanted) for row in rows[: limit or None]])

    def _line(self, row: list[Cell]) -> str:
        return self.delimiter.join(_written(value, self.delimiter) for value in row) + "\n"

    def _save(self, table: TextTable) -> None:
        header = " ".join(c.text for c in table.columns) + "\n"
        new = table.path.with_name(f".{table.path.name}.new")
        try:
            new.write_text(header + "".join(map(self._line, table.rows)), encoding="latin-1", errors="replace")
            os.replace(new, table.path)
            self._stamp(table)
        except OSError as err:
            raise DbError(f"cannot write table {table.path}: {err.strerror or err}") from None

    @staticmethod
    def _stamp(table: TextTable) -> None:
        stat = table.path.stat()
        table.stamp = stat.st_mtime_ns, stat.st_size

    def insert(self, table: str, row: Mapping[str, Cell]) -> None:
        found = self.table(table)
        cells: list[Cell] = [None] * len(found.columns)
        for name, value in row.items():
            index = found.index(name)
            cells[index] = _cell(_plain(value), found.columns[index], table)
        for index, column in enumerate(found.columns):
            if column.auto and cells[index] is None:
                cells[index] = 1 + max((value for r in found.rows if isinstance(value := r[index], int)), default=0)
            elif cells[index] is None and not column.null and column.kind in ("int", "double"):
                # a file with an empty number could not be read again
                cells[index] = 0
        found.rows.append(cells)
        try:
            with open(found.path, "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(self._line(cells).encode("latin-1", "replace"))
            self._stamp(found)
        except OSError as err:
            raise DbError(f"cannot write table {found.path}: {err.strerror or err}") from None

    def update(self, table: str, values: Mapping[str, Cell], where: Where) -> int:
        found = self.table(table)
        rows = self._matching(found, where)
        for name, value in values.items():
            index = found.index(name)
            cell = _cell(_plain(value), found.columns[index], table)
            for row in rows:
                row[index] = cell
        if rows:
            self._save(found)
        return len(rows)

    def delete(self, table: str, where: Where) -> int:
        found = self.table(table)
        gone = {id(row) for row in self._matching(found, where)}
        found.rows = [row for row in found.rows if id(row) not in gone]
        if gone:
            self._save(found)
        return len(gone)

    def raw(self, text: str) -> Rows | None:
        return self.execute(text)[0]

    def execute(self, text: str) -> tuple[Rows | None, int]:
        """A statement in SQL: its rows, None where it gives none, and how many it has changed."""
        return dbtextsql.execute(text, self._known, self._replace)

    def _known(self, name: str) -> TextTable | None:
        return self.table(name) if not name.startswith(".") and (self.folder / name).is_file() else None

    def _replace(self, table: TextTable, rows: Sequence[Sequence[Cell]]) -> None:
        """Other rows for a table, each cell as a file would have it."""
        table.rows = [[_cell(_plain(cell), column, table.path.name) for cell, column in zip(row, table.columns, strict=True)] for row in rows]
        self._save(table)

    def shown(self, rows: Rows) -> list[str]:
        """Rows as text, under the definitions of their columns."""
        return dbtextsql.shown(rows, [t.columns for t in self._tables.values()], self._line)

    def close(self) -> None:
        self._tables.clear()
