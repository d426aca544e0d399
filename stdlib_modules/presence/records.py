"""Publications and subscriptions: in the store, which all workers share, and in the tables of Kamailio's schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, Final

from kamc.errors import ConfigError
from kamc.runtime.db import Cell, Database, DbError, Where
from kamc.runtime.store.mirror import Codec
from stdlib_modules.presence.packages import ACTIVE

_VERSIONS: Final = {"presentity_table": 5, "active_watchers_table": 12, "watchers_table": 3}


@dataclass(frozen=True, slots=True)
class Document:
    """What somebody has published. Times are wall-clock seconds."""

    etag: str
    expires: float
    received: float
    body: str
    sender: str = ""
    priority: int = 0
    ruid: str = ""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A watcher's dialog. ``routes`` is the route set towards the watcher, ``contact`` its URI."""

    uri: str
    event: str
    event_id: str
    to_user: str
    to_domain: str
    watcher_user: str
    watcher_domain: str
    from_user: str
    from_domain: str
    call_id: str
    to_tag: str
    from_tag: str
    contact: str
    local_contact: str
    socket: str
    routes: str = ""
    local_cseq: int = 0
    remote_cseq: int = 0
    expires: float = 0
    status: int = ACTIVE
    reason: str = ""
    version: int = 0
    user_agent: str = ""

    @property
    def watcher(self) -> str:
        return f"sip:{self.watcher_user}@{self.watcher_domain}"

    @property
    def dialog(self) -> str:
        return f"{self.call_id}\0{self.to_tag}\0{self.from_tag}"


def _codec(kind: type[Any]) -> Codec:
    return Codec(lambda rows: [astuple(row) for row in rows], lambda rows: [kind(*row) for row in rows])


def split_uri(uri: str) -> tuple[str, str]:
    """User and domain of ``sip:user@domain``."""
    user, _, domain = uri.partition(":")[2].rpartition("@")
    return user, domain


class Records:
    """All that is known. Changes go to the database without anybody waiting for it."""

    def __init__(self, rt: Any, params: Any, database: Database | None) -> None:
        self.rt, self.p, self.db = rt, params, database
        self.documents = rt.store.table("presence.documents", codec=_codec(Document))
        self.subscriptions = rt.store.table("presence.subscriptions", codec=_codec(Subscription))
        #: dialog → where its subscription is
        self.dialogs = rt.store.table("presence.dialogs")
        #: presentity, event, watcher → [state, reason]
        self.watchers = rt.store.table("presence.watchers")

    def check(self) -> None:
        """Raises ConfigError."""
        if self.db is not None:
            for param, version in _VERSIONS.items():
                self.db.check_version(getattr(self.p, param), version)

    def _lost(self, err: BaseException) -> None:
        self.rt.log.error("presence: %s", err)

    @staticmethod
    def key(uri: str, event: str) -> str:
        return f"{uri}\0{event}"

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
        if self.db is None:
            return
        user, domain = split_uri(uri)
        old, new = {d.ruid: d for d in before}, {d.ruid: d for d in after}
        for ruid, d in new.items():
            row: dict[str, Cell] = {"etag": d.etag, "expires": int(d.expires), "received_time": int(d.received), "body": d.body, "sender": d.sender,
                                    "priority": d.priority}  # fmt: skip
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
        if self.db is not None and self.p.subs_db_mode:
            table = self.p.active_watchers_table
            if new is None:
                self.db.post_delete(table, self._where(old), self._lost)
            elif new != old:
                self.db.post_update(table, self._cells(new), self._where(old), self._lost)
        return new

    def add(self, s: Subscription) -> None:
        self.subscriptions.update(self.key(s.uri, s.event), lambda rows: [*(rows or ()), s])
        self.dialogs.put(s.dialog, self.key(s.uri, s.event))
        if self.db is not None and self.p.subs_db_mode:
            self.db.post(self.p.active_watchers_table, self._cells(s), self._lost)

    @staticmethod
    def _where(s: Subscription) -> Where:
        return [("callid", "=", s.call_id), ("to_tag", "=", s.to_tag), ("from_tag", "=", s.from_tag)]

    @staticmethod
    def _cells(s: Subscription) -> dict[str, Cell]:
        return {
            "presentity_uri": s.uri, "watcher_username": s.watcher_user, "watcher_domain": s.watcher_domain, "to_user": s.to_user, "to_domain": s.to_domain,
            "event": s.event, "event_id": s.event_id or None, "to_tag": s.to_tag, "from_tag": s.from_tag, "callid": s.call_id, "local_cseq": s.local_cseq,
            "remote_cseq": s.remote_cseq, "contact": s.contact, "record_route": s.routes, "expires": int(s.expires), "status": s.status,
            "reason": s.reason or None, "version": s.version, "socket_info": s.socket, "local_contact": s.local_contact, "from_user": s.from_user,
            "from_domain": s.from_domain, "updated": -1, "updated_winfo": -1, "flags": 0, "user_agent": s.user_agent,
        }  # fmt: skip

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
            if not len(self.documents):
                self._load_documents(self.db)
            if not len(self.subscriptions) and self.p.subs_db_mode:
                self._load_subscriptions(self.db)
            if not len(self.watchers):
                columns = ("presentity_uri", "event", "watcher_username", "watcher_domain", "status", "reason")
                for uri, event, user, domain, status, reason in self.db.select(self.p.watchers_table, columns).rows:
                    self.watchers.put(f"{uri}\0{event}\0sip:{user}@{domain}", [int(str(status)), str(reason or "")])
        except (DbError, ValueError) as err:
            raise ConfigError(f"presence: cannot load: {err}") from None

    def _load_documents(self, db: Database) -> None:
        columns = ("username", "domain", "event", "etag", "expires", "received_time", "body", "sender", "priority", "ruid")
        found: dict[str, list[Document]] = {}
        for user, domain, event, etag, expires, received, body, sender, priority, ruid in db.select(self.p.presentity_table, columns, order="received_time").rows:
            text = body.decode("latin-1") if isinstance(body, bytes) else str(body or "")
            document = Document(str(etag), float(str(expires)), float(str(received)), text, str(sender or ""), int(str(priority or 0)), str(ruid or etag))
            found.setdefault(self.key(f"sip:{user}@{domain}" if user else f"sip:{domain}", str(event)), []).insert(0, document)
        for key, documents in found.items():
            self.documents.put(key, documents)

    def _load_subscriptions(self, db: Database) -> None:
        columns = ("presentity_uri", "event", "event_id", "to_user", "to_domain", "watcher_username", "watcher_domain", "from_user", "from_domain", "callid", "to_tag",
                   "from_tag", "contact", "local_contact", "socket_info", "record_route", "local_cseq", "remote_cseq", "expires", "status", "reason", "version",
                   "user_agent")  # fmt: skip
        found: dict[str, list[Subscription]] = {}
        for row in db.select(self.p.active_watchers_table, columns).rows:
            texts = [str(cell if cell is not None else "") for cell in row]
            numbers = [int(float(texts[i] or 0)) for i in (16, 17, 18, 19, 21)]
            s = Subscription(*texts[:16], *numbers[:4], texts[20], numbers[4], texts[22])  # type: ignore[arg-type, call-arg]
            found.setdefault(self.key(s.uri, s.event), []).append(s)
            self.dialogs.put(s.dialog, self.key(s.uri, s.event))
        for key, subscriptions in found.items():
            self.subscriptions.put(key, subscriptions)
