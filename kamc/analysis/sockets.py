"""Listen addresses: what can be said without asking the machine or a name server."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from kamc import nodes as n
from kamc.analysis.unit import Unit

_HOST: Final = re.compile(r"(?=.{1,253}\.?\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62}))*\.?\Z")
_NUMERIC: Final = re.compile(r"[0-9.]+\Z")


def check_listen(unit: Unit, item: n.Listen) -> None:
    """Report numbers that are no address and ports that are none."""
    for socket in (*item.sockets, *((item.advertise,) if item.advertise else ())):
        for address in socket.addresses:
            problem = address_problem(address)
            if problem:
                at = socket.span.text.find(address)
                place = socket.span.part(socket.span.text, at, at + len(address)) if at >= 0 else socket.span
                unit.sink.error("K0701", place, problem)
        if socket.port > 65535:
            at = socket.span.text.rfind(str(socket.port))
            place = socket.span.part(socket.span.text, at, at + len(str(socket.port))) if at >= 0 else socket.span
            # Kamailio keeps the lowest 16 bits and starts
            unit.sink.warning("K0701", place, f"{socket.port} is no port: Kamailio opens {socket.port & 0xFFFF} instead", hint="1 to 65535 are ports")


def address_problem(address: str) -> str | None:
    """Why a text can be neither an address, nor an interface, nor a host name; None where it can."""
    bare = address.strip("[]")
    if bare == "*":
        return None
    if ":" in bare or _NUMERIC.match(bare):
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            return f"{address} is no IP address"
        return None
    return None if _HOST.match(bare) else f"{address!r} is neither an address nor a host name"
