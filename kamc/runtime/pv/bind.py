"""Spec → getter and setter. Transformations are composed into the getter, formats into one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kamc.declare.pvspec import PvSpec, Transformation, parse_format, parse_pv
from kamc.declare.values import EvalError, Value, shown, to_int, to_str
from kamc.errors import ConfigError

if TYPE_CHECKING:
    from kamc.runtime.api import Runtime
    from kamc.runtime.context import Ctx

Getter = Callable[["Ctx"], Value]
Setter = Callable[["Ctx", Value], None]


class BoundPv:
    """What a function gets for a ``PvArg``: ``get(ctx)``, ``set(ctx, value)`` (None for read-only ones) and the spec."""

    __slots__ = ("get", "set", "spec")

    def __init__(self, get: Getter, set: Setter | None = None, spec: PvSpec | None = None) -> None:
        self.get, self.set, self.spec = get, set, spec


def bind(rt: Runtime, spec: PvSpec) -> BoundPv:
    """Bind a variable. Raises ConfigError for one that no loaded module has."""
    found = rt.pv_decls.get(spec.name)
    if found is None:
        raise ConfigError(f"unknown variable {spec.text}")
    module, decl = found
    method = getattr(module, decl.method)
    if decl.inner == "none":
        bound = BoundPv(method, getattr(module, decl.writable) if decl.writable else None, spec)
    elif decl.inner == "optional" and spec.inner is None:
        bound = method(spec)
        bound.spec = spec
    else:
        if spec.inner is None:
            raise ConfigError(f"${spec.name} needs a name in brackets")
        bound = method(spec)
        bound.spec = spec
    if isinstance(spec.index, PvSpec):
        bound = BoundPv(_no_index(bound.get), bound.set, spec)
    for step in spec.transformations:
        bound = BoundPv(_transformed(rt, bound.get, step), None, spec)
    return bound


def _no_index(get: Getter) -> Getter:
    """A variable whose index is computed: what is no number names nothing."""

    def run(ctx: Ctx) -> Value:
        try:
            return get(ctx)
        except EvalError:
            return None

    return run


def _transformed(rt: Runtime, get: Getter, step: Transformation) -> Getter:
    found = rt.transformations.get(step.name)
    if found is None:
        raise ConfigError(f"unknown transformation {{{step.name}}}")
    function, decl = found
    if decl.args and decl.args[0] == "RawText":
        return _with_context(rt, get, function, step)
    fixed: list[Value] = []
    dynamic: list[Getter | None] = []
    for kind, arg in zip(decl.args, step.args, strict=False):
        getter = bind(rt, arg).get if isinstance(arg, PvSpec) else None
        dynamic.append(getter)
        fixed.append(None if getter is not None else to_int(str(arg)) if kind == "int" else str(arg))
    if not any(dynamic):
        constant = tuple(fixed)

        def plain(ctx: Ctx) -> Value:
            value = get(ctx)
            if value is None:
                return None
            try:
                return function(value, *constant)  # type: ignore[no-any-return]
            except EvalError:
                return None  # a text where the transformation needs a number

        return (lambda ctx: function(get(ctx), *constant)) if decl.nulls else plain
    kinds = decl.args

    def computed(ctx: Ctx) -> Value:
        value = get(ctx)
        if value is None:
            return None
        given = [f if g is None else g(ctx) for f, g in zip(fixed, dynamic, strict=True)]
        if None in given:
            return None
        try:
            args = [a if g is None else (to_int(a) if k == "int" else to_str(a)) for a, g, k in zip(given, dynamic, kinds, strict=False)]
            return function(value, *args)  # type: ignore[no-any-return]
        except EvalError:
            return None

    return computed


def _with_context(rt: Runtime, get: Getter, function: Any, step: Transformation) -> Getter:
    """Transformations that look into the message: prepared once from their raw argument."""
    prepared = function(rt, *step.args)

    def run(ctx: Ctx) -> Value:
        value = get(ctx)
        return None if value is None else prepared(ctx, value)

    return run


def bind_format(rt: Runtime, text: str) -> Callable[[Ctx], str]:
    """A format string as a function of the context."""
    pieces = parse_format(text)
    if len(pieces) == 1 and isinstance(pieces[0], str):
        literal = pieces[0]
        return lambda ctx: literal
    parts: list[str | Getter] = []
    for piece in pieces:
        if isinstance(piece, str):
            parts.append(piece)
        else:
            getter = bind(rt, piece).get
            parts.append(_empty_for_none(getter) if piece.transformations else getter)

    def evaluate(ctx: Ctx) -> str:
        return "".join([p if isinstance(p, str) else shown(p(ctx)) for p in parts])

    return evaluate


def _empty_for_none(getter: Getter) -> Getter:
    """A transformation without a result prints as empty text, not as ``<null>``."""

    def get(ctx: Ctx) -> Value:
        value = getter(ctx)
        return "" if value is None else value

    return get


def bind_text(rt: Runtime, text: str) -> BoundPv:
    return bind(rt, parse_pv(text))


def inner_name(rt: Runtime, text: str) -> tuple[str, Getter | None]:
    """An inner name that may itself hold variables: (literal, None) or ("", getter)."""
    if "$" not in text:
        return text, None
    return "", bind_format(rt, text)


def index_getter(rt: Runtime, spec: PvSpec) -> tuple[int | str | None, Getter | None]:
    """The index of a spec: a number, ``*``, None, or a getter."""
    index = spec.index
    if index is None:
        return None, None
    if isinstance(index, PvSpec):
        return None, bind(rt, index).get
    if index == "*":
        return "*", None
    try:
        return int(index, 0), None
    except ValueError:
        raise ConfigError(f"bad index in {spec.text}") from None
