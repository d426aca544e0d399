"""Call load: which calls are at which destination (algorithm 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stdlib_modules.dispatcher.table import Destination, DestinationSet


@dataclass(slots=True)
class _Call:
    number: int
    duid: str
    expires: float


class CallLoads:
    """Calls by Call-ID. One that is not unset counts until ``ds_hash_initexpire`` or, once answered, ``ds_hash_expire`` seconds have passed."""

    def __init__(self, rt: Any, sets: dict[int, DestinationSet], *, unanswered: int, answered: int) -> None:
        self.rt, self.sets, self.unanswered, self.answered = rt, sets, unanswered, answered
        self._calls: dict[str, _Call] = {}

    def take_over(self, before: CallLoads) -> None:
        """The calls that were counted before a reload."""
        self._calls = before._calls
        self.recount()

    def _find(self, call: _Call) -> Destination | None:
        chosen = self.sets.get(call.number)
        return next((d for d in chosen.all if d.values.get("duid") == call.duid), None) if chosen is not None else None

    def put(self, call_id: str, chosen: DestinationSet, d: Destination) -> bool:
        """Count a call for a destination; one that is counted elsewhere moves. False without ``duid``."""
        duid = d.values.get("duid", "")
        if not duid:
            self.rt.log.error("dispatcher: call load needs duid in the attributes of %s", d.uri)
            return False
        self._share("put", call_id, chosen.number, duid)
        self._put(call_id, chosen.number, duid)
        return True

    def _put(self, call_id: str, number: int, duid: str) -> None:
        self._unset(call_id)
        call = self._calls[call_id] = _Call(number, duid, self.rt.now() + self.unanswered)
        d = self._find(call)
        if d is not None:
            d.load += 1

    def _share(self, what: str, call_id: str, number: int = 0, duid: str = "") -> None:
        self.rt.tell_peers("dispatcher", "follow_load", what, call_id, number, duid)

    def follow(self, what: str, call_id: str, number: int, duid: str) -> None:
        """Another worker has counted a call, or has seen it answered or end."""
        if what == "put":
            self._put(call_id, number, duid)
        elif what == "confirm":
            self._confirm(call_id)
        else:
            self._unset(call_id)

    def confirm(self, call_id: str) -> bool:
        self._share("confirm", call_id)
        return self._confirm(call_id)

    def _confirm(self, call_id: str) -> bool:
        call = self._calls.get(call_id)
        if call is None:
            return False
        call.expires = self.rt.now() + self.answered
        return True

    def unset(self, call_id: str) -> bool:
        """The call is over."""
        self._share("unset", call_id)
        return self._unset(call_id)

    def _unset(self, call_id: str) -> bool:
        call = self._calls.pop(call_id, None)
        if call is None:
            return False
        d = self._find(call)
        if d is not None and d.load > 0:
            d.load -= 1
        return True

    def expire(self) -> None:
        now = self.rt.now()
        for call_id in [c for c, call in self._calls.items() if call.expires <= now]:
            self._unset(call_id)

    def recount(self) -> None:
        """After a reload: the new destinations get the calls of the old ones."""
        for call in self._calls.values():
            d = self._find(call)
            if d is not None:
                d.load += 1
