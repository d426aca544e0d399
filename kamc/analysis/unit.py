"""What the passes find out, kept beside the tree: resolved calls, routes, modules, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kamc import catalogue
from kamc import nodes as n
from kamc.declare.module import FunctionDecl
from kamc.declare.pvspec import PvSpec
from kamc.declare.routes import Routes, route_label
from kamc.diagnostics import DiagnosticSink
from kamc.registry import Registry
from kamc.source import Span

_KINDS = {"modules": "module", "functions": "function", "params": "parameter", "core_params": "core parameter", "transformations": "transformation"}


@dataclass(slots=True)
class Route:
    """All blocks of one kind and name; unnamed ones are joined in order."""

    kind: str
    name: str | None
    blocks: list[n.RouteBlock]

    @property
    def label(self) -> str:
        return route_label(self.kind, self.name)


@dataclass(frozen=True, slots=True)
class ResolvedCall:
    """A call whose function is known. Each argument is (kind, payload); see :mod:`kamc.analysis.calls`."""

    decl: FunctionDecl | None
    args: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class FunctionUse:
    """A call of a function that may not stand everywhere: where it is written and where it is allowed."""

    route: Route
    name: str
    mask: Routes
    span: Span


@dataclass(frozen=True, slots=True)
class RouteEdge:
    """A block that is named in a block: ``route(NAME)``, or ``t_on_failure("NAME")`` and kin (``via``). ``target`` None is a computed name."""

    route: Route
    kind: str
    target: str | None
    span: Span
    via: str = "route"


@dataclass(frozen=True, slots=True)
class ModParamSetting:
    module: str
    param: str
    value: int | str
    span: Span


@dataclass(slots=True)
class Unit:
    """One configuration under analysis."""

    cfg: n.CfgFile
    registry: Registry
    sink: DiagnosticSink
    allow_missing: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    #: which Kamailio to follow where versions differ: head or 5.6
    compat: str = "head"
    routes: dict[tuple[str, str | None], Route] = field(default_factory=dict)
    calls: dict[int, ResolvedCall] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    modparams: list[ModParamSetting] = field(default_factory=list)
    #: parameters that have no effect here: of modules that are not implemented, say. ``kamc diff`` looks at them
    unused_modparams: list[ModParamSetting] = field(default_factory=list)
    params: list[n.CoreParam] = field(default_factory=list)
    custom: list[n.CustomVar] = field(default_factory=list)
    listens: list[n.Listen | n.SocketBlock] = field(default_factory=list)
    aliases: list[n.Alias] = field(default_factory=list)
    flags: dict[str, int] = field(default_factory=dict)
    engine: str = "native"
    #: the module that is called before each statement, if there is one
    tracer: str = ""
    #: (name, place) of every ``route(NAME)`` with a name known at compile time
    route_uses: list[tuple[str, str, Span]] = field(default_factory=list)

    #: version whose names are asked for: ``kamc check --target``, else that of ``compat``
    target: str = "head"
    #: block → the modules that were loaded before it
    registries: dict[int, Registry] = field(default_factory=dict)
    #: calls of functions and of routes, and all variables, as the second pass met them
    uses: list[FunctionUse] = field(default_factory=list)
    edges: list[RouteEdge] = field(default_factory=list)
    variables: list[tuple[PvSpec, Span]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether this is a configuration of its own, not a fragment that another file includes."""
        return any(isinstance(i, n.RouteBlock) and i.kind == "request" and i.name is None for i in self.cfg.items)

    def core_param(self, name: str, default: Any = None) -> Any:
        """The last setting of a core parameter."""
        value = default
        for p in self.params:
            if p.name == name:
                value = p.value.value if isinstance(p.value, n.Int | n.Str) else p.value.text
        return value

    def dated(self, kind: str, name: str, span: Span, module: str = "") -> None:
        """Refuse a name that the version of ``--target`` or ``--compat`` does not have yet."""
        first = catalogue.too_new(self.target, kind, name, module)
        if first is not None:
            of = f" of module {module}" if module else ""
            self.sink.error("K0307", span, f"Kamailio {self.target} has no {_KINDS[kind]} {name}{of}", hint=f"it is there from {first} on")

    def outdated(self, kind: str, name: str, span: Span, label: str) -> None:
        """Warn about a name that still works and should not be used any more."""
        instead = catalogue.deprecated(kind, name)
        if instead is not None:
            self.sink.warning("K0309", span, f"{label} is deprecated", hint=f"instead: {instead}")

    def missing(self, code: str, span: Span, message: str, hint: str | None = None) -> None:
        """Something that Kamailio has and kamc has not: an error, or a warning where the user allowed it."""
        if self.allow_missing:
            self.sink.warning(code, span, message, hint=hint)
        else:
            self.sink.error(code, span, message, hint=hint or "build --allow-missing compiles it into a run-time error")
