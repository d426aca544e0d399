"""First pass: top-level statements in order. Modules, their parameters, flags, sockets, route blocks.

Order matters as it does in Kamailio: a function, variable or module parameter is known only after its ``loadmodule``. Blocks are
checked by :mod:`kamc.analysis.calls` with the modules that were loaded before them.
"""

from __future__ import annotations

import difflib
import re

from kamc import catalogue
from kamc import nodes as n
from kamc.analysis.sockets import check_listen
from kamc.analysis.unit import ModParamSetting, Route, Unit
from kamc.declare.core_effects import WITHOUT_EFFECT
from kamc.declare.pvspec import PvSyntaxError, parse_format
from kamc.registry import Registry, exists, find_module, module_name, shipped


def collect_items(unit: Unit) -> None:
    for item in unit.cfg.items:
        match item:
            case n.LoadModule():
                _load_module(unit, item)
            case n.LoadPath():
                unit.registry.paths = (*unit.registry.paths, *(p for p in item.path.split(":") if p))
            case n.ModParam():
                _modparam(unit, item)
            case n.CoreParam():
                unit.dated("core_params", item.name, item.span)
                unit.outdated("core_params", item.name, item.span, f"core parameter '{item.name}'")
                unit.params.append(item)
                _without_effect(unit, item)
            case n.CustomVar():
                _custom(unit, item)
            case n.Listen() | n.SocketBlock():
                if isinstance(item, n.SocketBlock):
                    unit.dated("core_params", "socket", item.span)
                else:
                    check_listen(unit, item)
                unit.listens.append(item)
            case n.Alias():
                if item.keyword == "domain":
                    unit.dated("core_params", "domain", item.span)
                unit.aliases.append(item)
            case n.Flags():
                _flags(unit, item)
            case n.CfgEngine():
                unit.engine = item.engine
                if item.engine not in ("native", "default"):
                    unit.missing("K0112", item.span, f"cfgengine {item.engine!r} is not implemented")
            case n.RouteBlock():
                _block(unit, item)


def collect_blocks(unit: Unit) -> None:
    """Route blocks alone."""
    for item in unit.cfg.items:
        if isinstance(item, n.RouteBlock):
            _block(unit, item)


def _load_module(unit: Unit, item: n.LoadModule) -> None:
    name = module_name(item.name)
    if name in unit.modules:
        if not (item.opts and "o" in item.opts):
            unit.sink.error("K0311", item.span, f"module {name} is loaded already")
        return
    if not exists(name, unit.registry.paths) and not catalogue.has_module(name, unit.compat):
        instead = catalogue.removed("modules", name)
        if instead is not None:
            unit.sink.error("K0308", item.span, f"module {name} was removed from Kamailio", hint=f"instead: {instead}")
            return
        close = difflib.get_close_matches(name, [*catalogue.modules(), *shipped()], 1)
        unit.sink.error("K0310", item.span, f"unknown module {name!r}", hint=f"did you mean {close[0]!r}?" if close else None)
        return
    unit.dated("modules", name, item.span)
    unit.outdated("modules", name, item.span, f"module {name}")
    unit.modules.append(name)
    found = unit.registry.load(name)
    if found is None:
        unit.missing("K0312", item.span, f"module {name} is not implemented by kamc")
        return
    if found.traces:
        unit.tracer = name
    for needed in found.depends:
        if needed not in unit.modules and not _loaded_later(unit, needed):
            # a fragment of a configuration gets the module from the file that includes it
            report = unit.sink.error if unit.is_whole else unit.sink.warning
            report("K0313", item.span, f"module {name} needs module {needed}", hint=f'add loadmodule "{needed}.so"')


def _loaded_later(unit: Unit, name: str) -> bool:
    return any(isinstance(i, n.LoadModule) and module_name(i.name) == name for i in unit.cfg.items)


def _modparam(unit: Unit, item: n.ModParam) -> None:
    try:
        pattern = re.compile(f"(?:{item.module.value})\\Z", re.I)
    except re.error as err:
        unit.sink.error("K0322", item.module.span, f"bad module pattern: {err}")
        return
    matching = [m for m in unit.modules if pattern.match(m)]
    if not matching:
        known = exists(item.module.value, unit.registry.paths)
        hint = f'load it first: loadmodule "{item.module.value}.so"' if known else None
        unit.sink.error("K0322", item.module.span, f"no module matching {item.module.value!r} is loaded", hint=hint)
        return
    if isinstance(item.value, n.PvRef):
        return  # refused by the parser
    for module in matching:
        _set_modparam(unit, item, module, item.value.value)


