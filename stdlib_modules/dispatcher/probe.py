"""Pings to destinations, and how their answers change the state."""

from __future__ import annotations

from typing import Any

from kamc.declare import Routes
from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.sip.codes import reply_codes
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.tm.transaction import Transaction
from stdlib_modules.dispatcher.table import DISABLED, INACTIVE, NO_PING, PROBING, TRYING, Destination, DestinationSet


class Probing:
    rt: Any
    p: Any
    sets: dict[int, DestinationSet]

    def ping_socket(self, d: Destination) -> Listener | None:
        raise NotImplementedError

    def start_probing(self) -> None:
        """Check the parameters. Raises ConfigError."""
        self.pinging = 1
        try:
            self._read_codes()
        except ValueError as err:
            raise ConfigError(f"dispatcher: ds_ping_reply_codes: {err}") from None
        if self.p.ds_ping_interval > 0 and self.rt.module("tm") is None:
            raise ConfigError("dispatcher: ds_ping_interval needs module tm")

    def _read_codes(self) -> None:
        """Raises ValueError."""
        #: the codes that mean alive; 2xx always do
        self.good_codes = reply_codes(f"class=2;{self.p.ds_ping_reply_codes}")

    def setting_changed(self, name: str) -> None:
        if name == "ping_reply_codes":
            try:
                self._read_codes()
            except ValueError as err:
                self.rt.log.error("dispatcher: ping_reply_codes: %s", err)

    def child_init(self) -> None:
        if self.rt.previous is None and not self.rt.beginning:
            self.rt.tell_peers("dispatcher", "share_all")
        if self.p.ds_ping_interval > 0:
            self.rt.every(self.p.ds_ping_interval, self.ping_all, once=True)

    # -- pings -----------------------------------------------------------------------------------------------------------

    def ping_all(self) -> None:
        if not self.pinging:
            return
        for chosen in list(self.sets.values()):
            for d in chosen.all:
                if self._is_probed(d):
                    self._ping(chosen, d)

    def _is_probed(self, d: Destination) -> bool:
        """By ds_probing_mode: 0 those marked for probing, 1 all, 2 inactive ones that are marked, 3 all inactive ones."""
        if d.flags & (DISABLED | NO_PING):
            return False
        marked, inactive = bool(d.flags & PROBING), bool(d.flags & INACTIVE)
        return {0: marked, 1: True, 2: marked and inactive, 3: inactive}[self.p.ds_probing_mode]

    def _ping(self, chosen: DestinationSet, d: Destination) -> None:
        method, sender = self.p.ds_ping_method, d.values.get("ping_from") or self.p.ds_ping_from
        started = self.rt.now()

        def answered(t: Transaction, code: int, msg: SipMessage | None) -> None:
            if code < 200 or self.sets.get(chosen.number) is not chosen:
                return
            if self.p.ds_ping_latency_stats and msg is not None:
                d.latency.add(round((self.rt.now() - started) * 1000), min(1000, self.p.ds_latency_estimator_alpha) / 1000)
            if code == 408:
                d.latency.timeouts += 1
            self.ping_answered(chosen, d, code)

        fr = (self.p.ds_ping_fr_timer or self.p.ds_ping_fr_timeout) / 1000
        sent = self.rt.module("tm").send_request(method, d.uri, nexthop=d.values.get("obproxy") or self.p.outbound_proxy, listener=self.ping_socket(d), fr=fr,
                                                 headers=f"From: <{sender}>\r\nTo: <{d.uri}>\r\n", callback=answered)  # fmt: skip
        if sent is None:
            self.ping_answered(chosen, d, 477)

    def ping_answered(self, chosen: DestinationSet, d: Destination, code: int) -> None:
        if code in self.good_codes:
            self.mark(chosen, d, 0, by_ping=True)
        else:
            self.mark(chosen, d, TRYING, by_ping=True)
        if self.p.ds_probing_mode == 1:
            d.flags |= PROBING
            self.share(chosen, d)

    # -- states ----------------------------------------------------------------------------------------------------------

    def mark(self, chosen: DestinationSet, d: Destination, wanted: int, *, by_ping: bool = False) -> None:
        """Change a state: 0 active, TRYING counts a failure and makes it inactive at ds_probing_threshold, INACTIVE, DISABLED. Answered
        pings make an inactive one active after ds_inactive_threshold of them."""
        was_usable = d.usable
        keep = d.flags & ~(INACTIVE | TRYING | DISABLED)
        if by_ping and d.flags & DISABLED:
            return
        if wanted == TRYING:
            if d.flags & INACTIVE:
                d.streak = 0
                self.share(chosen, d)
                return
            d.streak += 1
            wanted = INACTIVE if d.streak >= self.p.ds_probing_threshold else TRYING
        elif wanted == 0 and by_ping and d.flags & INACTIVE:
            d.streak += 1
            if d.streak < self.p.ds_inactive_threshold:
                self.share(chosen, d)
                return
        if wanted != TRYING:
            d.streak = 0
        d.flags = keep | wanted
        self.share(chosen, d)
        if was_usable != d.usable:
            self._tell("dst-up" if d.usable else "dst-down", chosen, d)

    def share(self, chosen: DestinationSet, d: Destination) -> None:
        """Tell the other workers what is known of a destination."""
        self.rt.tell_peers("dispatcher", "follow", chosen.number, d.uri, d.flags, d.streak)

    def share_all(self) -> None:
        for chosen in self.sets.values():
            for d in chosen.all:
                self.share(chosen, d)

    def follow(self, number: int, uri: str, flags: int, streak: int) -> None:
        """Another worker has seen a destination change; it has run the event route."""
        chosen = self.sets.get(number)
        d = chosen.find(uri) if chosen is not None else None
        if d is not None:
            d.flags, d.streak = flags, streak

    def _tell(self, event: str, chosen: DestinationSet, d: Destination) -> None:
        """Run the event route over a request to the destination."""
        for name in (f"dispatcher:{event}", f"dispatcher:{event.replace('dst', 'ds')}"):
            if not self.rt.has_event(name):
                continue
            ctx = self.rt.worker.fake_context(Routes.EVENT)
            ctx.ruri = d.uri
            ctx.remember("dispatcher_event", {"uri": d.uri, "setid": chosen.number, "flags": d.flags, "attrs": d.attrs})
            self.rt.run_event(name, ctx)
