"""From which kinds of blocks a route is reached, and which of its calls have no place there.

Kamailio looks at the block in which a call is written. A route that runs as part of an onreply_route may therefore call what is meant
for requests only, and does so at run time.
"""

from __future__ import annotations

from kamc.analysis.unit import Route, RouteEdge, Unit
from kamc.declare.routes import Routes, block_mask


def check_reach(unit: Unit) -> None:
    """Warn of calls that fit none of the blocks from which their route is reached."""
    callers = _reached_from(unit)
    for use in unit.uses:
        entries = callers.get(id(use.route), {})
        if not entries or any(use.mask & _mask(unit, trail) for trail in entries.values()):
            continue
        trail = next(iter(entries.values()))
        entry = trail[0].route
        names = ", ".join(str(r.name) for r in Routes if r in use.mask and r not in (Routes.ANY, Routes.ONREPLY))
        steps = tuple(f"{edge.route.label} calls route[{edge.target}] at {edge.span.where()}" for edge in trail)
        unit.sink.warning("K0301", use.span, f"'{use.name}' has no meaning in {entry.label}, and {use.route.label} is only called from there",
                          notes=(*steps, f"allowed in {names}"))  # fmt: skip


def _mask(unit: Unit, trail: tuple[RouteEdge, ...]) -> Routes:
    entry = trail[0].route
    return block_mask(entry.kind, entry.name)


def _reached_from(unit: Unit) -> dict[int, dict[int, tuple[RouteEdge, ...]]]:
    """Route → (entry block → the calls that lead there), for named request routes. A route that is called by a computed name is left out."""
    out: dict[int, dict[int, tuple[RouteEdge, ...]]] = {}
    if any(kind == "dynamic" for kind, _, _ in unit.route_uses):
        return out
    edges: dict[int, list[RouteEdge]] = {}
    for edge in unit.edges:
        if edge.kind != "request" or edge.target is None:
            continue
        edges.setdefault(id(edge.route), []).append(edge)
    for entry in unit.routes.values():
        if entry.kind == "request" and entry.name is not None:
            continue
        queue: list[tuple[Route, tuple[RouteEdge, ...]]] = [(entry, ())]
        seen = {id(entry)}
        for route, trail in queue:
            for edge in edges.get(id(route), ()):
                target = unit.routes.get(("request", edge.target))
                if target is None or id(target) in seen:
                    continue
                seen.add(id(target))
                out.setdefault(id(target), {})[id(entry)] = (*trail, edge)
                queue.append((target, (*trail, edge)))
    return out
