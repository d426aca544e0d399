"""The checker: a tuple of passes over the tree, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kamc import nodes as n
from kamc.analysis.blocks import check_blocks, check_statement_types
from kamc.analysis.flow import check_flow
from kamc.analysis.items import collect_blocks, collect_items
from kamc.analysis.loadtime import resolve_load_time
from kamc.analysis.reach import check_reach
from kamc.analysis.routes import check_routes
from kamc.analysis.text import check_text
from kamc.analysis.unit import Unit
from kamc.analysis.usage import check_usage
from kamc.diagnostics import DiagnosticSink
from kamc.registry import Registry

PASSES: Final[tuple[Callable[[Unit], None], ...]] = (
    resolve_load_time, collect_items, check_blocks, check_routes, check_reach, check_flow, check_usage, check_text,
)  # fmt: skip


def check_structure(cfg: n.CfgFile, sink: DiagnosticSink) -> None:
    """What can be said of a configuration without looking at a module: for ``kamc check --syntax``."""
    unit = Unit(cfg, Registry(), sink)
    collect_blocks(unit)
    check_statement_types(unit)
    check_text(unit)


def analyze(cfg: n.CfgFile, registry: Registry, sink: DiagnosticSink, *, allow_missing: bool = False,
            env: Mapping[str, str] | None = None, compat: str = "head", target: str | None = None) -> Unit:  # fmt: skip
    """Run all passes. The unit is complete enough for code generation when the sink has no errors."""
    unit = Unit(cfg, registry, sink, allow_missing, env or {}, compat, target=target or compat)
    for run in PASSES:
        run(unit)
    return unit
