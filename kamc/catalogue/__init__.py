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
