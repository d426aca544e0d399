"""What the world of Kamailio names: every module's functions, parameters, variables and RPC commands, the core's parameters.

The data says what *exists*; what kamc *implements* is declared by the modules in ``stdlib_modules``. Read on first use.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Any, Final


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
def tables() -> dict[str, dict[str, Any]]:
    """The tables of Kamailio's schema: module, version, columns, unique keys, indexes."""
    return _load("tables.json")


@lru_cache(maxsize=1)
def core_params() -> dict[str, dict[str, Any]]:
    """Core parameters by every spelling; each row has ``name`` (the first spelling), ``type`` and ``default``."""
    out: dict[str, dict[str, Any]] = {}
    for name, row in core()["params"].items():
        for spelling in (name, *row["aliases"]):
            out[spelling] = {"name": name, "type": row["type"], "default": row["default"]}
    return out


@lru_cache(maxsize=64)
def cfg_group(name: str) -> dict[str, dict[str, Any]]:
    """The runtime variables of a group of the cfg framework, in their order: type, least and greatest number. Empty for an unknown group."""
    return {row["name"]: row for row in core()["cfg_groups"].get(name, ())}


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


#: versions that names can be dated by, oldest first; ``head`` is the newest
VERSIONS: Final = ("5.6", "5.7", "6.0", "6.1", "6.2")


def too_new(version: str, kind: str, name: str, module: str = "") -> str | None:
    """The version that has a name first, where the asked one does not have it yet, else None.

    ``kind``: modules, functions, params, core_params or transformations.
    """
    if version == "head":
        return None
    names = _versions()["since"][kind]
    if kind in ("functions", "params"):
        names = names.get(module, {})
    first = names.get(name)
    if first is None and kind == "transformations":
        first = names.get(f"{name.partition('.')[0]}.")
    return first if first is not None and VERSIONS.index(first) > VERSIONS.index(version) else None


def has_module(name: str, version: str = "head") -> bool:
    """Whether a version of Kamailio has a module of that name."""
    return name in modules() or name in _versions()["only"].get(version, ())


def const_args(version: str, module: str, function: str) -> bool | tuple[int, ...]:
    """With how many arguments a function wants constants only; True for any number."""
    rule = modules().get(module, {}).get("functions", {}).get(function, {}).get("const_args")
    rule = _versions()["const_args"].get(version, {}).get(module, {}).get(function, rule)
    return tuple(int(count) for count in rule) if isinstance(rule, list) else bool(rule)


@lru_cache(maxsize=1)
def _versions() -> dict[str, Any]:
    return _load("versions.json")


@lru_cache(maxsize=1)
def _outdated() -> dict[str, dict[str, dict[str, str]]]:
    return _load("removed.json")


def removed(kind: str, name: str) -> str | None:
    """What to write instead of a name of older configurations that today's Kamailio does not have, or None.

    ``kind``: core_params, modules, functions or params (``module.name``).
    """
    return _outdated()["removed"].get(kind, {}).get(name)


def deprecated(kind: str, name: str) -> str | None:
    """What to write instead of a name that still works and should not be used any more, or None. Kinds as in :func:`removed`."""
    return _outdated()["deprecated"].get(kind, {}).get(name)
