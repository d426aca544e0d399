"""Publications and subscriptions in the database alone (``publ_cache`` 0, ``subs_db_mode`` 3): several servers on one database share them. The same faces as
tables of the store have; all of them raise DbError."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from kamc.runtime.db import Database, Where
from stdlib_modules.presence.rows import (
    DOCUMENT_COLUMNS,
    SUBSCRIPTION_COLUMNS,
    Document,
    Subscription,
    document_cells,
    document_of,
    place,
    record_key,
    split_uri,
    subscription_cells,
    subscription_of,
    subscription_where,
)

_DIALOG: Final = ("callid", "to_tag", "from_tag")


class Documents:
    """Publications, by presentity and event."""

    def __init__(self, db: Database, table: str) -> None:
        self.db, self.table = db, table

    @staticmethod
    def _where(key: str) -> Where:
        uri, _, event = key.rpartition("\0")
        user, domain = split_uri(uri)
        return [("username", "=", user), ("domain", "=", domain), ("event", "=", event)]

    def get(self, key: str) -> list[Document] | None:
        """The newest first."""
        rows = self.db.select(self.table, DOCUMENT_COLUMNS, self._where(key), order="received_time").rows
        return [document_of(row)[1] for row in reversed(rows)] or None

    def update(self, key: str, change: Callable[[list[Document] | None], list[Document] | None]) -> None:
        before = self.get(key)
        old, new = {d.ruid: d for d in before or ()}, {d.ruid: d for d in change(before) or ()}
        for ruid, d in new.items():
            if ruid not in old:
                self.db.insert(self.table, {**{column: cell for column, _, cell in self._where(key)}, "ruid": ruid, **document_cells(d)})
            elif old[ruid] != d:
                self.db.update(self.table, document_cells(d), [("ruid", "=", ruid)])
        for ruid in old.keys() - new.keys():
            self.db.delete(self.table, [("ruid", "=", ruid)])

    def scan(self) -> Iterator[tuple[str, list[Document]]]:
        found: dict[str, list[Document]] = {}
        for row in self.db.select(self.table, DOCUMENT_COLUMNS, order="received_time").rows:
            key, document = document_of(row)
            found.setdefault(key, []).insert(0, document)
        return iter(found.items())

    def __len__(self) -> int:
        return len(self.db.select(self.table, ("ruid",)).rows)


class Subscriptions:
    """Subscriptions, by presentity and event."""

    def __init__(self, db: Database, table: str) -> None:
        self.db, self.table = db, table

    def get(self, key: str) -> list[Subscription] | None:
        uri, _, event = key.rpartition("\0")
        return [subscription_of(row) for row in self.db.select(self.table, SUBSCRIPTION_COLUMNS, [("presentity_uri", "=", uri), ("event", "=", event)]).rows] or None

    def update(self, key: str, change: Callable[[list[Subscription] | None], list[Subscription] | None]) -> None:
        before = self.get(key)
        old, new = {s.dialog: s for s in before or ()}, {s.dialog: s for s in change(before) or ()}
        for dialog, s in new.items():
            if dialog not in old:
                self.db.insert(self.table, subscription_cells(s))
            elif old[dialog] != s:
                self.db.update(self.table, subscription_cells(s), subscription_where(s))
        for dialog in old.keys() - new.keys():
            self.db.delete(self.table, subscription_where(old[dialog]))

    def scan(self) -> Iterator[tuple[str, list[Subscription]]]:
        found: dict[str, list[Subscription]] = {}
        for row in self.db.select(self.table, SUBSCRIPTION_COLUMNS).rows:
            s = subscription_of(row)
            found.setdefault(record_key(s.uri, s.event), []).append(s)
        return iter(found.items())

    def __len__(self) -> int:
        return len(self.db.select(self.table, ("callid",)).rows)


class Dialogs:
    """Where the subscription of a dialog is: the database knows by itself."""

    def __init__(self, db: Database, table: str) -> None:
        self.db, self.table = db, table

    def get(self, dialog: str) -> str | None:
        where = [(column, "=", value) for column, value in zip(_DIALOG, dialog.split("\0"), strict=True)]
        rows = self.db.select(self.table, ("presentity_uri", "event"), where, limit=1).rows
        return place(rows[0]) if rows else None

    def put(self, dialog: str, where: str) -> Any:
        pass

    def delete(self, dialog: str) -> Any:
        pass
