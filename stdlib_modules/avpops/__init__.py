"""Module avpops: functions over AVPs: delete, copy, push to the request's target, check, compute, substitute, load and store.

https://www.kamailio.org/docs/modules/stable/modules/avpops.html
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from kamc.declare import function
from kamc.declare.argtypes import Lit, Subst
from kamc.declare.pvspec import PvSyntaxError, parse_pv
from kamc.declare.regex import RegexError, compile_regex
from kamc.declare.values import Value, parse_int, to_str
from kamc.runtime.context import Ctx
from stdlib_modules.avpops.dbfunctions import ROUTES as _ROUTES
from stdlib_modules.avpops.dbfunctions import DbFunctions

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
}  # fmt: skip
_BITS: Final[dict[str, Callable[[int, int], int]]] = {"and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b}
_ARITHMETIC: Final[dict[str, Callable[[int, int], int]]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
    "mod": lambda a, b: a - b * (abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)), "not": lambda a, b: ~b, **_BITS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AvpName:
    """``$avp(name)``: its key on the stacks of a context. ``indexed`` is the whole text where an index names one of its values."""

    key: str
    indexed: str | None = None

    def stack(self, ctx: Ctx) -> list[Any]:
        found: list[Any] = ctx.avps.get(self.key, [])
        return found

    def push(self, ctx: Ctx, value: int | str) -> None:
        ctx.avps.setdefault(self.key, []).append(value)


@lru_cache(maxsize=1024)
def avp_name(text: str) -> AvpName:
    """Raises ValueError."""
    try:
        spec = parse_pv(text)
    except PvSyntaxError as err:
        raise ValueError(f"{text!r} is no variable: {err}") from None
    if spec.name != "avp" or not spec.inner or "$" in spec.inner or spec.transformations:
        raise ValueError(f"{text!r} is no $avp(name)")
    return AvpName(spec.inner.strip().removeprefix("s:"), text if spec.index is not None else None)


@lru_cache(maxsize=1024)
def names_and_flags(text: str, flags: str, count: int) -> tuple[tuple[AvpName, ...], str]:
    """``$avp(a)[/$avp(b)][/flags]``. Raises ValueError."""
    names: list[AvpName] = []
    found = ""
    for part in text.split("/"):
        if part.startswith("$"):
            names.append(avp_name(part))
        elif part.strip(flags):
            raise ValueError(f"unknown flags {part!r}")
        else:
            found += part
    if any(name.indexed for name in names) and (count > 1 or flags != _TESTS):
        raise ValueError(f"{text!r}: an index has no meaning here")
    if not 1 <= len(names) <= count:
        raise ValueError(f"{text!r} does not name one AVP" if count == 1 else f"{text!r} does not name one or two AVPs")
    return tuple(names), found


@dataclass(frozen=True, slots=True)
class Operand:
    """The value of ``avp_check`` and ``avp_op``: ``operator/value[/flags]``, a constant with ``i:`` or ``s:``, or a variable."""

    operator: str
    value: int | str
    variable: str | None
    flags: str


@lru_cache(maxsize=1024)
def operand(text: str, operators: frozenset[str], flags: str) -> Operand:
    """Raises ValueError."""
    parts = text.split("/")
    if len(parts) < 2 or parts[0] not in operators:
        raise ValueError(f"{text!r}: not operator/value, with an operator of {' '.join(sorted(operators))}")
    given = parts[-1] if len(parts) > 2 and not parts[-1].strip(flags) else ""
    value = "/".join(parts[1 : -1 if len(parts) > 2 and not parts[-1].strip(flags) else None])
    if value.startswith("$"):
        return Operand(parts[0], "", value, given)
    if value.startswith("i:"):
        number = parse_int(value[2:])
        if number is None:
            raise ValueError(f"{value!r} is no number")
        return Operand(parts[0], number, None, given)
    return Operand(parts[0], value.removeprefix("s:"), None, given)


#: flags of is_avp_set
_TESTS: Final = "ens"
_CHECKS: Final = frozenset({*_COMPARE, *_BITS, "re", "fm"})
_OPERATIONS: Final = frozenset(_ARITHMETIC)
_DESTINATIONS: Final = {"$ru": ("", "username", "domain"), "$du": ("",), "$br": ("",)}


def _problem(check: Callable[..., Any], *args: Any) -> str | None:
    try:
        check(*args)
    except ValueError as err:
        return str(err)
    return None


class Avpops(DbFunctions):
    name = "avpops"

    def mod_init(self) -> None:
        super().mod_init()
        self.core: Any = self.rt.module("core")
        self._getters: dict[str, Callable[[Ctx], Value]] = {}

    # -- what the compiler asks -------------------------------------------------------------------------------------------

    @classmethod
    def check_call_avp_delete(cls, args: tuple[Any, ...]) -> str | None:
        return None if args[0] in ("*", "a", "all") else _problem(names_and_flags, args[0], "g", 1)

    @classmethod
    def check_call_is_avp_set(cls, args: tuple[Any, ...]) -> str | None:
        return _problem(names_and_flags, args[0], _TESTS, 1)

    @classmethod
    def check_call_avp_copy(cls, args: tuple[Any, ...]) -> str | None:
        return _problem(names_and_flags, args[0], "g", 1) or _problem(names_and_flags, args[1], "gdns", 1)

    @classmethod
    def check_call_avp_pushto(cls, args: tuple[Any, ...]) -> str | None:
        target, _, part = str(args[0]).partition("/")
        if part not in _DESTINATIONS.get(target, ()):
            return f"{args[0]!r} is no destination: $ru, $ru/username, $ru/domain, $du and $br are"
        return None if str(args[1]).startswith("$") else "the second argument names a variable"

    @classmethod
    def check_call_avp_check(cls, args: tuple[Any, ...]) -> str | None:
        return _problem(operand, args[1], _CHECKS, "gi")

    @classmethod
    def check_call_avp_op(cls, args: tuple[Any, ...]) -> str | None:
        return _problem(names_and_flags, args[0], "", 2) or _problem(operand, args[1], _OPERATIONS, "gd")

    @classmethod
    def check_call_avp_subst(cls, args: tuple[Any, ...]) -> str | None:
        return _problem(names_and_flags, args[0], "gd", 2)

    check_call_avp_subst_pv = check_call_avp_subst

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(_ROUTES)
    def avp_delete(self, ctx: Ctx, name: Lit) -> int:
        """The newest value, all of them with ``/g``; ``*`` deletes all AVPs."""
        if name in ("*", "a", "all"):
            found = bool(ctx.avps)
            ctx.avps.clear()
            return 1 if found else -1
        (avp,), flags = names_and_flags(name, "g", 1)
        stack = avp.stack(ctx)
        if not stack:
            return -1
        if "g" in flags:
            stack.clear()
        else:
            stack.pop()
        return 1

    @function(_ROUTES)
    def is_avp_set(self, ctx: Ctx, name: Lit) -> int:
        """Whether it has a value; ``e`` an empty one, ``n`` a number, ``s`` a text."""
        (avp,), flags = names_and_flags(name, _TESTS, 1)
        stack = avp.stack(ctx)
        value = (stack[-1] if stack else None) if avp.indexed is None else self._bound(avp.indexed)(ctx)
        if value is None:
            return -1
        kind = ("n" not in flags or isinstance(value, int)) and ("s" not in flags or isinstance(value, str))
        return 1 if kind and ("e" not in flags or value in ("", 0)) else -1

    @function(_ROUTES)
    def avp_copy(self, ctx: Ctx, old_name: Lit, new_name: Lit) -> int:
        """The newest value, all of them with ``g``; ``d`` deletes what was copied, ``n`` and ``s`` cast."""
        (old,), _ = names_and_flags(old_name, "g", 1)
        (new,), flags = names_and_flags(new_name, "gdns", 1)
        stack = old.stack(ctx)
        if not stack:
            return -1
        chosen = list(reversed(stack)) if "g" in flags else stack[-1:]
        if "d" in flags:
            del stack[-len(chosen) :]
        for value in chosen:
            if "n" in flags and isinstance(value, str):
                value = parse_int(value.strip()) or 0
            elif "s" in flags:
                value = to_str(value)
            new.push(ctx, value)
        return 1

    @function(_ROUTES)
    def avp_pushto(self, ctx: Ctx, destination: Lit, name: Lit) -> int:
        """Into the request URI or a part of it, the destination URI, or new branches."""
        text, _, flags = name.partition("/")
        values = [to_str(v) for v in self._values(ctx, text)]
        if not values:
            return -1
        if "g" not in flags:
            values = values[:1]
        for value in values:
            if destination == "$br":
                if self.core.append_branch(ctx, value) < 0:
                    return -1
            elif destination == "$du":
                ctx.du = value
            else:
                change = {"$ru": self.core.rewriteuri, "$ru/username": self.core.rewriteuser, "$ru/domain": self.core.rewritehost}[destination]
                if change(ctx, value) < 0:
                    return -1
        return 1

    def _values(self, ctx: Ctx, text: str) -> list[Value]:
        """The values of an AVP, newest first, or the one of another variable."""
        if text.startswith("$avp("):
            return list(reversed(avp_name(text).stack(ctx)))
        value = self._bound(text)(ctx)
        return [] if value is None else [value]

    def _bound(self, text: str) -> Callable[[Ctx], Value]:
        found = self._getters.get(text)
        if found is None:
            found = self._getters[text] = self.rt.pv(text)
        return found

    @function(_ROUTES)
    def avp_check(self, ctx: Ctx, name: Lit, op_value: Lit) -> int:
        """Whether the newest value passes, any of them with ``g``; ``i`` ignores case."""
        what = operand(op_value, _CHECKS, "gi")
        values = self._values(ctx, name)
        wanted = self._wanted(ctx, what)
        if wanted is None:
            return -1
        for value in values if "g" in what.flags else values[:1]:
            if self._passes(what, value, wanted):
                return 1
        return -1

    def _wanted(self, ctx: Ctx, what: Operand) -> Value:
        if what.variable is None:
            return what.value
        values = self._values(ctx, what.variable)
        return values[0] if values else None

    def _passes(self, what: Operand, value: Value, wanted: Value) -> bool:
        fold = "i" in what.flags
        if what.operator == "re":
            try:
                return bool(compile_regex(to_str(wanted), fold).test(to_str(value)))
            except RegexError:
                self.rt.log.error("avp_check: bad regular expression %r", to_str(wanted))
                return False
        if what.operator == "fm":
            return fnmatch.fnmatchcase(to_str(value).lower() if fold else to_str(value), to_str(wanted).lower() if fold else to_str(wanted))
        if isinstance(value, int) != isinstance(wanted, int):
            self.rt.log.debug("avp_check: a number and a text do not compare")
            return False
        if what.operator in _BITS:
            return isinstance(value, int) and isinstance(wanted, int) and _BITS[what.operator](value, wanted) != 0
        if fold and isinstance(value, str) and isinstance(wanted, str):
            value, wanted = value.lower(), wanted.lower()
        return _COMPARE[what.operator](value, wanted)

    @function(_ROUTES)
    def avp_op(self, ctx: Ctx, name: Lit, op_value: Lit) -> int:
        """Compute with every value; the results come on top of the second AVP, or of the same. ``d`` deletes what was there."""
        names, _ = names_and_flags(name, "", 2)
        what = operand(op_value, _OPERATIONS, "gd")
        source, target = names[0], names[-1]
        number = self._wanted(ctx, what)
        values = list(reversed(source.stack(ctx)))
        if not values or not isinstance(number, int):
            return -1
        if not all(isinstance(v, int) for v in values):
            self.rt.log.error("avp_op: %s holds a text", name)
            return -1
        if "d" in what.flags:
            source.stack(ctx).clear()
        for value in values:
            if what.operator in ("div", "mod") and number == 0:
                self.rt.log.error("avp_op: division by 0")
                target.push(ctx, 0)
            else:
                target.push(ctx, _ARITHMETIC[what.operator](value, number))
        return 1

    @function(_ROUTES)
    def avp_subst(self, ctx: Ctx, avps: Lit, subst: Subst) -> int:
        """Substitute in the newest text, in all of them with ``g``. Into a second AVP the results are copied, with ``d`` moved."""
        return self._substitute(ctx, avps, subst)

    @function(_ROUTES)
    def avp_subst_pv(self, ctx: Ctx, avps: Lit, subst: str) -> int:
        try:
            prepared = self.rt.subst(subst)
        except (ValueError, RegexError) as err:
            self.rt.log.error("avp_subst_pv: %r: %s", subst, err)
            return -1
        return self._substitute(ctx, avps, prepared)

    def _substitute(self, ctx: Ctx, avps: str, subst: Any) -> int:
        names, flags = names_and_flags(avps, "gd", 2)
        source, target = names[0], names[-1]
        moved = "d" in flags or len(names) == 1
        done = 0
        for value in list(reversed(source.stack(ctx))):
            result = subst.apply(ctx, value) if isinstance(value, str) else None
            if result is not None:
                if moved:
                    stack = source.stack(ctx)
                    del stack[len(stack) - 1 - stack[::-1].index(value)]
                target.push(ctx, result)
                done += 1
            if "g" not in flags:
                break
        return 1 if done else -1

    @function(_ROUTES)
    def avp_print(self, ctx: Ctx) -> int:
        """All AVPs as log lines."""
        for key, stack in ctx.avps.items():
            for value in reversed(stack):
                self.rt.log.info("$avp(%s) = %s", key, to_str(value))
        return 1


module = Avpops
