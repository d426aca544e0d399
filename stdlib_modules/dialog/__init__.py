"""Module dialog: follows calls through their requests and replies. https://www.kamailio.org/docs/modules/stable/modules/dialog.html

``model`` has the states and the table, ``requests`` what the server sends itself, ``profiles``, ``variables`` and ``commands`` what scripts and
operators see. Not there: dialogs in a database (``db_mode``), replication by DMQ, CSeq tracking (``track_cseq_updates``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from kamc.declare import ANY, Routes, function, modparam
from kamc.declare.values import Value, to_int
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Ctx
from kamc.runtime.net.steer import MOST_WORKERS
from kamc.runtime.sip.addr import NameAddr, parse_addr_list
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.tm.transaction import Transaction
from stdlib_modules.dialog.commands import Commands
from stdlib_modules.dialog.cseq import CseqTracking
from stdlib_modules.dialog.database import AT_END, DatabaseFunctions
from stdlib_modules.dialog.elsewhere import Elsewhere
from stdlib_modules.dialog.life import Watcher
from stdlib_modules.dialog.model import (
    ANSWERED,
    CALLEE,
    CALLER,
    CONFIRMED,
    DELETED,
    EARLY,
    KEEPALIVE_CALLEE,
    KEEPALIVE_CALLER,
    NO_RESET,
    TIMEOUT_BYE,
    UNCONFIRMED,
    Dialog,
    DialogTable,
    Leg,
    parse_did,
)
from stdlib_modules.dialog.variables import VariableFunctions, apply_settings

_DID_ONLY, _DID_NONE = 0, 2
_PROPERTIES: Final = {"ka-src": KEEPALIVE_CALLER, "ka-dst": KEEPALIVE_CALLEE, "timeout-noreset": NO_RESET, "timeout-bye": TIMEOUT_BYE}


class DialogModule(Elsewhere, Commands, VariableFunctions, CseqTracking, DatabaseFunctions):
    name = "dialog"
    kept = ("table", "remote", "sizes_of_peers")
    between_servers = ("follow_member", "follow_members")
    depends = ("tm", "rr")
    stats = {"dialog": ("active_dialogs", "early_dialogs", "processed_dialogs", "expired_dialogs", "failed_dialogs")}
    tuning_params = ("enable_stats", "timer_procs", "db_fetch_rows", "wait_ack", "initial_cbs_inscript", "dlg_ctxiuid_mode", "dlg_mode")
    ignored_params = (
        "h_id_step", "dmq_peer_id", "enable_dmq_ka_iflags_sync", "debug_variables", "bye_early_code", "bye_early_reason", "dlg_filter_mode",
        "keep_proxy_rr", "ruri_pvar",
    )  # fmt: skip

    class Params:
        hash_size: int = 4096
        rr_param: str = "did"
        timeout_avp: str = ""
        default_timeout: int = 43200
        dlg_extra_hdrs: str = ""
        dlg_flag: int = -1
        dlg_match_mode: int = 0
        detect_spirals: int = 1
        db_mode: int = 0
        db_url: str = "mysql://kamailio:kamailiorw@localhost/kamailio"
        db_update_period: int = 60
        db_skip_load: int = 0
        table_name: str = "dialog"
        call_id_column: str = "callid"
        from_uri_column: str = "from_uri"
        from_tag_column: str = "from_tag"
        to_uri_column: str = "to_uri"
        to_tag_column: str = "to_tag"
        h_id_column: str = "hash_id"
        h_entry_column: str = "hash_entry"
        state_column: str = "state"
        start_time_column: str = "start_time"
        timeout_column: str = "timeout"
        to_cseq_column: str = "callee_cseq"
        from_cseq_column: str = "caller_cseq"
        to_route_column: str = "callee_route_set"
        from_route_column: str = "caller_route_set"
        to_contact_column: str = "callee_contact"
        from_contact_column: str = "caller_contact"
        to_sock_column: str = "callee_sock"
        from_sock_column: str = "caller_sock"
        sflags_column: str = "sflags"
        toroute_name_column: str = "toroute_name"
        vars_table_name: str = "dialog_vars"
        vars_h_id_column: str = "hash_id"
        vars_h_entry_column: str = "hash_entry"
        vars_key_column: str = "dialog_key"
        vars_value_column: str = "dialog_value"
        profiles_with_value: str = ""
        profiles_no_value: str = ""
        bridge_controller: str = "sip:controller@kamailio.org"
        bridge_contact: str = "sip:controller@kamailio.org:5060"
        send_bye: int = 0
        ka_timer: int = 0
        ka_interval: int = 0
        ka_failed_limit: int = 1
        timeout_noreset: int = 0
        track_cseq_updates: int = 0
        lreq_callee_headers: str = ""
        enable_dmq: int = 0
        early_timeout: int = 300
        noack_timeout: int = 60
        end_timeout: int = 300
        h_id_start: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.on_request: list[Callable[[Ctx, Dialog, str], None]] = []
        self.on_provisional: list[Callable[[Dialog, SipMessage], None]] = []

    # -- start -----------------------------------------------------------------------------------------------------------

    def mod_init(self) -> None:
        p = self.p
        if p.enable_dmq:
            raise ConfigError("dialog: enable_dmq is not implemented by kamc: only 0")
        if not 0 <= p.db_mode <= AT_END:
            raise ConfigError("dialog: db_mode is 0 (none), 1 (at once), 2 (by the timer) or 3 (at the end)")
        if not 0 <= p.dlg_match_mode <= 2:
            raise ConfigError(f"dialog: dlg_match_mode is 0, 1 or 2, not {p.dlg_match_mode}")
        if p.default_timeout <= 0:
            raise ConfigError("dialog: default_timeout is a number of seconds above 0")
        self.table = DialogTable(1 << max(0, p.hash_size - 1).bit_length(), p.h_id_start or self.rt.datapath.random_id() & 0x1FFF,
                                 **({} if self.rt.worker.peers is None else {"step": MOST_WORKERS, "own": self.rt.worker.index}))  # fmt: skip
        self.timeout_avp: Callable[[Ctx], Value] | None = self.rt.pv(p.timeout_avp) if p.timeout_avp else None
        self.watchers: list[Watcher] = []
        self.start_profiles()
        self.rt.module("rr").on_route.append(self.on_route)
        self.rt.hooks.transactions.append(self.watch)
        self.rt.hooks.post_script.append(self.after_script)
        self.rt.every(10.0, self.clean)
        if p.ka_timer > 0 and p.ka_interval > 0:
            self.rt.every(float(p.ka_timer), self.ask_who_is_there)
        self.on_request.append(self.follow_cseq)
        self.start_database()

    def activate(self, previous: Any) -> None:
        """Dialogs go on; what happens at the end of their time is this generation's business."""
        super().activate(previous)
        if previous is None:
            return
        for dialog in self.table:
            timer = dialog.timer
            if timer is not None and timer.callback is not None:
                self.rt.timers.disarm(timer)
                dialog.timer = self.rt.timers.arm(timer.at, partial(self.timer_fired, dialog))
        if self.database is not None:
            self.database.take_over(self.table, previous.database)

    def child_init(self) -> None:
        if self.rt.previous is None and not self.rt.beginning:
            self.show_members()
            self.rt.tell_peers("dialog", "show_members")

    @modparam("bridge_controller")
    def set_controller(self, text: str) -> None:
        if not text.startswith(("sip:", "sips:")):
            raise ValueError(f"{text!r} is no SIP URI")
        self.p.bridge_controller = text

    # -- beginning -------------------------------------------------------------------------------------------------------

    def create(self, ctx: Ctx) -> Dialog | None:
        """A dialog for an initial INVITE. None for any other request, and when the call is followed already."""
        msg = ctx.msg
        if msg.method != "INVITE" or msg.to_tag or msg.from_ is None or msg.to is None or ctx.recall("dialog") is not None:
            return None
        if self.p.detect_spirals:
            known = self.table.find(msg.call_id, msg.from_tag, "")
            if known is not None and known[0].state != DELETED:
                ctx.remember("dialog", known[0])
                return None
        entry, ident = self.table.next_id(msg.call_id)
        dialog = Dialog(entry, ident, msg.call_id, msg.from_.uri, msg.to.uri, ctx.ruri, self.p.default_timeout, self.rt.wall_time())
        contact = msg.address("contact")
        dialog.caller = Leg(msg.from_tag, contact.uri if contact is not None else "", msg.cseq[0], _record_routes(msg), ctx.flow.listener)
        apply_settings(dialog, ctx.recall("dlg_ctx"), bool(self.p.send_bye))
        dialog.variables.update(ctx.recall("dialog_variables", {}))
        for profile, value in ctx.recall("dialog_profiles", ()):
            self.join(dialog, profile, value)
        self.table.add(dialog)
        ctx.remember("dialog", dialog)
        if ctx.t is not None:
            ctx.t.extra["dialog"] = dialog
        self.rt.module("rr").add_rr_param(ctx, f";{self.p.rr_param}={dialog.did}")
        self.rt.counters.add("dialog", "processed_dialogs")
        self.tell("created", dialog, ctx)
        return dialog

    def after_script(self, ctx: Ctx) -> None:
        """A dialog whose INVITE got no transaction comes to nothing."""
        if ctx.extra is None or ctx.t is not None:
            return
        dialog: Dialog | None = ctx.extra.get("dialog")
        if dialog is not None and dialog.state == UNCONFIRMED and not ctx.msg.to_tag:
            dialog.state = DELETED
            self.leave_all(dialog)
            self.table.remove(dialog)

    def watch(self, event: str, t: Transaction, what: Any) -> None:
        """What tm tells."""
        if event == "created":
            dialog = what.recall("dialog")
            if dialog is None and self.p.dlg_flag >= 0 and what.flags >> self.p.dlg_flag & 1:
                dialog = self.create(what)
            if dialog is not None:
                t.extra["dialog"] = dialog
        elif event == "relayed":
            if "dialog" in t.extra:
                t.request_ctx.remember("dialog_relayed", True)
        elif event == "final" and t.is_invite and "dialog" in t.extra:
            dialog = t.extra["dialog"]
            if dialog.state < ANSWERED:
                self._replied(dialog, t, *what)

    def _replied(self, dialog: Dialog, t: Transaction, code: int, text: str) -> None:
        """A reply to the INVITE that began the dialog went upstream."""
        if code < 200:
            # a provisional reply of our own is none of the callee
            if code > 100 and t.branches:
                self.provisional(dialog, text)
            return
        try:
            ctx = Ctx(self.rt, parse_message(text), t.flow, Routes.EVENT)
        except SipError:
            return
        ctx.remember("dialog", dialog)
        ctx.avps, ctx.xavps = t.avps, t.xavps
        if code >= 300:
            self.end(dialog, ctx, "failed")
            return
        self.move(dialog, ANSWERED)
        self.tell("started", dialog, ctx)
        self.rt.run_event("dialog:start", ctx)
        dialog.callee = self._callee(t, ctx.msg)
        seconds = self._timeout_of(t.avps)
        if seconds:
            dialog.lifetime = seconds
        self.arm(dialog)

    def _callee(self, t: Transaction, reply: SipMessage) -> Leg:
        contact = reply.address("contact")
        socket = t.branches[t.relayed_branch].dest.listener if 0 <= t.relayed_branch < len(t.branches) else t.flow.listener
        # the proxies behind us stand above our own Record-Route, the farthest one first
        routes: list[NameAddr] = []
        for header in reply.all("record-route"):
            routes += parse_addr_list(header[2]) or []
        own = next((i for i, r in enumerate(routes) if r.parsed is not None and self.rt.is_myself(r.parsed.host, r.parsed.port_number)), len(routes))
        return Leg(reply.to_tag, contact.uri if contact is not None else "", 0, [f"<{r.uri}>" for r in reversed(routes[:own])], socket)

    def _timeout_of(self, avps: dict[str, list[Any]]) -> int:
        """Seconds that timeout_avp asks for, 0 when it asks for nothing."""
        if self.timeout_avp is None:
            return 0
        fake = self.rt.worker.fake_context()
        fake.avps = avps
        value = self.timeout_avp(fake)
        return max(0, to_int(value)) if value is not None else 0

    # -- time ------------------------------------------------------------------------------------------------------------

    def timed_out(self, dialog: Dialog) -> None:
        if dialog.state not in (ANSWERED, CONFIRMED):
            return
        route = self.rt.route_function("request", dialog.timeout_route) if dialog.timeout_route else None
        if route is not None:
            ctx = self.rt.worker.fake_context(Routes.REQUEST)
            ctx.remember("dialog", dialog)
            self.rt.datapath.run(route, ctx)
            if dialog.state == DELETED:
                return
        if dialog.iflags & TIMEOUT_BYE:
            self.send_bye(dialog, (CALLEE, CALLER))
        self.end(dialog, None, "expired")

    def clean(self) -> None:
        """What nobody ends: INVITEs without a final reply, answers without an ACK."""
        now, p = self.rt.wall_time(), self.p
        for dialog in self.table:
            if dialog.state in (UNCONFIRMED, EARLY) and now - dialog.created > p.early_timeout:
                self.end(dialog, None, "failed")
            elif dialog.state == ANSWERED and now - dialog.started > p.noack_timeout:
                self.end(dialog, None, "expired")
            elif dialog.state == DELETED and now - dialog.ended > p.end_timeout:
                self.table.remove(dialog)
        self.forget_remote(now)

    # -- requests of a dialog --------------------------------------------------------------------------------------------

    def on_route(self, ctx: Ctx, params: str) -> None:
        """A request came by our Route."""
        if not ctx.msg.to_tag:
            return
        match = re.search(rf"(?:^|;){re.escape(self.p.rr_param)}=([^;]*)", params) if self.p.dlg_match_mode != _DID_NONE else None
        if match is None and self.p.dlg_match_mode == _DID_ONLY:
            return
        self._request(ctx, match[1] if match is not None else "")

    def _find(self, ctx: Ctx, did: str) -> tuple[Dialog, str] | None:
        msg = ctx.msg
        if did:
            key = parse_did(did)
            dialog = self.table.by_id.get(key) if key is not None else None
            side = dialog.side_of(msg.from_tag, msg.to_tag) if dialog is not None and dialog.call_id == msg.call_id else None
            if dialog is not None and side is not None:
                return dialog, side
            if dialog is not None:
                self.rt.log.warning("dialog: %s with did %s has Call-ID %s and tags %s %s, which are not its own", msg.method, did, msg.call_id, msg.from_tag, msg.to_tag)
            if self.p.dlg_match_mode == _DID_ONLY:
                return None
        return self.table.find(msg.call_id, msg.from_tag, msg.to_tag)

    def _request(self, ctx: Ctx, did: str) -> int:
        """Note what a request means for its dialog. 1 when it has one."""
        found = self._find(ctx, did)
        if found is None:
            return -1
        dialog, side = found
        msg = ctx.msg
        for key, value in (("dialog", dialog), ("dialog_in", dialog), ("dialog_side", side)):
            ctx.remember(key, value)
        for told in self.on_request:
            told(ctx, dialog, side)
        if msg.method == "ACK":
            if dialog.state == ANSWERED:
                self.move(dialog, CONFIRMED)
                self.tell("confirmed", dialog, ctx)
            return 1
        leg = dialog.leg(side)
        if leg is not None:
            leg.cseq = max(leg.cseq, msg.cseq[0])
        if msg.method == "BYE":
            if dialog.state in (ANSWERED, CONFIRMED):
                dialog.dflags |= 4
                self.end(dialog, ctx, "end")
            return 1
        if dialog.state in (ANSWERED, CONFIRMED):
            seconds = self._timeout_of(ctx.avps)
            if seconds:
                dialog.lifetime = seconds
            if not self.p.timeout_noreset and not dialog.iflags & NO_RESET:
                self.arm(dialog)
        return 1

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(Routes.REQUEST)
    def dlg_manage(self, ctx: Ctx) -> int:
        """Begin a dialog with an INVITE, or note a request of one."""
        if ctx.msg.to_tag:
            return self._request(ctx, "") if ctx.recall("dialog_in") is None else 1
        return 1 if self.create(ctx) is not None else -1

    @function(ANY)
    def is_known_dlg(self, ctx: Ctx) -> int:
        return 1 if self.current(ctx) is not None else -1

    @function(ANY, waits=True)
    def dlg_get(self, ctx: Ctx, callid: str, ftag: str, ttag: str) -> int:
        """Make another dialog the one that functions and variables mean."""
        found = self.table.find(callid, ftag, ttag)
        dialog = found[0] if found is not None else self.copy_of(callid, ftag, ttag)
        if dialog is None:
            return -1
        ctx.remember("dialog", dialog)
        return 1

    @function(ANY)
    def dlg_set_state(self, ctx: Ctx, newstate: str) -> int:
        """u unconfirmed, e early, a answered, c confirmed, d deleted."""
        dialog = self.current(ctx)
        state = {"u": UNCONFIRMED, "e": EARLY, "a": ANSWERED, "c": CONFIRMED, "d": DELETED}.get(newstate[:1])
        if dialog is None or state is None:
            return -1
        self.move(dialog, state)
        return 1

    def _flag(self, ctx: Ctx, flag: int) -> Dialog | None:
        return self.current(ctx) if 0 <= flag < 32 else None

    @function(ANY)
    def dlg_setflag(self, ctx: Ctx, flag: int) -> int:
        dialog = self._flag(ctx, flag)
        if dialog is None:
            return -1
        dialog.sflags |= 1 << flag
        self.share(dialog)
        return 1

    @function(ANY)
    def dlg_resetflag(self, ctx: Ctx, flag: int) -> int:
        dialog = self._flag(ctx, flag)
        if dialog is None:
            return -1
        dialog.sflags &= ~(1 << flag)
        self.share(dialog)
        return 1

    @function(ANY)
    def dlg_isflagset(self, ctx: Ctx, flag: int) -> int:
        dialog = self._flag(ctx, flag)
        return 1 if dialog is not None and dialog.sflags >> flag & 1 else -1

    @function(ANY, "dlg_set_timeout")
    def dlg_set_timeout(self, ctx: Ctx, timeout: int) -> int:
        dialog = self.current(ctx)
        if dialog is None or timeout <= 0:
            return -1
        self.set_lifetime(dialog, timeout)
        return 1

    @function(ANY, "dlg_set_timeout")
    def dlg_set_timeout_of(self, ctx: Ctx, timeout: int, h_entry: int, h_id: int) -> int:
        dialog = self.table.by_id.get((h_entry, h_id))
        if dialog is None or timeout <= 0:
            return -1
        self.set_lifetime(dialog, timeout)
        return 1

    def _property(self, ctx: Ctx, attr: str) -> tuple[Dialog, int] | None:
        dialog, flag = self.current(ctx), _PROPERTIES.get(attr)
        if flag is None:
            self.rt.log.error("dialog: the property is one of %s, not %r", ", ".join(_PROPERTIES), attr)
        return (dialog, flag) if dialog is not None and flag is not None else None

    @function(ANY)
    def dlg_set_property(self, ctx: Ctx, attr: str) -> int:
        found = self._property(ctx, attr)
        if found is None:
            return -1
        found[0].iflags |= found[1]
        self.share(found[0])
        return 1

    @function(ANY)
    def dlg_reset_property(self, ctx: Ctx, attr: str) -> int:
        found = self._property(ctx, attr)
        if found is None:
            return -1
        found[0].iflags &= ~found[1]
        self.share(found[0])
        return 1

    def _sender(self, ctx: Ctx) -> Leg | None:
        dialog = self.current(ctx)
        side = dialog.side_of(ctx.msg.from_tag, ctx.msg.to_tag) if dialog is not None else None
        return dialog.leg(side) if dialog is not None and side is not None else None

    @function(ANY)
    def dlg_set_ruri(self, ctx: Ctx) -> int:
        """The Contact of the side that a request goes to becomes its R-URI."""
        dialog = self.current(ctx)
        side = dialog.side_of(ctx.msg.from_tag, ctx.msg.to_tag) if dialog is not None else None
        leg = dialog.leg(CALLEE if side == CALLER else CALLER) if dialog is not None and side is not None else None
        if leg is None or not leg.contact:
            return -1
        ctx.ruri, ctx.ruri_used = leg.contact, False
        return 1

    @function(ANY)
    def dlg_update_contact(self, ctx: Ctx) -> int:
        """The Contact of this request is where its sender is from now on."""
        leg, contact = self._sender(ctx), ctx.msg.address("contact")
        if leg is None or contact is None:
            return -1
        leg.contact = contact.uri
        return 1

    @function(ANY)
    def dlg_update_socket(self, ctx: Ctx) -> int:
        """The socket that this request came by is the one to reach its sender from."""
        leg = self._sender(ctx)
        if leg is None:
            return -1
        leg.socket = ctx.flow.listener
        return 1


def _record_routes(msg: SipMessage) -> list[str]:
    """Record-Route values of a request in order: the way back to its sender."""
    out: list[str] = []
    for header in msg.all("record-route"):
        out += [f"<{a.uri}>" for a in parse_addr_list(header[2]) or []]
    return out


module = DialogModule
