"""Module debugger: the trace of actions, dumps, and log levels of modules."""

from __future__ import annotations

import json
import os
import re

import pytest

from kamc.codegen.package import build_files
from kamc.errors import ConfigError
from kamc.runtime.log import Log
from kamc.runtime.rpc.fault import RpcFault
from tests.harness import HEAD, Bench

TRACE = HEAD + 'loadmodule "debugger.so"\nmodparam("debugger", "cfgtrace", 1)\n'
ROUTES = """request_route {
    $var(x) = 1;
    if ($var(x) == 1) {
        route(A);
    } else {
        xlog("no\\n");
    }
    while ($var(x) < 3) { $var(x) = $var(x) + 1; }
    switch ($var(x)) { case 3: setflag(1); break; }
    sl_send_reply("200", "OK");
    exit;
}
route[A] {
    return 1;
}
"""


def actions(b: Bench, what: str = r"request_route=\[(\w+)\] c=\[(?:.*/)?kamailio.cfg\] l=(\d+) a=(\d+) n=(\w+)$") -> list[tuple[str, ...]]:
    return [found.groups() for line in b.log.lines if (found := re.search(what, line.rstrip()))]


def test_each_action_as_it_runs(bench) -> None:
    b = bench(ROUTES, head=TRACE)
    first = next(i for i, line in enumerate((TRACE + ROUTES).splitlines(), 1) if "$var(x) = 1;" in line)
    b.request("OPTIONS")
    offset = int(actions(b)[0][1]) - first
    seen = [(route, int(line) - offset - first, int(kind), name) for route, line, kind, name in actions(b)]
    main, sub = "DEFAULT_ROUTE", "A"
    assert seen == [
        (main, 0, 63, "assign"), (main, 1, 16, "if"), (main, 2, 5, "route"), (sub, 12, 2, "return"), (main, 6, 23, "while"), (main, 6, 63, "assign"),
        (main, 6, 63, "assign"), (main, 7, 21, "switch"), (main, 7, 0, "setflag"), (main, 8, 26, "sl_send_reply"), (main, 9, 2, "exit"),
    ]  # fmt: skip
    assert b.firsts() == ["SIP/2.0 200 OK"]


def test_its_form(bench) -> None:
    b = bench("onreply_route { exit; }\nrequest_route { exit; }\n",
              head=TRACE + 'modparam("debugger", "cfgtrace_format", 1)\nmodparam("debugger", "log_prefix", "MY:")\n')  # fmt: skip
    b.request("OPTIONS")
    assert re.fullmatch(r"MY:dbg_cfg_trace\(\): request_route=\[DEFAULT_ROUTE\] l=\d+ a=2 n=exit", b.log.lines[-1])
    b.log.level = -2
    b.log.lines.clear()
    b.request("OPTIONS", branch="z9hG4bKx2")
    assert b.log.lines == []


def test_switched_by_command(bench) -> None:
    b = bench(ROUTES, head=TRACE)
    call = b.worker.rpc.call
    assert call("dbg.trace", ["off"]) == "200 ok"
    b.request("OPTIONS")
    assert actions(b) == []
    assert call("dbg.trace", ["on"]) == "200 ok" and call("dbg.ls", []) == [{"entry": 0, "pid": os.getpid(), "set": 1, "state": 0, "in.pid": 0, "in.cmd": 0}]
    b.request("OPTIONS", branch="z9hG4bKx2")
    assert len(actions(b)) > 8
    for command, params, text in (("dbg.trace", [], "missing"), ("dbg.trace", ["x"], "Unknown"), ("dbg.bp", [], "missing"), ("dbg.bp", ["on"], "pdb"),
                                  ("dbg.set_mod_level", ["tm"], "invalid"), ("dbg.set_mod_level", ["tm", 3], "cannot store"), ("dbg.reset_msgid", [], "reset_msgid is 0"),
                                  ("dbg.set_mod_facility", ["tm", "LOG_X"], "not found"), ("dbg.set_mod_facility", ["tm", "LOG_MAIL"], "cannot store"),
                                  ("dbg.get_mod_level", [], "invalid"), ("dbg.get_mod_facility", [], "invalid")):  # fmt: skip
        with pytest.raises(RpcFault, match=text):
            call(command, params)


def test_without_the_module_nothing_is_compiled_in(compile_text) -> None:
    body = HEAD + "request_route { $var(x) = 1; }\n"
    plain = compile_text(body).program
    traced = compile_text('loadmodule "debugger.so"\n' + body).program
    assert plain is not None and traced is not None
    without, with_it = ([data for name, data in build_files(p, {}, {}).items() if name.endswith(".py")] for p in (plain, traced))
    assert not any(b".trace(" in data for data in without) and any(b"debugger.trace(ctx" in data for data in with_it)


