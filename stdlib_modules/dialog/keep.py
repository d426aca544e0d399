"""Answered dialogs in the store, where it has a copy in a file: a worker that takes the place of another follows them on, with their
variables, profiles and the rest of their time."""

from __future__ import annotations

from typing import Any

from kamc.declare.values import to_str
from kamc.runtime.context import Ctx
from stdlib_modules.dialog.model import ANSWERED, CONFIRMED, Dialog
from stdlib_modules.dialog.picture import dialog_of, row_of

_KEPT = (ANSWERED, CONFIRMED)
#: what is told of a dialog that ends
_OVER = ("ended", "failed", "expired")


class KeptDialogs:
    """``module`` is the dialog module. A dialog is written with its state, before anybody hears of that, and again when the message that changed it
    has been served."""

    def __init__(self, module: Any) -> None:
        self.module, self.rt = module, module.rt
        self.rows = self.rt.store.table("dialog")
        self._waiting: dict[tuple[int, int], Dialog] = {}

    def load(self) -> int:
        """Follow what an earlier worker has left. How many."""
        count, table = 0, self.module.table
        for key, row in list(self.rows.scan()):
            try:
                *cells, variables = row
                d = dialog_of(cells, self.rt.worker.find_socket, self.module.p.default_timeout)
                d.variables.update(variables)
            except (ValueError, TypeError) as err:
                self.rt.log.error("dialog: %s in the store is no dialog: %s", key, err)
                self.rows.delete(key)
                continue
            if not self.rt.owns_call(d.call_id):
                continue
            table.add(d)
            table.beyond(d.id)
            self.module.resume(d)
            count += 1
        return count

    def given_away(self, dialog: Dialog) -> bool:
        """Another worker follows it from now on, and writes it."""
        self._waiting.pop((dialog.entry, dialog.id), None)
        return True

    def taken(self, dialog: Dialog, *, written: bool) -> None:
        """From another worker."""
        self._keep(dialog)

    def changed(self, what: str, dialog: Dialog, ctx: Ctx | None) -> None:
        if what in _OVER:
            self._waiting.pop((dialog.entry, dialog.id), None)
            self.rows.delete(dialog.did)
            return
        self._keep(dialog)
        self.later(dialog)

    def later(self, dialog: Dialog) -> None:
        if not self._waiting:
            self.rt.timers.arm(self.rt.now(), self._write)
        self._waiting[dialog.entry, dialog.id] = dialog

    def seen(self, ctx: Ctx, dialog: Dialog, side: str) -> None:
        """A request within it: numbers, and whatever the script makes of it."""
        self.later(dialog)

    def _write(self, now: float) -> None:
        waiting, self._waiting = self._waiting, {}
        for dialog in waiting.values():
            self._keep(dialog)

    def _keep(self, dialog: Dialog) -> None:
        if dialog.state in _KEPT:
            self.rows.put(dialog.did, [*row_of(dialog), {name: to_str(value) for name, value in dialog.variables.items()}])