def _set_modparam(unit: Unit, item: n.ModParam, module: str, value: int | str) -> None:
    param = item.param.value
    row = catalogue.modules().get(module, {}).get("params", {}).get(param)
    found = find_module(module, unit.registry.paths)
    decl = found.declarations().params.get(param) if found is not None else None
    if row is None and decl is None and (found is not None or module in catalogue.modules()):
        names = [*catalogue.modules().get(module, {}).get("params", {}), *(found.declarations().params if found else ())]
        close = difflib.get_close_matches(param, names, 1)
        instead = catalogue.removed("params", f"{module}.{param}")
        if instead is not None:
            unit.sink.error("K0308", item.param.span, f"parameter {param!r} of module {module} was removed from Kamailio", hint=f"instead: {instead}")
            return
        unit.sink.error("K0320", item.param.span, f"module {module} has no parameter {param!r}", hint=f"did you mean {close[0]!r}?" if close else None)
        return
    unit.dated("params", param, item.param.span, module)
    unit.outdated("params", f"{module}.{param}", item.param.span, f"parameter {param!r} of module {module}")
    types = decl.types if decl is not None else {"int": (int,), "str": (str,)}.get(str(row["type"]) if row else "", (int, str))
    if row is not None and decl is not None:
        types = tuple({"int": int, "str": str}[t] for t in str(row["type"]).split("|") if t in ("int", "str")) or types
    if not isinstance(value, types):
        wanted = "a number" if types == (int,) else "a text in quotes"
        unit.sink.error("K0321", item.value.span, f"parameter {param!r} of module {module} wants {wanted}")
        return
    if decl is None:
        unit.unused_modparams.append(ModParamSetting(module, param, value, item.value.span))
    if found is None:
        return
    if decl is None and param in found.tuning_params:
        return
    if decl is None and param not in found.ignored_params:
        unit.missing("K0323", item.param.span, f"parameter {param!r} of module {module} is not implemented")
        return
    if decl is None:
        unit.sink.warning("K0325", item.param.span, f"parameter {param!r} of module {module} has no effect in kamc")
        return
    unit.modparams.append(ModParamSetting(module, param, value, item.value.span))


def _without_effect(unit: Unit, item: n.CoreParam) -> None:
    """A core parameter that asks for something that kamc does not do: neither its default nor that it be left off."""
    row = catalogue.core_params().get(item.name)
    reason = WITHOUT_EFFECT.get(row["name"] if row is not None else item.name)
    if reason is None:
        return
    value = item.value.value if isinstance(item.value, n.Int) else None
    if row is None or value not in (0, row["default"]):
        unit.sink.warning("K0326", item.span, f"core parameter '{item.name}' has no effect in kamc: {reason}")


def _custom(unit: Unit, item: n.CustomVar) -> None:
    for other in unit.custom:
        if (other.group, other.name, other.instance) == (item.group, item.name, item.instance):
            unit.sink.error("K0702", item.span, f"{item.group}.{item.name} is declared already", hint=f"first at {other.span.where()}")
            return
    unit.custom.append(item)


def _flags(unit: Unit, item: n.Flags) -> None:
    if item.keyword == "avpflags":
        return
    for name, number in item.flags:
        if name in unit.flags and number is not None and unit.flags[name] != number:
            unit.sink.error("K0111", item.span, f"flag {name} is declared already")
            continue
        if number is None:
            number = next(i for i in range(31, -1, -1) if i not in unit.flags.values())
        unit.flags[name] = number


def _block(unit: Unit, item: n.RouteBlock) -> None:
    key = (item.kind, item.name)
    route = unit.routes.get(key)
    if route is None:
        unit.routes[key] = Route(item.kind, item.name, [item])
    elif item.name is None and not item.zero:
        route.blocks.append(item)
    else:
        end = item.body.span
        note = f"the second block ends at {end.file.name}:{end.end_position[0]}"
        unit.sink.error("K0402", item.span, f"{route.label} is defined twice", hint=f"first at {route.blocks[0].span.where()}", notes=(note,))


def registry_at(unit: Unit, block: n.RouteBlock) -> Registry:
    """The modules that were loaded before a block, as a registry of their own."""
    if not unit.registries:
        _make_registries(unit)
    return unit.registries[id(block)]


def _make_registries(unit: Unit) -> None:
    """Blocks with no ``loadmodule`` between them share a registry."""
    registry = Registry(unit.registry.paths)
    for item in unit.cfg.items:
        if isinstance(item, n.RouteBlock):
            unit.registries[id(item)] = registry
        elif isinstance(item, n.LoadModule):
            name = module_name(item.name)
            if name in unit.registry.loaded and name not in registry.loaded:
                following = Registry(unit.registry.paths)
                following.loaded = {**registry.loaded, name: unit.registry.loaded[name]}
                registry = following


def format_problem(text: str) -> str | None:
    """Why a text cannot be a format string, or None."""
    try:
        parse_format(text)
    except PvSyntaxError as err:
        return str(err)
    return None
