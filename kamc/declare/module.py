"""Modules declare themselves: the class is the module, the signature of a method is the declaration of a cfg function.

    class Maxfwd(Module):
        name = "maxfwd"

        class Params:
            max_limit: int = 256

        @function(Routes.REQUEST)
        def mf_process_maxfwd_header(self, ctx: Ctx, max_value: int) -> int: ...

One instance lives per generation of the configuration, so a reload never sees half of the old parameters. Argument kinds come from
the annotations, by name:

=========  =========================================================================
``int``    a number, or a text or expression that gives one
``str``    a text in which variables are expanded
``Lit``    a literal text, not expanded
``Lazy``   a text that is expanded only when the function asks (called with ctx)
``Regex``  a POSIX regular expression, compiled at load when it is constant
``Subst``  ``/regex/replacement/flags``
``PvArg``  the name of a variable; the function gets something with ``get`` and ``set``
``Value``  any expression, unconverted
``Flag``   a flag number or a declared name
``FailureRoute BranchRoute ReplyRoute BranchFailureRoute``  the name of a block
=========  =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, TypeVar

from kamc.declare.routes import Routes

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

ARG_KINDS = frozenset(
    {"int", "str", "Lit", "Location", "Lazy", "Regex", "Subst", "PvArg", "Value", "Flag", "FailureRoute", "BranchRoute", "ReplyRoute", "BranchFailureRoute"}
)


@dataclass(frozen=True, slots=True)
class FunctionDecl:
    """One cfg function: argument kinds in order, how many may be left out, where it may stand."""

    name: str
    method: str
    module: str
    args: tuple[str, ...]
    required: int
    routes: Routes
    arities: tuple[int, ...] = ()
    suspends: bool = False
    waits: bool = False
    error: str = ""

    def accepts(self, count: int) -> bool:
        if self.arities:
            return count in self.arities
        return self.required <= count <= len(self.args)


@dataclass(frozen=True, slots=True)
class ParamDecl:
    """A module parameter: ``types`` holds int and/or str; ``setter`` names a method that takes each setting."""

    name: str
    types: tuple[type, ...]
    default: Any
    setter: str | None = None


@dataclass(frozen=True, slots=True)
class PvDecl:
    """A pseudo-variable. ``kind``: int, str (never a number) or any; ``inner``: none, optional or required."""

    name: str
    module: str
    method: str
    kind: str
    nullable: bool
    inner: str
    writable: str | None = None
    index: bool = False
    inline: str | None = None


@dataclass(frozen=True, slots=True)
class TransformationDecl:
    name: str
    module: str
    method: str
    args: tuple[str, ...]
    required: int
    #: it is asked about ``$null``, too
    nulls: bool = False


class Spread(Enum):
    """What an RPC command means where several workers serve."""

    FIRST = "the first worker answers: it has what is shared, or what only it does"
    EVERY = "every worker does it; the answer is the first that is no fault"
    JOIN = "the lists of all workers, one behind the other"
    SUM = "the numbers of all workers, added"
    SHOWN = "the first worker answers, when all have shown their statistics"


@dataclass(frozen=True, slots=True)
class RpcDecl:
    name: str
    method: str
    doc: str
    spread: Spread = Spread.FIRST
    wrong: str = ""


@dataclass(slots=True)
class Declarations:
    functions: dict[str, list[FunctionDecl]] = field(default_factory=dict)
    params: dict[str, ParamDecl] = field(default_factory=dict)
    pvs: dict[str, PvDecl] = field(default_factory=dict)
    transformations: dict[str, TransformationDecl] = field(default_factory=dict)
    rpcs: dict[str, RpcDecl] = field(default_factory=dict)


def function(routes: Routes = Routes.ANY, *names: str, arities: tuple[int, ...] = (), suspends: bool = False, waits: bool = False,
             error: str = "") -> Callable[[F], F]:  # fmt: skip
    """Mark a method as a cfg function; further names are aliases. The method is returned unchanged.

    One that ``suspends`` may set the run aside: it has a keyword argument ``rest``, what follows its call in the block, to run later.
    One that ``waits`` may take its time (``rt.waits``): programs that call it run in greenlets.
    ``error``: it ``leaves`` one in ``error_reply`` of the context, or ``reads`` the one that the call right before it has left; whatever
    stands between the two makes it an unknown error, as in Kamailio.
    """

    def mark(fn: F) -> F:
        fn.__dict__.setdefault("_kamc", []).append(("function", names, routes, arities, suspends, waits, error))
        return fn

    return mark


def pv(*names: str, set: str | None = None, inline: str | None = None) -> Callable[[F], F]:
    """Mark ``method(self, ctx) -> value`` as the getter of variables without an inner name.

    ``set`` names the method ``(self, ctx, value)``; ``inline`` is a Python expression over ``ctx`` that generated code uses instead.
    """

    def mark(fn: F) -> F:
        fn.__dict__.setdefault("_kamc", []).append(("pv", names, set, inline))
        return fn

    return mark


def pv_class(*names: str, set: bool = False, index: bool = False, optional: bool = False, kind: str = "any") -> Callable[[F], F]:
    """Mark ``method(self, spec) -> BoundPv`` as the binder of variables with an inner name; it runs once, when the program loads."""

    def mark(fn: F) -> F:
        fn.__dict__.setdefault("_kamc", []).append(("pv_class", names, set, index, optional, kind))
        return fn

    return mark


def transformation(*names: str, nulls: bool = False) -> Callable[[F], F]:
    """Mark a static method ``(value, *args) -> value`` as the transformation ``class.name``. Without ``nulls`` it never sees None."""

    def mark(fn: F) -> F:
        fn.__dict__.setdefault("_kamc", []).append(("transformation", names, nulls))
        return fn

    return mark


def rpc(*names: str, spread: Spread = Spread.FIRST, wrong: str = "") -> Callable[[F], F]:
    """Mark ``method(self, *params) -> data`` as RPC commands. Parameters are checked and converted by their annotations (``str``, ``int``, ``float``); ``wrong`` is
    what a caller hears when one is missing or of another kind, where that is not the usual text: ``[CODE ]TEXT``, code 500 by default, ``{}`` for how many are fine."""

    def mark(fn: F) -> F:
        fn.__dict__.setdefault("_kamc", []).append(("rpc", names, spread, wrong))
        return fn

    return mark


def modparam(*names: str, types: tuple[type, ...] = (str,)) -> Callable[[F], F]:
    """Mark ``method(self, value)`` as the taker of a parameter that may be set several times."""

    def mark(fn: F) -> F:
        fn.__dict__.setdefault("_kamc", []).append(("modparam", names, types))
        return fn

    return mark


def _annotation(text: Any) -> tuple[str, bool]:
    """``"str | None"`` → (``str``, nullable)."""
    if isinstance(text, type):
        return text.__name__, False
    parts = [p.strip().rpartition(".")[2] for p in str(text).split("|")]
    return next((p for p in parts if p != "None"), "None"), "None" in parts


def _function_decl(name: str, method: str, module: str, fn: Any, routes: Routes, *rest: Any) -> FunctionDecl:
    code = fn.__code__
    names = code.co_varnames[2 : code.co_argcount]
    kinds = []
    for arg in names:
        kind, _ = _annotation(fn.__annotations__.get(arg, ""))
        if kind not in ARG_KINDS:
            raise TypeError(f"{module}.{name}: argument {arg} has no kind that a cfg can give ({kind!r})")
        kinds.append(kind)
    return FunctionDecl(name, method, module, tuple(kinds), len(kinds) - len(fn.__defaults__ or ()), routes, *rest)


class Module:
    """Base of every module. ``rt`` is the runtime's API for modules, ``p`` the parameters of this generation."""

    name: ClassVar[str] = ""
    depends: ClassVar[tuple[str, ...]] = ()
    #: attributes that a reload carries over as they are: what the module has learnt, and nothing that parameters say
    kept: ClassVar[tuple[str, ...]] = ()
    #: statistics as ``group -> names``, created when the module is loaded
    stats: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: parameters that tune Kamailio's memory and processes and change nothing that can be seen: accepted
    tuning_params: ClassVar[tuple[str, ...]] = ()
    #: parameters that Kamailio knows and that have no meaning here (say, column names without a database): accepted with a warning
    ignored_params: ClassVar[tuple[str, ...]] = ()

    class Params:
        pass

    def __init__(self, rt: Any) -> None:
        self.rt = rt
        self.p: Any = type(self).Params()

    def mod_init(self) -> None:
        """After all parameters are set, in load order. Raise ConfigError to refuse the start."""

    def open_doors(self) -> None:
        """After all of ``mod_init``, in a server that has real sockets: open what clients ask for commands. Raise ConfigError."""

    def activate(self, previous: Any) -> None:
        """Between two messages: this generation takes over. ``previous`` is the module of the one before, None at start and for a module
        that was not there; what has to outlive a reload is taken from it. Must not fail."""
        for attribute in self.kept if previous is not None else ():
            setattr(self, attribute, getattr(previous, attribute))

    #: generated code calls ``trace(ctx, block, file, line, kind, action)`` before each statement
    traces: ClassVar[bool] = False
    #: runtime variables (cfg framework) that have another name than the parameter
    runtime_names: ClassVar[dict[str, str]] = {}
    #: methods that other servers on the same store may call: with the name of the sender and plain data
    between_servers: ClassVar[tuple[str, ...]] = ()

    def setting_changed(self, name: str) -> None:
        """A runtime variable has another value: what was computed from it has to follow."""

    def data_files(self) -> dict[str, str]:
        """Files that it has read, and the RPC command that reads them again: ``kamc run --watch-data`` calls it when one changes."""
        return {}

    def server_joined(self, sender: str) -> None:
        """A worker of another server on the same store serves from now on."""

    def server_lost(self, sender: str) -> None:
        """It does not any more."""

    def carry(self, previous: Any, attribute: str, param: str) -> None:
        """Of ``activate``: what was switched while the server ran stays so, unless the parameter behind it says something else now."""
        if previous is not None and getattr(previous.p, param) == getattr(self.p, param):
            setattr(self, attribute, getattr(previous, attribute))

    def everywhere(self, method: Callable[..., R], *args: Any) -> R:
        """Call a method of this module here and, with plain data, in all other workers: for what Kamailio's processes share."""
        self.rt.tell_peers(self.name, method.__name__, *args)
        return method(*args)

    def child_init(self) -> None:
        """In each worker, when it is about to serve with this generation."""

    def rebalance(self) -> None:
        """The number of workers has changed, or a call has ended since: what is kept here of calls that belong to others by now (``rt.owns_call``) goes to them."""

    def release(self) -> None:
        """The generation was replaced, or never took over: give back what no other has taken from it (sockets, files)."""

    def destroy(self) -> None:
        """When the server ends."""

    @classmethod
    def declarations(cls) -> Declarations:
        """What the class declares, base classes included."""
        found = cls.__dict__.get("_declarations")
        if isinstance(found, Declarations):
            return found
        out = Declarations()
        for base in reversed(cls.__mro__):
            for attr, raw in vars(base).items():
                fn = raw.__func__ if isinstance(raw, staticmethod) else raw
                for mark in getattr(fn, "_kamc", ()) if callable(fn) else ():
                    _collect(cls, out, attr, fn, mark)
        annotations = {k: v for base in reversed(cls.Params.__mro__) for k, v in vars(base).get("__annotations__", {}).items()}
        for pname, annotation in annotations.items():
            kind, _ = _annotation(annotation)
            types: tuple[type, ...] = (int, str) if kind == "IntStr" else (int,) if kind == "int" else (str,)
            out.params[pname] = ParamDecl(pname, types, getattr(cls.Params, pname, None))
        cls._declarations = out  # type: ignore[attr-defined]
        return out


