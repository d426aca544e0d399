"""Requests that the server makes itself: t_uac_send, RPC tm.t_uac_*, and cancelling by RPC."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Routes, function, rpc
from kamc.errors import SipError
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.net.endpoint import Dest, Flow
from kamc.runtime.rpc.commands import RpcFault
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.tm.transaction import ClientBranch, Transaction

Callback = Callable[[Transaction, int, SipMessage | None], None]


class UacFunctions:
    rt: Any

    def send_request(self, method: str, ruri: str, *, nexthop: str = "", socket: str = "", headers: str = "", body: str = "",
                     callback: Callback | None = None) -> Transaction | None:  # fmt: skip
        """Send a request in a transaction of its own. ``headers`` may bring From, To, Call-ID and CSeq; missing ones are made up."""
        lines = [h for h in headers.replace("\r\n", "\n").split("\n") if h.strip()]
        names = {h.partition(":")[0].strip().lower() for h in lines}
        listener = self._socket(socket)
        if listener is None:
            return None
        host = f"{listener.via_host}:{listener.via_port}"
        made = {
            "from": f"From: <sip:{host}>;tag={secrets.token_hex(8)}", "to": f"To: <{ruri}>", "call-id": f"Call-ID: {secrets.token_hex(12)}@{listener.host}",
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
        dests: list[Dest] = self.rt.datapath.resolve(ctx, nexthop or ruri)
        if not dests:
            return None
        engine = self.rt.tm
        if not self.rt.run_event("tm:local-request", ctx):
            return None
        t: Transaction = engine.new_local(ctx)
        t.extra["callback"] = callback
        branch = ClientBranch(t, 0, ctx.ruri, Branch(ctx.ruri), dests)
        branch.hooks = ctx.hooks or {}
        from kamc.runtime.sip.build import build_request

        via = self.rt.datapath.via_header(ctx, branch.dest, f"{t.tid}.0")
        branch.request = build_request(msg, ctx.edits, ctx.ruri, via)
        t.branches.append(branch)
        if not t.start_branch(branch, self.rt.now()):
            t.fail_branch(branch, 477, self.rt.now())
        return t

    @staticmethod
    def _tagged(line: str) -> str:
        """A From of the script gets a tag when it has none."""
        if line.lower().startswith(("from:", "f:")) and ";tag=" not in line.lower():
            return f"{line};tag={secrets.token_hex(8)}"
        return line

    def _socket(self, text: str) -> Any:
        if not text:
            return next((s for s in self.rt.listeners if s.proto == "udp"), None)
        parts = text.split(":")
        if len(parts) != 3 or not parts[2].isdigit():
            return None
        return self.rt.worker.find_listener(parts[0], parts[1], int(parts[2]))

    @function(ANY)
    def t_uac_send(self, ctx: Ctx, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str) -> int:
        try:
            sent = self.send_request(method, ruri, nexthop=nexthop, socket=socket, headers=headers, body=body)
        except SipError as err:
            self.rt.log.error("t_uac_send: %s", err)
            return -1
        return 1 if sent is not None else -1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("tm.t_uac_start", "tm.t_uac_start_noack")
    def rpc_uac_start(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = "") -> str:
        """Start a request; answers at once."""
        clean = ["" if v == "." else v for v in (nexthop, socket, headers, body)]
        try:
            sent = self.send_request(method, ruri, nexthop=clean[0], socket=clean[1], headers=clean[2], body=clean[3])
        except SipError as err:
            raise RpcFault(400, str(err)) from None
        if sent is None:
            raise RpcFault(400, "Invalid destination or socket")
        return "ok"

    @rpc("tm.cancel")
    def rpc_cancel(self, callid: str, cseq: str) -> str:
        """Cancel a pending INVITE by Call-ID and CSeq number."""
        t = self.rt.tm.by_callid(callid, str(cseq))
        if t is None:
            raise RpcFault(481, "Call-ID and CSeq not found")
        t.canceled = True
        t.cancel_branches(self.rt.now())
        return "ok"

    @rpc("tm.reply")
    def rpc_reply(self, code: int, reason: str, trans_id: str, totag: str = "", headers: str = "", body: str = "") -> str:
        """Answer a transaction, ``trans_id`` being ``index:label``."""
        index, _, label = trans_id.partition(":")
        t = self.rt.tm.find_id(int(index), int(label)) if index.isdigit() and label.isdigit() else None
        if t is None:
            raise RpcFault(404, "Transaction not found")
        if totag:
            t.to_tag = totag
        if not self.rt.tm.reply(t, int(code), reason):
            raise RpcFault(500, "Reply failed")
        return "ok"
