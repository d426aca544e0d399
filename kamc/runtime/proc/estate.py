"""What a worker holds on to when the number of workers changes: calls with a transaction in it, and connections.

Which worker a call belongs to follows from its Call-ID and their number. When that changes, a call with a transaction stays where it is until that is
over, and an address whose connections are open stays with them. Both are named in a table that all workers look at as long as there are any; what
modules keep of a call (dialogs) goes to the new owner as soon as the call may go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kamc.runtime.net.steer import holder_of, owner_of_call

if TYPE_CHECKING:
    from kamc.runtime.proc.peers import Peers
    from kamc.runtime.proc.worker import Worker
    from kamc.runtime.tm.timers import Repeating

_CALL, _ADDRESS = "c", "a"
#: seconds between two looks at what is over
_LOOK: Final = 1.0


class Estate:
    """One per worker, of several. ``peers`` are the others."""

    def __init__(self, worker: Worker, peers: Peers) -> None:
        self.worker, self.peers = worker, peers
        self._table = worker.store.table("held")
        self._mine: set[str] = set()
        self._looking: Repeating | None = None
        for key, holder in list(self._table.scan()):
            if holder == peers.index:
                # of a worker that has died
                self._table.delete(key)
        peers.roll.hold(peers.index, 0)

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _holder(self, key: str) -> int | None:
        found = self._table.get(key)
        return int(found) if found is not None and self.peers.roll.there(int(found)) else None

    def holder_of_call(self, call_id: str) -> int | None:
        """The worker that still has a call; None for one that goes by its owner."""
        return self._holder(_CALL + call_id)

    def holder_of_address(self, ip: str) -> int | None:
        return self._holder(_ADDRESS + ip)

    # -- holding ---------------------------------------------------------------------------------------------------------

    def _wanted(self) -> set[str]:
        """What this worker has in hand."""
        calls = {_CALL + t.msg.call_id for t in self.worker.engine.transactions() if not t.local}
        return calls | {_ADDRESS + ip for conn in self.worker.streams.connections.values() for ip, _ in conn.remotes}

    def hold(self, count: int) -> None:
        """Name what would belong to others if there were ``count`` workers."""
        index = self.peers.index
        for key in self._wanted() - self._mine:
            owner = owner_of_call(key[1:], count) if key[0] == _CALL else holder_of(key[1:], count)
            if owner != index:
                self._table.put(key, index)
                self._mine.add(key)
        self.peers.roll.hold(index, len(self._mine))

    def settle(self) -> None:
        """The number has changed: give away what can go, now and whenever more can."""
        self.hold(self.peers.count)
        if self._looking is None:
            self._looking = self.worker.every(_LOOK, self.look)
        self.look()

    def look(self) -> None:
        for key in self._mine - self._wanted():
            self._table.delete(key)
            self._mine.discard(key)
        self.peers.roll.hold(self.peers.index, len(self._mine))
        rt = self.worker.rt
        for module in rt.modules.values() if rt is not None else ():
            self.worker.waits.detached(module.rebalance)
        if self._mine or self.worker.waits.waiting or self.worker.engine.transactions():
            return
        if self.peers.index >= self.peers.count:
            if not self.worker.streams.connections and self.worker.link is not None:
                self.worker.link.tell_idle()
        elif self._looking is not None:
            self.worker.never_again(self._looking)
            self._looking = None
