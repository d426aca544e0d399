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
from tests.harness import HEAD, Bench, built

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
    for command, params, text in (("dbg.trace", [], "missing"), ("dbg.trace", ["x"], "Unknown"), ("dbg.trace", ["on", 1], "No such pid"),
                                  ("dbg.ls", [1], "No such pid"), ("dbg.ls", ["x"], "No such pid"),
                                  ("dbg.set_mod_level", ["tm"], "invalid"), ("dbg.set_mod_level", ["tm", 3], "cannot store"), ("dbg.reset_msgid", [], "reset_msgid is 0"),
                                  ("dbg.set_mod_facility", ["tm", "LOG_X"], "not found"), ("dbg.set_mod_facility", ["tm", "LOG_MAIL"], "cannot store"),
                                  ("dbg.get_mod_level", [], "invalid"), ("dbg.get_mod_facility", [], "invalid")):  # fmt: skip
        with pytest.raises(RpcFault, match=text):
            call(command, params)


STEPS = """request_route {
    $var(x) = $ci;
    route(A);
    xlog("here $var(x)\\n");
    sl_send_reply("200", "OK");
    exit;
}
route[A] {
    $var(y) = 7;
}
"""
BREAKING = HEAD + 'loadmodule "debugger.so"\nmodparam("debugger", "breakpoint", 1)\n'
PID = os.getpid()


def place(answer: str) -> str:
    found = re.fullmatch(r"(at bkp|exec) \[(?:.*/)?kamailio.cfg:\d+\] a=(\d+) n=(\w+)", answer)
    assert found is not None, answer
    return " ".join(found.groups())


def test_a_run_goes_by_steps(bench) -> None:
    b = bench(STEPS, head=BREAKING)

    def bp(*params: object) -> str:
        return b.worker.rpc.call("dbg.bp", list(params))

    def ls() -> tuple[int, int]:
        (row,) = b.worker.rpc.call("dbg.ls", [PID])
        return row["set"], row["state"]

    assert ls() == (2, 0) and bp("show", PID) == bp("next", PID) == bp("move", PID) == bp("eval", PID, "$ci") == "200 ok"
    b.request("OPTIONS", call_id="one")
    assert b.firsts() == [] and ls() == (2, 1)
    (hit,) = [line for line in b.log.lines if "breakpoint hit" in line]
    assert re.fullmatch(rf"\*\*\* cfgtrace:dbg_cfg_trace\(\): breakpoint hit: p=\[{PID}\] \[(?:.*/)?kamailio.cfg:\d+\] a=63 n=assign", hit)
    assert place(bp("show", PID)) == "at bkp 63 assign" and bp("eval", PID, "$ci") == "$ci : t=str v=one"
    assert bp("eval", PID, "$var(x)") == "$var(x) : t=int v=0" and bp("eval", PID, "$null") == "$null : t=null"
    assert bp("eval", PID, "$nosuch(y)") == "200 ok" and any("unable to get pv value for [$nosuch(y)]" in line for line in b.log.lines)
    assert bp("log", PID, "$ci") == "200 ok" and b.log.lines[-1].endswith("breakpoint eval: $ci : t=str v=one")
    assert place(bp("next", str(PID))) == "exec 63 assign" and bp("eval", PID, "$var(x)") == "$var(x) : t=str v=one" and ls() == (2, 2)
    assert [place(bp("next", PID)) for _ in range(3)] == ["exec 5 route", "exec 63 assign", "exec 25 xlog"] and "here one" in b.log.lines
    assert place(bp("show", PID)) == "at bkp 26 sl_send_reply" and b.firsts() == []
    assert place(bp("next", PID)) == "exec 26 sl_send_reply" and b.firsts() == ["SIP/2.0 200 OK"]
    assert place(bp("next", PID)) == "exec 2 exit" and bp("next", PID) == "200 ok" and ls() == (2, 0)


