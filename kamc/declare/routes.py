"""Route kinds as a mask, and the one way for a function to end the script."""

from __future__ import annotations

from enum import IntFlag


class Routes(IntFlag):
    """Where a function may stand. The names are Kamailio's."""

    REQUEST = 1
    FAILURE = 2
    TM_ONREPLY = 4
    BRANCH = 8
    ONSEND = 16
    ERROR = 32
    LOCAL = 64
    CORE_ONREPLY = 128
    BRANCH_FAILURE = 256
    EVENT = 512
    ONREPLY = 4 | 128
    ANY = 1023


ANY = Routes.ANY

#: block kind (and whether it is named) → mask
BLOCK_MASK = {
    "request": Routes.REQUEST,
    "failure": Routes.FAILURE,
    "branch": Routes.BRANCH,
    "onsend": Routes.ONSEND,
    "event": Routes.EVENT | Routes.REQUEST,
}


def block_mask(kind: str, name: str | None) -> Routes:
    """The mask of a route block; reply blocks differ by whether they are named."""
    if kind == "reply":
        return Routes.TM_ONREPLY if name is not None else Routes.CORE_ONREPLY
    return BLOCK_MASK[kind]


class Exit(Exception):  # noqa: N818 - not an error: ``exit`` of the script
    """Ends the script. A module function raises it where Kamailio's returns 0; ``exit`` and ``return 0`` raise it too."""


class Drop(Exit):
    """``drop``: ends the script and drops the message (reply, branch, outgoing request) where that has a meaning."""


def route_label(kind: str, name: str | None) -> str:
    """A block as it is called in a configuration."""
    word = {"request": "route" if name else "request_route", "reply": "onreply_route" if name else "reply_route"}
    base = word.get(kind, f"{kind}_route")
    return f"{base}[{name}]" if name else base
