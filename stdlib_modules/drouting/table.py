"""Gateways and rules, as the tables ``dr_gateways``, ``dr_rules`` and ``dr_gw_lists`` have them."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from kamc.runtime.log import Log
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.drouting.recurrence import Recurrence, recurrence

#: sort_order: in each set of a list in any order, one of each set
SHUFFLED, ONE_OF_EACH = 1, 2
_DIGITS: Final = frozenset("0123456789")


@dataclass(frozen=True, slots=True)
class Gateway:
    """``addresses`` are those that it has; ``host`` is what goes into the R-URI: host, port, parameters."""

    ident: int
    kind: int
    host: str
    strip: int
    prefix: str
    attrs: str
    addresses: frozenset[str]


def gateway(ident: int, kind: int, address: str, strip: int, prefix: str, attrs: str, *, resolve: bool) -> Gateway:
    """Raises ValueError for an address that is none."""
    text = address.strip()
    host = text.partition(":")[2] if text.lower().startswith(("sip:", "sips:")) else text
    uri = parse_uri(f"sip:{host}")
    if uri is None or not uri.host:
        raise ValueError(f"{address!r} is no address")
    return Gateway(ident, kind, host, strip, prefix, attrs, _addresses(uri.host.strip("[]"), resolve=resolve))


def _addresses(host: str, *, resolve: bool) -> frozenset[str]:
    try:
        return frozenset({str(ip_address(host))})
    except ValueError:
        pass
    if not resolve:
        return frozenset()
    try:
        return frozenset(str(row[4][0]) for row in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM))
    except OSError as err:
        raise ValueError(f"{host} cannot be resolved: {err.strerror or err}") from None


@dataclass(frozen=True, slots=True)
class Rule:
    """``sets`` of gateways; what stands in one set may be put in another order."""

    ident: int
    prefix: str
    priority: int
    time: Recurrence | None
    sets: tuple[tuple[Gateway, ...], ...]

    def gateways(self, order: int, rand: random.Random) -> list[Gateway]:
        """Each once, in the order in which they are tried."""
        found: list[Gateway] = []
        for one in self.sets:
            chosen = list(one)
            if order:
                rand.shuffle(chosen)
            found += chosen[:1] if order == ONE_OF_EACH else chosen
        return list(dict.fromkeys(found))


@dataclass(slots=True)
class RoutingTable:
    """All rules of all groups, by prefix; in each place the one with the highest priority first."""

    gateways: dict[int, Gateway] = field(default_factory=dict)
    groups: dict[int, dict[str, list[Rule]]] = field(default_factory=dict)
    longest: int = 0

    def add(self, group: int, rule: Rule) -> None:
        rules = self.groups.setdefault(group, {}).setdefault(rule.prefix, [])
        rules.append(rule)
        rules.sort(key=lambda r: -r.priority)
        self.longest = max(self.longest, len(rule.prefix))

    def matching(self, group: int, user: str, now: datetime) -> Iterator[Rule]:
        """Rules that hold now, the one with the longest prefix of the user first."""
        by_prefix = self.groups.get(group)
        if by_prefix is None:
            return
        digits = next((i for i, c in enumerate(user[: self.longest]) if c not in _DIGITS), min(len(user), self.longest))
        for size in range(digits, -1, -1):
            for rule in by_prefix.get(user[:size], ()):
                if rule.time is None or rule.time.holds(now):
                    yield rule


def read_sets(text: str, gateways: dict[int, Gateway], lists: dict[int, str], depth: int = 0) -> tuple[tuple[Gateway, ...], ...]:
    """``1,2;#3``: ids of gateways, in sets, and of lists. Raises ValueError."""
    if text.startswith("#") and depth == 0 and text[1:].strip().isdecimal():
        found = lists.get(int(text[1:]))
        if found is None:
            raise ValueError(f"there is no list {text}")
        return read_sets(found, gateways, lists, depth + 1)
    sets = []
    for part in text.split(";"):
        ids = [int(item) if item.strip().isdecimal() else -1 for item in part.split(",") if item.strip()]
        missing = [item for item in ids if item not in gateways]
        if missing:
            raise ValueError(f"{part.strip()!r} names no gateway")
        if ids:
            sets.append(tuple(gateways[item] for item in ids))
    if not sets:
        raise ValueError("no gateways")
    return tuple(sets)


def read_rule(row: tuple[object, ...], gateways: dict[int, Gateway], lists: dict[int, str]) -> tuple[list[int], Rule]:
    """The groups of a row and its rule. Raises ValueError."""
    ident, groups, prefix, timerec, priority, gwlist = ("" if cell is None else str(cell) for cell in row)
    if set(prefix) - _DIGITS:
        raise ValueError(f"prefix {prefix!r} has something else than digits")
    numbers = [int(part) for part in groups.split(",") if part.strip()]
    return numbers, Rule(int(ident), prefix, int(priority or 0), recurrence(timerec), read_sets(gwlist.strip(), gateways, lists))


def build(gateway_rows: list[tuple[object, ...]], rule_rows: list[tuple[object, ...]], lists: dict[int, str], log: Log, *, resolve: bool) -> RoutingTable:
    """Rows that cannot be used are left out, and said."""
    table = RoutingTable()
    for row in gateway_rows:
        ident, kind, address, strip, prefix, attrs = ("" if cell is None else str(cell) for cell in row)
        try:
            table.gateways[int(ident)] = gateway(int(ident), int(kind or 0), address, int(strip or 0), prefix, attrs, resolve=resolve)
        except ValueError as err:
            log.error("drouting: gateway %s is left out: %s", ident, err)
    for row in rule_rows:
        try:
            groups, rule = read_rule(row, table.gateways, lists)
        except ValueError as err:
            log.error("drouting: rule %s is left out: %s", row[0], err)
            continue
        for group in groups:
            table.add(group, rule)
    return table
