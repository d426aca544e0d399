"""The registry of RPC commands and the ones of the core."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kamc.declare.module import Spread
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.rpc.spread import spread_over

if TYPE_CHECKING:
    from kamc.runtime.proc.peers import Peers

class Command(NamedTuple):
    """What an RPC command runs, what it does, and what that means where several workers serve."""

    function: Callable[..., Any]
    doc: str = ""
    spread: Spread = Spread.FIRST


class RpcRegistry:
    """The commands by name. ``peers`` are the other workers, when there are any."""

    def __init__(self, peers: Peers | None = None) -> None:
        self.peers = peers
        self.core: dict[str, Command] = {}
        #: those of the core, and of the modules of the generation that runs
        self.commands: dict[str, Command] = {}

    def add(self, name: str, function: Callable[..., Any], doc: str = "", spread: Spread = Spread.FIRST) -> None:
        self.core[name] = self.commands[name] = Command(function, doc, spread)

    def replace(self, commands: Mapping[str, Command]) -> None:
        """The commands of modules, from another generation."""
        self.commands = {**self.core, **commands}

    def call(self, name: str, params: list[Any]) -> Any:
        """Run a command, in all workers that it concerns; may wait. Raises RpcFault."""
        if self.peers is None:
            return self.here(name, params)
        return spread_over(self, self.peers, name, params)

    def here(self, name: str, params: list[Any]) -> Any:
        """Run a command in this worker. Raises RpcFault."""
        found = self.commands.get(name)
        if found is None:
            raise RpcFault(500, "Method Not Found")
        function = found.function
        try:
            inspect.signature(function).bind(*params)
        except TypeError:
            raise RpcFault(400, "Invalid Parameters") from None
        return function(*params)
