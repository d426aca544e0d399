"""Requests that the server makes itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Routes, function
from kamc.errors import SipError
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.net.endpoint import Dest, Flow, Listener
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.sip.build import build_request
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.sip.uri import split_quoted
from kamc.runtime.tm.branch import ClientBranch
from kamc.runtime.tm.transaction import Transaction

Callback = Callable[[Transaction, int, SipMessage | None], None]


class UacFunctions:
    rt: Any
    p: Any

    def send_request(self, method: str, ruri: str, *, nexthop: str = "", socket: str = "", headers: str = "", body: str = "",
                     callback: Callback | None = None, listener: Listener | None = None, ack: bool = True, fr: float = 0) -> Transaction | None:  # fmt: skip
        """Send a request in a transaction of its own. ``headers`` may bring From, To, Call-ID and CSeq; missing ones are made up. A 2xx to an
        INVITE is acknowledged, unless ``ack`` says otherwise. ``fr`` is how many seconds the answer may take, 0 for what
        tm says. Raises SipError for headers that make no message."""
        lines = [h for h in headers.replace("\r\n", "\n").split("\n") if h.strip()]
        names = {h.partition(":")[0].strip().lower() for h in lines}
        listener = listener or self._socket(socket)
        if listener is None:
            return None
        host = f"{listener.via_host}:{listener.via_port}"
        call_id = self.rt.own_call_id(lambda: f"{secrets.token_hex(12)}@{listener.host}")
        made = {
            "from": f"From: <sip:{host}>;tag={secrets.token_hex(8)}", "to": f"To: <{ruri}>", "call-id": f"Call-ID: {call_id}",
            "cseq": f"CSeq: 10 {method}", "max-forwards": "Max-Forwards: 70",
        }  # fmt: skip
        lines = [line for key, line in made.items() if key not in names] + lines
        lines = [self._tagged(line) for line in lines]
        if self.rt.user_agent:
            lines.append(self.rt.user_agent)
        text = f"{method} {ruri} SIP/2.0\r\n" + "".join(f"{line}\r\n" for line in lines) + f"Content-Length: {len(body)}\r\n\r\n{body}"
        msg = parse_message(text)
        ctx = Ctx(self.rt, msg, Flow(listener, listener.host, listener.port), Routes.LOCAL)
        ctx.du = nexthop or None
        dest, rest = self.rt.datapath.resolve_all(ctx, nexthop or ruri)
        if dest is None:
            return None
        engine = self.rt.tm
        if not self.rt.run_event("tm:local-request", ctx):
            return None
        t: Transaction = engine.new_local(ctx)
        if fr:
            t.fr = fr
        t.extra["callback"] = self._acknowledging(callback) if ack and method == "INVITE" else callback
        branch = ClientBranch(t, 0, ctx.ruri, Branch(ctx.ruri), dest)
        branch.rest = rest
        branch.hooks = {kind: name for kind, name in (ctx.hooks or {}).items() if kind != "failure" or self.p.enable_uac_fr}
        via = self.rt.datapath.via_header(ctx, branch.dest, f"{t.tid}.0")
        branch.request = build_request(msg, ctx.edits, ctx.ruri, via)
        t.branches.append(branch)
        if not t.start_branch(branch, self.rt.now()) and not t.fail_over(branch, self.rt.now()):
            t.fail_branch(branch, 477, self.rt.now())
        return t

    def _acknowledging(self, callback: Callback | None) -> Callback:
        """A callback that first sends the ACK of a 2xx (RFC 3261 section 13.2.2.4)."""

        def done(t: Transaction, code: int, reply: SipMessage | None) -> None:
            if 200 <= code < 300 and reply is not None:
                self._acknowledge(t, reply)
            if callback is not None:
                callback(t, code, reply)

        return done

    def _acknowledge(self, t: Transaction, reply: SipMessage) -> None:
        contact = reply.address("contact")
        target = contact.uri if contact is not None else t.request_ctx.ruri
        values = [value for header in reply.all("record-route") for value in split_quoted(header[2], ",")]
        routes = [value.strip() for value in reversed(values)]
        first = parse_addr(routes[0]) if routes else None
        ctx = t.request_ctx
        mode = self.p.local_ack_mode
        dest: Dest | None = t.branches[0].dest if mode == 1 else self.rt.datapath.resolve(ctx, first.uri if first is not None else ctx.du or target)
        flow: Flow | None = t.extra.get("reply_flow") if mode == 2 else None
        if flow is not None:
            dest = Dest(flow.listener, flow.proto, flow.remote_ip, flow.remote_port, flow.conn)
        if dest is None:
            return
        # Kamailio's ACK has the branch of the INVITE, unless it is asked for one of its own (RFC 3261 section 8.1.1.7)
        branch = f"{t.tid}.ack" if self.p.local_ack_branch_mode else f"{t.tid}.0"
        text = (f"ACK {target} SIP/2.0\r\n{self.rt.datapath.via_header(ctx, dest, branch)}From: {ctx.msg.value('from')}\r\n"
                f"Call-ID: {ctx.msg.call_id}\r\nTo: {reply.value('to')}\r\nCSeq: {ctx.msg.cseq[0]} ACK\r\n" + "".join(f"Route: {r}\r\n" for r in routes)
                + f"Max-Forwards: 70\r\n{self.rt.user_agent}{'' if not self.rt.user_agent else chr(13) + chr(10)}Content-Length: 0\r\n\r\n")  # fmt: skip
        t.extra["ack"] = dest, text
        self.rt.datapath.send(dest, text)

    @staticmethod
    def _tagged(line: str) -> str:
        """A From of the script gets a tag when it has none."""
        if line.lower().startswith(("from:", "f:")) and ";tag=" not in line.lower():
            return f"{line};tag={secrets.token_hex(8)}"
        return line

    def _socket(self, text: str) -> Any:
        if not text:
            return next((s for s in self.rt.listeners if s.proto == "udp"), None)
        return self.rt.worker.find_socket(text, whole=True)

    @function(ANY)
    def t_uac_send(self, ctx: Ctx, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str) -> int:
        try:
            sent = self.send_request(method, ruri, nexthop=nexthop, socket=socket, headers=headers, body=body)
        except SipError as err:
            self.rt.log.error("t_uac_send: %s", err)
            return -1
        return 1 if sent is not None else -1
