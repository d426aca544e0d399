"""Module cfg_rpc: reading and changing runtime variables (custom globals and the core's) by RPC."""

from __future__ import annotations

from typing import Any

from kamc import catalogue
from kamc.declare import Module, Spread, rpc
from kamc.runtime.rpc.fault import RpcFault


class CfgRpc(Module):
    name = "cfg_rpc"

    def mod_init(self) -> None:
        self.initial: dict[tuple[str, str], int | str] = dict(self.rt.custom)
        self.delayed: dict[tuple[str, str], int | str] = {}

    def _get(self, group: str, name: str) -> int | str:
        if (group, name) in self.rt.custom:
            value: int | str = self.rt.custom[(group, name)]
            return value
        if name in catalogue.core()["cfg_groups"].get(group, {}) and group == "core":
            found = self.rt.log.level if name == "debug" else self.rt.param(name)
            return found if isinstance(found, int | str) else 0
        raise RpcFault(400, f"Failed to get the variable [{group}.{name}]")

    def _check(self, group: str, name: str, value: int | str) -> None:
        row = catalogue.core()["cfg_groups"].get(group, {}).get(name, {})
        if isinstance(self._get(group, name), int) != isinstance(value, int):
            raise RpcFault(400, "Failed to set the variable: wrong type")
        if isinstance(value, int) and ("min" in row or "max" in row) and not row.get("min", value) <= value <= row.get("max", value):
            raise RpcFault(400, "Failed to set the variable: out of range")

    def _set(self, group: str, name: str, value: int | str) -> str:
        self._check(group, name, value)
        if (group, name) in self.rt.custom:
            self.rt.custom[(group, name)] = value
        elif name == "debug":
            self.rt.log.level = int(value)
        else:
            self.rt.params[name] = value
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
        names = [f"{g}: {n}" for g, n in self.rt.custom] + [f"core: {n}" for n in catalogue.core()["cfg_groups"]["core"]]
        return [n for n in names if not group or n.startswith(group + ":")]

    @rpc("cfg.help")
    def rpc_help(self, group: str, name: str) -> str:
        """Type of a variable."""
        return f"{group}.{name} is a {'number' if isinstance(self._get(group, name), int) else 'text'}"


module = CfgRpc
