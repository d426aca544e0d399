"""Last pass: routes that are called and not there, routes that are there and not called."""

from __future__ import annotations

import difflib
import re
from typing import Final

from kamc import catalogue
from kamc import nodes as n
from kamc.analysis.unit import Route, Unit
from kamc.declare.routes import route_label

_NAME: Final = re.compile(r"[A-Za-z0-9_:-]+")


def check_routes(unit: Unit) -> None:
    used: set[tuple[str, str | None]] = set()
    for kind, name, span in unit.route_uses:
        used.add((kind, name))
        if kind.startswith("dynamic"):
            continue
        if (kind, name) in unit.routes:
            continue
        names = [r.name for r in unit.routes.values() if r.kind == kind and r.name]
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]}?" if close else None
        if kind == "request":
            unit.sink.error("K0401", span, f"route[{name}] is not defined", hint=hint)
        else:
            # Kamailio starts with these and fails when the route should run
            unit.sink.warning("K0401", span, f"{route_label(kind, name)} is not defined", hint=hint)
    if unit.is_whole:
        _never_called(unit, used)
    for route in unit.routes.values():
        if route.kind == "event" and route.name:
            _event_name(unit, route)


def _never_called(unit: Unit, used: set[tuple[str, str | None]]) -> None:
    kinds = {kind for kind, _, _ in unit.route_uses}
    # functions and parameters of many modules take the name of a route
    words = {word for item in unit.cfg.items for node in n.walk(item) if isinstance(node, n.Str) for word in _NAME.findall(node.value)}
    for (kind, name), route in unit.routes.items():
        if name is None or kind in ("event", "onsend") or (kind, name) in used:
            continue
        if (kind == "request" and "dynamic" in kinds) or f"dynamic {kind}" in kinds:
            continue
        if name in words:
            continue
        armed = {"failure": "t_on_failure()", "branch": "t_on_branch()", "reply": "t_on_reply()"}.get(kind)
        how = f"no {armed} names it" if armed else "is never called"
        unit.sink.warning("K0403", route.blocks[0].span, f"{route.label} {how}" if not armed else f"{route.label} is never called: {how}")


def _event_name(unit: Unit, route: Route) -> None:
    """Kamailio takes any name; one that no module knows never runs."""
    name = str(route.name)
    events = catalogue.core()["event_routes"]
    patterns = {re.compile(re.sub(r"<[^>]*>", "[^:]+", event) + r"\Z"): modules for event, modules in events.items() if "<" in event}
    modules = events.get(name) or next((m for p, m in patterns.items() if p.match(name)), None)
    if modules is None:
        group = name.partition(":")[0]
        known = [e for e in events if e.partition(":")[0] == group]
        if not known or (group in unit.modules and not catalogue.modules().get(group, {}).get("event_routes")):
            return  # a name of the user's own, say for an event callback or timer
        if any(kind == "event" and used == name for kind, used, _ in unit.route_uses):
            return
        close = difflib.get_close_matches(name, known, 1)
        unit.sink.warning("K0404", route.blocks[0].span, f"no module runs {route.label}", hint=f"did you mean event_route[{close[0]}]?" if close else None)
    elif "core" not in modules and not any(m in unit.modules for m in modules):
        unit.sink.warning("K0404", route.blocks[0].span, f"{route.label} never runs: module {modules[0]} is not loaded", hint=f'loadmodule "{modules[0]}.so"')
