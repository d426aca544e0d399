"""Modules pua, pua_usrloc and pua_rpc: publications and subscriptions of this server's own. What is sent was compared with Kamailio 5.6.3."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.dbtables import Tables
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.pua.publish import Publication
from tests.harness import HEAD, Bench, Message, built

LOAD = HEAD + """loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "pua.so"
loadmodule "pua_usrloc.so"
loadmodule "pua_rpc.so"
alias="a.test"
modparam("pua", "outbound_proxy", "sip:127.0.0.1:5971")
modparam("pua", "update_period", 6)
modparam("pua_usrloc", "default_domain", "a.test")
modparam("pua_usrloc", "entity_prefix", "pres")
"""
ROUTE = """request_route {
    if (is_method("REGISTER")) { if ($tU != "quiet") pua_set_publish(); save("location"); exit; }
    if (is_method("NOTIFY")) { if (pua_update_contact()) sl_send_reply("200", "OK"); else sl_send_reply("481", "No"); exit; }
}
"""
PIDF = '<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:x@a.test"><tuple id="t1"><status><basic>open</basic></status></tuple></presence>'
LAID_OUT = """<?xml version="1.0"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:x@a.test">
  <tuple id="t1">
    <status>
      <basic>open</basic>
    </status>
  </tuple>
