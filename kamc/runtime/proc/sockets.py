"""The listening sockets of a server: which ones a build and the command line want, and opening them. They belong to the supervisor, workers
inherit them or get them sent."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from kamc import catalogue
from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.filter import steer_in_kernel
from kamc.runtime.net.listen import advertised, parse_option, resolve_listeners
from kamc.runtime.net.sctp import bind_sctp, has_sctp
from kamc.runtime.net.tcp import bind_tcp
from kamc.runtime.net.udp import bind_udp

if TYPE_CHECKING:
    from kamc.runtime.proc.options import Options

#: enable_sctp: where the kernel has it
_SCTP_IF_THERE: Final = 2
_KINDS: Final = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM, "tls": socket.SOCK_STREAM, "sctp": socket.SOCK_SEQPACKET}

Place = tuple[str, str, int]


def place(s: Listener) -> Place:
    """What a socket is bound to."""
    return s.proto, s.host, s.port


class Bound:
    """What a listener is bound with: a socket for each worker. Streams are accepted from one that all share; datagrams come in by one of its own
    for each, which the kernel chooses by the call (net/filter.py)."""

    def __init__(self, sockets: list[socket.socket], *, grows: bool = False) -> None:
        """``grows``: another worker gets another socket with the same address."""
        self.sockets, self.grows = sockets, grows

    def steer(self, count: int) -> None:
        """Have the first ``count`` sockets filled by who owns a call."""
        if self.grows:
            steer_in_kernel(self.sockets[0], count)

    def of(self, worker: int) -> socket.socket:
        return self.sockets[worker % len(self.sockets)]

    def leave_to(self, worker: int) -> None:
        """In a worker: close what is not its own."""
        for sock in set(self.sockets) - {self.of(worker)}:
            sock.close()

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class Wanted:
    """The listeners of a build. Raises ConfigError for those that cannot be understood. ``unserved`` are those of transports that are off."""

    def __init__(self, params: Mapping[str, Any], options: Options) -> None:
        self.params, self.options = params, options
        self.core = dict(params["core"]) | options.overrides
        items = [parse_option(text) for text in options.listen] or params["listen"]
        found, self.unserved = resolve_listeners(items, int(self.core.get("port", 0)) or 5060, self._served(), six=bool(self.core.get("auto_bind_ipv6", 0)))
        if not found:
            raise ConfigError("no UDP or TCP address to listen on")
        self.listeners = advertised(found, str(self.core.get("advertised_address") or ""), int(self.core.get("advertised_port") or 0))

    def _served(self) -> frozenset[str]:
        """The transports that the configuration and the command line want and this machine has."""
        modules = self.params["modules"]
        found = {"udp"}
        if not self.options.no_tcp and not self.core.get("disable_tcp", 0):
            found.add("tcp")
            if self.core.get("enable_tls", 0) and "tls" in modules:
                found.add("tls")
        wanted = int(self.core.get("enable_sctp", _SCTP_IF_THERE))
        if "sctp" in modules and wanted and not self.core.get("disable_sctp", 0) and (wanted != _SCTP_IF_THERE or has_sctp()):
            found.add("sctp")
        return frozenset(found)

    def param(self, name: str) -> Any:
        """A core parameter: as the configuration sets it, else its default."""
        row = catalogue.core_params().get(name)
        return self.core.get(name, row["default"] if row is not None else None)

    def open(self, have: Mapping[Place, Bound], workers: int = 1) -> dict[Listener, Bound]:
        """Sockets for each listener: those that are there, else new ones. Raises ConfigError, and has opened nothing then."""
        found: dict[Listener, Bound] = {}
        fresh: list[Bound] = []
        for listener in self.listeners:
            bound = have.get(place(listener))
            if bound is None:
                try:
                    sockets = self._bind(listener, workers)
                    bound = Bound(sockets, grows=len(sockets) > 1)
                except OSError as err:
                    for one in fresh:
                        one.close()
                    raise ConfigError(f"cannot listen on {listener}: {err.strerror or err}") from None
                fresh.append(bound)
            found[listener] = bound
        return found

    def bind_one_more(self, listener: Listener) -> socket.socket:
        """Another socket of a group. Raises OSError."""
        return bind_udp(listener, self.param, shared=True)

    def _bind(self, listener: Listener, workers: int) -> list[socket.socket]:
        """Raises OSError."""
        if listener.proto == "udp":
            if workers == 1 or ipaddress.ip_address(listener.host).is_multicast:
                return [bind_udp(listener, self.param)]
            # several sockets may have one address only when all of them say so: another server would not be noticed
            bind_udp(listener, self.param).close()
            group = [bind_udp(listener, self.param, shared=True) for _ in range(workers)]
            steer_in_kernel(group[0], workers)
            return group
        if listener.proto == "sctp":
            settings = {param: int(value) for module, param, value, _where in self.params["modparams"] if module == "sctp"}
            return [bind_sctp(listener, self.param, settings)]
        return [bind_tcp(listener, self.param)]


def activated(sockets: list[socket.socket]) -> dict[Place, Bound]:
    """Sockets of socket activation, by where they are bound; TCP ones stand for TLS as well."""
    found: dict[Place, Bound] = {}
    for sock in sockets:
        sock.setblocking(False)
        name = sock.getsockname()
        if not isinstance(name, tuple):
            continue
        for proto, kind in _KINDS.items():
            if sock.type == kind:
                found[proto, str(name[0]), int(name[1])] = Bound([sock])
    return found
