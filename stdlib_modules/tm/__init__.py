"""Module tm: transactions for scripts. The engine (:mod:`kamc.runtime.tm`) knows RFC 3261; this module knows Kamailio's functions."""

from __future__ import annotations

from typing import Any

from kamc.declare import Exit, Module, Routes, Spread, rpc
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.codes import reply_codes
from kamc.runtime.sip.methods import METHOD_IDS
from kamc.runtime.tm.params import TmParams
from kamc.runtime.tm.transaction import Transaction
from stdlib_modules.tm.contacts import ContactFunctions
from stdlib_modules.tm.external import ExternalFunctions
from stdlib_modules.tm.relay import RelayFunctions
from stdlib_modules.tm.reply import ReplyFunctions
from stdlib_modules.tm.settings import SettingFunctions
from stdlib_modules.tm.suspend import Suspension
from stdlib_modules.tm.uac_rpc import UacCommands

#: statistics that have another name here
_STATS = {"total_local": "local"}


class Tm(RelayFunctions, ReplyFunctions, SettingFunctions, ContactFunctions, UacCommands, Suspension, ExternalFunctions, Module):
    name = "tm"
    #: CANCEL and ACK are always made from the INVITE that was sent; callbacks always hear of provisional replies
    # reply_relay_mode: 0 and 1 of Kamailio 5.6.3 relay the same, forked or not, before and after a final reply
    tuning_params = ("noisy_ctimer", "exec_time_check", "reparse_invite", "pass_provisional_replies", "reply_matching", "reparse_on_dns_failover", "reply_relay_mode")
    ignored_params = (
        "contacts_avp", "contact_flows_avp", "ruri_matching", "via1_matching", "dns_reuse_rcv_socket", "event_callback", "evcb_local_ack_sent",
        "event_callback_lres_sent",
    )  # fmt: skip

    class Params(TmParams):
        default_code: int = 500
        default_reason: str = "Server Internal Error"
        on_sl_reply: str = ""
        fr_timer_avp: str = ""
        fr_inv_timer_avp: str = ""
        local_ack_mode: int = 0
        local_ack_branch_mode: int = 0
        rich_redirect: int = 0
        unix_tx_timeout: int = 500
        xavp_contact: str = ""
        enable_uac_fr: int = 0
        delayed_reply: int = 1
        blst_methods_add: int = 1
        blst_methods_lookup: int = ~METHOD_IDS["BYE"]
        failover_reply_codes: str = ""
        e2e_cancel_hop_by_hop: int = 1
        headers_mode: int = 0
        evlreq_mode: int = 0

    def mod_init(self) -> None:
        p = self.p
        fixed = {"e2e_cancel_hop_by_hop": (p.e2e_cancel_hop_by_hop, 1), "headers_mode": (p.headers_mode, 0), "evlreq_mode": (p.evlreq_mode, 0)}
        for name, (value, only) in fixed.items():
            if value != only:
                raise ConfigError(f"tm: {name} {value} is not implemented by kamc: only {only}")
        try:
            self.failover_codes = reply_codes(p.failover_reply_codes)
        except ValueError as err:
            raise ConfigError(f"tm: failover_reply_codes: {err}") from None
        self.rt.hooks.unfinished = self.unfinished
        #: variables whose value, in seconds, is a timer of a transaction
        self.timer_variables = [(name, self.rt.pv(text)) for name, text in (("fr", self.p.fr_timer_avp), ("fr_inv", self.p.fr_inv_timer_avp)) if text]
        if self.p.on_sl_reply:
            self.rt.hooks.stray_reply = self.stray_reply

    def activate(self, previous: Any) -> None:
        """The engine lives longer than a generation: it takes these parameters from now on."""
        super().activate(previous)
        self.rt.tm.params, self.rt.tm.failover_codes = self.p, self.failover_codes
        blocklist = self.rt.datapath.blocklist
        blocklist.methods_add, blocklist.methods_lookup = self.p.blst_methods_add, self.p.blst_methods_lookup

    # -- shared by the mix-ins -------------------------------------------------------------------------------------------

    def current(self, ctx: Ctx) -> Transaction | None:
        """The transaction that a run belongs to."""
        return ctx.t if ctx.t is not None and not ctx.t.deleted else None

    def stray_reply(self, ctx: Ctx) -> bool:
        """on_sl_reply: a reply of no transaction runs a route, whose result says whether it goes on."""
        name = self.p.on_sl_reply
        function = self.rt.route_function("reply", name) if name else None
        if function is None:
            return True
        ctx.kind = Routes.TM_ONREPLY
        try:
            return bool(function(ctx) != 0)
        except Exit:
            return False

    def unfinished(self, t: Transaction, ctx: Ctx) -> None:
        """At the end of a script with a transaction that nobody answered: a delayed error goes out now, else it just waits."""
        error = ctx.recall("delayed_error")
        if error is not None:
            self.rt.tm.reply(t, error[0], error[1])
            return
        t.wait(self.rt.now())

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("tm.stats", spread=Spread.SUM)
    def rpc_stats(self) -> dict[str, Any]:
        """Transaction statistics."""
        s = self.rt.tm.stats
        return {k: s[_STATS.get(k, k)] for k in (
            "current", "waiting", "total", "total_local", "rpl_received", "rpl_generated", "rpl_sent", "6xx", "5xx", "4xx", "3xx", "2xx", "created", "freed",
            "delayed_free",
        )}  # fmt: skip

    @rpc("tm.hash_stats", spread=Spread.SUM)
    def rpc_hash_stats(self) -> dict[str, Any]:
        """Transactions in the table."""
        return {"count": len(self.rt.tm.transactions())}

    @rpc("tm.list", spread=Spread.JOIN)
    def rpc_list(self) -> list[dict[str, Any]]:
        """Transactions."""
        return [{"cell": f"{id(t):#x}", "tindex": t.hash_index, "tlabel": t.label, "method": t.method, "from": f"From: {t.msg.value('from')}\r\n",
                 "to": f"To: {t.msg.value('to')}\r\n", "callid": f"Call-ID: {t.msg.call_id}\r\n", "cseq": f"CSeq: {t.msg.cseq[0]}",
                 "uas_request": "no" if t.local else "yes", "tflags": t.flags, "outgoings": len(t.branches), "ref_count": 1, "lifetime": 0}
                for t in self.rt.tm.transactions()]  # fmt: skip

    @rpc("tm.clean", spread=Spread.EVERY)
    def rpc_clean(self) -> None:
        """Delete transactions that are over."""
        for t in self.rt.tm.transactions():
            if t.status >= 200 and not any(b.client.waiting for b in t.branches):
                t.delete()


module = Tm
