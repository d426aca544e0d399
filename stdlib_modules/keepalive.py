"""Module keepalive: OPTIONS to destinations, of this configuration or of other modules, and whether they answer.

https://www.kamailio.org/docs/modules/stable/modules/keepalive.html. Each destination has a rhythm of its own, from its first ping on, which comes within a second.
A 2xx means alive, any other answer or none that it is down; one that cannot be sent to stays as it was. ``sip:`` may be left out wherever a destination is named
(5.6.3 finds it by ``ka_is_alive`` only without, by ``ka_del_destination`` only with it), and ``last up`` is when it was up (5.6.3 exchanges the two).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from kamc.declare import ANY, Module, Routes, Spread, function, modparam, rpc
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.tm.transaction import Transaction

#: states as RPC shows them
UNKNOWN, UP, DOWN = 0, 1, 2
#: the owner of what the configuration lists
_PARAMS: Final = "_params"
_MISSING: Final = RpcFault(500, "Not enough parameters or wrong format")


@dataclass(slots=True)
class Destination:
    """Times are seconds since 1970, 0 for never."""

    uri: str
    owner: str
    state: int = UNKNOWN
    checked: float = 0.0
    up: float = 0.0
    down: float = 0.0
    #: pings in a row without a good answer
    failures: int = 0
    #: when the next ping is due, on the worker's clock
    due: float = 0.0

    def row(self) -> tuple[Any, ...]:
        return self.uri, self.owner, self.state, self.checked, self.up, self.down, self.failures


def uri_of(text: str) -> str:
    """The URI that a destination is named by. Raises ValueError."""
    uri = text if text.lower().startswith(("sip:", "sips:")) else f"sip:{text}"
    parsed = parse_uri(uri)
    if parsed is None or not parsed.host:
        raise ValueError(f"{text!r} is no destination")
    return uri


class Table:
    """Destinations by URI and owner, and by URI alone."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], Destination] = {}
        self._by_uri: dict[str, list[Destination]] = {}

    def get(self, uri: str, owner: str) -> Destination | None:
        return self.all.get((uri, owner))

    def first(self, uri: str) -> Destination | None:
        """Whoever asked for it first."""
        return next(iter(self._by_uri.get(uri, ())), None)

    def add(self, one: Destination) -> None:
        """One that is not there yet."""
        self.all[one.uri, one.owner] = one
        self._by_uri.setdefault(one.uri, []).append(one)

    def remove(self, uri: str, owner: str) -> bool:
        one = self.all.pop((uri, owner), None)
        if one is None:
            return False
        self._by_uri[uri].remove(one)
        if not self._by_uri[uri]:
            del self._by_uri[uri]
        return True

    def clear(self) -> None:
        self.all.clear()
        self._by_uri.clear()


