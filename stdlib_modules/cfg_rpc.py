"""Module cfg_rpc: reading and changing runtime variables by RPC: custom globals, those of the core and of modules that are loaded."""

from __future__ import annotations

from typing import Any, Final

from kamc import catalogue
from kamc.declare import Module, Spread, rpc
from kamc.runtime.rpc.fault import RpcFault

#: groups of the core, and what the names of their parameters begin with in the configuration
_CORE_PREFIXES: Final = {"core": "", "tcp": "tcp_"}


class CfgRpc(Module):
    name = "cfg_rpc"

    def mod_init(self) -> None:
        self.initial: dict[tuple[str, str], int | str] = dict(self.rt.custom)
        self.delayed: dict[tuple[str, str], int | str] = {}

    def _get(self, group: str, name: str) -> int | str:
        if (group, name) in self.rt.custom:
            value: int | str = self.rt.custom[(group, name)]
            return value
        if name not in self._group(group):
            raise RpcFault(400, f"Failed to get the variable [{group}.{name}]")
        found: Any = None
        if group in _CORE_PREFIXES:
            found = self.rt.log.level if (group, name) == ("core", "debug") else self.rt.param(f"{_CORE_PREFIXES[group]}{name}")
        else:
            found = getattr(self.rt.module(group).p, name, None)
        if isinstance(found, int | str):
            return found
        if group in _CORE_PREFIXES:
            return 0
        raise RpcFault(400, "Variable exists, but it is not readable via RPC interface")

    def _group(self, group: str) -> dict[str, dict[str, Any]]:
        """The variables of the core, of its streams, or of a module that is loaded."""
        if group not in _CORE_PREFIXES and self.rt.module(group) is None:
            return {}
        found: dict[str, dict[str, Any]] = catalogue.core()["cfg_groups"].get(group, {})
        return found

    def _check(self, group: str, name: str, value: int | str) -> None:
        row = self._group(group).get(name, {})
        if isinstance(self._get(group, name), int) != isinstance(value, int):
            raise RpcFault(400, "Failed to set the variable: wrong type")
        if isinstance(value, int) and ("min" in row or "max" in row) and not row.get("min", value) <= value <= row.get("max", value):
            raise RpcFault(400, "Failed to set the variable: out of range")

    def _set(self, group: str, name: str, value: int | str) -> str:
        self._check(group, name, value)
        if (group, name) in self.rt.custom:
            self.rt.custom[(group, name)] = value
        elif (group, name) == ("core", "debug"):
            self.rt.log.level = int(value)
        elif group in _CORE_PREFIXES:
            self.rt.params[f"{_CORE_PREFIXES[group]}{name}"] = value
        else:
            setattr(self.rt.module(group).p, name, value)
        return ""

    @rpc("cfg.get")
    def rpc_get(self, group: str, name: str) -> int | str:
        """Value of a variable."""
        return self._get(group, name)

    @rpc("cfg.set_now_int", spread=Spread.EVERY)
    def rpc_set_int(self, group: str, name: str, value: int) -> str:
        """Set a number at once."""
        return self._set(group, name, int(value))

    @rpc("cfg.set_now_string", spread=Spread.EVERY)
    def rpc_set_string(self, group: str, name: str, value: str) -> str:
        """Set a text at once."""
        return self._set(group, name, str(value))

    @rpc("cfg.set", "cfg.sets", "cfg.seti", spread=Spread.EVERY)
    def rpc_set(self, group: str, name: str, value: Any) -> str:
        """Set by the type that the variable has."""
        return self._set(group, name, int(value) if isinstance(self._get(group, name), int) else str(value))

    @rpc("cfg.set_delayed_int", "cfg.set_delayed_string", "cfg.set_delayed", spread=Spread.EVERY)
    def rpc_delay(self, group: str, name: str, value: Any) -> str:
        """Set with the next commit."""
        value = int(value) if isinstance(self._get(group, name), int) else str(value)
        self._check(group, name, value)
        self.delayed[(group, name)] = value
        return ""

    @rpc("cfg.commit", spread=Spread.EVERY)
    def rpc_commit(self) -> str:
        """Apply delayed changes."""
        for (group, name), value in self.delayed.items():
            self._set(group, name, value)
        self.delayed.clear()
        return ""

    @rpc("cfg.rollback", spread=Spread.EVERY)
    def rpc_rollback(self) -> str:
        """Forget delayed changes."""
        self.delayed.clear()
        return ""

    @rpc("cfg.reset", spread=Spread.EVERY)
    def rpc_reset(self, group: str, name: str = "") -> str:
        """Back to what the configuration says."""
        for key, value in self.initial.items():
            if key[0] == group and (not name or key[1] == name):
                self.rt.custom[key] = value
        return ""

    @rpc("cfg.diff")
    def rpc_diff(self) -> list[dict[str, Any]]:
        """Changes that wait for a commit."""
        return [{"group name": g, "variable name": n, "current value": self._get(g, n), "new value": v} for (g, n), v in self.delayed.items()]

    @rpc("cfg.list")
    def rpc_list(self, group: str = "") -> list[str]:
        """Names of all variables."""
        names = [f"{g}: {n}" for g, n in self.rt.custom] + [f"{g}: {n}" for g in catalogue.core()["cfg_groups"] for n in self._group(g)]
        return [n for n in names if not group or n.startswith(group + ":")]

    @rpc("cfg.help")
    def rpc_help(self, group: str, name: str) -> str:
        """Type of a variable, and what it may be."""
        value, row = self._get(group, name), self._group(group).get(name, {})
        bounds = f", {row.get('min', '-')} to {row.get('max', '-')}" if "min" in row or "max" in row else ""
        return f"{group}.{name}\n(parameter type is {'integer' if isinstance(value, int) else 'string'}{bounds})"


module = CfgRpc
