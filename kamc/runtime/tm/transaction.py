"""One transaction of a proxy: a server side, client branches, and the choice of the reply that goes upstream.

RFC 3261 section 16.7 (response processing), 16.8 (timer C), 9.2 (CANCEL); Kamailio's tm where it decides differently. Above the four
machines of :mod:`.uac` and :mod:`.uas` this is the fifth: it forks, waits for final replies, picks the best, runs the script's hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kamc.declare.routes import Routes
from kamc.runtime.context import Ctx
from kamc.runtime.net.dns.blocklist import Reason
from kamc.runtime.net.endpoint import Dest, Flow
from kamc.runtime.sip.build import build_forwarded_reply, build_hop_request
from kamc.runtime.sip.edits import Edit
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.tm.branch import ClientBranch
from kamc.runtime.tm.timers import Timer
from kamc.runtime.tm.uas import InviteServer, ServerTransaction

if TYPE_CHECKING:
    from kamc.runtime.tm.engine import TmEngine

class Transaction:
    """See the module. Created by ``t_newtran`` or ``t_relay``; deleted ``wt_timer`` after its final reply."""

    def __init__(self, engine: TmEngine, ctx: Ctx, keys: tuple[Any, ...], ident: tuple[int, int]) -> None:
        rt = ctx.rt
        params = engine.params
        self.engine, self.rt, self.keys = engine, rt, keys
        self.hash_index, self.label = ident
        self.tid = f"{engine.branch_prefix}{self.hash_index:x}.{self.label:x}"
        self.msg = ctx.msg
        self.flow: Flow = ctx.flow
        self.method = ctx.msg.method
        self.is_invite = self.method == "INVITE"
        self.avps, self.xavps = ctx.avps, ctx.xavps
        self.flags, self.xflags = ctx.flags, ctx.xflags
        self.request_ctx = ctx
        self.edits = ctx.edits
        self.branches: list[ClientBranch] = []
        #: branches of earlier rounds, forgotten by failure_reply_mode
        self.first_live = 0
        self.hooks: dict[str, str] = {}
        self.status = 0
        self.reply_text = ""
        self.reply_dest: Dest | None = None
        self.to_tag = ""
        self.canceled = False
        self.cancel_extra = ""
        self.relayed_branch = -1
        self.local = False
        self.suspended = False
        #: what came while a route of this transaction waits, to be done when it has ended; None when none waits
        self.busy: list[Callable[[], None]] | None = None
        self.waiting_timer: Timer | None = None
        self.life_timer: Timer | None = None
        self.deleted = False
        self.fr = params.fr_timer / 1000
        self.fr_inv = params.fr_inv_timer / 1000
        self.retr_t1 = params.retr_timer1 / 1000
        self.retr_t2 = params.retr_timer2 / 1000
        self.max_life = (params.max_inv_lifetime if self.is_invite else params.max_noninv_lifetime) / 1000
        self.disable_6xx = bool(params.disable_6xx_block)
        self.auto_inv_100 = bool(params.auto_inv_100)
        self.no_internal_reply = False
        #: of t_set_disable_failover
        self.no_failover = False
        self.released = False
        self.extra: dict[str, Any] = {}
        server = InviteServer if self.is_invite else ServerTransaction
        self.server: ServerTransaction = server(self, engine.timers, self.retr_t2)
        rt.program_pin()

    # -- effects of the server machine -----------------------------------------------------------------------------------

    def repeat_reply(self) -> None:
        if self.reply_text and self.reply_dest is not None:
            self.engine.host.send(self.reply_dest, self.reply_text)

    # -- sending upstream ------------------------------------------------------------------------------------------------

    def send_upstream(self, code: int, text: str, now: float, *, via: SipMessage | None = None) -> None:
        """Send a reply to the client side and let the server machine repeat it."""
        if self.local:
            self.status = max(self.status, code)
            self.engine.local_reply(self, code, via)
            if code >= 200:
                self.wait(now)
            return
        if self.reply_dest is None:
            self.reply_dest = self.engine.host.reply_dest(self.request_ctx)
        self.reply_text = text
        self.status = code
        self.engine.host.send(self.reply_dest, text, reply_ctx=self.request_ctx)
        self.server.replied(now, code, self.retr_t1, reliable=self.reply_dest.proto != "udp")
        if self.engine.hooks.transactions:
            self.engine.notify("final", self, (code, text))
        if code >= 200:
            self.wait(now)

    # -- life ------------------------------------------------------------------------------------------------------------

    def wait(self, now: float) -> None:
        """The final reply is out: keep the transaction for retransmissions, then delete it (wt_timer)."""
        if self.waiting_timer is None:
            self.engine.stats["waiting"] += 1
            self.waiting_timer = self.engine.timers.arm(now + self.engine.params.wt_timer / 1000, self._wait_over)

    def _wait_over(self, now: float) -> None:
        if self.busy is not None:
            # a route of it is still to go on
            self.waiting_timer = self.engine.timers.arm(now + 1.0, self._wait_over)
            return
        for branch in self.branches:
            if branch.client.waiting and branch.index >= 0:
                # a cancelled branch that still owes its final reply is ended by its own timer
                self.waiting_timer = self.engine.timers.arm(now + 1.0, self._wait_over)
                return
        self.delete()

    def delete(self) -> None:
        if self.deleted:
            return
        self.deleted = True
        for branch in self.branches:
            branch.release()
        self.server.stop()
        if self.waiting_timer is not None:
            self.engine.stats["waiting"] -= 1
            self.engine.timers.disarm(self.waiting_timer)
        self.engine.timers.disarm(self.life_timer)
        self.engine.forget(self)
        self.rt.program_unpin()
        # no circle may outlive it: thousands a second would wait for the garbage collector
        self.branches = []
        self.extra.clear()
        if self.request_ctx.finished:
            self.request_ctx.t = None

    # -- branches --------------------------------------------------------------------------------------------------------

    @property
    def live(self) -> list[ClientBranch]:
        return self.branches[self.first_live :]

    def start_branch(self, branch: ClientBranch, now: float) -> bool:
        """First transmission and timers. The final-response timer of an INVITE is fr_timer until something comes.
        False when it could not be sent: the branch is over then."""
        if not self.engine.host.send(branch.dest, branch.request):
            branch.client.stop()
            branch.faked, branch.status = True, 477
            return False
        branch.client.start(now, self.retr_t1, self.fr, reliable=branch.dest.proto != "udp")
        return True

    def cancel_branches(self, now: float, extra: str = "", *, requested: bool = False, cause: int = 0) -> None:
        """CANCEL every branch that still waits for a final reply. Without a request from outside the Reason says why (RFC 3326): the final
        reply that went upstream, or the ``cause`` that will."""
        cause = cause or self.status
        if not requested and self.engine.params.local_cancel_reason and 200 <= cause < 700:
            text = ';text="Call completed elsewhere"' if cause < 300 else ""
            extra = f"Reason: SIP;cause={cause}{text}\r\n"
        for branch in list(self.live):
            if branch.copy:
                branch.client.stop_retransmitting()
            else:
                branch.send_cancel(now, extra)

    def branch_timed_out(self, branch: ClientBranch, now: float) -> None:
        """fr_timer or fr_inv_timer: the branch has failed with a 408 of our own (487 once cancelled)."""
        if self.busy is not None:
            self.busy.append(lambda: self.branch_timed_out(branch, now))
            return
        if branch.status >= 200:
            return
        if self.is_invite and branch.status > 0 and not branch.cancel:
            branch.send_cancel(now)
        branch.client.stop()
        self.fail_branch(branch, 487 if self.canceled and self.is_invite else self.engine.params.reply_408_code, now)

    def fail_over(self, branch: ClientBranch, now: float) -> bool:
        """Go on with the next address of the name that a branch was sent to. False when there is none."""
        if branch.rest is None or self.no_failover or self.canceled or self.status >= 200 or branch.copy:
            return False
        for dest in branch.rest:
            other = self.engine.next_address(self, branch, dest)
            if other is not None and self.start_branch(other, now):
                return True
        return False

    def fail_branch(self, branch: ClientBranch, code: int, now: float) -> None:
        """A final reply of our own for a branch."""
        branch.faked = True
        branch.reply = None
        silent = branch.status == 0
        branch.status = code
        if silent and not branch.local and code in (477, self.engine.params.reply_408_code):
            if code != 477:
                self.engine.host.blocklist.failed(branch.dest.key, self.method, Reason.TIMEOUT)
            self.fail_over(branch, now)
        self.final_on_branch(branch, code, now)

    # -- replies from below ----------------------------------------------------------------------------------------------

    def receive(self, branch: ClientBranch, msg: SipMessage, flow: Flow, ctx: Ctx, now: float) -> None:
        """A reply to the request of a branch. ``ctx`` has been through the core reply route."""
        code = msg.status
        client = branch.client
        if self.local:
            self.extra["reply_flow"] = flow
        if not client.waiting:
            self._late(branch, msg, ctx, now)
            return
        previous = branch.status
        if code >= 200:
            client.final(now, code)
            if self.is_invite and code >= 300:
                self.send_ack(branch, msg)
        else:
            client.provisional(now)
        if not self._run_reply_route(branch, ctx) and code < 200:
            return
        code = ctx.new_status[0] if ctx.new_status is not None else code
        if code < 200:
            self._provisional(branch, msg, ctx, code, previous, now)
            return
        branch.status = code
        branch.reply = msg
        if msg.status == 503:
            self.engine.said_503(branch, msg)
        if branch.rest is not None and (code == 503 or code in self.engine.failover_codes):
            self.fail_over(branch, now)
        self.extra[f"reply{branch.index}"] = ctx
        self.final_on_branch(branch, code, now)

    def _late(self, branch: ClientBranch, msg: SipMessage, ctx: Ctx, now: float) -> None:
        """A reply for a branch that is over: repeat the ACK, or let a repeated 2xx through."""
        code = msg.status
        if code < 200 or not self.is_invite:
            return
        if code >= 300:
            if (branch.status >= 300 and not branch.faked) or branch.faked:
                self.send_ack(branch, msg)
            return
        if branch.faked:
            return
        if self.local:
            acknowledged = self.extra.get("ack")
            if acknowledged is not None:
                self.engine.host.send(*acknowledged)
            return
        # a 2xx that follows another final reply of the same branch comes from a broken UAS: it is dropped, as in Kamailio
        if branch.status < 300:
            self._run_reply_route(branch, ctx)
            self._forward_late(ctx)

    def send_ack(self, branch: ClientBranch, reply: SipMessage) -> None:
        """The hop-by-hop ACK for a negative final reply."""
        ack = build_hop_request(branch.sent, "ACK", to=reply.value("to") or "", prefix=self.engine.params.ac_extra_hdrs.lower())
        self.engine.host.send(branch.dest, ack)

    def _run_reply_route(self, branch: ClientBranch, ctx: Ctx) -> bool:
        """onreply_route of the branch or the transaction; False when it dropped the reply."""
        name = branch.hooks.get("reply")
        if not name:
            return True
        function = self.rt.route_function("reply", name)
        if function is None:
            self.rt.log.error("onreply_route[%s] not found", name)
            return True
        ctx.kind = Routes.TM_ONREPLY
        self.lend(ctx, branch.index)
        ctx.bflags = branch.flags
        kept = self.engine.host.run(function, ctx)
        self.take_back(ctx)
        branch.flags = ctx.bflags
        return kept

    def lend(self, ctx: Ctx, branch_index: int) -> None:
        """Give a run the transaction's variables and flags."""
        ctx.t, ctx.branch_index = self, branch_index
        ctx.avps, ctx.xavps = self.avps, self.xavps
        ctx.flags, ctx.xflags = self.flags, self.xflags

    def take_back(self, ctx: Ctx) -> None:
        self.flags, self.xflags = ctx.flags, ctx.xflags
        if ctx.hooks:
            self.adopt_hooks(ctx)

    def adopt_hooks(self, ctx: Ctx) -> None:
        for kind, name in (ctx.hooks or {}).items():
            self.hooks[kind] = name
        ctx.hooks = None

    def _provisional(self, branch: ClientBranch, msg: SipMessage, ctx: Ctx, code: int, previous: int, now: float) -> None:
        if self.is_invite and not branch.cancel and (self.engine.params.restart_fr_on_each_reply or (previous < code and (code >= 180 or previous == 0))):
            branch.client.restart_fr(now, self.fr_inv)
        branch.status = max(previous, code)
        branch.reply = msg
        branch.replied = True
        if branch.cancel_held:
            branch.send_cancel(now)
        elif branch.cancel:
            # whoever still rings has not seen it: once more, as Kamailio does
            self.engine.host.send(branch.dest, branch.cancel)
        if (code == 100 and not self.engine.params.relay_100) or self.status >= 200 or branch.copy or self.canceled:
            return
        self.relayed_branch = branch.index
        self._relay(msg, ctx, code, now)

    def _changes(self, msg: SipMessage) -> list[Edit]:
        """What modules want changed in a reply before it goes upstream."""
        changes = self.request_ctx.recall("reply_edits")
        return [edit for change in changes.values() for edit in change(msg)] if changes else []

    def _forward_late(self, ctx: Ctx) -> None:
        """A 2xx that another final reply came before goes on by itself (RFC 3261 section 16.7 step 5)."""
        ctx.edits = [*ctx.edits, *self._changes(ctx.msg)]
        self.engine.host.forward_reply(ctx)

    def _relay(self, msg: SipMessage, ctx: Ctx, code: int, now: float, *, extra: str = "") -> None:
        """Send a received reply on upstream, with the script's edits."""
        edits = [*ctx.edits, *self._changes(msg)]
        if extra:
            edits = [*edits, (msg.body_start - 2, msg.body_start - 2, extra)]
        line = None
        if ctx.new_status is not None:
            line = f"SIP/2.0 {code} {ctx.new_status[1]}"
        need_length = self.flow.proto != "udp"
        text = build_forwarded_reply(msg, edits, status_line=line, need_length=need_length)
        if self.local:
            self.send_upstream(code, text, now, via=msg)
            return
        self.engine.count_reply(code, local=False)
        self.send_upstream(code, text, now)

    # -- choosing --------------------------------------------------------------------------------------------------------

    def final_on_branch(self, branch: ClientBranch, code: int, now: float) -> None:
        """A branch is final: relay a 2xx at once, else wait for the others, then let the script or the best reply decide."""
        if branch.copy:
            if all(b.copy and not b.client.waiting for b in self.live) and not self.suspended:
                self.wait(now)
            return
        if self.status >= 200:
            if self.is_invite and 200 <= code < 300 and branch.reply is not None:
                ctx = self.extra.get(f"reply{branch.index}")
                if ctx is not None:
                    self._forward_late(ctx)
            return
        if code < 300:
            self.relayed_branch = branch.index
            ctx = self.extra.pop(f"reply{branch.index}")
            if branch.reply is not None:
                self._relay(branch.reply, ctx, code, now)
            self.cancel_branches(now)
            return
        if code >= 600 and not self.disable_6xx and self.is_invite:
            self.cancel_branches(now, cause=code)
        elif code >= 600 and not self.disable_6xx:
            for other in self.live:
                if other.client.waiting:
                    other.client.stop()
                    other.status = other.status if other.status >= 200 else 0
        if self.engine.branch_failure(self, branch, code, now):
            return
        if any(b.client.waiting and not b.copy for b in self.live) or self.suspended:
            return
        self.all_failed(now)

    def best(self) -> ClientBranch | None:
        """The branch whose negative final reply is chosen: lowest rank, then first."""
        chosen, rank = None, 1 << 30
        for branch in self.live:
            if branch.status >= 300 and not branch.copy:
                own = self.engine.rank(branch.status, branch.faked)
                if own < rank:
                    chosen, rank = branch, own
        return chosen

    def all_failed(self, now: float) -> None:
        """Every branch has a negative final reply: failure_route, then the best reply goes upstream."""
        branch = self.best()
        if branch is None:
            return
        name = branch.hooks.get("failure") or self.hooks.pop("failure", None)
        if name:
            before = len(self.branches)
            self._run_failure_route(name, branch)
            if self.status >= 200 or self.suspended or self.released:
                return
            if len(self.branches) > before and any(b.client.waiting for b in self.branches[before:]):
                if self.engine.params.failure_reply_mode == 3:
                    self.first_live = before
                return
            branch = self.best() or branch
        self._send_best(branch, now)

    def _run_failure_route(self, name: str, branch: ClientBranch) -> Ctx | None:
        function = self.rt.route_function("failure", name)
        if function is None:
            self.rt.log.error("failure_route[%s] not found", name)
            return None
        ctx = self.failure_ctx(branch)
        self.engine.host.run(function, ctx)
        self.take_back(ctx)
        return ctx

    def failure_ctx(self, branch: ClientBranch | None, kind: Routes = Routes.FAILURE) -> Ctx:
        """The stored request as failure routes see it: relayed URI, transaction variables, no new branches yet."""
        ctx = self.request_ctx.copy_for(kind)
        ctx.extra = None
        self.lend(ctx, branch.index if branch is not None else -1)
        ctx.edits = list(self.edits)
        ctx.branches = []
        ctx.hooks = None
        ctx.reply = branch.reply if branch is not None else None
        ctx.ruri_used = True
        ctx.rr_params = None
        if branch is not None:
            ctx.bflags = branch.flags
        return ctx

    def _send_best(self, branch: ClientBranch, now: float) -> None:
        code = branch.status
        self.relayed_branch = branch.index
        if branch.reply is None and self.local:
            self.send_upstream(code, "", now)
            return
        if branch.reply is None:
            if not self.no_internal_reply:
                self.engine.reply(self, code, self._faked_reason(code), now=now)
            elif self.status < 200:
                self.status = code
                self.wait(now)
            return
        if code == 503 and self.engine.params.remap_503_500 and not self.local:
            # a reply of our own (RFC 3261 section 16.7 step 6); the reason stays
            self.engine.reply(self, 500, branch.reply.reason, now=now)
            return
        ctx = self.extra.pop(f"reply{branch.index}", None)
        if ctx is None:
            ctx = Ctx(self.rt, branch.reply, self.flow, Routes.TM_ONREPLY)
        extra = self._aggregated(branch) if code in (401, 407) and self.engine.params.aggregate_challenges else ""
        self._relay(branch.reply, ctx, code, now, extra=extra)

    def _faked_reason(self, code: int) -> str:
        if code == 487:
            return "Request canceled"
        params = self.engine.params
        return params.reply_408_reason if code == params.reply_408_code else self.engine.reason_of(code, None)

    def _aggregated(self, chosen: ClientBranch) -> str:
        """Challenges of the other branches (RFC 3261 section 16.7 step 7)."""
        out = ""
        for branch in self.live:
            if branch is not chosen and branch.reply is not None and branch.status in (401, 407):
                for key in ("www-authenticate", "proxy-authenticate"):
                    out += "".join(branch.reply.text[h[3] : h[4]] for h in branch.reply.all(key))
        return out