class Keepalive(Module):
    name = "keepalive"
    depends = ("tm",)

    class Params:
        ping_interval: int = 30
        ping_from: str = "sip:keepalive@kamailio.org"
        delete_counter: int = 5

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.table = Table()
        #: what modules and the configuration list; the rest was added while the server ran
        self.listed: set[tuple[str, str]] = set()

    @modparam("destination")
    def list_destination(self, text: str) -> None:
        self._list(_PARAMS, [uri_of(text)])

    def mod_init(self) -> None:
        if self.p.ping_interval < 1:
            raise ConfigError("keepalive: ping_interval is a number of seconds")

    def activate(self, previous: Any) -> None:
        for key, one in previous.table.all.items() if previous is not None else ():
            if self.table.remove(*key) or key not in previous.listed:
                self.table.add(one)

    def child_init(self) -> None:
        if self.rt.previous is None and not self.rt.beginning:
            self.rt.tell_peers(self.name, "share_all")
        self.rt.every(1, self.ping_due, once=True)

    # -- for other modules -----------------------------------------------------------------------------------------------

    def watch(self, owner: str, addresses: Iterable[str]) -> None:
        """These, and no others, are what the owner wants to know of. Raises ValueError."""
        uris = dict.fromkeys(uri_of(text) for text in addresses)
        for key in [k for k in self.listed if k[1] == owner and k[0] not in uris]:
            self.listed.discard(key)
            self.table.remove(*key)
        self._list(owner, uris)

    def _list(self, owner: str, uris: Iterable[str]) -> None:
        for uri in uris:
            self.listed.add((uri, owner))
            self._known(uri, owner)

    def _known(self, uri: str, owner: str) -> Destination:
        """It is there from now on."""
        one = self.table.get(uri, owner)
        if one is None:
            one = Destination(uri, owner)
            self.table.add(one)
        return one

    def is_down(self, address: str, owner: str) -> bool:
        """One that nobody has heard of is not."""
        found = self.table.get(uri_of(address), owner)
        return found is not None and found.state == DOWN

    # -- pings -----------------------------------------------------------------------------------------------------------

    def ping_due(self) -> None:
        now = self.rt.now()
        for one in list(self.table.all.values()):
            if now >= one.due and (not self.p.delete_counter or one.failures <= self.p.delete_counter):
                one.due = now + self.p.ping_interval
                self._ping(one)

    def _ping(self, one: Destination) -> None:
        one.checked = self.rt.wall_time()

        def answered(t: Transaction, code: int, msg: SipMessage | None) -> None:
            if code >= 200 and self.table.get(one.uri, one.owner) is one:
                self._answered(one, alive=code < 300)

        if self.rt.module("tm").send_request("OPTIONS", one.uri, headers=f"From: <{self.p.ping_from}>\r\nTo: <{one.uri}>\r\n", callback=answered) is None:
            self.rt.log.error("keepalive: unable to ping [%s]", one.uri)

    def _answered(self, one: Destination, *, alive: bool) -> None:
        now, before = self.rt.wall_time(), one.state
        if alive:
            one.state, one.up, one.failures = UP, now, 0
        else:
            one.state, one.down, one.failures = DOWN, now, one.failures + 1
        self.rt.tell_peers(self.name, "follow", *one.row())
        event = "keepalive:dst-up" if alive else "keepalive:dst-down"
        if one.state != before and self.rt.has_event(event):
            ctx = self.rt.worker.fake_context(Routes.EVENT)
            ctx.ruri = one.uri
            self.rt.run_event(event, ctx)

    # -- all workers -----------------------------------------------------------------------------------------------------

    def follow(self, uri: str, owner: str, state: int, checked: float, up: float, down: float, failures: int) -> None:
        """What another worker knows of a destination."""
        one = self._known(uri, owner)
        one.state, one.checked, one.up, one.down, one.failures = state, checked, up, down, failures

    def share_all(self) -> None:
        """For a worker that has just begun."""
        for one in self.table.all.values():
            self.rt.tell_peers(self.name, "follow", *one.row())

    def add(self, address: str, owner: str) -> bool:
        """Another destination; false for one that is there. Raises ValueError."""
        uri = uri_of(address)
        if self.table.get(uri, owner) is not None:
            return False
        self._known(uri, owner)
        return True

    def remove(self, address: str, owner: str) -> bool:
        """Whether it was there. Raises ValueError."""
        return self.table.remove(uri_of(address), owner)

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(ANY)
    def ka_is_alive(self, ctx: Ctx, destination: str) -> int:
        """1 for one that answers or was not asked yet, 2 for one that is down, -1 for one that is not known."""
        try:
            found = self.table.first(uri_of(destination))
        except ValueError:
            return -1
        return -1 if found is None else DOWN if found.state == DOWN else UP

    @function(Routes.REQUEST | Routes.ONREPLY | Routes.BRANCH)
    def ka_add_destination(self, ctx: Ctx, sip_uri: str, owner: str) -> int:
        """Ask a destination from now on; one that is asked already is fine."""
        try:
            self.everywhere(self.add, sip_uri, owner)
        except ValueError as err:
            self.rt.log.error("keepalive: %s", err)
            return -1
        return 1

    @function(ANY)
    def ka_del_destination(self, ctx: Ctx, sip_uri: str, owner: str) -> int:
        """Ask a destination no more; -1 for one that is not known."""
        try:
            return 1 if self.everywhere(self.remove, sip_uri, owner) else -1
        except ValueError as err:
            self.rt.log.error("keepalive: %s", err)
            return -1

    # -- commands --------------------------------------------------------------------------------------------------------

    @rpc("keepalive.list")
    def rpc_list(self) -> list[dict[str, Any]]:
        """All destinations, the newest first; state 1 is up, 2 down, 0 not known yet."""
        return [{"uri": one.uri, "owner": one.owner, "last checked": time.ctime(int(one.checked)), "last up": time.ctime(int(one.up)),
                 "last down": time.ctime(int(one.down)), "state": one.state} for one in reversed(self.table.all.values())]  # fmt: skip

    @rpc("keepalive.get")
    def rpc_get(self, uri: str | None = None, owner: str | None = None) -> dict[str, Any]:
        """URI OWNER: the state of a destination."""
        if uri is None or owner is None:
            raise _MISSING
        try:
            one = self.table.get(uri_of(uri), owner)
        except ValueError:
            one = None
        if one is None:
            raise RpcFault(500, "couldn't get data from list")
        return {"uri": one.uri, "owner": one.owner, "state": one.state}

    @staticmethod
    def _told(change: Callable[[str, str], bool], uri: str | None, owner: str | None, failed: str) -> None:
        """Change what is asked. Raises RpcFault: nothing is changed, or the URI is none."""
        if uri is None or owner is None:
            raise _MISSING
        try:
            done = change(uri, owner)
        except ValueError:
            done = False
        if not done:
            raise RpcFault(500, failed)

    @rpc("keepalive.add", spread=Spread.EVERY)
    def rpc_add(self, uri: str | None = None, owner: str | None = None) -> str:
        """URI OWNER: ask another destination."""
        self._told(self.add, uri, owner, "couldn't add data to list")
        return "Ok. Destination added."

    @rpc("keepalive.del", spread=Spread.EVERY)
    def rpc_del(self, uri: str | None = None, owner: str | None = None) -> str:
        """URI OWNER: ask a destination no more."""
        self._told(self.remove, uri, owner, "couldn't delete data from list")
        return "Ok. Destination removed."

    @rpc("keepalive.flush", spread=Spread.EVERY)
    def rpc_flush(self) -> str:
        """Ask nobody any more."""
        self.table.clear()
        return "Ok. Destination list flushed."


module = Keepalive
