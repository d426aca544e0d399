"""RPC of tm: requests from outside, with and without waiting; the answers are those of Kamailio 5.6.3."""

from __future__ import annotations

from typing import Any

import pytest

from kamc.runtime.rpc.fault import RpcFault
from tests.harness import Bench

HEADERS = "From: <sip:a@b>;tag=q\r\nTo: <sip:c@d>\r\nX-A: 1\r\n"
CFG = 'modparam("tm", "fr_timer", 1000)\nrequest_route { t_newtran(); t_reply("180", "Ringing"); }\n'


def ask(b: Bench, name: str, *params: Any) -> list[Any]:
    """Call a command that may answer later; its answer, or fault, ends up in the list."""
    out: list[Any] = []

    def call() -> None:
        try:
            out.append(b.rpc(name, *params))
        except RpcFault as fault:
            out.append((fault.code, fault.text))

    b.worker.waits.detached(call)
    return out


def request(*more: str, method: str = "MESSAGE", headers: str = HEADERS) -> tuple[str, ...]:
    return (method, "sip:c@127.0.0.1:7079", ".", ".", headers, *more)


def test_starting(bench) -> None:
    b = bench(CFG)
    assert ask(b, "tm.t_uac_start", *request("hello", headers=HEADERS + "Content-Type: text/plain\r\n")) == [None]
    (sent,) = b.take()
    assert (sent.first, sent.to[1], sent.get("X-A"), sent.get("CSeq"), sent.text.rpartition("\r\n\r\n")[2]) == (
        "MESSAGE sip:c@127.0.0.1:7079 SIP/2.0", 7079, "1", "10 MESSAGE", "hello")  # fmt: skip
    ask(b, "tm.t_uac_start_hex", *request("68656c6c6f", headers=HEADERS + "Content-Type: text/plain\r\n"))
    assert b.take()[-1].text.endswith("\r\n\r\nhello")


def test_waiting_for_the_answer(bench) -> None:
    b = bench(CFG)
    out = ask(b, "tm.t_uac_wait", *request())
    (sent,) = b.take()
    b.reply(sent, "100 Trying")
    assert out == []
    b.reply(sent, "200 OK", "Contact: <sip:q@127.0.0.1:7079>", "Record-Route: <sip:p1;lr>, <sip:p2;lr>")
    assert out[0][:5] == [200, "OK", "sip:q@127.0.0.1:7079", "sip:p2;lr", "Route: <sip:p2;lr>\r\nRoute: <sip:p1;lr>\r\n"]
    assert out[0][5].startswith("Via: SIP/2.0/UDP 127.0.0.1:5060;branch=") and "\r\n\r\n" in out[0][5]
    out = ask(b, "tm.t_uac_wait", *request())
    b.reply(b.take()[-1], "404 Nope")
    assert (out[0][:2], len(out[0])) == ([404, "Nope"], 3)
    out = ask(b, "tm.t_uac_wait", *request())
    b.advance(1.5)
    assert out == [[408, "Request Timeout", "", "", "", ""]]
    out = ask(b, "tm.t_uac_wait_block", *request())
    b.take()
    b.advance(1.5)
    assert out == [{"code": 408, "text": "Request Timeout"}]
    b.advance(10)
    assert (b.transactions, b.worker.waits.job) == (0, None)


@pytest.mark.parametrize(("name", "acks"), [("tm.t_uac_wait", 1), ("tm.t_uac_wait_noack", 0), ("tm.t_uac_start", 1), ("tm.t_uac_start_noack", 0)])
def test_who_acknowledges(bench, name: str, acks: int) -> None:
    b = bench(CFG)
    ask(b, name, *request(method="INVITE"))
    b.reply(b.take()[0], "200 OK", "Contact: <sip:q@127.0.0.1:7079>")
    assert [m.first.split()[0] for m in b.take()].count("ACK") == acks


@pytest.mark.parametrize(
    ("params", "fault"),
    [(request("body"), (400, "Content-Type missing")), (request(headers="X: y\r\n"), (400, "To missing")), (request(headers="To: <sip:a@b>\r\n"), (400, "From missing")),
     (("MESSAGE", "bogus", ".", ".", HEADERS), (400, 'Invalid request uri "bogus"')),
     (("MESSAGE", "sip:a@b", "bogus", ".", HEADERS), (400, 'Invalid next-hop uri "bogus"')),
     (("MESSAGE", "sip:c@127.0.0.1", ".", "udp:1.2.3.4:5", HEADERS), (400, 'No local socket for "udp:1.2.3.4:5"')), (("MESSAGE",), (400, "too few parameters (1/5)"))],
)  # fmt: skip
def test_what_is_refused(bench, params: tuple[str, ...], fault: tuple[int, str]) -> None:
    b = bench(CFG)
    assert ask(b, "tm.t_uac_wait", *params) == [fault]
    assert ask(b, "tm.t_uac_start_hex", *request("xyz")) == [(400, "Invalid hex body")]
    assert b.take() == []


def test_without_a_transport_that_waits(bench) -> None:
    with pytest.raises(RpcFault, match="not supported by this rpc transport"):
        bench(CFG).rpc("tm.t_uac_wait", *request())


def test_answering_transactions_from_outside(bench) -> None:
    b = bench(CFG)
    b.request("INVITE", call_id="c5", branch="z9hG4bKh")
    b.take()
    b.rpc("tm.retransmit_reply_callid", "c5", "1")
    assert b.firsts() == ["SIP/2.0 180 Ringing"]
    (row,) = b.rpc("tm.list")
    assert (row["callid"], row["cseq"], row["uas_request"]) == ("Call-ID: c5\r\n", "CSeq: 1", "yes")
    b.rpc("tm.retransmit_reply", f"{row['tindex']}:{row['tlabel']}")
    assert b.firsts() == ["SIP/2.0 180 Ringing"]
    b.rpc("tm.reply_callid", 200, "Fine", "c5", "1", "tt", "X-H: v\r\nContent-Type: text/x\r\n", "hello")
    (reply,) = b.take()
    assert (reply.first, reply.get("To"), reply.get("X-H"), reply.get("Content-Type")) == ("SIP/2.0 200 Fine", "<sip:bob@b.test>;tag=tt", "v", "text/x")
    assert reply.text.endswith("\r\n\r\nhello")
    for call, code in ((("tm.reply_callid", 200, "x", "none", "1"), 404), (("tm.reply", 200, "x", "1:2"), 481), (("tm.reply", 200, "x", "nonsense"), 481),
                       (("tm.reply_callid", 200, "x", "c5", "1"), 500), (("tm.cancel", "c5", "7"), 400), (("tm.retransmit_reply", "1:1"), 481)):  # fmt: skip
        with pytest.raises(RpcFault) as fault:
            b.rpc(*call)
        assert fault.value.code == code
