"""Names and next hops. Which records are asked for, and in which order, is as Kamailio 5.6.3 does it, unless a test says otherwise."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kamc.runtime.net.dns.client import Settings
from kamc.runtime.net.dns.locate import Locator, Wanted
from kamc.runtime.net.dns.records import Cache, Entry, Naptr, Srv
from kamc.runtime.net.dns.resolver import Resolver, read_hosts
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.rpc.fault import RpcFault
from tests.harness import Bench
from tests.nameserver import NameServer

RECORDS: dict[tuple[str, str], list[str] | None] = {
    ("a.test", "A"): ["127.0.0.1"],
    ("two.test", "A"): ["127.0.0.2", "127.0.0.3"],
    ("srv.test", "A"): ["127.0.0.9"],
    ("_sip._udp.srv.test", "SRV"): ["20 5 5092 a.test.", "10 5 5091 a.test."],
    ("_sip._tcp.srv.test", "SRV"): ["10 5 5093 a.test."],
    ("naptr.test", "NAPTR"): ['10 10 "s" "SIP+D2T" "" _sip._tcp.naptr.test.', '20 10 "S" "sip+d2u" "" _sip._udp.naptr.test.'],
    ("naptr.test", "A"): ["127.0.0.8"],
    ("_sip._udp.naptr.test", "SRV"): ["10 5 5094 a.test."],
    ("_sip._tcp.naptr.test", "SRV"): ["10 5 5095 a.test."],
    ("_sips._tcp.srv.test", "SRV"): ["1 1 5099 a.test."],
    ("six.test", "AAAA"): ["::1"],
    ("cn.test", "CNAME"): ["a.test."],
    ("dead.test", "A"): ["127.0.0.7"],
    ("_sip._udp.dead.test", "SRV"): ["10 5 5096 gone.test.", "20 5 5097 a.test."],
    ("weights.test", "A"): ["127.0.0.7"],
    ("_sip._udp.weights.test", "SRV"): ["1 10 1 a.test.", "1 90 2 a.test.", "2 0 3 a.test."],
    ("silent.test", "A"): None,
}


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer(dict(RECORDS)) as running:
        yield running


def use(b: Bench, server: NameServer, timeout: float = 0.2) -> Resolver:
    dns = b.worker.datapath.dns
    dns.use(Settings([server.address], [], timeout, 1))
    dns.hosts = {}
    return dns


@pytest.fixture
def setup(bench: Callable[..., Bench], server: NameServer) -> Callable[..., Bench]:
    def make(params: str = "", route: str = "t_relay();", *more: str) -> Bench:
        b = bench(f"{params}\nrequest_route {{ {route} }}\n" + "\n".join(more))
        use(b, server)
        return b

    return make


# -- next hops ---------------------------------------------------------------------------------------------------------------

NAPTR = {"dns_try_naptr": 1}


@pytest.mark.parametrize(("want", "params", "hops", "asked"), [
    (Wanted("a.test", 5090, "", False), {}, ["udp:127.0.0.1:5090"], "a.test A"),
    (Wanted("a.test", 0, "", False), {}, ["udp:127.0.0.1:5060"], "_sip._udp.a.test SRV, a.test A"),
    (Wanted("srv.test", 0, "", False), {}, ["udp:127.0.0.1:5091", "udp:127.0.0.1:5092"], "_sip._udp.srv.test SRV, a.test A"),
    (Wanted("srv.test", 0, "tcp", False), {}, ["tcp:127.0.0.1:5093"], "_sip._tcp.srv.test SRV, a.test A"),
    (Wanted("srv.test", 5090, "", False), NAPTR, ["udp:127.0.0.9:5090"], "srv.test A"),
    (Wanted("srv.test", 0, "", True), {}, ["tls:127.0.0.1:5099"], "_sips._tcp.srv.test SRV, a.test A"),
    (Wanted("naptr.test", 0, "", False), {}, ["udp:127.0.0.1:5094"], "_sip._udp.naptr.test SRV, a.test A"),
    # rated by dns_*_pref before the order of the records
    (Wanted("naptr.test", 0, "", False), NAPTR, ["udp:127.0.0.1:5094", "tcp:127.0.0.1:5095"],
     "naptr.test NAPTR, _sip._udp.naptr.test SRV, a.test A, _sip._tcp.naptr.test SRV"),
    (Wanted("naptr.test", 0, "", False), NAPTR | {"dns_tcp_pref": 50}, ["tcp:127.0.0.1:5095", "udp:127.0.0.1:5094"],
     "naptr.test NAPTR, _sip._tcp.naptr.test SRV, a.test A, _sip._udp.naptr.test SRV"),
    (Wanted("naptr.test", 0, "", False), NAPTR | {"dns_naptr_ignore_rfc": 0}, ["tcp:127.0.0.1:5095", "udp:127.0.0.1:5094"],
     "naptr.test NAPTR, _sip._tcp.naptr.test SRV, a.test A, _sip._udp.naptr.test SRV"),
    # no NAPTR: SRV records of each transport by turns, until one has some
    (Wanted("a.test", 0, "", False), NAPTR, ["udp:127.0.0.1:5060"],
     "a.test NAPTR, _sip._udp.a.test SRV, _sip._tcp.a.test SRV, _sips._tcp.a.test SRV, a.test A"),
    (Wanted("dead.test", 0, "", False), {}, ["udp:127.0.0.1:5097"], "_sip._udp.dead.test SRV, gone.test A, gone.test AAAA, a.test A"),
    (Wanted("six.test", 5090, "", False), {}, ["udp:::1:5090"], "six.test A, six.test AAAA"),
    (Wanted("six.test", 5090, "", False), {"dns_try_ipv6": 0}, [], "six.test A"),
    (Wanted("six.test", 5090, "", False), {"dns_cache_flags": 4}, ["udp:::1:5090"], "six.test AAAA"),
    (Wanted("cn.test", 5090, "", False), {}, ["udp:127.0.0.1:5090"], "cn.test A"),
    (Wanted("none.test", 0, "", False), {}, [], "_sip._udp.none.test SRV, none.test A, none.test AAAA"),
    (Wanted("-..bad", 5060, "", False), {}, [], ""),
])  # fmt: skip
def test_hops(bench: Callable[..., Bench], server: NameServer, want: Wanted, params: dict[str, int], hops: list[str], asked: str) -> None:
    b = bench("request_route { exit; }")
    dns = use(b, server)
    b.worker.rt.params.update(params)
    locator = Locator(dns, b.worker.core_param, lambda proto: (proto != "sctp", proto != "sctp"), random.Random(1))
    assert [":".join(map(str, hop)) for hop in locator.hops(want)] == hops
    assert ", ".join(" ".join(q) for q in server.asked) == asked
    server.asked.clear()
    list(locator.hops(want))
    assert server.asked == []  # all of it is remembered, what is not there as well


def test_equal_servers_by_weight_and_addresses_by_turns(bench: Callable[..., Bench], server: NameServer) -> None:
    b = bench("request_route { exit; }")
    dns = use(b, server)
    locator = Locator(dns, b.worker.core_param, lambda proto: (True, False), random.Random(5))
    want = Wanted("weights.test", 0, "", False)
    assert [hop[2] for hop in locator.hops(want)] == [2, 1, 3]
    b.worker.rt.params["dns_srv_lb"] = 1
    firsts = [[hop[2] for hop in locator.hops(want)] for _ in range(200)]
    assert 10 < sum(order[0] == 1 for order in firsts) < 45 and all(order[2] == 3 for order in firsts)
    assert {next(locator.hops(Wanted("two.test", 1, "", False)))[1] for _ in range(50)} == {"127.0.0.2", "127.0.0.3"}


# -- relaying to names -------------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_there(setup: Callable[..., Bench]) -> None:
    b = setup()
    b.request("MESSAGE", "sip:x@none.test:5060")
    assert b.firsts() == ["SIP/2.0 478 Unresolvable destination (478/TM)"]
    b.request("MESSAGE", "sip:x@a.test;transport=sctp", call_id="c2")
    assert b.firsts() == ["SIP/2.0 500 I'm terribly sorry, server error occurred (7/TM)"]


def test_questions_without_a_record_are_counted(setup: Callable[..., Bench]) -> None:
    """As recorded from Kamailio 5.6.3: SRV and A of a name without a port, A of one with a port, and nothing that is remembered."""
    b = setup()
    counted = []
    for number, uri in enumerate(("sip:x@none.test", "sip:x@none.test", "sip:x@none2.test:5070", "sip:x@none2.test:5070", "sip:x@a.test:5070")):
        b.request("MESSAGE", uri, call_id=f"c{number}")
        counted.append(b.worker.counters.get("dns", "failed_dns_request"))
    assert counted == [2, 2, 3, 3, 3]


FAILOVER = "use_dns_failover=yes\n"


def sent(b: Bench) -> list[str]:
    return [f"{m.to[0]}:{m.to[1]}" for m in b.take() if m.first.startswith("MESSAGE")]


def test_the_next_server_when_the_first_one_is_silent(setup: Callable[..., Bench]) -> None:
    b = setup(FAILOVER + 'modparam("tm", "fr_timer", 2000)')
    b.request("MESSAGE", "sip:x@srv.test")
    (first,) = b.take()
    assert first.to == ("127.0.0.1", 5091)
    b.advance(2.1)
    out = b.take()
    second = out[-1]
    assert second.to == ("127.0.0.1", 5092) and second.get("Via") != first.get("Via")
    assert second.text.split("\r\n")[2:] == first.text.split("\r\n")[2:]
    b.reply(second, "200 OK")
    assert b.firsts() == ["SIP/2.0 200 OK"]


@pytest.mark.parametrize(("params", "code", "goes_on"), [
    (FAILOVER, 503, True), (FAILOVER, 500, False), ("", 503, False),
    (FAILOVER + 'modparam("tm", "failover_reply_codes", "code=500;class=4")', 500, True),
    (FAILOVER + 'modparam("tm", "failover_reply_codes", "code=500;class=4")', 404, True),
])  # fmt: skip
def test_the_next_server_after_a_reply(setup: Callable[..., Bench], params: str, code: int, goes_on: bool) -> None:
    b = setup(params)
    b.request("INVITE", "sip:x@srv.test")
    first = b.take()[-1]
    b.reply(first, f"{code} X")
    out = b.take()
    assert out[0].first.startswith("ACK") and out[0].to == first.to
    if goes_on:
        assert [m.to for m in out[1:]] == [("127.0.0.1", 5092)]
        b.reply(out[1], "200 OK")
        assert b.firsts()[-1] == "SIP/2.0 200 OK"
    else:
        assert out[1].first.startswith("SIP/2.0 500" if code == 503 else f"SIP/2.0 {code}")


def test_no_next_server_where_the_script_or_the_caller_wants_none(setup: Callable[..., Bench]) -> None:
    b = setup(FAILOVER, "t_set_disable_failover(1); t_relay();")
    b.request("MESSAGE", "sip:x@srv.test")
    b.reply(b.take()[-1], "503 X")
    assert sent(b) == []
    b = setup(FAILOVER)
    b.request("INVITE", "sip:x@srv.test", call_id="c2", branch="z9hG4bKone")
    invite = b.take()[-1]
    b.reply(invite, "180 Ringing")
    b.take()
    b.request("CANCEL", "sip:x@srv.test", call_id="c2", branch="z9hG4bKone")
    b.take()
    b.reply(invite, "503 X")
    assert not any(m.first.startswith("INVITE") for m in b.take())


def test_a_change_in_dns_reaches_calls_when_the_answer_is_too_old(setup: Callable[..., Bench], server: NameServer) -> None:
    b = setup()
    b.request("MESSAGE", "sip:x@a.test:5090", call_id="c1")
    server.records["a.test", "A"] = ["127.0.0.5"]
    b.request("MESSAGE", "sip:x@a.test:5090", call_id="c2")
    assert sent(b) == ["127.0.0.1:5090"] * 2
    b.advance(61)
    b.take()
    b.request("MESSAGE", "sip:x@a.test:5090", call_id="c3")
    assert sent(b) == ["127.0.0.5:5090"]


@pytest.mark.parametrize(("params", "seconds"), [
    ("", 60), ("dns_cache_max_ttl=10\n", 10), ("dns_cache_min_ttl=100\n", 100), ("use_dns_cache=no\n", 0), ("dns_cache_mem=0\n", 0),
])  # fmt: skip
def test_how_long_answers_are_kept(setup: Callable[..., Bench], server: NameServer, params: str, seconds: int) -> None:
    b = setup(params)
    dns = b.worker.datapath.dns
    for step, asked in ((0, 1), (max(0, seconds - 1), 1 if seconds else 2), (1, 2 if seconds else 3)):
        b.time += step
        assert dns.records("a.test", "A") == ("127.0.0.1",)
        assert len(server.asked) == asked


@pytest.mark.parametrize(("params", "seconds"), [("", 60), ("dns_cache_negative_ttl=5\n", 5), ("dns_cache_negative_ttl=0\n", 0)])
def test_how_long_it_is_known_that_there_is_nothing(setup: Callable[..., Bench], server: NameServer, params: str, seconds: int) -> None:
    b = setup(params)
    dns = b.worker.datapath.dns
    for step, asked in ((0, 1), (max(0, seconds - 1), 1 if seconds else 2), (1, 2 if seconds else 3)):
        b.time += step
        assert dns.records("none.test", "A") == ()
        assert len(server.asked) == asked


# -- asking without waiting ---------------------------------------------------------------------------------------------------


class Serving:
    """A bench whose questions go out over an event loop, as in a worker that serves."""

    def __init__(self, b: Bench, server: NameServer) -> None:
        import asyncio

        self.b = b
        self.loop = asyncio.new_event_loop()
        b.worker.waits.loop = self.loop
        use(b, server, 0.3)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < end, "it did not come to that"
            self.loop.call_later(0.01, self.loop.stop)
            self.loop.run_forever()


@pytest.fixture
def serving(setup: Callable[..., Bench], server: NameServer) -> Iterator[Callable[..., Serving]]:
    made: list[Serving] = []

    def make(*args: str) -> Serving:
        made.append(Serving(setup(*args), server))
        return made[-1]

    yield make
    for one in made:
        one.loop.close()


def test_a_name_server_that_never_answers_holds_up_nobody(serving: Callable[..., Serving], server: NameServer) -> None:
    s = serving("", 'if ($rd == "here") { sl_send_reply("200", "here"); exit; } t_relay();')
    s.b.request("MESSAGE", "sip:x@silent.test:5090", call_id="c1")
    s.b.request("MESSAGE", "sip:x@silent.test:5090", call_id="c2")
    s.b.request("MESSAGE", "sip:x@here", call_id="c3")
    s.b.request("MESSAGE", "sip:x@a.test:5090", call_id="c4")
    assert s.b.firsts() == ["SIP/2.0 200 here"]
    s.until(lambda: bool(s.b.sent))
    assert sent(s.b) == ["127.0.0.1:5090"]
    s.until(lambda: s.b.worker.counters.values.get(("dns", "failed_dns_request"), 0) > 0)
    # two runs wanted the same answer, and it was asked for once
    assert [q for q in server.asked if q[0] == "silent.test"] == [("silent.test", "A")]
    assert s.b.firsts() == ["SIP/2.0 478 Unresolvable destination (478/TM)"] * 2


def test_a_cancel_that_comes_while_a_name_is_looked_up(serving: Callable[..., Serving]) -> None:
    s = serving()
    s.b.request("INVITE", "sip:x@a.test:5090", branch="z9hG4bKone")
    assert s.b.firsts() == ["SIP/2.0 100 trying -- your call is important to us"]
    s.b.request("CANCEL", "sip:x@a.test:5090", branch="z9hG4bKone")
    s.until(lambda: s.b.worker.datapath.dns.cache.get("a.test", "A") is not None)
    # nothing goes out for a call that is over
    assert s.b.firsts() == ["SIP/2.0 487 Request canceled", "SIP/2.0 200 canceling"]


def test_answers_that_were_cut_come_over_tcp(serving: Callable[..., Serving], server: NameServer) -> None:
    server.truncate = True
    s = serving()
    s.b.request("MESSAGE", "sip:x@a.test:5090")
    s.until(lambda: bool(s.b.sent))
    assert s.b.take()[0].to == ("127.0.0.1", 5090)


def test_the_next_name_server_and_other_answers(setup: Callable[..., Bench], server: NameServer) -> None:
    b = setup()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        b.worker.datapath.dns.use(Settings([nobody.getsockname(), server.address], [], 0.1, 1))
        assert b.worker.datapath.dns.records("a.test", "A") == ("127.0.0.1",)


def test_search_lists(setup: Callable[..., Bench], server: NameServer) -> None:
    import dns.name

    b = setup()
    resolver = b.worker.datapath.dns
    resolver.use(Settings([server.address], [dns.name.from_text("test.")], 0.2, 1))
    assert resolver.records("a", "A") == ("127.0.0.1",)
    assert server.asked == [("a.test", "A")]
    assert resolver.records("no.such", "A") == ()
    assert server.asked[1:] == [("no.such", "A"), ("no.such.test", "A")]


def test_hosts(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost Here # comment\n\nnonsense x\n::1 localhost\n10.0.0.1 here\n")
    assert read_hosts(path) == {("localhost", "A"): ("127.0.0.1",), ("here", "A"): ("127.0.0.1", "10.0.0.1"), ("localhost", "AAAA"): ("::1",)}
    assert read_hosts(tmp_path / "none") == {}


# -- cache -------------------------------------------------------------------------------------------------------------------


def test_a_cache_without_room() -> None:
    now = [0.0]
    cache = Cache(lambda: now[0], lambda: 330)
    entries = [Entry(f"n{i}", "A", ("127.0.0.1",), 10.0 + i, 0.0) for i in range(4)]
    assert [cache.put(e) for e in entries] == [True, True, False, False]
    assert cache.get("N0", "A") is entries[0]
    assert cache.put(entries[2], delete_unexpired=True) and cache.get("n1", "A") is None
    now[0] = 10.0
    assert cache.put(entries[3]) and {e.name for e in cache} == {"n2", "n3"}
    cache.clear()
    assert cache.used == 0


# -- commands ----------------------------------------------------------------------------------------------------------------


def test_commands(setup: Callable[..., Bench], server: NameServer) -> None:
    b = setup()
    dns, rpc = b.worker.datapath.dns, b.rpc
    dns.records("_sip._udp.srv.test", "SRV")
    dns.records("none.test", "A")
    view = {row["name"]: row for row in rpc("dns.view")}
    shown = view["_sip._udp.srv.test"]
    rows = sorted(shown.pop("records"), key=lambda row: row["rr_port"])
    assert shown | {"size_bytes": 0} == {"name": "_sip._udp.srv.test", "type": "SRV", "size_bytes": 0, "reference_counter": 1, "permanent": "no", "expires": 60,
                                         "last_used": 0, "negative_entry": "no"}  # fmt: skip
    assert rows[0] | {"rr_idx": 0} == {"rr_idx": 0, "rr_name": "a.test", "rr_port": 5091, "rr_priority": 10, "rr_weight": 5, "rr_permanent": "no", "rr_expires": 60}
    assert rpc("dns.lookup", "SRV", "_sip._udp.srv.test")["records"] and {row["rr_idx"] for row in rows} == {0, 1}
    assert view["none.test"]["negative_entry"] == "yes" and "records" not in view["none.test"]
    used, limit = rpc("dns.mem_info")
    assert limit == 512000 and used == sum(entry["size_bytes"] for entry in rpc("dns.view"))
    for wrong in (("dns.lookup", "A", "none.test"), ("dns.lookup", "X", "y"), ("dns.delete_a", "no.test"), ("dns.add_a", "x", 60, "::1"),
                  ("dns.add_a", "x", -1, "1.1.1.1"), ("dns.add_aaaa", "x", 60, "no"), ("dns.set_server_state", 2),
                  ("dns.add_srv", "x", 1, 1, 1, 70000, "y")):  # fmt: skip
        with pytest.raises(RpcFault):
            rpc(*wrong)
    rpc("dns.add_a", "own.test", 60, "127.0.0.4", 2)
    rpc("dns.add_a", "own.test", 60, "127.0.0.5", 2)
    rpc("dns.add_srv", "_sip._udp.own.test", 60, 1, 2, 5070, "own.test")
    server.asked.clear()
    assert dns.records("own.test", "A") == ("127.0.0.4", "127.0.0.5") and dns.records("_sip._udp.own.test", "SRV") == (Srv(1, 2, 5070, "own.test"),)
    assert server.asked == []
    assert rpc("dns.delete_all") == {"status": "ok"} and rpc("dns.debug")[:2] == ["own.test", 1]
    rpc("dns.set_server_state", 0)
    assert dns.records("a.test", "A") == () and server.asked == [] and rpc("dns.get_server_state") == 0
    rpc("dns.delete_all_force")
    assert rpc("dns.view") == []


def test_naptr_records_are_read(setup: Callable[..., Bench]) -> None:
    b = setup()
    assert Naptr(20, 10, "s", "SIP+D2U", "", "_sip._udp.naptr.test") in b.worker.datapath.dns.records("naptr.test", "NAPTR")


# -- blocklist ---------------------------------------------------------------------------------------------------------------

BLOCK = "use_dst_blocklist=yes\n"


def test_silent_destinations_get_no_requests_for_a_while(setup: Callable[..., Bench]) -> None:
    b = setup(BLOCK + 'dst_blocklist_expire=30\nmodparam("tm", "fr_timer", 2000)')
    b.request("INVITE", "sip:x@127.0.0.1:7000", call_id="c1")
    b.advance(2.1)
    b.take()
    assert b.rpc("dst_blocklist.view") == [{"protocol": "udp", "ip": "127.0.0.1", "port": 7000, "expires": 29, "flags": 16}]
    b.request("MESSAGE", "sip:x@127.0.0.1:7000", call_id="c2")
    assert b.firsts() == ["SIP/2.0 500 I'm terribly sorry, server error occurred (1/TM)"]
    b.request("BYE", "sip:x@127.0.0.1:7000", call_id="c3", to_tag="t")
    assert b.firsts()[0].startswith("BYE")
    b.advance(30)
    b.take()
    b.request("MESSAGE", "sip:x@127.0.0.1:7000", call_id="c4")
    assert sent(b) == ["127.0.0.1:7000"]


def test_methods_and_ignored_reasons(setup: Callable[..., Bench]) -> None:
    b = setup(BLOCK + 'modparam("tm", "fr_timer", 2000)\nmodparam("tm", "blst_methods_add", 256)')
    b.request("INVITE", "sip:x@127.0.0.1:7000", call_id="c1")
    b.request("MESSAGE", "sip:x@127.0.0.1:7001", call_id="c2")
    b.advance(2.1)
    assert [row["port"] for row in b.rpc("dst_blocklist.view")] == [7001]
    b = setup(BLOCK + 'dst_blocklist_udp_imask=16\nmodparam("tm", "fr_timer", 2000)')
    b.request("INVITE", "sip:x@127.0.0.1:7000", call_id="c3")
    b.advance(2.1)
    assert b.rpc("dst_blocklist.view") == []


@pytest.mark.parametrize(("params", "header", "seconds"), [
    ("", "Retry-After: 20 (busy)", 20), ("", "X: y", 0), ('modparam("tm", "blst_503_def_timeout", 7)', "X: y", 7),
    ('modparam("tm", "blst_503_min_timeout", 50)', "Retry-After: 20", 50), ('modparam("tm", "blst_503_max_timeout", 9)', "Retry-After: 20", 9),
])  # fmt: skip
def test_a_503_says_for_how_long(setup: Callable[..., Bench], params: str, header: str, seconds: int) -> None:
    b = setup(BLOCK + 'modparam("tm", "blst_503", 1)\n' + params)
    b.request("INVITE", "sip:x@127.0.0.1:7000")
    b.reply(b.take()[-1], "503 X", header)
    found = b.rpc("dst_blocklist.view")
    assert [(row["expires"], row["flags"]) for row in found] == ([(seconds, 32)] if seconds else [])


def test_the_next_server_instead_of_a_blocked_one(setup: Callable[..., Bench]) -> None:
    b = setup(BLOCK)
    b.rpc("dst_blocklist.add", "127.0.0.1", 5091, "udp", 0)
    with pytest.raises(RpcFault):
        b.rpc("dst_blocklist.add", "here", 5091, "udp", 0)
    b.request("MESSAGE", "sip:x@srv.test")
    assert sent(b) == ["127.0.0.1:5092"]
    assert b.rpc("dst_blocklist.mem_info") == 256000
    b.rpc("dst_blocklist.delete_all")
    assert b.rpc("dst_blocklist.view") == []
    b = setup()
    with pytest.raises(RpcFault, match="disabled"):
        b.rpc("dst_blocklist.view")


def test_a_socket_of_the_family(setup: Callable[..., Bench]) -> None:
    b = setup()
    b.request("MESSAGE", "sip:x@six.test:5090", call_id="c1")
    assert b.firsts() == ["SIP/2.0 478 Unresolvable destination (478/TM)"]
    b.worker.listeners.append(Listener("udp", "::1", 5060))
    b.worker.datapath.add_listener(b.worker.listeners[-1], lambda data, address: b.worker.datapath.log.info("to %s", address))
    b.worker.datapath.dns.cache.clear()
    b.request("MESSAGE", "sip:x@six.test:5090", call_id="c2")
    assert not any("478" in first for first in b.firsts())


# -- for the script ----------------------------------------------------------------------------------------------------------


def test_records_for_the_script(setup: Callable[..., Bench], server: NameServer) -> None:
    route = """
    dns_set_local_ttl(5);
    $var(rc) = srv_query("_sip._udp.srv.test", "a"); $var(no) = srv_query("_sip._udp.none.test", "b"); $var(i) = 0;
    while ($var(i) < $srvquery(a=>count)) {
        xlog("$srvquery(a=>target[$var(i)]):$srvquery(a=>port[$var(i)]) $srvquery(a=>priority[$var(i)]) $srvquery(a=>weight[0]) $srvquery(a=>port[-1])\\n");
        $var(i) = $var(i) + 1;
    }
    naptr_query("naptr.test", "n");
    $var(t) = $naptrquery(n=>flags[0]) + " " + $naptrquery(n=>services[0]) + " [" + $naptrquery(n=>regex[0]) + "]";
    xlog("$naptrquery(n=>count) $naptrquery(n=>order[1]) $naptrquery(n=>pref) $var(t) $naptrquery(n=>replace[0])\\n");
    xlog("rc $var(rc) $var(no) $srvquery(b=>count) $srvquery(a=>port[7])\\n");"""
    b = setup('loadmodule "ipops.so"', route)
    b.request("MESSAGE")
    lines = [line.rpartition(": ")[2].strip() for line in b.log.lines]
    assert lines[-4:] == ["a.test:5091 10 5 5092", "a.test:5092 20 5 5092", "2 20 10 s SIP+D2T [] _sip._tcp.naptr.test", "rc 1 -1 <null> <null>"]
    server.asked.clear()
    b.time += 6
    b.worker.datapath.dns.records("_sip._udp.srv.test", "SRV")
    assert server.asked == [("_sip._udp.srv.test", "SRV")]


# -- large requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("params", "route", "size", "proto"), [
    ("udp_mtu=1300\nudp_mtu_try_proto=TCP\n", "t_relay();", 1300, "TCP"), ("udp_mtu=1300\nudp_mtu_try_proto=TCP\n", "t_relay();", 10, "UDP"),
    ("udp_mtu=1300\n", "t_relay();", 1300, "UDP"), ("udp_mtu=1300\n", "udp_mtu_try_proto(TCP); t_relay();", 1300, "TCP"),
    ("udp_mtu=1300\nudp_mtu_try_proto=TCP\n", "forward();", 1300, "TCP"),
])  # fmt: skip
def test_requests_that_are_too_large_for_udp(setup: Callable[..., Bench], params: str, route: str, size: int, proto: str) -> None:
    b = setup(params, route)
    streams: list[bytes] = []
    listener = Listener("tcp", "127.0.0.1", 5060)
    b.worker.listeners.append(listener)
    b.worker.datapath.add_listener(listener, b.worker.streams.send)
    b.worker.streams.send = lambda listener, data, remote, *more, **options: streams.append(data)  # type: ignore[method-assign]
    b.request("MESSAGE", "sip:x@127.0.0.1:7000", body="x" * size)
    text = streams[0].decode() if streams else next(m.text for m in b.sent if m.first.startswith("MESSAGE"))
    assert f"Via: SIP/2.0/{proto} 127.0.0.1" in text.split("\r\n")[1]
    assert bool(streams) == (proto == "TCP")
