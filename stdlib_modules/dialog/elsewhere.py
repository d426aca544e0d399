"""Dialogs of calls that another worker owns: a copy of what it knows. What is changed of the copy, and what is done with it, happens there."""

from __future__ import annotations

from typing import Any, Final

from kamc.declare.values import to_str
from stdlib_modules.dialog.life import Life
from stdlib_modules.dialog.model import Dialog
from stdlib_modules.dialog.picture import dialog_of, row_of

_OWNER: Final = "owner"
#: functions that send requests
_ACTS: Final = frozenset({"dlg_bye", "dlg_refer", "dlg_req_within"})

Shown = tuple[list[Any], dict[str, str], int]


def _shown(d: Dialog) -> Shown:
    return list(row_of(d)), {name: to_str(value) for name, value in d.variables.items()}, d.lifetime


class Elsewhere(Life):

    def copy_of(self, call_id: str, from_tag: str, to_tag: str) -> Dialog | None:
        """A dialog of the worker that owns a call; None when that is this one, or knows none. The run waits for it."""
        peers = self.rt.worker.peers
        owner = peers.owner_of_call(call_id) if peers is not None else -1
        if peers is None or owner == peers.index:
            return None
        found = peers.ask_module(owner, "dialog", "show_to_others", call_id, from_tag, to_tag)
        if found is None:
            return None
        row, variables, lifetime = found
        d = dialog_of(row, self.rt.worker.find_socket, lifetime)
        d.variables.update(variables)
        d.extra[_OWNER] = owner
        return d

    def show_to_others(self, call_id: str, from_tag: str, to_tag: str) -> Shown | None:
        found = self.table.find(call_id, from_tag, to_tag)
        return _shown(found[0]) if found is not None else None

    @staticmethod
    def is_copy(dialog: Dialog) -> bool:
        return _OWNER in dialog.extra

    def share(self, dialog: Dialog) -> None:
        if self.is_copy(dialog):
            self.rt.worker.peers.tell(dialog.extra[_OWNER], "module", "dialog", "follow_copy", dialog.entry, dialog.id, *_shown(dialog))

    def follow_copy(self, entry: int, ident: int, row: list[Any], variables: dict[str, str], lifetime: int) -> None:
        """Another worker has changed its copy of a dialog."""
        dialog = self.table.by_id.get((entry, ident))
        if dialog is None:
            return
        fresh = dialog_of(row, self.rt.worker.find_socket, lifetime)
        dialog.sflags, dialog.iflags, dialog.timeout_route = fresh.sflags, fresh.iflags, fresh.timeout_route
        dialog.variables.clear()
        dialog.variables.update(variables)
        dialog.dflags |= 128
        for profile, value in set(fresh.profiles) - set(dialog.profiles):
            self.join(dialog, profile, value)
        for profile, value in set(dialog.profiles) - set(fresh.profiles):
            dialog.profiles.remove((profile, value))
            self.count_member(profile, value, -1)
        if lifetime != dialog.lifetime:
            self.set_lifetime(dialog, lifetime)

    def do_there(self, dialog: Dialog, name: str, *args: Any) -> int:
        """Have its worker call a function with the dialog."""
        self.rt.worker.peers.tell(dialog.extra[_OWNER], "module", "dialog", "act_for_others", dialog.entry, dialog.id, name, list(args))
        return 1

    def act_for_others(self, entry: int, ident: int, name: str, args: list[Any]) -> None:
        dialog = self.table.by_id.get((entry, ident))
        if dialog is None or name not in _ACTS:
            return
        ctx = self.rt.worker.fake_context()
        ctx.remember("dialog", dialog)
        getattr(self, name)(ctx, *args)
