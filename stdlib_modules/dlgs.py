"""Module dlgs: statistics of dialogs, followed by Call-ID and tags. https://www.kamailio.org/docs/modules/devel/modules/dlgs.html"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kamc.declare import ANY, Module, Routes, Spread, function, rpc
from kamc.runtime.context import Ctx
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.tm.transaction import Transaction

INIT, PROGRESS, ANSWERED, CONFIRMED, TERMINATED, NOTANSWERED = range(1, 7)
_NAMES = {INIT: "init", PROGRESS: "progress", ANSWERED: "answered", CONFIRMED: "confirmed", TERMINATED: "terminated", NOTANSWERED: "notanswered"}


@dataclass(slots=True)
class Item:
    """One followed dialog. Times are wall-clock seconds, 0 when it has not come to that."""

    call_id: str
    ftag: str
    ttag: str
    src: str
    dst: str
    data: str
    ruid: str
    state: int = INIT
    init: float = 0.0
    answer: float = 0.0
    finish: float = 0.0
    tags: set[str] = field(default_factory=set)


class Dlgs(Module):
    name = "dlgs"
    kept = ("items", "serial", "totals")
    tuning_params = ("hash_size",)

    class Params:
        active_lifetime: int = 10800
        init_lifetime: int = 180
        finish_lifetime: int = 10
        timer_interval: int = 30

    def mod_init(self) -> None:
        self.items: dict[str, Item] = {}
        self.serial = 0
        self.totals = {"init": 0, "progress": 0, "answered": 0, "confirmed": 0, "terminated": 0, "notanswered": 0}
        if self.rt.module("tm") is not None:
            self.rt.hooks.transactions.append(self.watch)

    def child_init(self) -> None:
        self.rt.every(max(1, self.p.timer_interval), self.clean)

    def clean(self) -> None:
        """Forget dialogs that are over, or that nobody ended."""
        now = self.rt.wall_time()
        limits: dict[int, Callable[[Item], bool]] = {
            INIT: lambda i: now - i.init > self.p.init_lifetime, PROGRESS: lambda i: now - i.init > self.p.init_lifetime,
            ANSWERED: lambda i: now - i.answer > self.p.active_lifetime, CONFIRMED: lambda i: now - i.answer > self.p.active_lifetime,
            TERMINATED: lambda i: now - i.finish > self.p.finish_lifetime, NOTANSWERED: lambda i: now - i.finish > self.p.finish_lifetime,
        }  # fmt: skip
        for key in [k for k, item in self.items.items() if limits[item.state](item)]:
            del self.items[key]

    def _move(self, item: Item, state: int) -> None:
        now = self.rt.wall_time()
        if state <= item.state:
            return
        item.state = state
        self.totals[_NAMES[state]] += 1
        if state == ANSWERED:
            item.answer = now
        elif state >= TERMINATED:
            item.finish = now

    def watch(self, event: str, t: Transaction, what: Any) -> None:
        if event != "final" or not t.is_invite or t.rt is not self.rt:
            return
        item = self.items.get(t.msg.call_id)
        if item is None or item.state >= ANSWERED:
            return
        code = what[0]
        self._move(item, PROGRESS if code < 200 else ANSWERED if code < 300 else NOTANSWERED)

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST | Routes.ONREPLY | Routes.BRANCH | Routes.ONSEND)
    def dlgs_init(self, ctx: Ctx, src: str, dst: str, data: str) -> int:
        """Begin to follow the dialog of an initial INVITE."""
        msg = ctx.msg
        if msg.method != "INVITE" or msg.call_id in self.items:
            return -1
        self.serial += 1
        self.items[msg.call_id] = Item(msg.call_id, msg.from_tag, "", src, dst, data, f"dlgs-{self.serial:x}", init=self.rt.wall_time())
        self.totals["init"] += 1
        return 1

    @function(Routes.REQUEST | Routes.BRANCH | Routes.ONSEND)
    def dlgs_update(self, ctx: Ctx) -> int:
        """Note what a later request means for its dialog."""
        msg = ctx.msg
        item = self.items.get(msg.call_id)
        if item is None:
            return -1
        if msg.method == "ACK" and item.state == ANSWERED:
            self._move(item, CONFIRMED)
        elif msg.method == "BYE":
            self._move(item, TERMINATED)
        elif msg.method == "CANCEL" and item.state < ANSWERED:
            self._move(item, NOTANSWERED)
        return 1

    def _matching(self, field_: str, op: str, data: str) -> list[Item]:
        tests: dict[str, Callable[[str], bool]] = {
            "eq": lambda v: v == data, "ne": lambda v: v != data, "sw": lambda v: v.startswith(data), "re": lambda v: bool(self.rt.dynamic_regex(data).test(v)),
            "fm": lambda v: fnmatch.fnmatchcase(v, data),
        }  # fmt: skip
        if field_ not in ("src", "dst", "data", "any") or op not in tests:
            self.rt.log.error("dlgs: unknown field %r or operator %r", field_, op)
            return []
        active = [i for i in self.items.values() if i.state < TERMINATED]
        return active if field_ == "any" else [i for i in active if tests[op](getattr(i, field_))]

    @function(ANY)
    def dlgs_count(self, ctx: Ctx, field: str, op: str, data: str) -> int:
        """How many running dialogs match; -1 for none."""
        return len(self._matching(field, op, data)) or -1

    @function(ANY)
    def dlgs_tags_add(self, ctx: Ctx, vtag: str) -> int:
        item = self.items.get(ctx.msg.call_id)
        if item is None:
            return -1
        item.tags.add(vtag)
        return 1

    @function(ANY)
    def dlgs_tags_rm(self, ctx: Ctx, vtag: str) -> int:
        item = self.items.get(ctx.msg.call_id)
        if item is None or vtag not in item.tags:
            return -1
        item.tags.discard(vtag)
        return 1

    @function(ANY)
    def dlgs_tags_count(self, ctx: Ctx, vtag: str) -> int:
        return sum(vtag in i.tags for i in self.items.values() if i.state < TERMINATED) or -1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _row(self, i: Item) -> dict[str, Any]:
        return {"callid": i.call_id, "ftag": i.ftag, "ttag": i.ttag, "src": i.src, "dst": i.dst, "data": i.data, "ruid": i.ruid, "state": i.state,
                "ts_init": int(i.init), "ts_answer": int(i.answer), "ts_finish": int(i.finish), "tags": sorted(i.tags)}  # fmt: skip

    @rpc("dlgs.list", spread=Spread.JOIN)
    def rpc_list(self) -> list[dict[str, Any]]:
        """All dialogs."""
        return [self._row(i) for i in self.items.values()]

    @rpc("dlgs.briefing", spread=Spread.JOIN)
    def rpc_briefing(self) -> list[dict[str, Any]]:
        """All dialogs, short."""
        return [{"ruid": i.ruid, "src": i.src, "dst": i.dst, "state": i.state} for i in self.items.values()]

    @rpc("dlgs.count", spread=Spread.SUM)
    def rpc_count(self, field: str, op: str, data: str) -> int:
        """How many running dialogs match."""
        return len(self._matching(field, op, data))

    @rpc("dlgs.getall", spread=Spread.JOIN)
    def rpc_getall(self, field: str, op: str, data: str) -> list[dict[str, Any]]:
        """Running dialogs that match."""
        return [self._row(i) for i in self._matching(field, op, data)]

    @rpc("dlgs.get", spread=Spread.EVERY)
    def rpc_get(self, field: str, op: str, data: str) -> dict[str, Any]:
        """The first running dialog that matches."""
        found = self._matching(field, op, data)
        if not found:
            raise RpcFault(404, "Not found")
        return self._row(found[0])

    @rpc("dlgs.stats", spread=Spread.SUM)
    def rpc_stats(self) -> dict[str, int]:
        """Numbers of dialogs by state, running and in all."""
        now = {name: sum(i.state == state for i in self.items.values()) for state, name in _NAMES.items()}
        return {**{f"c_{k}": v for k, v in self.totals.items()}, **now}


module = Dlgs
