"""Module sqlops: SQL from the script, and the ``{sql.*}`` transformations. https://www.kamailio.org/docs/modules/stable/modules/sqlops.html"""

from __future__ import annotations

import re
from typing import Any

from kamc.declare import ANY, Module, function, modparam, pv_class, transformation
from kamc.declare.argtypes import Lit
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int, to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database, DbError, Rows
from kamc.runtime.pv.bind import BoundPv

_SPECIAL = re.compile(r"[\\'\"\0]")


def quoted(value: Value) -> str:
    """A text for a statement: quotes, backslashes and NUL are escaped as MySQL reads them."""
    return "'" + _SPECIAL.sub(lambda m: "\\0" if m.group() == "\0" else "\\" + m.group(), to_str(value)) + "'"


#: results: rows came, or none did; a query that failed is -1
_ROWS, _NONE, _FAILED = 1, 2, -1
_DBR = re.compile(r"\s*(?P<result>[^=\s]+)\s*=>\s*(?:(?P<word>rows|cols)|colname\[(?P<name>[^]]+)\]|\[(?P<row>[^],]+),(?P<column>[^]]+)\])\s*")


def _cell(value: Any) -> Value:
    """As the script sees it: Kamailio has no way to show a fraction."""
    return None if isinstance(value, float) or value is None else value if isinstance(value, int | str) else str(value)


