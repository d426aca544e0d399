"""CSeq numbers of calls that the server has authenticated downstream (``track_cseq_updates``).

An INVITE that goes out again with credentials has a CSeq one higher than the caller's (RFC 3261 section 22.2), and so have all requests that
follow it; their replies get the caller's number back. The difference is kept as dialog variable ``cseq_diff``.
"""

from __future__ import annotations

from kamc.declare.values import to_int
from kamc.runtime.context import Ctx
from kamc.runtime.sip.edits import restored
from stdlib_modules.dialog.life import Life
from stdlib_modules.dialog.model import CALLER, Dialog

_NAME = "cseq_diff"


def difference(dialog: Dialog) -> int:
    """How far the callee's numbers are ahead of the caller's."""
    return to_int(dialog.variables.get(_NAME) or 0)


class CseqTracking(Life):
    def authenticated(self, ctx: Ctx) -> None:
        """Module uac has put credentials into a request of a call."""
        dialog = self.current(ctx) if self.p.track_cseq_updates else None
        if dialog is None:
            return
        dialog.variables[_NAME] = str(difference(dialog) + 1)
        self._shift(ctx, dialog)

    def follow_cseq(self, ctx: Ctx, dialog: Dialog, side: str) -> None:
        """A request of a dialog."""
        if self.p.track_cseq_updates and side == CALLER and difference(dialog):
            self._shift(ctx, dialog)

    @staticmethod
    def _shift(ctx: Ctx, dialog: Dialog) -> None:
        header = ctx.msg.first.get("cseq")
        if header is None:
            return
        number, method = ctx.msg.cseq
        ctx.edits[:] = [e for e in ctx.edits if e[:2] != header[3:5]]
        ctx.add_edit(header[3], header[4], f"{header[1]}: {number + difference(dialog)} {method}\r\n")
        original = header[2]
        ctx.change_replies("cseq", lambda reply: restored(reply, "cseq", original))
