"""``dns.*`` and ``dst_blocklist.*`` commands: what is remembered of names, and which destinations are known to be down."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kamc.runtime.net.dns.blocklist import Blocklist, Reason
from kamc.runtime.net.dns.records import Entry, Naptr, Record, Srv
from kamc.runtime.net.dns.resolver import KINDS, Resolver
from kamc.runtime.net.endpoint import PROTO_ID
from kamc.runtime.rpc.commands import RpcRegistry
from kamc.runtime.rpc.fault import RpcFault

if TYPE_CHECKING:
    from kamc.runtime.net.destinations import Destinations


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _record(record: Record, kind: str) -> dict[str, Any]:
    if isinstance(record, Srv):
        return {"rr_name": record.target, "rr_port": record.port, "rr_priority": record.priority, "rr_weight": record.weight}
    if isinstance(record, Naptr):
        return {"rr_order": record.order, "rr_preference": record.preference, "rr_flags": record.flags, "rr_service": record.service,
                "rr_regexp": record.regexp, "rr_replacement": record.replacement}  # fmt: skip
    return {"rr_ip" if kind in ("A", "AAAA") else "rr_txt" if kind == "TXT" else "rr_name": record}


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str | int) or not str(value):
        raise RpcFault(400, f"{what} wanted")
    return str(value)


def _number(value: Any, what: str, most: int) -> int:
    text = str(value)
    if not text.isdecimal() or int(text) > most:
        raise RpcFault(400, f"{what}: a number up to {most} wanted")
    return int(text)


#: numbers of record types (RFC 1035, RFC 2782, RFC 3403, RFC 3596)
_NUMBERS: Final = {"A": 1, "CNAME": 5, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33, "NAPTR": 35}


class DnsCommands:
    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    def add_to(self, registry: RpcRegistry) -> None:
        for name, function, doc in (
            ("view", self.view, "Everything that is remembered of names."), ("debug", self.debug, "Names and types that are remembered."),
            ("debug_all", self.view, "Everything that is remembered of names."),
            ("mem_info", lambda: [self.dns.cache.used, self.dns.cache.limit], "Bytes that are used, and that may be."),
            ("lookup", self.lookup, "TYPE NAME: what is remembered of a name."), ("delete_all", self.delete_all, "Forget all but what was added for good."),
            ("delete_all_force", lambda: self.delete_all(force=True), "Forget everything."),
            ("add_a", self._adder("A", 4), "NAME TTL ADDRESS [FLAGS]: remember an address; with flag 2 for good."),
            ("add_aaaa", self._adder("AAAA", 6), "NAME TTL ADDRESS [FLAGS]: remember an address; with flag 2 for good."),
            ("add_srv", self.add_srv, "NAME TTL PRIORITY WEIGHT PORT TARGET [FLAGS]: remember a server."),
            ("get_server_state", lambda: int(self.dns.servers_up), "Whether name servers are asked."),
            ("set_server_state", self.set_server_state, "0 or 1: whether name servers are asked."),
            ("stats_get", self.stats, "Counters."),
        ):  # fmt: skip
            registry.add(f"dns.{name}", function, doc)
        for kind in (*KINDS, "EBL"):
            registry.add(f"dns.delete_{kind.lower()}", self._deleter(kind), f"NAME: forget its {kind} records.")

    def _show(self, entry: Entry) -> dict[str, Any]:
        now = self.dns.clock()
        left = max(0, int(entry.expires - now))
        head = {"name": entry.name, "type": entry.kind, "size_bytes": entry.size, "reference_counter": 1, "permanent": _yes(entry.permanent), "expires": left,
                "last_used": int(now - entry.last_used), "negative_entry": _yes(not entry.records)}  # fmt: skip
        rows = [{"rr_idx": i, **_record(r, entry.kind), "rr_permanent": _yes(entry.permanent), "rr_expires": left} for i, r in enumerate(entry.records)]
        return head | ({"records": rows} if rows else {})

    def view(self) -> list[dict[str, Any]]:
        self.dns.cache.expire()
        return [self._show(entry) for entry in self.dns.cache]

    def debug(self) -> list[str | int]:
        """As Kamailio writes it: name, number of the type, bytes, references, seconds that are left and since it was asked for, 1 for a name without records."""
        now = self.dns.clock()
        return [part for e in self.dns.cache
                for part in (e.name, _NUMBERS[e.kind], e.size, 1, max(0, int(e.expires - now)), int(now - e.last_used), int(not e.records))]  # fmt: skip

    def lookup(self, kind: str, name: str) -> dict[str, Any]:
        if str(kind).upper() not in KINDS:
            raise RpcFault(400, "Invalid type")
        entry = self.dns.cache.get(_text(name, "a name"), str(kind).upper())
        if entry is None or not entry.records:
            raise RpcFault(400, "Not found")
        return self._show(entry)

    def delete_all(self, *, force: bool = False) -> dict[str, str]:
        self.dns.cache.clear(permanent=force)
        return {"status": "ok"}

    def _deleter(self, kind: str) -> Callable[[str], None]:
        def delete(name: str) -> None:
            if not self.dns.cache.remove(_text(name, "a name"), kind):
                raise RpcFault(400, "Not found")

        return delete

    def _add(self, name: str, kind: str, ttl: int, record: Record, flags: int) -> None:
        if not self.dns.remember(name, kind, record, ttl, flags):
            raise RpcFault(500, "Failed to add the entry to the cache")

    def _adder(self, kind: str, version: int) -> Callable[..., None]:
        def add(name: str, ttl: int, address: str, flags: int = 0) -> None:
            try:
                ip = ipaddress.ip_address(str(address))
            except ValueError:
                raise RpcFault(400, f"{address} is no address") from None
            if ip.version != version:
                raise RpcFault(400, f"{address} is no IPv{version} address")
            self._add(_text(name, "a name"), kind, _number(ttl, "ttl", 1 << 31), str(ip), _number(flags, "flags", 255))

        return add

    def add_srv(self, name: str, ttl: int, priority: int, weight: int, port: int, target: str, flags: int = 0) -> None:
        record = Srv(_number(priority, "priority", 65535), _number(weight, "weight", 65535), _number(port, "port", 65535), _text(target, "a target"))
        self._add(_text(name, "a name"), "SRV", _number(ttl, "ttl", 1 << 31), record, _number(flags, "flags", 255))

    def set_server_state(self, state: int) -> dict[str, Any]:
        self.dns.servers_up = bool(_number(state, "state", 1))
        return {}

    def stats(self) -> dict[str, int]:
        values = self.dns.counters.values
        return {name: values.get(("dns", name), 0) for name in ("failed_dns_request", "slow_dns_request")}


class BlocklistCommands:
    def __init__(self, blocklist: Blocklist) -> None:
        self.blocklist = blocklist

    def add_to(self, registry: RpcRegistry) -> None:
        for name, function, doc in (
            ("view", self.view, "Destinations that are known to be down."), ("debug", self.view, "Destinations that are known to be down."),
            ("mem_info", self.mem_info, "Bytes that may be used."), ("delete_all", self.delete_all, "Forget all but permanent ones."),
            ("add", self.add, "ADDRESS PORT PROTO FLAGS: send nothing there for dst_blocklist_expire seconds."),
            ("stats_get", self.mem_info, "Bytes that may be used."),
        ):  # fmt: skip
            registry.add(f"dst_blocklist.{name}", function, doc)

    def _check(self) -> None:
        if not self.blocklist.on:
            raise RpcFault(500, "dst blocklist support disabled")

    def view(self) -> list[dict[str, Any]]:
        self._check()
        self.blocklist.expire()
        now = self.blocklist.clock()
        return [{"protocol": proto, "ip": ip, "port": port, "expires": 0 if flags & Reason.PERMANENT else int(until - now), "flags": flags}
                for (proto, ip, port), (until, flags) in self.blocklist.entries.items()]  # fmt: skip

    def mem_info(self) -> int:
        self._check()
        return self.blocklist.limit

    def delete_all(self) -> dict[str, Any]:
        self._check()
        for key, (_, flags) in list(self.blocklist.entries.items()):
            if not flags & Reason.PERMANENT:
                del self.blocklist.entries[key]
        return {}

    def add(self, address: str, port: int, proto: Any = "udp", flags: int = 0) -> dict[str, Any]:
        self._check()
        try:
            ip = str(ipaddress.ip_address(str(address).strip("[]")))
        except ValueError:
            raise RpcFault(400, f"{address} is no address") from None
        name = next((p for p, number in PROTO_ID.items() if str(proto).lower() in (p, str(number))), "")
        if not name:
            raise RpcFault(400, f"{proto} is no transport")
        self.blocklist.add((name, ip, _number(port, "port", 65535)), _number(flags, "flags", 255) | Reason.ADMIN)
        return {}


def add_dns_commands(registry: RpcRegistry, destinations: Destinations) -> None:
    DnsCommands(destinations.dns).add_to(registry)
    BlocklistCommands(destinations.blocklist).add_to(registry)
