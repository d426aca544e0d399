"""Generations in one worker: what takes over, what goes on, what is let go of."""

from __future__ import annotations

import gc
import json
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from tests.harness import HEAD, Bench, built
from tests.unit.test_modules import REGISTRAR, SAVE, register

CALLS = """
request_route {{
    if (is_method("ACK")) {{ exit; }}
    t_on_reply("R");
    t_on_failure("F");
    append_hf("X-Version: {version}\\r\\n");
    t_relay();
}}
onreply_route[R] {{ append_hf("X-Reply: {version}\\r\\n"); }}
failure_route[F] {{ t_reply("480", "From {version}"); }}
"""


def change(b: Bench, text: str, *, head: str = HEAD) -> None:
    """The configuration becomes another one."""
    b.files = built(b.folder, head + text)
    b.load()


@pytest.fixture
def calls(bench: Callable[..., Bench]) -> Bench:
    return bench(CALLS.format(version="one"))


def to_callee(b: Bench) -> list[str]:
    return [m.get("X-Version") or "" for m in b.take() if m.to[1] == 7000]


def test_a_transaction_ends_on_the_generation_that_it_began_on(calls: Bench) -> None:
    b = calls
    b.request("INVITE", call_id="old")
    (_, old) = b.take()
    change(b, CALLS.format(version="two"))
    b.request("INVITE", call_id="new")
    (_, new) = b.take()
    assert (old.get("X-Version"), new.get("X-Version")) == ("one", "two")
    b.reply(old, "180 Ringing")
    b.reply(new, "180 Ringing")
    assert [m.get("X-Reply") for m in b.take()] == ["one", "two"]
    b.reply(old, "486 Busy")
    b.reply(new, "486 Busy")
    assert [m for m in b.firsts() if "SIP/2.0 480" in m] == ["SIP/2.0 480 From one", "SIP/2.0 480 From two"]


def test_an_old_generation_is_let_go_of_with_its_last_transaction(calls: Bench) -> None:
    b = calls
    first = weakref.ref(b.worker.rt)
    b.request("MESSAGE")
    change(b, CALLS.format(version="two"))
    assert [(g["generation"], g["state"], g["pins"]) for g in b.rpc("kamc.generations")] == [(1, "draining", 1), (2, "active", 0)]
    b.reply(b.take()[0], "200 OK")
    b.advance(10)
    assert [g["generation"] for g in b.rpc("kamc.generations")] == [2]
    gc.collect()
    assert first() is None


def test_what_cannot_start_changes_nothing(calls: Bench) -> None:
    b = calls
    broken = built(b.folder, HEAD + 'modparam("tm", "failover_reply_codes", "nonsense")\n' + CALLS.format(version="two"))
    before = b.worker.rt, b.worker.datapath.hooks, dict(b.worker.rpc.commands)
    with pytest.raises(ConfigError, match="failover_reply_codes"):
        b.worker.load(broken, str(b.folder), {})
    assert (b.worker.rt, b.worker.datapath.hooks, b.worker.rpc.commands) == before
    b.request("MESSAGE")
    assert to_callee(b) == ["one"]
    change(b, CALLS.format(version="three"))
    b.request("MESSAGE", call_id="m2")
    assert to_callee(b) == ["three"]


def test_parameters_of_tm_are_those_of_the_new_generation(bench: Callable[..., Bench]) -> None:
    text = 'modparam("tm", "fr_timer", {ms})\nrequest_route {{ t_relay(); }}\n'
    b = bench(text.format(ms=2000))
    change(b, text.format(ms=500))
    b.request("MESSAGE")
    b.take()
    b.advance(0.6)
    assert "SIP/2.0 408 Request Timeout" in b.firsts()


def test_repeated_timers_go_on_in_their_rhythm(bench: Callable[..., Bench]) -> None:
    text = ('loadmodule "rtimer.so"\nmodparam("rtimer", "timer", "name=t;interval=10;mode=1;")\nmodparam("rtimer", "exec", "timer=t;route=T")\n'
            'request_route {{ exit; }}\nroute[T] {{ xlog("L_NOTICE", "tick {version}"); }}\n')  # fmt: skip
    b = bench(text.format(version="one"))
    b.advance(6)
    change(b, text.format(version="two"))
    b.log.lines.clear()
    b.advance(5)
    assert [line for line in b.log.lines if "tick" in line] == ["tick two"]
    b.advance(10)
    assert [line for line in b.log.lines if "tick" in line] == ["tick two"] * 2


