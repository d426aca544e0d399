"""Module presence_dialoginfo: the event package dialog (RFC 4235), for lamps of busy lines.

https://www.kamailio.org/docs/modules/stable/modules/presence_dialoginfo.html. Watchers see the dialogs of all publications in one document, with ``force_single_dialog``
the one that matters most: one that rings before one that is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import md5
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from kamc.declare import Module
from kamc.runtime.markup import local_name
from stdlib_modules.presence.merge import latest, merged
from stdlib_modules.presence.packages import Package

#: the last one matters most
_STATES: Final = ("terminated", "trying", "proceeding", "confirmed", "early")


def _rank(dialog: Any) -> int:
    state = next(((e.text or "").strip().lower() for e in dialog if local_name(e) == "state"), "")
    return _STATES.index(state) if state in _STATES else 0


def _loudest(dialogs: list[Any]) -> list[Any]:
    return [max(dialogs, key=_rank)] if dialogs else []


def combine(bodies: Sequence[str], gone: str | None, choose: Callable[[list[Any]], list[Any]] = list) -> str:
    """One document of the dialogs of all, the oldest first. What is no XML is told as it came when nothing else is published."""
    oldest_first = [*reversed(bodies), *([gone] if gone else ())]
    return merged(oldest_first, "dialog", choose) or latest(bodies, gone)


def no_dialog(uri: str) -> str:
    """A document of somebody who has no call."""
    ident = md5(uri.encode("latin-1", "replace"), usedforsecurity=False).hexdigest()
    return (f'<?xml version="1.0"?>\n<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" entity={quoteattr(uri)}>\n'
            f'  <dialog id="{ident}" direction="recipient">\t<state>terminated</state>\t</dialog>\n</dialog-info>\n')  # fmt: skip


class PresenceDialoginfo(Module):
    name = "presence_dialoginfo"
    depends = ("presence",)

    class Params:
        force_single_dialog: int = 0
        force_dummy_dialog: int = 0
        default_expires: int = 3600

    def mod_init(self) -> None:
        p = self.p
        how = partial(combine, choose=_loudest) if p.force_single_dialog else combine
        package = Package("dialog", "application/dialog-info+xml", p.default_expires, combine=how, numbered=True)
        if p.force_dummy_dialog:
            package.nothing = no_dialog
        self.rt.module("presence").add_package(package)


module = PresenceDialoginfo
