"""Last pass: routes that are called and not there, routes that are there and not called."""

from __future__ import annotations

import difflib

from kamc.analysis.unit import Unit


def check_routes(unit: Unit) -> None:
    used: set[tuple[str, str | None]] = set()
    for kind, name, span in unit.route_uses:
        used.add((kind, name))
        if (kind, name) in unit.routes:
            continue
        names = [r.name for r in unit.routes.values() if r.kind == kind and r.name]
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]}?" if close else None
        word = {"request": "route", "reply": "onreply_route", "event": "event_route"}.get(kind, f"{kind}_route")
        if kind == "request":
            unit.sink.error("K0401", span, f"route[{name}] is not defined", hint=hint)
        else:
            # Kamailio starts with these and fails when the route should run
            unit.sink.warning("K0401", span, f"{word}[{name}] is not defined", hint=hint)
    dynamic = any(kind == "dynamic" for kind, _, _ in unit.route_uses)
    for (kind, route_name), route in unit.routes.items():
        if kind == "request" and route_name is not None and not dynamic and (kind, route_name) not in used:
            unit.sink.warning("K0403", route.blocks[0].span, f"{route.label} is never called")
