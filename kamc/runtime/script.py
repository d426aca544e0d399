"""The names that generated code uses besides modules, constants and ``ctx``."""

from __future__ import annotations

from functools import reduce
from typing import Any

from kamc.declare.regex import RegexError, compile_regex
from kamc.declare.routes import Drop, Exit
from kamc.declare.values import (
    DualInt,
    EvalError,
    Value,
    add,
    band,
    bor,
    bxor,
    div,
    eq,
    invert,
    mod,
    mul,
    ne,
    negate,
    nonzero,
    parse_int,
    shl,
    shown,
    shr,
    sub,
    to_int,
    to_str,
    truth,
)
from kamc.declare.values56 import older


def match(text: str, pattern: str) -> bool:
    """``=~`` with a computed pattern; a bad one fails the expression. Case is ignored."""
    try:
        return bool(compile_regex(pattern, True).test(text))
    except RegexError as err:
        raise EvalError(f"bad regular expression {pattern!r}: {err}") from None


def zero(value: Value) -> int | str:
    """What ``$var`` stores: undefined becomes 0."""
    return 0 if value is None else value


def from_pv(value: Value) -> Value:
    """A value right out of a variable, for one that takes texts: a number has its text with it."""
    return DualInt(value, str(value)) if value.__class__ is int else value


def selected(value: Value) -> int | str:
    """The result of ``selval``: undefined becomes the empty text."""
    return "" if value is None else value


def int_arg(value: Value) -> int:
    """A number argument of a module function. A text that is no number fails the call."""
    if value.__class__ is int:
        return value
    if isinstance(value, str) and not value.strip():
        raise EvalError("empty text where a number is needed")
    return to_int(value.strip() if isinstance(value, str) else value)


class _Left:
    """How a function that stands for a deeply nested block was left."""

    __slots__ = ()


#: it fell off its end; a ``break`` left the loop around it
FELL, BROKE = _Left(), _Left()

_RULES = (add, band, bor, bxor, div, eq, invert, mod, mul, ne, negate, nonzero, shl, shr, sub, to_int, truth, int_arg)
_HELPERS = {f.__name__: f for f in (*_RULES, shown, to_str, match, zero, from_pv, selected, parse_int, Exit, Drop, EvalError)} | {"FELL": FELL, "BROKE": BROKE}


def helpers(compat: str) -> dict[str, Any]:
    """Names for generated code, with the value rules of a version of Kamailio."""
    table: dict[str, Any] = {**_HELPERS, **older(_RULES)} if compat == "5.6" else dict(_HELPERS)
    step = table["add"]
    table["add_all"] = lambda *operands: reduce(step, operands)
    return table
