"""The registry of RPC commands and the ones of the core."""

from __future__ import annotations

import inspect
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kamc.declare.module import Spread
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.rpc.spread import spread_over

if TYPE_CHECKING:
    from kamc.runtime.proc.peers import Peers
    from kamc.runtime.proc.worker import Worker

_FLAGS: Final = "USE_TCP, USE_TLS, USE_SCTP, USE_DNS_CACHE, USE_DNS_FAILOVER, USE_NAPTR, USE_DST_BLOCKLIST"
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


class Command(NamedTuple):
    """What an RPC command runs, what it does, and what that means where several workers serve."""

    function: Callable[..., Any]
    doc: str = ""
    spread: Spread = Spread.FIRST


class RpcRegistry:
    """The commands by name. ``peers`` are the other workers, when there are any."""

    def __init__(self, peers: Peers | None = None) -> None:
        self.peers = peers
        self.core: dict[str, Command] = {}
        #: those of the core, and of the modules of the generation that runs
        self.commands: dict[str, Command] = {}

    def add(self, name: str, function: Callable[..., Any], doc: str = "", spread: Spread = Spread.FIRST) -> None:
        self.core[name] = self.commands[name] = Command(function, doc, spread)

    def replace(self, commands: Mapping[str, Command]) -> None:
        """The commands of modules, from another generation."""
        self.commands = {**self.core, **commands}

    def call(self, name: str, params: list[Any]) -> Any:
        """Run a command, in all workers that it concerns; may wait. Raises RpcFault."""
        if self.peers is None:
            return self.here(name, params)
        return spread_over(self, self.peers, name, params)

    def here(self, name: str, params: list[Any]) -> Any:
        """Run a command in this worker. Raises RpcFault."""
        found = self.commands.get(name)
        if found is None:
            raise RpcFault(500, f"Method Not Found: {name}")
        function = found.function
        try:
            inspect.signature(function).bind(*params)
        except TypeError:
            raise RpcFault(400, "Invalid Parameters") from None
        return function(*params)


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


