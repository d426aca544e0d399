"""What the checker finds, and where."""

from __future__ import annotations

from typing import Any

import pytest

HEAD = '#!KAMAILIO\nloadmodule "sl.so"\nloadmodule "pv.so"\nloadmodule "xlog.so"\nloadmodule "textops.so"\nloadmodule "tm.so"\n'
LINES = HEAD.count("\n")


def codes(compiled: Any) -> list[tuple[str, int]]:
    return [(d.code, d.span.line - LINES if d.span else 0) for d in compiled.diagnostics if d.severity.value == "error"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("nosuch();", "K0302"),
        ('sl_send_reply("200");', "K0303"),
        ('t_drop_replies("n");', "K0301"),
        ('t_check_status("a(");', "K0602"),
        ("route(NOPE);", "K0401"),
        ('$ci = "x";', "K0502"),
        ("$var(x) = $nosuch;", "K0501"),
        ('xlog("$nosuch\\n");', "K0501"),
        ("$var(x) = $(rU{s.nosuch});", "K0503"),
        ("$var(x) = $(rU{s.substr});", "K0503"),
        ('if ($rU =~ "a(") exit;', "K0602"),
        ('$var(x) = 5 + "a";', "K0601"),
        ('$var(x) = "a" * 2;', "K0601"),
        ("setflag(40);", "K0111"),
        ("setflag(NOFLAG);", "K0111"),
        ("switch ($rU) { case 1: exit; case 1: exit; }", "K0603"),
        ('switch ($rU) { case 1: exit; case "a": exit; }', "K0603"),
        ("switch ($rU) { default: exit; default: exit; }", "K0603"),
        ('sl_send_reply("200", is_method("INVITE"));', "K0306"),
        ('sl_send_reply("abc", "x");', "K0304"),
        ('mf_process_maxfwd_header("10");', "K0302"),
        ("$var(x) = @cfg_get.no.such;", "K0702"),
        ("if (snd_ip == 1.2.3.4) exit;", "K0112"),
        ('$var(x) = $hdr("x");\n$hdr(x) = 1;', "K0502"),
    ],
)
def test_errors_in_blocks(compile_text: Any, body: str, code: str) -> None:
    result = compile_text(f"{HEAD}request_route {{\n{body}\n}}\n")
    assert not result.ok
    assert code in [c for c, _ in codes(result)]
    assert all(line in (2, 3) for _, line in codes(result))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('loadmodule "nosuchmodule.so"', "K0310"),
        ('loadmodule "sl.so"', "K0311"),
        ('loadmodule "rls.so"', "K0312"),
        ('loadmodule "registrar.so"', "K0313"),
        ('modparam("tm", "nosuch", 1)', "K0320"),
        ('modparam("tm", "fr_timer", "5")', "K0321"),
        ('modparam("rr", "append_fromtag", 0)', "K0322"),
        ("route[A] { exit; }\nroute[A] { exit; }", "K0402"),
        ("event_route[nocolon] { exit; }", "K0405"),
        ('children="four"', "K0110"),
        ("flags A:40", "K0111"),
    ],
)
def test_errors_at_the_top(compile_text: Any, line: str, code: str) -> None:
    result = compile_text(f"{HEAD}{line}\nrequest_route {{ exit; }}\n")
    assert code in [c for c, _ in codes(result)]


def test_hints_name_the_fix(compile_text: Any) -> None:
    result = compile_text(f'{HEAD}request_route {{\n record_route();\n sl_send_replay("200", "OK");\n route(REALY);\n}}\nroute[RELAY] {{ exit; }}\n')
    hints = [h for d in result.diagnostics for h in d.hints]
    assert any('loadmodule "rr.so"' in h for h in hints)
    assert any("sl_send_reply()" in h for h in hints)
    assert any("RELAY" in h for h in hints)


def test_unused_routes_warn(compile_text: Any) -> None:
    result = compile_text(f"{HEAD}request_route {{ exit; }}\nroute[LOST] {{ exit; }}\n")
    assert result.ok
    assert [d.code for d in result.diagnostics] == ["K0403"]


def test_modules_count_from_their_line_on(compile_text: Any) -> None:
    result = compile_text('#!KAMAILIO\nloadmodule "pv.so"\nrequest_route {\n is_method("X");\n}\nloadmodule "textops.so"\n')
    assert [c for c, _ in codes(result)] == ["K0302"]


def test_missing_implementations_are_errors_unless_allowed(compile_text: Any) -> None:
    text = f'{HEAD}loadmodule "rls.so"\nrequest_route {{ rls_handle_subscribe(); }}\n'
    assert {d.code for d in compile_text(text).diagnostics} == {"K0312", "K0305"}
    allowed = compile_text(text, allow_missing=True)
    assert allowed.ok
    assert all(d.severity.value == "warning" for d in allowed.diagnostics)


