"""Module kex: extensions of the core: script and branch flags, destination URI, tests of addresses, statistics."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Module, Spread, function, pv, rpc
from kamc.declare.argtypes import Flag, PvArg
from kamc.runtime import memory
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.uri import parse_uri

_SHARED_FLAGS = "\0sflags"
_CORE_STATS = (
    "rcv_requests", "rcv_requests_invite", "rcv_requests_cancel", "rcv_requests_ack", "rcv_requests_bye", "rcv_requests_info",
    "rcv_requests_register", "rcv_requests_subscribe", "rcv_requests_notify", "rcv_requests_message", "rcv_requests_options", "rcv_requests_prack",
    "rcv_requests_update", "rcv_requests_refer", "rcv_requests_publish", "rcv_replies", "rcv_replies_1xx", "rcv_replies_2xx", "rcv_replies_3xx",
    "rcv_replies_4xx", "rcv_replies_5xx", "rcv_replies_6xx", "fwd_requests", "fwd_replies", "drop_requests", "drop_replies", "err_requests",
    "err_replies", "bad_URIs_rcvd", "unsupported_methods", "bad_msg_hdr",
)  # fmt: skip

#: methods by which replies are counted, and the codes
_REPLY_METHODS = {"bye": "BYE", "cancel": "CANCEL", "invite": "INVITE", "message": "MESSAGE", "prack": "PRACK", "refer": "REFER", "reg": "REGISTER", "update": "UPDATE"}
_REPLY_CODES = (401, 404, 407, 480, 486)

#: of this worker: there is no memory set aside for sharing
_MEMORY: dict[str, Callable[[], int]] = {"total_size": memory.total, "used_size": memory.used, "real_used_size": memory.used, "max_used_size": memory.most,
                                         "free_size": memory.free, "fragments": lambda: 1}  # fmt: skip


class Kex(Module):
    name = "kex"
    stats = {"core": _CORE_STATS}

    def mod_init(self) -> None:
        self.shared = self.rt.worker.shared
        self.base_level = self.rt.log.level
        for code_class in range(1, 7):
            for shown, method in _REPLY_METHODS.items():
                self._count(f"rcv_replies_{code_class}xx_{shown}", lambda code, m, c=code_class, of=method: code // 100 == c and m == of)  # type: ignore[misc]
        self._count("rcv_replies_18x", lambda code, _: 180 <= code < 190)
        for number in _REPLY_CODES:
            self._count(f"rcv_replies_{number}", lambda code, _, n=number: code == n)  # type: ignore[misc]
        self.rt.hooks.statistics |= {("shmem", name): value for name, value in _MEMORY.items()}

    def _count(self, name: str, test: Callable[[int, str], bool]) -> None:
        """A statistic of the core that is counted up when somebody asks: replies by code and method."""
        replies = self.rt.datapath.replies
        self.rt.hooks.statistics["core", name] = lambda: sum(n for (code, method), n in replies.items() if test(code, method))
        self.rt.hooks.partial.add(("core", name))

    # -- flags -----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def setsflag(self, ctx: Ctx, flag: Flag) -> int:
        self.shared[_SHARED_FLAGS] = self.shared.get(_SHARED_FLAGS, 0) | 1 << flag
        return 1

    @function(ANY)
    def resetsflag(self, ctx: Ctx, flag: Flag) -> int:
        self.shared[_SHARED_FLAGS] = self.shared.get(_SHARED_FLAGS, 0) & ~(1 << flag)
        return 1

    @function(ANY)
    def issflagset(self, ctx: Ctx, flag: Flag) -> int:
        return 1 if self.shared.get(_SHARED_FLAGS, 0) >> flag & 1 else -1

    @staticmethod
    def _branch(ctx: Ctx, branch: int) -> Branch | None:
        """Branch 0 is the request URI's; the others are appended ones."""
        return ctx.branches[branch - 1] if 0 < branch <= len(ctx.branches) else None

    def _bflags(self, ctx: Ctx, branch: int) -> int | None:
        if branch == 0:
            return ctx.bflags
        found = self._branch(ctx, branch)
        return found.flags if found is not None else None

    def _set_bflags(self, ctx: Ctx, branch: int, value: int) -> int:
        if branch == 0:
            ctx.bflags = value
            return 1
        found = self._branch(ctx, branch)
        if found is None:
            return -1
        found.flags = value
        return 1

    @function(ANY)
    def setbflag(self, ctx: Ctx, flag: Flag, branch: int = 0) -> int:
        value = self._bflags(ctx, branch)
        return -1 if value is None else self._set_bflags(ctx, branch, value | 1 << flag)

    @function(ANY)
    def resetbflag(self, ctx: Ctx, flag: Flag, branch: int = 0) -> int:
        value = self._bflags(ctx, branch)
        return -1 if value is None else self._set_bflags(ctx, branch, value & ~(1 << flag))

    @function(ANY)
    def isbflagset(self, ctx: Ctx, flag: Flag, branch: int = 0) -> int:
        value = self._bflags(ctx, branch)
        return 1 if value is not None and value >> flag & 1 else -1

    # -- destination -----------------------------------------------------------------------------------------------------

    @function(ANY)
    def setdsturi(self, ctx: Ctx, uri: str) -> int:
        ctx.du = uri or None
        ctx.ruri_used = False
        return 1

    @function(ANY)
    def resetdsturi(self, ctx: Ctx) -> int:
        ctx.du = None
        return 1

    @function(ANY)
    def isdsturiset(self, ctx: Ctx) -> int:
        return 1 if ctx.du else -1

    @function(ANY)
    def is_myself(self, ctx: Ctx, uri: str) -> int:
        parsed = parse_uri(uri) or parse_uri(f"sip:{uri}")
        if parsed is None:
            return -1
        if not parsed.port:
            return self.is_myhost(ctx, uri)
        return 1 if self.rt.is_myself(parsed.host, parsed.port_number) else -1

    @function(ANY)
    def is_myhost(self, ctx: Ctx, uri: str) -> int:
        """Host alone, whatever the port."""
        parsed = parse_uri(uri) or parse_uri(f"sip:{uri}")
        host = parsed.host.lower() if parsed is not None else uri.lower()
        return 1 if any(s.host == host for s in self.rt.listeners) or any(a[1] == host for a in self.rt.aliases) else -1

    # -- printing and logging --------------------------------------------------------------------------------------------

    @function(ANY, "pv_printf", "avp_printf")
    def pv_printf(self, ctx: Ctx, var: PvArg, text: str) -> int:
        if var.set is None:
            return -1
        var.set(ctx, text)
        return 1

    @function(ANY)
    def setdebug(self, ctx: Ctx, level: int) -> int:
        self.rt.log.level = level
        return 1

    @function(ANY)
    def resetdebug(self, ctx: Ctx) -> int:
        self.rt.log.level = self.base_level
        return 1

    @pv("sruid")
    def pv_sruid(self, ctx: Ctx) -> str:
        """A fresh unique id."""
        self.serial = getattr(self, "serial", 0) + 1
        return f"srid-{self.rt.worker.secret[:8]}-{self.serial:x}"

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _select(self, names: tuple[str, ...]) -> list[tuple[str, str]]:
        """What a command names; what there is not is left out."""
        counters = self.rt.counters
        out = []
        for name in names or ("all",):
            if name == "all":
                out += counters.names()
            elif name.endswith(":"):
                out += [k for k in counters.names() if k[0] == name[:-1]]
            else:
                key = counters.find(name)
                if key is not None:
                    out.append(key)
        return out

    @rpc("stats.get_statistics", spread=Spread.SHOWN)
    def rpc_get(self, *names: str) -> list[str]:
        """Statistics as ``group:name = value``; ``all``, ``group:`` or names."""
        return [f"{g}:{n} = {self.rt.counters.get(g, n)}" for g, n in self._select(names)]

    @rpc("stats.fetch", spread=Spread.SHOWN)
    def rpc_fetch(self, *names: str) -> dict[str, str]:
        """Statistics as a structure of texts."""
        return {f"{g}.{n}": str(self.rt.counters.get(g, n)) for g, n in self._select(names)}

    @rpc("stats.fetchn", spread=Spread.SHOWN)
    def rpc_fetchn(self, *names: str) -> dict[str, int]:
        """Statistics as a structure of numbers."""
        return {f"{g}.{n}": self.rt.counters.get(g, n) or 0 for g, n in self._select(names)}

    @rpc("stats.reset_statistics", spread=Spread.SHOWN)
    def rpc_reset(self, *names: str) -> list[str]:
        """Set statistics to zero."""
        for g, n in self._select(names):
            self.rt.counters.reset(g, n)
        return []

    @rpc("stats.clear_statistics", spread=Spread.SHOWN)
    def rpc_clear(self, *names: str) -> list[str]:
        """Set statistics to zero and say what they were."""
        out = [f"{g}:{n} = {self.rt.counters.get(g, n)}" for g, n in self._select(names)]
        self.rpc_reset(*names)
        return out

    @rpc("mod.stats", "mod.mem_stats", "mod.mem_statsx", spread=Spread.JOIN)
    def rpc_memory(self, module: str | None = None, kind: str | None = None) -> list[dict[str, Any]]:
        """MODULE|all pkg|shm|all: memory of each worker; Python has no pools by module."""
        if module is None:
            raise RpcFault(500, 'Module name or "all" needed')
        if kind is None:
            raise RpcFault(500, '"pkg" or "shm" or "all" needed')
        return [self._memory()]

    def _memory(self) -> dict[str, Any]:
        sizes = memory.sizes()
        return {"entry": self.rt.log.rank, "pid": os.getpid(), "rank": self.rt.log.rank, "used": sizes["used"], "free": sizes["free"], "real_used": sizes["real_used"],
                "total_size": sizes["total"], "total_frags": 1, "desc": "worker"}  # fmt: skip

    @rpc("pkg.stats", spread=Spread.JOIN)
    def rpc_packages(self, selector: str | None = None, value: int | None = None) -> list[dict[str, Any]]:
        """[pid|rank|index NUMBER]: memory of each worker, or of one."""
        own = {"pid": os.getpid(), "rank": self.rt.log.rank, "index": self.rt.log.rank}
        if selector is not None and own.get(selector) != value:
            raise RpcFault(500, f"No such {selector}" if selector in own else "Invalid filter type")
        return [self._memory()]

    @rpc("pkg.info")
    def rpc_package_info(self) -> dict[str, Any]:
        """Who gives out memory, and how much there is in bytes."""
        return memory.info()


module = Kex
