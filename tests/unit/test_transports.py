"""The core parameters of sockets, connections and names: none is forgotten, and what the table says is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kamc import catalogue
from kamc.declare import core_effects as effects
from kamc.runtime.net.dns import resolver
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.listen import advertised
from tests.harness import Bench

ROOT = Path(__file__).parents[2]
AREA = re.compile(r"tcp_|_tcp$|udp|tls|sctp|dns|dst_bl|listen$|alias|mhomed|tos$|mcast|advert|children|socket_workers|maxbuffer|maxsnd|ipv6|free_bind|"
                  r"pmtu|msg_recv_max|rport$|reply_to_via|port$|xavp_via|http_reply")  # fmt: skip


def test_every_parameter_is_in_one_set() -> None:
    named = {row["name"] for row in catalogue.core_params().values()}
    sets = (effects.HONOURED, set(effects.TUNING), set(effects.WITHOUT_EFFECT))
    assert {n for n in named if AREA.search(n)} == set().union(*sets) & named
    assert sum(map(len, sets)) == len(set().union(*sets))
    assert set().union(*sets) <= named


def test_what_is_honoured_is_read_somewhere() -> None:
    table = ROOT / "kamc" / "declare" / "core_effects.py"
    code = "".join(p.read_text() for folder in ("kamc", "stdlib_modules") for p in (ROOT / folder).rglob("*.py") if p != table)
    # these two are read by another name: parts of a text
    built = {n for n in effects.HONOURED if n.startswith("dst_blocklist_") and n.endswith("_imask")}
    assert [n for n in sorted(effects.HONOURED - built) if f'"{n}"' not in code] == []


def test_the_document_has_the_same_table() -> None:
    text = (ROOT / "docs" / "transports.md").read_text()
    tables = text[text.index("## Core parameters") :]
    for name, why in {**effects.TUNING, **effects.WITHOUT_EFFECT}.items():
        assert f"| `{name}` | {why} |" in tables
    assert set(re.findall(r"`(\w+)`", tables.split("### ")[1])) == effects.HONOURED


def test_advertised_addresses() -> None:
    own = Listener("udp", "127.0.0.1", 5060, "own.test", 5070)
    plain = Listener("udp", "127.0.0.1", 5060)
    first, second = advertised([own, plain], "[2001:db8::1]", 5080)
    assert (first.via_host, first.via_port) == ("own.test", 5070)
    assert (second.via_host, second.via_port) == ("[2001:db8::1]", 5080)


@pytest.mark.parametrize(("param", "found"), [("force_rport=yes", "rport=6000"), ("", "branch"), ("local_rport=yes", ";rport;branch=")])
def test_ports_of_replies(bench: Callable[..., Bench], param: str, found: str) -> None:
    b = bench(param + "\nrequest_route { t_relay(); }\n")
    b.request("MESSAGE")
    (sent,) = b.take()
    assert found in "".join(sent.all("Via"))


def test_mhomed_sends_from_where_the_kernel_would(bench: Callable[..., Bench]) -> None:
    b = bench("mhomed=yes\nrequest_route { t_relay(); }\n")
    first = b.worker.listeners[0]
    for host in ("192.0.2.9", "127.0.0.1"):
        listener = Listener("udp", host, 5062)
        b.worker.listeners.append(listener)
        b.worker.datapath.add_listener(listener, lambda data, address, host=host: b.sent.append(host))  # type: ignore[arg-type, misc]
    b.worker.datapath.by_proto["udp"].remove(first)
    b.request("MESSAGE")
    assert b.sent == ["127.0.0.1"]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(("param", "own"), [("", True), ("auto_aliases=yes", True), ("auto_aliases=no", False)])
def test_names_of_listening_addresses_are_own(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, param: str, own: bool) -> None:
    lines = [("192.0.2.1", "A", ["there.test"]), ("127.0.0.1", "A", ["here.test", "too.test"]), ("127.0.0.1", "A", ["other.test"])]
    monkeypatch.setattr(resolver, "host_lines", lambda *_: iter(lines))
    b = bench(f'{param}\nrequest_route {{ if (uri == myself) {{ sl_send_reply("200", "Own"); }} else {{ sl_send_reply("404", "Foreign"); }} }}\n')
    for uri, expected in (("sip:here.test", own), ("sip:HERE.test:5060", own), ("sip:here.test:5070", False), ("sip:there.test", False), ("sip:too.test", own),
                          ("sip:other.test", False)):
        b.request("OPTIONS", uri)
        assert b.firsts() == ["SIP/2.0 200 Own" if expected else "SIP/2.0 404 Foreign"]
