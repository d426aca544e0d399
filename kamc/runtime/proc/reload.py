"""Another generation for all workers: compiled in a child, bound by every worker beside the running one, exchanged when all have said yes.

    idle ── asked ──▶ compiling ── build ──▶ preparing ── all "prepared" ──▶ activating ── all "active" ──▶ idle
                          └── does not compile ──┴── "refused", a death, no answer ──▶ idle, nothing has changed

A request that comes meanwhile starts another round afterwards.
"""

from __future__ import annotations

import marshal
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.proc import notify
from kamc.runtime.proc.link import to_row
from kamc.runtime.proc.sockets import Bound, Wanted, place
from kamc.runtime.program import digest_of, read_params

if TYPE_CHECKING:
    from kamc.runtime.proc.supervisor import Handle, Supervisor

#: seconds for a compile, and for the workers to bind what came out
_COMPILE_LIMIT: Final = 60.0
_PREPARE_LIMIT: Final = 20.0
#: how many reloads are remembered
_HISTORY: Final = 20
#: the plan, and the end, of a reload that changes nothing
_SAME: Final = "unchanged"
#: core parameters that count when the server starts
_AT_START: Final = ("user", "group", "workdir", "rundir", "log_stderror", "fork", "chroot", "ip_free_bind", "tcp_reuse_port")

Told = Callable[[str, Any], None]


@dataclass(slots=True)
class Round:
    """One reload on its way."""

    why: str
    dry: bool
    told: list[Told]
    deadline: float
    child: subprocess.Popen[bytes] | None = None
    out: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    base: str = ""
    number: int = 0
    wanted: Wanted | None = None
    plan: list[str] = field(default_factory=list)
    sockets: dict[Listener, Bound] = field(default_factory=dict)
    #: workers that have not answered
    waiting: set[int] = field(default_factory=set)
    activating: bool = False
    pauses: list[float] = field(default_factory=list)
    #: how many there are to be afterwards; 0 for as many as before
    workers: int = 0


def _unchanged(one: Round) -> bool:
    return one.plan == [_SAME]