def test_script_variables_outlive_a_reload(bench: Callable[..., Bench]) -> None:
    text = 'modparam("pv", "shvset", "n=i:5")\nrequest_route {{ $shv(n) = $shv(n) + 1; $var(k) = $var(k) + 1; xlog("L_NOTICE", "now $shv(n) $var(k) {v}"); }}\n'
    b = bench(text.format(v=1))
    b.request("OPTIONS")
    change(b, text.format(v=2))
    b.request("OPTIONS")
    assert [line for line in b.log.lines if line.startswith("now")] == ["now 6 1 1", "now 7 2 2"]


def test_a_run_that_was_set_aside_goes_on_where_it_was(bench: Callable[..., Bench]) -> None:
    text = 'loadmodule "cfgutils.so"\nrequest_route {{ $var(x) = "{v}"; usleep("2000000"); xlog("L_NOTICE", "woke $var(x) {v}"); sl_send_reply("200", "{v}"); }}\n'
    b = bench(text.format(v="one"))
    b.request("OPTIONS")
    change(b, text.format(v="two"))
    assert [g["pins"] for g in b.rpc("kamc.generations")] == [1, 0]
    b.request("OPTIONS", call_id="c2")
    b.advance(3)
    assert b.firsts() == ["SIP/2.0 200 one", "SIP/2.0 200 two"]
    assert [line for line in b.log.lines if line.startswith("woke")] == ["woke one one", "woke two two"]
    assert [g["generation"] for g in b.rpc("kamc.generations")] == [2]


def test_contacts_outlive_a_reload(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=REGISTRAR)
    register(b, "<sip:x@127.0.0.1:7000>")
    change(b, SAVE.replace("X-Du", "X-Du2"), head=REGISTRAR)
    b.request("MESSAGE", "sip:bob@b.test", call_id="m1")
    assert any(line == "MESSAGE sip:x@127.0.0.1:7000 SIP/2.0" for line in b.firsts())
    assert b.worker.counters.get("usrloc", "location_users") == 1


def test_hash_tables_outlive_a_reload_and_new_ones_come(bench: Callable[..., Bench]) -> None:
    head = HEAD + 'loadmodule "htable.so"\nmodparam("htable", "htable", "a=>size=4;initval=1")\n'
    text = 'request_route {{ $sht({table}=>k) = $sht({table}=>k) + 1; xlog("L_NOTICE", "now $sht(a=>k) {table}"); }}\n'
    b = bench(text.format(table="a"), head=head)
    b.request("OPTIONS")
    change(b, text.format(table="b"), head=head + 'modparam("htable", "htable", "b=>size=4;initval=7")\n')
    b.request("OPTIONS", call_id="c2")
    assert [line for line in b.log.lines if line.startswith("now")] == ["now 2 a", "now 2 b"]
    assert b.rpc("htable.get", "b", "k")["item"]["value"] == 8


def test_dialogs_go_on_and_time_out_on_the_new_generation(bench: Callable[..., Bench]) -> None:
    head = HEAD + 'loadmodule "dialog.so"\nmodparam("dialog", "default_timeout", 60)\n'
    text = ('request_route {{ if (has_totag()) {{ loose_route(); t_relay(); exit; }} dlg_manage(); $dlg_var(who) = "{v}"; record_route(); t_relay(); }}\n'
            'event_route[dialog:end] {{ xlog("L_NOTICE", "end {v} $dlg_var(who)"); }}\n')  # fmt: skip
    b = bench(text.format(v="one"), head=head)
    b.request("INVITE")
    b.reply(b.take()[1], "200 OK", "Contact: <sip:bob@127.0.0.1:7000>")
    b.take()
    first = weakref.ref(b.worker.rt)
    change(b, text.format(v="two"), head=head)
    assert len(b.rpc("dlg.list")) == 1
    b.advance(61)
    assert "end two one" in b.log.lines
    gc.collect()
    assert first() is None