class Sqlops(Module):
    name = "sqlops"
    tuning_params = ("tr_buf_size", "log_buf_size", "results_maxsize")

    class Params:
        connect_mode: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.urls: dict[str, str] = {}
        self.connections: dict[str, Database] = {}
        self.results: dict[str, Rows] = {}

    @modparam("sqlcon")
    def set_connection(self, text: str) -> None:
        """``name=>url``."""
        name, arrow, url = text.partition("=>")
        if not arrow or not name.strip() or not url.strip():
            raise ValueError(f"{text!r}: the form is NAME=>URL")
        self.urls[name.strip()] = url.strip()

    @modparam("sqlres")
    def set_result(self, name: str) -> None:
        self.results.setdefault(name, Rows((), []))

    def mod_init(self) -> None:
        for name, url in self.urls.items():
            try:
                self.connections[name] = self.rt.database(url)
            except ConfigError as err:
                if not self.p.connect_mode:
                    raise
                # connect_mode 1: the server starts without its database
                self.rt.log.error("sqlops: %s", err)

    # -- queries ---------------------------------------------------------------------------------------------------------

    def _query(self, connection: str, query: str) -> Rows | None:
        """None when it failed, which is logged."""
        database = self.connections.get(connection)
        if database is None and connection in self.urls:
            try:
                database = self.connections[connection] = self.rt.database(self.urls[connection])
            except ConfigError as err:
                self.rt.log.error("sqlops: %s", err)
                return None
        if database is None:
            self.rt.log.error("sqlops: there is no connection %r", connection)
            return None
        if not query.strip():
            self.rt.log.error("sqlops: an empty query")
            return None
        try:
            return database.raw(query) or Rows((), [])
        except DbError as err:
            self.rt.log.error("sqlops: %s [%s]", err, query[:128])
            return None

    @function(ANY, waits=True)
    def sql_query(self, ctx: Ctx, connection: Lit, query: str, result: Lit = "") -> int:
        """1 with rows, 2 without, -1 when it failed. ``$dbr(result=>...)`` has the rows."""
        found = self._query(connection, query)
        if result:
            self.results[result] = found or Rows((), [])
        return _FAILED if found is None else _ROWS if found.rows else _NONE

    @function(ANY)
    def sql_query_async(self, ctx: Ctx, connection: Lit, query: str) -> int:
        """Send a query and wait for nothing."""
        database = self.connections.get(connection)
        if database is None:
            self.rt.log.error("sqlops: there is no connection %r", connection)
            return -1
        database.post_raw(query, lambda err: self.rt.log.error("sqlops: %s [%s]", err, query[:128]))
        return 1

    @function(ANY, waits=True)
    def sql_xquery(self, ctx: Ctx, connection: Lit, query: str, result: str) -> int:
        """The rows become xavps: ``$xavp(result[i]=>column)``."""
        found = self._query(connection, query)
        if found is None:
            return _FAILED
        if not found.rows:
            return _NONE
        tree: dict[str, Any] = ctx.xavps.setdefault("xavp", {})
        tree[result] = [{name: [_cell(v)] for name, v in zip(found.columns, row, strict=True) if _cell(v) is not None} for row in found.rows]
        return _ROWS

    @function(ANY, waits=True)
    def sql_pvquery(self, ctx: Ctx, connection: Lit, query: str, result: Lit) -> int:
        """Columns go into variables: ``$var(a), $avp(b)``. Of several rows the first one ends up on top."""
        variables: list[BoundPv] = [self.rt.pv_arg(part.strip()) for part in re.split(r"[,;](?![^(]*\))", result) if part.strip()]
        found = self._query(connection, query)
        if found is None:
            return _FAILED
        if not found.rows:
            return _NONE
        if len(found.columns) > len(variables):
            self.rt.log.error("sql_pvquery: %d columns for %d variables", len(found.columns), len(variables))
            return _FAILED
        for row in reversed(found.rows):
            for variable, value in zip(variables, row, strict=False):
                if variable.set is not None:
                    variable.set(ctx, _cell(value))
        return _ROWS

    @function(ANY)
    def sql_result_free(self, ctx: Ctx, result: Lit) -> int:
        self.results[result] = Rows((), [])
        return 1

    # -- results ---------------------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_dbr(cls, spec: PvSpec) -> str | None:
        return None if _DBR.fullmatch(spec.inner or "") else "the form is $dbr(NAME=>rows), cols, colname[N] or [ROW,COLUMN]"

    @pv_class("dbr")
    def pv_dbr(self, spec: PvSpec) -> BoundPv:
        found = _DBR.fullmatch(spec.inner or "")
        assert found is not None
        name, word = found["result"], found["word"]
        if word:
            return BoundPv(lambda ctx: self._size(name, word))
        numbers = [self._number(text) for text in ((found["name"],) if found["name"] else (found["row"], found["column"]))]

        def get(ctx: Ctx) -> Value:
            result = self.results.get(name)
            at = [to_int(n(ctx)) for n in numbers]
            if result is None or min(at) < 0:
                return None
            if len(at) == 1:
                return result.columns[at[0]] if at[0] < len(result.columns) else None
            return _cell(result.rows[at[0]][at[1]]) if at[0] < len(result.rows) and at[1] < len(result.columns) else None

        return BoundPv(get)

    def _size(self, name: str, word: str) -> Value:
        result = self.results.get(name)
        return None if result is None else len(result.rows if word == "rows" else result.columns)

    def _number(self, text: str) -> Any:
        text = text.strip()
        if text.startswith("$"):
            return self.rt.pv(text)
        number = int(text)
        return lambda ctx: number

    @pv_class("sqlrows")
    def pv_sqlrows(self, spec: PvSpec) -> BoundPv:
        """Rows that the last statement of a connection changed: SQLite and text tables do not say."""
        return BoundPv(lambda ctx: "")

    @staticmethod
    @transformation("sql.val", nulls=True)
    def sql_val(value: Value) -> Value:
        """A value as a statement takes it: NULL, a number, or a text in quotes."""
        if value is None:
            return "NULL"
        return str(value) if isinstance(value, int) else quoted(value)

    @staticmethod
    @transformation("sql.val.int", nulls=True)
    def sql_val_int(value: Value) -> Value:
        """The same with 0 for null."""
        if value is None:
            return "0"
        return str(to_int(value)) if isinstance(value, int) else quoted(value)

    @staticmethod
    @transformation("sql.val.str", nulls=True)
    def sql_val_str(value: Value) -> Value:
        """The same with the empty text for null, and numbers as they are."""
        if value is None:
            return "''"
        return str(value) if isinstance(value, int) else quoted(value)


module = Sqlops
