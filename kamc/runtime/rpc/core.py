"""The commands of the core: about the server, its sockets and connections, its generations, what it has measured."""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from kamc import __version__
from kamc.declare.module import Spread, rpc
from kamc.runtime import memory
from kamc.runtime.rpc.binrpc import Members
from kamc.runtime.rpc.commands import RpcRegistry
from kamc.runtime.rpc.fault import RpcFault

if TYPE_CHECKING:
    from kamc.runtime.proc.worker import Worker

_FLAGS: Final = "USE_TCP, USE_TLS, USE_SCTP, USE_DNS_CACHE, USE_DNS_FAILOVER, USE_NAPTR, USE_DST_BLOCKLIST"
#: units of sizes, and how far they are shifted
_UNITS: Final = {"b": 0, "k": 10, "m": 20, "g": 30}
#: what the supervisor listens to
_SIGNALS: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)
_VERSION_DEFINES: Final = ("KAMAILIO_6", "KAMAILIO_6_2", "KAMAILIO_6_2_0")
#: names that core.tcp_options shows, and the parameters behind them
_TCP_OPTIONS: Final = {
    "connect_timeout": "tcp_connect_timeout", "send_timeout": "tcp_send_timeout", "connection_lifetime": "tcp_connection_lifetime",
    "max_connections(soft)": "tcp_max_connections", "max_tls_connections(soft)": "tls_max_connections", "no_connect": "tcp_no_connect",
    "fd_cache": "tcp_fd_cache", "async": "tcp_async", "connect_wait": "tcp_connect_wait", "conn_wq_max": "tcp_conn_wq_max", "wq_max": "tcp_wq_max",
    "defer_accept": "tcp_defer_accept", "delayed_ack": "tcp_delayed_ack", "syncnt": "tcp_syncnt", "linger2": "tcp_linger2",
    "keepalive": "tcp_keepalive",
    "keepidle": "tcp_keepidle", "keepintvl": "tcp_keepintvl", "keepcnt": "tcp_keepcnt", "crlf_ping": "tcp_crlf_ping", "accept_aliases": "tcp_accept_aliases",
    "alias_flags": "tcp_alias_flags",
    "new_conn_alias_flags": "tcp_new_conn_alias_flags",
}  # fmt: skip


def connections(worker: Worker) -> list[dict[str, Any]]:
    """As ``core.tcp_list`` shows them."""
    now = worker.clock()
    return [
        {"id": c.id, "type": c.proto.upper(), "state": "CONN_OPENING" if c.opening else "CONN_OK", "timeout": max(0, int(c.deadline - now)),
         "lifetime": int(c.lifetime), "ref_count": 1, "src_ip": c.remote[0], "src_port": c.remote[1], "dst_ip": c.listener.host, "dst_port": c.listener.port}
        for c in worker.streams.connections.values()
    ]  # fmt: skip


def connection_numbers(worker: Worker) -> dict[str, int]:
    """As ``core.tcp_info`` shows them."""
    found = list(worker.streams.connections.values())
    param = worker.rt.param if worker.rt is not None else lambda name: 0
    return {
        "readers": 1, "max_connections": int(param("tcp_max_connections") or 0), "max_tls_connections": int(param("tls_max_connections") or 0),
        "opened_connections": len(found), "opened_tls_connections": sum(c.secure for c in found), "write_queued_bytes": sum(len(c.out) for c in found),
    }  # fmt: skip


