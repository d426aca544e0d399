"""The life of a dialog: its states with their counters, times and event routes. What the other parts of the module stand on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from kamc.declare import Module
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.message import SipMessage, parse_message
from stdlib_modules.dialog.model import ANSWERED, CONFIRMED, DELETED, EARLY, UNCONFIRMED, Dialog, DialogTable

#: told as (what, dialog, context): "created", "started", "confirmed", "failed", "ended", "expired"; the context is None where no message caused it
Watcher = Callable[[str, Dialog, Ctx | None], None]
#: seconds that a dialog which is over can still be found, for late requests of its transactions
_LINGER: Final = 5.0


class Life(Module):
    rt: Any
    p: Any
    table: DialogTable
    watchers: list[Watcher]
    #: told of requests within dialogs, with the side that sent them
    on_request: list[Callable[[Ctx, Dialog, str], None]]
    #: told of each provisional reply above 100 to the INVITE that began a dialog
    on_provisional: list[Callable[[Dialog, SipMessage], None]]

    def count_member(self, profile: str, value: str, by: int) -> None:
        """A dialog has joined or left a profile."""
        raise NotImplementedError

    def join(self, dialog: Dialog, profile: str, value: str) -> None:
        """A dialog is counted in a profile."""
        raise NotImplementedError

    def share(self, dialog: Dialog) -> None:
        """A dialog has changed: if it is a copy of another worker's, that one hears of it."""

    def show_members(self) -> None:
        """Tell the other workers how many members each profile has here."""
        raise NotImplementedError

    @staticmethod
    def is_copy(dialog: Dialog) -> bool:
        """Whether another worker follows it."""
        raise NotImplementedError

    def do_there(self, dialog: Dialog, name: str, *args: Any) -> int:
        """Have the worker of a copy call a function with the dialog."""
        raise NotImplementedError

    def copy_of(self, call_id: str, from_tag: str, to_tag: str) -> Dialog | None:
        """A copy of a dialog that another worker follows."""
        raise NotImplementedError

    def leave_all(self, dialog: Dialog) -> None:
        """A dialog is over: no profile counts it any more."""
        for profile, value in dialog.profiles:
            self.count_member(profile, value, -1)
        dialog.profiles.clear()

    def timed_out(self, dialog: Dialog) -> None:
        """The lifetime is over."""
        raise NotImplementedError

    def timer_fired(self, dialog: Dialog, now: float) -> None:
        self.timed_out(dialog)

    # -- which dialog ----------------------------------------------------------------------------------------------------

    def current(self, ctx: Ctx) -> Dialog | None:
        """The dialog of a run: of its message, of its transaction, else the one that Call-ID and tags name."""
        found: Dialog | None = ctx.recall("dialog")
        if found is None and ctx.t is not None:
            found = ctx.t.extra.get("dialog")
        if found is None and self.table.by_call:
            by_names = self.table.find(ctx.msg.call_id, ctx.msg.from_tag, ctx.msg.to_tag)
            found = by_names[0] if by_names is not None else None
        return found

    # -- states ----------------------------------------------------------------------------------------------------------

    def move(self, dialog: Dialog, state: int) -> None:
        """Change the state, with its counters and times."""
        counters = self.rt.counters
        before, dialog.state = dialog.state, state
        for number, stats in ((EARLY, ("early_dialogs",)), (ANSWERED, ("active_dialogs",)), (CONFIRMED, ("active_dialogs",))):
            for stat in stats:
                counters.add("dialog", stat, (state == number) - (before == number))
        if state == ANSWERED and not dialog.started:
            dialog.started = self.rt.wall_time()
            dialog.dflags |= 1
        if state == DELETED:
            dialog.ended = self.rt.wall_time()
            dialog.ends_at = 0
            self.rt.timers.disarm(dialog.timer)
            self.rt.timers.arm(self.rt.now() + _LINGER, lambda now: self.table.remove(dialog))

    def provisional(self, dialog: Dialog, text: str) -> None:
        """The callee rings."""
        if dialog.state == UNCONFIRMED:
            self.move(dialog, EARLY)
        if self.on_provisional:
            with contextlib.suppress(SipError):
                reply = parse_message(text)
                for told in self.on_provisional:
                    told(dialog, reply)

    def end(self, dialog: Dialog, ctx: Ctx | None, how: str) -> None:
        """The dialog is over: ``end`` after it was answered, ``failed`` before, ``expired`` at the end of its lifetime."""
        work = ctx if ctx is not None else self.rt.worker.fake_context()
        work.remember("dialog", dialog)
        if how == "failed":
            self.rt.counters.add("dialog", "failed_dialogs")
        elif how == "expired":
            self.rt.counters.add("dialog", "expired_dialogs")
        self.tell({"end": "ended"}.get(how, how), dialog, ctx)
        if ctx is not None:
            # a BYE finds the state that it makes
            dialog.state, kept = DELETED, dialog.state
            self.rt.run_event("dialog:failed" if how == "failed" else "dialog:end", work)
            dialog.state = kept
        else:
            self.rt.run_event("dialog:end", work)
        self.move(dialog, DELETED)
        self.leave_all(dialog)

    def tell(self, what: str, dialog: Dialog, ctx: Ctx | None) -> None:
        for watcher in self.watchers:
            watcher(what, dialog, ctx)

    # -- time ------------------------------------------------------------------------------------------------------------

    def arm(self, dialog: Dialog) -> None:
        self.rt.timers.disarm(dialog.timer)
        dialog.ends_at = self.rt.wall_time() + dialog.lifetime
        dialog.timer = self.rt.timers.arm(self.rt.now() + dialog.lifetime, partial(self.timer_fired, dialog))

    def set_lifetime(self, dialog: Dialog, seconds: int) -> None:
        """From now on, when it is answered."""
        dialog.lifetime = seconds
        if self.is_copy(dialog):
            self.share(dialog)
        elif dialog.state in (ANSWERED, CONFIRMED):
            self.arm(dialog)
