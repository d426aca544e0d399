"""Runtime variables: groups, instances that a run chooses, and changes by command. What the commands show is compared with Kamailio's in test_kamcmd."""

from __future__ import annotations

from typing import Any

import pytest

from kamc.runtime.rpc.fault import RpcFault
from tests.harness import HEAD, Bench, built

VARIABLES = 'vm.ip = "1.1.1.1" desc "where"\nvm.pt = 5060\nvm[1].pt = 7000\nvm[2].ip = "2.2.2.2"\n'
LOADED = HEAD + 'loadmodule "cfg_rpc.so"\nloadmodule "cfgutils.so"\n'
SHOW = 'xlog("$ci: $sel(cfg_get.vm.ip) $sel(cfg_get.vm.pt) $sel(cfg_selected.vm)\\n");'


def lines(b: Bench) -> list[str]:
    out, b.log.lines[:] = [line for line in b.log.lines if line.startswith("c")], []
    return out


def test_an_instance_ends_with_its_run(bench: Any) -> None:
    b = bench(f'request_route {{ {SHOW} if ($rm == "MESSAGE") {{ cfg_select("vm", $(ci{{s.substr,1,0}}{{s.int}})); {SHOW} }} route(A); }}\nroute[A] {{ {SHOW} }}\n',
              head=LOADED + VARIABLES)  # fmt: skip
    for call_id, method in (("c1", "MESSAGE"), ("c2", "MESSAGE"), ("c3", "OPTIONS"), ("c9", "MESSAGE")):
        b.request(method, call_id=call_id)
    plain = "1.1.1.1 5060 "
    assert lines(b) == [f"c1: {plain}", "c1: 1.1.1.1 7000 1", "c1: 1.1.1.1 7000 1",
                        f"c2: {plain}", "c2: 2.2.2.2 5060 2", "c2: 2.2.2.2 5060 2", f"c3: {plain}", f"c3: {plain}",
                        f"c9: {plain}", "cfg_select: group instance 'vm[9]' does not exist", f"c9: {plain}", f"c9: {plain}"]  # fmt: skip


def test_one_group_after_the_other(bench: Any) -> None:
    b = bench(f'request_route {{ cfg_select("vm", 1); cfg_select("vm", 2); {SHOW} cfg_reset("nosuch"); {SHOW} cfg_reset("vm"); {SHOW} cfg_select("vm", 1); {SHOW} }}\n',
              head=LOADED + VARIABLES)  # fmt: skip
    b.request("OPTIONS")
    assert lines(b) == ["c1: 2.2.2.2 5060 2", "c1: 2.2.2.2 5060 2", "c1: 1.1.1.1 5060 ", "c1: 1.1.1.1 7000 1"] and b.rpc("cfg.get", "vm", "pt") == 5060


def test_a_run_that_waits_finds_its_instance_again(bench: Any) -> None:
    b = bench(f'request_route {{ if ($rm == "MESSAGE") {{ cfg_select("vm", 1); sleep(1); {SHOW} exit; }} {SHOW} }}\n', head=LOADED + VARIABLES)
    b.request("MESSAGE", call_id="c1")
    b.request("OPTIONS", call_id="c2")
    # others change the group and the instance meanwhile
    b.rpc("cfg.set", "vm", "ip", "3.3.3.3")
    b.rpc("cfg.set", "vm[1]", "pt", 7001)
    b.advance(1)
    b.request("OPTIONS", call_id="c3")
    assert lines(b) == ["c2: 1.1.1.1 5060 ", "c1: 3.3.3.3 7001 1", "c3: 3.3.3.3 5060 "]


def test_an_instance_ends_with_exit(bench: Any) -> None:
    b = bench(f'request_route {{ if ($rm == "MESSAGE") {{ cfg_select("vm", 1); route(A); }} {SHOW} }}\nroute[A] {{ exit; }}\n', head=LOADED + VARIABLES)
    b.request("MESSAGE", call_id="c1")
    lines(b)
    b.request("OPTIONS", call_id="c2")
    assert lines(b) == ["c2: 1.1.1.1 5060 "]