class Reloader:
    """The supervisor's reloads. ``command`` compiles the configuration again and writes it to the file that is put behind it."""

    def __init__(self, supervisor: Supervisor, command: list[str], folder: str) -> None:
        self.supervisor, self.command, self.folder = supervisor, command, folder
        self.current: Round | None = None
        self.next: Round | None = None
        self.history: list[dict[str, Any]] = []

    @property
    def state(self) -> str:
        one = self.current
        return "idle" if one is None else "activating" if one.activating else "preparing" if one.number else "compiling"

    # -- asking ----------------------------------------------------------------------------------------------------------

    def ask(self, why: str, *, dry: bool = False, told: Told | None = None) -> None:
        """Begin a reload, or note that another one is wanted."""
        tell = [told] if told is not None else []
        if not self.command:
            for one in tell:
                one("this server was not started from a configuration that can be compiled again", None)
            return
        if self.current is not None:
            if self.next is None or self.next.dry != dry:
                self._finish_next()
                self.next = Round(why, dry, tell, 0.0)
            else:
                self.next.told += tell
            return
        self._begin(Round(why, dry, tell, 0.0))

    def _finish_next(self) -> None:
        waiting, self.next = self.next, None
        for told in waiting.told if waiting is not None else ():
            told("another request came in between", None)

    def _begin(self, one: Round) -> None:
        self.current = one
        one.deadline = time.monotonic() + _COMPILE_LIMIT
        if not one.dry:
            notify.reloading()
        handle, one.out = tempfile.mkstemp(prefix="kamc-build-")
        os.close(handle)
        one.child = subprocess.Popen([*self.command, one.out], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self.folder)
        assert one.child.stderr is not None
        os.set_blocking(one.child.stderr.fileno(), False)
        said = bytearray()

        def readable() -> None:
            assert one.child is not None and one.child.stderr is not None
            data = one.child.stderr.read()
            if data:
                said.extend(data)
                return
            if data == b"":
                self.supervisor.selector.unregister(one.child.stderr)
                try:
                    self._compiled(one, bytes(said).decode("utf-8", "replace").strip())
                except Exception as err:
                    self._end(one, f"{type(err).__name__}: {err}")

        self.supervisor.selector.register(one.child.stderr, 1, readable)

    # -- steps -----------------------------------------------------------------------------------------------------------

    def _compiled(self, one: Round, said: str) -> None:
        """The child has ended, or has closed its stderr and is about to."""
        assert one.child is not None and one.child.stderr is not None
        one.child.stderr.close()
        try:
            status = one.child.wait(5)
        except subprocess.TimeoutExpired:
            one.child.kill()
            status = one.child.wait()
        try:
            with open(one.out, "rb") as file:
                data = file.read()
        finally:
            os.unlink(one.out)
        files, one.base, watched = marshal.loads(data) if data else (None, "", {})
        self.supervisor.desk.watch(watched)
        if status != 0 or files is None:
            self._end(one, said or f"the compiler ended with status {status}")
            return
        one.files = files
        try:
            self._plan(one)
        except ConfigError as err:
            self._end(one, str(err))
            return
        if one.dry or _unchanged(one):
            self._end(one, "")
            return
        self._prepare(one)

    def _plan(self, one: Round) -> None:
        """What a build changes, in words. Raises ConfigError."""
        old, new = read_params(self.supervisor.files), read_params(one.files)
        one.wanted = Wanted(new, self.supervisor.options)
        if digest_of(one.files) == digest_of(self.supervisor.files):
            one.plan.append(_SAME)
            return
        before, after = {place(s): str(s) for s in self.supervisor.sockets}, {place(s): str(s) for s in one.wanted.listeners}
        one.plan += [f"listen on {name}" for at, name in after.items() if at not in before]
        one.plan += [f"listen no more on {name}" for at, name in before.items() if at not in after]
        one.plan += [f"load module {name}" for name in new["modules"] if name not in old["modules"]]
        one.plan += [f"drop module {name}" for name in old["modules"] if name not in new["modules"]]
        settings = [{(m, p): v for m, p, v, _ in params["modparams"]} for params in (old, new)]
        one.plan += [f"set {module}/{param}" for module, param in sorted(settings[0].keys() | settings[1].keys())
                     if settings[0].get((module, param)) != settings[1].get((module, param))]  # fmt: skip
        cores = [dict(params["core"]) for params in (old, new)]
        late = (*_AT_START, *self._plan_workers(one, cores[1]))
        for name in sorted(cores[0].keys() | cores[1].keys()):
            if cores[0].get(name) != cores[1].get(name):
                one.plan.append(f"{name} counts from the next start on" if name in late else f"set {name}")
        one.plan.append("exchange the routes")

    def _plan_workers(self, one: Round, core: dict[str, Any]) -> tuple[str, ...]:
        """``--workers auto`` follows ``children``. What of it has to wait for the next start."""
        supervisor = self.supervisor
        count = supervisor.as_many_as_wanted(core)
        if supervisor.options.workers or count == supervisor.wanted:
            return ()
        if supervisor.exchange is None:
            return ("children",)
        one.workers = count
        one.plan.append(f"serve with {count} workers")
        return ()

    def _prepare(self, one: Round) -> None:
        supervisor = self.supervisor
        assert one.wanted is not None
        have = {place(s): bound for s, bound in supervisor.sockets.items()}
        try:
            one.sockets = one.wanted.open(have, supervisor.wanted)
        except ConfigError as err:
            self._end(one, str(err))
            return
        one.number = supervisor.generation + 1
        one.deadline = time.monotonic() + _PREPARE_LIMIT
        rows = [to_row(s) for s in one.sockets]
        known = [at for at, s in enumerate(one.sockets) if place(s) in have]
        fresh = [bound for s, bound in one.sockets.items() if place(s) not in have]
        one.waiting = set(supervisor.workers)
        if not one.waiting:
            # nobody runs the old one: those that could not start try again with this
            supervisor.adopt(one.files, one.base, one.sockets, one.number)
            self._end(one, "")
            return
        for handle in list(supervisor.workers.values()):
            if not handle.send("prepare", one.number, one.files, one.base, rows, known, supervisor.overrides(one.wanted.core),
                               fds=tuple(bound.of(handle.index).fileno() for bound in fresh)):  # fmt: skip
                self._refuse(one, f"worker {handle.pid} does not listen")
                return

    def heard(self, handle: Handle, kind: str, number: int, what: Any) -> None:
        """A worker's word about a generation."""
        one = self.current
        if one is None or number != one.number or handle.pid not in one.waiting:
            return
        if kind == "refused" and one.activating:
            self.supervisor.log.critical("worker %d does not take over, it is ended: %s", handle.pid, what)
            os.kill(handle.pid, signal.SIGKILL)
            return
        if kind == "refused":
            self._refuse(one, str(what))
            return
        one.waiting.discard(handle.pid)
        if kind == "active":
            one.pauses.append(float(what))
        if one.waiting:
            return
        if one.activating:
            self._end(one, "")
            return
        one.activating, one.waiting = True, set(self.supervisor.workers)
        # every worker has said that it can: from here on there is no way back
        self.supervisor.adopt(one.files, one.base, one.sockets, one.number)
        for worker in list(self.supervisor.workers.values()):
            worker.send("activate", one.number)

    def died(self, pid: int) -> None:
        """A worker is gone. The one that takes its place begins on the supervisor's build."""
        one = self.current
        if one is None or not one.number:
            return
        if not one.activating:
            self._refuse(one, f"worker {pid} died while the new generation was prepared")
            return
        one.waiting.discard(pid)
        if not one.waiting:
            self._end(one, "")

    def look(self) -> None:
        """Called now and then: nobody may hold up reloads for ever."""
        one = self.current
        if one is None or time.monotonic() < one.deadline:
            return
        if not one.files:
            assert one.child is not None
            one.child.kill()
            one.deadline += _COMPILE_LIMIT
            return
        for pid in one.waiting:
            self.supervisor.log.critical("worker %d does not answer, it is ended", pid)
            os.kill(pid, signal.SIGKILL)
        one.deadline += _PREPARE_LIMIT

    def _refuse(self, one: Round, why: str) -> None:
        """Take everything back."""
        for handle in list(self.supervisor.workers.values()):
            handle.send("discard", one.number)
        for bound in set(one.sockets.values()) - set(self.supervisor.sockets.values()):
            bound.close()
        self._end(one, why)

    def _end(self, one: Round, error: str) -> None:
        log = self.supervisor.log
        self.current = None
        if error:
            log.error("reload (%s) failed, nothing has changed:", one.why)
            for line in error.splitlines():
                log.error("  %s", line)
        elif not one.dry:
            log.notice("reload (%s): %s", one.why, _SAME if _unchanged(one) else f"generation {one.number} runs")
        result = {"state": "failed" if error else "planned" if one.dry else _SAME if _unchanged(one) else "active", "why": one.why,
                  "generation": one.number, "plan": one.plan, "pause_us": round(max(one.pauses, default=0.0) * 1e6)}  # fmt: skip
        if not one.dry:
            self.history = [*self.history[1 - _HISTORY :], {**result, "at": time.strftime("%Y-%m-%d %H:%M:%S"), "error": error}]
            notify.notify("READY=1")
        for told in one.told:
            told(error, result)
        if one.workers and result["state"] == "active":
            self.supervisor.resizer.ask(one.workers, lambda error, _: log.error("%d workers: %s", one.workers, error) if error else None)
        waiting, self.next = self.next, None
        if waiting is not None:
            self._begin(waiting)
