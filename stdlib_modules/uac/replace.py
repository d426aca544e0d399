"""Another From or To for one side of a call, restored for the other.

The replaced and the original URI are XORed into a token that travels in our Record-Route. With it each can be had from the other, so
requests of the dialog and their replies show every side what it knows.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from kamc.declare import Routes, function
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.edits import restored

_REQUEST_BRANCH: Final = Routes.REQUEST | Routes.BRANCH


def mixed(first: str, second: str, secret: str) -> str:
    """A token from which each text can be had with the other."""
    a, b = first.encode("latin-1", "replace"), second.encode("latin-1", "replace")
    size = max(len(a), len(b))
    key = (secret.encode() * (size // len(secret.encode()) + 1))[:size] if secret else bytes(size)
    data = bytes(x ^ y ^ z for x, y, z in zip(a.ljust(size, b"\0"), b.ljust(size, b"\0"), key, strict=True))
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def other(token: str, text: str, secret: str) -> str | None:
    """The text that was mixed with this one; None when the token is damaged or the text was not mixed into it."""
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    raw = text.encode("latin-1", "replace")
    if len(raw) > len(data):
        return None
    key = (secret.encode() * (len(data) // len(secret.encode()) + 1))[: len(data)] if secret else bytes(len(data))
    found = bytes(x ^ y ^ z for x, y, z in zip(data, raw.ljust(len(data), b"\0"), key, strict=True)).rstrip(b"\0")
    # what was never mixed in gives noise
    return found.decode("latin-1") if found and all(32 < c < 127 for c in found) else None


#: the variables of a dialog that hold the original and the new URI
_DIALOG_NAMES: Final = {"from": ("_uac_fu", "_uac_funew"), "to": ("_uac_to", "_uac_tonew")}


class ReplaceFunctions:
    rt: Any
    originals: dict[str, BoundPv]
    p: Any
    restore: bool
    automatic: bool

    # -- replacing -------------------------------------------------------------------------------------------------------

    @function(_REQUEST_BRANCH)
    def uac_replace_from(self, ctx: Ctx, display: str, uri: str | None = None) -> int:
        """``(uri)`` keeps the display name; ``(display, uri)`` sets both, an empty display removes it, an empty URI keeps it."""
        return self._replace(ctx, "from", None if uri is None else display, display if uri is None else uri)

    @function(_REQUEST_BRANCH)
    def uac_replace_to(self, ctx: Ctx, display: str, uri: str | None = None) -> int:
        return self._replace(ctx, "to", None if uri is None else display, display if uri is None else uri)

    def _replace(self, ctx: Ctx, key: str, display: str | None, uri: str) -> int:
        address = ctx.msg.address(key)
        if address is None:
            self.rt.log.error("uac_replace_%s: the header is missing or bad", key)
            return -1
        if any(c in "\r\n\0" for c in f"{display or ''}{uri}"):
            # it would begin a header of its own
            self.rt.log.error("uac_replace_%s: a line end in the new value", key)
            return -1
        shown = address.display if display is None else _quoted(display)
        new = uri or address.uri
        if not self._edit(ctx, key, shown, new):
            return -1
        kept = self.originals.get(key) if self.restore else None
        if kept is not None and kept.set is not None:
            kept.set(ctx, address.uri)
        if new != address.uri and self.restore and self.p.restore_dlg:
            return self._keep_in_dialog(ctx, key, address.uri, new)
        if new != address.uri and self.restore:
            rr = self.rt.module("rr")
            if rr is not None and not ctx.msg.to_tag:
                name = self.p.rr_from_store_param if key == "from" else self.p.rr_to_store_param
                rr.add_rr_param(ctx, f";{name}={mixed(address.uri, new, self.p.restore_passwd)}")
        return 1

    # -- in dialogs (restore_dlg) ----------------------------------------------------------------------------------------

    def follow_dialogs(self) -> None:
        """Raises ConfigError without module dialog."""
        dialogs = self.rt.module("dialog")
        if dialogs is None:
            raise ConfigError("uac: restore_dlg needs module dialog")
        dialogs.on_request.append(self._of_dialog)

    def _keep_in_dialog(self, ctx: Ctx, key: str, old: str, new: str) -> int:
        dialog = self.rt.module("dialog").current(ctx)
        if dialog is None:
            self.rt.log.error("uac_replace_%s: restore_dlg is set, but the request has no dialog", key)
            return -1
        names = _DIALOG_NAMES[key]
        if not ctx.msg.to_tag:
            dialog.variables[names[0]], dialog.variables[names[1]] = old, new
        return 1

    def _of_dialog(self, ctx: Ctx, dialog: Any, side: str) -> None:
        """A request of a dialog: what the caller's requests have in From, the callee's have in To."""
        for key, (old, new) in _DIALOG_NAMES.items():
            before, after = dialog.variables.get(old), dialog.variables.get(new)
            if before is None or after is None:
                continue
            upstream = side != "caller"
            header = key if not upstream else "to" if key == "from" else "from"
            address = ctx.msg.address(header)
            if address is not None:
                self._edit(ctx, header, address.display, before if upstream else after)

    def _edit(self, ctx: Ctx, key: str, display: str, uri: str) -> bool:
        """Write the header anew in the request, and let its replies have the old one."""
        header = ctx.msg.first.get(key)
        address = ctx.msg.address(key)
        if header is None or address is None:
            return False
        ctx.edits[:] = [e for e in ctx.edits if e[:2] != header[3:5]]
        value = (f"{display} " if display else "") + f"<{uri}>" + (f";{address.params}" if address.params else "")
        ctx.add_edit(header[3], header[4], f"{header[1]}: {value}\r\n")
        if self.restore:
            original = header[2]
            ctx.change_replies(key, lambda reply: restored(reply, key, original))
        return True

    # -- restoring -------------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST)
    def uac_restore_from(self, ctx: Ctx) -> int:
        return self._restore(ctx, "from", self.p.rr_from_store_param)

    @function(Routes.REQUEST)
    def uac_restore_to(self, ctx: Ctx) -> int:
        return self._restore(ctx, "to", self.p.rr_to_store_param)

    def on_route(self, ctx: Ctx, params: str) -> None:
        """A request of a dialog came by our Route: translate what was replaced when the dialog began."""
        for name in (self.p.rr_from_store_param, self.p.rr_to_store_param):
            self._translate(ctx, name, params)

    def _restore(self, ctx: Ctx, key: str, name: str) -> int:
        rr = self.rt.module("rr")
        return 1 if rr is not None and self._translate(ctx, name, rr.route_params(ctx)) else -1

    def _translate(self, ctx: Ctx, name: str, params: str) -> bool:
        """The From of the first request is the From of the caller's requests and the To of the callee's."""
        token = next((p.partition("=")[2] for p in params.split(";") if p.partition("=")[0] == name), None)
        if not token:
            return False
        upstream = self._upstream(ctx, params)
        key = "from" if (name == self.p.rr_from_store_param) != upstream else "to"
        address = ctx.msg.address(key)
        uri = other(token, address.uri, self.p.restore_passwd) if address is not None else None
        return address is not None and uri is not None and self._edit(ctx, key, address.display, uri)

    @staticmethod
    def _upstream(ctx: Ctx, params: str) -> bool:
        ftag = next((p.partition("=")[2] for p in params.split(";") if p.startswith("ftag=")), None)
        return ftag is not None and ftag != ctx.msg.from_tag


def _quoted(display: str) -> str:
    return display if not display or display.startswith('"') else '"' + display.replace("\\", "\\\\").replace('"', '\\"') + '"'
