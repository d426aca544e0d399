"""An answered dialog as a row of plain values, and back: what a database and the store keep of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from kamc.runtime.db import Cell
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.rpc.jsonrpc import loads
from kamc.runtime.sip.uri import split_quoted
from stdlib_modules.dialog.model import Dialog, Leg

Find = Callable[..., Listener | None]


def row_of(d: Dialog) -> tuple[Cell, ...]:
    """In the order of ``DialogDatabase.columns``; its variables are not in it."""
    caller, callee = d.caller, d.callee or Leg()
    profiles = [{"name": name, "value": value} if value else {"name": name} for name, value in d.profiles]
    return (
        d.entry, d.id, d.call_id, d.from_uri, caller.tag, d.to_uri, callee.tag, str(caller.cseq), str(callee.cseq), ",".join(caller.routes) or None,
        ",".join(callee.routes) or None, caller.contact, callee.contact, str(caller.socket or ""), str(callee.socket or ""), d.state, int(d.started),
        round(d.ends_at), d.sflags, d.iflags, d.timeout_route or None, d.ruri, json.dumps({"profiles": profiles}, separators=(",", ":")) if profiles else None,
    )  # fmt: skip


def dialog_of(row: Sequence[Any], find: Find, default_timeout: int) -> Dialog:
    """``find`` gives a socket by its text. Raises ValueError for a row that makes no dialog."""
    (entry, ident, call_id, from_uri, from_tag, to_uri, to_tag, from_cseq, to_cseq, from_routes, to_routes, from_contact, to_contact, from_socket,
     to_socket, state, started, timeout, sflags, iflags, route, ruri, xdata) = ("" if cell is None else cell for cell in row)  # fmt: skip

    def leg(tag: Cell, contact: Cell, cseq: Cell, routes: Cell, socket: Cell) -> Leg:
        return Leg(str(tag), str(contact), int(str(cseq or 0)), [r.strip() for r in split_quoted(str(routes), ",") if r.strip()], find(str(socket), whole=True))

    d = Dialog(int(str(entry)), int(str(ident)), str(call_id), str(from_uri), str(to_uri), str(ruri), default_timeout, float(str(started or 0)),
               leg(from_tag, from_contact, from_cseq, from_routes, from_socket), leg(to_tag, to_contact, to_cseq, to_routes, to_socket), int(str(state)),
               float(str(started or 0)), ends_at=float(str(timeout or 0)), sflags=int(str(sflags or 0)), iflags=int(str(iflags or 0)),
               timeout_route=str(route))  # fmt: skip
    d.dflags |= 1
    extra = loads(str(xdata)) if xdata else {}
    found = extra.get("profiles", []) if isinstance(extra, dict) else []
    d.profiles = [(str(p["name"]), str(p.get("value", ""))) for p in found if isinstance(p, dict) and "name" in p]
    return d
