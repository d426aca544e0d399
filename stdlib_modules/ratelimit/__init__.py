"""Module ratelimit: at most so many requests a second, per method or by hand. https://www.kamailio.org/docs/modules/stable/modules/ratelimit.html

Algorithms: TAILDROP (over the limit is refused), RED (early and evenly, by the load of the last interval), FEEDBACK (as much as brings the load of
the processors to the limit, in percent) and NETWORK (while more bytes than the limit wait in the queues of the server's sockets).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kamc.declare import ANY, Module, Routes, Spread, function, modparam, rpc
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.ratelimit.load import Controller, processor_times, waiting_bytes

#: with their numbers, as RPC shows them
_ALGORITHMS = {"NOP": 0, "RED": 1, "TAILDROP": 2, "FEEDBACK": 3, "NETWORK": 4}
_PIPES = 32


@dataclass(slots=True)
class Pipe:
    """``limit`` is requests a second, for FEEDBACK percent, for NETWORK bytes; ``counter`` those of the interval that runs, ``load`` what the last
    one was against the limit: for FEEDBACK how many percent are dropped, for NETWORK -1 when too much waits."""

    algorithm: str
    limit: int
    counter: int = 0
    last: int = 0
    load: int = 0


def parse_pipe(text: str) -> tuple[int, Pipe]:
    """``0:TAILDROP:10``. Raises ValueError."""
    found = re.fullmatch(r"\s*(\d+)\s*:\s*(\w+)\s*:\s*(\d+)\s*", text)
    if found is None:
        raise ValueError(f"{text!r}: the form is NUMBER:ALGORITHM:LIMIT")
    return int(found[1]), Pipe(algorithm(found[2]), int(found[3]))


def algorithm(name: str) -> str:
    """Raises ValueError."""
    upper = name.upper()
    if upper not in _ALGORITHMS:
        raise ValueError(f"algorithm {name!r} is none of {', '.join(_ALGORITHMS)}")
    return upper


def _real(value: Any) -> float:
    """A number of an RPC parameter. Raises RpcFault."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise RpcFault(400, "Not a number") from None
    if found != found or found in (float("inf"), float("-inf")):
        raise RpcFault(400, "Not a number")
    return found


