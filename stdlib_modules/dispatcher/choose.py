"""Which destination of a set comes first: the algorithms by their numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from kamc.runtime.context import Ctx
from kamc.runtime.hashes import core_hash
from kamc.runtime.sip.digest import parse_digest
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.dispatcher.table import Destination, DestinationSet

CALL_LOAD, PARALLEL, LATENCY = 10, 12, 13
_DEFAULT_PORT: Final = 5060


class Chooser:
    """An algorithm gives the index of the destination to begin with, or None when it cannot say."""

    def __init__(self, rt: Any, *, user_only: bool, hashed: Callable[[Ctx], str] | None) -> None:
        self.rt, self.user_only, self.hashed = rt, user_only, hashed
        self._by_number: dict[int, Callable[[Ctx, DestinationSet], int | None]] = {
            0: lambda ctx, s: self._slot(s, core_hash(ctx.msg.call_id)),
            1: lambda ctx, s: self._by_uri(s, ctx.msg.from_.uri if ctx.msg.from_ is not None else ""),
            2: lambda ctx, s: self._by_uri(s, ctx.msg.to.uri if ctx.msg.to is not None else ""),
            3: lambda ctx, s: self._by_uri(s, ctx.ruri),
            4: self._round_robin,
            5: self._by_user,
            6: lambda ctx, s: random.randrange(len(s.all)),
            7: self._by_value,
            8: lambda ctx, s: 0,
            9: lambda ctx, s: self._weighted(s, "weight", usable_only=False),
            10: self._least_loaded,
            11: lambda ctx, s: self._weighted(s, "rweight", usable_only=True),
            12: lambda ctx, s: 0,
            13: lambda ctx, s: 0,
        }

    def first(self, ctx: Ctx, chosen: DestinationSet, algorithm: int) -> int | None:
        """An unknown algorithm takes the first entry, as in Kamailio."""
        found = self._by_number.get(algorithm)
        if found is None:
            self.rt.log.warning("dispatcher: there is no algorithm %d, the first entry is taken", algorithm)
            return 0
        return found(ctx, chosen)

    @staticmethod
    def _slot(s: DestinationSet, number: int) -> int:
        return (number or 1) % len(s.all)

    def _by_uri(self, s: DestinationSet, uri: str) -> int | None:
        parsed = parse_uri(uri)
        if parsed is None:
            return None
        user, host = parsed.user or "", parsed.host
        if self.user_only:
            return self._slot(s, core_hash(user or host))
        port = parsed.real_port()
        return self._slot(s, core_hash(user, host if port == _DEFAULT_PORT else f"{host}:{port}"))

    def _round_robin(self, ctx: Ctx, s: DestinationSet) -> int:
        """The next one that is usable, and on from there."""
        start = s.next % len(s.all)
        index = next((i % len(s.all) for i in range(start, start + len(s.all)) if s.all[i % len(s.all)].usable), start)
        s.next = index + 1
        self.rt.tell_peers("dispatcher", "follow_turn", s.number, s.next)
        return index

    def _by_user(self, ctx: Ctx, s: DestinationSet) -> int:
        """The user of the credentials; without any, round robin."""
        for kind in ("proxy-authorization", "authorization"):
            header = ctx.msg.first.get(kind)
            parts = parse_digest(header[2]) if header is not None else None
            if parts and parts.get("username"):
                return self._slot(s, core_hash(parts["username"]))
        return self._round_robin(ctx, s)

    def _by_value(self, ctx: Ctx, s: DestinationSet) -> int | None:
        text = self.hashed(ctx) if self.hashed is not None else ""
        if not text:
            self.rt.log.error("dispatcher: algorithm 7 needs a value from hash_pvar")
            return None
        return self._slot(s, core_hash(text))

    @staticmethod
    def _weighted(s: DestinationSet, name: str, *, usable_only: bool) -> int:
        found = s.weighted(name, usable_only=usable_only)
        return s.all.index(found) if found is not None else 0

    @staticmethod
    def _least_loaded(ctx: Ctx, s: DestinationSet) -> int | None:
        best: Destination | None = None
        for d in s.all:
            limit = d.number("maxload")
            if d.usable and not (limit and d.load >= limit) and (best is None or d.load < best.load):
                best = d
        return s.all.index(best) if best is not None else None


def in_order(chosen: DestinationSet, first: int, algorithm: int, *, use_default: bool) -> list[Destination]:
    """The usable destinations from the first one on, round and round; the last of a set may be kept for when nothing else is left."""
    if algorithm == LATENCY:
        return sorted((d for d in chosen.all if d.usable), key=lambda d: (-d.priority, d.latency.estimate))
    rest = chosen.all[:-1] if use_default and len(chosen.all) > 1 else chosen.all
    first %= len(rest)
    out = [d for d in rest[first:] + rest[:first] if d.usable]
    if rest is not chosen.all and chosen.all[-1].usable:
        out.append(chosen.all[-1])
    return out
