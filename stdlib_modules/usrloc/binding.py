"""One contact of an address of record."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

from kamc.runtime.sip.uri import parse_uri

#: stands for a client that does not name itself
NO_AGENT: Final = "n/a"


@dataclass(slots=True)
class Binding:
    """Times are wall-clock seconds, 0 for ever; ``q`` is 0 to 1000 or -1. One that changes is replaced, never written to, but for what
    keepalives measure."""

    contact: str
    expires: float
    q: int = -1
    call_id: str = ""
    cseq: int = 0
    flags: int = 0
    cflags: int = 0
    user_agent: str = ""
    received: str = ""
    path: str = ""
    socket: str = ""
    methods: int | None = None
    ruid: str = ""
    instance: str = ""
    reg_id: int = 0
    modified: float = 0.0
    server_id: int = 0
    #: number of the connection that it registered over, 0 for none
    conn: int = 0
    #: attributes of parameter xavp_contact
    xavp: dict[str, Any] = field(default_factory=dict)
    #: when it last answered a keepalive, and how many microseconds that took
    heard: float = 0.0
    roundtrip: int = 0


def packed(held: list[Binding]) -> list[Any]:
    """Contacts as plain data, for the store."""
    return [_FIELDS(b) for b in held]


def unpacked(rows: list[Any]) -> list[Binding]:
    """The reverse. Raises TypeError for what was written by something else."""
    return [Binding(*row) for row in rows]


def merged(base: list[Binding] | None, mine: list[Binding] | None, theirs: list[Binding] | None) -> list[Binding] | None:
    """Two changes of one list, made by two workers at once: what either took out is out, what either put in is in."""
    before = {b.ruid for b in base or ()}
    kept = {b.ruid: b for b in mine or ()}
    out = [kept.pop(b.ruid, b) for b in theirs or () if b.ruid in kept or b.ruid not in before]
    gone = before - {b.ruid for b in theirs or ()}
    return [*out, *(b for ruid, b in kept.items() if ruid not in gone)] or None


_FIELDS: Final = attrgetter(*(f.name for f in fields(Binding)))


def same_contact(a: str, b: str) -> bool:
    """Contact URIs compared as texts first, then by parts without regard to the host's case."""
    if a == b:
        return True
    x, y = parse_uri(a), parse_uri(b)
    if x is None or y is None:
        return False
    return (x.scheme, x.user, x.host.lower(), x.port, x.params.lower()) == (y.scheme, y.user, y.host.lower(), y.port, y.params.lower())


def placed(held: list[Binding], old: Binding | None, new: Binding, *, newest_first: bool) -> list[Binding]:
    """Contacts with ``new`` in the place of ``old``. They stand by q as it was when they came, or the latest first (``desc_time_order``)."""
    if newest_first:
        return [new, *(b for b in held if b is not old)]
    for i, b in enumerate(held):
        if b is old:
            return [*held[:i], new, *held[i + 1 :]]
    at = next((i for i, b in enumerate(held) if b.q < new.q), len(held))
    return [*held[:at], new, *held[at:]]
