"""Code generation: an analysed unit → Python, as trees. Pure: no files, no clock.

The products are made from one tree per route kind: :mod:`kamc.codegen.render` writes readable source, :mod:`kamc.codegen.assemble`
makes code objects whose positions are cfg lines and columns, :mod:`kamc.codegen.package` puts both into a folder.
"""

from __future__ import annotations

import ast
import os
import re
from dataclasses import dataclass, field
from typing import Any

from kamc import nodes as n
from kamc.analysis.unit import Route, Unit
from kamc.codegen.constants import Constants
from kamc.codegen.statements import RouteCompiler, function_name

#: readable modules by route kind; ``request`` is the main block, ``route`` the named ones
KINDS = ("request", "route", "reply", "onreply", "failure", "branch", "onsend", "event")


@dataclass(slots=True)
class GeneratedModule:
    """The functions of one route kind, with the file each block came from."""

    kind: str
    functions: list[ast.FunctionDef] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


@dataclass(slots=True)
class GeneratedProgram:
    """Everything that a build writes. ``params`` are plain literals."""

    base: str
    entry: str
    modules: dict[str, GeneratedModule]
    constants: list[tuple[str, str]]
    helpers: list[str]
    params: dict[str, Any]
    #: SHA-256 of every file of the configuration, by its relative name
    sources: dict[str, str]


#: core functions and conditions that may ask a name server
_RESOLVING = frozenset({"forward", "forward_udp", "forward_tcp", "forward_tls", "forward_sctp", "send", "send_tcp", "src_ip", "dst_ip", "snd_ip", "to_ip"})


def generate(unit: Unit, entry: str) -> GeneratedProgram:
    """Compile every route of an analysed unit."""
    base = os.path.dirname(entry)
    constants = Constants()
    mentions = _mentions(unit.cfg)
    uses_rc = bool(mentions & {"rc", "retcode", "?"})
    helpers: set[str] = set()
    core: set[str] = set()
    modules: dict[str, GeneratedModule] = {}
    slots: set[str] = set()
    for key in sorted(unit.routes, key=lambda k: (k[0], k[1] or "")):
        route = unit.routes[key]
        compiler = RouteCompiler(unit, constants, uses_rc=uses_rc)
        definition = compiler.function(function_name(route.kind, route.name), route.blocks)
        module = modules.setdefault(_kind_of(route), GeneratedModule(_kind_of(route)))
        file = relative(route.blocks[0].span.file.name, base)
        for item in (*compiler.blocks, definition):
            module.functions.append(item)  # type: ignore[arg-type]
            module.files.append(file)
            slots |= _slots(item)
        helpers |= compiler.helpers
        core |= compiler.core
    hoisted = sorted((k, v) for k, v in constants.by_name.items() if v)
    # whoever traces statements may hold a run up before any of them; a chosen group instance is put aside and ends with its run
    waits = bool(unit.tracer) or "cfg_select" in core or not core.isdisjoint(_RESOLVING) or any(use.decl is not None and use.decl.waits for use in unit.calls.values())
    params = _params(unit, base) | {"vars": sorted(slots), "uses_rc": uses_rc, "waits": waits, "locations": _locations(unit)}
    sources = {relative(file.name, base): file.digest().hex() for file in unit.cfg.files}
    return GeneratedProgram(base, os.path.basename(entry), modules, hoisted, sorted(helpers), params, sources)


def _locations(unit: Unit) -> list[str]:
    """The location tables that functions name."""
    return sorted({str(payload) for use in unit.calls.values() if use.decl is not None
                   for kind, (how, payload) in zip(use.decl.args, use.args, strict=False) if kind == "Location" and how == "const"})  # fmt: skip


def relative(path: str, base: str) -> str:
    """A source file's name as the build records it: relative to the entry's folder, so that builds are the same everywhere."""
    return os.path.relpath(path, base or ".") if os.path.isabs(path) or base else os.path.normpath(path)


def _kind_of(route: Route) -> str:
    if route.name is not None:
        return {"request": "route", "reply": "onreply"}.get(route.kind, route.kind)
    return route.kind


_MENTION = re.compile(r"\$\(?(\?|[A-Za-z_]\w*)")


def _mentions(cfg: n.CfgFile) -> set[str]:
    """Names of variables anywhere, texts included."""
    found: set[str] = set()
    for node in n.walk(cfg):
        text = node.text if isinstance(node, n.PvRef | n.AttrRef) else node.value if isinstance(node, n.Str) else ""
        if "$" in text:
            found.update(_MENTION.findall(text))
    return found


def _slots(tree: ast.AST) -> set[str]:
    return {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "V"
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }


def _literal(value: n.Node) -> Any:
    match value:
        case n.Int() | n.Str():
            return value.value
        case n.Word():
            return value.text
        case n.SocketRange():
            return (value.proto, value.addresses, value.port, value.last_port)
        case n.SocketId():
            return (value.proto, value.addresses, value.port)
    raise TypeError(type(value).__name__)


def _listen(item: n.Listen | n.SocketBlock) -> dict[str, Any]:
    if isinstance(item, n.SocketBlock):
        attrs = {k: _literal(v) for k, v in item.attrs}
        return {"sockets": [attrs["bind"]] if "bind" in attrs else [], "advertise": attrs.get("advertise"), "name": attrs.get("name"),
                "virtual": bool(attrs.get("virtual", 0)), "where": item.span.where()}  # fmt: skip
    return {"sockets": [_literal(s) for s in item.sockets], "advertise": _literal(item.advertise) if item.advertise else None, "name": item.name,
            "virtual": item.virtual, "where": item.span.where()}  # fmt: skip


def _where(span: Any, base: str) -> str:
    line, column = span.file.position(span.start)
    return f"{relative(span.file.name, base)}:{line}:{column}"


def _params(unit: Unit, base: str) -> dict[str, Any]:
    listens = [_listen(item) | {"where": _where(item.span, base)} for item in unit.listens]
    return {
        "core": [(p.name, _literal(p.value)) for p in unit.params],
        "modules": list(unit.modules),
        "loadpath": list(unit.registry.paths),
        "modparams": [(m.module, m.param, m.value, _where(m.span, base)) for m in unit.modparams],
        "unused_modparams": [(m.module, m.param, m.value, _where(m.span, base)) for m in unit.unused_modparams],
        "custom": [(v.group, v.name, v.instance, v.value.value, v.description) for v in unit.custom],
        "listen": listens,
        "alias": [_literal(s) for item in unit.aliases for s in item.sockets],
        "flags": dict(sorted(unit.flags.items())),
        "defines": [(k, v) for k, v in unit.cfg.defines],
        "routes": [
            (r.kind, r.name, function_name(r.kind, r.name), _where(r.blocks[0].span, base))
            for _, r in sorted(unit.routes.items(), key=lambda kv: (kv[0][0], kv[0][1] or ""))
        ],
    }
