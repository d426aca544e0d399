"""The path of a message, readable in one file.

    datagram → parse → pre-checks → request_route(ctx) → (tm: branches, branch_route, build, onsend_route) → socket
             → reply: match → reply_route(ctx) → transaction or next Via

The datapath is also the host of the transaction engine: it gives it time, sending and route execution.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kamc.declare.pvspec import parse_format
from kamc.declare.routes import Drop, Exit, Routes
from kamc.declare.values import EvalError
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.net.destinations import Destinations
from kamc.runtime.net.dns.blocklist import Reason
from kamc.runtime.net.endpoint import BELOW, DATAGRAM, PROTO_ID, Dest, Flow, Listener, is_ip
from kamc.runtime.net.stun import is_stun
from kamc.runtime.sip.build import build_forwarded_reply, build_reply, build_request, via_with_source
from kamc.runtime.sip.edits import for_dest
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.sip.via import split_vias

if TYPE_CHECKING:
    from kamc.runtime.api import Runtime
    from kamc.runtime.proc.worker import Worker

_COOKIE = "z9hG4bK"
#: variables that show the message as it came, whatever a route does
_AS_RECEIVED = frozenset({"mt", "ci", "rm", "cs", "hdr", "si", "sp", "fu", "fU", "fd", "ft", "tt", "ua", "pr", "proto", "Ri", "Rp", "ml", "rs", "rr"})
#: errors of routes that are remembered
_LAST_ERRORS = 50
#: seconds after which a request that was refused for now may come again
_RETRY_AFTER = 5
_REQUEST_STATS = frozenset({"invite", "cancel", "ack", "bye", "info", "register", "subscribe", "notify", "message", "options", "prack", "update", "refer", "publish"})



def where_of(err: BaseException, rt: Runtime | None) -> str:
    """The place in the configuration that an exception came from; empty for one from elsewhere."""
    sources = rt.sources if rt is not None else frozenset()
    where = ""
    for frame in traceback.extract_tb(err.__traceback__):
        if frame.filename in sources:
            where = f"{frame.filename}:{frame.lineno} in {frame.name}"
    return where


class Datapath(Destinations):
    """One per worker."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.now = worker.clock
        self._stats = worker.counters.values
        #: the last errors of routes: when, what, call-id, place in the configuration
        self.errors: deque[tuple[float, str, str, str]] = deque(maxlen=_LAST_ERRORS)
        #: replies that came, by code and method
        self.replies: dict[tuple[int, str], int] = {}
        self._log_prefix: Callable[[Ctx], str] | None = None
        self._log_prefix_lazy = False

    def random_id(self) -> int:
        return self._random.getrandbits(32)

    # -- in --------------------------------------------------------------------------------------------------------------

    def received(self, data: bytes, listener: Listener, address: tuple[Any, ...], conn: int = 0, proto: str = "", *, own: bool = False) -> None:
        """A datagram, or a framed message of a stream; ``proto`` when it is not the listener's. ``own``: another worker has handed it over.
        Long and flat, since the order of its checks is the path of a message."""
        if len(data) < 10:
            return  # keep-alives and stray bytes
        hooks = self.hooks
        if hooks.stun is not None and not conn and is_stun(data):
            hooks.stun(data, Flow(listener, address[0], address[1]))
            return
        waits = self.worker.waits
        if waits.active and waits.job is None:
            waits.run(partial(self.received, own=own), data, listener, address, conn, proto)
            return
        rt = self.worker.rt
        if rt is None:
            return
        text = data.decode("latin-1")
        flow = Flow(listener, address[0], address[1], conn, proto)
        if not own:
            for change in hooks.incoming_filters:
                changed = change(text, flow)
                if changed is None:
                    return
                text = changed
            peers = self.worker.peers
            if peers is not None:
                data = text.encode("latin-1", "replace") if hooks.incoming_filters else data
                if peers.passed_on(data, listener, address, conn, proto):
                    return
        try:
            msg = parse_message(text)
            if msg.is_request and msg.version[:5].upper() == "HTTP/":
                if not conn:
                    raise SipError("HTTP in a datagram")
                if any(self._http(take, msg, flow) for take in hooks.http):
                    return
        except SipError as err:
            self._bad_message(err, flow, text)
            if conn:
                self.worker.streams.hang_up(conn, "what came is not SIP")
            return
        try:
            if msg.is_request or "via" in msg.first:
                msg.check()  # a bad Via makes the message useless: neither a reply nor a match is possible
        except SipError as err:
            self._bad_message(err, flow, text)
            return
        event = ("event", "core:msg-received")
        if event in rt.functions and rt.param("received_route_mode") and not self._received_event(rt, msg, flow):
            return
        first = msg.first
        if not ("cseq" in first and "call-id" in first and "from" in first and "to" in first) or msg.cseq[0] < 0:
            self._bad_message(SipError("From, To, Call-ID or CSeq missing or bad"), flow, text)
            return
        if msg.is_request:
            if conn and "alias" in msg.via1.param_map and rt.param("tcp_accept_aliases"):
                self.worker.streams.add_alias(conn, msg.via1.real_port)
            self._request(Ctx(rt, msg, flow, Routes.REQUEST))
        else:
            self._reply(msg, flow)
        if self._log_prefix is not None or self.log.records is not None:
            self.log.about_nothing()

    def _http(self, take: Callable[[SipMessage, Flow], bool], msg: SipMessage, flow: Flow) -> bool:
        """An HTTP request, whose answer may take its time. False when nobody wants it."""
        taken = [True]

        def serve() -> None:
            taken[0] = take(msg, flow)

        self.worker.waits.detached(serve)
        return taken[0]

    def _received_event(self, rt: Runtime, msg: SipMessage, flow: Flow) -> bool:
        """``event_route[core:msg-received]``: sees the bytes before anything else and may drop them."""
        ctx = Ctx(rt, msg, flow, Routes.EVENT)
        listener = flow.listener
        ctx.remember("received_event", {
            "buf": msg.text, "len": len(msg.text), "af": 10 if ":" in flow.remote_ip else 2, "proto": PROTO_ID.get(flow.proto, 0), "sproto": flow.proto,
            "srcip": flow.remote_ip, "srcport": flow.remote_port, "rcvip": listener.host, "rcvport": listener.port, "safe": msg.text, "evtype": 1,
        })  # fmt: skip
        return self.run(rt.functions[("event", "core:msg-received")], ctx)

    def _bad_message(self, err: SipError, flow: Flow, text: str) -> None:
        """Garbage is counted and dropped."""
        self.worker.counters.add("core", "bad_msg_hdr")
        level = self.worker.rt.param("sip_parser_log") if self.worker.rt else -1
        if level <= self.log.level:
            self.log.limited(max(level, -1), "ERROR: bad message from %s:%d: %s [%r]", flow.remote_ip, flow.remote_port, err, text[:60])

    def _request(self, ctx: Ctx) -> None:
        stats = self._stats
        stats["core", "rcv_requests"] = stats.get(("core", "rcv_requests"), 0) + 1
        method = ctx.msg.method.lower()
        if method in _REQUEST_STATS:
            key = ("core", f"rcv_requests_{method}")
            stats[key] = stats.get(key, 0) + 1
        if ctx.msg.uri and parse_uri(ctx.msg.uri) is None:
            stats["core", "bad_URIs_rcvd"] = stats.get(("core", "bad_URIs_rcvd"), 0) + 1
        if ctx.rt.request_defaults:
            ctx.__dict__.update(ctx.rt.request_defaults)
        self._log_about(ctx)
        for hook in self.hooks.pre_request:
            if not hook(ctx):
                return
        if self.worker.waits.full and ctx.msg.method not in ("ACK", "CANCEL") and not ctx.msg.to_tag and self.worker.engine.find(ctx.msg) is None:
            self._refuse_for_now(ctx)
            return
        function = ctx.rt.functions.get(("request", None))
        if function is not None:
            self.run_request(function, ctx)
        self.after_script(ctx)

    def _refuse_for_now(self, ctx: Ctx) -> None:
        """Too many runs are set aside, or the server ends: what begins something new is asked to come again (RFC 3261 section 21.5.4)."""
        self.worker.counters.add("kamc", "refused_requests")
        closed = self.worker.waits.closed
        if not closed:
            self.log.limited(-1, "ERROR: %d routes wait for something: requests are answered 503", self.worker.waits.waiting)
        ctx.reply_headers = [f"Retry-After: {_RETRY_AFTER}\r\n"]
        self.stateless_reply(ctx, 503, "Server Shutting Down" if closed else "Too Many Routes Waiting")

    def set_log_prefix(self, rt: Runtime, text: str) -> None:
        """The log_prefix of a generation. One that a route could change is made when the message comes, else when a line is written."""
        self._log_prefix, self._log_prefix_lazy = None, False
        if not text:
            return
        made = rt.format(text)

        def prefix(ctx: Ctx) -> str:
            try:
                return made(ctx)
            except (EvalError, SipError):
                return ""

        self._log_prefix = prefix
        self._log_prefix_lazy = all(isinstance(p, str) or p.name in _AS_RECEIVED for p in parse_format(text))

    def _log_about(self, ctx: Ctx) -> None:
        if self.log.records is not None:
            self.log.ctx = ctx
        prefix = self._log_prefix
        if prefix is not None:
            self.log.about(prefix, ctx)
            if not self._log_prefix_lazy:
                _ = self.log.prefix

    def run_request(self, function: Callable[[Ctx], Any], ctx: Ctx) -> None:
        """Run the request route. An exception in it is logged with its cfg line and answered 500; a negative result ends the connection
        that the request came by, unless tcp_script_mode says otherwise."""
        try:
            result = function(ctx)
        except Exit:
            return
        except Exception as err:  # whatever a module function raises must not end the worker
            self.report(err, ctx)
            self.answer_500(ctx)
            return
        if ctx.flow.conn and isinstance(result, int) and result < 0 and not ctx.rt.param("tcp_script_mode"):
            self.worker.streams.finish(ctx.flow.conn, "the script has refused what came")

    def after_script(self, ctx: Ctx) -> None:
        """Let go of a transaction that the script made and did nothing with."""
        for hook in self.hooks.post_script:
            hook(ctx)
        ctx.finished = True
        t = ctx.t
        if t is not None:
            ctx.msg.rest()
        if t is None or t.request_ctx is not ctx or t.status >= 200 or t.suspended or t.waiting_timer is not None:
            return
        if not any(b.client.waiting for b in t.branches):
            unfinished = self.hooks.unfinished
            if unfinished is not None:
                unfinished(t, ctx)
            else:
                t.wait(self.now())

    def answer_500(self, ctx: Ctx) -> None:
        if ctx.replied or ctx.msg.method == "ACK":
            return
        other = ctx.recall("answer_500")
        if other is not None:
            other(ctx)
            return
        t = ctx.t
        if t is not None and t.msg is ctx.msg:
            if t.status < 200 and not t.branches:
                self.worker.engine.reply(t, 500, "Server Internal Error")
            return
        self.stateless_reply(ctx, 500, "Server Internal Error")

    def report(self, err: BaseException, ctx: Ctx | None) -> None:
        """One line that names the cfg line, then the traceback."""
        self.worker.counters.add("kamc", "route_errors")
        where = where_of(err, ctx.rt if ctx is not None else self.worker.rt)
        self.errors.append((time.time(), f"{type(err).__name__}: {err}", ctx.msg.call_id if ctx is not None else "", where))
        where += ": " if where else ""
        call_id = f" [call-id {ctx.msg.call_id}]" if ctx is not None else ""
        self.log.error("%s%s: %s%s", where, type(err).__name__, err, call_id)
        if self.log.level >= 0:
            for line in "".join(traceback.format_exception(err)).rstrip().splitlines():
                self.log.error("  %s", line)

    def run(self, function: Callable[[Ctx], Any], ctx: Ctx) -> bool:
        """Run a block. False when it dropped what it was run for; one that was set aside did not, so far."""
        waits = self.worker.waits
        if waits.active and waits.job is None:
            goes_on = [True]

            def inside() -> None:
                goes_on[0] = self.run(function, ctx)

            waits.run(inside)
            return goes_on[0]
        try:
            function(ctx)
        except Drop:
            return False
        except Exit:
            return True
        except Exception as err:
            self.report(err, ctx)
        return True

    # -- replies ---------------------------------------------------------------------------------------------------------

    def _reply(self, msg: SipMessage, flow: Flow) -> None:
        stats = self._stats
        code = msg.status
        stats["core", "rcv_replies"] = stats.get(("core", "rcv_replies"), 0) + 1
        key = ("core", f"rcv_replies_{code // 100}xx")
        stats[key] = stats.get(key, 0) + 1
        what = code, msg.cseq[1]
        self.replies[what] = self.replies.get(what, 0) + 1
        for hook in self.hooks.pre_reply.values():
            if not hook(msg, flow):
                return
        engine = self.worker.engine
        found = engine.match_reply(msg)
        rt = found[0].rt if found is not None else self.worker.rt
        if rt is None:
            return
        ctx = Ctx(rt, msg, flow, Routes.CORE_ONREPLY)
        if found is not None and found[0].request_ctx is not None:
            found[0].lend(ctx, found[1].index)
        self._log_about(ctx)
        function = rt.functions.get(("reply", None))
        if function is not None and not self.run(function, ctx):
            stats["core", "drop_replies"] = stats.get(("core", "drop_replies"), 0) + 1
            return
        if found is not None:
            t, branch = found
            t.take_back(ctx)
            engine.receive_reply(t, branch, ctx, flow)
            return
        stray = self.hooks.stray_reply
        if stray is None or stray(ctx):
            self.forward_reply(ctx)

    def forward_reply(self, ctx: Ctx) -> bool:
        """Pass a reply on without state, by its second Via."""
        msg = ctx.msg
        try:
            vias = msg.vias
        except SipError:
            return False
        if len(vias) < 2:
            return False
        own = vias[0]
        if not ctx.rt.is_myself(own.host, own.port, own.proto.lower()):
            self.log.debug("reply with a foreign first Via dropped")
            return False
        via = vias[1]
        ip = via.received or via.host
        port = via.rport or via.real_port
        dest = self.dest_for(ctx, via.proto.lower(), ip, port)
        if dest is None:
            return False
        line = f"SIP/2.0 {ctx.new_status[0]} {ctx.new_status[1]}" if ctx.new_status is not None else None
        text = build_forwarded_reply(msg, ctx.edits, status_line=line, need_length=dest.proto != "udp")
        self._stats["core", "fwd_replies"] = self._stats.get(("core", "fwd_replies"), 0) + 1
        return self.send(dest, text, reply_ctx=ctx)

    # -- out -------------------------------------------------------------------------------------------------------------

    def send(self, dest: Dest, text: str, *, reply_ctx: Ctx | None = None) -> bool:
        """Write a message. False when it could not be sent (logged)."""
        for change in self.hooks.outgoing_filters:
            changed = change(text, dest)
            if changed is None:
                return False
            text = changed
        data = text.encode("latin-1", "replace")
        try:
            if dest.proto in DATAGRAM:
                self.senders[dest.listener](data, (dest.ip, dest.port))
            else:
                # nobody can be called over WebSocket: who wants to be reached has opened a connection
                connect = dest.connect and dest.proto not in BELOW
                self.worker.streams.send(dest.listener, data, (dest.ip, dest.port), dest.conn, connect=connect, close=dest.close, wish=dest.wish)
        except (BlockingIOError, InterruptedError):
            # as lost on the way: whoever sent it repeats it
            self.worker.counters.add("core", "send_queue_full")
        except OSError as err:
            self.log.error("cannot send to %s:%s:%d: %s", dest.proto, dest.ip, dest.port, err.strerror or err)
            if reply_ctx is None:
                self.blocklist.failed(dest.key, text.partition(" ")[0], Reason.SEND)
            return False
        return True

    def send_raw(self, flow: Flow, text: str, *, close: bool = False) -> None:
        """Write something that is no SIP message back over the connection that a message came by. Raises OSError when it is gone."""
        self.worker.streams.send(flow.listener, text.encode("latin-1", "replace"), (flow.remote_ip, flow.remote_port), flow.conn, connect=False, close=close)

    def send_datagram(self, flow: Flow, data: bytes) -> None:
        """Bytes that are no SIP message back to where a datagram came from; as lost on the way when they cannot be sent."""
        with contextlib.suppress(OSError):
            self.senders[flow.listener](data, (flow.remote_ip, flow.remote_port))

    def lost(self, remote: tuple[str, int]) -> None:
        """A connection broke with something unsent. Told to the transactions when what runs now is done."""
        engine = self.worker.engine
        self.worker.timers.arm(self.now(), lambda at: engine.destination_lost(remote, at))

    def onsend(self, ctx: Ctx, dest: Dest, text: str) -> bool:
        """Run onsend_route for a request about to leave; False drops it."""
        function = ctx.rt.functions.get(("onsend", None))
        if function is None:
            return True
        work = ctx.copy_for(Routes.ONSEND)
        work.outgoing = (dest, text)
        return self.run(function, work)

    def via_header(self, ctx: Ctx, dest: Dest, branch: str) -> str:
        listener = dest.listener
        host, port = listener.via_host, listener.via_port
        if ctx.advertise is not None:
            host, port = ctx.advertise[0] or host, ctx.advertise[1] or port
        rport = ";rport" if ctx.add_local_rport else ""
        return f"Via: SIP/2.0/{dest.proto.upper()} {host}:{port}{rport};branch={branch}\r\n"

    def reply_dest(self, ctx: Ctx) -> Dest:
        """Where replies to a request go (RFC 3261 section 18.2.2, RFC 3581)."""
        via, flow = ctx.msg.via1, ctx.flow
        if ctx.reply_to_via:
            return Dest(flow.listener, flow.proto, via.host if is_ip(via.host) else flow.remote_ip, via.real_port)
        port = flow.remote_port if ctx.force_rport or via.wants_rport else via.real_port
        # on a stream: the connection of the request, and a new one to the Via's port when it is gone
        return Dest(flow.listener, flow.proto, flow.remote_ip, port, flow.conn, connect=not ctx.reply_no_connect, close=ctx.reply_close)

    def source_via(self, ctx: Ctx) -> str:
        """The first Via value with received and rport filled in."""
        msg, flow = ctx.msg, ctx.flow
        via = msg.via1
        value = split_vias(msg.first["via"][2])[0].strip()
        rport = ctx.force_rport or via.wants_rport
        # RFC 3581 section 4: with rport comes received, also when it says what the Via says
        received = (via.wants_rport or via.host.strip("[]") != flow.remote_ip) and not via.received
        if not received and not rport:
            return value
        return via_with_source(value, via, flow.remote_ip, flow.remote_port, received=received, rport=rport)

    def source_edit(self, ctx: Ctx) -> list[tuple[int, int, str]]:
        """received and rport as an edit of the first Via of a request that goes on."""
        header = ctx.msg.first["via"]
        values = split_vias(header[2])
        new = self.source_via(ctx)
        if new == values[0].strip():
            return []
        rest = "," + ",".join(values[1:]) if len(values) > 1 else ""
        return [(header[3], header[4], f"{header[1]}: {new}{rest}\r\n")]

    def local_reply_text(self, ctx: Ctx, code: int, reason: str, to_tag: str) -> str:
        """A reply of our own to the request of a context, with the headers and body that the script added."""
        headers = "".join(ctx.reply_headers or ())
        body, body_type = ctx.reply_body or ("", "")
        return build_reply(ctx.msg, code, reason, to_tag=to_tag, via1=self.source_via(ctx), server=ctx.rt.server_header, headers=headers, body=body,
                           body_type=body_type)  # fmt: skip

    def stateless_reply(self, ctx: Ctx, code: int, reason: str) -> bool:
        """Answer without a transaction. An ACK is never answered."""
        if ctx.msg.method == "ACK":
            return False
        tag = ctx.rt.totag(ctx.msg) if code > 100 else ""
        text = self.local_reply_text(ctx, code, reason, tag)
        ctx.reply_headers = ctx.reply_body = None
        ctx.replied = True
        return self.send(self.reply_dest(ctx), text, reply_ctx=ctx)

    def forward_stateless(self, ctx: Ctx, dest: Dest | None = None) -> bool:
        """Send a request on without a transaction; its branch is a function of the one it came with (RFC 3261 section 16.11)."""
        if dest is None:
            dest = self.resolve(ctx, ctx.du or ctx.rt.next_route(ctx) or ctx.ruri)
            if dest is None:
                return False
        msg = ctx.msg
        key = f"{self.worker.secret}{msg.via1.branch or msg.first['via'][2]}{msg.call_id}{msg.cseq[0]}"
        ident = hashlib.md5(key.encode("latin-1", "replace"), usedforsecurity=False).hexdigest()[:16]
        via = self.via_header(ctx, dest, f"{_COOKIE}{ident}.0")
        edits = for_dest(ctx.edits, dest) + self.source_edit(ctx)
        if ctx.path:
            header = msg.first.get("route") or msg.first["via"]
            edits = [*edits, (header[3], header[3], f"Route: {ctx.path}\r\n")]
        text = build_request(msg, edits, ctx.ruri, via, need_length=dest.proto != "udp")
        wider = self.for_size(ctx, dest, len(text))
        if wider is not None:
            return self.forward_stateless(ctx, wider)
        if not self.onsend(ctx, dest, text):
            return False
        self._stats["core", "fwd_requests"] = self._stats.get(("core", "fwd_requests"), 0) + 1
        return self.send(dest, text)
