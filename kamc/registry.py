"""Finds modules by their cfg name. The only door from the compiler to module code; it imports declarations and starts nothing."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable
from functools import cache

from kamc import catalogue
from kamc.declare.module import FunctionDecl, Module

CORE = "kamc.runtime.coremod"


def module_name(text: str) -> str:
    """``/path/tm.so`` → ``tm``."""
    return os.path.basename(text).removesuffix(".so")


@cache
def core_module() -> type[Module]:
    found: type[Module] = importlib.import_module(CORE).module
    return found


@cache
def find_module(name: str, paths: tuple[str, ...] = ()) -> type[Module] | None:
    """The class of an implemented module, or None. A user's own modules lie as ``NAME.py`` in ``loadpath``/``mpath`` folders."""
    for folder in paths:
        path = os.path.join(folder, f"{name}.py")
        if os.path.isfile(path):
            return _load_file(name, path)
    qualified = f"stdlib_modules.{name}"
    try:
        if importlib.util.find_spec(qualified) is None:
            return None
    except (ImportError, ValueError):
        return None
    found: type[Module] = importlib.import_module(qualified).module
    return found


def _load_file(name: str, path: str) -> type[Module]:
    spec = importlib.util.spec_from_file_location(f"kamc_user_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    found: type[Module] = loaded.module
    return found


def exists(name: str, paths: tuple[str, ...] = ()) -> bool:
    """Whether Kamailio (or the user) has a module of that name."""
    return name in catalogue.modules() or find_module(name, paths) is not None


def shipped() -> list[str]:
    """Names of all modules that come with kamc."""
    package = importlib.import_module("stdlib_modules")
    return sorted(found.name for found in pkgutil.iter_modules(package.__path__))


class Registry:
    """Look-ups over the modules that a configuration has loaded so far."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self.paths = tuple(paths)
        self.loaded: dict[str, type[Module] | None] = {}
        self.core = core_module()

    def load(self, name: str) -> type[Module] | None:
        found = find_module(name, self.paths)
        self.loaded[name] = found
        return found

    def implemented(self) -> list[type[Module]]:
        return [self.core, *(m for m in self.loaded.values() if m is not None)]

    def functions(self, name: str) -> list[FunctionDecl]:
        return [decl for m in self.implemented() for decl in m.declarations().functions.get(name, ())]

    def suggest_function(self, name: str) -> str | None:
        """A hint for an unknown function: the module that has it, or a close match."""
        exporters = catalogue.functions().get(name)
        if exporters:
            return f"{name}() comes from module {' or '.join(exporters)}: loadmodule \"{exporters[0]}.so\""
        known = {fn for m in self.implemented() for fn in m.declarations().functions} | set(catalogue.functions())
        close = difflib.get_close_matches(name, sorted(known), 1)
        return f"did you mean {close[0]}()?" if close else None
