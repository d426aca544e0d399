"""``kamc graph``: which block calls or arms which, as DOT, Mermaid or an SVG drawing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

from kamc.analysis.unit import Unit
from kamc.declare.routes import route_label

FORMATS: Final = ("dot", "mermaid", "svg")
#: a target whose name is computed when the route runs
_COMPUTED: Final = "route(...)"


@dataclass(frozen=True, slots=True)
class Box:
    """A block. ``state``: entry (Kamailio runs it), block, missing (named and not defined) or computed."""

    label: str
    state: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """From a block to one that it names; ``via`` is the function, empty for ``route()``."""

    source: str
    target: str
    via: str


@dataclass(frozen=True, slots=True)
class Graph:
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def graph_of(unit: Unit) -> Graph:
    """The graph of an analysed configuration; every pair of blocks is connected once per function."""
    boxes = {r.label: Box(r.label, "entry" if r.name is None or r.kind == "event" else "block") for r in unit.routes.values()}
    arrows: dict[Arrow, None] = {}
    for edge in unit.edges:
        target = _COMPUTED if edge.target is None else route_label(edge.kind, edge.target)
        if target not in boxes:
            boxes[target] = Box(target, "computed" if edge.target is None else "missing")
        arrows[Arrow(edge.route.label, target, "" if edge.via == "route" else edge.via)] = None
    return Graph(tuple(boxes.values()), tuple(arrows))


def draw(graph: Graph, fmt: str) -> str:
    """The graph in one of :data:`FORMATS`."""
    return {"dot": _dot, "mermaid": _mermaid, "svg": _svg}[fmt](graph)


def _dot(graph: Graph) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    style = {"entry": "style=filled, fillcolor=lightblue", "block": "", "missing": "style=dashed, color=red", "computed": "style=dotted"}
    out = ["digraph routes {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    for box in graph.boxes:
        out.append(f"  {quoted(box.label)}" + (f" [{style[box.state]}]" if style[box.state] else "") + ";")
    for arrow in graph.arrows:
        label = f" [label={quoted(arrow.via)}, style=dashed]" if arrow.via else ""
        out.append(f"  {quoted(arrow.source)} -> {quoted(arrow.target)}{label};")
    return "\n".join([*out, "}"])


def _mermaid(graph: Graph) -> str:
    names = {box.label: f"n{index}" for index, box in enumerate(graph.boxes)}
    out = ["flowchart LR"]
    for box in graph.boxes:
        text = box.label.replace('"', "#quot;")
        out.append(f'  {names[box.label]}(["{text}"])' if box.state == "entry" else f'  {names[box.label]}["{text}"]')
    for arrow in graph.arrows:
        line = f"-. {arrow.via} .->" if arrow.via else "-->"
        out.append(f"  {names[arrow.source]} {line} {names[arrow.target]}")
    missing = [names[box.label] for box in graph.boxes if box.state == "missing"]
    if missing:
        out += ["  classDef missing stroke:#d1242f,stroke-dasharray:4 3", f"  class {','.join(missing)} missing"]
    return "\n".join(out)


# -- SVG: columns by distance from the entries, rows by the middle of the callers ------------------------------------------------

_ROW, _HEIGHT, _GAP, _CHARACTER, _MARGIN = 44, 28, 110, 7.2, 24
_STYLE: Final = """  <style>
    text { font: 12px ui-monospace, monospace; fill: #1f2328; }
    .via { font-size: 10px; fill: #57606a; }
    rect { fill: #f6f8fa; stroke: #8c959f; }
    .entry { fill: #ddf4ff; stroke: #0969da; }
    .missing { fill: #ffebe9; stroke: #d1242f; stroke-dasharray: 4 3; }
    .computed { fill: none; stroke-dasharray: 2 3; }
    path { fill: none; stroke: #57606a; }
    path.armed { stroke-dasharray: 5 3; }
  </style>
  <defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
    <path d="M0 0 8 4 0 8z" style="fill:#57606a;stroke:none"/></marker></defs>"""


def columns_of(graph: Graph) -> list[list[str]]:
    """Labels by column: entries first, each other block one column after the first one that names it; blocks of the same column in a
    row that follows their callers."""
    targets: dict[str, list[str]] = {}
    for arrow in graph.arrows:
        targets.setdefault(arrow.source, []).append(arrow.target)
    depth: dict[str, int] = {}
    named = {arrow.target for arrow in graph.arrows}
    starts = [b.label for b in graph.boxes if b.state == "entry"] + [b.label for b in graph.boxes if b.label not in named]
    for wave in (starts, [b.label for b in graph.boxes]):
        queue = [label for label in dict.fromkeys(wave) if label not in depth]
        depth.update(dict.fromkeys(queue, 0))
        for label in queue:
            for target in targets.get(label, ()):
                if target not in depth:
                    depth[target] = depth[label] + 1
                    queue.append(target)
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for box in graph.boxes:
        columns[depth[box.label]].append(box.label)
    for index in range(1, len(columns)):
        place = {label: at for column in columns[:index] for at, label in enumerate(column)}
        columns[index].sort(key=lambda label: _middle(place[a.source] for a in graph.arrows if a.target == label and a.source in place))
    return columns


def _middle(places: Iterable[int]) -> float:
    found = list(places)
    return sum(found) / len(found) if found else 0.0


def _svg(graph: Graph) -> str:
    columns = columns_of(graph)
    states = {box.label: box.state for box in graph.boxes}
    place: dict[str, tuple[float, float, float]] = {}
    left = float(_MARGIN)
    tallest = max((len(column) for column in columns), default=0)
    for column in columns:
        width = max(len(label) for label in column) * _CHARACTER + 20
        top = _MARGIN + (tallest - len(column)) * _ROW / 2
        for row, label in enumerate(column):
            place[label] = (left, top + row * _ROW, width)
        left += width + _GAP
    width, height = max(left - _GAP + _MARGIN + 50, 100), tallest * _ROW + 2 * _MARGIN
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">', _STYLE]
    out += [_curve(arrow, place) for arrow in graph.arrows]
    for label, (x, y, w) in place.items():
        out.append(f'  <rect class="{states[label]}" x="{x:.0f}" y="{y:.0f}" width="{w:.0f}" height="{_HEIGHT}" rx="5"/>')
        out.append(f'  <text x="{x + 10:.0f}" y="{y + 18:.0f}">{escape(label)}</text>')
    return "\n".join([*out, "</svg>"])


def _curve(arrow: Arrow, place: dict[str, tuple[float, float, float]]) -> str:
    x1, y1, w1 = place[arrow.source]
    x2, y2, w2 = place[arrow.target]
    kind = ' class="armed"' if arrow.via else ""
    start, end = y1 + _HEIGHT / 2, y2 + _HEIGHT / 2
    if x2 > x1:
        a, b = x1 + w1, x2
        bend = max(40.0, (b - a) / 2)
        path = f"M{a:.0f} {start:.0f} C{a + bend:.0f} {start:.0f} {b - bend:.0f} {end:.0f} {b:.0f} {end:.0f}"
        at = ((a + b) / 2, (start + end) / 2)
    else:  # back, or within a column: around the right side
        a, b = x1 + w1, x2 + w2
        reach = max(a, b) + 46
        path = f"M{a:.0f} {start:.0f} C{reach:.0f} {start:.0f} {reach:.0f} {end:.0f} {b:.0f} {end:.0f}"
        at = (reach - 12, (start + end) / 2)
    text = f'\n  <text class="via" text-anchor="middle" x="{at[0]:.0f}" y="{at[1] - 3:.0f}">{escape(arrow.via)}</text>' if arrow.via else ""
    return f'  <path{kind} marker-end="url(#tip)" d="{path}"/>{text}'
