"""RPC of the dispatcher module."""

from __future__ import annotations

from typing import Any

from kamc.declare import Spread, rpc
from kamc.runtime.hashes import core_hash
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.dispatcher.table import DISABLED, INACTIVE, PROBING, TRYING, Destination, DestinationSet, ListError, destination

_LETTERS = {"a": 0, "i": INACTIVE, "t": TRYING, "d": DISABLED}


def state_of(text: str) -> int | None:
    """``a``, ``i``, ``t`` or ``d``, and ``p`` for one that is probed, as flags; None for anything else."""
    flags = 0
    for letter in text.lower():
        if letter == "p":
            flags |= PROBING
        elif letter in _LETTERS:
            flags |= _LETTERS[letter]
        else:
            return None
    return flags if text else None


class Commands:
    rt: Any
    p: Any
    sets: dict[int, DestinationSet]
    pinging: int

    def set_state(self, chosen: DestinationSet, d: Destination, flags: int) -> None:
        raise NotImplementedError

    def load_list(self) -> bool:
        raise NotImplementedError

    @rpc("dispatcher.reload", spread=Spread.EVERY)
    def rpc_reload(self) -> str:
        """Read the list again."""
        self._not_too_soon()
        if not self.load_list():
            raise RpcFault(500, "Reload Failed")
        return "Ok. Dispatcher successfully reloaded."

    def _not_too_soon(self) -> None:
        """Raises RpcFault within reload_delta seconds of the last change."""
        now = self.rt.now()
        if now - self.changed < self.p.reload_delta:
            raise RpcFault(500, "Ongoing reload")
        self.changed: float = now

    def _target(self, d: Destination, *, details: bool) -> dict[str, Any]:
        out: dict[str, Any] = {"URI": d.uri, "FLAGS": d.state, "PRIORITY": d.priority}
        if details and d.attrs:
            out["ATTRS"] = {
                "BODY": d.attrs, "DUID": d.values.get("duid"), "MAXLOAD": d.number("maxload"), "WEIGHT": d.number("weight"), "RWEIGHT": d.number("rweight"),
                "SOCKET": d.values.get("socket"), "SOCKNAME": d.values.get("sockname"), "OBPROXY": d.values.get("obproxy"),
            }  # fmt: skip
        if self.p.ds_ping_latency_stats:
            seen = d.latency
            out["LATENCY"] = {"AVG": seen.average, "STD": seen.deviation, "EST": seen.estimate, "MAX": seen.highest, "TIMEOUT": seen.timeouts}
        out["RUNTIME"] = {"DLGLOAD": d.load}
        return {"DEST": out}

    @rpc("dispatcher.list")
    def rpc_list(self, mode: str = "") -> dict[str, Any]:
        """All sets; ``short`` leaves the attributes out."""
        if not self.sets:
            raise RpcFault(500, "No Destination Sets")
        details = mode != "short"
        rows = [{"SET": {"ID": s.number, "TARGETS": [self._target(d, details=details) for d in s.all]}} for s in sorted(self.sets.values(), key=lambda s: -s.number)]
        return {"NRSETS": len(rows), "RECORDS": rows}

    def _set_where(self, state: str, group: int, matches: Any, *, many: bool) -> str:
        flags = state_of(str(state))
        if flags is None:
            raise RpcFault(500, "Unknown State Value")
        chosen = self.sets.get(int(group))
        found = [d for d in chosen.all if matches(d)] if chosen is not None else []
        if not found and not many:
            raise RpcFault(500, "State Update Failed")
        for d in found:
            if chosen is not None:
                self.set_state(chosen, d, flags)
        return "Ok. Dispatcher state updated."

    @rpc("dispatcher.set_state")
    def rpc_set_state(self, state: str, group: int, address: str) -> str:
        """State of one destination, or of ``all`` of a set."""
        return self._set_where(state, group, lambda d: address == "all" or d.uri == address, many=address == "all")

    @rpc("dispatcher.set_duid_state")
    def rpc_set_duid_state(self, state: str, group: int, duid: str) -> str:
        """State of the destination with a duid."""
        return self._set_where(state, group, lambda d: d.values.get("duid") == duid, many=False)

    @rpc("dispatcher.ping_active")
    def rpc_ping_active(self, state: int | None = None) -> dict[str, int]:
        """Whether pings are sent; 0 stops them."""
        old = self.pinging
        if state is None:
            return {"OldPingState": old}
        self.pinging = state
        return {"NewPingState": self.pinging, "OldPingState": old}

    @rpc("dispatcher.add", spread=Spread.EVERY)
    def rpc_add(self, group: int, address: str, flags: int = 0, priority: int = 0, attrs: str = "") -> str:
        """Add a destination until the next reload."""
        self._not_too_soon()
        try:
            fresh = destination(address, flags, priority, attrs)
        except ListError as err:
            raise RpcFault(500, f"Adding Failed: {err}") from None
        old = self.sets.get(group)
        self.sets[group] = DestinationSet(group, [*(reversed(old.all) if old is not None else ()), fresh])
        return "Ok. Dispatcher destination added."

    @rpc("dispatcher.remove", spread=Spread.EVERY)
    def rpc_remove(self, group: int, address: str) -> str:
        """Remove a destination until the next reload."""
        self._not_too_soon()
        chosen = self.sets.get(group)
        if chosen is None or chosen.find(address) is None:
            raise RpcFault(500, "Removing Failed")
        left = [d for d in reversed(chosen.all) if d.uri != address]
        if left:
            self.sets[chosen.number] = DestinationSet(chosen.number, left)
        else:
            del self.sets[chosen.number]
        return "Ok. Dispatcher destination removed."

    @rpc("dispatcher.hash", wrong="Invalid Parameters")
    def rpc_hash(self, nslots: int, value: str, other: str = "") -> dict[str, int]:
        """The hash of one or two values, and its slot."""
        number = core_hash(value, other) or 1
        return {"hashid": number, "slot": number % nslots if nslots > 0 else 0}
