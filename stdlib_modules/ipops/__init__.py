"""Module ipops: tests and comparisons of IP addresses, and lookups of names.

What counts as an address, and the names of address ranges, were recorded from Kamailio 5.6.3 (tests/cases/script/ipops.yaml). ``srv_query``,
``naptr_query`` and ``ptr_query`` come with the DNS work.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any, Final

from kamc.declare import ANY, Module, function, pv_class
from kamc.declare.argtypes import PvArg
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from stdlib_modules.ipops.records import RecordQueries

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: the first range that holds an address names it
_NAMES: Final = [(ipaddress.ip_network(net), name) for net, name in (
    ("10.0.0.0/8", "PRIVATE"), ("172.16.0.0/12", "PRIVATE"), ("192.168.0.0/16", "PRIVATE"), ("0.0.0.0/8", "PRIVATE"), ("100.64.0.0/10", "SHARED"),
    ("127.0.0.0/8", "LOOPBACK"), ("169.254.0.0/16", "LINK-LOCAL"), ("192.0.0.0/24", "RESERVED"), ("192.0.2.0/24", "TEST-NET"),
    ("192.88.99.0/24", "6TO4-RELAY"), ("198.18.0.0/15", "RESERVED"), ("198.51.100.0/24", "TEST-NET"), ("203.0.113.0/24", "TEST-NET"),
    ("224.0.0.0/4", "MULTICAST"), ("255.255.255.255/32", "BROADCAST"), ("240.0.0.0/4", "RESERVED"), ("0.0.0.0/0", "PUBLIC"),
    ("::1/128", "LOOPBACK"), ("::/128", "UNSPECIFIED"), ("::ffff:0:0/96", "IPV4MAP"), ("100::/64", "DISCARD"), ("2001::/32", "TEREDO"),
    ("2001:2::/48", "BMWG"), ("2001:10::/28", "ORCHID"), ("2001:db8::/32", "DOCUMENTATION"), ("2002::/16", "6TO4"), ("2000::/3", "GLOBAL-UNICAST"),
    ("fc00::/7", "UNIQUE-LOCAL-UNICAST"), ("fe80::/10", "LINK-LOCAL-UNICAST"), ("ff00::/8", "MULTICAST"), ("::/0", "RESERVED"),
)]  # fmt: skip
_RFC1918: Final = [net for net, name in _NAMES[:3]]
_E_RESOLVE, _E_ADDRESS = -4, -3


def pure(text: str) -> Address | None:
    """An address without brackets; None for anything else."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def bracketed(text: str) -> ipaddress.IPv6Address | None:
    """``[IPv6]``, the form of a URI."""
    found = pure(text[1:-1]) if text[:1] == "[" and text[-1:] == "]" else None
    return found if isinstance(found, ipaddress.IPv6Address) else None


def address_of(text: str) -> Address | None:
    return pure(text) or bracketed(text)


def network(text: str) -> Network | None:
    """``address[/bits]``; nothing behind the slash counts as 0 bits."""
    host, slash, bits = text.partition("/")
    if not slash:
        bits = "32" if "." in host else "128"
    if not re.fullmatch(r"\d*", bits) or pure(host) is None:
        return None
    try:
        return ipaddress.ip_network(f"{host}/{int(bits or 0)}", strict=False)
    except ValueError:
        return None


def range_name(address: Address) -> str:
    return next(name for net, name in _NAMES if net.version == address.version and address in net)


def resolve(host: str) -> list[str]:
    """Addresses of a name by the system's resolver, in its order. Raises OSError."""
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as err:
        raise OSError(str(err)) from None
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