</presence>
"""


def body(m: Message) -> str:
    return m.text.partition("\r\n\r\n")[2]


class Publisher:
    """A server, its phones, and the agent that it publishes to."""

    def __init__(self, b: Bench) -> None:
        self.b, self.etag, self.serial = b, 0, 0

    def register(self, user: str, expires: int = 600) -> None:
        self.serial += 1
        self.b.recv(f"REGISTER sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKr{self.serial}\r\nFrom: <sip:{user}@a.test>;tag=f\r\n"
                    f"To: <sip:{user}@a.test>\r\nCall-ID: reg-{user}\r\nCSeq: {self.serial} REGISTER\r\nContact: <sip:{user}@127.0.0.1:6000>;expires={expires}\r\n"
                    "Content-Length: 0\r\n\r\n")  # fmt: skip

    def take(self, method: str = "PUBLISH", status: str = "200 OK", seconds: int = 0, *, etag: bool = True) -> list[Message]:
        """Requests that were sent, answered."""
        found = [m for m in self.b.take() if m.first.startswith(method)]
        for m in found:
            self.etag += 1
            self.b.reply(m, status, *([f"SIP-ETag: tag{self.etag}"] * etag), f"Expires: {seconds or m.get('Expires')}", "Contact: <sip:ps@127.0.0.1:5972>", port=5971)
        return found

    def one(self, *args: Any, **named: Any) -> Message:
        (found,) = self.take(*args, **named)
        return found


@pytest.fixture
def pua(bench: Callable[..., Bench]) -> Publisher:
    return Publisher(bench(ROUTE, head=LOAD))


def shown(m: Message) -> tuple[str | None, str | None, bool]:
    return m.get("Expires"), m.get("SIP-If-Match"), bool(body(m))


def test_who_registers_is_published(pua: Publisher) -> None:
    pua.register("alice")
    first = pua.one()
    assert first.first == "PUBLISH sip:alice@a.test SIP/2.0" and first.to == ("127.0.0.1", 5971)
    assert (first.get("To"), first.get("CSeq"), first.get("Event"), first.get("Content-Type")) == ("<sip:alice@a.test>", "10 PUBLISH", "presence", "application/pidf+xml")
    assert shown(first) == ("601", None, True)
    assert re.fullmatch(r'<\?xml version="1.0"\?>\n<presence xmlns="urn:ietf:params:xml:ns:pidf" .*entity="pres:alice@a.test">\n  <tuple id="0x[0-9a-f]{12}">\n'
                        r"    <status>\n      <basic>open</basic>\n    </status>\n  </tuple>\n</presence>\n", body(first))  # fmt: skip
    pua.register("alice")
    assert shown(pua.one()) == ("601", "tag1", False)
    pua.register("quiet")
    assert pua.take() == []
    pua.register("alice", 0)
    assert shown(pua.one()) == ("0", "tag2", False)
    pua.register("alice", 0)
    assert pua.take() == []


@pytest.mark.parametrize("status", ["412 No", "500 No", "200 OK"])
def test_a_refresh_that_is_refused_is_followed_by_a_new_publication(pua: Publisher, status: str) -> None:
    pua.register("alice")
    pua.take()
    pua.register("alice")
    assert shown(pua.one(status=status, etag=not status.startswith("200"))) == ("601", "tag1", False)
    assert pua.take() == []
    pua.register("alice")
    assert shown(pua.one()) == ("601", None, True)


def test_a_publication_that_is_not_known_begins_anew_once(pua: Publisher) -> None:
    pua.register("alice")
    assert shown(pua.one(status="412 No")) == ("601", None, True)
    assert shown(pua.one(status="412 No")) == ("604", None, True)
    assert pua.take() == []


def test_publications_are_refreshed_until_what_was_wanted_is_over(pua: Publisher) -> None:
    pua.register("alice")
    pua.take(seconds=16)
    begun, seen = pua.b.time, []
    for _ in range(620):
        pua.b.advance(1)
        seen += [(pua.b.time - begun, m.get("Expires"), m.get("SIP-If-Match"), body(m)) for m in pua.take(seconds=16)]
    assert seen[:2] == [(11, "590", "tag1", ""), (22, "579", "tag2", "")]
    assert 590 <= seen[-1][0] <= 600
    assert list(pua.b.worker.rt.module("pua").records) == []


def test_no_answer(pua: Publisher) -> None:
    pua.register("alice")
    pua.b.take()
    pua.register("alice")
    assert [m for m in pua.b.take() if m.first.startswith("PUBLISH")] == []
    pua.b.advance(40)
    assert shown(pua.b.take()[-1]) == ("601", None, True)


def test_what_comes_while_an_answer_is_awaited_is_sent_afterwards(pua: Publisher) -> None:
    module = pua.b.worker.rt.module("pua")
    for n in range(3):
        assert module.publish(Publication("sip:x@a.test", "dialog", 7, "one", 60, f"<d n='{n}'/>", "a/b"))
    seen = []
    while found := pua.take():
        seen += [(body(m), m.get("SIP-If-Match")) for m in found]
    assert seen == [("<d n='0'/>", None), ("<d n='1'/>", "tag1"), ("<d n='2'/>", "tag2")]
    for n in range(120):
        with_room = n < 101
        if with_room:
            module.publish(Publication("sip:x@a.test", "dialog", 7, "two", 60, "x", "a/b"))
        else:
            with pytest.raises(ValueError, match="wait for an answer"):
                module.publish(Publication("sip:x@a.test", "dialog", 7, "two", 60, "x", "a/b"))


def test_where_the_agent_cannot_be_reached(bench: Callable[..., Bench]) -> None:
    pua = Publisher(bench(ROUTE, head=LOAD.replace("sip:127.0.0.1:5971", "sip:nobody.invalid;transport=tcp")))
    pua.register("alice")
    assert [m.first for m in pua.b.take()] == ["SIP/2.0 200 OK"]
    assert any("cannot be sent" in line for line in pua.b.log.lines)
    assert pua.b.worker.rt.module("pua").waiting == {}


def call(pua: Publisher, *params: Any, name: str = "pua.publish", **answer: Any) -> tuple[list[Message], Any]:
    """A command that waits for the answer to what it sends."""
    got: list[Any] = []

    def run() -> None:
        try:
            got.append(pua.b.rpc(name, *params))
        except RpcFault as fault:
            got.append((fault.code, fault.text))

    pua.b.worker.waits.detached(run)
    sent = pua.take(**answer)
    return sent, got[0]


def test_publishing_by_command(pua: Publisher) -> None:
    (m,), answer = call(pua, "sip:x@a.test", "300", "presence", "application/pidf+xml", ".", ".", ".", "X-Extra: 1\r\n", PIDF)
    assert (shown(m), m.get("X-Extra"), body(m)) == (("301", None, True), "1", LAID_OUT)
    assert answer == {"SIP-ETag": "tag1", "Expires": 301}
    (m,), answer = call(pua, "sip:x@a.test", "300", "presence", "application/pidf+xml", "myid", ".", "sip:127.0.0.1:5999", ".", PIDF)
    assert (shown(m), m.to[1], answer) == (("301", None, True), 5999, {"SIP-ETag": "tag2", "Expires": 301})
    (m,), answer = call(pua, "sip:x@a.test", "0", "presence", "application/pidf+xml", ".", "tag1", ".", ".", PIDF)
    assert (shown(m), answer["Expires"]) == (("0", "tag1", False), 0)
    (m,), answer = call(pua, "sip:x@a.test", "-1", "presence", "application/pidf+xml", "myid", ".", ".", ".", PIDF)
    assert (shown(m), m.to[1], answer["Expires"]) == (("3601", "tag2", True), 5999, 3601)
    (m,), answer = call(pua, "sip:q@a.test", "300", "dialog", "application/dialog-info+xml", ".", ".", ".", ".", "text that is no xml", status="500 No")
    assert (body(m), answer) == ("text that is no xml", {})
    (m,), answer = call(pua, "sip:y@a.test", "300", "presence", "application/pidf+xml", ".", ".", ".", ".", PIDF, name="pua.send_publish")
    assert (shown(m), answer) == (("301", None, True), None)


@pytest.mark.parametrize(("params", "fault"), [
    (("notauri", "300", "presence", "a/b", ".", ".", ".", ".", PIDF), (400, "Invalid presentity uri 'notauri'")),
    (("sip:x@a.test", "300", "nonsense", "a/b", ".", ".", ".", ".", PIDF), (400, "Unknown event")),
    (("sip:x@a.test", "xx", "presence", "a/b", ".", ".", ".", ".", PIDF), (400, "Invalid expires value 'xx'")),
    (("sip:x@a.test", "300", "presence", "a/b", ".", "nosuch", ".", ".", "."), (500, "Wrong ETag")),
    (("sip:x@a.test", "300", "presence", "a/b", ".", ".", ".", ".", "<nope"), (500, "I'm terribly sorry, server error occurred (1/RPC/PUBLISH)")),
    (("sip:x@a.test", "300", "presence", "a/b", ".", ".", ".", ".", "<!DOCTYPE a><a/>"), (500, "I'm terribly sorry, server error occurred (1/RPC/PUBLISH)")),
    (("sip:x@a.test", "300", "presence", ".", ".", ".", ".", ".", "."), (500, "I'm terribly sorry, server error occurred (1/RPC/PUBLISH)")),
    (("sip:x@a.test", "300", "presence", "a/b", ".", ".", "\r\n", ".", PIDF), (400, "Invalid outbound proxy uri '\r\n'")),
    (("sip:x@a.test",), (400, "error at parameter 1: expected string type but end of packet encountered")),
])  # fmt: skip
def test_commands_that_are_refused(pua: Publisher, params: tuple[str, ...], fault: tuple[int, str]) -> None:
    sent, answer = call(pua, *params)
    assert (sent, answer) == ([], fault)


def test_a_subscription(pua: Publisher) -> None:
    rpc = pua.b.rpc
    rpc("pua.subscribe", "sip:z@127.0.0.1:5971", "sip:watcher@a.test", "presence", 600)
    m = pua.one("SUBSCRIBE", "202 OK", 20)
    assert (m.first, m.get("From", ), m.get("Contact"), m.get("Expires"), m.get("CSeq")) == (
        "SUBSCRIBE sip:z@127.0.0.1:5971 SIP/2.0", m.get("From"), "<sip:watcher@a.test>", "610", "10 SUBSCRIBE")
    pua.b.advance(15)
    again = pua.one("SUBSCRIBE", "200 OK", 20)
    assert again.first == "SUBSCRIBE sip:ps@127.0.0.1:5972 SIP/2.0"
    assert (again.get("Expires"), again.get("CSeq"), again.get("Call-ID")) == ("595", "11 SUBSCRIBE", m.get("Call-ID"))
    assert (again.get("To") or "").endswith(";tag=t1") and again.get("From") == m.get("From")
    own = (m.get("From") or "").partition(";tag=")[2]
    for contact, to_tag, answer in (("sip:moved@127.0.0.1:5974", own, "200 OK"), ("sip:x@127.0.0.1", "other", "481 No")):
        pua.b.recv(f"NOTIFY sip:watcher@a.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5971;branch=z9hG4bKn{to_tag}\r\n"
                   f"From: <sip:z@127.0.0.1>;tag=t1\r\nTo: <sip:watcher@a.test>;tag={to_tag}\r\nCall-ID: {m.get('Call-ID')}\r\nCSeq: 1 NOTIFY\r\nContact: <{contact}>\r\n"
                   "Content-Length: 0\r\n\r\n")  # fmt: skip
        assert [s.first for s in pua.b.take()] == [f"SIP/2.0 {answer}"]
    rpc("pua.subscribe", "sip:z@127.0.0.1:5971", "sip:watcher@a.test", "presence", 0)
    last = pua.one("SUBSCRIBE", "200 OK")
    assert (last.first, last.get("Expires")) == ("SUBSCRIBE sip:moved@127.0.0.1:5974 SIP/2.0", "0")
    rpc("pua.subscribe", "sip:z@127.0.0.1:5971", "sip:watcher@a.test", "presence", 0)
    assert pua.take("SUBSCRIBE") == []
    for params, fault in ((("x", "sip:w@h", "presence", 1), "Invalid presentity URI"), (("sip:x@h", "w", "presence", 1), "Invalid watcher URI"),
                          (("sip:x@h", "sip:w@h", "nonsense", 1), "Unknown event")):  # fmt: skip
        with pytest.raises(RpcFault, match=fault):
            rpc("pua.subscribe", *params)


def test_a_subscription_that_is_refused_is_forgotten(pua: Publisher) -> None:
    pua.b.rpc("pua.subscribe", "sip:z@127.0.0.1:5971", "sip:watcher@a.test", "presence", 600)
    pua.take("SUBSCRIBE", "403 No")
    pua.b.rpc("pua.subscribe", "sip:z@127.0.0.1:5971", "sip:watcher@a.test", "presence", 600)
    assert pua.one("SUBSCRIBE").get("CSeq") == "10 SUBSCRIBE"


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "pua.db"
    Tables(f"sqlite:///{path}").create()
    return str(path)


def test_the_database(bench: Callable[..., Bench], database: str, tmp_path: Path) -> None:
    head = LOAD.replace('loadmodule "pua.so"', 'loadmodule "db_sqlite.so"\nloadmodule "pua.so"') + f'modparam("pua", "db_url", "sqlite:///{database}")\n'
    pua = Publisher(bench(ROUTE, head=head))
    pua.register("alice")
    pua.take()
    pua.b.rpc("pua.subscribe", "sip:z@127.0.0.1:5971", "sip:watcher@a.test", "presence", 600)
    pua.take("SUBSCRIBE")
    pua.b.worker.stop()
    with sqlite3.connect(database) as db:
        rows = db.execute("select pres_uri, pres_id, event, flag, etag, watcher_uri, cseq, expires - desired_expires from pua order by watcher_uri").fetchall()
    assert rows == [("sip:alice@a.test", "UL_PUBLISH.reg-alice", 1, 1, "tag1", "", 0, 1), ("sip:z@127.0.0.1:5971", "", 1, 32, "", "sip:watcher@a.test", 10, 10)]
    again = Publisher(Bench(tmp_path, ROUTE, head=head))
    again.register("alice")
    assert shown(again.one()) == ("601", "tag1", False)
    again.register("alice", 0)
    again.take()
    again.b.worker.stop()
    with sqlite3.connect(database) as db:
        assert db.execute("select count(*) from pua where watcher_uri = ''").fetchall() == [(0,)]


@pytest.mark.parametrize(("more", "message"), [
    ('modparam("pua", "update_period", 5)', "update_period must be 0 or > 5"), ('modparam("pua", "default_expires", 0)', "numbers of seconds"),
    ('modparam("pua_usrloc", "default_domain", "")', "default_domain is missing"),
])  # fmt: skip
def test_parameters_that_are_refused(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Bench(tmp_path, ROUTE, files=built(tmp_path, LOAD + more + "\n" + ROUTE))
