"""Module presence: a presence agent (RFC 3856, 3903, 6665). Other modules bring the event packages.

https://www.kamailio.org/docs/modules/stable/modules/presence.html. Publications and subscriptions lie in the store that all workers (and, with a Redis, all
servers) share; with ``db_url`` every change is written to the tables of Kamailio's schema as well, and they are read at start. With ``publ_cache`` 0 and
``subs_db_mode`` 3 they are in the database alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kamc.declare import ANY, Routes, Spread, function, pv_class, rpc
from kamc.declare.module import Module
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import DbError
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.presence.packages import STATE_NAMES, TERMINATED, Package
from stdlib_modules.presence.publish import aor
from stdlib_modules.presence.records import DB_ONLY, Records
from stdlib_modules.presence.rows import Document, Subscription
from stdlib_modules.presence.subscribe import Subscriptions

_KEYS: dict[str, Callable[[Subscription], Value]] = {
    "uri": lambda s: s.uri, "pres_uri": lambda s: s.uri, "event": lambda s: s.event, "event_id": lambda s: s.event_id or None, "to_user": lambda s: s.to_user,
    "to_domain": lambda s: s.to_domain, "from_user": lambda s: s.from_user, "from_domain": lambda s: s.from_domain, "watcher_username": lambda s: s.watcher_user,
    "watcher_domain": lambda s: s.watcher_domain, "to_tag": lambda s: s.to_tag, "from_tag": lambda s: s.from_tag, "callid": lambda s: s.call_id,
    "contact": lambda s: s.contact, "local_contact": lambda s: s.local_contact, "record_route": lambda s: s.routes or None, "sockinfo": lambda s: s.socket,
    "local_cseq": lambda s: s.local_cseq, "remote_cseq": lambda s: s.remote_cseq, "expires": lambda s: int(s.expires), "status": lambda s: s.status,
    "reason": lambda s: s.reason or None, "version": lambda s: s.version, "flags": lambda s: 0, "user_agent": lambda s: s.user_agent or None,
}  # fmt: skip


class Presence(Subscriptions, Module):
    name = "presence"
    depends = ("tm", "sl")
    tuning_params = ("subs_htable_size", "pres_htable_size", "fetch_rows", "db_table_lock_type", "notifier_processes", "notifier_poll_rate", "waitn_time",
                     "db_update_period", "send_fast_notify", "local_log_level", "local_log_facility", "timer_mode", "force_delete", "startup_mode",
                     "pres_subs_mode", "retrieve_order_by", "sip_uri_match", "cseq_offset", "subs_remove_match", "default_socket")  # fmt: skip
    ignored_params = ("enable_pres_dmq", "enable_pres_sync_dmq", "enable_subs_sync_dmq", "skip_notify_dmq", "dmq_peer_id", "enable_sphere_check")

    class Params:
        db_url: str = ""
        presentity_table: str = "presentity"
        active_watchers_table: str = "active_watchers"
        watchers_table: str = "watchers"
        clean_period: int = 100
        expires_offset: int = 0
        max_expires: int = 3600
        min_expires: int = 0
        min_expires_action: int = 1
        server_address: str = ""
        subs_db_mode: int = 2
        publ_cache: int = 1
        timeout_rm_subs: int = 1
        subs_respond_200: int = 1
        delete_same_subs: int = 0
        retrieve_order: int = 0
        xavp_cfg: str = ""
        enable_dmq: int = 0
        enable_subs_dmq: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.packages: dict[str, Package] = {}

    def mod_init(self) -> None:
        p = self.p
        if p.enable_dmq or p.enable_subs_dmq:
            raise ConfigError("presence: replication by DMQ is not implemented: servers share by --store redis://")
        if not 0 <= p.subs_db_mode <= DB_ONLY:
            raise ConfigError("presence: subs_db_mode is 0 (memory), 1 or 2 (written to the database) or 3 (the database alone)")
        if not p.db_url and (p.subs_db_mode == DB_ONLY or not p.publ_cache):
            raise ConfigError("presence: subs_db_mode 3 and publ_cache 0 need db_url")
        self.started = int(self.rt.wall_time())
        self.records = Records(self.rt, p, self.rt.database(p.db_url) if p.db_url else None)
        self.records.check()
        if self.rt.first:
            self.records.load()
        if p.clean_period > 0:
            self.rt.every(float(p.clean_period), self.clean_aside, once=True)

    def add_package(self, package: Package) -> None:
        """Of a module that brings one, in its ``mod_init``."""
        self.packages[package.name] = package

    # -- time ------------------------------------------------------------------------------------------------------------

    def clean_aside(self) -> None:
        self.rt.worker.waits.detached(self._clean)

    def _clean(self) -> None:
        try:
            self.clean()
        except DbError as err:
            self.rt.log.error("presence: %s", err)

    def clean(self) -> None:
        """Publications and subscriptions that are over their time: watchers are told."""
        now = self.rt.wall_time()
        for key, documents in list(self.records.documents.scan()):
            over = [d for d in documents if d.expires <= now]
            if over:
                uri, _, event = key.rpartition("\0")
                self.records.change_documents(uri, event, self._without([d.ruid for d in over]))
                if event in self.packages:
                    self.notify_all(uri, event, gone=over[0].body)
        for _, subscriptions in list(self.records.subscriptions.scan()):
            for s in subscriptions:
                if s.expires <= now:
                    self.records.change(s, lambda _: None)
                    if s.event in self.packages:
                        over_now = replace(s, status=TERMINATED, reason="timeout")
                        self.notify(over_now)
                        self.tell_of_watcher(over_now)

    @staticmethod
    def _without(ruids: list[str]) -> Callable[[list[Document]], list[Document]]:
        return lambda found: [d for d in found if d.ruid not in ruids]

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST, waits=True)
    def pres_auth_status(self, ctx: Ctx, watcher_uri: str, presentity_uri: str) -> int:
        """1 active, 2 pending, 3 terminated, 4 waiting."""
        watcher, uri = aor(watcher_uri), aor(presentity_uri)
        return self.status_of(watcher, uri) if watcher is not None and uri is not None else -1

    @function(ANY, waits=True)
    def pres_update_watchers(self, ctx: Ctx, uri: str, event: str) -> int:
        """The rules have changed: who may not watch any more, or may now, is told. -1 where there are no rules."""
        return self._update(uri, event)

    def _update(self, uri: str, event: str) -> int:
        package, address = self.packages.get(event), aor(uri)
        if package is None or address is None:
            self.rt.log.error("presence: wrong event %r or URI %r", event, uri)
            return -1
        return 1 if self.decide_again(package, address) >= 0 else -1

    @function(ANY, arities=(3, 5), waits=True)
    def pres_refresh_watchers(self, ctx: Ctx, uri: str, event: str, type: int, file_uri: str = "", filename: str = "") -> int:
        """Tell all watchers again: ``type`` 0 after the rules have changed, 1 as it is."""
        if type == 2:
            self.rt.log.error("presence: type 2 of pres_refresh_watchers (a file of xcap_server) is not implemented")
            return -1
        return self._refresh_all(uri, event, type)

    def _refresh_all(self, uri: str, event: str, kind: int) -> int:
        address = aor(uri)
        if event not in self.packages or address is None:
            self.rt.log.error("presence: wrong event %r or URI %r", event, uri)
            return -1
        if kind == 0:
            return self._update(uri, event)
        self.notify_all(address, event)
        return 1

    @function(ANY)
    def pres_has_subscribers(self, ctx: Ctx, presentity_uri: str, event: str) -> int:
        uri = aor(presentity_uri)
        return 1 if uri is not None and self.records.watching(uri, event) else -1

    # -- variables -------------------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_subs(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _KEYS else f"the key is one of {' '.join(sorted(_KEYS))}"

    @pv_class("subs")
    def pv_subs(self, spec: PvSpec) -> BoundPv:
        """The subscription that was handled last, or whose NOTIFY has its answer."""
        read = _KEYS[spec.inner or ""]

        def get(ctx: Ctx) -> Value:
            s: Subscription | None = ctx.recall("presence subscription")
            return read(s) if s is not None else None

        return BoundPv(get)

    @pv_class("notify_reply")
    def pv_notify_reply(self, spec: PvSpec) -> BoundPv:
        """A variable of the answer to a NOTIFY, in ``event_route[presence:notify-reply]``."""
        inner: BoundPv = self.rt.pv_arg(spec.inner or "")
        return BoundPv(lambda ctx: inner.get(ctx) if ctx.recall("presence subscription") is not None else None)

    # -- commands --------------------------------------------------------------------------------------------------------

    @rpc("presence.cleanup")
    def rpc_cleanup(self) -> str:
        """Do now what is done every ``clean_period`` seconds."""
        self.clean()
        return "Reload OK"

    @rpc("presence.refreshWatchers", wrong="Not enough parameters")
    def rpc_refresh(self, uri: str, event: str, kind: int = 1) -> None:
        """Tell all watchers of a presentity: 0 after its rules have changed, 1 as it is."""
        if self._refresh_all(uri, event, kind) < 0:
            raise RpcFault(500, "Execution failed")

    @rpc("presence.updateWatchers", wrong="Not enough parameters")
    def rpc_update(self, uri: str, event: str) -> str:
        """Look at the rules of a presentity again."""
        if self._update(uri, event) < 0:
            raise RpcFault(500, "Processing error")
        return "OK"

    def _shown(self, uri: str, event: str, d: Document, *, whole: bool) -> dict[str, Any]:
        row: dict[str, Any] = {"pres_uri": uri, "event": event, "etag": d.etag, "expires": int(d.expires), "received_time": int(d.received), "priority": d.priority,
                               "sender": d.sender}  # fmt: skip
        return {**row, "body": d.body} if whole else row

    def _documents(self) -> list[tuple[str, str, Document]]:
        return [(uri, event, d) for key, found in self.records.documents.scan() for uri, _, event in [key.rpartition("\0")] for d in found]

    @rpc("presence.presentity_list")
    def rpc_list(self, mode: str = "basic") -> list[dict[str, Any]]:
        """All publications; with ``full`` their documents as well."""
        return [self._shown(uri, event, d, whole=mode == "full") for uri, event, d in self._documents()]

    @rpc("presence.presentity_show")
    def rpc_show(self, uri: str, event: str | None = None) -> list[dict[str, Any]]:
        """The publications of one presentity."""
        found = [self._shown(u, e, d, whole=True) for u, e, d in self._documents() if u == aor(uri) and event in (None, "*", e)]
        if not found:
            raise RpcFault(404, "Record not found")
        return found

    @rpc("presence.watcher_list")
    def rpc_watchers(self, uri: str, event: str = "presence") -> list[dict[str, Any]]:
        """Who watches a presentity."""
        return [{"watcher": s.watcher, "event": s.event, "status": STATE_NAMES[s.status], "reason": s.reason, "expires": int(s.expires), "contact": s.contact,
                 "callid": s.call_id} for s in self.records.watching(aor(uri) or "", event)]  # fmt: skip

    @rpc("presence.publish_cache_sync", spread=Spread.FIRST)
    def rpc_sync(self) -> str:
        """Read publications from the database again, where none is known."""
        self.records.load()
        return "OK"


module = Presence