def _collect(cls: type[Module], out: Declarations, attr: str, fn: Any, mark: tuple[Any, ...]) -> None:
    what, names = mark[0], mark[1]
    module = cls.name
    if what == "function":
        _, names, routes, *rest = mark
        for name in names or (attr,):
            out.functions.setdefault(name, []).append(_function_decl(name, attr, module, fn, routes, *rest))
    elif what == "pv":
        _, names, setter, inline = mark
        kind, nullable = _annotation(fn.__annotations__.get("return", "Value"))
        for name in names:
            out.pvs[name] = PvDecl(name, module, attr, kind if kind in ("int", "str") else "any", nullable or kind not in ("int", "str"), "none",
                                   setter, False, inline)  # fmt: skip
    elif what == "pv_class":
        _, names, writable, index, optional, kind = mark
        for name in names:
            out.pvs[name] = PvDecl(name, module, attr, kind, True, "optional" if optional else "required", attr if writable else None, index)
    elif what == "transformation":
        code = fn.__code__
        args = tuple(_annotation(fn.__annotations__.get(a, "Value"))[0] for a in code.co_varnames[1 : code.co_argcount])
        for name in names:
            out.transformations[name] = TransformationDecl(name, module, attr, args, len(args) - len(fn.__defaults__ or ()), mark[2])
    elif what == "rpc":
        for name in names:
            out.rpcs[name] = RpcDecl(name, attr, (fn.__doc__ or "").strip(), mark[2], mark[3])
    elif what == "modparam":
        for name in names:
            out.params[name] = ParamDecl(name, mark[2], None, attr)
