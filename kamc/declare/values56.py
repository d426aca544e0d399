"""The value rules of Kamailio 5.6, for ``--compat 5.6``: numbers have 32 bits, and a text that is no number counts as 0.

They are the rules of :mod:`kamc.declare.values` over other basics: the same functions, with ``wrap``, ``to_int`` and the mask of shift counts
of that version in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

from kamc.declare.values import Value, parse_int

_SIGN: Final = 1 << 31


def wrap(number: int) -> int:
    """Cut to 32 bits, two's complement."""
    return ((number + _SIGN) & 0xFFFFFFFF) - _SIGN


def to_int(value: Value) -> int:
    """Integer context. Undefined is 0, and so is a text that is no number."""
    if value.__class__ is int:
        return value
    if isinstance(value, str):
        return wrap(parse_int(value) or 0)
    return int(value or 0)


#: names that are looked up by the functions below instead of those of the newest Kamailio
_BASICS: Final[dict[str, Any]] = {"wrap": wrap, "to_int": to_int, "SHIFT_MASK": 31}


def older(functions: tuple[Callable[..., Any], ...]) -> dict[str, Callable[..., Any]]:
    """The same functions by name, working by the rules of 5.6."""
    out: dict[str, Callable[..., Any]] = {"to_int": to_int}
    for f in functions:
        if isinstance(f, FunctionType) and f.__name__ not in _BASICS:
            names = {**f.__globals__, **_BASICS}
            out[f.__name__] = FunctionType(f.__code__, names, f.__name__, f.__defaults__, f.__closure__)
    # those that call each other find the older ones, too
    for f in out.values():
        if isinstance(f, FunctionType) and f.__globals__ is not globals():
            f.__globals__.update(out)
    return out