def test_ten_mistakes_of_ten_kinds(compile_text: Any) -> None:
    body = ["nosuch();", 'sl_send_reply("200");', "route(NOPE);", '$ci = "x";', "$var(x) = $nosuch;", 'if ($rU =~ "a(") exit;', '$var(x) = 5 + "a";',
            "setflag(40);", 't_drop_replies("n");', "$var(x) = $(rU{s.nosuch});"]  # fmt: skip
    result = compile_text(HEAD + "request_route {\n" + "\n".join(body) + "\n}\n")
    assert sorted(line for _, line in codes(result)) == list(range(2, 12))


def test_parameters_that_are_left_out_are_never_silent(compile_text: Any) -> None:
    """Refused when it would change what the server does, warned about when it means nothing here, accepted when it only tunes."""
    head = '#!KAMAILIO\nloadmodule "usrloc"\nloadmodule "tcpops"\nloadmodule "htable"\n'
    body = 'modparam("usrloc", "hash_size", 9)\nmodparam("tcpops", "event_callback", "u")\nmodparam("htable", "event_callback", "u")\nrequest_route { exit; }\n'
    found = [(d.code, d.severity.value, d.span.line) for d in compile_text(head + body).diagnostics if d.span]
    assert found == [("K0325", "warning", 6), ("K0323", "error", 7)]


@pytest.mark.parametrize(("level", "good"), [("L_ERR", True), ("L_NOSUCH", True), ("NONSENSE", True), ("$var(l)", True), ("3", False), ("L_G", False), ("x", False)])
def test_log_levels_count_by_their_third_character(compile_text: Any, level: str, good: bool) -> None:
    found = codes(compile_text(f'{HEAD}request_route {{ xlog("{level}", "text\\n"); }}\n'))
    assert found == ([] if good else [("K0304", 1)])


def test_places_that_kamailio_names_are_in_the_notes(compile_text: Any) -> None:
    text = HEAD + "request_route {\n  switch ($rU) {\n    case 1: exit;\n    case 1: exit;\n  }\n}\n"
    (found,) = [d for d in compile_text(text).diagnostics if d.code == "K0603"]
    assert found.span.line == LINES + 4
    assert any(note.startswith("Kamailio reports this where the switch ends") and f":{LINES + 5}:" in note for note in found.notes)


def test_a_select_part_has_one_index(compile_text: Any) -> None:
    good = '#!KAMAILIO\nloadmodule "pv.so"\nrequest_route { $var(a) = @contact[1].uri; $var(b) = @msg.h["X-A"]; }\n'
    assert codes(compile_text(good)) == []
    assert "K0101" in [c for c, _ in codes(compile_text(good.replace('["X-A"]', '["X-A"][2]')))]


def test_shared_variables_wait_for_a_modparam_or_a_block(compile_text: Any) -> None:
    text = '#!KAMAILIO\nloadmodule "pv.so"\nrequest_route { $shv(x) = 1; }\n'
    assert codes(compile_text(text)) == [("K0504", 3 - LINES)]
    assert codes(compile_text(text.replace("request_route", 'modparam("pv", "shvset", "x=i:0")\nrequest_route'))) == []
    assert codes(compile_text(text.replace("request_route", "route[A] { exit; }\nrequest_route"))) == []


def test_load_time_variables(compile_text: Any) -> None:
    text = ('#!KAMAILIO\n#!define PRE p\nloadmodulex "$env(MOD).so"\nloadmodule "pv.so"\nmodparamx("xlog", "prefix", "$def(PRE)-$env(TAG): ")\n'
            'modparamx("pv", "varset", $_s(v=s:$env(TAG)))\nrequest_route { exit; }\n')  # fmt: skip
    compiled = compile_text(text, env={"MOD": "xlog", "TAG": "t"})
    assert codes(compiled) == []
    assert [(p.module, p.param, p.value) for p in compiled.unit.modparams] == [("xlog", "prefix", "p-t: "), ("pv", "varset", "v=s:t")]
    assert codes(compile_text(text.replace("$env(TAG): ", "$ru"), env={"MOD": "xlog"})) == [("K0324", 5 - LINES)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('request_route { xavp_lshift("a", "0"); }\n', 1),
        ('request_route { $var(a) = $(rU{s.rmhlws}); }\n', 1),
        ('request_route { xlog("$(rU{num.fdigit})\\n"); }\n', 1),
        ('request_route { sl_send_reply("200", $rU + "x"); }\n', 1),
        ('modparam("tm", "reply_408_code", 480)\nrequest_route { exit; }\n', 1),
        ("return_mode=1\nrequest_route { exit; }\n", 1),
        ("socket = { bind = udp:127.0.0.1:5060 }\nrequest_route { exit; }\n", 1),
    ],
)
def test_names_that_5_6_does_not_have(compile_text: Any, text: str, line: int) -> None:
    assert codes(compile_text(HEAD + text)) == []
    assert {number for _, number in codes(compile_text(HEAD + text, compat="5.6"))} == {line}
