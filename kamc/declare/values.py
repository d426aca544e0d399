"""Script values: ``None`` (undefined), ``int`` (64 bits, wrapping) and ``str`` (latin-1 text), and Kamailio's rules between them.

The rules are those of the newest Kamailio: a text that is no number fails the whole expression (:class:`EvalError`), where 5.6 took
it as 0. Generated code uses plain Python operators where the types are known and these functions where they are not.
"""

from __future__ import annotations

import re
from typing import Final

Value = None | int | str


class EvalError(Exception):
    """An expression without a value: the assignment does not happen, the condition is false, a switch takes its default."""


class DualInt(int):
    """A number that prints as the text it came from, such as the result of ``{s.int}``."""

    text: str

    def __new__(cls, number: int, text: str) -> DualInt:
        self = super().__new__(cls, number)
        self.text = text
        return self


_SIGN: Final = 1 << 63
_RANGE: Final = 1 << 64
#: shift counts are taken modulo the width of a number
SHIFT_MASK: Final = 63
_NUMBER: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+)\Z")


def wrap(number: int) -> int:
    """Cut to 64 bits, two's complement."""
    if -_SIGN <= number < _SIGN:
        return number
    return ((number + _SIGN) % _RANGE) - _SIGN


def parse_int(text: str) -> int | None:
    """The number that a text spells: optional sign, decimal or 0x digits, nothing else. Empty text is 0."""
    if text.isdecimal():
        return wrap(int(text)) if text.isascii() else None
    if not text:
        return 0
    if _NUMBER.match(text) is None:
        return None
    body = text.lstrip("+-")
    number = int(body, 16) if body[:2] in ("0x", "0X") else int(body)
    return wrap(-number if text[0] == "-" else number)


def to_int(value: Value) -> int:
    """Integer context. Undefined is 0; a text that is no number fails."""
    if value.__class__ is int:
        return value
    if value is None:
        return 0
    if isinstance(value, int):
        return int(value)
    number = parse_int(value)
    if number is None:
        raise EvalError(f"{value!r} is not a number")
    return number


def to_str(value: Value) -> str:
    """Text context. Undefined is the empty text."""
    if value.__class__ is str:
        return value
    if value is None:
        return ""
    return value.text if isinstance(value, DualInt) else str(int(value))


def shown(value: Value) -> str:
    """How a format string prints a value."""
    if value.__class__ is str:
        return value
    if value is None:
        return "<null>"
    return value.text if isinstance(value, DualInt) else str(int(value))


def add(left: Value, right: Value) -> int | str:
    """``+``: the left operand decides; undefined on the left gives the right side as text."""
    if left.__class__ is int:
        if right.__class__ is int:
            return wrap(left + right)
        return wrap(left + to_int(right))
    if left.__class__ is str:
        return left + (right if right.__class__ is str else to_str(right))
    if left is None:
        return to_str(right)
    return wrap(int(left) + to_int(right))


def sub(left: Value, right: Value) -> int:
    return wrap(to_int(left) - to_int(right))


def mul(left: Value, right: Value) -> int:
    return wrap(to_int(left) * to_int(right))


def div(left: Value, right: Value) -> int:
    """Truncates toward zero; dividing by zero fails the expression."""
    a, b = to_int(left), to_int(right)
    if b == 0:
        raise EvalError("division by zero")
    q = abs(a) // abs(b)
    return wrap(q if (a < 0) == (b < 0) else -q)


def mod(left: Value, right: Value) -> int:
    """The sign of the dividend stays."""
    a, b = to_int(left), to_int(right)
    if b == 0:
        raise EvalError("division by zero")
    r = abs(a) % abs(b)
    return -r if a < 0 else r


def band(left: Value, right: Value) -> int:
    return to_int(left) & to_int(right)


def bor(left: Value, right: Value) -> int:
    return to_int(left) | to_int(right)


def bxor(left: Value, right: Value) -> int:
    return to_int(left) ^ to_int(right)


def shl(left: Value, right: Value) -> int:
    """The machine's shift: the count is taken modulo 64."""
    return wrap(to_int(left) << (to_int(right) & SHIFT_MASK))


def shr(left: Value, right: Value) -> int:
    return to_int(left) >> (to_int(right) & SHIFT_MASK)


def invert(value: Value) -> int:
    return ~to_int(value)


def negate(value: Value) -> int:
    return wrap(-to_int(value))


def eq(left: Value, right: Value) -> bool:
    """``==``: the left operand's type decides; undefined takes the other side's."""
    if left.__class__ is right.__class__:
        return left == right
    if isinstance(left, int):
        return left == to_int(right)
    if isinstance(left, str):
        return left == to_str(right)
    return to_int(right) == 0 if isinstance(right, int) else to_str(right) == ""


def ne(left: Value, right: Value) -> bool:
    return not eq(left, right)


def truth(value: Value) -> bool:
    """A condition: greater than zero."""
    return to_int(value) > 0


def nonzero(value: Value) -> bool:
    """An operand of ``&&`` and ``||``."""
    return to_int(value) != 0
