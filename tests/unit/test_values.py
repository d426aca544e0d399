"""Value rules, regular expressions, variable specs."""

from __future__ import annotations

import pytest

from kamc.declare import values as v
from kamc.declare.pvspec import PvSpec, PvSyntaxError, parse_format, parse_pv
from kamc.declare.regex import PosixRegex, RegexError, translate


@pytest.mark.parametrize(
    ("left", "right", "result"), [(5, "3", 8), ("5", 3, "53"), (None, 5, "5"), (5, None, 5), ("a", None, "a"), (None, None, ""), (2**63 - 1, 1, -(2**63))]
)
def test_plus_follows_the_left_side(left: v.Value, right: v.Value, result: v.Value) -> None:
    assert v.add(left, right) == result


def test_text_that_is_no_number_fails() -> None:
    with pytest.raises(v.EvalError):
        v.sub("abc", 1)
    with pytest.raises(v.EvalError):
        v.div(1, 0)


@pytest.mark.parametrize(("text", "number"), [("0x10", 16), ("-7", -7), ("010", 10), ("", 0), ("5a", None), ("0x", None), ("+3", 3), ("\u0663", None)])
def test_numbers_in_texts(text: str, number: int | None) -> None:
    assert v.parse_int(text) == number


def test_division_truncates() -> None:
    assert (v.div(-7, 2), v.mod(-7, 2)) == (-3, -1)


def test_equality_takes_the_other_sides_type() -> None:
    assert v.eq(None, "") and v.eq(None, 0) and v.eq(None, None)
    assert v.eq(5, "0x5") and not v.eq("5", "05")


@pytest.mark.parametrize("text", ["", "abc", "a.c", "xay", "a\nc", "A1", "foo@bar", "+4930", "[x]", "aaa", "b", "a|b", "tag=\xe4"])
@pytest.mark.parametrize(
    "pattern",
    ["a.c", "^a", "c$", "[^a]", "[[:digit:]]+", "^(\\+|00)[1-9][0-9]*$", "friendly|scanner", "a{2,3}", "\\w+@\\w+", "[]x]", "^[12][0-9][0-9]", "(ab|c)d?", "a\\.c"]
)
def test_both_engines_agree(pattern: str, text: str) -> None:
    """The fast engine must answer what libc answers."""
    for newline in (False, True):
        regex = PosixRegex(pattern, icase=True, newline=newline)
        assert bool(regex.test(text)) == (regex.find(text) is not None)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|b)*c", "(a*)*", ".*.*.*.*x", "a**", "\\1", "(?x)"])
def test_patterns_that_could_hang_go_to_libc(pattern: str) -> None:
    assert translate(pattern) is None


def test_a_pattern_that_would_hang_python_answers() -> None:
    assert not PosixRegex("(a+)+$").test("a" * 200 + "!")


def test_a_character_is_a_byte() -> None:
    """As in the C locale, whatever the locale of the process: texts of the network need not be UTF-8."""
    assert PosixRegex("^(.)(.+)$").find("\xe9\xff\x80")[:3] == [(0, 3), (0, 1), (1, 3)]
    assert PosixRegex("^(.)\\1$").test("\xe9\xe9")


def test_bad_pattern() -> None:
    with pytest.raises(RegexError):
        PosixRegex("a(b")


def test_longest_match_of_posix() -> None:
    assert PosixRegex("a|ab").find("ab") == [(0, 2)] + [(-1, -1)] * 9


def test_specs() -> None:
    spec = parse_pv("$(hdr(X-A)[-1]{s.select,1,,}{s.len})")
    assert (spec.name, spec.inner, spec.index) == ("hdr", "X-A", "-1")
    assert [t.name for t in spec.transformations] == ["s.select", "s.len"]
    assert spec.transformations[0].args == ("1", ",")
    nested = parse_pv("$(var(s){s.substr,0,$(var(t){s.len})})").transformations[0].args[1]
    assert isinstance(nested, PvSpec)


def test_formats() -> None:
    assert parse_format("a$$b") == ("a$b",)
    pieces = parse_format("$rU@$(rd{s.len})!")
    assert [p if isinstance(p, str) else p.text for p in pieces] == ["$rU", "@", "$(rd{s.len})", "!"]


@pytest.mark.parametrize("text", ["$(", "$", "$(rU{s.len)", "$(rU", "$(rU x)"])
def test_bad_specs(text: str) -> None:
    with pytest.raises(PvSyntaxError):
        parse_pv(text)


def test_the_rules_of_5_6_are_the_same_functions_over_other_basics() -> None:
    from kamc.declare import values as head
    from kamc.runtime.script import helpers

    old, new = helpers("5.6"), helpers("head")
    assert new["add"] is head.add
    assert (old["add"](2147483647, 1), new["add"](2147483647, 1)) == (-2147483648, 2147483648)
    assert (old["shl"](1, 31), old["shr"](-2147483648, 31), new["shl"](1, 31)) == (-2147483648, -1, 2147483648)
    assert (old["add"](2, "x"), old["sub"]("abc", 3), old["to_int"]("42abc"), old["truth"]("abc")) == (2, -3, 0, False)
    assert old["eq"](0, "abc") is True
    assert old["ne"](0, "abc") is False
    with pytest.raises(head.EvalError):
        new["add"](2, "x")
    with pytest.raises(head.EvalError):
        old["div"](1, 0)
