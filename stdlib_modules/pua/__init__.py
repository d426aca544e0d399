"""Module pua: publishes state and subscribes to it, for other modules (pua_usrloc, pua_dialoginfo, pua_rpc).

https://www.kamailio.org/docs/modules/stable/modules/pua.html. What was published is in the store that all workers share; every change is written to table ``pua`` of
``db_url`` as well, and it is read at start. Without ``db_url`` nothing is kept beyond the store.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from kamc.declare import Module, Routes, function, rpc
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from stdlib_modules.pua.publish import Publication, Publisher
from stdlib_modules.pua.records import Records
from stdlib_modules.pua.subscribe import Subscriber

#: the timer looks so much more often than the records ask for
_EARLIER = 5


class Pua(Publisher, Subscriber, Module):
    name = "pua"
    depends = ("tm",)
    tuning_params = ("hash_size", "fetch_rows", "db_table_lock_write", "db_mode", "check_remote_contact")
    kept = ("waiting", "asked")

    class Params:
        db_url: str = ""
        db_table: str = "pua"
        min_expires: int = 0
        default_expires: int = 3600
        update_period: int = 100
        outbound_proxy: str = ""
        dlginfo_increase_version: int = 0
        reginfo_increase_version: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.waiting: dict[str, deque[Publication]] = {}
        self.asked: set[str] = set()

    def mod_init(self) -> None:
        p = self.p
        if p.update_period and p.update_period <= _EARLIER:
            raise ConfigError(f"pua: update_period must be 0 or > {_EARLIER}")
        if p.default_expires <= 0 or p.min_expires < 0:
            raise ConfigError("pua: default_expires and min_expires are numbers of seconds")
        self.records = Records(self.rt, p.db_table, self.rt.database(p.db_url) if p.db_url else None)
        self.records.check()
        if self.rt.first:
            self.records.load()
        if p.update_period:
            self.rt.every(float(p.update_period - _EARLIER), self.refresh, once=True)

    def refresh(self) -> None:
        """Send again what ends within ``update_period`` seconds."""
        now = self.rt.wall_time()
        for record in self.records:
            if record.expires - self.p.update_period >= now:
                continue
            if record.desired and record.desired <= now:
                # nobody wants it any longer
                if record.expires <= now:
                    self.records.delete(record)
            elif record.watcher:
                self.refresh_subscription(record, now)
            else:
                self.refresh_publication(record, now)

    @function(Routes.REQUEST)
    def pua_update_contact(self, ctx: Ctx) -> int:
        """The SUBSCRIBE or NOTIFY in hand says where the other side of a subscription is now. -1 when this server has none such."""
        return 1 if self.move_contact(ctx.msg) else -1

    @rpc("pua.cleanup")
    def rpc_cleanup(self) -> None:
        """Forget what is over its time."""
        now = self.rt.wall_time()
        for record in self.records:
            if record.expires < now:
                self.records.delete(record)


module = Pua
