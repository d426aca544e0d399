"""Matching, creating and driving transactions. The host (the datapath, or a test) supplies time, sending and route execution."""

from __future__ import annotations

import re
from typing import Any

from kamc.declare.routes import Routes
from kamc.errors import SipError
from kamc.runtime.context import Branch as Target
from kamc.runtime.context import Ctx
from kamc.runtime.hooks import Hooks
from kamc.runtime.net.dns.blocklist import Reason
from kamc.runtime.net.endpoint import Dest, Flow, Unreachable
from kamc.runtime.sip.build import build_request
from kamc.runtime.sip.edits import for_dest
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.tm.branch import ClientBranch
from kamc.runtime.tm.host import TmHost
from kamc.runtime.tm.params import E_BAD_ADDRESS, E_BAD_URI, E_NO_DEST, E_NO_SOCKET, E_SEND, REASONS, TmParams
from kamc.runtime.tm.timers import TimerTable
from kamc.runtime.tm.transaction import Transaction

COOKIE = "z9hG4bK"
_UNREACHABLE = {Unreachable.ADDRESS: E_BAD_ADDRESS, Unreachable.NO_SOCKET: E_NO_SOCKET, Unreachable.BLOCKED: E_NO_DEST}


class TmEngine:
    """All transactions of one worker."""

    def __init__(self, host: TmHost, timers: TimerTable, branch_prefix: str = "", worker: int | None = None) -> None:
        self.host, self.timers = host, timers
        self.params = TmParams()
        #: of use_dns_failover: replies that send a request on to the next address, beside 503
        self.failover_codes: frozenset[int] = frozenset()
        #: written into our branches: who owns what comes back (generation and worker)
        self.branch_prefix = COOKIE + branch_prefix
        #: the number of the worker where there are several: the last digit of the index of its transactions
        self._worker = worker
        self._by_key: dict[tuple[Any, ...], Transaction] = {}
        self._by_tid: dict[str, Transaction] = {}
        self._serial = host.random_id() & 0xFFFF
        self.stats: dict[str, int] = dict.fromkeys(
            ("current", "waiting", "total", "local", "rpl_received", "rpl_generated", "rpl_sent", "6xx", "5xx", "4xx", "3xx", "2xx", "created", "freed",
             "delayed_free"), 0
        )  # fmt: skip
        #: of the generation that runs
        self.hooks = Hooks()

    def notify(self, event: str, t: Transaction, what: Any = None) -> None:
        for watcher in self.hooks.transactions:
            watcher(event, t, what)

    # -- matching --------------------------------------------------------------------------------------------------------

    def keys_of(self, msg: SipMessage, method: str | None = None) -> tuple[Any, ...]:
        """What identifies a request's transaction (RFC 3261 section 17.2.3; without the cookie the RFC 2543 rules)."""
        if method is None and msg.tm_key is not None:
            return msg.tm_key
        via = msg.via1
        name = method or msg.method
        name = "INVITE" if name == "ACK" else name
        branch = via.branch
        if branch.startswith(COOKIE) and len(branch) > len(COOKIE):
            found: tuple[Any, ...] = (branch, via.host, via.port, name)
        else:
            found = ("2543", msg.call_id, msg.cseq[0], msg.from_tag, via.host, via.port, via.branch, msg.uri, name)
        if method is None:
            msg.tm_key = found
        return found

    def find(self, msg: SipMessage, method: str | None = None) -> Transaction | None:
        return self._by_key.get(self.keys_of(msg, method))

    def lookup(self, ctx: Ctx) -> Transaction | None:
        """The transaction of the request in hand; remembered in the context."""
        if ctx.t is not None:
            found: Transaction = ctx.t
            return found
        t = self.find(ctx.msg)
        if t is not None:
            self.attach(ctx, t)
        return t

    def lookup_cancelled(self, ctx: Ctx) -> Transaction | None:
        """The INVITE transaction that a CANCEL means."""
        return self.find(ctx.msg, "INVITE")

    def attach(self, ctx: Ctx, t: Transaction) -> None:
        ctx.t = t
        if ctx.msg is not t.msg:
            ctx.remember("retransmission", True)

    def find_id(self, hash_index: int, label: int) -> Transaction | None:
        return self._by_tid.get(f"{self.branch_prefix}{hash_index:x}.{label:x}")

    def by_callid(self, call_id: str, cseq: str, method: str = "INVITE") -> Transaction | None:
        for t in self._by_tid.values():
            if t.method == method and t.msg.call_id == call_id and str(t.msg.cseq[0]) == cseq:
                return t
        return None

    def transactions(self) -> list[Transaction]:
        return list(self._by_tid.values())

    # -- creating --------------------------------------------------------------------------------------------------------

    def new(self, ctx: Ctx) -> Transaction:
        """Create the transaction of a request. Raises SipError when the request cannot have one."""
        msg = ctx.msg
        first = msg.first
        if "from" not in first or "to" not in first or "call-id" not in first or msg.cseq[0] < 0:
            raise SipError("From, To, Call-ID or CSeq missing")
        keys = self.keys_of(msg)
        self._serial += 1
        t = Transaction(self, ctx, keys, (self._index(hash((msg.call_id, msg.cseq[0]))), (self.host.random_id() << 16 ^ self._serial) & 0x7FFFFFFF))
        self._by_key[keys] = t
        self._by_tid[t.tid] = t
        ctx.t = t
        if ctx.hooks:
            t.adopt_hooks(ctx)
        self.stats["current"] += 1
        self.stats["total"] += 1
        self.stats["created"] += 1
        if self.hooks.transactions:
            self.notify("created", t, ctx)
        return t

    def _index(self, value: int) -> int:
        """The index of a new transaction, 16 bits of what is given. Among several workers it says who has it."""
        return value & 0xFFFF if self._worker is None else value & 0xFFF0 | self._worker

    def new_local(self, ctx: Ctx) -> Transaction:
        """A transaction for a request that we make ourselves."""
        self._serial += 1
        ident = (self._index(self.host.random_id()), (self.host.random_id() << 16 ^ self._serial) & 0x7FFFFFFF)
        t = Transaction(self, ctx, ("local", ident), ident)
        t.local = True
        self._by_key[t.keys] = t
        self._by_tid[t.tid] = t
        self.stats["current"] += 1
        self.stats["total"] += 1
        self.stats["local"] += 1
        return t

    def forget(self, t: Transaction) -> None:
        if self._by_key.get(t.keys) is t:
            del self._by_key[t.keys]
        self._by_tid.pop(t.tid, None)
        self.stats["current"] -= 1
        self.stats["freed"] += 1
        if self.hooks.transactions:
            self.notify("deleted", t)

    # -- replying --------------------------------------------------------------------------------------------------------

    def to_tag(self, ctx: Ctx) -> str:
        return str(ctx.rt.totag(ctx.msg, "-"))

    @staticmethod
    def reason_of(code: int, msg: SipMessage | None) -> str:
        return REASONS.get(code) or (msg.reason if msg is not None else "") or "Unknown"

    def reply(self, t: Transaction, code: int, reason: str, *, now: float | None = None, ctx: Ctx | None = None) -> bool:
        """Answer a transaction ourselves. A final reply cancels branches that are still open. False after a final reply."""
        if t.status >= 200:
            return False
        now = self.host.now() if now is None else now
        source = ctx if ctx is not None else t.request_ctx
        if not t.to_tag and code > 100:
            t.to_tag = self.to_tag(t.request_ctx)
        base = t.request_ctx
        if source is not base:
            base.reply_headers, base.reply_body = source.reply_headers, source.reply_body
        text = self.host.local_reply_text(base, code, reason, t.to_tag if code > 100 else "")
        base.reply_headers = base.reply_body = None
        self.stats["rpl_generated"] += 1
        self.count_reply(code, local=True)
        if code >= 200:
            t.cancel_branches(now)
            if self.hooks.transactions:
                self.notify("replied", t, (code, reason, None))
        t.send_upstream(code, text, now)
        function = t.rt.route_function("event", "tm:local-response")
        if function is not None and not t.local:
            self.host.run(function, Ctx(t.rt, parse_message(text), t.flow, Routes.EVENT))
        return True

    def trying(self, t: Transaction) -> None:
        """The 100 that stops an INVITE's retransmissions (RFC 3261 section 17.2.1), unless ``auto_inv_100`` is off."""
        if t.is_invite and t.auto_inv_100 and t.status < 100 and not t.local:
            self.reply(t, 100, self.params.auto_inv_100_reason)

    def count_reply(self, code: int, *, local: bool) -> None:
        self.stats["rpl_sent"] += 1
        if code >= 200:
            self.stats[f"{min(code // 100, 6)}xx"] += 1

    def local_reply(self, t: Transaction, code: int, msg: SipMessage | None) -> None:
        callback = t.extra.get("callback")
        if callback is not None:
            callback(t, code, msg)

    # -- relaying --------------------------------------------------------------------------------------------------------

    def relay_branches(self, t: Transaction, ctx: Ctx, override: str | None = None, *, replicate: bool = False) -> int:
        """Fork to the current destination set. Returns 1, or a negative error when no branch could be sent."""
        now = self.host.now()
        targets: list[Target] = []
        if not ctx.ruri_used:
            targets.append(Target(ctx.ruri, ctx.du, ctx.path, ctx.q, ctx.send_socket, ctx.bflags, ctx.instance, ctx.ruid, ctx.location_ua))
        targets += ctx.branches
        ctx.branches = []
        ctx.ruri_used = True
        if t.canceled:
            return E_NO_DEST
        t.flags, t.xflags = ctx.flags, ctx.xflags
        t.edits = ctx.edits if ctx.kind is Routes.REQUEST else t.edits
        started = 0
        error = E_NO_DEST
        hooks = dict(t.hooks)
        new: list[ClientBranch] = []
        for target in targets:
            branch, problem = self._make_branch(t, ctx, target, override)
            if branch is None:
                error = problem or error
                continue
            branch.copy = replicate
            new.append(branch)
        if new and not replicate:
            t.hooks.pop("failure", None)
        for branch in new:
            if t.start_branch(branch, now) or t.fail_over(branch, now):
                started += 1
            else:
                error = E_SEND
        if not started and t.canceled:
            return 1
        if not started and self.params.failure_exec_mode and targets and not replicate:
            self._fail_later(t, hooks, targets[-1])
            return 1
        if t.life_timer is None and started and t.max_life:
            t.life_timer = self.timers.arm(now + t.max_life, lambda at, t=t: self._too_old(t, at))  # type: ignore[misc]
        return 1 if started else error

    def _fail_later(self, t: Transaction, hooks: dict[str, str], target: Target) -> None:
        """failure_exec_mode: what could not be sent fails like a branch that nobody answered, for the failure route to see."""
        branch = ClientBranch(t, len(t.branches), target.uri, target, self.host.reply_dest(t.request_ctx))
        branch.hooks = {kind: hooks[kind] for kind in ("reply", "failure") if kind in hooks}
        t.branches.append(branch)
        self.timers.arm(self.host.now(), lambda at: t.branch_timed_out(branch, at))

    def _make_branch(self, t: Transaction, ctx: Ctx, target: Target, override: str | None) -> tuple[ClientBranch | None, int]:
        """Run branch_route for one destination and build its request."""
        index = len(t.branches)
        if index >= t.rt.param("max_branches"):
            t.rt.log.error("more than max_branches branches in one transaction")
            return None, E_NO_DEST
        name = t.hooks.get("branch")
        work = ctx
        if name or target.uri != ctx.ruri or target.du_differs(ctx):
            work = ctx.copy_for(Routes.BRANCH)
            work.ruri, work.du, work.path, work.send_socket = target.uri, target.dst_uri, target.path, target.send_socket
            work.bflags, work.instance, work.ruid, work.location_ua, work.q = target.flags, target.instance, target.ruid, target.user_agent, target.q
        hooks: dict[str, str] = {}
        if name:
            function = t.rt.route_function("branch", name)
            if function is not None:
                work.branch_index = index
                work.t = t
                work.hooks = None
                t.lend(work, index)
                if not self.host.run(function, work):
                    return None, E_NO_DEST
                t.flags = work.flags
                hooks = work.hooks or {}
                target.uri, target.dst_uri, target.flags = work.ruri, work.du, work.bflags
        hop = override or work.du or _first_route(work) or work.ruri
        if parse_uri(work.ruri) is None:
            return None, E_BAD_URI
        dest, rest = self.host.resolve_all(work, hop)
        if t.canceled or (t.status >= 200 and not t.branches):
            return None, E_NO_DEST  # it ended while a name was looked up
        if dest is None:
            return None, _UNREACHABLE[work.recall("unreachable") or Unreachable.ADDRESS]
        branch = ClientBranch(t, index, work.ruri, target, dest)
        branch.rest = rest
        # what a route arms later is for branches to come
        branch.hooks = {**{kind: t.hooks[kind] for kind in ("reply", "failure") if kind in t.hooks}, **hooks} if t.hooks else hooks
        branch.flags = work.bflags
        branch.request = self._request_text(work, branch)
        wider = self.host.for_size(work, dest, len(branch.request))
        if wider is not None:
            branch.dest = wider
            branch.request = self._request_text(work, branch)
        if not self.host.onsend(work, branch.dest, branch.request):
            return None, E_SEND
        t.branches.append(branch)
        if self.hooks.transactions:
            self.notify("relayed", t, branch)
        return branch, 0

    def _request_text(self, work: Ctx, branch: ClientBranch) -> str:
        via = self.host.via_header(work, branch.dest, f"{branch.t.tid}.{branch.index}")
        edits = for_dest(_with_path(work), branch.dest) + self.host.source_edit(work)
        return build_request(work.msg, edits, work.ruri, via, need_length=branch.dest.proto != "udp")

    def next_address(self, t: Transaction, failed: ClientBranch, dest: Dest) -> ClientBranch | None:
        """A branch that tries another address of the name that a failed one was sent to (RFC 3263 section 4.3)."""
        index = len(t.branches)
        if index >= t.rt.param("max_branches"):
            return None
        branch = ClientBranch(t, index, failed.uri, failed.target, dest)
        branch.rest, branch.hooks, branch.flags = failed.rest, failed.hooks, failed.flags
        via = self.host.via_header(t.request_ctx, dest, f"{t.tid}.{index}")
        first, own = failed.request.index("\r\n") + 2, failed.sent.first["via"]
        branch.request = failed.request[:first] + via + failed.request[own[4] :]
        if not self.host.onsend(t.request_ctx, dest, branch.request):
            return None
        t.branches.append(branch)
        return branch

    def said_503(self, branch: ClientBranch, reply: SipMessage) -> None:
        """blst_503: a destination without room gets the time that it asks for (RFC 3261 section 21.5.4)."""
        p = self.params
        if not p.blst_503:
            return
        text = (reply.value("retry-after") or "").strip()
        number = re.match(r"\d{1,9}", text)
        seconds = min(max(int(number[0]) if number is not None else p.blst_503_def_timeout, p.blst_503_min_timeout), p.blst_503_max_timeout)
        if seconds > 0:
            self.host.blocklist.failed(branch.dest.key, branch.t.method, Reason.SAID_503, seconds)

    def _too_old(self, t: Transaction, now: float) -> None:
        """max_inv_lifetime / max_noninv_lifetime: whatever still waits is over."""
        if t.busy is not None:
            t.busy.append(lambda: self._too_old(t, now))
            return
        if t.status >= 200:
            return
        for branch in t.live:
            if branch.client.waiting:
                branch.client.stop_timers()
                branch.timed_out(now)

    # -- replies ---------------------------------------------------------------------------------------------------------

    def match_reply(self, msg: SipMessage) -> tuple[Transaction, ClientBranch] | None:
        """The branch that a reply belongs to, by our branch id."""
        try:
            ident = msg.via1.branch
        except SipError:
            return None
        tid, _, number = ident.rpartition(".")
        t = self._by_tid.get(tid)
        if t is None or not number.isdecimal():
            return None
        index = int(number)
        if index >= len(t.branches):
            return None
        method = msg.cseq[1]
        if method != t.method and not (method == "CANCEL" and t.is_invite):
            return None
        params = self.params
        if (params.callid_matching or params.callid_cseq_matching) and msg.call_id != t.branches[index].sent.call_id:
            return None
        if params.callid_cseq_matching and msg.cseq[0] != t.branches[index].sent.cseq[0]:
            return None
        return t, t.branches[index]

    def receive_reply(self, t: Transaction, branch: ClientBranch, ctx: Ctx, flow: Flow) -> None:
        """A matched reply, after the core reply route."""
        if t.busy is not None:
            t.busy.append(lambda: self.receive_reply(t, branch, ctx, flow))
            return
        msg = ctx.msg
        now = self.host.now()
        self.stats["rpl_received"] += 1
        if msg.cseq[1] == "CANCEL" and t.is_invite:
            if msg.status >= 200:
                branch.cancel_answered()
            return
        if self.hooks.transactions and not t.local:
            self.notify("reply-in", t, (branch, msg))
        t.receive(branch, msg, flow, ctx, now)
        msg.rest()
        t.msg.rest()

    def destination_lost(self, remote: tuple[str, int], now: float) -> None:
        """A connection broke before all was sent: branches that wait for a first reply from there have failed (RFC 3261 section 18.4)."""
        for t in list(self._by_tid.values()):
            for branch in list(t.live):
                if branch.status == 0 and branch.client.waiting and branch.dest.proto != "udp" and (branch.dest.ip, branch.dest.port) == remote:
                    branch.client.stop()
                    self.host.blocklist.failed(branch.dest.key, t.method, Reason.CONNECT)
                    t.fail_branch(branch, 477, now)

    def rank(self, code: int, faked: bool) -> int:
        """How good a negative final reply is; lower is better. 6xx, then by class; challenges and their kin first in 4xx, 503 last."""
        prio = _rank(code)
        return prio + self.params.faked_reply_prio if faked else prio

    def branch_failure(self, t: Transaction, branch: ClientBranch, code: int, now: float) -> bool:
        """Branch failure event route; True when it started something new and the rest has to wait."""
        name = branch.hooks.pop("branch_failure", None) or t.hooks.get("branch_failure")
        if not name or t.canceled:
            return False
        function = t.rt.route_function("event", f"tm:branch-failure:{name}")
        if function is None:
            return False
        ctx = t.failure_ctx(branch, Routes.BRANCH_FAILURE)
        ctx.ruri = branch.uri
        before = len(t.branches)
        self.host.run(function, ctx)
        t.take_back(ctx)
        return len(t.branches) > before

    # -- CANCEL ----------------------------------------------------------------------------------------------------------

    def cancel(self, ctx: Ctx, invite: Transaction) -> None:
        """A CANCEL for a transaction of ours (RFC 3261 section 16.10): branches are cancelled, the CANCEL is answered 200."""
        now = self.host.now()
        known = self.find(ctx.msg)
        if known is not None:
            known.server.repeated()
            ctx.t = known
            return
        t = self.new(ctx)
        extra = "".join(ctx.msg.text[h[3] : h[4]] for h in ctx.msg.all("reason")) if self.params.e2e_cancel_reason else ""
        invite.canceled = True
        waiting = [b for b in invite.live if b.client.waiting]
        if invite.status < 200 and not waiting and not invite.branches:
            self.reply(invite, 487, "Request canceled", now=now)
        invite.cancel_branches(now, extra, requested=True)
        if not t.to_tag:
            t.to_tag = invite.to_tag or self.to_tag(invite.request_ctx)
        self.reply(t, 200, "canceling", now=now)


def _first_route(ctx: Ctx) -> str | None:
    """With Route headers left and nothing else said, the topmost Route is the next hop (RFC 3261 section 16.6 step 6)."""
    return ctx.rt.next_route(ctx) if "route" in ctx.msg.first else None


def _with_path(ctx: Ctx) -> list[tuple[int, int, str]]:
    """A Path of the destination becomes Route headers."""
    if not ctx.path:
        return ctx.edits
    header = ctx.msg.first.get("route") or ctx.msg.first.get("via")
    at = header[3] if header is not None else ctx.msg.first_line_end
    return [*ctx.edits, (at, at, f"Route: {ctx.path}\r\n")]


_PREFERRED = {401: 0, 407: 0, 415: 1, 420: 1, 484: 1}


def _rank(code: int) -> int:
    if code >= 600:
        return code - 600
    if code < 400:
        return 1000 + code
    if code < 500:
        return 2000 + (_PREFERRED[code] if code in _PREFERRED else 100 + code - 400)
    return 4000 + (900 if code == 503 else code - 500)
