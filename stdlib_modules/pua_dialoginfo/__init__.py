"""Module pua_dialoginfo: publishes the states of calls, for lamps of busy lines (RFC 4235).

https://www.kamailio.org/docs/modules/stable/modules/pua_dialoginfo.html. Each dialog is published for its caller and for its callee, where these are of a local
domain. Dialogs that another worker or an earlier start has left are published on, those with addresses from AVPs when ``pubruri_caller_dlg_var`` and
``pubruri_callee_dlg_var`` name variables that keep them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kamc.declare import Module
from kamc.declare.pvspec import avp_name
from kamc.declare.values import to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.dialog.model import CALLEE, CALLER, CONFIRMED, Dialog
from stdlib_modules.pua.publish import Publication, PublishError
from stdlib_modules.pua_dialoginfo.document import Party, Shown, document

#: whose publications these are, as column ``flag`` of table pua says
_FLAG: Final = 1024
_TYPE: Final = "application/dialog-info+xml"
#: seconds that watchers are told of a call that is over
_TERMINATED: Final = 10
_STATES: Final = {"created": "Trying", "started": "confirmed", "failed": "terminated", "ended": "terminated", "expired": "terminated"}


class Published(NamedTuple):
    """Whom a dialog is published for: presentities of the caller's and of the callee's side. Empty for a side that is not."""

    callers: tuple[str, ...]
    callees: tuple[str, ...]
    hide_caller: bool = False
    hide_callee: bool = False


class PuaDialoginfo(Module):
    name = "pua_dialoginfo"
    depends = ("pua", "dialog")

    class Params:
        include_callid: int = 1
        include_localremote: int = 1
        include_tags: int = 1
        include_req_uri: int = 0
        override_lifetime: int = 0
        caller_confirmed: int = 0
        callee_trying: int = 0
        send_publish_flag: int = -1
        disable_caller_publish_flag: int = -1
        disable_callee_publish_flag: int = -1
        caller_entity_when_publish_disabled: str = ""
        callee_entity_when_publish_disabled: str = ""
        use_pubruri_avps: int = 0
        pubruri_caller_avp: str = ""
        pubruri_callee_avp: str = ""
        pubruri_caller_dlg_var: str = ""
        pubruri_callee_dlg_var: str = ""
        publish_dialog_req_within: int = 1
        attribute_display: int = 0

    def mod_init(self) -> None:
        p = self.p
        #: parameter → the AVP that it names
        self.avps: dict[str, str] = {}
        if p.use_pubruri_avps:
            for name, text in (("pubruri_caller_avp", p.pubruri_caller_avp), ("pubruri_callee_avp", p.pubruri_callee_avp)):
                self.avps[name] = avp_name("pua_dialoginfo", name, text)
                if not self.avps[name]:
                    raise ConfigError(f"pua_dialoginfo: use_pubruri_avps needs {name}")
        dialogs = self.rt.module("dialog")
        dialogs.watchers.append(self.changed)
        dialogs.on_provisional.append(self.rings)
        if p.publish_dialog_req_within:
            dialogs.on_request.append(self.within)

    # -- whom ------------------------------------------------------------------------------------------------------------

    @staticmethod
    def _flag(ctx: Ctx, number: int) -> bool:
        return number >= 0 and bool(ctx.flags >> number & 1)

    def _decide(self, dialog: Dialog, ctx: Ctx) -> Published | None:
        """For a dialog that begins. None when it is not published."""
        p = self.p
        if p.send_publish_flag >= 0 and not self._flag(ctx, p.send_publish_flag):
            return None
        no_caller, no_callee = self._flag(ctx, p.disable_caller_publish_flag), self._flag(ctx, p.disable_callee_publish_flag)
        callers = () if no_caller else self._addresses(ctx, "pubruri_caller_avp", dialog.from_uri)
        callees = () if no_callee else self._addresses(ctx, "pubruri_callee_avp", self._callee(dialog))
        for name, uris in ((p.pubruri_caller_dlg_var, callers), (p.pubruri_callee_dlg_var, callees)):
            if name:
                dialog.variables[name] = " ".join(uris)
        return Published(callers, callees, no_caller, no_callee)

    def _addresses(self, ctx: Ctx, avp: str, default: str) -> tuple[str, ...]:
        if avp not in self.avps:
            return (default,)
        return tuple(to_str(value) for value in reversed(ctx.avps.get(self.avps[avp]) or []))

    def _callee(self, dialog: Dialog) -> str:
        return dialog.ruri if self.p.include_req_uri else dialog.to_uri

    def _published(self, dialog: Dialog) -> Published | None:
        """What was decided, by this worker or one before it."""
        if "pua_dialoginfo" in dialog.extra:
            known: Published | None = dialog.extra["pua_dialoginfo"]
            return known
        p = self.p
        kept = [dialog.variables.get(name) if name else None for name in (p.pubruri_caller_dlg_var, p.pubruri_callee_dlg_var)]
        if kept[0] is not None and kept[1] is not None:
            return Published(tuple(to_str(kept[0]).split()), tuple(to_str(kept[1]).split()))
        if p.use_pubruri_avps or p.send_publish_flag >= 0:
            return None
        return Published((dialog.from_uri,), (self._callee(dialog),))

    # -- what happens ----------------------------------------------------------------------------------------------------

    def changed(self, what: str, dialog: Dialog, ctx: Ctx | None) -> None:
        if what == "created" and ctx is not None:
            dialog.extra["pua_dialoginfo"] = self._decide(dialog, ctx)
        state = _STATES.get(what)
        if state is not None:
            self._tell(dialog, CALLER, state)
            if what != "created" or self.p.callee_trying:
                self._tell(dialog, CALLEE, state)

    def rings(self, dialog: Dialog, reply: SipMessage) -> None:
        """A provisional reply is on its way to the caller."""
        self._tell(dialog, CALLER, "confirmed" if self.p.caller_confirmed else "early", reply)
        self._tell(dialog, CALLEE, "early", reply)

    def within(self, ctx: Ctx, dialog: Dialog, side: str) -> None:
        if ctx.msg.method != "BYE" and dialog.state == CONFIRMED:
            self._tell(dialog, CALLER, "confirmed")
            self._tell(dialog, CALLEE, "confirmed")

    def _shown(self, dialog: Dialog, side: str, state: str, published: Published, reply: SipMessage | None) -> Shown:
        p = self.p
        caller, callee = dialog.from_uri, self._callee(dialog)
        contact = reply.address("contact") if reply is not None else None
        caller_target = caller if state == "Trying" else dialog.caller.contact or caller
        callee_target = contact.uri if contact is not None else callee
        # who does not want to be published is not named to the other side, either
        hidden = {CALLER: p.caller_entity_when_publish_disabled if published.hide_caller else "",
                  CALLEE: p.callee_entity_when_publish_disabled if published.hide_callee else ""}  # fmt: skip
        parties = {}
        for name, identity, target in ((CALLER, caller, caller_target), (CALLEE, callee, callee_target)):
            shown = hidden[name] if name != side and hidden[name] else identity
            parties[name] = Party(shown, shown if target == identity else target)
        tags = {CALLER: dialog.caller.tag, CALLEE: reply.to_tag} if reply is not None and p.include_tags else {CALLER: "", CALLEE: ""}
        other = CALLEE if side == CALLER else CALLER
        return Shown(caller if side == CALLER else callee, f"padi-{int(dialog.created):x}-{dialog.entry:x}-{dialog.id:x}", state,
                     "initiator" if side == CALLER else "recipient", dialog.call_id if p.include_callid else "", tags[side], tags[other],
                     parties[other] if p.include_localremote else None, parties[side] if p.include_localremote else None, bool(p.attribute_display))  # fmt: skip

    def _tell(self, dialog: Dialog, side: str, state: str, reply: SipMessage | None = None) -> None:
        published = self._published(dialog)
        uris = () if published is None else published.callers if side == CALLER else published.callees
        if published is None or not uris:
            return
        shown = self._shown(dialog, side, state, published, reply)
        seconds = _TERMINATED if state == "terminated" else self.p.override_lifetime or dialog.lifetime
        body = document(shown)
        for uri in uris:
            parsed = parse_uri(uri)
            if parsed is None or not self.rt.is_myself(parsed.host, 0):
                continue
            try:
                self.rt.module("pua").publish(Publication(uri, "dialog", _FLAG, f"DIALOG_PUBLISH.{shown.ident}", seconds, body, _TYPE))
            except PublishError as err:
                self.rt.log.error("pua_dialoginfo: %s", err)


module = PuaDialoginfo
