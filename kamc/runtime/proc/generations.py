"""The generations of a worker: one runs, another may be prepared beside it, older ones finish what began on them.

``prepare`` binds a build and starts its modules; whatever fails there leaves everything as it was. ``activate`` exchanges the running
generation between two messages. Transactions, armed routes, and runs that were set aside keep the one that they began on; when the last
of them is done, an old generation is let go of.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from kamc.runtime.api import Runtime
from kamc.runtime.program import load_program, start_modules

if TYPE_CHECKING:
    from kamc.runtime.proc.worker import Worker

#: how many of the last exchanges the statistics look at
_REMEMBERED: Final = 1000
#: seconds between the end of an old generation and the collection of its cycles
_COLLECT_AFTER: Final = 1.0


def _collect(now: float) -> None:
    gc.collect()


class Generations:
    """One per worker. ``old`` are those that still have work to do."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.old: list[Runtime] = []
        self.prepared: Runtime | None = None
        self._last = 0
        #: seconds that the worker stood still for each exchange
        self.pauses: deque[float] = deque(maxlen=_REMEMBERED)

    # -- exchange --------------------------------------------------------------------------------------------------------

    def prepare(self, files: Mapping[str, bytes], base: str, overrides: Mapping[str, Any] | None = None, number: int = 0) -> Runtime:
        """Bind a build beside the running generation. Raises ConfigError; nothing has changed then. ``number`` is the one that the whole
        server gives it, by default the next of this worker."""
        self.discard()
        worker = self.worker
        began = time.perf_counter()
        rt = Runtime(worker, number or self._last + 1)
        rt.previous = worker.rt
        try:
            load_program(files, rt, base)
            rt.params.update(overrides or {})
            rt.prepare_headers()
            start_modules(rt)
        except BaseException:
            rt.release()
            rt.dispose()
            raise
        if self.worker.measures is not None:
            self.worker.measures.watch(rt.functions)
        self._last = rt.generation
        self.prepared = rt
        rt.prepared_in = time.perf_counter() - began
        return rt

    def discard(self) -> None:
        """Forget what was prepared and is not wanted after all."""
        rt, self.prepared = self.prepared, None
        if rt is not None:
            rt.release()
            rt.dispose()

    def activate(self) -> Runtime:
        """Let the prepared generation take over. A module that fails at it is reported; the others go on."""
        rt, self.prepared = self.prepared, None
        assert rt is not None
        worker, old = self.worker, self.worker.rt
        began = time.perf_counter()
        worker.take_hooks(rt)
        worker.rt = rt
        rt.active = True
        for name, module in rt.modules.items():
            before = old.modules.get(name) if old is not None else None
            if before is not None and type(before) is not type(module):
                before = None
            self._step(module.name, partial(module.activate, before), strict=old is None)
        rt.previous = None
        if rt.waits:
            worker.waits.active = True
            worker.timers.run = worker.waits.run
        if old is not None:
            rt.start_repeating(old)
            for module in rt.modules.values():
                self._step(module.name, module.child_init)
            self._retire(old)
            self.pauses.append(rt.prepared_in + time.perf_counter() - began)
        return rt

    def _step(self, name: str, step: Callable[[], object], *, strict: bool = False) -> None:
        """One step of a module. At start a mistake stops the start, later nobody could go back."""
        if strict:
            step()
            return
        try:
            step()
        except Exception as err:
            self.worker.log.error("module %s does not take over: %s", name, err)
            self.worker.datapath.report(err, None)

    # -- the end of one --------------------------------------------------------------------------------------------------

    def _retire(self, rt: Runtime) -> None:
        """It was replaced: its repeating timers stop, what the new one did not take over is given back."""
        rt.active = False
        for one in rt.repeating:
            one.stop()
        self._step("of the old generation", rt.release)
        self.old.append(rt)
        self.let_go()

    def let_go(self) -> None:
        """Drop the old generations that nothing began on any more."""
        done = [rt for rt in self.old if not rt.pins]
        if not done:
            return
        self.old = [rt for rt in self.old if rt.pins]
        for rt in done:
            rt.dispose()
        if not self.old:
            self.worker.close_leaving()
        worker = self.worker
        if worker.serves:
            worker.timers.arm(worker.clock() + _COLLECT_AFTER, _collect)

    def table(self) -> list[dict[str, Any]]:
        """As ``kamc.generations`` shows them: the running one last. Pauses are in microseconds."""
        current = self.worker.rt
        rows = [(rt, "draining") for rt in self.old] + ([(current, "active")] if current is not None else [])
        return [{"generation": rt.generation, "state": state, "pins": rt.pins, "entry": rt.entry, "digest": rt.digest[:12]} for rt, state in rows]

    def pauses_shown(self) -> dict[str, int]:
        """How many exchanges are remembered, and how long they took, in microseconds."""
        ordered = sorted(self.pauses)
        if not ordered:
            return {"count": 0}
        return {"count": len(ordered)} | {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6)
                                          for name, share in (("median", 0.5), ("p99", 0.99), ("most", 1.0))}  # fmt: skip
