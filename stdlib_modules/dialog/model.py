"""What a dialog is: two legs, a state, and the table that finds it.

States (Kamailio's numbers)::

    1 unconfirmed ──1xx──▶ 2 early ──2xx──▶ 3 answered ──ACK──▶ 4 confirmed
         └──────────────────┴── ≥300 ──▶ 5 deleted ◀── BYE, timeout ──┘

A dialog is found by the ``did`` of its Record-Route (``entry.id``, hexadecimal digits reversed) or by Call-ID and tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kamc.runtime.hashes import core_hash
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.tm.timers import Timer

UNCONFIRMED, EARLY, ANSWERED, CONFIRMED, DELETED = range(1, 6)
#: iflags: what happens at the end of the lifetime, who is asked whether he is still there, whether requests prolong the lifetime
TIMEOUT_BYE, KEEPALIVE_CALLER, KEEPALIVE_CALLEE, NO_RESET = 1, 2, 4, 8
CALLER, CALLEE = "caller", "callee"


@dataclass(slots=True)
class Leg:
    """One side as the server sees it: how to reach it. ``routes`` are Route values, the next hop first."""

    tag: str = ""
    contact: str = ""
    cseq: int = 0
    routes: list[str] = field(default_factory=list)
    socket: Listener | None = None
    #: keepalives that nobody answered, one after the other
    unanswered: int = 0
    asked: float = 0.0


@dataclass(slots=True)
class Dialog:
    """Times are wall-clock seconds, 0 when it has not come to that; ``lifetime`` counts from the answer."""

    entry: int
    id: int
    call_id: str
    from_uri: str
    to_uri: str
    ruri: str
    lifetime: int
    created: float
    caller: Leg = field(default_factory=Leg)
    callee: Leg | None = None
    state: int = UNCONFIRMED
    started: float = 0.0
    ended: float = 0.0
    ends_at: float = 0.0
    sflags: int = 0
    dflags: int = 0
    iflags: int = 0
    timeout_route: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    #: (profile, value) pairs
    profiles: list[tuple[str, str]] = field(default_factory=list)
    timer: Timer | None = None
    #: BYEs of our own that wait for their replies
    byes: int = 0
    #: data of other modules
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def did(self) -> str:
        return f"{self.entry:x}"[::-1] + "." + f"{self.id:x}"[::-1]

    def leg(self, side: str) -> Leg | None:
        return self.caller if side == CALLER else self.callee

    def side_of(self, from_tag: str, to_tag: str) -> str | None:
        """Who sent a request with these tags; None when they are not those of the dialog."""
        callee = self.callee.tag if self.callee is not None else ""
        if from_tag == self.caller.tag and (not callee or not to_tag or to_tag == callee):
            return CALLER
        if to_tag == self.caller.tag and (not callee or from_tag == callee):
            return CALLEE
        return None


def parse_did(text: str) -> tuple[int, int] | None:
    """``80d.f4f1`` → (3336, 8015)."""
    entry, dot, ident = text.partition(".")
    try:
        return (int(entry[::-1], 16), int(ident[::-1], 16)) if dot else None
    except ValueError:
        return None


class DialogTable:
    """All dialogs of a worker."""

    def __init__(self, size: int, first: int, *, step: int = 1, own: int = 0) -> None:
        """``own``, ``own + step``, … are the ids of this worker: no other one gives them out."""
        self.size, self.step, self.own = size, step, own
        self.by_id: dict[tuple[int, int], Dialog] = {}
        self.by_call: dict[str, list[Dialog]] = {}
        self.serial = first * step + own

    def __iter__(self) -> Iterator[Dialog]:
        return iter(list(self.by_id.values()))

    def next_id(self, call_id: str) -> tuple[int, int]:
        self.serial += self.step
        return core_hash(call_id, size=self.size), self.serial

    def beyond(self, ident: int) -> None:
        """An id that was given out earlier."""
        if ident > self.serial:
            self.serial = ident - ident % self.step + self.own

    def add(self, dialog: Dialog) -> None:
        self.by_id[dialog.entry, dialog.id] = dialog
        self.by_call.setdefault(dialog.call_id, []).append(dialog)

    def remove(self, dialog: Dialog) -> None:
        self.by_id.pop((dialog.entry, dialog.id), None)
        same = self.by_call.get(dialog.call_id)
        if same is not None and dialog in same:
            same.remove(dialog)
            if not same:
                del self.by_call[dialog.call_id]

    def find(self, call_id: str, from_tag: str, to_tag: str) -> tuple[Dialog, str] | None:
        """The dialog of a message by its Call-ID and tags, and who sent the message. Running ones before those that are over."""
        best: tuple[Dialog, str] | None = None
        for dialog in self.by_call.get(call_id, ()):
            side = dialog.side_of(from_tag, to_tag)
            if side is not None and (best is None or best[0].state == DELETED):
                best = dialog, side
        return best