def test_an_instance_of_a_module_and_of_the_core(bench: Any) -> None:
    """A transaction with another fr_timer, and a run with another log level."""
    b = bench('request_route { if ($rm == "MESSAGE") cfg_select("tm", 5); if ($rm == "INFO") { cfg_select("core", 2); xlog("L_DBG", "c-debug\\n"); exit; } '
              't_relay(); }\n', head=LOADED + 'modparam("tm", "fr_timer", 9000)\n')  # fmt: skip
    b.rpc("cfg.add_group_inst", "tm[5]")
    b.rpc("cfg.set", "tm[5]", "fr_timer", 3000)
    b.rpc("cfg.add_group_inst", "core[2]")
    b.rpc("cfg.set", "core[2]", "debug", 3)
    b.worker.log.level = 1
    b.request("MESSAGE", call_id="c1")
    b.request("OPTIONS", call_id="c2")
    b.advance(4)
    assert [(m.first, m.get("Call-ID")) for m in b.take() if m.first.startswith("SIP")] == [("SIP/2.0 408 Request Timeout", "c1")]
    b.advance(6)
    assert [(m.first, m.get("Call-ID")) for m in b.take() if m.first.startswith("SIP")] == [("SIP/2.0 408 Request Timeout", "c2")]
    b.request("INFO")
    assert b.worker.log.level == 1


def test_what_stands_ready_follows(bench: Any) -> None:
    """Numbers that the generated code has and defaults of requests."""
    b = bench('request_route { $var(i) = 0; while ($var(i) < 50) { $var(i) = $var(i) + 1; } xlog("c$var(i)\\n"); sl_send_reply("200", "OK"); }\n', head=LOADED)
    b.request("OPTIONS")
    assert lines(b)[-1] == "c50" and "rport" not in (b.take()[-1].get("Via") or "")
    b.rpc("cfg.set", "core", "max_while_loops", 5)
    b.rpc("cfg.set", "core", "force_rport", 1)
    b.request("OPTIONS")
    assert lines(b)[-1] == "c5" and ";rport=6000" in (b.take()[-1].get("Via") or "")
    b.rpc("cfg.reset", "core")
    b.request("OPTIONS")
    assert lines(b)[-1] == "c50" and "rport" not in (b.take()[-1].get("Via") or "")


def test_variables_that_a_module_calls_otherwise(bench: Any) -> None:
    b = bench("request_route { exit; }\n", head=LOADED + 'loadmodule "dispatcher.so"\nmodparam("dispatcher", "list_file", "/dev/null")\n')
    module = b.worker.rt.module("dispatcher")
    b.rpc("cfg.set", "dispatcher", "probing_threshold", 7)
    b.rpc("cfg.set", "dispatcher", "ping_reply_codes", "code=404")
    assert module.p.ds_probing_threshold == 7 and 404 in module.good_codes and 200 in module.good_codes
    b.rpc("cfg.set", "dispatcher", "ping_reply_codes", "nonsense")
    assert 404 in module.good_codes and any("ping_reply_codes" in line for line in b.log.lines)


