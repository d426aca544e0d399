"""RPC commands where several workers serve: who is asked, and what becomes of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kamc.declare.module import Spread
from kamc.runtime.rpc.fault import RpcFault

if TYPE_CHECKING:
    from kamc.runtime.proc.peers import Peers
    from kamc.runtime.rpc.commands import RpcRegistry

#: numbers that are the same in every worker
_LIMITS = frozenset({"readers", "max_connections", "max_tls_connections"})

#: how faults of workers begin that do not have what is asked for
_NOT_FOUND = ("404 ", "481 ")


def _fault(error: str) -> RpcFault:
    code, _, text = error.partition(" ")
    return RpcFault(int(code), text) if code.isdecimal() else RpcFault(500, error)


def spread_over(registry: RpcRegistry, peers: Peers, name: str, params: list[Any]) -> Any:
    """Run a command in the workers that it concerns. Raises RpcFault."""
    command = registry.commands.get(name)
    spread = command.spread if command is not None else Spread.FIRST
    others = peers.others()
    if spread is Spread.SHOWN:
        for one in others:
            peers.ask(one, "kamc.show", [])
    if spread in (Spread.FIRST, Spread.SHOWN):
        if not peers.index or command is None:
            return registry.here(name, params)
        error, value = peers.ask(0, name, params)
        if error:
            raise _fault(error)
        return value
    answers: list[tuple[int, str, Any]] = []
    try:
        answers.append((peers.index, "", registry.here(name, params)))
    except RpcFault as fault:
        answers.append((peers.index, f"{fault.code} {fault.text}", None))
    answers += [(one, *peers.ask(one, name, params)) for one in others]
    good = [value for _, error, value in sorted(answers, key=lambda a: a[0]) if not error]
    if not good:
        # a worker that has what is asked for knows better than those that have not found it
        raise _fault(next((error for _, error, _ in answers if not error.startswith(_NOT_FOUND)), answers[0][1]))
    if spread is Spread.EVERY:
        return good[0]
    return joined(good) if spread is Spread.JOIN else added(good)


def joined(answers: list[Any]) -> Any:
    """Lists one behind the other; of structures, the lists in them, and the first one's word for the rest. Texts are lines."""
    first = answers[0]
    if isinstance(first, list):
        return [row for answer in answers if isinstance(answer, list) for row in answer]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for answer in answers if isinstance(answer, dict) for key in answer)
        out = {}
        for key in keys:
            there = [answer[key] for answer in answers if isinstance(answer, dict) and key in answer]
            out[key] = joined(there) if isinstance(there[0], list | dict) else there[0]
        if isinstance(out.get("number_of_rows"), int) and isinstance(out.get("list"), list):
            out["number_of_rows"] = len(out["list"])
        return out
    return next((answer for answer in answers if answer), first)


def added(answers: list[Any]) -> Any:
    """The sum of numbers, and of the numbers of structures by their names."""
    first = answers[0]
    if isinstance(first, dict):
        return {key: value if key in _LIMITS else added([answer[key] for answer in answers if key in answer]) for key, value in first.items()}
    if isinstance(first, int | float) and not isinstance(first, bool):
        return sum(answers)
    return first
