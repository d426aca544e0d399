"""Loading a built program: artefact files → namespace → route functions of a :class:`~kamc.runtime.api.Runtime`.

Code is read with ``marshal`` after its header was checked, never through the import system: that would rewrite the cfg's file names,
and two generations have to live side by side.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import linecache
import marshal
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any

from kamc import BUILD_FORMAT
from kamc.declare.module import Module
from kamc.errors import ConfigError
from kamc.runtime.api import Runtime
from kamc.runtime.net.dns.resolver import names_of
from kamc.runtime.script import helpers

_HEADER = 16


def read_artifact(folder: Path) -> dict[str, bytes]:
    """The files of a build. Raises ConfigError when the folder is no build."""
    if not (folder / "manifest.json").is_file():
        raise ConfigError(f"{folder} is no kamc build: it has no manifest.json")
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def load_code(name: str, data: bytes) -> CodeType:
    if data[:4] != importlib.util.MAGIC_NUMBER:
        raise ConfigError(f"{name} was built with another Python than {sys.version_info.major}.{sys.version_info.minor}: build again")
    code = marshal.loads(data[_HEADER:])
    if not isinstance(code, CodeType):
        raise ConfigError(f"{name} is damaged")
    return code


def absolute(code: CodeType, base: str) -> CodeType:
    """Prefix relative cfg file names with the cfg's folder, so that tracebacks can quote lines."""
    consts = tuple(absolute(c, base) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_filename=os.path.join(base, code.co_filename), co_consts=consts)


def read_params(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The literals of ``params``."""
    namespace: dict[str, Any] = {}
    exec(load_code("params", files["bytecode/params.pyc"]), namespace)
    return {k.lower(): v for k, v in namespace.items() if k.isupper()}


def digest_of(files: Mapping[str, bytes]) -> str:
    """What tells a build from others; a change of its sources that changes no code is none."""
    return hashlib.sha256(b"".join(name.encode() + files[name][_HEADER:] for name in sorted(files) if name.startswith("bytecode/"))).hexdigest()


def load_program(files: Mapping[str, bytes], rt: Runtime, base: str) -> dict[str, Any]:
    """Bind a build to a runtime: modules are made, parameters set, routes loaded. Returns the params.

    Raises ConfigError for what only binding can find out.
    """
    params = read_params(files)
    manifest = json.loads(files["manifest.json"])
    if manifest.get("format") != BUILD_FORMAT:
        raise ConfigError("this was built by another kamc: build again")
    rt.entry, rt.base, rt.digest = manifest["entry"], base, digest_of(files)
    rt.compat = manifest["options"].get("compat", "head")
    rt.waits = params["waits"]
    rt.locations = tuple(params["locations"])
    rt.sources = frozenset(os.path.join(base, s) for s in manifest["sources"])
    _core_params(rt, params)
    _modules(rt, params)
    namespace = rt.namespace
    namespace |= {"__builtins__": __builtins__, **helpers(rt.compat)}
    namespace["rt"] = rt
    namespace["V"] = rt.vars
    rt.params_changed()
    for name in params["vars"]:
        rt.vars.setdefault(name, 0)
    for name, module in rt.modules.items():
        namespace["core" if name == "core" else _python_name(name)] = module
    exec(load_code("constants", files["bytecode/constants.pyc"]), namespace)
    for name in sorted(files):
        if name.startswith("bytecode/") and name.endswith("route.pyc"):
            exec(absolute(load_code(name, files[name]), base), namespace)
    for kind, route_name, function, _ in params["routes"]:
        rt.functions[(kind, route_name)] = namespace[function]
    linecache.checkcache()
    return params


def _python_name(module: str) -> str:
    return f"{module}_" if module in ("async", "core", "ctx", "rt") else module


def _core_params(rt: Runtime, params: Mapping[str, Any]) -> None:
    from kamc import catalogue

    table = catalogue.core_params()
    for name, value in params["core"]:
        row = table.get(name)
        rt.params[row["name"] if row is not None else name] = value
    for row in params["custom"]:
        rt.settings.declare(*row)
    rt.defines = dict(params["defines"])
    if rt.param("auto_aliases"):
        # names that only a name server knows are left to alias: a start that waits for it helps nobody
        rt.aliases += [(s.proto, name, s.port) for s in rt.worker.listeners for name in names_of(s.host)]
    for proto, addresses, port in params["alias"]:
        for address in addresses:
            rt.aliases.append((proto if proto != "*" else "", address.lower(), max(0, port)))
    rt.prepare_headers()


def _modules(rt: Runtime, params: Mapping[str, Any]) -> None:
    from kamc.registry import core_module, find_module

    rt.install("core", core_module()(rt))
    for name in params["modules"]:
        cls = find_module(name, tuple(params["loadpath"]))
        if cls is not None:
            rt.install(name, cls(rt))
    for module_name, param, value, where in params["modparams"]:
        module = rt.modules.get(module_name)
        if module is None:
            continue
        try:
            _set_param(module, param, value)
        except (ValueError, ConfigError) as err:
            raise ConfigError(f"{where}: modparam {module_name}/{param}: {err}") from None
    for name, module in rt.modules.items():
        for group, names in type(module).stats.items():
            for stat in names:
                rt.counters.register(group, stat)
        for rpc_name, decl in type(module).declarations().rpcs.items():
            rt.add_rpc(rpc_name, getattr(module, decl.method), decl)
        del name


def _set_param(module: Module, param: str, value: int | str) -> None:
    decl = type(module).declarations().params[param]
    if decl.setter is not None:
        getattr(module, decl.setter)(value)
    else:
        setattr(module.p, param, value)


def start_modules(rt: Runtime) -> None:
    """mod_init of every module, in load order; ``X:mod-init`` event routes of those that are new follow."""
    for module in rt.modules.values():
        module.mod_init()
    if rt.worker.serves and rt.first:
        for module in rt.modules.values():
            module.open_doors()
    for name in rt.modules if rt.first else ():
        if rt.beginning or (rt.previous is not None and name not in rt.previous.modules):
            rt.worker.run_event(f"{name}:mod-init", rt=rt)
