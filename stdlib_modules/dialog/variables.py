"""What a script sees and sets of dialogs: ``$dlg_var``, ``$dlg_ctx``, ``$dlg``, ``$DLG_*``."""

from __future__ import annotations

from collections.abc import Callable

from kamc.declare import ANY, function, pv, pv_class
from kamc.declare.argtypes import PvArg
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int, to_str
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv, inner_name
from stdlib_modules.dialog.life import Life
from stdlib_modules.dialog.model import CALLEE, TIMEOUT_BYE, Dialog, Leg


def _text(value: str) -> Value:
    return value or None


def _socket(leg: Leg | None) -> Value:
    return str(leg.socket) if leg is not None and leg.socket is not None else None


_FIELDS: dict[str, Callable[[Dialog], Value]] = {
    "ref": lambda d: 2, "h_id": lambda d: d.id, "h_entry": lambda d: d.entry, "state": lambda d: d.state, "dflags": lambda d: d.dflags, "sflags": lambda d: d.sflags,
    "callid": lambda d: d.call_id, "to_uri": lambda d: d.to_uri, "from_uri": lambda d: d.from_uri, "lifetime": lambda d: d.lifetime,
    "start_ts": lambda d: int(d.started), "toroute": lambda d: int(bool(d.timeout_route)), "from_tag": lambda d: _text(d.caller.tag),
    "from_cseq": lambda d: str(d.caller.cseq), "from_contact": lambda d: _text(d.caller.contact), "from_bindaddr": lambda d: _socket(d.caller),
    "from_rs": lambda d: _text(", ".join(d.caller.routes)), "to_tag": lambda d: _text(d.callee.tag) if d.callee else None,
    "to_cseq": lambda d: str(d.callee.cseq) if d.callee else None, "to_contact": lambda d: _text(d.callee.contact) if d.callee else None,
    "to_bindaddr": lambda d: _socket(d.callee), "to_rs": lambda d: _text(", ".join(d.callee.routes)) if d.callee else None,
}  # fmt: skip
_CTX_NAMES = ("on", "set", "dir", "timeout", "timeout_bye", "timeout_route", "timeout_route_id")


class Settings:
    """``$dlg_ctx`` of a message: what the dialog that it may begin is made with."""

    __slots__ = ("on", "timeout", "timeout_bye", "timeout_route")

    def __init__(self) -> None:
        self.on = self.timeout = self.timeout_bye = 0
        self.timeout_route = ""


