"""Module cfgutils: chance, global flags, named locks, pauses and small helpers of configurations."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Module, Spread, function, pv, rpc
from kamc.errors import ConfigError
from kamc.runtime import memory
from kamc.runtime.context import Ctx
from kamc.runtime.hashes import core_hash
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.waits import Job

#: seconds between two looks at a lock that another worker holds
_RETRY = 0.002
_WRONG = "Invalid Parameters"


class Cfgutils(Module):
    name = "cfgutils"
    kept = ("locks", "lock_queue")
    tuning_params = ("lock_set_size",)

    class Params:
        initial_probability: int = 10
        initial_gflags: int = 0
        hash_file: str = ""

    def mod_init(self) -> None:
        if not 0 <= self.p.initial_probability <= 100:
            raise ConfigError(f"cfgutils: initial_probability is 0 to 100, not {self.p.initial_probability}")
        self.probability: int = self.p.initial_probability
        self.gflags: int = self.p.initial_gflags
        #: key -> the work that holds it; None for one from outside of any message
        self.locks: dict[str, Job | None] = {}
        self.lock_queue: dict[str, list[Callable[[], None]]] = {}
        self.random = random.Random()
        #: of all workers, when there are several: key → which one holds it
        self.taken = self.rt.store.table("cfgutils.locks") if self.rt.worker.peers is not None else None
        self.hash = self._hash() if self.p.hash_file else ""

    def _hash(self) -> str:
        """MD5 of the file that hash_file names, to tell whether it was changed since."""
        try:
            with open(self.p.hash_file, "rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as err:
            raise ConfigError(f"cfgutils: cannot read hash_file {self.p.hash_file}: {err.strerror or err}") from None

    # -- chance ----------------------------------------------------------------------------------------------------------

    @pv("RANDOM")
    def pv_random(self, ctx: Ctx) -> int:
        """A number from 0 to 2^31 - 1."""
        return self.random.getrandbits(31)

    @function(ANY)
    def rand_set_prob(self, ctx: Ctx, probability: int) -> int:
        if not 0 <= probability <= 100:
            self.rt.log.error("rand_set_prob: %d is no percentage", probability)
            return -1
        self.everywhere(self._probable, probability)
        return 1

    def _probable(self, probability: int) -> None:
        self.probability = probability

    @function(ANY)
    def rand_reset_prob(self, ctx: Ctx) -> int:
        self.everywhere(self._probable, self.p.initial_probability)
        return 1

    @function(ANY)
    def rand_get_prob(self, ctx: Ctx) -> int:
        return self.probability

    @function(ANY)
    def rand_event(self, ctx: Ctx) -> int:
        """True in as many of a hundred cases as the probability says."""
        return 1 if self.random.random() * 100 < self.probability else -1

    def activate(self, previous: Any) -> None:
        super().activate(previous)
        self.carry(previous, "probability", "initial_probability")
        self.carry(previous, "gflags", "initial_gflags")

    # -- global flags ----------------------------------------------------------------------------------------------------

    def _flag(self, number: int) -> int:
        if not 0 <= number < 31:
            self.rt.log.error("a global flag is 0 to 30, not %d", number)
            return 0
        return 1 << number

    def _flags(self, flags: int) -> None:
        self.gflags = flags

    @function(ANY)
    def set_gflag(self, ctx: Ctx, flag: int) -> int:
        self.everywhere(self._flags, self.gflags | self._flag(flag))
        return 1

    @function(ANY)
    def reset_gflag(self, ctx: Ctx, flag: int) -> int:
        self.everywhere(self._flags, self.gflags & ~self._flag(flag))
        return 1

    @function(ANY)
    def is_gflag(self, ctx: Ctx, flag: int) -> int:
        return 1 if self.gflags & self._flag(flag) else -1

    # -- locks -----------------------------------------------------------------------------------------------------------

    def _held(self, key: str) -> bool:
        """Whether another run that goes on later has the lock. One whose holder has ended would never be given back: it counts as free."""
        holder = self.locks.get(key)
        return holder is not None and not holder.done and holder is not self.rt.worker.waits.job

    def _taken(self, key: str) -> bool:
        """Take a lock from the other workers. A worker that has ended gives back what it held when another one takes its place."""
        own = self.rt.worker.index + 1
        return self.taken is None or self.taken.update(key, lambda holder: holder or own) == own

    def _give_back(self, key: str) -> None:
        own = self.rt.worker.index + 1
        if self.taken is not None:
            self.taken.update(key, lambda holder: None if holder == own else holder)

    def child_init(self) -> None:
        if self.taken is not None and self.rt.previous is None:
            for key, holder in list(self.taken.scan()):
                if holder == self.rt.worker.index + 1 and key not in self.locks:
                    self._give_back(key)

    def _take(self, key: str) -> int:
        job = self.locks[key] = self.rt.worker.waits.job
        if job is not None:
            job.at_end.append(lambda: self._left(key, job))
        return 1

    def _left(self, key: str, job: Job) -> None:
        """A run has ended that may hold a lock still."""
        if self.locks.get(key) is job:
            del self.locks[key]
            self._give_back(key)
        self._next(key)

    def _next(self, key: str) -> None:
        queue = self.lock_queue.pop(key, None)
        for resume in queue or ():
            self.rt.timers.arm(self.rt.now(), lambda _, resume=resume: resume())

    @function(ANY, waits=True)
    def lock(self, ctx: Ctx, key: str, key2: str = "") -> int:
        """Wait until nobody else has the lock, and take it."""
        name = key + key2
        while (held := self._held(name)) or not self._taken(name):
            if held:
                self.rt.worker.waits.wait(self.lock_queue.setdefault(name, []).append, ctx)
            else:
                self.rt.worker.waits.sleep(_RETRY, ctx)
        return self._take(name)

    @function(ANY)
    def trylock(self, ctx: Ctx, key: str, key2: str = "") -> int:
        name = key + key2
        return -1 if (name in self.locks and (self.locks[name] is self.rt.worker.waits.job or self._held(name))) or not self._taken(name) else self._take(name)

    @function(ANY)
    def unlock(self, ctx: Ctx, key: str, key2: str = "") -> int:
        self.locks.pop(key + key2, None)
        self._give_back(key + key2)
        self._next(key + key2)
        return 1

    # -- pauses ----------------------------------------------------------------------------------------------------------

    def _pause(self, ctx: Ctx, seconds: float) -> int:
        self.rt.worker.waits.sleep(max(0.0, seconds), ctx)
        return 1

    @function(ANY, waits=True)
    def sleep(self, ctx: Ctx, time: int) -> int:
        """Pause this run for some seconds; the worker serves others."""
        return self._pause(ctx, time)

    @function(ANY, waits=True)
    def usleep(self, ctx: Ctx, time: int) -> int:
        """Pause this run for some microseconds; the worker serves others."""
        return self._pause(ctx, time / 1_000_000)

    # -- routes, hashes, status ------------------------------------------------------------------------------------------

    @function(ANY)
    def core_hash(self, ctx: Ctx, string1: str, string2: str, size: int) -> int:
        """1 to 2^size; a size below 1 counts as 1."""
        return core_hash(string1, string2, 1 << min(size, 31) if size > 0 else 2) + 1

    @function(ANY)
    def check_route_exists(self, ctx: Ctx, route: str) -> int:
        return 1 if self.rt.route_function("request", route) is not None else -1

    @function(ANY)
    def route_if_exists(self, ctx: Ctx, route: str) -> int:
        if self.rt.route_function("request", route) is None:
            return -1
        return ctx.route_by_name(route)

    def _status(self, ctx: Ctx) -> int:
        """One line about the memory of this process."""
        self.rt.log.write(-1, memory.summary())
        return 1

    @function(ANY)
    def pkg_status(self, ctx: Ctx) -> int:
        return self._status(ctx)

    @function(ANY)
    def shm_status(self, ctx: Ctx) -> int:
        return self._status(ctx)

    @function(ANY)
    def pkg_summary(self, ctx: Ctx) -> int:
        return self._status(ctx)

    @function(ANY)
    def shm_summary(self, ctx: Ctx) -> int:
        return self._status(ctx)

    @function(ANY)
    def abort(self, ctx: Ctx) -> int:
        """End the worker with a core dump; the supervisor starts another."""
        self.rt.log.critical("abort called")
        os.abort()

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("cfgutils.get_gflags")
    def rpc_get_gflags(self) -> str:
        """All global flags as a number."""
        return f"0x{self.gflags:X} ({self.gflags})"

    @rpc("cfgutils.set_gflag", spread=Spread.EVERY, wrong=_WRONG)
    def rpc_set_gflag(self, flag: int) -> None:
        """Set the global flags of a mask."""
        self.gflags |= flag

    @rpc("cfgutils.reset_gflag", spread=Spread.EVERY, wrong=_WRONG)
    def rpc_reset_gflag(self, flag: int) -> None:
        """Reset the global flags of a mask."""
        self.gflags &= ~flag

    @rpc("cfgutils.is_gflag", wrong=_WRONG)
    def rpc_is_gflag(self, flag: int) -> str:
        """Whether all flags of a mask are set."""
        return "TRUE" if self.gflags & flag == flag else "FALSE"

    @rpc("cfgutils.rand_get_prob")
    def rpc_get_prob(self) -> str:
        """The probability of rand_event() in percent."""
        return f"actual probability: {self.probability} percent"

    @rpc("cfgutils.rand_set_prob", spread=Spread.EVERY, wrong=_WRONG)
    def rpc_set_prob(self, probability: int) -> None:
        """Set the probability of rand_event()."""
        if not 0 <= probability <= 100:
            raise RpcFault(500, "Invalid Percent")
        self.probability = probability

    @rpc("cfgutils.rand_reset_prob", spread=Spread.EVERY)
    def rpc_reset_prob(self) -> None:
        """Go back to initial_probability."""
        self.probability = self.p.initial_probability

    @rpc("cfgutils.get_config_hash")
    def rpc_get_hash(self) -> str:
        """The MD5 of hash_file when the server started."""
        if not self.hash:
            raise RpcFault(404, "hash_file is not set")
        return self.hash

    @rpc("cfgutils.check_config_hash")
    def rpc_check_hash(self) -> str:
        """Whether hash_file is as it was."""
        if not self.hash:
            raise RpcFault(404, "hash_file is not set")
        try:
            now = self._hash()
        except ConfigError as err:
            raise RpcFault(500, str(err)) from None
        if now != self.hash:
            raise RpcFault(406, f"{self.p.hash_file} has changed since the start")
        return "Identical hash"


module = Cfgutils
