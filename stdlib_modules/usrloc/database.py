"""The location table in a database: ``db_mode`` 1 (written at once), 2 (by the timer), 3 (kept nowhere else)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from kamc.runtime.db import Cell, Database, DbError, Where, epoch_seconds
from stdlib_modules.usrloc.binding import Binding

VERSION: Final = 9
WRITE_THROUGH, WRITE_BACK, DB_ONLY, LOAD_ONLY = 1, 2, 3, 4
#: type of an attribute that is a text
_TEXT: Final = 2
_FIELDS: Final = (
    "ruid", "user", "domain", "contact", "received", "path", "expires", "q", "callid", "cseq", "last_modified", "flags", "cflags",
    "user_agent", "socket", "methods", "instance", "reg_id", "server_id", "connection_id", "keepalive", "partition",
)  # fmt: skip
INSERT, UPDATE, DELETE = "insert", "update", "delete"
#: (domain, address of record, contact, what is to be done)
Change = tuple[str, str, Binding, str]


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def _number(cell: Cell, default: int = 0) -> int:
    try:
        return default if cell is None else int(float(str(cell)))
    except ValueError:
        return default


def _signed(mask: int | None) -> int | None:
    """A mask of 32 bits as a column of signed numbers takes it."""
    return mask - (1 << 32) if mask is not None and mask > 0x7FFFFFFF else mask


class LocationDatabase:
    """See the module. Changes are noted, and written by :meth:`flush`; those that fail wait for the next one."""

    def __init__(self, rt: Any, p: Any) -> None:
        self.rt, self.p = rt, p
        self.db: Database = rt.database(p.db_url)
        names = (
            p.ruid_column, p.user_column, p.domain_column, p.contact_column, p.received_column, p.path_column, p.expires_column, p.q_column,
            p.callid_column, p.cseq_column, "last_modified", p.flags_column, p.cflags_column, p.user_agent_column, p.socket_column, p.methods_column,
            p.instance_column, p.reg_id_column, p.server_id_column, p.connection_id_column, p.keepalive_column, p.partition_column,
        )  # fmt: skip
        self._columns = dict(zip(_FIELDS, names, strict=True))
        self._pending: dict[str, Change] = {}
        self._busy = False
        self._checked: set[str] = set()

    def check(self, domain: str) -> None:
        """Raises ConfigError for a table of another version."""
        if self.p.version_table and domain not in self._checked:
            self.db.check_version(domain, VERSION)
            self._checked.add(domain)

    # -- rows ------------------------------------------------------------------------------------------------------------

    def _time(self, seconds: float) -> Cell:
        return round(seconds) if self.p.expires_type else datetime.fromtimestamp(round(seconds))

    def _row(self, aor: str, b: Binding) -> dict[str, Cell]:
        user, at, host = aor.rpartition("@") if self.p.use_domain else (aor, "", "")
        values: dict[str, Cell] = {
            "ruid": b.ruid, "user": user if at else aor, "domain": host or None, "contact": b.contact, "received": b.received or None, "path": b.path or None,
            "expires": self._time(b.expires), "q": b.q / 1000 if b.q >= 0 else -1.0, "callid": b.call_id, "cseq": b.cseq,
            "last_modified": self._time(b.modified), "flags": b.flags, "cflags": b.cflags, "user_agent": b.user_agent,
            "socket": b.socket or None, "methods": _signed(b.methods), "instance": b.instance or None, "reg_id": b.reg_id, "server_id": b.server_id,
            "connection_id": b.conn or -1, "keepalive": int(self._is_natted(b)), "partition": 0,
        }  # fmt: skip
        return {self._columns[name]: value for name, value in values.items()}

    def _is_natted(self, b: Binding) -> bool:
        return self.p.nat_bflag >= 0 and bool(b.cflags >> self.p.nat_bflag & 1)

    def _binding(self, row: tuple[Cell, ...]) -> tuple[str, Binding]:
        """(address of record, contact) of a row in the order of _FIELDS. Raises ValueError for a time that is none."""
        c = dict(zip(_FIELDS, row, strict=True))
        aor = f"{_text(c['user'])}@{_text(c['domain'])}" if self.p.use_domain and c["domain"] else _text(c["user"])
        q = float(str(c["q"])) if c["q"] is not None else -1.0
        return aor, Binding(
            _text(c["contact"]), epoch_seconds(c["expires"]), round(q * 1000) if q >= 0 else -1, _text(c["callid"]), _number(c["cseq"]), _number(c["flags"]),
            _number(c["cflags"]), _text(c["user_agent"]), _text(c["received"]), _text(c["path"]), _text(c["socket"]),
            None if c["methods"] is None else _number(c["methods"]) & 0xFFFFFFFF, _text(c["ruid"]), _text(c["instance"]), _number(c["reg_id"]),
            epoch_seconds(c["last_modified"]), _number(c["server_id"]), max(0, _number(c["connection_id"])),
        )  # fmt: skip

    def _read(self, domain: str, where: Where) -> list[tuple[str, Binding]]:
        """Raises DbError."""
        found = []
        for row in self.db.select(domain, list(self._columns.values()), where).rows:
            try:
                found.append(self._binding(row))
            except ValueError as err:
                self.rt.log.error("usrloc: table %s: row %s: %s; left out", domain, row[0], err)
        return found

    def load(self, domain: str) -> dict[str, list[Binding]]:
        """All contacts that are not over; others leave the database. Raises DbError."""
        p, now = self.p, self.rt.wall_time()
        where: list[tuple[str, str, Cell]] = [(self._columns["server_id"], "=", int(self.rt.param("server_id") or 0))] if p.server_id_filter else []
        found: dict[str, list[Binding]] = {}
        attributes = self._attributes(domain) if p.xavp_contact else {}
        for aor, b in self._read(domain, where):
            if (b.expires and b.expires <= now) or (p.db_clean_tcp and b.socket.split(":")[0] in ("tcp", "tls", "ws", "wss")):
                self._pending[b.ruid] = (domain, aor, b, DELETE)
            elif not p.skip_remote_socket or not b.socket or self.rt.worker.find_socket(b.socket, whole=True) is not None:
                b.conn = 0
                b.xavp = attributes.get(b.ruid, {})
                found.setdefault(aor, []).append(b)
        return found

    def contacts(self, domain: str, aor: str) -> list[Binding]:
        """The contacts of an address of record, whose order is that of q. Raises DbError."""
        user, at, host = aor.rpartition("@") if self.p.use_domain else (aor, "", "")
        where: list[tuple[str, str, Cell]] = [(self._columns["user"], "=", user if at else aor)]
        if host:
            where.append((self._columns["domain"], "=", host))
        found = [b for _, b in self._read(domain, where)]
        return sorted(found, key=lambda b: -b.modified) if self.p.desc_time_order else sorted(found, key=lambda b: (-b.q, b.modified))

    def everything(self, domain: str) -> list[tuple[str, Binding]]:
        """All contacts, those that are over as well. Raises DbError."""
        return self._read(domain, ())

    # -- attributes (parameter xavp_contact) -----------------------------------------------------------------------------

    def _attributes(self, domain: str) -> dict[str, dict[str, list[Cell]]]:
        """By ruid. Raises DbError."""
        found: dict[str, dict[str, list[Cell]]] = {}
        for ruid, name, kind, value in self.db.select(f"{domain}_attrs", ("ruid", "aname", "atype", "avalue")).rows:
            found.setdefault(_text(ruid), {})[_text(name)] = [_text(value) if kind == _TEXT else _number(value)]
        return found

    def _write_attributes(self, domain: str, aor: str, b: Binding, *, gone: bool) -> None:
        """Raises DbError."""
        table, row = f"{domain}_attrs", self._row(aor, b)
        self.db.delete(table, (("ruid", "=", b.ruid),))
        for name, values in b.xavp.items() if not gone else ():
            value = values[0] if values else None
            if isinstance(value, int | str):
                self.db.insert(table, {"ruid": b.ruid, "username": row[self._columns["user"]], "domain": row[self._columns["domain"]], "aname": name,
                                       "atype": _TEXT if isinstance(value, str) else 0, "avalue": str(value), "last_modified": self._time(b.modified)})  # fmt: skip

    # -- writing ---------------------------------------------------------------------------------------------------------

    def note(self, domain: str, aor: str, before: Iterable[Binding], after: Iterable[Binding]) -> None:
        """What has changed between two lists of contacts."""
        old = {b.ruid: b for b in before}
        new = {b.ruid: b for b in after}
        for ruid, b in new.items():
            if ruid not in old:
                self._add(domain, aor, b, INSERT)
            elif old[ruid] is not b and old[ruid] != b:
                self._add(domain, aor, b, UPDATE)
        for ruid, b in old.items():
            if ruid not in new:
                self._add(domain, aor, b, DELETE)

    def _add(self, domain: str, aor: str, b: Binding, action: str) -> None:
        waiting = self._pending.pop(b.ruid, None)
        if waiting is not None and waiting[3] == INSERT:
            if action == DELETE:
                return
            action = INSERT
        self._pending[b.ruid] = (domain, aor, b, action)

    def state(self, ruid: str) -> str:
        """As RPC shows it."""
        waiting = self._pending.get(ruid)
        return "CS_SYNC" if waiting is None else "CS_NEW" if waiting[3] == INSERT else "CS_DIRTY"

    def hand_over(self, to: LocationDatabase | None) -> None:
        """A reload: what waits to be written is written by the next one, or at once when there is none."""
        if to is None:
            self.rt.worker.waits.detached(self.flush)
            return
        to._pending = {**self._pending, **to._pending}
        self._pending = {}

    def flush(self) -> None:
        """Write what is noted. One that is called meanwhile leaves its changes to the first."""
        if self._busy:
            return
        self._busy = True
        failed: list[Change] = []
        try:
            while self._pending:
                change = self._pending.pop(next(iter(self._pending)))
                try:
                    self._write(*change)
                except DbError as err:
                    self.rt.log.error("usrloc: table %s: %s of contact %s: %s", change[0], change[3], change[2].ruid, err)
                    failed.append(change)
        finally:
            self._busy = False
        for change in failed:
            self._pending.setdefault(change[2].ruid, change)

    def _key(self, aor: str, b: Binding) -> Where:
        c = self._columns
        if self.p.db_ops_ruid:
            return ((c["ruid"], "=", b.ruid),)
        row = self._row(aor, b)
        return tuple((c[name], "=", row[c[name]]) for name in ("user", "contact", "callid", *(("domain",) if row[c["domain"]] else ())))

    def _write(self, domain: str, aor: str, b: Binding, action: str) -> None:
        """Raises DbError."""
        if self.p.xavp_contact:
            self._write_attributes(domain, aor, b, gone=action == DELETE)
        if action == DELETE:
            self.db.delete(domain, self._key(aor, b))
        elif action == UPDATE and not self.p.db_update_as_insert:
            row = self._row(aor, b)
            if not self.db.update(domain, row, self._key(aor, b)) and self.p.db_check_update:
                self._insert(domain, row)
        elif action == INSERT and self.p.db_insert_update:
            row = self._row(aor, b)
            if not self.db.update(domain, row, self._key(aor, b)):
                self._insert(domain, row)
        else:
            self._insert(domain, self._row(aor, b))

    def _insert(self, domain: str, row: dict[str, Cell]) -> None:
        self.db.insert(domain, row if self.p.db_insert_null else {k: v for k, v in row.items() if v is not None})

    # -- asking ----------------------------------------------------------------------------------------------------------

    def numbers(self, domain: str) -> tuple[int, int, int]:
        """How many addresses of record and contacts there are, and contacts that are over. Raises DbError."""
        now = self.rt.wall_time()
        rows = self.everything(domain)
        over = [b for _, b in rows if b.expires and b.expires <= now]
        return len({aor for aor, b in rows if b not in over}), len(rows) - len(over), len(over)
