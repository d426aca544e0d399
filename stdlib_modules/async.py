"""Module async: routes that run later or aside, and pauses that hold up no worker.

A pause (``async_sleep``) goes on with what follows in the same block, as in Kamailio: what stands behind the call of that block does not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kamc.declare import ANY, Exit, Module, Routes, function, modparam, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv

_ROUTES: Final = Routes.REQUEST | Routes.FAILURE
Rest = Callable[[Ctx], Any]
_DEFAULT_GROUP: Final = "default"


class Async(Module):
    name = "async"
    depends = ("tm",)
    tuning_params = ("workers", "ms_timer", "mode")

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: what the functions return when the transaction is suspended: 0 ends the script
        self.result = 0

    @modparam("return", types=(int,))
    def set_return(self, value: int) -> None:
        self.result = value

    def mod_init(self) -> None:
        #: data and group of the task that runs now
        self.task: tuple[str, str] | None = None
        self.rt.hooks.aside.append(self._keep_task)
        self.groups = {_DEFAULT_GROUP, *self._groups(str(self.rt.params.get("async_workers_group") or ""))}

    def _keep_task(self) -> Callable[[], None]:
        kept = self.task

        def bring_back() -> None:
            self.task = kept

        return bring_back

    @staticmethod
    def _groups(text: str) -> list[str]:
        """Names in ``name=reg;workers=4;usleep=0;nonblock=1``."""
        return [value.strip() for part in text.split(";") for key, _, value in [part.partition("=")] if key.strip() == "name" and value.strip()]

    # -- later -----------------------------------------------------------------------------------------------------------

    def _later(self, ctx: Ctx, seconds: float, run: Rest) -> int:
        """Suspend the transaction and go on with it after a time. Ends the script, unless parameter ``return`` says otherwise."""
        t = self.rt.module("tm").suspend(ctx)
        if t is None:
            self.rt.log.error("async: the transaction cannot be suspended")
            return -1
        ident = t.hash_index, t.label

        def go_on(now: float) -> None:
            if self.rt.tm.find_id(*ident) is t:
                self.rt.module("tm").resume(t, run)

        self.rt.timers.arm(self.rt.now() + seconds, go_on)
        if self.result == 0:
            raise Exit
        return self.result

    def _route(self, ctx: Ctx, routename: str, seconds: float) -> int:
        route = self.rt.route_function("request", routename)
        if route is None:
            self.rt.log.error("async: there is no route[%s]", routename)
            return -1
        return self._later(ctx, max(0.0, seconds), route)

    @function(_ROUTES)
    def async_route(self, ctx: Ctx, routename: str, seconds: int) -> int:
        return self._route(ctx, routename, seconds)

    @function(_ROUTES)
    def async_ms_route(self, ctx: Ctx, routename: str, milliseconds: int) -> int:
        return self._route(ctx, routename, milliseconds / 1000)

    @function(_ROUTES, suspends=True)
    def async_sleep(self, ctx: Ctx, seconds: int, *, rest: Rest | None = None) -> int:
        return self._later(ctx, max(0, seconds), rest or _nothing)

    @function(_ROUTES, suspends=True)
    def async_ms_sleep(self, ctx: Ctx, milliseconds: int, *, rest: Rest | None = None) -> int:
        return self._later(ctx, max(0, milliseconds) / 1000, rest or _nothing)

    # -- aside -----------------------------------------------------------------------------------------------------------

    def _has_workers(self, group: str) -> bool:
        """Kamailio runs tasks in processes of their own; here the worker runs them when it is done with what it has in hand."""
        if group == _DEFAULT_GROUP and not self.rt.param("async_workers"):
            self.rt.log.error("async: async_workers is 0, no task can run")
            return False
        if group not in self.groups:
            self.rt.log.error("async: there is no group %s of workers", group)
            return False
        return True

    @function(_ROUTES)
    def async_task_route(self, ctx: Ctx, routename: str) -> int:
        return self._route(ctx, routename, 0) if self._has_workers(_DEFAULT_GROUP) else -1

    @function(_ROUTES)
    def async_task_group_route(self, ctx: Ctx, routename: str, groupname: str) -> int:
        return self._route(ctx, routename, 0) if self._has_workers(groupname) else -1

    @function(ANY)
    def async_task_data(self, ctx: Ctx, routename: str, data: str) -> int:
        """Run a route that has no message, only data: ``$async(data)``."""
        return self._data(routename, _DEFAULT_GROUP, data)

    @function(ANY)
    def async_task_group_data(self, ctx: Ctx, routename: str, groupname: str, data: str) -> int:
        return self._data(routename, groupname, data)

    def _data(self, routename: str, group: str, data: str) -> int:
        route = self.rt.route_function("request", routename)
        if route is None or not self._has_workers(group):
            if route is None:
                self.rt.log.error("async: there is no route[%s]", routename)
            return -1

        def run(now: float) -> None:
            self.task = (data, group)
            try:
                self.rt.datapath.run(route, self.rt.worker.fake_context(Routes.REQUEST))
            finally:
                self.task = None

        self.rt.timers.arm(self.rt.now(), run)
        return 1

    @pv_class("async")
    def pv_async(self, spec: PvSpec) -> BoundPv:
        index = ("data", "gname").index(spec.inner or "")

        def get(ctx: Ctx) -> Value:
            return self.task[index] if self.task is not None else None

        return BoundPv(get)

    @classmethod
    def check_pv_async(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("data", "gname") else "the name is data or gname"


def _nothing(ctx: Ctx) -> int:
    return 1


module = Async
