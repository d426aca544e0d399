"""Module htable: named tables of the script, ``$sht(table=>key)``.

The tables lie in the worker's store, so they outlive a reload. Not there: replication by DMQ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Module, function, modparam, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import DbError
from kamc.runtime.pv.bind import BoundPv
from stdlib_modules.htable.commands import Commands
from stdlib_modules.htable.database import HtableDatabase
from stdlib_modules.htable.tables import HashTable, Item, counted, matcher, parse_table, shown


class _Cursor:
    """An iterator of the script: the keys that there were when it started, and the item in hand."""

    __slots__ = ("at", "keys", "table")

    def __init__(self, table: HashTable) -> None:
        self.table = table
        self.keys = sorted((key for key, _ in table.items()), key=table.order)
        self.at = -1

    @property
    def key(self) -> str | None:
        return self.keys[self.at] if 0 <= self.at < len(self.keys) else None

    def next(self) -> bool:
        self.at += 1
        while self.at < len(self.keys) and self.table.rows.get(self.keys[self.at]) is None:
            self.at += 1
        return self.at < len(self.keys)


class Htable(Commands, Module):
    name = "htable"
    tuning_params = ("fetch_rows", "timer_procs", "dmq_init_sync", "dmq_peer_id")

    class Params:
        db_url: str = ""
        key_name_column: str = "key_name"
        key_type_column: str = "key_type"
        value_type_column: str = "value_type"
        key_value_column: str = "key_value"
        expires_column: str = "expires"
        array_size_suffix: str = "::size"
        db_expires: int = 0
        event_callback_mode: int = 0
        timer_interval: int = 20
        enable_dmq: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.tables: dict[str, HashTable] = {}
        self.cursors: dict[str, _Cursor] = {}
        #: the item that an expired event is about
        self.record: tuple[str, Item] | None = None
        self.database: HtableDatabase | None = None
        #: tables that no earlier generation has filled
        self.fresh: list[HashTable] = []

    @modparam("htable")
    def set_htable(self, text: str) -> None:
        table = parse_table(text)
        if table.name in self.tables:
            raise ValueError(f"table {table.name} is defined already")
        if not self.rt.store.has(f"htable.{table.name}"):
            self.fresh.append(table)
        table.rows = self.rt.store.table(f"htable.{table.name}", collected=True)
        table.clock = self.rt.wall_time
        self.tables[table.name] = table

    def mod_init(self) -> None:
        if self.p.enable_dmq:
            raise ConfigError("htable: replication by DMQ is not implemented")
        if self.p.event_callback_mode not in (0, 1):
            raise ConfigError("htable: event_callback_mode is 0 (mod-init before the workers) or 1 (in the first worker)")
        if self.p.db_url:
            self._open_database()
        if any(t.autoexpire for t in self.tables.values()):
            self.rt.every(max(1, self.p.timer_interval), self.expire, once=True)

    def _open_database(self) -> None:
        """Load what has a table in the database. Raises ConfigError."""
        self.database = HtableDatabase(self.rt.database(self.p.db_url), self.p)
        for table in self.tables.values():
            if not table.dbtable:
                continue
            self.database.check(table)
            if table in self.fresh:
                try:
                    self.database.load(table)
                except DbError as err:
                    raise ConfigError(f"htable: table {table.name} from {table.dbtable}: {err}") from None

    def destroy(self) -> None:
        for table in self.tables.values():
            if self.database is not None and table.dbtable and table.dbmode and not table.columns:
                try:
                    self.database.store(table)
                except DbError as err:
                    self.rt.log.error("htable: table %s is not written to %s: %s", table.name, table.dbtable, err)

    def expire(self) -> None:
        """Drop what is over its time, telling ``event_route[htable:expired:TABLE]`` of each item."""
        for table in self.tables.values():
            over = table.rows.take_expired()
            event = f"htable:expired:{table.name}"
            if over and self.rt.has_event(event):
                for item in over:
                    self.record = item
                    self.rt.worker.run_event(event)
                self.record = None

    def _table(self, name: str) -> HashTable | None:
        table = self.tables.get(name)
        if table is None:
            self.rt.log.error("htable: there is no table %s", name)
        return table

    # -- variables -------------------------------------------------------------------------------------------------------

    def _parts(self, spec: PvSpec) -> tuple[HashTable | None, Callable[[Ctx], str]]:
        name, _, key = (spec.inner or "").partition("=>")
        key = key.strip()
        return self.tables.get(name.strip()), self.rt.format(key) if "$" in key else self.rt.text(key)

    @classmethod
    def check_pv_sht(cls, spec: PvSpec) -> str | None:
        return None if "=>" in (spec.inner or "") else "the name has the form table=>key"

    check_pv_shtex = check_pv_shtcn = check_pv_shtcv = check_pv_shtinc = check_pv_shtdec = check_pv_sht

    @pv_class("sht", set=True)
    def pv_sht(self, spec: PvSpec) -> BoundPv:
        table, key = self._parts(spec)
        if table is None:
            return self._nowhere(spec)
        return BoundPv(lambda ctx: table.get(key(ctx)), lambda ctx, value: table.put(key(ctx), value))

    @pv_class("shtex", set=True)
    def pv_shtex(self, spec: PvSpec) -> BoundPv:
        table, key = self._parts(spec)
        if table is None:
            return self._nowhere(spec)
        return BoundPv(lambda ctx: table.seconds_left(key(ctx)), lambda ctx, value: table.set_seconds(key(ctx), to_int(value)))

    def _nowhere(self, spec: PvSpec) -> BoundPv:
        """A variable of a table that is not defined: reads give nothing, writes are lost with an error line."""

        def lost(ctx: Ctx, value: Value) -> None:
            self.rt.log.error("htable: %s: there is no such table", spec.text)

        return BoundPv(lambda ctx: None, lost)

    @pv_class("shtinc")
    def pv_shtinc(self, spec: PvSpec) -> BoundPv:
        return self._counter(spec, 1)

    @pv_class("shtdec")
    def pv_shtdec(self, spec: PvSpec) -> BoundPv:
        return self._counter(spec, -1)

    def _counter(self, spec: PvSpec, step: int) -> BoundPv:
        table, key = self._parts(spec)
        return BoundPv(lambda ctx: None if table is None else table.add(key(ctx), step))

    @pv_class("shtcn")
    def pv_shtcn(self, spec: PvSpec) -> BoundPv:
        return self._count(spec, lambda key, value: key)

    @pv_class("shtcv")
    def pv_shtcv(self, spec: PvSpec) -> BoundPv:
        return self._count(spec, lambda key, value: value)

    def _count(self, spec: PvSpec, part: Callable[[str, Item], Item]) -> BoundPv:
        table, expression = self._parts(spec)

        def get(ctx: Ctx) -> Value:
            if table is None:
                return None
            test = counted(expression(ctx))
            return sum(test(part(key, value)) for key, value in table.items())

        return BoundPv(get)

    @pv_class("shtrecord")
    def pv_shtrecord(self, spec: PvSpec) -> BoundPv:
        index = ("key", "value").index(spec.inner or "")
        return BoundPv(lambda ctx: self.record[index] if self.record is not None else None)

    @classmethod
    def check_pv_shtrecord(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("key", "value") else "the name is key or value"

    @pv_class("shtitkey")
    def pv_shtitkey(self, spec: PvSpec) -> BoundPv:
        return BoundPv(lambda ctx: c.key if (c := self.cursors.get(spec.inner or "")) is not None else None)

    @pv_class("shtitval")
    def pv_shtitval(self, spec: PvSpec) -> BoundPv:
        def get(ctx: Ctx) -> Value:
            cursor = self.cursors.get(spec.inner or "")
            return cursor.table.rows.get(cursor.key) if cursor is not None and cursor.key is not None else None

        return BoundPv(get)

    # -- items -----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def sht_reset(self, ctx: Ctx, htable: str) -> int:
        table = self._table(htable)
        if table is None:
            return -1
        table.rows.clear()
        return 1

    @function(ANY)
    def sht_rm(self, ctx: Ctx, htname: str, itname: str) -> int:
        table = self._table(htname)
        if table is None:
            return -1
        table.rows.delete(itname)
        return 1

    @function(ANY)
    def sht_setxs(self, ctx: Ctx, htname: str, itname: str, itval: str, exval: int) -> int:
        return self._setx(htname, itname, itval, exval)

    @function(ANY)
    def sht_setxi(self, ctx: Ctx, htname: str, itname: str, itval: int, exval: int) -> int:
        return self._setx(htname, itname, itval, exval)

    def _setx(self, htname: str, itname: str, value: Item, seconds: int) -> int:
        table = self._table(htname)
        if table is None:
            return -1
        table.put(itname, value, seconds if table.autoexpire else 0)
        return 1

    @function(ANY)
    def sht_is_null(self, ctx: Ctx, htname: str, itname: str) -> int:
        table = self._table(htname)
        return 1 if table is not None and table.get(itname) is None else -1

    @function(ANY)
    def sht_inc(self, ctx: Ctx, htname: str, itname: str) -> int:
        return self._step(htname, itname, 1)

    @function(ANY)
    def sht_dec(self, ctx: Ctx, htname: str, itname: str) -> int:
        return self._step(htname, itname, -1)

    def _step(self, htname: str, itname: str, step: int) -> int:
        table = self._table(htname)
        return 1 if table is not None and table.add(itname, step) is not None else -1

    @function(ANY)
    def sht_print(self, ctx: Ctx) -> int:
        """All items as log lines."""
        for table in self.tables.values():
            for key, value in table.items():
                self.rt.log.info("htable %s: %s = %s", table.name, key, shown(value))
        return 1

    @function(ANY)
    def sht_lock(self, ctx: Ctx, htkey: str) -> int:
        """A worker runs one route at a time, so a lock is never waited for."""
        return 1 if self._table(htkey.partition("=>")[0].strip()) is not None else -1

    @function(ANY)
    def sht_unlock(self, ctx: Ctx, htkey: str) -> int:
        return 1 if self._table(htkey.partition("=>")[0].strip()) is not None else -1

    # -- by name or value ------------------------------------------------------------------------------------------------

    @function(ANY)
    def sht_rm_name_re(self, ctx: Ctx, htregexp: str) -> int:
        name, _, pattern = htregexp.partition("=>")
        return self._remove(name.strip(), "re", pattern, by_name=True)

    @function(ANY)
    def sht_rm_value_re(self, ctx: Ctx, htregexp: str) -> int:
        name, _, pattern = htregexp.partition("=>")
        return self._remove(name.strip(), "re", pattern, by_name=False)

    @function(ANY)
    def sht_rm_name(self, ctx: Ctx, htable: str, op: str, val: str) -> int:
        return self._remove(htable, op, val, by_name=True)

    @function(ANY)
    def sht_rm_value(self, ctx: Ctx, htable: str, op: str, val: str) -> int:
        return self._remove(htable, op, val, by_name=False)

    def _matching(self, htable: str, op: str, val: str, *, by_name: bool) -> tuple[HashTable, Callable[[str, Item], bool]] | None:
        table = self._table(htable)
        test = matcher(op, val)
        if test is None:
            self.rt.log.warning("htable: unknown operator %s: eq, ne, sw and re are known", op)
        if table is None or test is None:
            return None
        return table, (lambda key, value: test(key)) if by_name else (lambda key, value: isinstance(value, str) and test(value))

    def _remove(self, htable: str, op: str, val: str, *, by_name: bool) -> int:
        found = self._matching(htable, op, val, by_name=by_name)
        if found is None:
            return -1
        found[0].remove(found[1])
        return 1

    def _has(self, htable: str, op: str, val: str, *, by_name: bool) -> int:
        found = self._matching(htable, op, val, by_name=by_name)
        return 1 if found is not None and any(found[1](key, value) for key, value in found[0].items()) else -1

    @function(ANY, "sht_match_name", "sht_has_name")
    def sht_match_name(self, ctx: Ctx, htable: str, op: str, mval: str) -> int:
        return self._has(htable, op, mval, by_name=True)

    @function(ANY, "sht_match_str_value", "sht_has_str_value")
    def sht_match_str_value(self, ctx: Ctx, htable: str, op: str, mval: str) -> int:
        return self._has(htable, op, mval, by_name=False)

    # -- iterators -------------------------------------------------------------------------------------------------------

    def _cursor(self, iname: str) -> _Cursor | None:
        cursor = self.cursors.get(iname)
        if cursor is None:
            self.rt.log.error("htable: iterator %s was not started", iname)
        return cursor

    @function(ANY)
    def sht_iterator_start(self, ctx: Ctx, iname: str, hname: str) -> int:
        table = self._table(hname)
        if table is None:
            return -1
        self.cursors[iname] = _Cursor(table)
        return 1

    @function(ANY)
    def sht_iterator_next(self, ctx: Ctx, iname: str) -> int:
        cursor = self._cursor(iname)
        return 1 if cursor is not None and cursor.next() else -1

    @function(ANY)
    def sht_iterator_end(self, ctx: Ctx, iname: str) -> int:
        self.cursors.pop(iname, None)
        return 1

    @function(ANY)
    def sht_iterator_rm(self, ctx: Ctx, iname: str) -> int:
        cursor = self._cursor(iname)
        if cursor is None or cursor.key is None:
            return -1
        cursor.table.rows.delete(cursor.key)
        return 1

    @function(ANY)
    def sht_iterator_sets(self, ctx: Ctx, iname: str, sval: str) -> int:
        return self._iterator_set(iname, sval)

    @function(ANY)
    def sht_iterator_seti(self, ctx: Ctx, iname: str, ival: int) -> int:
        return self._iterator_set(iname, ival)

    def _iterator_set(self, iname: str, value: Item) -> int:
        cursor = self._cursor(iname)
        if cursor is None or cursor.key is None:
            return -1
        cursor.table.put(cursor.key, value)
        return 1

    @function(ANY)
    def sht_iterator_setex(self, ctx: Ctx, iname: str, exval: int) -> int:
        cursor = self._cursor(iname)
        if cursor is None or cursor.key is None:
            return -1
        cursor.table.set_seconds(cursor.key, exval)
        return 1


module = Htable