def test_variables_as_json(bench) -> None:
    b = bench('request_route { $var(s) = "text"; $avp(a) = 1; $avp(a) = "two"; $avp(b) = "q\\"x"; $xavp(z=>k) = 5; $shv(v) = 3; dbg_pv_dump("31", "L_ERR"); '
              'dbg_pv_dump("3", "L_ERR"); dbg_pv_dump("32", "L_ERR"); dbg_pv_dump(); exit; }\n',
              head=HEAD + 'loadmodule "debugger.so"\nmodparam("pv", "shvset", "v=i:0")\n')  # fmt: skip
    b.request("OPTIONS")
    whole, avps, nothing, again = (json.loads(line) for line in b.log.lines if line.startswith("{"))
    assert whole == {"$avp(a)": ["two", 1], "$avp(b)": ['q"x'], "$var(s)": "text", "$xavp(z)": [{"k": [5]}], "$shv(v)": 3}
    assert avps == {"$avp(a)": ["two", 1], "$avp(b)": ['q"x']} and nothing == {} and again == whole


def test_a_message_and_its_changes(bench) -> None:
    b = bench('request_route { append_hf("X: 1\\r\\n"); remove_hf("Max-Forwards"); dbg_sip_msg("L_ERR"); exit; }\n', head=HEAD + 'loadmodule "debugger.so"\n')
    b.request("OPTIONS")
    (text,) = [line for line in b.log.lines if "START OF SIP message debug" in line]
    whole, _, changes = text.partition("------------------------------ SIP header diffs -------------------------------\n")
    assert "X: 1\r\n" in whole and "Max-Forwards" not in whole and re.search(r"CONFIG LINE \d+\n-+ START", whole)
    assert "- Max-Forwards: 70\r\n" in changes and "X: 1\r\n" in changes


def test_levels_of_modules(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(-1)
    log.debug("no")
    log.levels = {"tm": 3}
    log.debug("no")
    log.levels = {"core": -2}
    log.error("no")
    log.levels = {"all": 3}
    log.debug("yes")
    assert [line.rpartition(": ")[2] for line in capfd.readouterr().err.splitlines()] == ["yes"]


def test_levels_by_parameter_and_command(bench) -> None:
    head = HEAD + ('loadmodule "debugger.so"\nmodparam("debugger", "mod_hash_size", 5)\nmodparam("debugger", "mod_level_mode", 1)\n'
                   'modparam("debugger", "mod_level", "tm=3")\n'
                   'modparam("debugger", "mod_facility", "sl=LOG_MAIL")\nmodparam("debugger", "reset_msgid", 1)\n')  # fmt: skip
    b = bench('request_route { xlog("mi $mi\\n"); exit; }\n', head=head)
    call = b.worker.rpc.call
    assert call("dbg.get_mod_level", ["tm"]) == 3 and call("dbg.get_mod_level", ["sl"]) == b.log.level and b.log.levels == {"tm": 3}
    assert call("dbg.set_mod_level", ["core", 1]) == "200 ok" and b.log.levels["core"] == 1
    assert call("dbg.get_mod_facility", ["sl"]) == "LOG_MAIL" and call("dbg.get_mod_facility", ["tm"]) == "LOG_DAEMON"
    assert call("dbg.set_mod_facility", ["tm", "LOG_LOCAL3"]) == "200 ok" and call("dbg.get_mod_facility", ["tm"]) == "LOG_LOCAL3"
    for n in range(2):
        b.request("OPTIONS", branch=f"z9hG4bKm{n}")
    assert call("dbg.reset_msgid", []) == "200 ok"
    b.request("OPTIONS", branch="z9hG4bKm3")
    assert [line for line in b.log.lines if line.startswith("mi")] == ["mi 1", "mi 2", "mi 1"]


@pytest.mark.parametrize(("param", "value", "text"), [
    ("breakpoint", "1", "pdb"), ("cfgtest", "1", "not implemented"), ("mod_level", '"tm"', "module=level"), ("mod_facility", '"tm=LOG_X"', "LOG_X"),
    ("log_facility", '"LOG_X"', "LOG_X"),
])  # fmt: skip
def test_parameters_that_are_wrong(bench, param: str, value: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        bench("request_route { exit; }\n", head=HEAD + f'loadmodule "debugger.so"\nmodparam("debugger", "{param}", {value})\n')
