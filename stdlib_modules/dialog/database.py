"""Dialogs in a database: ``db_mode`` 1 (written when something happens), 2 (by the timer), 3 (at the end).

Answered dialogs are written, with their variables and, in ``xdata``, their profiles. What fails to be written is tried again by the timer.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from kamc.declare import ANY, function
from kamc.declare.values import to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Cell, Database, DbError
from stdlib_modules.dialog.keep import KeptDialogs
from stdlib_modules.dialog.life import Life
from stdlib_modules.dialog.model import ANSWERED, CONFIRMED, DELETED, Dialog, DialogTable
from stdlib_modules.dialog.picture import dialog_of, row_of

REALTIME, DELAYED, AT_END = 1, 2, 3
_VERSION, _VARS_VERSION = 7, 1
_KEPT: Final = (ANSWERED, CONFIRMED)
Key = tuple[int, int]
#: what stands in the database of a dialog: its row and its variables
Picture = tuple[dict[str, Cell], dict[str, str]]


class DialogDatabase:
    """See the module. ``module`` is the dialog module."""

    def __init__(self, module: Any, table: DialogTable) -> None:
        self.module, self.rt, self.p, self.table = module, module.rt, module.p, table
        p = self.p
        self.db: Database = self.rt.database(p.db_url)
        self._entry, self._id = p.h_entry_column, p.h_id_column
        self._written: dict[Key, Picture] = {}
        self._busy = self._again = False
        self.db.check_version(p.table_name, _VERSION)
        self.db.check_version(p.vars_table_name, _VARS_VERSION)

    # -- rows ------------------------------------------------------------------------------------------------------------

    def _columns(self) -> tuple[str, ...]:
        p = self.p
        return (p.h_entry_column, p.h_id_column, p.call_id_column, p.from_uri_column, p.from_tag_column, p.to_uri_column, p.to_tag_column,
                p.from_cseq_column, p.to_cseq_column, p.from_route_column, p.to_route_column, p.from_contact_column, p.to_contact_column,
                p.from_sock_column, p.to_sock_column, p.state_column, p.start_time_column, p.timeout_column, p.sflags_column, "iflags",
                p.toroute_name_column, "req_uri", "xdata")  # fmt: skip

    def _picture(self, d: Dialog) -> Picture:
        return dict(zip(self._columns(), row_of(d), strict=True)), {name: to_str(value) for name, value in d.variables.items()}

    # -- loading ---------------------------------------------------------------------------------------------------------

    def _read(self, where: tuple[tuple[str, str, Cell], ...] = ()) -> list[Dialog]:
        """Raises DbError. Rows that make no dialog are named and left out."""
        p, out = self.p, []
        for row in self.db.select(p.table_name, self._columns(), where).rows:
            try:
                d = dialog_of(row, self.rt.worker.find_socket, p.default_timeout)
            except (ValueError, TypeError) as err:
                self.rt.log.error("dialog: table %s: dialog %s.%s: %s; left out", p.table_name, row[0], row[1], err)
                continue
            wanted = (((p.vars_h_entry_column, "=", d.entry), (p.vars_h_id_column, "=", d.id)))
            for name, value in self.db.select(p.vars_table_name, (p.vars_key_column, p.vars_value_column), wanted).rows:
                d.variables[str(name)] = "" if value is None else str(value)
            out.append(d)
        return out

    def load(self, call_id: str | None = None) -> int:
        """Follow the dialogs of the database that are not known, all of them or those of a call. How many; raises DbError."""
        count = 0
        for d in self._read(((self.p.call_id_column, "=", call_id),) if call_id is not None else ()):
            if (d.entry, d.id) in self.table.by_id or d.state not in _KEPT or not self.rt.owns_call(d.call_id):
                continue
            self.table.add(d)
            self.table.beyond(d.id)
            self._written[d.entry, d.id] = self._picture(d)
            self.module.resume(d)
            count += 1
        return count

    def start(self) -> None:
        """Load what an earlier run has left. Raises ConfigError."""
        before = self.rt.previous.module("dialog") if self.rt.previous is not None else None
        if not self.p.db_skip_load and before is None:
            try:
                self.load()
            except DbError as err:
                raise ConfigError(f"dialog: table {self.p.table_name}: {err}") from None
        if self.p.db_mode == REALTIME:
            self.module.watchers.append(self.happened)
        if self.p.db_mode in (REALTIME, DELAYED):
            self.rt.every(float(max(1, self.p.db_update_period)), self.write)

    def take_over(self, table: DialogTable, before: DialogDatabase | None) -> None:
        """A reload: the dialogs go on, and what is written of them."""
        self.table = table
        if before is not None and (before.p.db_url, before.p.table_name) == (self.p.db_url, self.p.table_name):
            self._written = before._written

    def given_away(self, dialog: Dialog) -> bool:
        """Another worker follows it from now on. Whether it stands in the database."""
        return self._written.pop((dialog.entry, dialog.id), None) is not None

    def taken(self, dialog: Dialog, *, written: bool) -> None:
        """From another worker."""
        if written:
            self._written[dialog.entry, dialog.id] = self._picture(dialog)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def happened(self, what: str, dialog: Dialog, ctx: Ctx | None) -> None:
        """db_mode 1: something has changed; it is written when the message has been served."""
        self.rt.timers.arm(self.rt.now(), lambda now: self.write())

    def write(self) -> None:
        self.rt.worker.waits.detached(self.flush)

    def flush(self) -> None:
        """Make the database what the table is. One that is called meanwhile is left to the first."""
        if self._busy:
            self._again = True
            return
        self._busy = True
        try:
            self._again = True
            while self._again:
                self._again = False
                for d in self.table:
                    if d.state in _KEPT:
                        self._save(d)
                alive = {(d.entry, d.id) for d in self.table if d.state != DELETED}
                for key in [k for k in self._written if k not in alive]:
                    self._erase(key)
        except DbError as err:
            self.rt.log.error("dialog: table %s: %s", self.p.table_name, err)
        finally:
            self._busy = False

    def _key(self, key: Key) -> tuple[tuple[str, str, Cell], ...]:
        return ((self._entry, "=", key[0]), (self._id, "=", key[1]))

    def _save(self, d: Dialog) -> None:
        key, fresh = (d.entry, d.id), self._picture(d)
        old = self._written.get(key)
        if old == fresh:
            return
        if old is None:
            self.db.insert(self.p.table_name, {k: v for k, v in fresh[0].items() if v is not None})
        elif old[0] != fresh[0]:
            self.db.update(self.p.table_name, fresh[0], self._key(key))
        if (old[1] if old is not None else {}) != fresh[1]:
            self._save_variables(key, fresh[1], known=old is not None and bool(old[1]))
        self._written[key] = fresh

    def _variables_of(self, key: Key) -> tuple[tuple[str, str, Cell], ...]:
        return ((self.p.vars_h_entry_column, "=", key[0]), (self.p.vars_h_id_column, "=", key[1]))

    def _save_variables(self, key: Key, variables: dict[str, str], *, known: bool) -> None:
        p = self.p
        if known:
            self.db.delete(p.vars_table_name, self._variables_of(key))
        for name, value in variables.items():
            self.db.insert(p.vars_table_name, {p.vars_h_entry_column: key[0], p.vars_h_id_column: key[1], p.vars_key_column: name, p.vars_value_column: value})

    def _erase(self, key: Key) -> None:
        if self._written[key][1]:
            self.db.delete(self.p.vars_table_name, self._variables_of(key))
        self.db.delete(self.p.table_name, self._key(key))
        del self._written[key]


class DatabaseFunctions(Life):
    """What the dialog module does with its database."""

    database: DialogDatabase | None = None
    #: where a dialog is written, so that others may follow it on
    book: DialogDatabase | KeptDialogs | None = None

    def start_database(self) -> None:
        """Raises ConfigError."""
        if self.p.db_mode:
            self.book = self.database = DialogDatabase(self, self.table)
            self.database.start()
        elif self.rt.store.mirror is not None:
            self.book = kept = KeptDialogs(self)
            if self.rt.previous is None or self.rt.previous.module("dialog") is None:
                kept.load()
            self.watchers.append(kept.changed)
            self.on_request.append(kept.seen)

    def resume(self, dialog: Dialog) -> None:
        """Follow an answered dialog that another run began."""
        self.rt.counters.add("dialog", "active_dialogs")
        dialog.lifetime = int(dialog.ends_at - dialog.started) if dialog.ends_at > dialog.started else self.p.default_timeout
        left = max(0.0, dialog.ends_at - self.rt.wall_time())
        dialog.timer = self.rt.timers.arm(self.rt.now() + left, partial(self.timer_fired, dialog))

    def rebalance(self) -> None:
        """Give answered dialogs to the workers that own their calls."""
        leaving = [d for d in self.table if d.state in _KEPT and not self.rt.owns_call(d.call_id)]
        if not leaving or self.book is None:
            return
        if self.database is not None:
            self.database.flush()
        for d in leaving:
            written = self.book.given_away(d)
            self.rt.timers.disarm(d.timer)
            self.table.remove(d)
            self.rt.counters.add("dialog", "active_dialogs", -1)
            self.rt.tell_owner(d.call_id, "dialog", "take", list(row_of(d)), {name: to_str(value) for name, value in d.variables.items()}, d.lifetime, written)
        self.show_members()

    def take(self, row: list[Cell], variables: dict[str, str], lifetime: int, written: bool) -> None:
        """A dialog of a call that belongs to this worker by now."""
        d = dialog_of(row, self.rt.worker.find_socket, lifetime)
        if (d.entry, d.id) in self.table.by_id:
            return
        d.variables.update(variables)
        self.table.add(d)
        self.resume(d)
        d.lifetime = lifetime
        if self.book is not None:
            self.book.taken(d, written=written)
        self.show_members()

    def destroy(self) -> None:
        if self.database is not None:
            self.database.flush()

    def _load(self, call_id: str | None) -> int:
        if self.database is None:
            self.rt.log.error("dialog: there is no database (db_mode)")
            return -1
        try:
            self.database.load(call_id)
        except DbError as err:
            self.rt.log.error("dialog: table %s: %s", self.p.table_name, err)
            return -1
        return 1

    @function(ANY, waits=True)
    def dlg_db_load_callid(self, ctx: Ctx, cival: str) -> int:
        """Follow the dialogs of a call that another server has written to the database."""
        return self._load(cival)

    @function(ANY, waits=True)
    def dlg_db_load_extra(self, ctx: Ctx) -> int:
        """Follow all dialogs of the database that are not known."""
        return self._load(None)