def add_core_commands(registry: RpcRegistry, worker: Worker) -> None:
    """``core.*`` and ``system.*`` commands that do not depend on a module."""
    started = time.time()

    def uptime() -> dict[str, Any]:
        now = time.time()
        return {"now": time.ctime(now), "up_since": time.ctime(started), "uptime": int(now - started)}

    def version() -> str:
        return worker.rt.signature() if worker.rt is not None else "kamc"

    def info() -> dict[str, Any]:
        return {"version": version(), "id": "unknown", "compiler": f"{sys.implementation.name} {platform.python_version()}", "compiled": "", "flags": _FLAGS}

    def modules() -> list[str]:
        return [name for name in worker.rt.modules if name != "core"] if worker.rt is not None else []

    def processes() -> list[dict[str, Any]]:
        main = [] if worker.index else [{"IDX": 0, "PID": os.getppid(), "DSC": "main process - supervisor"}]
        return [*main, {"IDX": worker.log.rank, "PID": os.getpid(), "DSC": "worker"}]

    def show() -> int:
        if worker.peers is not None:
            worker.peers.show()
        return worker.index

    def sockets() -> list[dict[str, Any]]:
        return [{"socket": {"proto": s.proto, "address": s.host, "port": str(s.port), "mcast": "no", "mhomed": "no", "virtual": "no",
                            **({"advertise": f"{s.advertise_host}:{s.via_port}"} if s.advertise_host else {})}} for s in worker.listeners]  # fmt: skip

    def help_(name: str) -> str:
        found = registry.commands.get(name)
        if found is None:
            raise RpcFault(404, f"command {name} not found")
        return found.doc

    def aliases() -> dict[str, Any]:
        known = worker.rt.aliases if worker.rt is not None else []
        return {"myself_callbacks": "no", "aliases": [{"alias": {"proto": p or "*", "address": h, "port": port or "*"}} for p, h, port in known]}

    def reload(dry_run: int = 0) -> dict[str, Any]:
        if worker.link is None:
            raise RpcFault(500, "no supervisor")
        found: dict[str, Any] = worker.link.ask("reload", bool(dry_run))
        return found

    def routes() -> list[dict[str, Any]]:
        return worker.measures.shown() if worker.measures is not None else []

    def errors() -> list[dict[str, Any]]:
        return [{"time": at, "text": text, "call_id": call_id, "where": where} for at, text, call_id, where in worker.datapath.errors]

    def statistics() -> dict[str, int]:
        counters = worker.counters
        return {f"{group}.{name}": counters.get(group, name) or 0 for group, name in {*counters.values, *counters.callbacks}}

    def generations() -> list[dict[str, Any]]:
        return worker.generations.table()

    registry.add("core.uptime", uptime, "Time since the server was started.")
    registry.add("core.version", version, "The server's signature.")
    registry.add("core.ps", lambda: [x for p in processes() for x in (p["PID"], p["DSC"])], "Process ids and what they do.", Spread.JOIN)
    registry.add("core.psx", processes, "Processes with index, pid and description.", Spread.JOIN)
    registry.add("core.pwd", os.getcwd, "Working directory.")
    registry.add("core.arg", lambda: list(worker.argv), "Command line.")
    registry.add("core.echo", lambda *a: [str(int(v)) if isinstance(v, int | float) else str(v) for v in a], "The parameters, as texts.")
    registry.add("core.sockets_list", sockets, "Listening sockets.")
    registry.add("core.aliases_list", aliases, "Aliases of this host.")
    registry.add("core.flags", lambda: _FLAGS, "What the server is built with.")
    registry.add("core.info", info, "Version and what the server is built with.")
    registry.add("core.modules", lambda: modules()[::-1], "Modules, the last first.")
    registry.add("core.ppdefines", lambda: [*_VERSION_DEFINES, *(f"MOD_{name}" for name in modules())], "Names that the configuration tests with ifdef.")
    registry.add("core.prints", lambda text: str(text), "The parameter, a text.")
    registry.add("core.printi", lambda number: int(number), "The parameter, a number.")
    registry.add("core.runinfo", lambda: {**info(), **uptime()}, "Version, and time since the start.")
    registry.add("core.tcp_options", lambda: {shown: worker.core_param(name) for shown, name in _TCP_OPTIONS.items()}, "Parameters of streams.")
    registry.add("core.udp4_raw_info", lambda: {name: worker.core_param(name) for name in ("udp4_raw", "udp4_raw_mtu", "udp4_raw_ttl")}, "Raw sockets: not used.")
    registry.add("core.tcp_list", lambda: connections(worker), "Connections: TCP, TLS and WebSocket.", Spread.JOIN)
    registry.add("core.tcp_info", lambda: connection_numbers(worker), "How many connections there are, and may be.", Spread.SUM)
    registry.add("system.listMethods", lambda: sorted(registry.commands), "Names of all commands.")
    registry.add("system.methodHelp", help_, "What a command does.")
    registry.add("kamc.timers", lambda: {"armed": len(worker.timers), "periodic": worker.periodic}, "Timers that wait, and how many of them never end.", Spread.SUM)
    registry.add("kamc.show", show, "Show the statistics of this worker to the others.")
    registry.add("kamc.generations", generations, "Generations of the configuration and what still runs on them.", Spread.JOIN)
    registry.add("kamc.routes", routes, "How often blocks ran and how long, with --status-port.", Spread.JOIN)
    registry.add("kamc.errors", errors, "The last errors of routes.", Spread.JOIN)
    registry.add("kamc.statistics", statistics, "All statistics, also those that no module shows.", Spread.SHOWN)
    registry.add("kamc.reload", reload, "Take the configuration again; with 1 only say what would change.")
    registry.add("kamc.reloads", lambda: worker.generations.pauses_shown(), "How long this worker stood still for the last exchanges, in microseconds.")