def test_nonces_stay_good(bench: Callable[..., Bench]) -> None:
    text = 'request_route {{ if (!pv_www_authenticate("r", "pw", "0")) {{ www_challenge("r", "0"); exit; }} sl_send_reply("200", "{v}"); }}\n'
    head = HEAD + 'loadmodule "auth.so"\n'
    b = bench(text.format(v="one"), head=head)
    key = b.worker.rt.modules["auth"].key  # type: ignore[union-attr, attr-defined]
    change(b, text.format(v="two"), head=head)
    assert b.worker.rt.modules["auth"].key == key  # type: ignore[union-attr, attr-defined]
    change(b, text.format(v="two"), head=head + 'modparam("auth", "secret", "another")\n')
    assert b.worker.rt.modules["auth"].key != key  # type: ignore[union-attr, attr-defined]


def test_hooks_of_a_module_that_is_gone_are_gone(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { sl_send_reply("200", "OK"); }\n', head=HEAD + 'loadmodule "stun.so"\n')
    request = b"\0\1\0\0\x21\x12\xa4\x42abcdefghijkl".decode("latin-1")
    b.recv(request)
    assert len(b.take()) == 1
    change(b, 'request_route { sl_send_reply("200", "OK"); }\n')
    b.recv(request)
    assert b.take() == []


def test_commands_of_a_module_that_is_gone_are_gone(bench: Callable[..., Bench]) -> None:
    b = bench("request_route { exit; }\n", head=HEAD + 'loadmodule "htable.so"\nmodparam("htable", "htable", "a=>size=4;")\n')
    assert "htable.get" in b.worker.rpc.commands
    change(b, "request_route { exit; }\n")
    assert "htable.get" not in b.worker.rpc.commands
    assert "core.uptime" in b.worker.rpc.commands


def test_many_reloads_leave_nothing_behind(calls: Bench) -> None:
    b = calls
    versions = [built(b.folder, HEAD + CALLS.format(version=v)) for v in ("one", "two")]

    def round_(number: int) -> None:
        b.files = versions[number % 2]
        b.load()
        b.request("MESSAGE", call_id=f"m{number}")
        b.reply(b.take()[0], "200 OK")
        b.advance(10)
        b.take()

    for number in range(20):
        round_(number)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(20, 220):
        round_(number)
    gc.collect()
    assert len(gc.get_objects()) < before * 1.01
    assert [(g["generation"], g["pins"]) for g in b.rpc("kamc.generations")] == [(221, 0)]


def test_pauses_are_told(calls: Bench, tmp_path: Path) -> None:
    assert calls.rpc("kamc.reloads") == {"count": 0}
    change(calls, CALLS.format(version="two"))
    shown = calls.rpc("kamc.reloads")
    assert shown["count"] == 1
    assert 0 < shown["median"] <= shown["p99"] <= shown["most"]


def test_two_hundred_reloads_leave_nothing_behind(bench: Callable[..., Bench], tmp_path: Path) -> None:
    text = 'loadmodule "htable.so"\nmodparam("htable", "htable", "t=>size=4;")\nrequest_route { $sht(t=>a) = 1; t_newtran(); t_reply("200", "%s"); }\n'
    b = bench(text % "one")
    builds = [b.files, built(tmp_path, HEAD + text % "two")]

    def rounds(count: int) -> int:
        for number in range(count):
            b.files = builds[number % 2]
            b.load()
            b.request("OPTIONS", branch="z9hG4bKr")
            b.take()
            b.advance(10)
            b.log.lines.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        # less than half a kilobyte a reload; a generation that stays would be a hundred times as much
        before = rounds(20)
        assert rounds(200) - before < 100_000
    finally:
        tracemalloc.stop()
    assert [row["state"] for row in b.worker.generations.table()] == ["active"] and b.worker.rt.generation == 221

def test_a_build_of_another_kamc_is_refused(bench, tmp_path: Path) -> None:
    files = built(tmp_path, HEAD + "request_route { exit; }\n")
    manifest = json.loads(files["manifest.json"])
    for other in (manifest["format"] - 1, manifest["format"] + 1, None):
        with pytest.raises(ConfigError, match="build again"):
            bench("", files={**files, "manifest.json": json.dumps({**manifest, "format": other}).encode()})
