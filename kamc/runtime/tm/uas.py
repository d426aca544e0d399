"""Server transactions: what we answered and repeat.

INVITE (RFC 3261 section 17.2.1, RFC 6026 section 7.1)

    Proceeding --300+--> Completed --ACK--> Confirmed --timer I--> Terminated
        |---2xx--> Accepted --timer L--> Terminated
      a repeated INVITE repeats the last reply;  timer G: repeat a negative final reply;  timer H: no ACK came

Others (section 17.2.2)

    Trying --1xx--> Proceeding --200+--> Completed --timer J--> Terminated

Kamailio's deviation, kept: I, L, H and J are one timer, wt_timer, which begins with the final reply.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from kamc.runtime.tm.timers import NOBODY, Timer, TimerTable


class UasState(Enum):
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"


class ServerEffects(Protocol):
    def repeat_reply(self) -> None: ...


class ServerTransaction:
    """Non-INVITE server transaction, and the base of the other one."""

    __slots__ = ("_interval", "_retr", "effects", "state", "t2", "timers")
    initial = UasState.TRYING

    def __init__(self, effects: ServerEffects, timers: TimerTable, t2: float) -> None:
        self.effects, self.timers, self.t2 = effects, timers, t2
        self.state = self.initial
        self._retr: Timer | None = None
        self._interval = 0.0

    def replied(self, now: float, code: int, t1: float, *, reliable: bool) -> None:
        """A reply was sent upstream."""
        self.state = UasState.PROCEEDING if code < 200 else UasState.COMPLETED

    def acked(self) -> bool:
        """An ACK came. True when it ends repetition."""
        return False

    def repeated(self) -> None:
        """The request came again."""
        if self.state is not UasState.TRYING and self.state is not UasState.TERMINATED:
            self.effects.repeat_reply()

    def stop(self) -> None:
        self.timers.disarm(self._retr)
        self._retr = None
        self.state = UasState.TERMINATED
        self.effects = NOBODY


class InviteServer(ServerTransaction):
    """RFC 3261 section 17.2.1."""

    __slots__ = ()
    initial = UasState.TRYING

    def replied(self, now: float, code: int, t1: float, *, reliable: bool) -> None:
        if code < 200:
            self.state = UasState.PROCEEDING
        elif code < 300:
            self.state = UasState.ACCEPTED
        else:
            self.state = UasState.COMPLETED
            if not reliable:
                self._interval = t1
                self.timers.disarm(self._retr)
                self._retr = self.timers.arm(now + t1, self._timer_g)

    def acked(self) -> bool:
        if self.state is not UasState.COMPLETED:
            return False
        self.timers.disarm(self._retr)
        self._retr = None
        self.state = UasState.CONFIRMED
        return True

    def repeated(self) -> None:
        if self.state in (UasState.PROCEEDING, UasState.COMPLETED, UasState.ACCEPTED):
            self.effects.repeat_reply()

    def _timer_g(self, now: float) -> None:
        self.effects.repeat_reply()
        self._interval = min(self._interval * 2, self.t2)
        self._retr = self.timers.arm(now + self._interval, self._timer_g)
