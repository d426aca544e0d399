"""Metrics for Prometheus. Lines, results and errors as those of Kamailio 5.6.3, but for the escapes of labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.xhttp_prom import Metric, number_of
from tests.harness import HEAD, Bench

CFG = """
modparam("xhttp_prom", "prom_counter", "name=cnt; label=method:IP;")
modparam("xhttp_prom", "prom_counter", "name=plain;")
modparam("xhttp_prom", "prom_gauge", "name=gg;")
modparam("xhttp_prom", "prom_gauge", "name=gl; label=a")
modparam("xhttp_prom", "prom_histogram", "name=hh; label=lbl; buckets=3.1:5:6.5")
request_route {
    $var(a) = prom_counter_inc("cnt", "15", "push", "a\\"b\\\\c"); $var(b) = prom_counter_inc("cnt", "1", "push", "a\\"b\\\\c");
    $var(c) = prom_counter_inc("cnt", "1", "x", ""); $var(d) = prom_counter_inc("cnt", "1", "x"); $var(e) = prom_counter_inc("nope", "1");
    $var(f) = prom_counter_inc("plain", "-1"); $var(g) = prom_gauge_set("gg", "-12.5"); $var(h) = prom_gauge_inc("gg", "0.5");
    $var(i) = prom_gauge_set("gl", "1e3", "x"); $var(j) = prom_histogram_observe("hh", "4", "x"); $var(k) = prom_histogram_observe("hh", "7.25", "x");
    $var(m) = prom_counter_reset("plain"); $var(n) = prom_gauge_set("cnt", "1", "a", "b"); $var(o) = prom_dispatch();
    sl_send_reply("200", "$var(a) $var(b) $var(c) $var(d) $var(e) $var(f) $var(g) $var(h) $var(i) $var(j) $var(k) $var(m) $var(n) $var(o)");
}
event_route[xhttp:request] { if (prom_check_uri()) { prom_dispatch(); exit; } xhttp_reply("404", "No", "", ""); }
"""


class Setup:
    def __init__(self, folder: Path, params: str = "") -> None:
        self.bench = Bench(folder, params + CFG, head=HEAD + 'loadmodule "xhttp.so"\nloadmodule "xhttp_prom.so"\n')
        self.sent: list[str] = []
        self.bench.worker.datapath.send_raw = lambda flow, text, **options: self.sent.append(text)  # type: ignore[method-assign]

    def get(self, url: str = "/metrics") -> str:
        self.bench.worker.datapath.received(f"GET {url} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode(), self.bench.listener, ("127.0.0.1", 9000), conn=1)
        return self.sent.pop()

    def lines(self) -> list[str]:
        return re.sub(r" \d+$", "", self.get().partition("\r\n\r\n")[2], flags=re.M).splitlines()


@pytest.fixture
def setup(tmp_path: Path) -> Callable[..., Setup]:
    return lambda params="": Setup(tmp_path, params)


OWN = ['kamailio_cnt{method="push", IP="a\\"b\\\\c"} 16', "kamailio_plain 0", "kamailio_gg -12.000000", 'kamailio_gl{a="x"} 1000.000000',
       'kamailio_hh_bucket{lbl="x", le="3.100000"} 0', 'kamailio_hh_bucket{lbl="x", le="5.000000"} 1', 'kamailio_hh_bucket{lbl="x", le="6.500000"} 1',
       'kamailio_hh_bucket{lbl="x", le="+Inf"} 2', 'kamailio_hh_sum{lbl="x"} 11.250000', 'kamailio_hh_count{lbl="x"} 2']  # fmt: skip


def test_metrics_of_the_script(setup: Callable[..., Setup]) -> None:
    s = setup()
    assert s.lines() == ["# User defined metrics"]
    s.bench.request("MESSAGE")
    assert s.bench.firsts() == ["SIP/2.0 200 1 1 -1 -1 -1 -1 1 1 1 1 1 1 -1 -1"]
    page = s.get()
    assert page.startswith("HTTP/1.1 200 OK\r\n") and "Content-Type: text/plain; version=0.0.4\r\n" in page
    assert s.lines()[1:] == OWN
    assert s.get("/metrics?a=b").startswith("HTTP/1.1 404")


def test_metrics_that_nobody_uses_are_forgotten(setup: Callable[..., Setup]) -> None:
    s = setup('modparam("xhttp_prom", "xhttp_prom_timeout", 1)\nmodparam("xhttp_prom", "xhttp_prom_beginning", "")')
    s.bench.request("MESSAGE")
    s.bench.time += 59
    s.bench.rpc("xhttp_prom.counter_inc", "plain", 3)
    s.bench.time += 2
    assert s.lines() == ["# User defined metrics", "plain 3"]


@pytest.mark.parametrize(("stats", "title", "some", "other"), [
    ("sl:", "# Kamailio statistics for group: sl:", "kamailio_sl_sent_replies 1", "kamailio_core_rcv_requests"),
    ("200_replies", "# Kamailio statistics for: 200_replies", "kamailio_sl_200_replies 1", "kamailio_sl_sent_replies"),
    ("all", "# Kamailio whole internal statistics", "kamailio_sl_sent_replies 1", "nothing"),
])  # fmt: skip
def test_statistics_of_the_server(setup: Callable[..., Setup], stats: str, title: str, some: str, other: str) -> None:
    s = setup(f'modparam("xhttp_prom", "xhttp_prom_stats", "{stats}")\n')
    s.bench.request("MESSAGE")
    lines = s.lines()
    assert title in lines and some in lines and not any(line.startswith(other) for line in lines)


def test_commands(setup: Callable[..., Setup]) -> None:
    s = setup()
    rpc = s.bench.rpc
    assert rpc("xhttp_prom.counter_inc", "plain", 3) is rpc("xhttp_prom.gauge_set", "gg", "2.5") is rpc("xhttp_prom.gauge_inc", "gg", 1) is None
    assert rpc("xhttp_prom.counter_reset", "cnt", "a", "b") is rpc("xhttp_prom.histogram_observe", "hh", "4", "x") is None
    text = rpc("xhttp_prom.metric_list_print")
    assert "kamailio_plain 3 " in text and "kamailio_gg 3.500000 " in text and 'kamailio_cnt{method="a", IP="b"} 0 ' in text
    assert rpc("xhttp_prom.gauge_reset", "gg") is None and "kamailio_gg 0.000000 " in rpc("xhttp_prom.metric_list_print")
    bad: tuple[tuple[tuple[Any, ...], int, str], ...] = (
        (("counter_inc", "plain"), 400, "required number argument"), (("counter_inc", "nope", 1), 500, "Failed to add 1 to counter: nope"),
        (("counter_inc", "plain", "x"), 400, "required number argument"), (("gauge_set", "plain", 1), 500, "Failed to assign 1.000000 gauge: plain"),
        (("histogram_observe", "hh", 1), 500, "Failed to observe 1.000000 in histogram: hh"),
        (("gauge_inc", "gg", "x"), 400, "required number argument"), (("gauge_set", "gg", "nan"), 400, "required number argument"),
        (("gauge_set",), 400, "required gauge identifier"), (("counter_reset", "gg"), 500, "Failed to reset counter: gg"),
    )  # fmt: skip
    for call, code, message in bad:
        with pytest.raises(RpcFault) as raised:
            rpc(f"xhttp_prom.{call[0]}", *call[1:])
        assert (raised.value.code, str(raised.value)) == (code, message)


@pytest.mark.parametrize(("kind", "text"), [
    ("counter", "label=a"), ("counter", "name=1a"), ("counter", "name=a; label=a:b:c:d"), ("counter", "name=a; label=a-b"), ("counter", "name=a; buckets=1"),
    ("histogram", "name=a; buckets=1:x"), ("histogram", "name=a; buckets=2:1"), ("gauge", "name=a; what=b"),
])  # fmt: skip
def test_bad_declarations(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        Metric(kind, text)


def test_declared_twice(setup: Callable[..., Setup]) -> None:
    with pytest.raises(ConfigError, match="already"):
        setup('modparam("xhttp_prom", "prom_gauge", "name=plain")\n')
    with pytest.raises(ConfigError, match="xhttp_prom_timeout"):
        setup('modparam("xhttp_prom", "xhttp_prom_timeout", -1)\n')


def test_numbers_as_c_reads_them() -> None:
    assert [number_of(text) for text in ("4", " -1.5x", "1e3", ".5", "abc", "")] == [4.0, -1.5, 1000.0, 0.5, 0.0, 0.0]
