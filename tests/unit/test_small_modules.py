"""Modules of a page: mtree, dialplan, statistics, diversion, ratelimit, rtimer, timer. What they print was recorded from Kamailio 5.6.3."""

from __future__ import annotations

import importlib
import socket
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.ratelimit.load import processor_times, waiting_bytes
from tests.harness import HEAD, built


def printed(b, uri: str = "sip:x@127.0.0.1") -> list[str]:
    b.log.lines.clear()
    b.request("OPTIONS", uri)
    return [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "db"
    folder.mkdir()
    head = "id(int,auto) tprefix(string) tvalue(string)\n"
    (folder / "mtree").write_text(head + "1:1:one\n2:12:twelve\n3:123:abc\n4:49:de\n")
    (folder / "mtw").write_text(head + "1:1:10\\:5;20\\:7\n2:12:30\n")
    (folder / "mti").write_text(head + "1:1:100\n2:12:200\n")
    (folder / "version").write_text("table_name(string) table_version(int)\nmtree:1\ndialplan:2\n")
    (folder / "dialplan").write_text(
        "id(int,auto) dpid(int) pr(int) match_op(int) match_exp(string) match_len(int) subst_exp(string) repl_exp(string) attrs(string)\n"
        "1:1:2:1:^00:0:^00(.*)$:+\\\\1:intl\n2:1:1:1:^0049:0:^0049([0-9]+)$:de-\\\\1:germany\n3:1:3:0:112:3::emergency:sos\n4:1:4:2:5*9:0::glob:g\n"
        "5:1:5:1:^7:4:^7(.)(.):<\\\\2\\\\1>:seven\n6:1:6:1:^8:0:::\n7:1:7:1:^9:0:^99:nine:n9\n8:2:1:1:.*:0::x-$var(v):\n")  # fmt: skip
    return folder


MTREE = """
loadmodule "db_text.so"
loadmodule "mtree.so"
modparam("mtree", "mtree", "name=m;dbtable=mtree;type=0")
modparam("mtree", "mtree", "name=w;dbtable=mtw;type=1")
modparam("mtree", "mtree", "name=i;dbtable=mti;type=2")
modparam("mtree", "pv_value", "$avp(val)")
modparam("mtree", "pv_values", "$avp(vals)")
modparam("mtree", "pv_dstid", "$avp(dst)")
modparam("mtree", "pv_weight", "$avp(wei)")
"""


@pytest.mark.parametrize(
    ("tree", "value", "mode", "expected"),
    [("m", "1234", 0, "1 abc"), ("m", "12", 0, "1 twelve"), ("m", "99", 0, "-1 <null>"), ("m", "12x", 0, "-1 <null>"), ("m", "", 0, "-1 <null>"),
     ("m", "1234", 2, "1 <null> abc, twelve, one"), ("w", "1234", 0, "1 <null> <null> 30, 20, 10 0, 7, 5"), ("i", "129", 0, "1 200"),
     ("i", "129", 2, "1 <null> 200, 100"), ("nope", "1", 0, "-1 <null>")],
)  # fmt: skip
def test_mtree(bench, tables: Path, tree: str, value: str, mode: int, expected: str) -> None:
    b = bench(MTREE + f'modparam("mtree", "db_url", "text://{tables}")\nrequest_route {{ mt_match("{tree}", "{value}", "{mode}"); '
              'xlog("OUT: $rc $avp(val) $(avp(vals)[*]) $(avp(dst)[*]) $(avp(wei)[*])\\n"); }\n')  # fmt: skip
    assert printed(b)[0].startswith(expected)


def test_mtree_rpc_and_reload(bench, tables: Path) -> None:
    b = bench(MTREE + f'modparam("mtree", "db_url", "text://{tables}")\nrequest_route {{ exit; }}\n')
    assert b.rpc("mtree.match", "m", "1234", 0) == ["m", {"PREFIX": "123", "TVALUE": "abc"}]
    assert [row["PREFIX"] for row in b.rpc("mtree.match", "m", "1234", 2)[1:]] == ["1", "12", "123"]
    assert b.rpc("mtree.list", "m")[0] == {"tname": "m", "tprefix": "1", "tvalue": ["one"]}
    (tables / "mtree").write_text("id(int,auto) tprefix(string) tvalue(string)\n1:7:seven\n")
    assert b.rpc("mtree.reload", "m") == "Ok. Mtree reloaded."
    assert b.rpc("mtree.match", "m", "77")[1]["TVALUE"] == "seven"
    (tables / "mtree").write_text("id(int,auto) tprefix(string) tvalue(string)\n1:7x:seven\n")
    for call in (("mtree.reload", "m"), ("mtree.reload", "zz"), ("mtree.match", "zz", "1"), ("mtree.match", "m", "1")):
        with pytest.raises(RpcFault):
            b.rpc(*call)
    assert b.rpc("mtree.match", "m", "77")[1]["TVALUE"] == "seven"


def test_mtree_items_of_the_configuration(bench) -> None:
    items = 'loadmodule "mtree.so"\nmodparam("mtree", "item", "name=t;prefix=1;value=a")\nmodparam("mtree", "item", "name=t;prefix=1{};value=b")\n'
    b = bench(items.replace("{}", "2") + 'request_route { mt_match("t", "123", "0"); xlog("OUT: $avp(s:tvalue)\\n"); }\n')
    assert printed(b) == ["b"]
    with pytest.raises(ConfigError, match="stands twice"):
        bench(items.replace("{}", "") + "request_route { exit; }\n")


@pytest.mark.parametrize(
    ("dpid", "text", "expected"),
    [(1, "00441234", "1 +441234 intl"), (1, "0049123", "1 de-123 germany"), (1, "112", "1 emergency sos"), (1, "1123", "-1 - <null>"), (1, "5xx9", "1 glob g"),
     (1, "7abc", "1 <ba> seven"), (1, "7abcd", "-1 - <null>"), (1, "81", "1 - "), (1, "91", "-1 - <null>"), (1, "a99b", "-1 - <null>"), (2, "zz", "1 x-$var(v) "),
     (3, "zz", "-2 - <null>")],
)  # fmt: skip
def test_dialplan_rules(bench, tables: Path, dpid: int, text: str, expected: str) -> None:
    b = bench('loadmodule "db_text.so"\nloadmodule "dialplan.so"\nmodparam("dialplan", "attrs_pvar", "$avp(attrs)")\n'
              f'modparam("dialplan", "db_url", "text://{tables}")\nrequest_route {{ $var(o) = "-"; dp_replace("{dpid}", "{text}", "$var(o)"); '
              'xlog("OUT: $rc $var(o) $avp(attrs)\\n"); }\n')  # fmt: skip
    assert printed(b) == [expected]


def test_dialplan_translate_and_rpc(bench, tables: Path) -> None:
    b = bench(f'loadmodule "db_text.so"\nloadmodule "dialplan.so"\nmodparam("dialplan", "db_url", "text://{tables}")\n'
              'request_route { dp_translate("1"); xlog("OUT: $rc $ru\\n"); dp_translate("1", "0049123/$var(o)"); xlog("OUT: $rc $var(o)\\n"); '
              '$var(id) = 1; $var(in) = "112"; dp_translate("$var(id)", "$var(in)"); xlog("OUT: $rc\\n"); dp_match("1", "zz"); xlog("OUT: $rc\\n"); }\n')  # fmt: skip
    assert printed(b, "sip:0049777@x") == ["1 sip:de-777@x", "1 de-123", "1", "-1"]
    assert b.rpc("dialplan.translate", 1, "0049123") == {"Output": "de-123", "Attributes": "germany"}
    assert [e["ENTRY"]["PRIO"] for e in b.rpc("dialplan.dump", 1)["ENTRIES"]] == [3, 5, 1, 2, 4, 6, 7]
    for call in (("dialplan.dump", 9), ("dialplan.translate", 1, "xx")):
        with pytest.raises(RpcFault):
            b.rpc(*call)
    (tables / "dialplan").write_text((tables / "dialplan").read_text().replace("^00(.*)$", "^00(.*$"))
    with pytest.raises(RpcFault):
        b.rpc("dialplan.reload")
    assert any("bad regular expression" in line for line in b.log.lines)
    assert b.rpc("dialplan.translate", 1, "0049123")["Output"] == "de-123"


def test_statistics(bench) -> None:
    b = bench('loadmodule "statistics.so"\nmodparam("statistics", "variable", "a")\nmodparam("statistics", "variable", "b/no_reset")\n'
              'request_route { update_stat("a", "5"); update_stat("a", "-2"); update_stat("a", "+1"); xlog("OUT: $rc $stat(a)\\n"); $var(s) = "b"; $var(n) = "3"; '
              'update_stat("$var(s)", "$var(n)"); xlog("OUT: $rc $stat(b)\\n"); reset_stat("a"); xlog("OUT: $rc $stat(a)\\n"); reset_stat("b"); '
              'xlog("OUT: $rc $stat(b)\\n"); $var(s) = "zz"; '
              'update_stat("$var(s)", "1"); xlog("OUT: $rc\\n"); update_stat("a", "x"); xlog("OUT: $rc\\n"); }\n')  # fmt: skip
    assert printed(b) == ["1 4", "1 3", "1 0", "1 3", "-1", "-1"]


def test_diversion(bench) -> None:
    b = bench('loadmodule "diversion.so"\nrequest_route { $ru = "sip:new@127.0.0.1:7000"; add_diversion("user-busy"); msg_apply_changes(); '
              'add_diversion("no-answer", "sip:x@y"); t_relay(); }\n')  # fmt: skip
    b.request("MESSAGE", "sip:orig@127.0.0.1")
    assert b.take()[-1].all("Diversion") == ["<sip:x@y>;reason=no-answer", "<sip:orig@127.0.0.1>;reason=user-busy"]


def test_ratelimit(bench) -> None:
    b = bench('loadmodule "ratelimit.so"\nmodparam("ratelimit", "timer_interval", 2)\nmodparam("ratelimit", "queue", "0:INVITE")\nmodparam("ratelimit", "queue", "1:*")\n'
              'modparam("ratelimit", "pipe", "0:TAILDROP:3")\nmodparam("ratelimit", "pipe", "1:RED:2")\n'
              'request_route { if ($rU == "nine") $var(r) = rl_check_pipe("9"); else $var(r) = rl_check(); sl_send_reply("200", "r $var(r)"); }\n')  # fmt: skip

    def codes(method: str, count: int) -> list[int]:
        out = []
        for _ in range(count):
            b.request(method, "sip:x@127.0.0.1")
            out.append(int(b.take()[-1].first.split()[-1]))
        return out

    assert codes("INVITE", 9) == [1] * 6 + [-1] * 3
    assert codes("OPTIONS", 9) == [1] * 9
    b.advance(2)
    assert codes("OPTIONS", 6) == [-1, 1, -1, 1, -1, 1]
    assert codes("INVITE", 7) == [1] * 6 + [-1]
    assert b.rpc("rl.get_pipes")[0] == "PIPE[0]: 2:TAILDROP 9/3 (drop rate: 1) [7]"
    b.rpc("rl.set_pipe", 0, "TAILDROP", 7)
    b.rpc("rl.set_queue", 0, "BYE", 1)
    assert b.rpc("rl.get_queues") == ["QUEUE[0]: 1:BYE", "QUEUE[1]: 1:*"]
    with pytest.raises(RpcFault, match="Unknown algorithm"):
        b.rpc("rl.set_pipe", 0, "X", 7)


FEEDBACK = ('loadmodule "ratelimit.so"\nmodparam("ratelimit", "timer_interval", 1)\nmodparam("ratelimit", "pipe", "1:FEEDBACK:80")\n'
            'modparam("ratelimit", "pipe", "2:NETWORK:1000")\n'
            'request_route { if (rl_check_pipe("$rU")) { sl_send_reply("200", "ok"); } else { sl_send_reply("503", "no"); } }\n')  # fmt: skip


def through(b, pipe: int, count: int = 100) -> int:
    """How many of a hundred requests a pipe lets through."""
    for _ in range(count):
        b.request("OPTIONS", f"sip:{pipe}@127.0.0.1")
    return b.firsts().count("SIP/2.0 200 ok")


def test_ratelimit_follows_the_load(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module("stdlib_modules.ratelimit")
    times = [(1000, 500)]
    monkeypatch.setattr(load, "processor_times", lambda: times[0])
    b = bench(FEEDBACK)
    assert through(b, 1) == 100
    for passed in (1, 2, 3):
        # busy for 92 of 100 ticks: 12 above the set point, each second anew
        times[0] = (1000 + 100 * passed, 500 + 8 * passed)
        b.advance(1)
        assert through(b, 1) == 100 - 3 * passed
    times[0] = (1400, 624)
    b.advance(1)
    assert through(b, 1) == 100
    assert b.rpc("rl.get_pid") == "ki[-25.000000] kp[0.000000] kd[0.000000] "
    b.rpc("rl.set_pid", "-50", 0, "0.0")
    b.rpc("rl.push_load", "1")
    assert through(b, 1) == 90
    assert b.rpc("rl.get_pid") == "ki[-50.000000] kp[0.000000] kd[0.000000] "
    for bad in (("rl.push_load", 1.5), ("rl.push_load", "x"), ("rl.push_load", "nan"), ("rl.set_pid", 1, 2, "inf")):
        with pytest.raises(RpcFault):
            b.rpc(*bad)


def test_ratelimit_looks_at_the_queues(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module("stdlib_modules.ratelimit")
    waiting = [500]
    monkeypatch.setattr(load, "waiting_bytes", lambda sockets: waiting[0])
    b = bench(FEEDBACK)
    assert through(b, 2) == 100
    waiting[0] = 1001
    b.rpc("rl.set_dbg", 1)
    b.advance(1)
    assert through(b, 2) == 0
    assert "ratelimit: pipe 2: 100 of 1000, drop rate -1" in b.log.lines
    waiting[0] = 1000
    b.advance(1)
    assert through(b, 2) == 100


def test_bytes_that_wait_are_seen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        sock.bind(("127.0.0.1", 0))
        assert waiting_bytes([sock.getsockname()]) == 0
        client.sendto(bytes(300), sock.getsockname())
        assert waiting_bytes([sock.getsockname()]) >= 300
        assert waiting_bytes([]) == 0
    total, idle = processor_times()
    assert total >= idle > 0


@pytest.mark.parametrize("param", ['"pipe", "0:NONSENSE:5"', '"pipe", "x"', '"pipe", "40:RED:1"', '"queue", "INVITE"', '"timer_interval", 0'])
def test_ratelimit_refuses_at_start(bench, param: str) -> None:
    with pytest.raises(ConfigError, match="ratelimit"):
        bench(f'loadmodule "ratelimit.so"\nmodparam("ratelimit", {param})\nrequest_route {{ exit; }}\n')


def test_timers(bench) -> None:
    b = bench('loadmodule "rtimer.so"\nloadmodule "timer.so"\nmodparam("rtimer", "timer", "name=t;interval=2;mode=1;")\n'
              'modparam("rtimer", "exec", "timer=t;route=TICK")\n'
              'modparam("rtimer", "timer", "name=u;interval=500000u")\nmodparam("rtimer", "exec", "timer=u;route=TOCK")\n'
              'modparam("timer", "declare_timer", "d=DECL,1000,slow,enable")\nmodparam("timer", "declare_timer", "e=DECL2,1000")\n'
              'route[TICK] { xlog("tick\\n"); }\nroute[TOCK] { xlog("tock\\n"); }\nroute[DECL] { xlog("decl\\n"); }\nroute[DECL2] { xlog("other\\n"); }\n'
              'request_route { timer_enable("d", "0"); timer_enable("e", "1"); }\n')  # fmt: skip
    b.advance(2.1)
    assert [b.log.lines.count(word) for word in ("tick", "tock", "decl", "other")] == [1, 4, 2, 0]
    b.request("OPTIONS")
    b.advance(2)
    assert [b.log.lines.count(word) for word in ("tick", "decl", "other")] == [2, 2, 2]


@pytest.mark.parametrize(
    "param", ['"timer", "interval=2"', '"timer", "name=t;interval=x"', '"timer", "name=t;color=red"', '"exec", "timer=none;route=TICK"', '"exec", "route=TICK"']
)
def test_timers_that_cannot_be_set(bench, param: str) -> None:
    with pytest.raises(ConfigError, match="rtimer"):
        bench(f'loadmodule "rtimer.so"\nmodparam("rtimer", {param})\nroute[TICK] {{ return; }}\nrequest_route {{ route(TICK); }}\n')


def dns_cache(*values: str) -> str:
    return "".join(f'modparam("corex", "dns_cache", "{value}")\n' for value in values)


def test_names_of_the_configuration(bench) -> None:
    """They are there before anybody asks a name server, also after a reload, once."""
    head = HEAD + dns_cache("type=A;name=One.test;addr=127.0.0.9;ttl=100;flags=0", "type=A;name=one.test;addr=127.0.0.8;ttl=100",
                            "type=aaaa; name=six.test; addr=::1; ttl=60; flags=2",
                            "type=SRV;name=_sip._udp.srv.test;addr=one.test;ttl=50;priority=1;weight=2;port=5099",
                            "type=A;name=none.test;addr=127.0.0.1;ttl=9;flags=1")  # fmt: skip
    b = bench("request_route { t_relay(); }\n", head=head)
    b.files = built(b.folder, head + "request_route { if (1) { t_relay(); } }\n")
    b.load()
    assert [row["rr_ip"] for row in b.rpc("dns.lookup", "A", "one.test")["records"]] == ["127.0.0.9", "127.0.0.8"]
    assert b.rpc("dns.lookup", "AAAA", "six.test")["permanent"] == "yes"
    assert b.rpc("dns.lookup", "SRV", "_sip._udp.srv.test")["records"][0] | {"rr_expires": 0} == {
        "rr_idx": 0, "rr_name": "one.test", "rr_port": 5099, "rr_priority": 1, "rr_weight": 2, "rr_permanent": "no", "rr_expires": 0}  # fmt: skip
    assert {row["name"]: row["negative_entry"] for row in b.rpc("dns.view")}["none.test"] == "yes"
    b.request("OPTIONS", "sip:x@one.test:7000")
    assert next(m.to for m in b.take() if m.first.startswith("OPTIONS")) in (("127.0.0.9", 7000), ("127.0.0.8", 7000))


@pytest.mark.parametrize("value", [
    "type=A;name=x;addr=::1;ttl=1", "type=AAAA;name=x;addr=1.2.3.4", "type=A;name=x;addr=nonsense", "type=MX;name=x;addr=1.2.3.4", "type=A;addr=1.2.3.4", "type=A;name=x",
    "type=A;name=x;addr=1.2.3.4;ttl=-1", "type=A;name=x;addr=1.2.3.4;ttl=soon", "type=A;name=x;addr=1.2.3.4;what=1", "x",
])
def test_names_that_are_none(bench, value: str) -> None:
    with pytest.raises((ConfigError, AssertionError)):
        bench("request_route { exit; }\n", head=HEAD + dns_cache(value))
