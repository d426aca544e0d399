"""Next hops out of a host name (RFC 3263), in the order in which they are to be tried, found out no earlier than needed.

Kamailio's way: NAPTR records are asked for with ``dns_try_naptr`` and rated by ``dns_*_pref`` first; without them the transport is the one
of the URI, UDP if it names none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kamc.runtime.net.dns.records import Naptr, Srv
from kamc.runtime.net.dns.resolver import Resolver

_SERVICES: Final = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls", "SIP+D2S": "sctp"}
_SRV_NAMES: Final = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp.", "sctp": "_sip._sctp.", "ws": "_sip._tcp.", "wss": "_sips._tcp."}
_PREFERENCES: Final = {"udp": "dns_udp_pref", "tcp": "dns_tcp_pref", "tls": "dns_tls_pref", "sctp": "dns_sctp_pref"}

#: transport, address, port
Hop = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a URI says. ``proto`` is "" when it names no transport, ``port`` 0 when it names none."""

    host: str
    port: int
    proto: str
    secure: bool


class Locator:
    """``families``: transport → whether there are IPv4 sockets of it, and IPv6 ones."""

    def __init__(self, dns: Resolver, param: Callable[[str], Any], families: Callable[[str], tuple[bool, bool]], rand: random.Random) -> None:
        self.dns, self.param, self.families, self.rand = dns, param, families, rand

    def hops(self, want: Wanted, ctx: Any = None) -> Iterator[Hop]:
        default = want.proto or ("tls" if want.secure else "udp")
        if want.port:
            yield from self._addresses(default, want.host, want.port, ctx)
            return
        found = False
        by_naptr, services = self._services(want, default, ctx)
        for proto, name in services:
            for record in self._srv(name, ctx):
                for hop in self._addresses(proto, record.target, record.port, ctx):
                    found = True
                    yield hop
            if found and not by_naptr:
                return
        if not found:
            yield from self._addresses(default, want.host, 5061 if default in ("tls", "wss") else 5060, ctx)

    def _services(self, want: Wanted, default: str, ctx: Any) -> tuple[bool, list[tuple[str, str]]]:
        """Names to ask for SRV records, with the transport that each stands for, and whether NAPTR records say so: else the first one that
        has SRV records is the only one."""
        if want.proto or want.secure or not self.param("dns_try_naptr"):
            return False, [(default, _SRV_NAMES.get(default, _SRV_NAMES["udp"]) + want.host)]
        rated = {proto: int(self.param(name)) for proto, name in _PREFERENCES.items() if any(self.families(proto))}
        records = [r for r in self.dns.records(want.host, "NAPTR", ctx) if isinstance(r, Naptr) and r.flags == "s" and _SERVICES.get(r.service) in rated]
        if records:
            by_proto = sorted(records, key=lambda r: (-rated[_SERVICES[r.service]], r.order, r.preference))
            if not self.param("dns_naptr_ignore_rfc"):
                by_proto = sorted(records, key=lambda r: (r.order, -rated[_SERVICES[r.service]], r.preference))
            return True, [(_SERVICES[r.service], r.replacement) for r in by_proto]
        return False, [(proto, _SRV_NAMES[proto] + want.host) for proto in sorted(rated, key=lambda p: -rated[p])]

    def _srv(self, name: str, ctx: Any) -> Iterator[Srv]:
        """By priority; among equals the heavier first, or with ``dns_srv_lb`` by chance (RFC 2782)."""
        records = sorted((r for r in self.dns.records(name, "SRV", ctx) if isinstance(r, Srv) and r.target), key=lambda r: (r.priority, -r.weight))
        if not self.param("dns_srv_lb"):
            yield from records
            return
        while records:
            group = [r for r in records if r.priority == records[0].priority]
            chosen = self.rand.choices(group, [r.weight or 0.1 for r in group])[0]
            records.remove(chosen)
            yield chosen

    def _addresses(self, proto: str, host: str, port: int, ctx: Any) -> Iterator[Hop]:
        """Beginning with any of them."""
        v4, v6 = self.families(proto)
        found = self.dns.addresses(host, ctx, v4=v4, v6=v6)
        first = self.rand.randrange(len(found)) if len(found) > 1 else 0
        for address in found[first:] + found[:first]:
            yield proto, address, port
