"""Module pua_dialoginfo: what it publishes of a call. The cases are what Kamailio 5.6.3 published of the same
calls, but that a publication waits here for the answer to the one before it (Kamailio sends another first one when the answer is late)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from kamc.errors import ConfigError
from tests.harness import HEAD, Bench, Message, built

CASES = sorted((Path(__file__).parent.parent / "cases" / "pua_dialoginfo").glob("*.txt"))
LOAD = HEAD + """loadmodule "dialog.so"
loadmodule "pua.so"
loadmodule "pua_dialoginfo.so"
alias="a.test"
modparam("rr", "append_fromtag", 0)
modparam("pua", "outbound_proxy", "sip:127.0.0.1:5971")
"""
ROUTE = """request_route {
    if (has_totag()) { loose_route(); t_relay(); exit; }
    record_route();
    BEGIN
    $ru = "sip:bob@127.0.0.1:7000";
    t_relay();
}
"""
AGENT = 5971


class Call:
    """A call through the server, whose publications are answered and kept."""

    def __init__(self, b: Bench) -> None:
        self.b, self.route, self.etag = b, "", 0
        self.published: list[str] = []

    def take(self) -> list[Message]:
        """What is not for the agent."""
        others: list[Message] = []
        while found := self.b.take():
            for m in found:
                if m.to[1] != AGENT:
                    others.append(m)
                    continue
                document = re.sub(r'"padi-[0-9a-f-]+"', '"padi-ID"', m.text.partition("\r\n\r\n")[2]).removeprefix('<?xml version="1.0"?>\n')
                self.published.append(f"{m.first.removesuffix(' SIP/2.0')} {m.get('Expires')}{' again' if m.get('SIP-If-Match') else ''}\n{document}")
                self.etag += 1
                self.b.reply(m, "200 OK", f"SIP-ETag: e{self.etag}", f"Expires: {m.get('Expires')}", port=AGENT)
        return others

    def send(self, method: str, cseq: int, *, totag: str = "", uri: str = "sip:bob@a.test") -> Message | None:
        """A request of the caller; the one that the callee gets."""
        self.b.recv(f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5972;branch=z9hG4bK{method}{cseq}\r\n{self.route}"
                    f"From: \"Al Ice\" <sip:alice@a.test>;tag=al\r\n"
                    f"To: <sip:bob@a.test>{totag}\r\nCall-ID: c1\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:alice@127.0.0.1:5972>\r\n"
                    "Content-Length: 0\r\n\r\n", ("127.0.0.1", 5972))  # fmt: skip
        return next((m for m in self.take() if m.to[1] != 5972), None)

    def answer(self, m: Message | None, *statuses: str) -> None:
        assert m is not None
        for status in statuses:
            self.b.reply(m, status, "Contact: <sip:bob@127.0.0.1:5973>", tag="srv")
            for reply in self.take():
                record = reply.get("Record-Route")
                self.route = self.route or (f"Route: {record}\r\n" if record else "")

    def run(self) -> list[str]:
        """Ringing, an answer, a re-INVITE, the end."""
        self.answer(self.send("INVITE", 1), "180 Ringing", "200 OK")
        inside = {"totag": ";tag=srv", "uri": "sip:bob@127.0.0.1:5973"}
        self.send("ACK", 1, **inside)
        self.answer(self.send("INVITE", 2, **inside), "180 Ringing", "200 OK")
        self.send("ACK", 2, **inside)
        self.answer(self.send("BYE", 3, **inside), "200 OK")
        return self.published


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recorded_calls(bench: Callable[..., Bench], path: Path) -> None:
    settings, _, wanted = path.read_text().partition("---\n")
    settings, _, begin = settings.partition("begin: ")
    found = Call(bench(ROUTE.replace("BEGIN", begin.strip()), head=LOAD + settings)).run()
    assert "\n".join(found) == wanted


def test_a_call_that_is_refused(bench: Callable[..., Bench]) -> None:
    call = Call(bench(ROUTE.replace("BEGIN", "dlg_manage();"), head=LOAD))
    call.answer(call.send("INVITE", 1), "180 Ringing", "486 Busy")
    assert [(p.split()[1], p.split()[2], re.findall("<state>(.*)</state>", p)[0]) for p in call.published] == [
        ("sip:alice@a.test", "43201", "Trying"), ("sip:alice@a.test", "43201", "early"), ("sip:bob@a.test", "43201", "early"),
        ("sip:alice@a.test", "11", "terminated"), ("sip:bob@a.test", "11", "terminated")]  # fmt: skip


def test_strangers_and_calls_without_the_flag_are_not_published(bench: Callable[..., Bench]) -> None:
    for more, begin in (('modparam("pua_dialoginfo", "send_publish_flag", 5)\n', "dlg_manage();"), ("", "")):
        assert Call(bench(ROUTE.replace("BEGIN", begin), head=LOAD + more)).run() == []
    assert Call(bench(ROUTE.replace("BEGIN", "dlg_manage();"), head=LOAD.replace('"a.test"', '"b.test"'))).run() == []


def test_names_cannot_break_a_document(bench: Callable[..., Bench]) -> None:
    call = Call(bench(ROUTE.replace("BEGIN", "dlg_manage();"), head=LOAD))
    call.b.recv("INVITE sip:bob@a.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5972;branch=z9hG4bKx\r\nFrom: <sip:a&b'%3c@a.test>;tag=\"<x>\r\nTo: <sip:bob@a.test>\r\n"
                "Call-ID: c<&\">1\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:alice@127.0.0.1:5972>\r\n"
                "Content-Length: 0\r\n\r\n", ("127.0.0.1", 5972))  # fmt: skip
    call.take()
    (published,) = call.published
    assert etree.fromstring(published.partition("\n")[2].encode())[0].get("call-id") == 'c<&">1'


def test_avps_have_to_be_named(tmp_path: Path) -> None:
    for more, message in (('modparam("pua_dialoginfo", "use_pubruri_avps", 1)', "needs pubruri_caller_avp"),
                          ('modparam("pua_dialoginfo", "use_pubruri_avps", 1)\nmodparam("pua_dialoginfo", "pubruri_caller_avp", "$var(x)")', "is no AVP")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            Bench(tmp_path, ROUTE, files=built(tmp_path, LOAD + more + "\n" + ROUTE.replace("BEGIN", "dlg_manage();")))
