"""Client transactions: what we send and retransmit.

INVITE (RFC 3261 section 17.1.1, RFC 6026 section 7.2)

    Calling --1xx--> Proceeding --2xx--> Accepted --timer M--> Terminated
       |                 |------300+---> Completed --timer D--> Terminated
       |--2xx, 300+ as above;  timer A: retransmit;  timer B: timeout

Others (section 17.1.2)

    Trying --1xx--> Proceeding --200+--> Completed --timer K--> Terminated
      timer E: retransmit;  timer F: timeout

Kamailio's deviations, kept: INVITE retransmissions are capped at retr_timer2 as well; a provisional reply restarts the final-response
timer with fr_inv_timer; Accepted and Completed last as long as the whole transaction waits (wt_timer), so M, D and K are one timer of
the transaction and not of the branch.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from kamc.runtime.tm.timers import NOBODY, Timer, TimerTable


class UacState(Enum):
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"


class ClientEffects(Protocol):
    """What a client transaction asks of its surroundings."""

    def retransmit(self) -> None: ...

    def timed_out(self, now: float) -> None: ...


class ClientTransaction:
    """Timers and state that both kinds share. ``t1``/``t2`` are retr_timer1/2, ``fr`` the final-response timer, in seconds."""

    __slots__ = ("_fr", "_interval", "_retr", "effects", "final_timeout", "state", "t2", "timers")
    initial = UacState.TRYING

    def __init__(self, effects: ClientEffects, timers: TimerTable, t2: float) -> None:
        self.effects, self.timers, self.t2 = effects, timers, t2
        self.state = self.initial
        self._retr: Timer | None = None
        self._fr: Timer | None = None
        self._interval = 0.0

    def start(self, now: float, t1: float, fr: float, *, reliable: bool) -> None:
        """After the first transmission: timer A or E (not on reliable transports), timer B or F."""
        self._fr = self.timers.arm(now + fr, self._timer_fr)
        if not reliable:
            self._interval = t1
            self._retr = self.timers.arm(now + t1, self._timer_retr)

    def provisional(self, now: float) -> None:
        raise NotImplementedError

    def final(self, now: float, code: int) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """End without a reply: cancelled before anything came, or the transaction goes."""
        self.stop_timers()
        self.state = UacState.TERMINATED

    def release(self) -> None:
        """The transaction goes."""
        self.stop()
        self.effects = NOBODY

    def stop_timers(self) -> None:
        self.stop_retransmitting()
        if self._fr is not None:
            self.timers.disarm(self._fr)
            self._fr = None

    def stop_retransmitting(self) -> None:
        if self._retr is not None:
            self.timers.disarm(self._retr)
            self._retr = None

    def restart_fr(self, now: float, timeout: float) -> None:
        if self._fr is not None:
            self.timers.disarm(self._fr)
        self._fr = self.timers.arm(now + timeout, self._timer_fr)

    @property
    def waiting(self) -> bool:
        """Whether a final reply may still come."""
        return self.state in (UacState.CALLING, UacState.TRYING, UacState.PROCEEDING)

    def _timer_retr(self, now: float) -> None:
        self.effects.retransmit()
        self._interval = min(self._interval * 2, self.t2)
        self._retr = self.timers.arm(now + self._interval, self._timer_retr)

    def _timer_fr(self, now: float) -> None:
        self._fr = None
        self.stop_timers()
        self.effects.timed_out(now)


class InviteClient(ClientTransaction):
    """RFC 3261 section 17.1.1."""

    __slots__ = ()
    initial = UacState.CALLING

    def provisional(self, now: float) -> None:
        self.stop_retransmitting()
        if self.state is UacState.CALLING:
            self.state = UacState.PROCEEDING

    def final(self, now: float, code: int) -> None:
        self.stop_timers()
        self.state = UacState.ACCEPTED if code < 300 else UacState.COMPLETED


class NonInviteClient(ClientTransaction):
    """RFC 3261 section 17.1.2: provisional replies slow retransmission down to T2."""

    __slots__ = ()

    def provisional(self, now: float) -> None:
        if self.state is UacState.TRYING:
            self.state = UacState.PROCEEDING
            if self._retr is not None:
                self.timers.disarm(self._retr)
                self._interval = self.t2
                self._retr = self.timers.arm(now + self.t2, self._timer_retr)

    def final(self, now: float, code: int) -> None:
        self.stop_timers()
        self.state = UacState.COMPLETED
