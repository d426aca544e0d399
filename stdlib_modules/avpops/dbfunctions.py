"""The functions of avpops that use a database."""

from __future__ import annotations

from typing import Any, Final

from kamc.declare import Module, Routes, function, modparam
from kamc.declare.argtypes import Lit
from kamc.declare.values import parse_int, to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Cell, Database, DbError
from stdlib_modules.avpops.preferences import (
    NAME_IS_NUMBER,
    Columns,
    Scheme,
    Wanted,
    attribute_of,
    kind_of,
    named,
    read_row,
    scheme,
    source,
    wanted,
)

ROUTES: Final = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH | Routes.LOCAL
#: of a context: the values that are in the database already, as (key, value)
_STORED: Final = "avpops stored"


def _cell(value: Cell) -> int | str | None:
    return value if isinstance(value, int | str) else None if value is None or isinstance(value, float) else str(value)


class DbFunctions(Module):
    """Base of the module: ``avp_db_load``, ``avp_db_store``, ``avp_db_delete``, ``avp_db_query``."""

    class Params:
        db_url: str = ""
        avp_table: str = ""
        use_domain: int = 0
        uuid_column: str = "uuid"
        attribute_column: str = "attribute"
        value_column: str = "value"
        type_column: str = "type"
        username_column: str = "username"
        domain_column: str = "domain"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self._scheme_texts: list[str] = []
        self._schemes: dict[str, Scheme] = {}

    @modparam("db_scheme")
    def add_scheme(self, value: str) -> None:
        self._scheme_texts.append(value)

    def mod_init(self) -> None:
        p = self.p
        self._database: Database | None = self.rt.database(p.db_url) if p.db_url else None
        self._columns = Columns(p.uuid_column, p.username_column, p.domain_column, p.attribute_column, p.value_column, p.type_column)
        if self._database is not None and not p.avp_table:
            raise ConfigError("avpops: db_url is set and avp_table is not")
        for text in self._scheme_texts:
            try:
                made = scheme(text, self._columns)
            except ValueError as err:
                raise ConfigError(f"avpops: {err}") from None
            if made.name in self._schemes:
                raise ConfigError(f"avpops: scheme {made.name} is defined twice")
            self._schemes[made.name] = made

    # -- what the compiler asks -------------------------------------------------------------------------------------------

    @classmethod
    def check_call_avp_db_load(cls, args: tuple[Any, ...]) -> str | None:
        try:
            source(args[0])
            wanted(args[1])
        except ValueError as err:
            return str(err)
        return None

    @classmethod
    def check_call_avp_db_store(cls, args: tuple[Any, ...]) -> str | None:
        if cls.check_call_avp_db_load(args) is None and wanted(args[1]).scheme:
            return "only avp_db_load() takes a scheme"
        return cls.check_call_avp_db_load(args)

    check_call_avp_db_delete = check_call_avp_db_store

    @classmethod
    def check_call_avp_db_query(cls, args: tuple[Any, ...]) -> str | None:
        try:
            targets(args[1] if len(args) > 1 else "")
        except ValueError as err:
            return str(err)
        return None

    # -- functions -------------------------------------------------------------------------------------------------------

    def _owner(self, ctx: Ctx, text: str, columns: Columns) -> list[tuple[str, str, Cell]] | None:
        what = source(text)
        value = what.text if what.literal else self.rt.pv(what.text)(ctx)
        if value is None:
            self.rt.log.error("avpops: %s has no value", what.text)
            return None
        try:
            return what.where(to_str(value), columns, bool(self.p.use_domain))
        except ValueError as err:
            self.rt.log.error("avpops: %s", err)
            return None

    def _base(self) -> Database | None:
        if self._database is None:
            self.rt.log.error("avpops: parameter db_url is not set")
        return self._database

    def _table(self, what: Wanted) -> str:
        return what.table or str(self.p.avp_table)

    @function(ROUTES, waits=True)
    def avp_db_load(self, ctx: Ctx, source: Lit, name: Lit) -> int:
        """-1 when there is none, 1 when rows were read; what a row should hold by its type and does not is left out."""
        what, database = wanted(name), self._base()
        plan = self._schemes.get(what.scheme)
        if what.scheme and plan is None:
            self.rt.log.error("avp_db_load: scheme %s is not defined", what.scheme)
            return -1
        owner = self._owner(ctx, source, plan.columns if plan is not None else self._columns)
        if database is None or owner is None:
            return -1
        try:
            if plan is not None:
                return self._load_column(ctx, database, plan, what.key, owner)
            return self._load_rows(ctx, database, what, owner)
        except DbError as err:
            self.rt.log.error("avp_db_load: %s", err)
            return -1

    def _load_column(self, ctx: Ctx, database: Database, plan: Scheme, key: str, owner: list[tuple[str, str, Cell]]) -> int:
        rows = database.select(plan.table or self.p.avp_table, (plan.columns.value,), owner).rows
        for (cell,) in rows:
            value = parse_int(to_str(_cell(cell))) or 0 if plan.number else to_str(_cell(cell))
            self._push(ctx, key, value)
        return 1 if rows else -1

    def _load_rows(self, ctx: Ctx, database: Database, what: Wanted, owner: list[tuple[str, str, Cell]]) -> int:
        columns = self._columns
        rows = database.select(self._table(what), (columns.attribute, columns.value, columns.type), named(owner, what.key, columns)).rows
        for attribute, cell, kind in rows:
            number = kind if isinstance(kind, int) else parse_int(to_str(_cell(kind))) or 0
            if what.only and (what.only == "i") != bool(number & NAME_IS_NUMBER):
                continue
            try:
                key, value = read_row(to_str(_cell(attribute)), cell, number)
            except ValueError as err:
                self.rt.log.error("avp_db_load: %s", err)
                continue
            self._push(ctx, key, value)
        return 1 if rows else -1

    @staticmethod
    def _push(ctx: Ctx, key: str, value: int | str) -> None:
        ctx.avps.setdefault(key, []).append(value)
        stored: set[tuple[str, int | str]] | None = ctx.recall(_STORED)
        if stored is None:
            ctx.remember(_STORED, {(key, value)})
        else:
            stored.add((key, value))

    @function(ROUTES, waits=True)
    def avp_db_store(self, ctx: Ctx, source: Lit, name: Lit) -> int:
        """The values that have not been loaded from there or stored before; -1 when there is none of them."""
        what, database = wanted(name), self._base()
        columns = self._columns
        owner = self._owner(ctx, source, columns)
        if database is None or owner is None:
            return -1
        row: dict[str, Cell] = {columns.uuid: "", columns.username: "", columns.domain: "", **{column: value for column, _, value in owner}}
        stored: set[tuple[str, int | str]] = ctx.recall(_STORED, set())
        keys = [what.key] if what.key else [k for k in reversed(ctx.avps) if not what.only or (what.only == "i") == k.startswith("i:")]
        done = 0
        for key in keys:
            for value in reversed(list(ctx.avps.get(key, ()))):
                if not isinstance(value, int | str) or (key, value) in stored:
                    continue
                cells: dict[str, Cell] = {columns.attribute: attribute_of(key), columns.value: to_str(value), columns.type: kind_of(key, value)}
                try:
                    database.insert(self._table(what), {**row, **cells})
                except DbError as err:
                    self.rt.log.error("avp_db_store: %s", err)
                    continue
                stored.add((key, value))
                done += 1
        ctx.remember(_STORED, stored)
        return 1 if done else -1

    @function(ROUTES, waits=True)
    def avp_db_delete(self, ctx: Ctx, source: Lit, name: Lit) -> int:
        """All of the owner's, or those of one name; 1 also when there was none."""
        what, database = wanted(name), self._base()
        owner = self._owner(ctx, source, self._columns)
        if database is None or owner is None:
            return -1
        try:
            database.delete(self._table(what), named(owner, what.key, self._columns))
        except DbError as err:
            self.rt.log.error("avp_db_delete: %s", err)
            return -1
        return 1

    @function(ROUTES, waits=True)
    def avp_db_query(self, ctx: Ctx, query: str, dest: Lit = "") -> int:
        """The columns of the answer go into AVPs, ``$avp(i:1)`` and on when none are named; the first row ends up on top. -2: no rows."""
        database = self._base()
        if database is None:
            return -1
        keys = targets(dest)
        try:
            found = database.raw(query)
        except DbError as err:
            self.rt.log.error("avp_db_query: %s", err)
            return -1
        if found is None or not found.rows:
            return -2
        names = keys or [f"i:{number}" for number in range(1, len(found.columns) + 1)]
        for row in reversed(found.rows):
            for key, cell in zip(names, row, strict=False):
                value = _cell(cell)
                if value is not None:
                    ctx.avps.setdefault(key, []).append(value)
        return 1


def targets(text: str) -> list[str]:
    """``$avp(a);$avp(b)`` as keys. Raises ValueError."""
    keys = []
    for part in text.split(";"):
        if part.strip():
            what = wanted(part.strip())
            if not what.key or what.table or what.scheme:
                raise ValueError(f"{part.strip()!r} is no $avp(name)")
            keys.append(what.key)
    return keys