class VariableFunctions(Life):

    @staticmethod
    def settings(ctx: Ctx) -> Settings:
        found: Settings | None = ctx.recall("dlg_ctx")
        if found is None:
            found = Settings()
            ctx.remember("dlg_ctx", found)
        return found

    # -- $dlg_var --------------------------------------------------------------------------------------------------------

    @pv_class("dlg_var", set=True)
    def pv_dlg_var(self, spec: PvSpec) -> BoundPv:
        """A variable of the dialog. Before there is one it waits in the message for it."""
        literal, dynamic = inner_name(self.rt, spec.inner or "")

        def name(ctx: Ctx) -> str:
            return literal if dynamic is None else to_str(dynamic(ctx))

        def get(ctx: Ctx) -> Value:
            dialog = self.current(ctx)
            variables = dialog.variables if dialog is not None else ctx.recall("dialog_variables", {})
            value: Value = variables.get(name(ctx))
            return value

        def put(ctx: Ctx, value: Value) -> None:
            dialog = self.current(ctx)
            if dialog is None:
                variables = dict(ctx.recall("dialog_variables", {}))
                ctx.remember("dialog_variables", variables)
            else:
                variables = dialog.variables
                dialog.dflags |= 128
            if value is None:
                variables.pop(name(ctx), None)
            else:
                variables[name(ctx)] = to_str(value)
            if dialog is not None:
                self.share(dialog)

        return BoundPv(get, put)

    def _by_names(self, callid: str, ftag: str, ttag: str) -> Dialog | None:
        found = self.table.find(callid, ftag, ttag)
        return found[0] if found is not None else self.copy_of(callid, ftag, ttag)

    @function(ANY, waits=True)
    def dlg_get_var(self, ctx: Ctx, callid: str, ftag: str, ttag: str, name: str, dst: PvArg) -> int:
        """A variable of another dialog."""
        dialog = self._by_names(callid, ftag, ttag)
        if dialog is None or dst.set is None or name not in dialog.variables:
            return -1
        dst.set(ctx, dialog.variables[name])
        return 1

    @function(ANY, waits=True)
    def dlg_set_var(self, ctx: Ctx, callid: str, ftag: str, ttag: str, name: str, value: str) -> int:
        dialog = self._by_names(callid, ftag, ttag)
        if dialog is None:
            return -1
        dialog.variables[name] = value
        self.share(dialog)
        return 1

    # -- $dlg_ctx --------------------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_dlg_ctx(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _CTX_NAMES else f"the name is one of {', '.join(_CTX_NAMES)}"

    @pv_class("dlg_ctx", set=True)
    def pv_dlg_ctx(self, spec: PvSpec) -> BoundPv:
        key = spec.inner or ""
        if key == "set":
            return BoundPv(lambda ctx: int(ctx.recall("dialog") is not None or (ctx.t is not None and "dialog" in ctx.t.extra)))
        if key == "dir":
            return BoundPv(lambda ctx: 2 if ctx.recall("dialog_side") == CALLEE else 1 if ctx.recall("dialog_relayed") else 0)
        if key == "timeout_route_id":
            return BoundPv(lambda ctx: int(bool(self.settings(ctx).timeout_route)))

        def get(ctx: Ctx) -> Value:
            value: Value = getattr(self.settings(ctx), key)
            return value if key != "timeout_route" else value or None

        def put(ctx: Ctx, value: Value) -> None:
            if key == "timeout_route":
                self._timeout_route(self.settings(ctx), "" if value is None else to_str(value))
            else:
                setattr(self.settings(ctx), key, 0 if value is None else to_int(value))

        return BoundPv(get, put)

    def _timeout_route(self, settings: Settings, name: str) -> None:
        if name and self.rt.route_function("request", name) is None:
            self.rt.log.error("$dlg_ctx(timeout_route): there is no route[%s]", name)
            return
        settings.timeout_route = name

    # -- $dlg, $DLG_* ----------------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_dlg(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _FIELDS else f"the name is one of {', '.join(sorted(_FIELDS))}"

    @pv_class("dlg")
    def pv_dlg(self, spec: PvSpec) -> BoundPv:
        read = _FIELDS[spec.inner or ""]

        def get(ctx: Ctx) -> Value:
            dialog = self.current(ctx)
            return read(dialog) if dialog is not None else None

        return BoundPv(get)

    @pv("DLG_count")
    def pv_count(self, ctx: Ctx) -> int:
        """Dialogs that are answered and not over."""
        return int(self.rt.counters.values.get(("dialog", "active_dialogs"), 0))

    @pv("DLG_status")
    def pv_status(self, ctx: Ctx) -> int | None:
        """The state of the dialog that the request was found to belong to."""
        dialog: Dialog | None = ctx.recall("dialog_in")
        return dialog.state if dialog is not None else None

    @pv("DLG_lifetime")
    def pv_lifetime(self, ctx: Ctx) -> int | None:
        """Seconds since the answer."""
        dialog: Dialog | None = ctx.recall("dialog_in")
        if dialog is None:
            return None
        return int((dialog.ended or self.rt.wall_time()) - dialog.started) if dialog.started else 0


def apply_settings(dialog: Dialog, settings: Settings | None, default_bye: bool) -> None:
    """What ``$dlg_ctx`` says about a dialog that begins."""
    if default_bye or (settings is not None and settings.timeout_bye):
        dialog.iflags |= TIMEOUT_BYE
    if settings is None:
        return
    if settings.timeout > 0:
        dialog.lifetime = settings.timeout
    dialog.timeout_route = settings.timeout_route
