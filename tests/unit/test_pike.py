"""Module pike: the request that is one too many, as recorded from Kamailio 5.6.3."""

from __future__ import annotations

import pytest

from kamc.runtime.rpc.fault import RpcFault

CFG = 'request_route { $var(rc) = pike_check_ip("$rU"); sl_send_reply("200", "rc $var(rc)"); }\n'
ORDER = ("10.1.2.3", "10.1.2.4", "10.1.9.9", "11.1.2.3", "10.1.2.3", "10.77.1.1", "10.77.1.2")


def settings(density: int) -> str:
    return (f'loadmodule "pike.so"\nmodparam("pike", "sampling_time_unit", 2)\n'
            f'modparam("pike", "reqs_density_per_unit", {density})\nmodparam("pike", "remove_latency", 10)\n')  # fmt: skip


def ask(b, ip: str) -> int:
    b.request("OPTIONS", f"sip:{ip}@x")
    return int(b.take()[-1].first.split()[-1])


def first_refused(b, ip: str) -> int:
    return next(n for n in range(1, 200) if ask(b, ip) != 1)


@pytest.mark.parametrize(
    ("density", "counts"),
    [(1, (5, 2, 3, 5, 1, 4, 2)), (2, (6, 3, 4, 6, 1, 5, 3)), (8, (12, 9, 10, 12, 1, 11, 9)), (12, (17, 13, 14, 17, 1, 15, 13)), (17, (23, 18, 19, 23, 1, 20, 18)),
     (31, (40, 32, 33, 40, 1, 34, 32))],
)  # fmt: skip
def test_when_an_address_is_refused_first(bench, density: int, counts: tuple[int, ...]) -> None:
    b = bench(settings(density) + CFG)
    assert tuple(first_refused(b, ip) for ip in ORDER) == counts


def test_a_refused_address_comes_back_after_a_quiet_time(bench) -> None:
    b = bench(settings(8) + CFG)
    first_refused(b, "10.1.2.3")
    assert ask(b, "10.1.2.3") == -1
    assert ask(b, "192.0.2.1") == 1
    assert b.worker.counters.values["pike", "blocked_ips"] == 1
    b.advance(4.5)
    assert ask(b, "10.1.2.3") == 1
    assert any("UNBLOCKing ip 10.1.2.3" in line for line in b.log.lines)
    b.advance(13)
    assert b.worker.rt.module("pike").nodes == {}


def test_who_is_hot(bench) -> None:
    b = bench(settings(8) + CFG)
    first_refused(b, "10.1.2.3")
    for _ in range(6):
        ask(b, "10.1.2.4")
    row = {"ip_addr": "10.1.2.3", "leaf_hits_prev": 0, "leaf_hits_curr": 8, "expires": 10, "status": "HOT"}
    assert b.rpc("pike.top") == {"max_hits": 8, "list": [row], "number_of_rows": 1}
    assert [r["status"] for r in b.rpc("pike.list", "ALL")["list"]] == ["HOT", "WARM"]
    with pytest.raises(RpcFault, match="ALL, HOT or WARM"):
        b.rpc("pike.top", "X")


def test_what_is_no_address(bench) -> None:
    b = bench(settings(8) + CFG)
    assert ask(b, "bogus") == -1
