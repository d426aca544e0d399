"""SQL databases through SQLAlchemy: one connection class for SQLite, MySQL and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from kamc.runtime.db import Cell, DbError, Rows, Where

T = TypeVar("T")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda c, v: c == v, "!=": lambda c, v: c != v, "<>": lambda c, v: c != v, "<": lambda c, v: c < v, ">": lambda c, v: c > v,
    "<=": lambda c, v: c <= v, ">=": lambda c, v: c >= v,
}  # fmt: skip


def text_of_time(value: datetime) -> Cell:
    return value.strftime("%Y-%m-%d %H:%M:%S")


def _characters(value: Cell) -> Cell:
    """Our texts are bytes; a database wants characters."""
    if not isinstance(value, str):
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _in(value: Any) -> Cell:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, bool):
        return int(value)
    return str(value).encode("utf-8", "surrogateescape").decode("latin-1")


class SqlConnection:
    """A pool of connections. Every call is a transaction of its own."""

    blocking = True

    def __init__(self, url: sa.URL, *, times: Callable[[datetime], Cell] = text_of_time, statement: Callable[[str], str] = str,
                 failed: Callable[[], None] = lambda: None, **options: Any) -> None:  # fmt: skip
        """``times`` makes what the database keeps of a time, ``statement`` what it executes of a text of the script; ``failed`` hears of every failure."""
        self._times, self._statement, self._failed = times, statement, failed
        try:
            self.engine = sa.create_engine(url, **options)
        except (SQLAlchemyError, ImportError) as err:
            raise DbError(str(err)) from None

    def _do(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as err:
            self._failed()
            raise DbError(str(getattr(err, "orig", None) or err)) from None

    def _out(self, value: Cell) -> Cell:
        return self._times(value) if isinstance(value, datetime) else _characters(value)

    def _conditions(self, where: Where) -> list[Any]:
        out = []
        for column, operator, value in where:
            if operator not in _OPERATORS:
                raise DbError(f"unknown operator {operator!r}")
            out.append(_OPERATORS[operator](sa.column(column), self._out(value)))
        return out

    @staticmethod
    def _rows(result: sa.CursorResult[Any]) -> Rows:
        return Rows(tuple(result.keys()), [tuple(_in(v) for v in row) for row in result])

    def select(self, table: str, columns: Sequence[str], where: Where, order: str, limit: int) -> Rows:
        wanted: list[Any] = [sa.column(c) for c in columns] or [sa.literal_column("*")]
        statement = sa.select(*wanted).select_from(sa.table(table)).where(*self._conditions(where))
        if order:
            statement = statement.order_by(sa.column(order))
        if limit:
            statement = statement.limit(limit)
        return self._do(lambda c: self._rows(c.execute(statement)))

    def insert(self, table: str, row: Mapping[str, Cell]) -> None:
        target = sa.table(table, *(sa.column(name) for name in row))
        self._do(lambda c: c.execute(sa.insert(target).values({k: self._out(v) for k, v in row.items()})))

    def update(self, table: str, values: Mapping[str, Cell], where: Where) -> int:
        target = sa.table(table, *(sa.column(name) for name in values))
        statement = sa.update(target).where(*self._conditions(where)).values({k: self._out(v) for k, v in values.items()})
        return self._do(lambda c: c.execute(statement).rowcount)

    def delete(self, table: str, where: Where) -> int:
        statement = sa.delete(sa.table(table)).where(*self._conditions(where))
        return self._do(lambda c: c.execute(statement).rowcount)

    def raw(self, text: str) -> Rows | None:
        def work(connection: sa.Connection) -> Rows | None:
            # a percent sign stands for itself
            result = connection.execution_options(no_parameters=True).exec_driver_sql(text)
            return self._rows(result) if result.returns_rows else None

        characters = _characters(text)
        assert isinstance(characters, str)
        text = self._statement(characters)
        return self._do(work)

    def close(self) -> None:
        self.engine.dispose()
