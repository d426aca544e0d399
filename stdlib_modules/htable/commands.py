"""RPC of the htable module."""

from __future__ import annotations

import time
from typing import Any

from kamc.declare import rpc
from kamc.runtime.db import DbError
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.htable.database import HtableDatabase
from stdlib_modules.htable.tables import HashTable


class Commands:
    rt: Any
    tables: dict[str, HashTable]
    database: HtableDatabase | None

    def _known(self, htable: str) -> HashTable:
        table = self.tables.get(htable)
        if table is None:
            raise RpcFault(500, "No such htable")
        return table

    @rpc("htable.get")
    def rpc_get(self, htable: str, key: str) -> dict[str, Any]:
        """One item."""
        table = self._known(htable)
        value = table.rows.get(key)
        if value is None:
            raise RpcFault(500, "Key name doesn't exist in htable.")
        at = table.rows.expires(key)
        expire = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "NEVER"
        return {"item": {"name": key, "value": value, "flags": 2 if isinstance(value, str) else 0, "expire": expire}}

    @rpc("htable.sets")
    def rpc_sets(self, htable: str, key: str, value: str) -> str:
        """Set an item to a text."""
        self._known(htable).put(key, value)
        return "Ok. Key set to new value."

    @rpc("htable.seti")
    def rpc_seti(self, htable: str, key: str, value: int) -> str:
        """Set an item to a number."""
        self._known(htable).put(key, value)
        return "Ok. Key set to new value."

    @rpc("htable.setex")
    def rpc_setex(self, htable: str, key: str, seconds: int) -> str:
        """Let an item expire some seconds from now."""
        self._known(htable).set_seconds(key, seconds)
        return "Ok"

    @rpc("htable.setxs", wrong="Not enough parameters (htable name, key name, value and expire)")
    def rpc_setxs(self, htable: str, key: str, value: str, seconds: int) -> str:
        """Set an item to a text, with its expiry."""
        table = self._known(htable)
        table.put(key, value, seconds if table.autoexpire else 0)
        return "Ok. Key set to new value."

    @rpc("htable.setxi", wrong="Not enough parameters (htable name, key name, value and expire)")
    def rpc_setxi(self, htable: str, key: str, value: int, seconds: int) -> str:
        """Set an item to a number, with its expiry."""
        table = self._known(htable)
        table.put(key, value, seconds if table.autoexpire else 0)
        return "Ok. Key set to new value."

    @rpc("htable.delete")
    def rpc_delete(self, htable: str, key: str) -> str:
        """Remove an item."""
        if not self._known(htable).rows.delete(key):
            raise RpcFault(404, "Key not found in htable.")
        return "Ok. Key deleted."

    @rpc("htable.flush")
    def rpc_flush(self, htable: str) -> str:
        """Remove all items of a table."""
        self._known(htable).rows.clear()
        return "Ok. Htable flushed."

    @rpc("htable.dump")
    def rpc_dump(self, htable: str) -> list[dict[str, Any]]:
        """All items of a table, by slot."""
        table = self._known(htable)
        slots: dict[int, list[dict[str, Any]]] = {}
        for key, value in sorted(table.items(), key=lambda item: table.order(item[0])):
            slots.setdefault(table.slot(key), []).append({"name": key, "value": value, "type": "str" if isinstance(value, str) else "int"})
        return [{"entry": number, "size": len(slots[number]), "slot": slots[number]} for number in sorted(slots)]

    @rpc("htable.listTables")
    def rpc_list(self) -> list[dict[str, Any]]:
        """The tables and their attributes."""
        return [{"name": t.name, "dbtable": t.dbtable, "dbmode": int(t.dbmode), "expire": t.autoexpire, "updateexpire": int(t.updateexpire),
                 "size": t.slots, "dmqreplicate": 0} for t in reversed(self.tables.values())]  # fmt: skip

    @rpc("htable.stats")
    def rpc_stats(self) -> list[dict[str, Any]]:
        """How the items of each table are spread."""
        out = []
        for table in reversed(self.tables.values()):
            counts = [0] * table.slots
            for key, _ in table.items():
                counts[table.slot(key)] += 1
            out.append({"name": table.name, "slots": table.slots, "all": sum(counts), "min": min(counts), "max": max(counts)})
        return out

    def _stored(self, htable: str) -> tuple[HashTable, HtableDatabase]:
        """A table with one in the database. Raises RpcFault."""
        table = self._known(htable)
        if self.database is None:
            raise RpcFault(500, "No htable db_url")
        if not table.dbtable:
            raise RpcFault(500, "No database htable")
        return table, self.database

    @rpc("htable.reload")
    def rpc_reload(self, htable: str) -> str:
        """Load a table from the database again; its items are those of the database then."""
        table, database = self._stored(htable)
        try:
            database.load(table)
        except DbError as err:
            self.rt.log.error("htable: table %s from %s: %s", table.name, table.dbtable, err)
            raise RpcFault(500, "Htable reload failed.") from None
        self.rt.worker.run_event(f"htable:reloaded:{table.name}")
        return "Ok. Htable reloaded."

    @rpc("htable.store")
    def rpc_store(self, htable: str) -> str:
        """Write a table to the database, in place of what stands there."""
        table, database = self._stored(htable)
        if table.columns:
            self.rt.log.warning("htable: table %s has columns of its own (cols) and is not written", table.name)
            return "Ok. Htable successfully stored to DB."
        try:
            database.store(table)
        except DbError as err:
            self.rt.log.error("htable: table %s is not written to %s: %s", table.name, table.dbtable, err)
            raise RpcFault(500, "Htable store failed.") from None
        return "Ok. Htable successfully stored to DB."
