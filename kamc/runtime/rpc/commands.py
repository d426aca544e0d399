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
    #: what a caller hears whose parameters are not those that it takes; empty: the usual text
    wrong: str = ""

    def arguments(self, given: list[Any]) -> list[Any]:
        """Parameters as the function takes them: numbers in texts are numbers, and the other way round. Raises RpcFault."""
        taken: list[Any] = []
        for at, parameter in enumerate(inspect.signature(self.function).parameters.values()):
            kind = _kind(parameter.annotation)
            if parameter.kind is parameter.VAR_POSITIONAL:
                return taken + [self._argument(at + n, kind, value) for n, value in enumerate(given[at:])]
            if at < len(given) and given[at] is not None:
                taken.append(self._argument(at, kind, given[at]))
            elif parameter.default is parameter.empty:
                raise self._fault(at, kind, "record doesn't match type" if at < len(given) else "end of packet encountered")
            elif at < len(given):
                taken.append(parameter.default)
        if len(given) > len(taken):
            raise RpcFault(400, "Invalid Parameters")
        return taken

    def _argument(self, at: int, kind: str, value: Any) -> Any:
        """One of them, as ``kind`` asks for it."""
        if kind == "any":
            return value
        try:
            if isinstance(value, bool | int | float | str):
                return str(value) if kind == "string" else float(value) if kind == "float" else int(value)
        except (ValueError, OverflowError):
            pass
        raise self._fault(at, kind, "record doesn't match type")

    def _fault(self, at: int, kind: str, problem: str) -> RpcFault:
        if not self.wrong:
            return RpcFault(400, f"error at parameter {at}: expected {'string' if kind == 'any' else kind} type but {problem}")
        code, _, text = self.wrong.partition(" ")
        return RpcFault(int(code), text.format(at)) if code.isdecimal() else RpcFault(500, self.wrong)


def _kind(annotation: Any) -> str:
    """``str``, ``int`` or ``float``, or None beside it; anything else is not looked at."""
    words = {word.strip() for word in str(annotation).split("|")} - {"None"}
    return {"str": "string", "int": "integer", "float": "float"}.get(words.pop() if len(words) == 1 else "", "any")


class RpcRegistry:
    """The commands by name. ``peers`` are the other workers, when there are any."""

    def __init__(self, peers: Peers | None = None) -> None:
        self.peers = peers
        self.core: dict[str, Command] = {}
        #: those of the core, and of the modules of the generation that runs
        self.commands: dict[str, Command] = {}

    def add(self, name: str, function: Callable[..., Any], doc: str = "", spread: Spread = Spread.FIRST, wrong: str = "") -> None:
        self.core[name] = self.commands[name] = Command(function, doc, spread, wrong)

    def replace(self, commands: Mapping[str, Command]) -> None:
        """The commands of modules, from another generation."""
        self.commands = {**self.core, **commands}

    def call(self, name: str, params: list[Any]) -> Any:
        """Run a command, in all workers that it concerns; may wait. Raises RpcFault."""
        found = self.commands.get(name)
        if self.peers is None or found is None:
            return self.here(name, params)
        return spread_over(self, self.peers, name, found.arguments(params))

    def here(self, name: str, params: list[Any]) -> Any:
        """Run a command in this worker. Raises RpcFault."""
        found = self.commands.get(name)
        if found is None:
            raise RpcFault(500, "Method Not Found")
        return found.function(*found.arguments(params))