class CoreCommands:
    """``core.*``, ``system.*`` and ``kamc.*``: those that no module brings. A method's docstring is what ``system.methodHelp`` says."""

    def __init__(self, registry: RpcRegistry, worker: Worker) -> None:
        self.registry, self.worker = registry, worker
        self.started = time.time()

    def add(self) -> None:
        """All of them to the registry."""
        for name, raw in vars(type(self)).items():
            for mark in getattr(raw, "_kamc", ()):
                _, names, spread, wrong = mark
                for command in names:
                    self.registry.add(command, getattr(self, name), (raw.__doc__ or "").strip(), spread, wrong)

    # -- the server ------------------------------------------------------------------------------------------------------

    @rpc("core.uptime")
    def uptime(self) -> dict[str, Any]:
        """Time since the server was started."""
        now = time.time()
        return {"now": time.ctime(now), "up_since": time.ctime(self.started), "uptime": int(now - self.started)}

    @rpc("core.version")
    def version(self) -> str:
        """The server's signature."""
        return self.worker.rt.signature() if self.worker.rt is not None else "kamc"

    @rpc("core.flags")
    def flags(self) -> str:
        """What the server is built with."""
        return _FLAGS

    @rpc("core.info")
    def info(self) -> dict[str, Any]:
        """Version and what the server is built with."""
        return {"version": self.version(), "id": "unknown", "compiler": f"{sys.implementation.name} {platform.python_version()}", "compiled": "", "flags": _FLAGS}

    @rpc("core.runinfo")
    def runinfo(self) -> dict[str, Any]:
        """Version, and time since the start."""
        info, since = self.info(), self.uptime()
        left, seconds = divmod(since["uptime"], 60)
        hours, minutes = divmod(left, 60)
        return {"name": "kamc", "version": __version__, "sourceid": info["id"], "compiler": info["compiler"], "compiled": info["compiled"], "time_now": since["now"],
                "time_started": since["up_since"], "uptime_secs": since["uptime"], "uptime_days": f"{hours // 24}d {hours % 24}h {minutes}m {seconds}s"}  # fmt: skip

    def _modules(self) -> list[str]:
        return [name for name in self.worker.rt.modules if name != "core"] if self.worker.rt is not None else []

    @rpc("core.modules")
    def modules(self) -> list[str]:
        """Modules, the last first."""
        return self._modules()[::-1]

    def _defines(self) -> dict[str, str | None]:
        """Names in the order in which they came, with their texts."""
        written = self.worker.rt.defines if self.worker.rt is not None else {}
        loaded = {f"MOD_{name}": None for name in self._modules()}
        return {**dict.fromkeys(_VERSION_DEFINES), **loaded, **written}

    @rpc("core.ppdefines")
    def ppdefines(self) -> list[str]:
        """Names that the configuration tests with ifdef."""
        return list(self._defines())

    @rpc("core.ppdefines_full")
    def ppdefines_full(self) -> list[dict[str, Any]]:
        """Names that the configuration tests with ifdef, and what stands for them."""
        return [{"name": name, "type": 0, "value": "none" if value is None else value} for name, value in self._defines().items()]

    @rpc("core.shmmem")
    def shared_memory(self, unit: str = "b") -> dict[str, int]:
        """Memory of this worker in b, k, m or g: none is set aside for sharing. (kamcmd reads numbers of 32 bits.)"""
        shift = _UNITS.get(unit)
        if shift is None:
            raise RpcFault(500, "bad param, (use b|k|m|g)")
        return memory.stats(shift)

    @rpc("core.kill")
    def kill(self, number: int = signal.SIGTERM) -> None:
        """Send the server a signal, SIGTERM unless another one is named."""
        if self.worker.link is None or number not in _SIGNALS:
            raise RpcFault(500, "no supervisor" if self.worker.link is None else f"signal {number} has no meaning here")
        os.kill(os.getppid(), number)

    @rpc("core.psx", spread=Spread.JOIN)
    def processes(self) -> list[dict[str, Any]]:
        """Processes with index, pid and description."""
        main = [] if self.worker.index else [{"IDX": 0, "PID": os.getppid(), "DSC": "main process - supervisor"}]
        return [*main, {"IDX": self.worker.log.rank, "PID": os.getpid(), "DSC": "worker"}]

    @rpc("core.psa", spread=Spread.JOIN)
    def processes_in_full(self) -> list[dict[str, Any]]:
        """Processes with index, pid, status, rank and description."""
        return [{"index": p["IDX"], "pid": p["PID"], "status": 1, "rank": p["IDX"], "description": p["DSC"]} for p in self.processes()]

    @rpc("core.ps", spread=Spread.JOIN)
    def process_list(self) -> list[Any]:
        """Process ids and what they do."""
        return [x for p in self.processes() for x in (p["PID"], p["DSC"])]

    @rpc("core.pwd")
    def folder(self) -> str:
        """Working directory."""
        return os.getcwd()

    @rpc("core.arg")
    def arguments(self) -> list[str]:
        """Command line."""
        return list(self.worker.argv)

    @rpc("core.echo")
    def echo(self, *values: Any) -> list[str]:
        """The parameters, as texts."""
        return [str(int(v)) if isinstance(v, int | float) else str(v) for v in values]

    @rpc("core.prints")
    def prints(self, text: str, *more: str) -> str | list[str]:
        """The parameters, which are texts."""
        return [text, *more] if more else text

    @rpc("core.printi")
    def printi(self, number: int, *more: int) -> list[int]:
        """The parameters, which are numbers."""
        return [number, *more]

    @rpc("system.listMethods")
    def methods(self) -> list[str]:
        """Names of all commands."""
        return sorted(self.registry.commands)

    @rpc("system.methodHelp")
    def method_help(self, name: str) -> str:
        """What a command does."""
        found = self.registry.commands.get(name)
        if found is None:
            raise RpcFault(400, "command not found")
        return found.doc

    @rpc("system.methodSignature")
    def method_signature(self, name: str = "") -> None:
        """Kamailio does not tell it either."""
        raise RpcFault(500, "Not Implemented Yet")

    # -- sockets and connections -----------------------------------------------------------------------------------------

    @rpc("core.sockets_list")
    def sockets(self) -> Members:
        """Listening sockets."""
        return Members({"socket": {"proto": s.proto, "address": s.host, "port": str(s.port), "mcast": "no", "mhomed": "no", "virtual": "no",
                            **({"advertise": f"{s.advertise_host}:{s.via_port}"} if s.advertise_host else {})}} for s in self.worker.listeners)  # fmt: skip

    @rpc("core.aliases_list")
    def aliases(self) -> dict[str, Any]:
        """Aliases of this host."""
        known = self.worker.rt.aliases if self.worker.rt is not None else []
        asked = any(getattr(module.p, "register_myself", 0) for module in self.worker.rt.modules.values()) if self.worker.rt is not None else False
        return {"myself_callbacks": "yes" if asked else "no", "aliases": [{"alias": {"proto": p or "*", "address": h, "port": port or "*"}} for p, h, port in known]}

    @rpc("core.tcp_list", spread=Spread.JOIN)
    def tcp_list(self) -> list[dict[str, Any]]:
        """Connections: TCP, TLS and WebSocket."""
        return connections(self.worker)

    @rpc("core.tcp_info", spread=Spread.SUM)
    def tcp_info(self) -> dict[str, int]:
        """How many connections there are, and may be."""
        return connection_numbers(self.worker)

    @rpc("core.tcp_options")
    def tcp_options(self) -> dict[str, Any]:
        """Parameters of streams."""
        return {shown: self.worker.core_param(name) for shown, name in _TCP_OPTIONS.items()}

    @rpc("core.udp4_raw_info")
    def udp4_raw_info(self) -> dict[str, Any]:
        """Raw sockets: not used."""
        found = {name: self.worker.core_param(name) for name in ("udp4_raw", "udp4_raw_mtu", "udp4_raw_ttl")}
        # what the system gives packets where nobody says it
        return found if found["udp4_raw_ttl"] != -1 else {**found, "udp4_raw_ttl": 64}

    # -- generations and measures ----------------------------------------------------------------------------------------

    @rpc("kamc.generations", spread=Spread.JOIN)
    def generations(self) -> list[dict[str, Any]]:
        """Generations of the configuration and what still runs on them."""
        return self.worker.generations.table()

    @rpc("kamc.reload")
    def reload(self, dry_run: int = 0) -> dict[str, Any]:
        """Take the configuration again; with 1 only say what would change."""
        if self.worker.link is None:
            raise RpcFault(500, "no supervisor")
        found: dict[str, Any] = self.worker.link.ask("reload", bool(dry_run))
        return found

    @rpc("kamc.workers")
    def workers(self, count: int | None = None) -> dict[str, Any]:
        """How many workers share the calls, and which ones are leaving; with a number, serve with so many."""
        if self.worker.link is None:
            raise RpcFault(500, "no supervisor")
        found: dict[str, Any] = self.worker.link.ask("workers", count)
        return found

    @rpc("kamc.reloads")
    def reloads(self) -> Any:
        """How long this worker stood still for the last exchanges, in microseconds."""
        return self.worker.generations.pauses_shown()

    @rpc("kamc.timers", spread=Spread.SUM)
    def timers(self) -> dict[str, int]:
        """Timers that wait, and how many of them never end."""
        return {"armed": len(self.worker.timers), "periodic": self.worker.periodic}

    @rpc("kamc.show")
    def show(self) -> int:
        """Show the statistics of this worker to the others."""
        if self.worker.peers is not None:
            self.worker.peers.show()
        return self.worker.index

    @rpc("kamc.routes", spread=Spread.JOIN)
    def routes(self) -> list[dict[str, Any]]:
        """How often blocks ran and how long, with --status-port."""
        return self.worker.measures.shown() if self.worker.measures is not None else []

    @rpc("kamc.errors", spread=Spread.JOIN)
    def errors(self) -> list[dict[str, Any]]:
        """The last errors of routes."""
        return [{"time": at, "text": text, "call_id": call_id, "where": where} for at, text, call_id, where in self.worker.datapath.errors]

    @rpc("kamc.statistics", spread=Spread.SHOWN)
    def statistics(self) -> dict[str, int]:
        """All statistics, also those that no module shows."""
        counters = self.worker.counters
        return {f"{group}.{name}": counters.get(group, name) or 0 for group, name in {*counters.values, *counters.callbacks}}