def test_changes_over_a_reload(bench: Any) -> None:
    """They stay, unless the configuration says something else now; instances too."""
    b = bench("request_route { exit; }\n", head=LOADED + VARIABLES)
    for group, name, value in (("vm", "ip", "9.9.9.9"), ("vm", "pt", 1), ("vm[1]", "pt", 2), ("vm[2]", "pt", 3), ("tm", "default_code", 599)):
        b.rpc("cfg.set", group, name, value)
    b.rpc("cfg.add_group_inst", "vm[7]")
    b.rpc("cfg.set", "vm[7]", "ip", "7.7.7.7")
    b.rpc("cfg.del", "vm[2]", "ip")
    b.files = built(b.folder, LOADED + VARIABLES.replace("5060", "5070") + "request_route { drop; }\n")
    b.load()
    assert b.rpc("cfg.get", "vm") == {"ip": "9.9.9.9", "pt": 5070} and b.rpc("cfg.get", "tm", "default_code") == 599
    assert [b.rpc("cfg.get", f"vm[{n}]") for n in (1, 2, 7)] == [{"ip": "9.9.9.9", "pt": 2}, {"ip": "9.9.9.9", "pt": 3}, {"ip": "7.7.7.7", "pt": 5070}]
    b.rpc("cfg.reset", "vm")
    b.rpc("cfg.reset", "vm[1]")
    b.rpc("cfg.reset", "vm[2]")
    assert b.rpc("cfg.get", "vm") == {"ip": "1.1.1.1", "pt": 5070} and b.rpc("cfg.get", "vm[1]", "pt") == 7000 and b.rpc("cfg.get", "vm[2]", "ip") == "2.2.2.2"


def test_a_worker_that_starts_later(bench: Any) -> None:
    first, later = (bench("request_route { exit; }\n", head=LOADED + VARIABLES) for _ in range(2))
    first.rpc("cfg.set", "vm", "pt", 1)
    first.rpc("cfg.add_group_inst", "vm[7]")
    first.rpc("cfg.set", "vm[7]", "ip", "7.7.7.7")
    first.rpc("cfg.del_group_inst", "vm[2]")
    module = later.worker.rt.module("cfg_rpc")
    for _ in range(2):
        module.take(*first.worker.rt.module("cfg_rpc").state())
    assert later.rpc("cfg.get", "vm") == {"ip": "1.1.1.1", "pt": 1} and later.rpc("cfg.get", "vm[7]") == {"ip": "7.7.7.7", "pt": 1}
    with pytest.raises(RpcFault, match="Failed to get"):
        later.rpc("cfg.get", "vm[2]")


def test_changes_that_wait(bench: Any) -> None:
    b = bench("request_route { exit; }\n", head=LOADED + VARIABLES)
    b.rpc("cfg.set_delayed", "vm", "pt", 1)
    b.rpc("cfg.set_delayed", "vm", "pt", 2)
    b.rpc("cfg.set_delayed", "vm[1]", "pt", 3)
    b.rpc("cfg.del_group_inst", "vm[1]")
    assert b.rpc("cfg.diff") == [{"group name": "vm", "variable name": "pt", "old value": 5060, "new value": 2}]
    b.rpc("cfg.commit")
    assert b.rpc("cfg.get", "vm", "pt") == 2 and b.rpc("cfg.diff") == []


@pytest.mark.parametrize(("command", "params", "text"), [
    ("set", ("vm", "pt", "abc"), "Failed to set"), ("set", ("registrar", "default_q", 5), "Failed to set"), ("set", ("tm", "ruri_matching", 1), "Failed to set"),
    ("set", ("tm", "aggregate_challenges", 2), "Failed to set"), ("set", ("vm[5]", "pt", 1), "Failed to set"), ("set_delayed", ("vm[5]", "pt", 1), "Failed to set"),
    ("del_delayed", ("vm[5]", "pt"), "Failed to delete"), ("get", ("vm[-1]",), "Wrong group syntax"), ("get", ("tm", "fr_timer"), "not readable"),
    ("set", ("dbg", "mod_hash_size", 3), "Failed to set"), ("add_group_inst", ("",), "Wrong group syntax"), ("set", ("vm",), "expected string type"),
])  # fmt: skip
def test_wrong_commands(bench: Any, command: str, params: tuple[Any, ...], text: str) -> None:
    b = bench("request_route { exit; }\n", head=LOADED + VARIABLES + 'loadmodule "debugger.so"\n')
    with pytest.raises(RpcFault, match=text):
        b.rpc(f"cfg.{command}", *params)
