"""Groups of addresses: hosts, networks and names, each with a port (0: any) and a tag."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kamc.errors import ConfigError
from kamc.runtime.db import Cell

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Entry:
    group: int
    port: int
    tag: str | None


def parse_address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


@dataclass(slots=True)
class AddressTable:
    hosts: dict[Address, list[Entry]] = field(default_factory=dict)
    networks: list[tuple[Network, Entry]] = field(default_factory=list)
    names: dict[str, list[Entry]] = field(default_factory=dict)

    def narrowest_first(self) -> None:
        """Try the networks with the longest prefix first (``subnet_match_mode`` 1), not as they stand."""
        self.networks.sort(key=lambda item: -item[0].prefixlen)

    def add(self, group: int, address: str, mask: int, port: int, tag: str | None) -> None:
        """Raises ValueError."""
        if group < 1 or not 0 <= port <= 65535:
            raise ValueError("a group is 1 or more, a port 0 to 65535")
        if "/" in address:
            raise ValueError(f"the mask of {address} stands in a column of its own")
        entry = Entry(group, port, tag or None)
        host = parse_address(address)
        if host is None:
            self.names.setdefault(address.lower(), []).append(entry)
        elif mask in (0, host.max_prefixlen):
            self.hosts.setdefault(host, []).append(entry)
        else:
            self.networks.append((ipaddress.ip_network(f"{host}/{mask}", strict=False), entry))

    def entries(self, address: str) -> Iterable[Entry]:
        """Everything that an address belongs to, hosts before networks."""
        host = parse_address(address)
        if host is None:
            return self.names.get(address.lower(), ())
        return (*self.hosts.get(host, ()), *(entry for net, entry in self.networks if net.version == host.version and host in net))

    def find(self, address: str, port: int, group: int | None = None) -> Entry | None:
        """The first entry for an address and port, of one group or of any. A port of 0 in the entry stands for all of them."""
        return next((e for e in self.entries(address) if (group is None or e.group == group) and e.port in (0, port)), None)

    @property
    def size(self) -> int:
        return sum(map(len, self.hosts.values())) + sum(map(len, self.names.values())) + len(self.networks)


def read_file(path: Path) -> AddressTable:
    """``group address [mask [port [tag]]]`` per line, ``#`` for comments. Raises ConfigError with the line."""
    try:
        text = path.read_text("latin-1")
    except OSError as err:
        raise ConfigError(f"permissions: cannot read address_file {path}: {err.strerror or err}") from None
    table = AddressTable()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            if len(words) < 2 or len(words) > 5:
                raise ValueError("the form is: group address [mask [port [tag]]]")
            numbers = [int(words[0]), int(words[2]) if len(words) > 2 else 0, int(words[3]) if len(words) > 3 else 0]
            table.add(numbers[0], words[1], numbers[1], numbers[2], words[4] if len(words) > 4 else None)
        except ValueError as err:
            raise ConfigError(f"permissions: {path}:{number}: {err}") from None
    return table


def read_rows(rows: Iterable[tuple[Cell, ...]], report: Callable[[str], None]) -> AddressTable:
    """Rows of group, address, mask, port and tag. What cannot be used is reported and left out."""
    table = AddressTable()
    for group, address, mask, port, tag in rows:
        try:
            table.add(int(str(group)), str(address).strip(), int(str(mask or 0)), int(str(port or 0)), str(tag) if tag is not None else None)
        except ValueError as err:
            report(f"{address}: {err}")
    return table


def dump(table: AddressTable) -> list[dict[str, Any]]:
    """Hosts as ``permissions.addressDump`` shows them."""
    return [{"table": 0, "group": e.group, "item": {"ip": str(host), "port": e.port, "tag": e.tag or "NULL"}} for host, entries in table.hosts.items() for e in entries]
