"""RPC of tm: requests of the server's own, with and without waiting for the answer, and transactions answered or cancelled from outside.

The answers are those of Kamailio 5.6.3. Waiting needs a transport that can answer later; all of ours can.
"""

from __future__ import annotations

from typing import Any, Final

from kamc.declare import Spread, rpc
from kamc.errors import SipError
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.uri import parse_uri, split_quoted
from kamc.runtime.tm.transaction import Transaction
from stdlib_modules.tm.uac import Callback, UacFunctions

#: what a request that is incomplete hears
_TOO_FEW: Final = "400 too few parameters ({}/5)"
Answer = tuple[int, SipMessage | None, Transaction]


def _names(headers: str) -> set[str]:
    return {line.partition(":")[0].strip().lower() for line in headers.replace("\r\n", "\n").split("\n") if line[:1] not in ("", " ", "\t")}


class UacCommands(UacFunctions):
    def _request(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str, *, ack: bool, callback: Callback | None = None) -> None:
        """Send it. A dot stands for an empty parameter. Raises RpcFault."""
        nexthop, socket, headers, body = ("" if v == "." else v for v in (nexthop, socket, headers, body))
        for uri, what in ((ruri, "request"), (nexthop, "next-hop")):
            if (uri or what == "request") and parse_uri(uri) is None:
                raise RpcFault(400, f'Invalid {what} uri "{uri}"')
        if socket and self._socket(socket) is None:
            raise RpcFault(400, f'No local socket for "{socket}"')
        names = _names(headers)
        for name, short, shown in (("to", "t", "To"), ("from", "f", "From")):
            if name not in names and short not in names:
                raise RpcFault(400, f"{shown} missing")
        if body and not names & {"content-type", "c"}:
            raise RpcFault(400, "Content-Type missing")
        try:
            sent = self.send_request(method, ruri, nexthop=nexthop, socket=socket, headers=headers, body=body, ack=ack, callback=callback)
        except SipError as err:
            raise RpcFault(400, str(err)) from None
        if sent is None:
            raise RpcFault(500, "UAC error")

    @staticmethod
    def _hex(body: str) -> str:
        try:
            return bytes.fromhex(body).decode("latin-1") if body != "." else ""
        except ValueError:
            raise RpcFault(400, "Invalid hex body") from None

    def _answer(self, *request: str, ack: bool) -> Answer:
        """Send a request and wait for its final reply."""
        waits = self.rt.worker.waits
        if waits.job is None:
            raise RpcFault(600, "Reply wait/async mode not supported by this rpc transport")
        answers: list[Answer] = []
        resume: list[Any] = []

        def done(t: Transaction, code: int, reply: SipMessage | None) -> None:
            if code < 200 or answers:
                return
            answers.append((code, reply, t))
            if resume:
                resume[0]()

        self._request(*request, ack=ack, callback=done)
        if not answers:
            waits.wait(resume.append)
        return answers[0]

    def _whole(self, answer: Answer) -> list[Any]:
        """Status, reason, for a dialog its target, next hop and routes, and the reply from its headers on."""
        code, reply, _ = answer
        if reply is None:
            return [code, self.rt.tm.reason_of(code, None), "", "", "", ""]
        rest = reply.text[reply.first_line_end :]
        contact = reply.address("contact")
        if not 200 <= code < 300 or contact is None:
            return [code, reply.reason, rest]
        routes = [v.strip() for header in reversed(reply.all("record-route")) for v in reversed(split_quoted(header[2], ","))]
        first = parse_addr(routes[0]) if routes else None
        return [code, reply.reason, contact.uri, first.uri if first is not None else contact.uri, "".join(f"Route: {r}\r\n" for r in routes), rest]

    def _short(self, answer: Answer) -> dict[str, Any]:
        code, reply, _ = answer
        return {"code": code, "text": reply.reason if reply is not None else self.rt.tm.reason_of(code, None)}

    # -- starting --------------------------------------------------------------------------------------------------------

    @rpc("tm.t_uac_start", wrong=_TOO_FEW)
    def rpc_start(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = "") -> None:
        """Start a request; answers at once."""
        self._request(method, ruri, nexthop, socket, headers, body, ack=True)

    @rpc("tm.t_uac_start_hex", wrong=_TOO_FEW)
    def rpc_start_hex(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = ".") -> None:
        """The same with the body in hexadecimal digits."""
        self._request(method, ruri, nexthop, socket, headers, self._hex(body), ack=True)

    @rpc("tm.t_uac_start_noack", wrong=_TOO_FEW)
    def rpc_start_noack(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = "") -> None:
        """Start a request; a 2xx to an INVITE is not acknowledged."""
        self._request(method, ruri, nexthop, socket, headers, body, ack=False)

    @rpc("tm.t_uac_start_noack_hex", wrong=_TOO_FEW)
    def rpc_start_noack_hex(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = ".") -> None:
        """The same with the body in hexadecimal digits."""
        self._request(method, ruri, nexthop, socket, headers, self._hex(body), ack=False)

    # -- waiting ---------------------------------------------------------------------------------------------------------

    @rpc("tm.t_uac_wait", wrong=_TOO_FEW)
    def rpc_wait(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = "") -> list[Any]:
        """Send a request and answer with its final reply."""
        return self._whole(self._answer(method, ruri, nexthop, socket, headers, body, ack=True))

    @rpc("tm.t_uac_wait_hex", wrong=_TOO_FEW)
    def rpc_wait_hex(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = ".") -> list[Any]:
        """The same with the body in hexadecimal digits."""
        return self._whole(self._answer(method, ruri, nexthop, socket, headers, self._hex(body), ack=True))

    @rpc("tm.t_uac_wait_noack", wrong=_TOO_FEW)
    def rpc_wait_noack(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = "") -> list[Any]:
        """Send a request and answer with its final reply; a 2xx to an INVITE is not acknowledged."""
        return self._whole(self._answer(method, ruri, nexthop, socket, headers, body, ack=False))

    @rpc("tm.t_uac_wait_noack_hex", wrong=_TOO_FEW)
    def rpc_wait_noack_hex(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = ".") -> list[Any]:
        """The same with the body in hexadecimal digits."""
        return self._whole(self._answer(method, ruri, nexthop, socket, headers, self._hex(body), ack=False))

    @rpc("tm.t_uac_wait_block", wrong=_TOO_FEW)
    def rpc_block(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = "") -> dict[str, Any]:
        """Send a request and answer with status and reason."""
        return self._short(self._answer(method, ruri, nexthop, socket, headers, body, ack=True))

    @rpc("tm.t_uac_wait_block_hex", wrong=_TOO_FEW)
    def rpc_block_hex(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = ".") -> dict[str, Any]:
        """The same with the body in hexadecimal digits."""
        return self._short(self._answer(method, ruri, nexthop, socket, headers, self._hex(body), ack=True))

    @rpc("tm.t_uac_wait_block_noack", wrong=_TOO_FEW)
    def rpc_block_noack(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = "") -> dict[str, Any]:
        """Send a request and answer with status and reason; a 2xx to an INVITE is not acknowledged."""
        return self._short(self._answer(method, ruri, nexthop, socket, headers, body, ack=False))

    @rpc("tm.t_uac_wait_block_noack_hex", wrong=_TOO_FEW)
    def rpc_block_noack_hex(self, method: str, ruri: str, nexthop: str, socket: str, headers: str, body: str = ".") -> dict[str, Any]:
        """The same with the body in hexadecimal digits."""
        return self._short(self._answer(method, ruri, nexthop, socket, headers, self._hex(body), ack=False))

    # -- transactions of others ------------------------------------------------------------------------------------------

    @staticmethod
    def _found(t: Transaction | None) -> Transaction:
        if t is None:
            raise RpcFault(481, "No such transaction")
        return t

    def _by_id(self, trans_id: str) -> Transaction:
        index, _, label = trans_id.partition(":")
        return self._found(self.rt.tm.find_id(int(index), int(label)) if index.isdigit() and label.isdigit() else None)

    def _by_call(self, callid: str, cseq: str) -> Transaction:
        """``cseq``: a number, for any method."""
        number = str(cseq).split()[0] if str(cseq).strip() else ""
        t: Transaction | None = next((t for t in self.rt.tm.transactions() if not t.local and t.msg.call_id == callid and str(t.msg.cseq[0]) == number), None)
        if t is None:
            raise RpcFault(404, "Transaction not found")
        return t

    def _reply(self, t: Transaction, code: int, reason: str, totag: str, headers: str, body: str) -> None:
        if totag and totag != ".":
            t.to_tag = totag
        ctx = t.request_ctx
        lines = [] if headers == "." else [line + "\r\n" for line in headers.replace("\r\n", "\n").split("\n") if line]
        kinds = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("content-type:")]
        ctx.reply_headers = [line for line in lines if not line.lower().startswith("content-type:")]
        ctx.reply_body = (body, kinds[0] if kinds else "text/plain") if body and body != "." else None
        if not self.rt.tm.reply(t, int(code), reason):
            raise RpcFault(500, "Reply failed")

    @rpc("tm.reply", spread=Spread.EVERY, wrong="400 Reply code expected")
    def rpc_reply(self, code: int, reason: str, trans_id: str, totag: str = "", headers: str = "", body: str = "") -> None:
        """Answer a transaction, ``trans_id`` being ``index:label``."""
        self._reply(self._by_id(trans_id), code, reason, totag, headers, body)

    @rpc("tm.reply_callid", spread=Spread.EVERY, wrong="400 Reply code expected")
    def rpc_reply_callid(self, code: int, reason: str, callid: str, cseq: str, totag: str = "", headers: str = "", body: str = "") -> None:
        """Answer a transaction by Call-ID and CSeq number."""
        self._reply(self._by_call(callid, cseq), code, reason, totag, headers, body)

    @rpc("tm.retransmit_reply", spread=Spread.EVERY)
    def rpc_retransmit(self, trans_id: str) -> None:
        """Send the last reply of a transaction again."""
        self._by_id(trans_id).repeat_reply()

    @rpc("tm.retransmit_reply_callid", spread=Spread.EVERY)
    def rpc_retransmit_callid(self, callid: str, cseq: str) -> None:
        """Send the last reply of a transaction again, by Call-ID and CSeq number."""
        self._by_call(callid, cseq).repeat_reply()

    @rpc("tm.cancel", spread=Spread.EVERY, wrong="400 Callid and CSeq expected as parameters")
    def rpc_cancel(self, callid: str, cseq: str) -> list[Any]:
        """Cancel a pending INVITE by Call-ID and CSeq number; how many branches are left to be waited for."""
        t = self.rt.tm.by_callid(callid, cseq)
        if t is None:
            raise RpcFault(400, "Transaction not found")
        t.canceled = True
        t.cancel_branches(self.rt.now())
        return [len(list(t.live)), "branches remaining (waiting for timeout)"]
