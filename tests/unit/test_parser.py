"""Scanner, preprocessor, grammar, printer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kamc import nodes as n
from kamc.diagnostics import DiagnosticSink
from kamc.parser import CfgGrammar, build_parser, parse_file, parse_text
from kamc.preprocess import Preprocessor
from kamc.printer import print_cfg, same
from kamc.report import render, render_terminal
from kamc.source import SourceFile, Span


def route(body: str, head: str = "#!KAMAILIO\n") -> str:
    return f"{head}request_route {{\n{body}\n}}\n"


def first_statement(cfg: Any) -> Any:
    return cfg.items[-1].body.body[0]


class _Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, *args: Any) -> None:
        self.lines.append(text % args if args else text)

    error = info = debug = critical = warning


def test_grammar_has_only_the_known_conflicts() -> None:
    """All thirteen are resolved as shift, which is what Kamailio's grammar does too: an address list goes on as long as it can, a
    host name takes its dashes, and ``myself`` binds to the condition that it stands in."""
    log = _Log()
    build_parser(CfgGrammar(), debug_log=log)
    assert [line for line in log.lines if "conflict" in line] == ["13 shift/reduce conflicts"]
    assert not [line for line in log.lines if "unused" in line and "RESTART" not in line and "2 unused tokens" not in line]


def test_precedence_is_kamailios(parse: Any) -> None:
    cfg, sink = parse(route("$var(x) = 6 & 3 ^ 1;\n"))
    assert not sink.items
    value = first_statement(cfg).value
    assert (value.op, value.right.op) == ("&", "^")


def test_a_define_may_hold_half_a_statement(parse: Any) -> None:
    cfg, sink = parse("#!KAMAILIO\n#!define SETIT $var(x) = 7; $var(y)\nrequest_route { SETIT = 8; }\n")
    assert not sink.has_errors
    assert [s.target.text for s in cfg.items[0].body.body] == ["$var(x)", "$var(y)"]


def test_a_comment_in_a_value_swallows_the_line_where_it_is_used(parse: Any) -> None:
    cfg, sink = parse("#!KAMAILIO\n#!define V 5 # five\nrequest_route {\n$var(x) = V ignored ;\n + 2;\n}\n")
    assert not sink.has_errors
    assert isinstance(first_statement(cfg).value, n.Binary)


def test_positions_survive_multi_line_defines(parse: Any) -> None:
    cfg, _ = parse("#!KAMAILIO\n#!define A 1 + \\\n  2\nrequest_route {\n  $var(x) = A;\n  exit;\n}\n")
    body = cfg.items[0].body.body
    assert [(s.span.line, s.span.column) for s in body] == [(5, 3), (6, 3)]


def test_spans_of_expanded_tokens_name_the_define(parse: Any) -> None:
    _, sink = parse("#!KAMAILIO\n#!define BAD 1 2\nrequest_route {\n  $var(x) = BAD;\n}\n")
    text = render_terminal(sink.errors()[0])
    assert "test.cfg:4:13" in text
    assert "expanded from #!define BAD, used at test.cfg:4" in text


@pytest.mark.parametrize(
    ("text", "value"),
    [(r'"a\x41\101\q"', "aAA\\q"), (r"'a\n'", "a\\n"), ('"a" \n "b"', "ab"), (r'"a\0b"', "a\\0b"), (r'"a\00b"', "a"), ('"x\\\ny"', "xy")],
)
def test_strings(parse: Any, text: str, value: str) -> None:
    cfg, sink = parse(route(f"$var(x) = {text};"))
    assert not sink.has_errors
    assert first_statement(cfg).value.value == value


@pytest.mark.parametrize(("text", "value"), [("0x1F", 31), ("017", 15), ("101b", 5), ("99999999999", 1215752191), ("yes", 1), ("INET6", 10)])
def test_numbers(parse: Any, text: str, value: int) -> None:
    cfg, _ = parse(route(f"$var(x) = {text};"))
    assert first_statement(cfg).value.value == value


def test_conditionals_skip_unscanned_text(parse: Any) -> None:
    cfg, sink = parse('#!KAMAILIO\n#!ifdef NO\n "unclosed $( \n#!ifdef X\n#!else\n#!endif\n#!else\nrequest_route { exit; }\n#!endif\n')
    assert not sink.has_errors
    assert len(cfg.items) == 1


@pytest.mark.parametrize("text", ["#!ifdef A\nrequest_route { exit; }\n", "request_route { exit; }\n#!endif\n", "request_route { exit; }\n#!ifdef A\n#!endif x\n"])
def test_unbalanced_conditionals(parse: Any, text: str) -> None:
    _, sink = parse(text)
    assert "K0205" in [d.code for d in sink.errors()]


def test_ten_mistakes_give_ten_diagnostics(parse: Any) -> None:
    lines = ["$var(a) = ;", "if ($rU == ) exit;", 'xlog("x";', "$var(b) = 1 +;", "5 = $var(x);", "route(;", "$var(c) == 1;", "while () exit;", "$var(e);",
             "$var(d) = )(;"]  # fmt: skip
    _, sink = parse(route("\n".join(lines)))
    assert [d.span.line for d in sink.errors() if d.span] == list(range(3, 13))


def test_a_missing_semicolon_is_reported_where_it_is_missing(parse: Any) -> None:
    _, sink = parse(route("$var(a) = 1\n$var(b) = 2;"))
    (error,) = sink.errors()
    assert error.span is not None and error.span.line == 3
    assert "test.cfg:4:1" in error.notes[0]


def test_a_missing_brace_does_not_hide_what_follows(parse: Any) -> None:
    _, sink = parse("#!KAMAILIO\nroute[A] {\n if (1) {\n exit;\n}\nfailure_route[B] {\n $var(x) = ;\n}\n")
    assert [d.span.line for d in sink.errors() if d.span] == [6, 7]


def test_missing_include_names_the_chain(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text('include_file "b.cfg"\n')
    (tmp_path / "b.cfg").write_text('\ninclude_file "nope.cfg"\n')
    sink = DiagnosticSink()
    parse_file(str(tmp_path / "a.cfg"), sink)
    text = render(sink.items)
    assert "cannot read included file 'nope.cfg'" in text
    assert "b.cfg:2:1" in text
    assert "included from" in text and "a.cfg:1" in text


def test_import_file_ignores_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text('import_file "nope.cfg"\nrequest_route { exit; }\n')
    sink = DiagnosticSink()
    parse_file(str(tmp_path / "a.cfg"), sink)
    assert not sink.items


def test_include_depth_is_limited(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text('include_file "a.cfg"\n')
    sink = DiagnosticSink()
    parse_file(str(tmp_path / "a.cfg"), sink)
    assert "K0202" in [d.code for d in sink.errors()]


def test_unreadable_file_is_one_diagnostic() -> None:
    sink = DiagnosticSink()
    assert parse_file("/nonexistent/x.cfg", sink) is None
    assert [d.code for d in sink.items] == ["K0201"]


def test_formats_of_the_report(parse: Any) -> None:
    _, sink = parse(route("$var(a) = ;"))
    assert json.loads(render(sink.items, "json"))[0]["line"] == 3
    assert render(sink.items, "line").startswith("test.cfg:3:11: error[K0101]")
    assert "^" in render(sink.items, "text")


def test_subst_changes_later_strings_only(parse: Any) -> None:
    cfg, _ = parse('#!KAMAILIO\n#!subst "/foo/bar/g"\nrequest_route { $var(x) = "foo" + foofn("a"); }\n')
    value = first_statement(cfg).value
    assert value.left.value == "bar"
    assert value.right.name == "foofn"


@pytest.mark.parametrize(
    ("expression", "result"), [("1 + 2 * 3", 7.0), ('"a" + "b"', "ab"), ("X + 2", "102"), ("X * 2", None), ("!NOPE", 1.0), ("(1 || 0) && 2 > 1", 1.0), ("2 ** 3", 8.0)]
)
def test_preprocessor_expressions(expression: str, result: object) -> None:
    pp = Preprocessor(DiagnosticSink(), lambda p: "", {})
    pp.define("X", "10", None)
    assert pp.evaluate(expression) == result


def test_environment_defines() -> None:
    sink = DiagnosticSink()
    cfg = parse_text("#!KAMAILIO\n#!defenvs HOME\n#!defenv N=NUM\nrequest_route { $var(x) = HOME + N; }\n", "t", sink, env={"HOME": "/h", "NUM": "5"})
    assert not sink.has_errors
    assert cfg is not None
    pp = Preprocessor(DiagnosticSink(), lambda p: "", {})
    assert "not set" in (pp.directive("defenv", "NOPE", Span(SourceFile("x", ""), 0, 0)) or "")
    assert pp.directive("trydefenv", "NOPE", Span(SourceFile("x", ""), 0, 0)) is None


def test_printer_is_a_fixed_point(parse: Any) -> None:
    text = (Path(__file__).parents[2] / "samples" / "kamailio.cfg").read_text()
    first, sink = parse(text)
    assert not sink.has_errors
    printed = print_cfg(first)
    second, sink = parse(printed)
    assert not sink.has_errors
    assert same(first, second)
    assert print_cfg(second) == printed