class Ratelimit(Module):
    name = "ratelimit"
    kept = ("controller", "shown", "times")

    class Params:
        timer_interval: int = 10

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.pipes: dict[int, Pipe] = {number: Pipe("NOP", 0) for number in range(_PIPES)}
        #: queue number → (method or *, pipe)
        self.queues: dict[int, tuple[str, int]] = {}
        self.controller = Controller()
        #: the processors' times at the last look
        self.times = processor_times()
        #: of rl.set_dbg: tell the counters after each interval
        self.shown = False

    @modparam("pipe")
    def set_pipe(self, text: str) -> None:
        number, pipe = parse_pipe(text)
        if number >= _PIPES:
            raise ValueError(f"{text!r}: there are {_PIPES} pipes, from 0 on")
        self.pipes[number] = pipe

    @modparam("queue")
    def set_queue(self, text: str) -> None:
        """``0:INVITE``: requests of a method go through a pipe; ``*`` stands for all others."""
        found = re.fullmatch(r"\s*(\d+)\s*:\s*(\w+|\*)\s*", text)
        if found is None:
            raise ValueError(f"{text!r}: the form is PIPE:METHOD")
        self.queues[len(self.queues)] = (found[2].upper(), int(found[1]))

    def mod_init(self) -> None:
        if self.p.timer_interval <= 0:
            raise ConfigError("ratelimit: timer_interval is a number of seconds above 0")
        for method, number in self.queues.values():
            if number not in self.pipes:
                raise ConfigError(f"ratelimit: queue {method} leads to pipe {number}, which is not there")
        self.rt.every(float(self.p.timer_interval), self._next_interval)

    def activate(self, previous: Any) -> None:
        """What has been counted goes on to count where the pipe is the same."""
        super().activate(previous)
        for number, pipe in self.pipes.items():
            before = previous.pipes[number] if previous is not None else pipe
            if (before.algorithm, before.limit) == (pipe.algorithm, pipe.limit):
                pipe.counter, pipe.last, pipe.load = before.counter, before.last, before.load

    def _next_interval(self) -> None:
        for number, pipe in self.pipes.items():
            if pipe.algorithm == "NETWORK":
                pipe.load = -1 if waiting_bytes((s.host, s.port) for s in self.rt.listeners) > pipe.limit else 1
            elif pipe.algorithm != "FEEDBACK":
                pipe.load = pipe.counter // (self.p.timer_interval * pipe.limit) if pipe.limit else 0
            if self.shown and pipe.algorithm != "NOP":
                self.rt.log.warning("ratelimit: pipe %d: %d of %d, drop rate %d", number, pipe.counter, pipe.limit, pipe.load)
            pipe.last, pipe.counter = pipe.counter, 0
        if any(pipe.algorithm == "FEEDBACK" for pipe in self.pipes.values()):
            before, self.times = self.times, processor_times()
            passed = self.times[0] - before[0]
            self._steer(1 - (self.times[1] - before[1]) / passed if passed > 0 else 0.0)

    def _steer(self, load: float) -> None:
        """The one controller follows the last of the FEEDBACK pipes, as in Kamailio."""
        pipes = [pipe for pipe in self.pipes.values() if pipe.algorithm == "FEEDBACK"]
        if pipes:
            rate = self.controller.update(load, pipes[-1].limit / 100)
            for pipe in pipes:
                pipe.load = rate

    def _push(self, number: int) -> int:
        pipe = self.pipes.get(number)
        if pipe is None:
            self.rt.log.error("ratelimit: there is no pipe %d", number)
            return -1
        self.everywhere(self._count, number)
        if pipe.algorithm == "TAILDROP":
            return 1 if pipe.counter <= pipe.limit * self.p.timer_interval else -1
        if pipe.algorithm == "RED":
            return 1 if pipe.load == 0 or pipe.counter % pipe.load == 0 else -1
        if pipe.algorithm == "FEEDBACK":
            # spread evenly: of each hundred so many
            return -1 if pipe.counter * pipe.load // 100 > (pipe.counter - 1) * pipe.load // 100 else 1
        if pipe.algorithm == "NETWORK":
            return -1 if pipe.load < 0 else 1
        return 1

    def _count(self, number: int) -> None:
        self.pipes[number].counter += 1

    def _queue_of(self, method: str) -> int | None:
        rest = None
        for wanted, number in self.queues.values():
            if wanted == method.upper():
                return number
            if wanted == "*" and rest is None:
                rest = number
        return rest

    @function(ANY, "rl_check")
    def rl_check_by_method(self, ctx: Ctx) -> int:
        """By the method of the request; one that no queue takes goes through."""
        number = self._queue_of(ctx.msg.method or ctx.msg.cseq[1])
        return 1 if number is None else self._push(number)

    @function(Routes.REQUEST | Routes.LOCAL)
    def rl_check(self, ctx: Ctx, pvar: int) -> int:
        return self._push(pvar)

    @function(ANY)
    def rl_check_pipe(self, ctx: Ctx, pipe_no: int) -> int:
        return self._push(pipe_no)

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("rl.stats")
    def rpc_stats(self) -> list[str]:
        """Requests of the last interval by pipe."""
        return [f"PIPE[{n}]: {p.last}/{p.limit} (drop rate: {p.load})" for n, p in sorted(self.pipes.items())]

    @rpc("rl.get_pipes")
    def rpc_pipes(self) -> list[str]:
        """The pipes that have an algorithm."""
        return [f"PIPE[{n}]: {_ALGORITHMS[p.algorithm]}:{p.algorithm} {p.last}/{p.limit} (drop rate: {p.load}) [{p.counter}]"
                for n, p in sorted(self.pipes.items()) if p.algorithm != "NOP"]  # fmt: skip

    @rpc("rl.set_pipe", spread=Spread.EVERY)
    def rpc_set_pipe(self, pipe_no: int, algo: str, limit: int) -> None:
        """Change a pipe."""
        if pipe_no not in self.pipes:
            raise RpcFault(400, "Invalid pipe number")
        try:
            self.pipes[pipe_no] = Pipe(algorithm(algo), max(0, limit))
        except ValueError as err:
            self.rt.log.error("ratelimit: %s", err)
            raise RpcFault(400, "Unknown algorithm") from None

    @rpc("rl.get_pid")
    def rpc_pid(self) -> str:
        """The numbers of the controller of FEEDBACK."""
        c = self.controller
        return f"ki[{c.ki:f}] kp[{c.kp:f}] kd[{c.kd:f}] "

    @rpc("rl.set_pid", spread=Spread.EVERY)
    def rpc_set_pid(self, ki: float, kp: float, kd: float) -> None:
        """Change them: integral, proportional, derivative."""
        self.controller.ki, self.controller.kp, self.controller.kd = (_real(value) for value in (ki, kp, kd))

    @rpc("rl.push_load", spread=Spread.EVERY)
    def rpc_push_load(self, load: float) -> None:
        """Take a load from 0 to 1 for measured, until the next interval."""
        value = _real(load)
        if not 0 <= value <= 1:
            raise RpcFault(400, "Value out of range")
        self._steer(value)

    @rpc("rl.set_dbg", spread=Spread.EVERY)
    def rpc_set_dbg(self, dbg: int) -> None:
        """Tell the counters of each interval in the log, or not."""
        self.shown = bool(dbg)

    @rpc("rl.get_queues")
    def rpc_queues(self) -> list[str]:
        """The queues."""
        return [f"QUEUE[{n}]: {pipe}:{method}" for n, (method, pipe) in sorted(self.queues.items())]

    @rpc("rl.set_queue", spread=Spread.EVERY)
    def rpc_set_queue(self, queue_no: int, method: str, pipe_no: int) -> None:
        """Change a queue."""
        if queue_no not in self.queues or pipe_no not in self.pipes:
            raise RpcFault(400, "Invalid queue or pipe number")
        self.queues[queue_no] = (method.upper(), pipe_no)


module = Ratelimit
