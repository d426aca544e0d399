"""Module drouting: the gateway for a number. Results are those of Kamailio 5.6.3 for the same tables, but for addresses with ``sip:`` in them, which it spoils."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.dbtables import Tables
from stdlib_modules.drouting.recurrence import recurrence
from stdlib_modules.drouting.table import Rule, gateway
from tests.harness import HEAD, Bench

GATEWAYS = [(1, 10, "127.0.0.1:7001", 0, "", "g1"), (2, 8, "127.0.0.1:7002", 1, "", "g2"), (3, 8, "sip:127.0.0.1:7003;transport=tcp", 2, "00", "g3"),
            (4, 8, "127.0.0.4", 0, "", ""), (5, 5, "127.0.0.1", 1, "9", "from"), (6, 8, "127.0.0.6:5060", 9, "", "long"), (7, 8, "no host", 0, "", "")]  # fmt: skip
RULES = [("0", "12", "", 0, "1,2;3"), ("0", "123", "", 0, "#1"), ("1", "12", "", 0, "2"), ("1,2", "1", "", 5, "4"), ("2", "1", "", 7, "3"),
         ("0", "55", "20990101T000000||daily", 0, "1"), ("0", "777", "", 1, "1;2"), ("0", "777", "", 9, "3"), ("0", "888", "20200101T000000||daily", 0, "1"),
         ("0", "66", "", 0, "6"), ("0", "", "", 0, "4"), ("0", "33", "", 0, "1,4"), ("0", "9x", "", 0, "1"), ("0", "91", "", 0, "1,99"), ("0", "92", "never", 0, "1"),
         ("0", "93", "", 0, "#7"), ("0", "94", "", 0, ";"), ("3", "5", "", 9, "4"), ("3", "5", "", 1, "1"), ("3", "", "", 0, "2")]  # fmt: skip


class Routing:
    def __init__(self, make: Callable[..., Bench], folder: Path, params: str = "") -> None:
        self.path = folder / "dr.db"
        tables = Tables(f"sqlite:///{self.path}")
        tables.create()
        tables.close()
        with sqlite3.connect(self.path) as db:
            db.executemany("insert into dr_gateways (gwid, type, address, strip, pri_prefix, attrs, description) values (?, ?, ?, ?, ?, ?, '')", GATEWAYS)
            db.executemany("insert into dr_rules (groupid, prefix, timerec, priority, routeid, gwlist, description) values (?, ?, ?, ?, '0', ?, '')", RULES)
            db.execute("insert into dr_gw_lists (gwlist, description) values ('3,1', '')")
            db.execute("insert into dr_groups (username, domain, groupid, description) values ('alice', 'a.test', 1, '')")
        self.make, self.params = make, params

    def load(self, route: str, more: str = "") -> Bench:
        return self.make(f"request_route {{ {route} }}\n{more}", head=HEAD + 'loadmodule "db_sqlite.so"\nloadmodule "drouting.so"\n'
                         f'modparam("drouting", "db_url", "sqlite:///{self.path}")\nmodparam("drouting", "attrs_avp", "$avp(attrs)")\n'
                         f'modparam("drouting", "ruri_avp", "$avp(ruri)")\nmodparam("drouting", "force_dns", 0)\n{self.params}')  # fmt: skip

    def run(self, *steps: str) -> list[str]:
        """What each step returns, and the R-URI after it."""
        b = self.load(" ".join(f'{step}; xlog("$rc $ru $avp(attrs)\\n");' for step in steps))
        b.request("OPTIONS")
        return [line for line in b.log.lines if line[:1] in "-0123456789"]


@pytest.fixture
def routing(bench: Callable[..., Bench], tmp_path: Path) -> Routing:
    return Routing(bench, tmp_path)


@pytest.mark.parametrize(("uri", "group", "expected"), [
    ("sip:12345@h", '"0"', ["1 sip:00345@127.0.0.1:7003;transport=tcp g3", "1 sip:12345@127.0.0.1:7001 g1", "-1 sip:12345@127.0.0.1:7001 g1"]),
    ("sip:129@h", '"0"', ["1 sip:129@127.0.0.1:7001 g1", "1 sip:29@127.0.0.1:7002 g2", "1 sip:009@127.0.0.1:7003;transport=tcp g3"]),
    ("sip:99@h", '"0"', ["1 sip:99@127.0.0.4 ", "-1 sip:99@127.0.0.4 "]), ("sip:12345@h", '"1"', ["1 sip:2345@127.0.0.1:7002 g2", "-1 sip:2345@127.0.0.1:7002 g2"]),
    ("sip:12345@h", '"7"', ["-1 sip:12345@h <null>"]), ("sip:55@h", '"0"', ["1 sip:55@127.0.0.4 "]), ("sip:alice@h", '"0"', ["1 sip:alice@127.0.0.4 "]),
    ("sip:12345@h", "", ["1 sip:2345@127.0.0.1:7002 g2"]),
    ("sip:777@h", '"0"', ["1 sip:007@127.0.0.1:7003;transport=tcp g3", "-1 sip:007@127.0.0.1:7003;transport=tcp g3"]),
    ("sip:888@h", '"0"', ["1 sip:888@127.0.0.1:7001 g1"]), ("sip:+12345;x=1@h:5070;transport=tcp", '"0"', ["1 sip:+12345;x=1@127.0.0.4;transport=tcp "]),
    ("sip:66@h", '"0"', ["-1 sip:66@h <null>"]), ("sip:33@h", '"0"', ["1 sip:33@127.0.0.1:7001 g1", "1 sip:33@127.0.0.4 "]),
    ("sip:12@h", '"2"', ["1 sip:00@127.0.0.1:7003;transport=tcp g3"]), ("sip:91@h", '"0"', ["1 sip:91@127.0.0.4 "]),
])  # fmt: skip
def test_routes(routing: Routing, uri: str, group: str, expected: list[str]) -> None:
    assert routing.run(f'$ru = "{uri}"; do_routing({group})', *["use_next_gw()"] * (len(expected) - 1)) == expected


def test_who_is_a_gateway(routing: Routing) -> None:
    steps = ['$ru = "sip:x@127.0.0.1:7001"; goes_to_gw()', 'goes_to_gw("8")', 'goes_to_gw("9")', '$ru = "sip:x@127.0.0.9"; goes_to_gw()', "is_from_gw()",
             'is_from_gw("5")', 'is_from_gw("6")', '$ru = "sip:abc@h"; is_from_gw("5", "1")', '$ru = "sip:@h"; is_from_gw("5", "1")']  # fmt: skip
    assert [line.rpartition(" ")[0] for line in routing.run(*steps)] == [
        "1 sip:x@127.0.0.1:7001", "1 sip:x@127.0.0.1:7001", "-1 sip:x@127.0.0.1:7001", "-1 sip:x@127.0.0.9", "1 sip:x@127.0.0.9", "1 sip:x@127.0.0.9",
        "-1 sip:x@127.0.0.9",
        "1 sip:bc@h", "1 sip:@h"]  # fmt: skip


def test_the_next_rule(routing: Routing) -> None:
    """From a failure route, when the gateways of the one before have failed: lower priority, then a shorter prefix."""
    b = routing.load('do_routing("3"); t_on_failure("F"); t_relay(); exit;',
                     'failure_route[F] { if (next_routing()) { t_on_failure("F"); t_relay(); } else { xlog("no more\\n"); } }\n')  # fmt: skip
    b.request("MESSAGE", "sip:56@h")
    seen = []
    while sent := [m for m in b.take() if m.first.startswith("MESSAGE")]:
        seen.append(sent[0].first.split(" ")[1])
        b.reply(sent[0], "503 No", port=sent[0].to[1])
    assert seen == ["sip:56@127.0.0.4", "sip:56@127.0.0.1:7001", "sip:6@127.0.0.1:7002"] and "no more" in b.log.lines


def test_rows_that_cannot_be_used_are_left_out(routing: Routing) -> None:
    b = routing.load("exit;")
    left = [line for line in b.log.lines if "is left out" in line]
    assert len(left) == 6 and any("'no host' is no address" in line for line in left) and any("'1,99' names no gateway" in line for line in left)


def test_reload(routing: Routing) -> None:
    b = routing.load('do_routing("0"); xlog("$rc $ru\\n");')
    with sqlite3.connect(routing.path) as db:
        db.execute("update dr_gateways set address = '127.0.0.44' where gwid = 4")
    b.worker.rpc.call("drouting.reload", [])
    b.request("OPTIONS", "sip:5@h")
    assert "1 sip:5@127.0.0.44" in b.log.lines
    with sqlite3.connect(routing.path) as db:
        db.execute("drop table dr_rules")
    with pytest.raises(Exception, match="Failed to load data"):
        b.worker.rpc.call("drouting.reload", [])
    b.request("OPTIONS", "sip:6@h", branch="z9hG4bKx2")
    assert "1 sip:6@127.0.0.44" in b.log.lines


def test_gateways_that_are_down_are_left_out(bench, tmp_path: Path) -> None:
    params = ('loadmodule "keepalive.so"\nmodparam("keepalive", "ping_interval", 5)\nmodparam("drouting", "enable_keepalive", 1)\n')
    routing = Routing(bench, tmp_path, params)
    b = routing.load('do_routing("0"); xlog("$rc $ru\\n"); while (use_next_gw()) { xlog("$rc $ru\\n"); } exit;')

    def routed(uri: str) -> list[str]:
        b.log.lines.clear()
        b.request("OPTIONS", uri)
        return [line for line in b.log.lines if line[:1] in "-1"]

    def listed() -> dict[str, int]:
        return {row["uri"]: row["state"] for row in b.rpc("keepalive.list") if row["owner"] == "drouting"}

    everyone = ["1 sip:129@127.0.0.1:7001", "1 sip:29@127.0.0.1:7002", "1 sip:009@127.0.0.1:7003;transport=tcp"]
    assert routed("sip:129@h") == everyone and len(listed()) == 6
    b.advance(1)
    for ping in b.take():
        b.reply(ping, "200 OK" if ":7002" in ping.first else "503 No")
    # there is no socket to ask the third one from: nobody knows that it is down
    assert routed("sip:129@h") == everyone[1:] and listed()["sip:127.0.0.1:7001"] == 2
    assert routed("sip:99@h") == ["-1 sip:99@h"] and "drouting: no gateways available (all in state down)" in b.log.lines
    # one goes, one comes, and what is known of the others stays
    with sqlite3.connect(routing.path) as db:
        db.execute("update dr_gateways set address = '127.0.0.44' where gwid = 4")
    b.rpc("drouting.reload")
    assert routed("sip:99@h") == ["1 sip:99@127.0.0.44"] and listed()["sip:127.0.0.44"] == 0
    assert "sip:127.0.0.4" not in listed() and listed()["sip:127.0.0.1:7002"] == 1


@pytest.mark.parametrize(("param", "value"), [("sort_order", "3"), ("enable_keepalive", "1"), ("ruri_avp", '"$var(x)"'), ("drr_table", '"nosuch"')])
def test_parameters_that_are_wrong(bench, tmp_path: Path, param: str, value: str) -> None:
    with pytest.raises(ConfigError):
        Routing(bench, tmp_path, f'modparam("drouting", "{param}", {value})\n').load("exit;")


def test_orders() -> None:
    gateways = [gateway(n, 0, f"127.0.0.{n}", 0, "", "", resolve=False) for n in range(1, 7)]
    rule = Rule(1, "", 0, None, (tuple(gateways[:3]), tuple(gateways[3:])))

    def orders(how: int) -> set[tuple[int, ...]]:
        rand = random.Random(1)
        return {tuple(g.ident for g in rule.gateways(how, rand)) for _ in range(300)}

    assert orders(0) == {(1, 2, 3, 4, 5, 6)}
    assert len(orders(1)) == 36 and all(sorted(o[:3]) == [1, 2, 3] for o in orders(1))
    assert orders(2) == {(a, b) for a in (1, 2, 3) for b in (4, 5, 6)}


def test_names_of_gateways() -> None:
    assert "127.0.0.1" in gateway(1, 0, "localhost:5070", 0, "", "", resolve=True).addresses
    with pytest.raises(ValueError, match="cannot be resolved"):
        gateway(1, 0, "nosuch.invalid", 0, "", "", resolve=True)
    assert gateway(1, 0, "[::1]:5070", 0, "", "", resolve=False).addresses == frozenset({"::1"})


@pytest.mark.parametrize(("text", "yes", "no"), [
    ("20260101T080000|10H|daily", ["20260105T080000", "20260106T175959"], ["20251231T090000", "20260105T075959", "20260105T180000"]),
    ("20260101T080000|10H|weekly|||MO,TU", ["20260105T090000"], ["20260107T090000"]), ("20260105T000000||weekly", ["20260112T120000"], ["20260113T120000"]),
    ("20260101T000000||weekly||2|MO", ["20260112T100000"], ["20260105T100000"]), ("20260115T000000||monthly", ["20260215T000000"], ["20260214T000000"]),
    ("20260101T000000||monthly|||1MO,-1FR", ["20260105T000000", "20260130T000000"], ["20260112T000000", "20260123T000000"]),
    ("20260101T000000||monthly||||-1", ["20260228T100000"], ["20260227T100000"]), ("20240229T000000||yearly", ["20280229T000000"], ["20260228T000000"]),
    ("20260101T000000||yearly|||||1,-1", ["20260101T010000", "20261231T000000"], ["20260102T000000"]),
    ("20260101T000000||yearly||||||2", ["20260105T000000", "20260111T000000"], ["20260101T000000", "20260112T000000"]),
    ("20260101T000000||daily|||||||2", ["20260201T000000"], ["20260301T000000"]), ("20260101T000000||daily|20260110T000000", ["20260109T000000"], ["20260111T000000"]),
    ("20260101T220000|4H|daily", ["20260102T230000", "20260103T013000"], ["20260103T030000"]), ("20260101T000000|P1DT2H", ["20260102T013000"], ["20260102T030000"]),
    ("20260101", ["20300101T000000"], ["20251231T235959"]),
])  # fmt: skip
def test_times(text: str, yes: list[str], no: list[str]) -> None:
    found = recurrence(text)
    assert found is not None
    for moment in (*yes, *no):
        when = datetime.strptime(moment, "%Y%m%dT%H%M%S")
        assert found.holds(when) == (moment in yes), moment


def test_always_and_never() -> None:
    assert recurrence("") is None and recurrence(" || ") is None
    for bad in ("never", "20260101T000000|x", "20260101T000000|1H|hourly", "20260101T000000||daily|||XX", "20260101T000000||daily|||||a"):
        with pytest.raises(ValueError, match=r"\w"):
            recurrence(bad)
    found = recurrence("20260101T000000||daily")
    assert found is not None and all(found.holds(datetime(2026, 1, 1) + timedelta(hours=h)) for h in range(0, 1000, 7))
