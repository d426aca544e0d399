"""A client branch: one request that a transaction has sent, its state, and its CANCEL (RFC 3261 section 9.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kamc.runtime.context import Branch as Target
from kamc.runtime.net.endpoint import Dest
from kamc.runtime.sip.build import build_hop_request
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.tm.timers import Timer
from kamc.runtime.tm.uac import ClientTransaction, InviteClient, NonInviteClient

if TYPE_CHECKING:
    from kamc.runtime.tm.transaction import Transaction


class ClientBranch:
    """One branch: what was sent where, and what came back."""

    __slots__ = (
        "cancel",
        "cancel_fr",
        "cancel_held",
        "cancel_interval",
        "cancel_retr",
        "client",
        "copy",
        "dest",
        "faked",
        "flags",
        "hooks",
        "index",
        "local",
        "message",
        "replied",
        "reply",
        "request",
        "rest",
        "status",
        "t",
        "target",
        "uri",
    )  # fmt: skip

    def __init__(self, t: Transaction, index: int, uri: str, target: Target, dest: Dest) -> None:
        self.t, self.index, self.uri, self.target = t, index, uri, target
        self.dest = dest
        #: other addresses of the name that it was sent to
        self.rest: Iterator[Dest] | None = None
        self.request = ""
        self.message: SipMessage | None = None
        cls = InviteClient if t.is_invite else NonInviteClient
        self.client: ClientTransaction = cls(self, t.engine.timers, t.retr_t2)
        #: highest status received or made up; 0 before anything came
        self.status = 0
        self.reply: SipMessage | None = None
        #: the reply text after onreply_route's edits, ready to be sent upstream
        self.faked = False
        #: made by t_replicate: its replies go nowhere and decide nothing
        self.copy = False
        #: a provisional reply came; Kamailio does not count a final one that comes first
        self.replied = False
        self.local = False
        self.flags = target.flags
        self.hooks: dict[str, str] = {}
        self.cancel = ""
        self.cancel_held = False
        self.cancel_retr: Timer | None = None
        self.cancel_fr: Timer | None = None
        self.cancel_interval = 0.0

    @property
    def sent(self) -> SipMessage:
        """The request as it was sent, parsed on demand."""
        if self.message is None:
            self.message = parse_message(self.request)
        return self.message

    # -- effects of the client machine -----------------------------------------------------------------------------------

    def retransmit(self) -> None:
        self.t.engine.host.send(self.dest, self.request)

    def timed_out(self, now: float) -> None:
        self.t.branch_timed_out(self, now)

    # -- CANCEL ----------------------------------------------------------------------------------------------------------

    def send_cancel(self, now: float, extra: str = "") -> None:
        """Cancel this branch; before a provisional reply it is held back (RFC 3261 section 9.1), unless cancel_b_method says otherwise:
        0 ends the branch at once with a 487 of our own, 2 sends the CANCEL all the same."""
        if self.cancel or not self.client.waiting or not self.t.is_invite:
            return
        method = self.t.engine.params.cancel_b_method
        if self.status == 0 and method == 0:
            self.client.stop()
            self.t.fail_branch(self, 487, now)
            return
        if self.status == 0 and method == 1:
            self.cancel_held = True
            self.t.cancel_extra = extra or self.t.cancel_extra
            return
        self.client.stop_retransmitting()
        engine = self.t.engine
        self.cancel_held = False
        self.cancel = build_hop_request(self.sent, "CANCEL", extra=extra or self.t.cancel_extra, prefix=engine.params.ac_extra_hdrs.lower())
        engine.host.send(self.dest, self.cancel)
        self.cancel_interval = self.t.retr_t1
        self.cancel_retr = engine.timers.arm(now + self.t.retr_t1, self._repeat_cancel)
        self.cancel_fr = engine.timers.arm(now + self.t.fr, self._cancel_timeout)
        # after a CANCEL the final reply has fr_timer to come
        self.client.restart_fr(now, self.t.fr)

    def _repeat_cancel(self, now: float) -> None:
        self.t.engine.host.send(self.dest, self.cancel)
        self.cancel_interval = min(self.cancel_interval * 2, self.t.retr_t2)
        self.cancel_retr = self.t.engine.timers.arm(now + self.cancel_interval, self._repeat_cancel)

    def _cancel_timeout(self, now: float) -> None:
        self.cancel_answered()

    def cancel_answered(self) -> None:
        timers = self.t.engine.timers
        timers.disarm(self.cancel_retr)
        timers.disarm(self.cancel_fr)

    def release(self) -> None:
        self.client.release()
        self.cancel_answered()
