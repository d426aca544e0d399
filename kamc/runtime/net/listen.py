"""Which sockets to open: ``listen=``, ``socket={}``, ``-l``, or every local address when nothing is said."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener, is_ip

_SIOCGIFADDR: Final = 0x8915
#: of an address in /proc/net/if_inet6
_LINK_SCOPE: Final = "20"
_OPTION: Final = re.compile(r"(?:(udp|tcp|tls|sctp|\*):)?(\[[0-9a-fA-F:.]+\]|\([^()]*\)|[^:/\s]+)(?::(\d+|\*))?(?:/([^:/]+)(?::(\d+))?)?(?:/(\w+))?\Z", re.I)


def parse_option(text: str) -> dict[str, Any]:
    """``-l [PROTO:]ADDR[:PORT][/ADVERTISED[:PORT]][/NAME]``. Raises ConfigError."""
    match = _OPTION.match(text)
    if match is None:
        raise ConfigError(f"-l {text}: not [proto:]address[:port][/advertised[:port]][/name]")
    proto, address, port, adv_host, adv_port, name = match.groups()
    addresses = tuple(a.strip() for a in address[1:-1].split(",")) if address.startswith("(") else (address.strip("[]"),)
    advertise = ("", (adv_host,), int(adv_port or 0)) if adv_host else None
    number = int(port) if port and port != "*" else 0
    return {"sockets": [((proto or "").lower(), addresses, number)], "advertise": advertise, "name": name, "virtual": False, "where": f"-l {text}"}


def interface_address(name: str) -> str | None:
    """The IPv4 address of a network interface, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            packed = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name[:15].encode("latin-1", "replace")))
        except OSError:
            return None
    return socket.inet_ntoa(packed[20:24])


def local_addresses() -> list[str]:
    """IPv4 addresses of all interfaces that are up."""
    found = []
    for _, name in socket.if_nameindex():
        address = interface_address(name)
        if address is not None and address not in found:
            found.append(address)
    return found or ["127.0.0.1"]


def ipv6_addresses(name: str = "") -> list[str]:
    """IPv6 addresses of an interface, or of all, without those that are good on one link only."""
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            rows = [line.split() for line in table]
    except OSError:
        return []
    return [str(ipaddress.IPv6Address(int(row[0], 16))) for row in rows if row[3] != _LINK_SCOPE and name in ("", row[5])]


def addresses_of(host: str, where: str, *, six: bool = False) -> list[str]:
    """Numeric addresses of a listen address: number, interface or host name. An interface's IPv6 addresses count with ``six``, or
    when it has no others. Raises ConfigError."""
    if is_ip(host):
        return [host]
    if host == "*":
        return local_addresses() + (ipv6_addresses() if six else [])
    from_interface = interface_address(host)
    others = ipv6_addresses(host) if six or from_interface is None else []
    if from_interface is not None or others:
        return [*([from_interface] if from_interface is not None else []), *others]
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, UnicodeError):
            return list(dict.fromkeys(str(row[4][0]) for row in socket.getaddrinfo(host, None, family, socket.SOCK_DGRAM)))[:1]
    raise ConfigError(f"{where}: cannot resolve listen address {host!r}")


def resolve_listeners(items: Iterable[dict[str, Any]], default_port: int, served: frozenset[str], *, six: bool = False) -> tuple[list[Listener], list[str]]:
    """Listeners of the transports in ``served``, in order, and those of others. ``six``: auto_bind_ipv6. Raises ConfigError."""
    out: list[Listener] = []
    unserved: list[str] = []
    for item in list(items) or [{"sockets": [("", ("*",), 0)], "advertise": None, "name": None, "virtual": False, "where": "listen"}]:
        for proto, addresses, port, *last in item["sockets"]:
            for number in range(port, (last[0] if last else port) + 1):
                _add(out, unserved, item, (proto, addresses, number), default_port, served, six=six)
    return out, unserved


def advertised(listeners: list[Listener], host: str, port: int) -> list[Listener]:
    """The same with ``advertised_address`` and ``advertised_port`` for those that say nothing themselves."""
    return [s if s.advertise_host else replace(s, advertise_host=host.strip("[]"), advertise_port=s.advertise_port or port) for s in listeners]


def _add(out: list[Listener], unserved: list[str], item: dict[str, Any], socket_id: tuple[str, tuple[str, ...], int], default_port: int,
         served: frozenset[str], *, six: bool) -> None:  # fmt: skip
    proto, addresses, port = socket_id
    protos = [p for p in ("udp", "tcp", "tls") if p in served] if proto in ("", "*") else [proto]
    advertise = item["advertise"]
    for host in addresses:
        for address in addresses_of(host, item["where"], six=six):
            for one in protos:
                number = port if port > 0 else (5061 if one == "tls" else default_port)
                if one in ("tcp", "tls") and "tcp" not in served:
                    continue
                if one not in served:
                    unserved.append(f"{one}:{address}:{number}")
                    continue
                if any(s.proto == one and s.host == address and s.port == number for s in out):
                    continue
                adv_host = advertise[1][0] if advertise else ""
                out.append(Listener(one, address, number, adv_host.strip("[]"), max(0, advertise[2]) if advertise else 0, item["name"] or "", len(out), item["virtual"]))