def test_runs_that_stand_hold_up_nobody(bench) -> None:
    """Two stand; new ones pass after ``release``, and each of the two keeps its variables and goes its own way."""
    b = bench(STEPS, head=BREAKING)

    def bp(*params: object) -> str:
        return b.worker.rpc.call("dbg.bp", list(params))

    for name in ("one", "two"):
        b.request("OPTIONS", call_id=name, branch=f"z9hG4bK{name}")
    bp("next", PID)
    assert bp("eval", PID, "$ci") == "$ci : t=str v=two"
    bp("next", PID)
    assert bp("release") == "200 ok"
    b.request("OPTIONS", call_id="three", branch="z9hG4bKthree")
    assert b.firsts() == ["SIP/2.0 200 OK"] and "here three" in b.log.lines and b.worker.waits.waiting == 2
    # one goes on by a step though new ones do not stand, then to its end; two still stands
    assert place(bp("next", PID)) == "exec 5 route" and bp("eval", PID, "$var(x)") == "$var(x) : t=str v=two"
    assert place(bp("next", PID)) == "exec 5 route" and bp("eval", PID, "$var(x)") == "$var(x) : t=str v=one"
    assert bp("move", PID) == "200 ok" and len(b.firsts()) == 1 and "here one" in b.log.lines and bp("eval", PID, "$ci") == "$ci : t=str v=two"
    # nobody is to stand any more: the last one waits for one more word
    assert bp("off", PID) == "200 ok" and b.worker.rpc.call("dbg.ls", [])[0]["set"] == 0 and b.firsts() == []
    assert place(bp("next", PID)) == "exec 63 assign" and len(b.firsts()) == 1 and b.worker.waits.waiting == 0
    bp("on")
    b.request("OPTIONS", call_id="four", branch="z9hG4bKfour")
    assert bp("move", PID) == "200 ok" and len(b.firsts()) == 1 and b.worker.rpc.call("dbg.ls", [])[0]["set"] == 0


def test_a_reply_waits_for_the_run_that_stands(bench) -> None:
    """In the failure route of a transaction: what comes for the transaction meanwhile is not lost."""
    b = bench('request_route { t_on_failure("F"); $du = "sip:127.0.0.2:5070"; t_relay(); }\nfailure_route[F] { $var(f) = 1; t_reply("404", "No"); }\n',
              head=HEAD + 'loadmodule "debugger.so"\n')  # fmt: skip
    b.request("INVITE")
    b.worker.rpc.call("dbg.bp", ["on"])
    b.reply(b.sent[-1], "486 Busy Here")
    assert "SIP/2.0 404 No" not in b.firsts()
    assert place(b.worker.rpc.call("dbg.bp", ["show", PID])) == "at bkp 63 assign"
    assert b.worker.rpc.call("dbg.bp", ["move", PID]) == "200 ok" and "SIP/2.0 404 No" in b.firsts()


def test_wrong_commands(bench) -> None:
    b = bench(STEPS, head=BREAKING)
    for params, text in (([], "command missing"), (["frob"], "Unknown inner"), (["frob", PID], "Unknown inner"), (["next"], "Missing pid"), (["show"], "Missing pid"),
                         (["keep"], "Missing pid"), (["log"], "Missing pid"), (["next", 1], "No such pid"), (["on", 1], "No such pid"), (["keep", 1], "No such pid"),
                         (["on", "x"], "No such pid"), (["eval", PID], "pv param missing")):  # fmt: skip
        with pytest.raises(RpcFault, match=text):
            b.worker.rpc.call("dbg.bp", params)
    assert b.worker.rpc.call("dbg.ls", [])[0]["set"] == 2


def test_breakpoints_over_a_reload(bench) -> None:
    b = bench(STEPS, head=BREAKING)
    b.request("OPTIONS", call_id="one")
    b.files = built(b.folder, BREAKING + STEPS.replace('"OK"', '"New"'))
    b.load()
    b.request("OPTIONS", call_id="two", branch="z9hG4bKtwo")
    assert b.firsts() == [] and b.worker.rpc.call("dbg.bp", ["eval", PID, "$ci"]) == "$ci : t=str v=one"
    b.worker.rpc.call("dbg.bp", ["move", PID])
    b.worker.rpc.call("dbg.bp", ["move", PID])
    assert b.firsts() == ["SIP/2.0 200 OK", "SIP/2.0 200 New"]


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
    ("cfgtest", "1", "not implemented"), ("mod_level", '"tm"', "module=level"), ("mod_facility", '"tm=LOG_X"', "LOG_X"),
    ("log_facility", '"LOG_X"', "LOG_X"),
])  # fmt: skip
def test_parameters_that_are_wrong(bench, param: str, value: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        bench("request_route { exit; }\n", head=HEAD + f'loadmodule "debugger.so"\nmodparam("debugger", "{param}", {value})\n')
