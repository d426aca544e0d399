"""Where a message goes: next-hop URIs and names become a socket to send from and a numeric address (RFC 3261 section 8.1.2, RFC 3263)."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from kamc.runtime.context import Ctx
from kamc.runtime.hooks import Hooks
from kamc.runtime.net.dns.blocklist import Blocklist
from kamc.runtime.net.dns.locate import Locator, Wanted
from kamc.runtime.net.dns.resolver import Resolver
from kamc.runtime.net.endpoint import BELOW, Dest, Listener, Unreachable, is_ip
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.sip.uri import parse_uri

if TYPE_CHECKING:
    from kamc.runtime.proc.worker import Worker

#: nothing to try when the first destination fails
NO_MORE: Final[Iterator[Dest]] = iter(())

_MOST_WAYS: Final = 4096
_WAY_SECONDS: Final = 30.0


class Destinations:
    """The part of the datapath that knows sockets and names. One per worker."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.log = worker.log
        self.senders: dict[Listener, Callable[..., Any]] = {}
        self.by_proto: dict[str, list[Listener]] = {}
        #: destination → own address and until when it is taken for true
        self._ways: dict[str, tuple[str, float]] = {}
        self._random = random.Random(worker.secret)
        #: of the generation that runs
        self.hooks = Hooks()
        self.dns = Resolver(worker.waits, worker.clock, worker.core_param, worker.counters, worker.log)
        self.blocklist = Blocklist(worker.clock, worker.core_param)
        self.locator = Locator(self.dns, worker.core_param, self._families, self._random)

    def add_listener(self, listener: Listener, send: Callable[..., Any]) -> None:
        self.senders[listener] = send
        self.by_proto.setdefault(listener.proto, []).append(listener)
        for above, below in BELOW.items():
            if below == listener.proto:
                self.by_proto.setdefault(above, []).append(listener)

    def dest_for(self, ctx: Ctx, proto: str, host: str, port: int) -> Dest | None:
        """A destination from a host and port; names are resolved to their first address."""
        ip = self.lookup(host, ctx)
        return self._dest(ctx, proto, ip, port) if ip is not None else None

    def _dest(self, ctx: Ctx, proto: str, ip: str, port: int) -> Dest | None:
        """None, and the reason remembered, when nothing can be sent there."""
        known = self.worker.streams.find((ip, port), secure=proto == "wss") if proto in BELOW else None
        listener = known.listener if known is not None else self.listener_for(ctx, proto, ip)
        if listener is None:
            self.log.error("no %s socket to send from", proto)
            ctx.remember("unreachable", Unreachable.NO_SOCKET)
            return None
        if self.blocklist.entries and self.blocklist.stops((proto, ip, port), ctx.msg.method):
            ctx.remember("unreachable", Unreachable.BLOCKED)
            return None
        dest = Dest(listener, proto, ip, port, ctx.forward_conn, connect=not ctx.forward_no_connect, close=ctx.forward_close)
        if self.hooks.tls_wish is not None and proto == "tls":
            dest.wish = self.hooks.tls_wish(ctx)
        return dest

    def for_size(self, ctx: Ctx, dest: Dest, size: int) -> Dest | None:
        """Another transport to the same place for a request of more than ``udp_mtu`` bytes (RFC 3261 section 18.1.1); None to stay with UDP."""
        limit = int(ctx.rt.param("udp_mtu"))
        if not limit or size <= limit or dest.proto != "udp":
            return None
        proto = ctx.mtu_proto or str(ctx.rt.param("udp_mtu_try_proto") or "").lower()
        if proto not in ("tcp", "tls", "sctp"):
            return None
        return self._dest(ctx, proto, dest.ip, dest.port)

    def listener_for(self, ctx: Ctx, proto: str, host: str = "") -> Listener | None:
        """The socket to send from: the forced one, the one that received, else the first of the protocol and family."""
        wanted, below = ctx.send_socket, BELOW.get(proto, proto)
        if wanted is not None and wanted.proto == below:
            return wanted
        if self.worker.core_param("mhomed") and is_ip(host):
            way = self._way_to(host)
            found = next((c for c in self.by_proto.get(proto, ()) if c.host == way), None)
            if found is not None:
                return found
        six = ":" in host
        own = ctx.flow.listener
        if own.proto == below and own in self.senders and (":" in own.host) == six:
            return own
        return next((c for c in self.by_proto.get(proto, ()) if (":" in c.host) == six), None)

    def _way_to(self, ip: str) -> str:
        """The own address that the kernel would send from (``mhomed``); remembered, as routes change seldom."""
        known = self._ways.get(ip)
        if known is not None and known[1] > self.worker.clock():
            return known[0]
        with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((ip, 9))
                own = str(probe.getsockname()[0])
            except OSError:
                own = ""
        if len(self._ways) >= _MOST_WAYS:
            self._ways.clear()
        self._ways[ip] = own, self.worker.clock() + _WAY_SECONDS
        return own

    def lookup(self, host: str, ctx: Ctx | None = None) -> str | None:
        """A numeric address for a host name or address; None when there is none."""
        if is_ip(host):
            return host.strip("[]")
        found = self.dns.addresses(host, ctx)
        return found[0] if found else None

    def resolve(self, ctx: Ctx, uri: str) -> Dest | None:
        """The first destination for a next-hop URI."""
        return self.resolve_all(ctx, uri)[0]

    def resolve_all(self, ctx: Ctx, uri: str) -> tuple[Dest | None, Iterator[Dest]]:
        """Next-hop URI → the first destination, and with use_dns_failover those to try when it fails; None when there is none (RFC 3263)."""
        parsed = parse_uri(uri)
        if parsed is None:
            address = parse_addr(uri)
            parsed = parse_uri(address.uri) if address is not None else None
        if parsed is None or not parsed.host:
            self.log.error("bad destination URI %r", uri)
            return None, NO_MORE
        host = parsed.param_map.get("maddr") or parsed.host
        if is_ip(host):
            return self._dest(ctx, parsed.proto(), host.strip("[]"), parsed.real_port()), NO_MORE
        proto = parsed.proto() if parsed.transport else ""
        if (proto or ("tls" if parsed.is_sips else "udp")) not in self.by_proto:
            ctx.remember("unreachable", Unreachable.NO_SOCKET)
            return None, NO_MORE
        rest = self._dests(ctx, Wanted(host, parsed.port_number, proto, parsed.is_sips))
        return next(rest, None), rest if self.worker.core_param("use_dns_failover") else NO_MORE

    def _dests(self, ctx: Ctx, wanted: Wanted) -> Iterator[Dest]:
        for proto, ip, port in self.locator.hops(wanted, ctx):
            dest = self._dest(ctx, proto, ip, port)
            if dest is not None:
                yield dest

    def _families(self, proto: str) -> tuple[bool, bool]:
        """Whether there are IPv4 sockets of a transport, and IPv6 ones."""
        hosts = [s.host for s in self.by_proto.get(proto, ())]
        return any(":" not in host for host in hosts), any(":" in host for host in hosts)
