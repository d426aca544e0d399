"""What the world of Kamailio names: every module's functions, parameters, variables and RPC commands, the core's parameters.

The data says what *exists*; what kamc *implements* is declared by the modules in ``stdlib_modules``. Read on first use.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Any


def _load(name: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


@lru_cache(maxsize=1)
def core() -> dict[str, Any]:
    return _load("core.json")


@lru_cache(maxsize=1)
def modules() -> dict[str, Any]:
    return _load("modules.json")


@lru_cache(maxsize=1)
def core_params() -> dict[str, dict[str, Any]]:
    """Core parameters by every spelling; each row has ``name`` (the first spelling), ``type`` and ``default``."""
    out: dict[str, dict[str, Any]] = {}
    for name, row in core()["params"].items():
        for spelling in (name, *row["aliases"]):
            out[spelling] = {"name": name, "type": row["type"], "default": row["default"]}
    return out


@lru_cache(maxsize=1)
def functions() -> dict[str, tuple[str, ...]]:
    """Function name → modules that export it."""
    out: dict[str, list[str]] = {}
    for module, row in modules().items():
        for name in row["functions"]:
            out.setdefault(name, []).append(module)
    return {name: tuple(sorted(mods)) for name, mods in out.items()}


@lru_cache(maxsize=1)
def pvs() -> dict[str, tuple[tuple[str, bool], ...]]:
    """Class name of a pseudo-variable → (module or ``core``, writable)."""
    out: dict[str, list[tuple[str, bool]]] = {}
    for name, row in core()["pvs"].items():
        out.setdefault(name.split("(")[0], []).append((row["from"], bool(row.get("writable"))))
    for module, row in modules().items():
        for name, pv in row["pvs"].items():
            out.setdefault(name.split("(")[0], []).append((module, bool(pv.get("writable"))))
    return {name: tuple(rows) for name, rows in out.items()}


def too_new(compat: str, kind: str, name: str, module: str = "") -> bool:
    """Whether a version of Kamailio does not have a name yet. ``kind``: modules, functions, params, core_params or transformations."""
    if compat == "head":
        return False
    names = _newer()[compat][kind]
    if kind in ("functions", "params"):
        return name in names.get(module, ())
    if kind == "transformations":
        return name in names or f"{name.partition('.')[0]}." in names
    return name in names


def const_args(compat: str, module: str, function: str) -> bool | tuple[int, ...]:
    """With how many arguments a function wants constants only; True for any number."""
    rule = modules().get(module, {}).get("functions", {}).get(function, {}).get("const_args")
    if compat != "head":
        rule = _newer()[compat]["const_args"].get(module, {}).get(function, rule)
    return tuple(int(count) for count in rule) if isinstance(rule, list) else bool(rule)


@lru_cache(maxsize=1)
def _newer() -> dict[str, Any]:
    return _load("newer.json")
