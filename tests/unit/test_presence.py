"""Modules presence and presence_xml: publications, subscriptions, watchers of watchers, rules. What is answered and told was compared with Kamailio 5.6.3."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.dbtables import Tables
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.presence_xml.rules import decide
from tests.harness import HEAD, Bench, Message, built

LOAD = HEAD + 'loadmodule "presence.so"\nloadmodule "presence_xml.so"\n'
ACTIVE = 'modparam("presence_xml", "force_active", 1)\n'
WITH_DATABASE = LOAD.replace('loadmodule "presence.so"', 'loadmodule "db_sqlite.so"\nloadmodule "presence.so"')
ROUTE = """request_route {
    if (is_method("PUBLISH")) { handle_publish(); xlog("rc $rc\\n"); exit; }
    if (is_method("SUBSCRIBE")) { t_newtran(); handle_subscribe(); xlog("rc $rc $subs(watcher_username) $subs(status)\\n"); exit; }
    switch ($rU) {
        case "has": pres_has_subscribers("sip:bob@b.test", "presence"); break;
        case "auth": pres_auth_status("sip:alice@a.test", "sip:bob@b.test"); break;
        case "open": pres_check_basic("sip:bob@b.test", "open"); break;
        case "away": pres_check_activities("sip:bob@b.test", "away"); break;
        case "update": pres_update_watchers("sip:bob@b.test", "presence"); break;
        case "refresh": pres_refresh_watchers("sip:bob@b.test", "presence", 1); break;
        case "file": pres_refresh_watchers("sip:bob@b.test", "presence", 2, "a", "b"); break;
        case "wrong": pres_refresh_watchers("sip:bob@b.test", "nosuch", 1); break;
    }
    xlog("rc $rc\\n");
}
event_route[presence:notify-reply] { xlog("reply $notify_reply($rs) of $subs(watcher_username)\\n"); }
"""
BOB = "sip:bob@b.test"
PIDF = "Content-Type: application/pidf+xml"


def document(tuple_id: str, basic: str = "open", more: str = "") -> str:
    return (f'<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:bob@b.test"><tuple id="{tuple_id}"><status><basic>{basic}</basic></status>'
            f"</tuple>{more}</presence>")  # fmt: skip


class Agent:
    """A server and those who talk with it."""

    def __init__(self, b: Bench) -> None:
        self.b, self.cseq = b, 10

    def _last(self, sent: list[Message]) -> Message:
        return next(m for m in sent if m.first.startswith("SIP/2.0"))

    def publish(self, *lines: str, body: str = "", event: str = "presence", expires: str = "600") -> Message:
        self.cseq += 1
        self.sent: list[Message] = []
        extra = [f"Event: {event}"] * bool(event) + [f"Expires: {expires}"] * bool(expires) + [PIDF] * bool(body)
        self.b.request("PUBLISH", BOB, *extra, *lines, body=body, cseq=self.cseq, branch=f"z9hG4bKp{self.cseq}", call_id="pub")
        self.sent = self.b.take()
        return self._last(self.sent)

    def subscribe(self, call_id: str = "s1", *lines: str, event: str = "presence", expires: int = 600, to_tag: str = "", cseq: int = 0) -> Message:
        self.cseq += 1
        extra = [f"Event: {event}"] * bool(event)
        self.b.request("SUBSCRIBE", BOB, *extra, f"Expires: {expires}", *lines, call_id=call_id, to_tag=to_tag, cseq=cseq or self.cseq, branch=f"z9hG4bKs{self.cseq}")
        self.sent = self.b.take()
        return self._last(self.sent)

    def told(self, status: str = "200 OK") -> list[Message]:
        """NOTIFY requests that were sent, answered."""
        found = [m for m in [*self.sent, *self.b.take()] if m.first.startswith("NOTIFY")]
        self.sent = []
        for m in found:
            self.b.reply(m, status, port=6000)
        return found

    def rc(self, what: str) -> str:
        self.b.log.lines.clear()
        self.cseq += 1
        self.b.request("OPTIONS", f"sip:{what}@b.test", branch=f"z9hG4bKo{self.cseq}")
        self.sent = self.b.take()
        return next(line.removeprefix("rc ") for line in self.b.log.lines if line.startswith("rc"))


def tag(m: Message) -> str:
    return (m.get("To") or "").partition(";tag=")[2]


def body(m: Message) -> str:
    return m.text.partition("\r\n\r\n")[2]


def database_alone(folder: Path) -> str:
    """Parameters that leave everything to the database."""
    url = f"sqlite:///{folder}/presence.db"
    Tables(url).create()
    return f'modparam("presence", "db_url", "{url}")\nmodparam("presence", "publ_cache", 0)\nmodparam("presence", "subs_db_mode", 3)\n'


@pytest.fixture(params=["store", "database"])
def agent(bench: Callable[..., Bench], request: pytest.FixtureRequest, tmp_path: Path) -> Agent:
    if request.param == "store":
        return Agent(bench(ROUTE, head=LOAD + ACTIVE))
    return Agent(bench(ROUTE, head=WITH_DATABASE + ACTIVE + database_alone(tmp_path)))


def test_publications(agent: Agent) -> None:
    first = agent.publish(body=document("a"))
    assert (first.first, first.get("Expires")) == ("SIP/2.0 200 OK", "600")
    again = agent.publish(f"SIP-If-Match: {first.get('SIP-ETag')}")
    assert again.get("SIP-ETag") not in (None, first.get("SIP-ETag"))
    assert agent.publish(f"SIP-If-Match: {first.get('SIP-ETag')}").first == "SIP/2.0 412 Conditional request failed"
    changed = agent.publish(f"SIP-If-Match: {again.get('SIP-ETag')}", body=document("a", "closed"), expires="99999")
    assert changed.get("Expires") == "3600"
    assert agent.publish(f"SIP-If-Match: {changed.get('SIP-ETag')}", expires="").get("Expires") == "3600"
    (row,) = agent.b.worker.rpc.call("presence.presentity_list", ["full"])
    assert (row["pres_uri"], row["event"], row["priority"]) == (BOB, "presence", 0) and "closed" in row["body"]
    gone = agent.publish(f"SIP-If-Match: {row['etag']}", expires="0")
    assert gone.get("Expires") == "0" and agent.b.worker.rpc.call("presence.presentity_list", []) == []
    assert agent.publish(body=document("a"), expires="0").first == "SIP/2.0 200 OK"


@pytest.mark.parametrize(("lines", "options", "first"), [
    ((), {"event": "nosuch", "body": "x"}, "489 Bad Event"), ((), {"event": "", "body": "x"}, "489 Bad Event"), ((), {}, "400 Invalid request"),
    (("SIP-If-Match: none",), {}, "412 Conditional request failed"), ((), {"body": "<not xml"}, "415 Unsupported media type"),
    ((), {"body": "text"}, "415 Unsupported media type"), ((), {"body": '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'}, "415 Unsupported media type"),
    ((), {"body": "\xff\xfe<x/>"}, "415 Unsupported media type"),
])  # fmt: skip
def test_publications_that_are_refused(agent: Agent, lines: tuple[str, ...], options: dict[str, str], first: str) -> None:
    answer = agent.publish(*lines, **options)
    assert answer.first == f"SIP/2.0 {first}"
    assert (answer.get("Allow-Events") == "xcap-diff, presence.winfo, presence") == first.startswith("489")
    assert len(agent.sent) == 1 and agent.b.worker.rpc.call("presence.presentity_list", []) == []


def test_a_watcher_hears_what_is_published(agent: Agent) -> None:
    accepted = agent.subscribe()
    assert (accepted.first, accepted.get("Expires"), accepted.get("Contact")) == ("SIP/2.0 200 OK", "600", "<sip:127.0.0.1:5060;transport=udp>")
    (told,) = agent.told()
    assert told.first == "NOTIFY sip:alice@127.0.0.1:6000 SIP/2.0" and body(told) == "" and told.get("Content-Type") is None
    assert (told.get("To"), told.get("From"), told.get("CSeq")) == ("<sip:alice@a.test>;tag=f1", f"<sip:bob@b.test>;tag={tag(accepted)}", "2 NOTIFY")
    assert (told.get("Event"), told.get("Subscription-State"), told.get("Call-ID")) == ("presence", "active;expires=600", "s1")
    one = agent.publish(body=document("a"))
    (told,) = agent.told()
    assert (told.get("CSeq"), told.get("Content-Type")) == ("3 NOTIFY", "application/pidf+xml") and '<tuple id="a">' in body(told)
    agent.publish(body=document("b", "closed"))
    (told,) = agent.told()
    assert re.findall(r'tuple id="(\w)"', body(told)) == ["b", "a"] and body(told).startswith('<?xml version="1.0" encoding="UTF-8"?>\n<presence')
    agent.b.advance(1)
    agent.publish(f"SIP-If-Match: {one.get('SIP-ETag')}")
    assert re.findall(r'tuple id="(\w)"', body(agent.told()[0])) == ["a", "b"]
    assert "reply 200 of alice" in agent.b.log.lines


def test_it_is_taken_back(agent: Agent) -> None:
    agent.subscribe()
    agent.told()
    one = agent.publish(body=document("a"))
    agent.publish(body=document("b"))
    agent.told()
    agent.publish(f"SIP-If-Match: {one.get('SIP-ETag')}", expires="0")
    (told,) = agent.told()
    assert re.findall(r'tuple id="(\w)".*?<basic>(\w+)', body(told)) == [("a", "closed"), ("b", "open")]
    assert agent.rc("refresh") == "1"
    assert re.findall(r'tuple id="(\w)"', body(agent.told()[0])) == ["b"]


def test_a_subscription_is_refreshed_and_ended(agent: Agent) -> None:
    agent.publish(body=document("a"))
    accepted = agent.subscribe()
    assert '<tuple id="a">' in body(agent.told()[0])
    again = agent.subscribe(to_tag=tag(accepted), expires=300)
    (told,) = agent.told()
    assert (again.first, told.get("Subscription-State"), told.get("CSeq")) == ("SIP/2.0 200 OK", "active;expires=300", "3 NOTIFY")
    assert agent.subscribe(to_tag=tag(accepted), cseq=1).first == "SIP/2.0 400 Bad request"
    assert agent.subscribe("other", to_tag="nosuch").first == "SIP/2.0 481 Subscription does not exist"
    assert agent.rc("has") == "1"
    agent.subscribe(to_tag=tag(accepted), expires=0)
    (told,) = agent.told()
    assert told.get("Subscription-State") == "terminated;reason=timeout" and '<tuple id="a">' in body(told)
    assert agent.subscribe(to_tag=tag(accepted)).first == "SIP/2.0 481 Subscription does not exist"
    assert agent.rc("has") == "-1"


def test_once(agent: Agent) -> None:
    """Expires 0 asks for the state and nothing more."""
    agent.subscribe(expires=0)
    (told,) = agent.told()
    assert (told.get("Subscription-State"), told.get("CSeq")) == ("terminated;reason=timeout", "1 NOTIFY") and agent.rc("has") == "-1"


def test_the_id_of_an_event(agent: Agent) -> None:
    agent.subscribe(event="presence;id=7")
    assert agent.told()[0].get("Event") == "presence;id=7"
    assert agent.subscribe("s2", event="dialog").first == "SIP/2.0 489 Bad Event"


def test_routes_of_the_dialog(agent: Agent) -> None:
    agent.subscribe("s1", "Record-Route: <sip:127.0.0.1:6000;lr>, <sip:192.0.2.2;lr>")
    (told,) = agent.told()
    assert told.all("Route") == ["<sip:127.0.0.1:6000;lr>", "<sip:192.0.2.2;lr>"] and told.to == ("127.0.0.1", 6000)


@pytest.mark.parametrize("status", ["481 Gone", "410 Gone", "489 Bad Event"])
def test_a_watcher_that_is_gone(agent: Agent, status: str) -> None:
    agent.subscribe()
    agent.told(status)
    assert agent.rc("has") == "-1"


def test_a_watcher_that_does_not_answer(agent: Agent) -> None:
    agent.subscribe()
    agent.sent = []
    agent.b.take()
    agent.b.advance(60)
    assert agent.rc("has") == "-1"


def test_time_passes(agent: Agent) -> None:
    """Publications and subscriptions end, and watchers hear of it."""
    agent.subscribe(expires=300)
    agent.told()
    agent.publish(body=document("a"), expires="100")
    agent.told()
    agent.b.advance(101)
    assert "<basic>closed</basic>" in body(agent.told()[0]) and agent.b.worker.rpc.call("presence.presentity_list", []) == []
    agent.b.advance(200)
    assert agent.told()[0].get("Subscription-State") == "terminated;reason=timeout"
    assert agent.b.worker.rpc.call("presence.watcher_list", [BOB]) == []
    assert agent.b.worker.rpc.call("presence.cleanup", []) == "Reload OK"


def test_watchers_of_watchers(agent: Agent) -> None:
    agent.subscribe("w", event="presence.winfo")
    (told,) = agent.told()
    assert told.get("Content-Type") == "application/watcherinfo+xml" and 'version="1" state="full"' in body(told)
    assert '<watcher-list resource="sip:bob@b.test" package="presence"/>' in body(told)
    accepted = agent.subscribe("s1")
    first, about = sorted(agent.told(), key=lambda m: m.get("Event"))
    assert first.get("Event") == "presence" and 'version="2" state="partial"' in body(about)
    assert '<watcher id="s1" event="subscribe" status="active">sip:alice@a.test</watcher>' in body(about)
    agent.subscribe("s1", to_tag=tag(accepted), expires=0)
    assert any('version="3" state="full"' in body(m) and "<watcher " not in body(m) for m in agent.told())


def test_functions(agent: Agent) -> None:
    assert [agent.rc(w) for w in ("has", "auth", "open", "away", "update", "refresh", "file", "wrong")] == ["-1", "2", "-2", "-2", "-1", "1", "-1", "-1"]
    away = ('<dm:person xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" id="p">'
            '<r:activities xmlns:r="urn:ietf:params:xml:ns:pidf:rpid"><r:away/></r:activities></dm:person>')  # fmt: skip
    agent.publish(body=document("a", "open", away))
    assert [agent.rc(w) for w in ("open", "away")] == ["1", "1"]
    assert 'xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"' in agent.b.worker.rpc.call("presence.presentity_show", [BOB])[0]["body"]
    call = agent.b.worker.rpc.call
    for name, params in (("presence.presentity_show", ["sip:no@b.test"]), ("presence.refreshWatchers", [BOB, "presence", 0]), ("presence.updateWatchers", [BOB, "x"])):
        with pytest.raises(RpcFault):
            call(name, params)
    assert call("presence.refreshWatchers", [BOB, "presence", 1]) is None and call("presence.publish_cache_sync", []) == "OK"


RULE = ('<cr:rule id="{0}"><cr:conditions><cr:identity>{1}</cr:identity></cr:conditions><cr:actions><pr:sub-handling>{2}</pr:sub-handling></cr:actions>'
        "<cr:transformations/></cr:rule>")  # fmt: skip


def ruleset(*rules: tuple[str, str]) -> str:
    rows = "".join(RULE.format(n, who, what) for n, (who, what) in enumerate(rules))
    return ('<?xml version="1.0"?><cr:ruleset xmlns="urn:ietf:params:xml:ns:pres-rules" xmlns:pr="urn:ietf:params:xml:ns:pres-rules" '
            f'xmlns:cr="urn:ietf:params:xml:ns:common-policy">{rows}</cr:ruleset>')  # fmt: skip


ONE = '<cr:one id="sip:alice@a.test"/>'


@pytest.mark.parametrize(("rules", "expected"), [
    ((), (2, "")), (((ONE, "allow"),), (1, "")), (((ONE, "block"),), (3, "rejected")), (((ONE, "polite-block"),), (1, "polite-block")), (((ONE, "confirm"),), (2, "")),
    ((('<cr:one id="sip:eve@a.test"/>', "allow"),), (2, "")), (((ONE, "block"), (ONE, "allow")), (1, "")), (((ONE, "nonsense"),), (2, "")),
    ((('<cr:many domain="a.test"/>', "allow"),), (1, "")), ((("<cr:many/>", "allow"),), (1, "")), ((('<cr:many domain="b.test"/>', "allow"),), (2, "")),
    ((('<cr:many><cr:except id="sip:alice@a.test"/></cr:many>', "allow"),), (2, "")), ((('<cr:many><cr:except domain="a.test"/></cr:many>', "allow"),), (2, "")),
])  # fmt: skip
def test_rules(rules: tuple[tuple[str, str], ...], expected: tuple[int, str]) -> None:
    assert decide(ruleset(*rules), "sip:alice@a.test") == expected


def test_rules_that_are_none() -> None:
    assert decide(None, "sip:a@b") == decide("<no", "sip:a@b") == decide("<x/>", "nonsense") == (2, "")


class Database:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "presence.db"
        tables = Tables(f"sqlite:///{self.path}")
        tables.create()
        tables.close()
        self.params = (f'modparam("presence", "db_url", "sqlite:///{self.path}")\nmodparam("presence_xml", "db_url", "sqlite:///{self.path}")\n'
                       'modparam("presence_xml", "integrated_xcap_server", 1)\n')  # fmt: skip
        self.head = LOAD.replace('loadmodule "presence.so"', 'loadmodule "db_sqlite.so"\nloadmodule "presence.so"') + self.params

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with sqlite3.connect(self.path) as db:
            return db.execute(query).fetchall()

    def rules(self, *rules: tuple[str, str]) -> None:
        with sqlite3.connect(self.path) as db:
            db.execute("delete from xcap")
            db.execute("insert into xcap (username, domain, doc, doc_type, etag, source, doc_uri, port) values ('bob', 'b.test', ?, 2, 'e', 0, 'u', 0)",
                       (ruleset(*rules).encode(),))  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path)


@pytest.mark.parametrize(("handling", "state", "seen"), [
    ("allow", "active;expires=600", True), ("polite-block", "active;expires=600", False), ("confirm", "pending;expires=600", False),
    ("block", "terminated;reason=rejected", False),
])  # fmt: skip
def test_who_may_watch(bench, database: Database, handling: str, state: str, seen: bool) -> None:
    database.rules((ONE, handling))
    agent = Agent(bench(ROUTE, head=database.head))
    agent.publish(body=document("a"))
    assert agent.subscribe().first == "SIP/2.0 200 OK"
    (told,) = agent.told()
    assert told.get("Subscription-State") == state and ("<tuple" in body(told)) == seen
    assert agent.rc("auth") == {"allow": "1", "polite-block": "1", "confirm": "2", "block": "3"}[handling]
    assert [row[0] for row in database.rows("select status from watchers")] == [{"allow": 1, "polite-block": 1, "confirm": 2, "block": 3}[handling]]
    assert len(database.rows("select * from active_watchers")) == (handling != "block")


def test_the_rules_change(bench, database: Database) -> None:
    agent = Agent(bench(ROUTE, head=database.head))
    agent.publish(body=document("a"))
    agent.subscribe("w", event="presence.winfo")
    agent.told()
    agent.subscribe()
    assert sorted(m.get("Subscription-State") for m in agent.told()) == ["active;expires=600", "pending;expires=600"]
    database.rules((ONE, "allow"))
    assert agent.rc("update") == "1"
    told = {m.get("Event"): m for m in agent.told()}
    assert told["presence"].get("Subscription-State") == "active;expires=600" and "<tuple" in body(told["presence"])
    assert 'status="active"' in body(told["presence.winfo"])
    assert agent.rc("update") == "1" and agent.told() == []
    database.rules((ONE, "block"))
    assert agent.rc("update") == "1"
    assert {m.get("Subscription-State") for m in agent.told()} == {"terminated;reason=rejected", "active;expires=600"} and agent.rc("has") == "-1"


def test_what_is_in_the_database(bench, database: Database) -> None:
    """Is written as Kamailio writes it, and is there after a restart."""
    b = bench(ROUTE, head=database.head + ACTIVE)
    agent = Agent(b)
    first = agent.publish(body=document("a"))
    accepted = agent.subscribe()
    agent.told()
    assert database.rows("select username, domain, event, etag, sender, priority from presentity") == [("bob", "b.test", "presence", first.get("SIP-ETag"), "", 0)]
    assert database.rows("select presentity_uri, watcher_username, to_user, event, event_id, callid, to_tag, from_tag, local_cseq, contact, record_route, status, "
                         "reason, version, socket_info, local_contact, updated from active_watchers") == [
        (BOB, "alice", "bob", "presence", None, "s1", tag(accepted), "f1", 2, "sip:alice@127.0.0.1:6000", "", 1, None, 1, "udp:127.0.0.1:5060",
         "sip:127.0.0.1:5060;transport=udp", -1)]  # fmt: skip
    later = Agent(bench(ROUTE, head=database.head + ACTIVE))
    later.cseq = 100
    assert later.subscribe(to_tag=tag(accepted)).first == "SIP/2.0 200 OK"
    assert '<tuple id="a">' in body(later.told()[0])
    later.publish(f"SIP-If-Match: {first.get('SIP-ETag')}", expires="0")
    later.subscribe(to_tag=tag(accepted), expires=0)
    assert database.rows("select * from presentity") == database.rows("select * from active_watchers") == []


def test_values_are_no_sql(bench, database: Database) -> None:
    agent = Agent(bench(ROUTE, head=database.head + ACTIVE))
    evil = "x'); drop table presentity; --"
    agent.subscribe(f"c{evil}", f"User-Agent: {evil}")
    agent.told()
    agent.publish(f"SIP-If-Match: {evil}")
    agent.publish(body=document("a", evil.replace("<", "")))
    assert database.rows("select callid, user_agent from active_watchers") == [(f"c{evil}", evil)] and len(database.rows("select * from presentity")) == 1


@pytest.mark.parametrize(("params", "text"), [
    ("", "integrated_xcap_server"), (ACTIVE + 'modparam("presence", "subs_db_mode", 3)\n', "need db_url"),
    (ACTIVE + 'modparam("presence", "publ_cache", 0)\n', "need db_url"),
    (ACTIVE + 'modparam("presence", "enable_dmq", 1)\n', "DMQ"), (ACTIVE + 'modparam("presence", "subs_db_mode", 9)\n', "subs_db_mode is"),
])  # fmt: skip
def test_parameters_that_are_refused(bench, params: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        bench(ROUTE, head=LOAD + params)


def test_too_short(bench) -> None:
    agent = Agent(bench(ROUTE, head=LOAD + ACTIVE + 'modparam("presence", "min_expires", 60)\n'))
    answer = agent.subscribe(expires=10)
    assert (answer.first, answer.get("Min-Expires")) == ("SIP/2.0 423 Interval Too Brief", "60")
    agent = Agent(bench(ROUTE, head=LOAD + ACTIVE + 'modparam("presence", "min_expires", 60)\nmodparam("presence", "min_expires_action", 2)\n'
                        'modparam("presence", "subs_respond_200", 0)\nmodparam("presence", "server_address", "sip:me@h.test")\n'))  # fmt: skip
    answer = agent.subscribe(expires=10)
    assert (answer.first, answer.get("Expires"), answer.get("Contact")) == ("SIP/2.0 202 OK", "60", "<sip:me@h.test>")


def test_a_reload_keeps_it(bench) -> None:
    """Publications and subscriptions belong to the server."""
    b = bench(ROUTE, head=LOAD + ACTIVE)
    agent = Agent(b)
    agent.subscribe()
    agent.told()
    b.files = built(b.folder, LOAD + ACTIVE + ROUTE + "# changed\n")
    b.load()
    agent.publish(body=document("a"))
    assert len(agent.told()) == 1


PACKAGES = LOAD + ('loadmodule "presence_dialoginfo.so"\nloadmodule "presence_mwi.so"\nloadmodule "presence_reginfo.so"\n') + ACTIVE


def dialogs(number: int, *rows: tuple[str, str]) -> str:
    inner = "".join(f'  <dialog id="{ident}" call-id="c{ident}" direction="recipient">\n    <state>{state}</state>\n  </dialog>\n' for ident, state in rows)
    return ('<?xml version="1.0"?>\n<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" '
            f'version="{number}" state="full" entity="sip:bob@b.test">\n{inner}</dialog-info>\n')  # fmt: skip


def publish_dialog(agent: Agent, ident: str, state: str, etag: str = "", expires: str = "600") -> str:
    """The ETag."""
    agent.b.advance(1)
    lines = [f"SIP-If-Match: {etag}"] * bool(etag)
    document = dialogs(0, (ident, state)) if state else ""
    return agent.publish(*lines, "Content-Type: application/dialog-info+xml", body=document, event="dialog", expires=expires).get("SIP-ETag") or ""


def test_dialogs_of_a_line(bench: Callable[..., Bench]) -> None:
    agent = Agent(bench(ROUTE, head=PACKAGES))
    agent.subscribe(event="dialog")
    assert [(m.get("Content-Type"), body(m)) for m in agent.told()] == [(None, "")]
    first = publish_dialog(agent, "d1", "Trying")
    assert [(m.get("Content-Type"), body(m)) for m in agent.told()] == [("application/dialog-info+xml", dialogs(2, ("d1", "Trying")))]
    second = publish_dialog(agent, "d2", "early")
    assert [body(m) for m in agent.told()] == [dialogs(3, ("d1", "Trying"), ("d2", "early"))]
    second = publish_dialog(agent, "d2", "terminated", second)
    assert [body(m) for m in agent.told()] == [dialogs(4, ("d1", "Trying"), ("d2", "terminated"))]
    publish_dialog(agent, "d2", "", second, "0")
    assert [body(m) for m in agent.told()] == [dialogs(5, ("d1", "Trying"), ("d2", "terminated"))]
    publish_dialog(agent, "d1", "confirmed", first)
    assert [body(m) for m in agent.told()] == [dialogs(6, ("d1", "confirmed"))]
    agent.publish(body="text", event="dialog")
    assert [body(m) for m in agent.told()] == [dialogs(7, ("d1", "confirmed"))]


def test_the_dialog_that_matters_most(bench: Callable[..., Bench]) -> None:
    agent = Agent(bench(ROUTE, head=PACKAGES + 'modparam("presence_dialoginfo", "force_single_dialog", 1)\n'))
    agent.subscribe(event="dialog")
    agent.told()
    shown, etags = [], {}
    for ident, state in (("a1", "terminated"), ("a2", "Trying"), ("a3", "early"), ("a4", "confirmed"), ("a5", "proceeding"), ("a6", "weird")):
        etags[ident] = publish_dialog(agent, ident, state)
        shown += re.findall('dialog id="(..)"', body(agent.told()[0]))
    for ident in ("a4", "a3", "a5", "a2"):
        publish_dialog(agent, ident, "", etags[ident], "0")
        shown += re.findall('dialog id="(..)"', body(agent.told()[0]))
    assert shown == ["a1", "a2", "a3", "a3", "a3", "a3", "a3", "a3", "a5", "a2"]


def test_a_line_without_calls(bench: Callable[..., Bench]) -> None:
    agent = Agent(bench(ROUTE, head=PACKAGES + 'modparam("presence_dialoginfo", "force_dummy_dialog", 1)\n'))
    agent.subscribe(event="dialog")
    (m,) = agent.told()
    assert re.fullmatch(r'<\?xml version="1.0"\?>\n<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="1" state="full" entity="sip:bob@b.test">\n'
                        r'  <dialog id="[0-9a-f]{32}" direction="recipient">\t<state>terminated</state>\t</dialog>\n</dialog-info>\n', body(m))  # fmt: skip


def test_waiting_messages_and_registrations(bench: Callable[..., Bench]) -> None:
    agent = Agent(bench(ROUTE, head=PACKAGES))
    agent.subscribe(event="message-summary")
    agent.told()
    kind = "Content-Type: application/simple-message-summary"
    for text, status in (("hello world", "500 Server Internal Error"), ("Messages-Waiting: maybe\r\n", "500 Server Internal Error"),
                         ("Messages-Waiting: no\r\nfoo\r\n", "200 OK"), ("Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n", "200 OK")):  # fmt: skip
        assert agent.publish(kind, body=text, event="message-summary").first == f"SIP/2.0 {status}"
        assert [(m.get("Content-Type"), body(m)) for m in agent.told()] == [("application/simple-message-summary", text)] * (status == "200 OK")
    agent.subscribe("s2", event="reg")
    agent.told()
    agent.publish("Content-Type: application/reginfo+xml", body='<reginfo version="0"/>', event="reg")
    assert [body(m) for m in agent.told()] == ['<reginfo version="0"/>']
    assert agent.publish(body="x", event="conference").first == "SIP/2.0 489 Bad Event"


def test_registrations_of_all_publications(bench: Callable[..., Bench]) -> None:
    def registrations(version: int, *names: str) -> str:
        inner = "".join(f'  <registration aor="sip:bob@b.test" id="{name}" state="active"/>\n' for name in names)
        return f'<?xml version="1.0"?>\n<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="{version}" state="full">\n{inner}</reginfo>\n'

    agent = Agent(bench(ROUTE, head=PACKAGES + 'modparam("presence_reginfo", "aggregate_presentities", 1)\n'))
    kind = "Content-Type: application/reginfo+xml"
    agent.subscribe(event="reg")
    agent.told()
    told, etags = [], []
    for name in ("a", "b"):
        agent.b.advance(1)
        etags.append(agent.publish(kind, body=registrations(0, name), event="reg").get("SIP-ETag"))
        told += [body(m) for m in agent.told()]
    assert told == [registrations(2, "a"), registrations(3, "a", "b")]
    agent.b.advance(1)
    agent.publish(kind, f"SIP-If-Match: {etags[0]}", event="reg", expires="0")
    assert [body(m) for m in agent.told()] == [registrations(4, "b")]
    agent.b.advance(1)
    agent.publish(kind, body="no xml", event="reg")
    assert [body(m) for m in agent.told()] == [registrations(5, "b")]


def test_two_servers_on_one_database(bench: Callable[..., Bench], tmp_path: Path) -> None:
    head = WITH_DATABASE + ACTIVE + database_alone(tmp_path)
    one, two = Agent(bench(ROUTE, head=head)), Agent(bench(ROUTE, head=head))
    assert one.subscribe().first == "SIP/2.0 200 OK"
    assert len(one.told()) == 1
    published = two.publish(body=document("a"))
    assert published.first == "SIP/2.0 200 OK"
    (m,) = two.told()
    assert '<tuple id="a">' in body(m) and m.to[1] == 6000
    assert one.publish(f"SIP-If-Match: {published.get('SIP-ETag')}", expires="0").first == "SIP/2.0 200 OK"
    assert "closed" in body(one.told()[0])
    one.subscribe(to_tag=tag(one.subscribe("s2")), call_id="s2", expires=0, cseq=99)
    one.told()
    assert [row["callid"] for row in two.b.worker.rpc.call("presence.watcher_list", [BOB])] == ["s1"]


def test_a_database_that_fails(bench: Callable[..., Bench], tmp_path: Path) -> None:
    agent = Agent(bench(ROUTE, head=WITH_DATABASE + ACTIVE + database_alone(tmp_path)))
    assert agent.subscribe().first == "SIP/2.0 200 OK"
    agent.told()
    with sqlite3.connect(tmp_path / "presence.db") as db:
        db.execute("alter table presentity rename to gone")
        db.execute("alter table active_watchers rename to gone_too")
    assert agent.publish(body=document("a")).first == "SIP/2.0 500 Server Internal Error"
    assert agent.subscribe("s2").first == "SIP/2.0 500 Server Internal Error"
    agent.b.advance(4000)
    assert any("no such table" in line for line in agent.b.log.lines)
