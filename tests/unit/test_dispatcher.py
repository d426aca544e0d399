"""Module dispatcher on a virtual clock. Orders and return codes are those that the real 5.6.3 gave for the same list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault
from tests.harness import HEAD, Bench, Message

LIST = """# comment
1 sip:127.0.0.1:7001 0 0
1 sip:127.0.0.1:7002 0 0 weight=10;duid=b
1 sip:127.0.0.1:7003 0 0
2 sip:127.0.0.1:7001 0 5
2 sip:127.0.0.1:7002 0 30
2 sip:127.0.0.1:7003 0 20
2 sip:127.0.0.1:7004 0 20
3 sip:127.0.0.1:7001 0 0 weight=80
3 sip:127.0.0.1:7002 0 0 weight=20
4 sip:127.0.0.1:7001 1 0
4 sip:127.0.0.1:7002 8 0
4 sip:127.0.0.1:7003 9 0
4 sip:127.0.0.1:7004 0 0 foo=bar;x
5 sip:127.0.0.1:7001 0 0 duid=a;maxload=1
5 sip:127.0.0.1:7002 0 0 duid=b;maxload=2
6 sip:127.0.0.1:7001 1 0
7 sip:127.0.0.1:7001 0 0 rweight=60
7 sip:127.0.0.1:7002 0 0 rweight=20
8 sip:127.0.0.1:7009;lr 0 0
"""
NEXT = 'failure_route[N] { if (ds_next_dst()) { t_on_failure("N"); t_relay(); } }\n'


@pytest.fixture
def server(bench: Callable[..., Bench], tmp_path: Path) -> Callable[..., Bench]:
    def make(route: str, *params: str, text: str = LIST) -> Bench:
        path = tmp_path / "list"
        path.write_text(text)
        lines = [f'"list_file", "{path}"', '"flags", 2', '"ds_hash_size", 4', *params]
        return bench("".join(f'modparam("dispatcher", {line})\n' for line in lines) + route, head=HEAD + 'loadmodule "dispatcher.so"\n')

    return make


def ports(b: Bench, count: int, method: str = "MESSAGE") -> list[int]:
    """Where ``count`` requests go."""
    out = []
    for number in range(count):
        b.request(method, "sip:bob@b.test", call_id=f"c{number}")
        out += [m.to[1] - 7000 for m in b.take() if m.first.startswith(method)]
    return out


def select(group: int, algorithm: int, limit: int = 0) -> str:
    return f'request_route {{ if (!ds_select_dst("{group}", "{algorithm}", "{limit}")) {{ sl_send_reply("503", "None"); exit; }} t_on_failure("N"); t_relay(); }}\n{NEXT}'


def refused(b: Bench, sent: Message) -> list[int]:
    b.reply(sent, "500 No", port=sent.to[1])
    return [m.to[1] - 7000 for m in b.take() if m.first.startswith("MESSAGE")]


def test_round_robin_and_its_failover(server: Callable[..., Bench]) -> None:
    b = server(select(1, 4))
    assert ports(b, 4) == [3, 2, 1, 3]
    b.request("MESSAGE", "sip:bob@b.test", call_id="x")
    (first,) = b.take()
    assert first.to[1] == 7002
    assert refused(b, first) == [1]


@pytest.mark.parametrize(("limit", "order"), [(0, [2, 4, 3, 1]), (2, [2, 4])])
def test_priority_and_limit(server: Callable[..., Bench], limit: int, order: list[int]) -> None:
    b = server(select(2, 8, limit))
    b.request("MESSAGE", "sip:bob@b.test")
    tried = []
    sent = b.take()
    while sent and sent[0].first.startswith("MESSAGE"):
        tried.append(sent[0].to[1] - 7000)
        b.reply(sent[0], "500 No", port=sent[0].to[1])
        sent = b.take()
    assert tried == order
    assert sent[0].first == "SIP/2.0 500 No"


def test_a_destination_that_is_set_already(server: Callable[..., Bench]) -> None:
    route = 'request_route { $du = "sip:127.0.0.1:7050"; ds_select_dst("1", "8"); xlog("$rc $du\\n"); }\n'
    for param, wanted in (('"force_dst", 0', "-1 sip:127.0.0.1:7050"), ('"force_dst", 1', "1 sip:127.0.0.1:7003")):
        b = server(route, param)
        b.request("MESSAGE", "sip:bob@b.test")
        assert b.log.lines[-1] == wanted


def test_inactive_ones_are_passed_over(server: Callable[..., Bench]) -> None:
    assert ports(server(select(4, 4)), 3) == [4, 2, 4]
    assert ports(server(select(6, 4)), 1) == []
    assert ports(server(select(99, 4)), 1) == []


@pytest.mark.parametrize("algorithm", [0, 1, 2, 3])
def test_hashes_stay(server: Callable[..., Bench], algorithm: int) -> None:
    assert ports(server(select(1, algorithm)), 6) == ports(server(select(1, algorithm)), 6)


def test_call_ids_spread(server: Callable[..., Bench]) -> None:
    assert len(set(ports(server(select(1, 0)), 30))) == 3


@pytest.mark.parametrize(("group", "algorithm", "shares"), [(3, 9, {1: 80, 2: 20}), (7, 11, {1: 75, 2: 25})])
def test_weights(server: Callable[..., Bench], group: int, algorithm: int, shares: dict[int, int]) -> None:
    assert Counter(ports(server(select(group, algorithm)), 100)) == shares


def test_call_load(server: Callable[..., Bench]) -> None:
    route = select(5, 10).replace("request_route {", 'request_route { if (is_method("BYE")) { ds_load_unset(); exit; }')
    b = server(route)
    assert sorted(ports(b, 4, "INVITE")) == [1, 2, 2]
    b.request("BYE", "sip:bob@b.test", call_id="c0")
    b.request("INVITE", "sip:bob@b.test", call_id="next")
    assert any(m.first.startswith("INVITE") for m in b.take())
    assert sum(d["DEST"]["RUNTIME"]["DLGLOAD"] for d in targets(b, 5)) == 3
    b.advance(7300)
    assert sum(d["DEST"]["RUNTIME"]["DLGLOAD"] for d in targets(b, 5)) == 0


def targets(b: Bench, group: int) -> Any:
    return next(r["SET"]["TARGETS"] for r in b.rpc("dispatcher.list")["RECORDS"] if r["SET"]["ID"] == group)


def test_parallel(server: Callable[..., Bench]) -> None:
    assert sorted(ports(server(select(1, 12)), 1)) == [1, 2, 3]


def test_domain_and_routes(server: Callable[..., Bench]) -> None:
    b = server('request_route { ds_select_domain("8", "4"); $var(a) = $ru; ds_select_routes("1=4;2=8", "2", "4"); '
               'xlog("$var(a) $xavp(_dsctx_=>cnt) $xavp(_dsdst_=>uri) $(xavp(_dsdst_[3]=>grp))\\n"); }\n')  # fmt: skip
    b.request("MESSAGE", "sip:bob@b.test;x=y")
    assert b.log.lines[-1] == "sip:bob@127.0.0.1:7009;lr 4 sip:127.0.0.1:7003 2"


ASKS = [
    ('ds_list_exists("1")', 1), ('ds_list_exists("99")', -1), ("ds_is_from_list()", -1), ('ds_is_from_list("1", "0", "sip:127.0.0.1:7002")', 1),
    ('ds_is_from_list("1", "0", "sip:127.0.0.1:7099")', -1), ('ds_is_from_list("1", "1", "sip:127.0.0.1:7099")', 1),
    ('ds_is_from_list("1", "0", "sip:127.0.0.1:7002;transport=tcp")', -1), ('ds_is_from_list("1", "2", "sip:127.0.0.1:7002;transport=tcp")', 1),
    ('ds_is_from_list("-1", "0", "sip:127.0.0.1:7009")', 1), ('ds_is_from_list("1", "0", "rubbish")', -1), ('ds_is_active("1")', 1), ('ds_is_active("6")', -1),
    ('ds_is_active("99")', -1), ('ds_is_active("4", "sip:127.0.0.1:7001")', -1), ('ds_is_active("4", "sip:127.0.0.1:7004")', 1), ("ds_load_unset()", -1),
    ("ds_load_update()", 1), ("ds_reload()", 1), ("ds_mark_dst()", -1), ("ds_next_dst()", -1), ('ds_select_routes("x", "0")', -1),
]  # fmt: skip


def test_questions(server: Callable[..., Bench]) -> None:
    b = server("request_route { " + "".join(f'{call}; xlog("rc $rc\\n"); ' for call, _ in ASKS) + "}\n")
    b.request("MESSAGE", "sip:bob@b.test")
    assert [line for line in b.log.lines if line.startswith("rc ")] == [f"rc {code}" for _, code in ASKS]


def test_a_destination_is_marked(server: Callable[..., Bench]) -> None:
    b = server(select(2, 8).replace("failure_route[N] {", 'failure_route[N] { ds_mark_dst("ip");'))
    b.request("MESSAGE", "sip:bob@b.test")
    (sent,) = b.take()
    assert refused(b, sent) == [4]
    assert targets(b, 2)[0]["DEST"]["FLAGS"] == "IP"
    assert ports(b, 2) == [4, 4]


PROBING = ('"ds_ping_interval", 10', '"ds_probing_mode", 1', '"ds_probing_threshold", 2', '"ds_inactive_threshold", 2', '"ds_ping_reply_codes", "class=2;code=404"',
           '"ds_ping_from", "sip:ping@b.test"', '"ds_ping_latency_stats", 1')  # fmt: skip
EVENTS = 'event_route[dispatcher:dst-down] { xlog("down $ru $dsv(setid)\\n"); }\nevent_route[dispatcher:dst-up] { xlog("up $ru\\n"); }\n'


def probe(b: Bench, code: str) -> None:
    b.advance(10 - b.time % 10)
    (ping,) = [m for m in b.take() if m.first.startswith("OPTIONS")]
    assert ping.first == "OPTIONS sip:127.0.0.1:7001 SIP/2.0" and (ping.get("From") or "").startswith("<sip:ping@b.test>")
    b.advance(0.02)
    b.reply(ping, code, port=7001)
    b.take()


def test_probing(server: Callable[..., Bench]) -> None:
    b = server(select(1, 8) + EVENTS, *PROBING, text="1 sip:127.0.0.1:7001\n")
    states = []
    for code in ("200 OK", "503 No", "404 Not Found", "503 No", "503 No", "503 No", "200 OK", "200 OK"):
        probe(b, code)
        states.append(targets(b, 1)[0]["DEST"]["FLAGS"])
    assert states == ["AP", "TP", "AP", "TP", "IP", "IP", "IP", "AP"]
    assert [line for line in b.log.lines if line.startswith(("up", "down"))] == ["down sip:127.0.0.1:7001 1", "up sip:127.0.0.1:7001"]
    assert targets(b, 1)[0]["DEST"]["LATENCY"]["MAX"] == 20
    assert not [line for line in b.log.lines if "Error" in line]


def test_silence_counts_as_failure(server: Callable[..., Bench]) -> None:
    b = server(select(1, 8) + EVENTS, *PROBING, text="1 sip:127.0.0.1:7001\n")
    b.advance(75)
    assert targets(b, 1)[0]["DEST"]["FLAGS"] == "IP"
    assert ports(b, 1) == []


def test_rpc(server: Callable[..., Bench]) -> None:
    b = server(select(1, 8))
    assert b.rpc("dispatcher.set_state", "ip", 1, "sip:127.0.0.1:7003") == "Ok. Dispatcher state updated."
    assert ports(b, 1) == [2]
    for args in (("ip", 1, "sip:9.9.9.9"), ("zz", 1, "all")):
        with pytest.raises(RpcFault):
            b.rpc("dispatcher.set_state", *args)
    assert b.rpc("dispatcher.ping_active", 0) == {"OldPingState": 1, "NewPingState": 0}
    assert b.rpc("dispatcher.hash", 4, "abc") == {"hashid": 7167810, "slot": 2}
    b.rpc("dispatcher.add", 9, "sip:127.0.0.1:7008", 0, 3, "weight=5")
    with pytest.raises(RpcFault, match="Ongoing reload"):
        b.rpc("dispatcher.reload")
    b.advance(6)
    with pytest.raises(RpcFault, match="is no SIP URI"):
        b.rpc("dispatcher.add", 9, "rubbish")
    b.advance(6)
    b.rpc("dispatcher.remove", 9, "sip:127.0.0.1:7008")
    b.advance(6)
    assert b.rpc("dispatcher.reload").startswith("Ok")
    assert targets(b, 1)[0]["DEST"]["FLAGS"] == "IP"


def test_a_list_that_cannot_be_read_keeps_the_old_one(server: Callable[..., Bench], tmp_path: Path) -> None:
    b = server(select(1, 8))
    (tmp_path / "list").unlink()
    with pytest.raises(RpcFault, match="Reload Failed"):
        b.rpc("dispatcher.reload")
    assert ports(b, 1) == [3]


def test_bad_lines_are_named_and_left_out(server: Callable[..., Bench]) -> None:
    b = server(select(1, 8), text="1\nx sip:a\n1 sip:127.0.0.1:7001 zz\n1 rubbish\n1 sip:127.0.0.1:7002 0 0 socket=udp:10.9.9.9:5060\n1 sip:127.0.0.1:7003 -1\n\xff\n")
    assert [line.split("list:")[1][0] for line in b.log.lines if "list:" in line] == ["1", "2", "3", "4", "7"]
    assert [line for line in b.log.lines if "10.9.9.9" in line]


@pytest.mark.parametrize(("param", "message"), [
    ('"list_file", "/nowhere/list"', "cannot be read"), ('"ds_probing_mode", 7', "ds_probing_mode"), ('"ds_probing_threshold", 0', "at least 1"),
    ('"ds_ping_reply_codes", "x=1"', "neither class"), ('"setid_pvname", "$rm"', "cannot be set"),
])  # fmt: skip
def test_parameters_that_make_no_sense(server: Callable[..., Bench], param: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        server(select(1, 8), param)
