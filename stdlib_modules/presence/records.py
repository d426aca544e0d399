"""Publications and subscriptions: in the store, which all workers share, and in the tables of Kamailio's schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Any, Final

from kamc.errors import ConfigError
from kamc.runtime.db import Cell, Database, DbError
from kamc.runtime.store.mirror import Codec
from stdlib_modules.presence import indb
from stdlib_modules.presence.rows import Document, Subscription, document_cells, record_key, split_uri, subscription_cells, subscription_where

#: ``subs_db_mode``: subscriptions are in the database and nowhere else
DB_ONLY: Final = 3
_VERSIONS: Final = {"presentity_table": 5, "active_watchers_table": 12, "watchers_table": 3}


def _codec(kind: type[Any]) -> Codec:
    return Codec(lambda rows: [astuple(row) for row in rows], lambda rows: [kind(*row) for row in rows])


class Records:
    """All that is known. Changes go to the database without anybody waiting for it."""

    def __init__(self, rt: Any, params: Any, database: Database | None) -> None:
        self.rt, self.p, self.db = rt, params, database
        #: whether the database is written beside the store: not where it stands alone, or is not there
        self.copies_documents, self.copies_subscriptions = database is not None, database is not None and bool(params.subs_db_mode)
        self.documents: Any = rt.store.table("presence.documents", codec=_codec(Document))
        self.subscriptions: Any = rt.store.table("presence.subscriptions", codec=_codec(Subscription))
        #: dialog → where its subscription is
        self.dialogs: Any = rt.store.table("presence.dialogs")
        if database is not None and not params.publ_cache:
            self.documents, self.copies_documents = indb.Documents(database, params.presentity_table), False
        if database is not None and params.subs_db_mode == DB_ONLY:
            self.subscriptions, self.copies_subscriptions = indb.Subscriptions(database, params.active_watchers_table), False
            self.dialogs = indb.Dialogs(database, params.active_watchers_table)
        #: presentity, event, watcher → [state, reason]
        self.watchers = rt.store.table("presence.watchers")

    def check(self) -> None:
        """Raises ConfigError."""
        if self.db is not None:
            for param, version in _VERSIONS.items():
                self.db.check_version(getattr(self.p, param), version)

    def _lost(self, err: BaseException) -> None:
        self.rt.log.error("presence: %s", err)

    key = staticmethod(record_key)

    # -- documents -------------------------------------------------------------------------------------------------------

    def published(self, uri: str, event: str) -> list[Document]:
        """The newest first, or by priority."""
        now = self.rt.wall_time()
        found = [d for d in self.documents.get(self.key(uri, event)) or () if d.expires > now]
        if self.p.retrieve_order:
            return sorted(found, key=lambda d: (-d.priority, -d.received))
        return found

    def change_documents(self, uri: str, event: str, change: Callable[[list[Document]], list[Document]]) -> None:
        """Replace the documents of a presentity by others."""
        before: list[Document] = []
        after: list[Document] = []

        def changed(found: list[Document] | None) -> list[Document] | None:
            before[:] = found or []
            after[:] = change(list(before))
            return list(after) or None

        self.documents.update(self.key(uri, event), changed)
        if self.db is None or not self.copies_documents:
            return
        user, domain = split_uri(uri)
        old, new = {d.ruid: d for d in before}, {d.ruid: d for d in after}
        for ruid, d in new.items():
            row = document_cells(d)
            if ruid not in old:
                self.db.post(self.p.presentity_table, {"username": user, "domain": domain, "event": event, "ruid": ruid, **row}, self._lost)
            elif old[ruid] != d:
                self.db.post_update(self.p.presentity_table, row, [("ruid", "=", ruid)], self._lost)
        for ruid in old.keys() - new.keys():
            self.db.post_delete(self.p.presentity_table, [("ruid", "=", ruid)], self._lost)

    # -- subscriptions ---------------------------------------------------------------------------------------------------

    def watching(self, uri: str, event: str) -> list[Subscription]:
        now = self.rt.wall_time()
        return [s for s in self.subscriptions.get(self.key(uri, event)) or () if s.expires > now]

    def in_dialog(self, call_id: str, to_tag: str, from_tag: str) -> Subscription | None:
        dialog = f"{call_id}\0{to_tag}\0{from_tag}"
        where = self.dialogs.get(dialog)
        return next((s for s in (self.subscriptions.get(where) or ()) if s.dialog == dialog), None) if where is not None else None

    def change(self, old: Subscription, change: Callable[[Subscription], Subscription | None]) -> Subscription | None:
        """Replace a subscription by what ``change`` makes of it as it is now; None when it is gone, or then is."""
        result: list[Subscription | None] = [None]

        def changed(rows: list[Subscription] | None) -> list[Subscription] | None:
            out: list[Subscription] = []
            result[0] = None
            for s in rows or ():
                if s.dialog != old.dialog:
                    out.append(s)
                    continue
                new = result[0] = change(s)
                if new is not None:
                    out.append(new)
            return out or None

        self.subscriptions.update(self.key(old.uri, old.event), changed)
        new = result[0]
        if new is None:
            self.dialogs.delete(old.dialog)
        if self.db is not None and self.copies_subscriptions:
            table = self.p.active_watchers_table
            if new is None:
                self.db.post_delete(table, subscription_where(old), self._lost)
            elif new != old:
                self.db.post_update(table, subscription_cells(new), subscription_where(old), self._lost)
        return new

    def add(self, s: Subscription) -> None:
        self.subscriptions.update(self.key(s.uri, s.event), lambda rows: [*(rows or ()), s])
        self.dialogs.put(s.dialog, self.key(s.uri, s.event))
        if self.db is not None and self.copies_subscriptions:
            self.db.post(self.p.active_watchers_table, subscription_cells(s), self._lost)

    # -- who may watch ---------------------------------------------------------------------------------------------------

    def standing(self, uri: str, event: str, watcher: str) -> tuple[int, str] | None:
        """What was decided about a watcher."""
        found = self.watchers.get(f"{uri}\0{event}\0{watcher}")
        return (found[0], found[1]) if found is not None else None

    def set_standing(self, uri: str, event: str, watcher: str, state: tuple[int, str]) -> None:
        before = self.standing(uri, event, watcher)
        if before == state:
            return
        self.watchers.put(f"{uri}\0{event}\0{watcher}", list(state))
        if self.db is None:
            return
        user, domain = split_uri(watcher)
        names: dict[str, Cell] = {"presentity_uri": uri, "watcher_username": user, "watcher_domain": domain, "event": event}
        values: dict[str, Cell] = {"status": state[0], "reason": state[1]}
        if before is None:
            self.db.post(self.p.watchers_table, {**names, **values, "inserted_time": int(self.rt.wall_time())}, self._lost)
        else:
            self.db.post_update(self.p.watchers_table, values, [(name, "=", value) for name, value in names.items()], self._lost)

    # -- at start --------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take what the database has, where nothing is known yet. Raises ConfigError."""
        if self.db is None:
            return
        try:
            if self.copies_documents and not len(self.documents):
                self._load_documents(self.db)
            if self.copies_subscriptions and not len(self.subscriptions):
                self._load_subscriptions(self.db)
            if not len(self.watchers):
                columns = ("presentity_uri", "event", "watcher_username", "watcher_domain", "status", "reason")
                for uri, event, user, domain, status, reason in self.db.select(self.p.watchers_table, columns).rows:
                    self.watchers.put(f"{uri}\0{event}\0sip:{user}@{domain}", [int(str(status)), str(reason or "")])
        except (DbError, ValueError) as err:
            raise ConfigError(f"presence: cannot load: {err}") from None

    def _load_documents(self, db: Database) -> None:
        for key, documents in indb.Documents(db, self.p.presentity_table).scan():
            self.documents.put(key, documents)

    def _load_subscriptions(self, db: Database) -> None:
        for key, subscriptions in indb.Subscriptions(db, self.p.active_watchers_table).scan():
            self.subscriptions.put(key, subscriptions)
            for s in subscriptions:
                self.dialogs.put(s.dialog, key)