class Ipops(RecordQueries, Module):
    name = "ipops"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: results of dns_query by the name that the script gave them
        self.answers: dict[str, tuple[str, list[str]]] = {}
        #: the same of srv_query and naptr_query: (kind, name) → records
        self.found: dict[tuple[str, str], list[Any]] = {}

    # -- kinds of addresses ----------------------------------------------------------------------------------------------

    @function(ANY)
    def is_ip(self, ctx: Ctx, ip: str) -> int:
        return 1 if address_of(ip) is not None else -1

    @function(ANY)
    def is_pure_ip(self, ctx: Ctx, ip: str) -> int:
        return 1 if pure(ip) is not None else -1

    @function(ANY)
    def is_ipv4(self, ctx: Ctx, ip: str) -> int:
        return 1 if isinstance(pure(ip), ipaddress.IPv4Address) else -1

    @function(ANY)
    def is_ipv6(self, ctx: Ctx, ip: str) -> int:
        return 1 if isinstance(pure(ip), ipaddress.IPv6Address) else -1

    @function(ANY)
    def is_ipv6_reference(self, ctx: Ctx, ip: str) -> int:
        return 1 if bracketed(ip) is not None else -1

    @function(ANY)
    def ip_type(self, ctx: Ctx, ip: str) -> int:
        """1 IPv4, 2 IPv6, 3 IPv6 in brackets, -1 neither."""
        address = pure(ip)
        if address is None:
            return 3 if bracketed(ip) is not None else -1
        return 1 if address.version == 4 else 2

    @function(ANY)
    def is_ip_rfc1918(self, ctx: Ctx, ip: str) -> int:
        address = pure(ip)
        return 1 if address is not None and any(address in net for net in _RFC1918 if net.version == address.version) else -1

    def _named(self, ctx: Ctx, address: Address | None, result: PvArg) -> int:
        if address is None:
            self.rt.log.error("the argument is no IP address of the kind that is asked for")
            return -1
        if result.set is None:
            return -1
        result.set(ctx, range_name(address))
        return 1

    @function(ANY)
    def detailed_ipv4_type(self, ctx: Ctx, ip: str, result: PvArg) -> int:
        address = pure(ip)
        return self._named(ctx, address if isinstance(address, ipaddress.IPv4Address) else None, result)

    @function(ANY)
    def detailed_ipv6_type(self, ctx: Ctx, ip: str, result: PvArg) -> int:
        address = address_of(ip)
        return self._named(ctx, address if isinstance(address, ipaddress.IPv6Address) else None, result)

    @function(ANY)
    def detailed_ip_type(self, ctx: Ctx, ip: str, result: PvArg) -> int:
        return self._named(ctx, address_of(ip), result)

    # -- comparisons -----------------------------------------------------------------------------------------------------

    @function(ANY)
    def compare_ips(self, ctx: Ctx, ip1: str, ip2: str) -> int:
        first = address_of(ip1)
        return 1 if first is not None and first == address_of(ip2) else -1

    @function(ANY)
    def compare_pure_ips(self, ctx: Ctx, ip1: str, ip2: str) -> int:
        first = pure(ip1)
        return 1 if first is not None and first == pure(ip2) else -1

    @function(ANY)
    def is_in_subnet(self, ctx: Ctx, ip: str, subnets_list: str) -> int:
        """Whether an address is one of a list, or within one of its networks. What cannot be read is passed over."""
        address = pure(ip)
        if address is None:
            return -1
        for part in subnets_list.split(","):
            net = network(part.strip())
            if net is not None and net.version == address.version and address in net:
                return 1
        return -1

    # -- names -----------------------------------------------------------------------------------------------------------

    def _resolve(self, ctx: Ctx, host: str) -> list[str] | None:
        if pure(host) is not None:
            return [host]
        try:
            found: list[str] = self.rt.worker.waits.call(resolve, host, ctx=ctx)
        except OSError as err:
            self.rt.log.error("unable to resolve %s: %s", host, err.strerror or err)
            return None
        return found

    def _match(self, ctx: Ctx, host: str, ip: str) -> int:
        address = pure(ip)
        if address is None:
            self.rt.log.error("invalid IP address: %s", ip)
            return _E_ADDRESS
        found = self._resolve(ctx, host)
        if found is None:
            return _E_RESOLVE
        return 1 if any(pure(a) == address for a in found) else -1

    @function(ANY, waits=True)
    def dns_sys_match_ip(self, ctx: Ctx, hostname: str, ipaddr: str) -> int:
        return self._match(ctx, hostname, ipaddr)

    @function(ANY, waits=True)
    def dns_int_match_ip(self, ctx: Ctx, hostname: str, ipaddr: str) -> int:
        return self._match(ctx, hostname, ipaddr)

    @function(ANY, waits=True)
    def dns_query(self, ctx: Ctx, hostname: str, pvid: str) -> int:
        """Look a name up; ``$dns(pvid=>...)`` has the result."""
        self.answers.pop(pvid, None)
        found = self._resolve(ctx, hostname)
        if found is None:
            return _E_RESOLVE
        self.answers[pvid] = (hostname, found)
        return 1

    @pv_class("dns")
    def pv_dns(self, spec: PvSpec) -> BoundPv:
        """``pvid=>count``, ``ipv4``, ``ipv6`` (whether there is one), ``addr[i]``, ``type[i]``."""
        found = _DNS.fullmatch(spec.inner or "")
        assert found is not None
        pvid, key, index = found["id"].strip(), found["key"], int(found["index"] or 0)

        def get(ctx: Ctx) -> Value:
            if pvid not in self.answers:
                return None
            addresses = self.answers[pvid][1]
            if key == "count":
                return len(addresses)
            if key in ("ipv4", "ipv6"):
                return int(any((":" in a) == (key == "ipv6") for a in addresses))
            at = index if index >= 0 else len(addresses) + index
            if not 0 <= at < len(addresses):
                return None
            return addresses[at] if key == "addr" else 6 if ":" in addresses[at] else 4

        return BoundPv(get)

    @classmethod
    def check_pv_dns(cls, spec: PvSpec) -> str | None:
        return None if _DNS.fullmatch(spec.inner or "") else "the form is $dns(NAME=>count), ipv4, ipv6, addr[INDEX] or type[INDEX]"

    @pv_class("HN")
    def pv_hn(self, spec: PvSpec) -> BoundPv:
        """The host: ``n`` its name, ``f`` the full one, ``d`` the domain of that, ``i`` its address."""
        which = spec.inner
        name = socket.gethostname()
        full = socket.getfqdn() if which in ("f", "d") else name
        value: Value = {"n": name, "f": full, "d": full.partition(".")[2] or None}.get(which or "")
        if which == "i":
            try:
                value = resolve(name)[0]
            except OSError:
                value = None
        return BoundPv(lambda ctx: value)

    @classmethod
    def check_pv_hn(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("n", "f", "d", "i") else "the name is n, f, d or i"


_DNS: Final = re.compile(r"(?P<id>[^=]+)=>(?P<key>count|ipv4|ipv6|addr|type)(?:\[(?P<index>-?\d+)\])?")

module = Ipops
