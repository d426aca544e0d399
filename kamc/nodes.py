"""The tree of a configuration. Nodes are immutable and know their span; side tables of the analysis are keyed by node identity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from kamc.source import SourceFile, Span


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    span: Span


# -- expressions -------------------------------------------------------------------------------------------------------------


class Expr(Node):
    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Int(Expr):
    value: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Str(Expr):
    value: str
    quote: str = '"'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PvRef(Expr):
    """``$name``, ``$name(...)`` or ``$(...)`` exactly as written; ``compat`` outside of KAMAILIO mode."""

    text: str
    compat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttrRef(Expr):
    """An old style attribute: ``%name``, ``$f.name`` and, outside of KAMAILIO mode, ``$name``."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectRef(Expr):
    """``@path.to[3].value``."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unary(Expr):
    """``op`` is one of ``! - ~ defined (int) (str) strlen strempty``."""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Binary(Expr):
    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selval(Expr):
    test: Expr
    then: Expr
    orelse: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paren(Expr):
    """Brackets as written; without a meaning of their own."""

    inner: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AssignExpr(Expr):
    """``($var(x) = 5)`` as an operand: always true."""

    target: Expr
    value: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockExpr(Expr):
    """``{ actions }`` as an operand."""

    body: Block


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreTest(Expr):
    """A core condition such as ``uri == myself``; ``keyword`` is the left side, ``right`` a literal or an expression."""

    keyword: str
    op: str
    right: Expr | CoreValue


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreValue(Node):
    """The literal right side of a core condition. ``kind``: myself, word, host, ip, net, proto, af."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call(Expr):
    """A module function call."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreCall(Expr):
    """A core function. Arguments are literals: Int, Str or Word."""

    name: str
    args: tuple[Node, ...]
    bare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Word(Node):
    """A bare word as argument: a flag name, host, protocol or socket."""

    text: str
    kind: str = "word"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouteCall(Expr):
    """``route(NAME)`` (``word`` set) or ``route(EXPR)``."""

    word: str | None
    target: Expr | None
    #: the place of the name
    name_span: Span | None = None


# -- statements --------------------------------------------------------------------------------------------------------------


class Stmt(Node):
    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block(Node):
    body: tuple[Stmt, ...]
    braces: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExprStmt(Stmt):
    """A call as a statement."""

    call: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assign(Stmt):
    target: Expr
    value: Expr


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class If(Stmt):
    test: Expr
    then: Block
    orelse: Block | None
    #: where the parser stood when it knew that the statement was over; Kamailio reports errors of the statement there
    seen: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class While(Stmt):
    test: Expr
    body: Block
    seen: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case(Node):
    """One label of a switch; ``value`` None is default, ``regex`` marks ``case /"re":``."""

    value: Expr | None
    regex: bool
    body: tuple[Stmt, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Switch(Stmt):
    value: Expr
    cases: tuple[Case, ...]
    seen: Span | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Control(Stmt):
    """``exit``, ``drop``, ``return`` (with or without a value) and ``break``."""

    kind: str
    value: Expr | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Null(Stmt):
    """A lone semicolon."""


# -- top level ---------------------------------------------------------------------------------------------------------------


class Item(Node):
    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouteBlock(Item):
    """``kind``: request, reply, failure, branch, onsend, event. ``name`` None is the unnamed block.

    ``keyword`` is the word that the source used; a named request block is ``route[NAME]``.
    """

    kind: str
    name: str | None
    body: Block
    keyword: str
    quoted: bool = False
    #: the unnamed block written as ``[0]``: it may stand once
    zero: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreParam(Item):
    name: str
    value: Int | Str | Word


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CustomVar(Item):
    """``group.name = value desc "text"``; ``instance`` for ``group[2].name``."""

    group: str
    name: str
    value: Int | Str
    instance: int | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SocketId(Node):
    """``proto:address:port``; several addresses where a list was written. Port 0 is "the default", -1 is ``*``."""

    proto: str
    addresses: tuple[str, ...]
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SocketRange(SocketId):
    """``proto:address:5060-5062`` in a socket block."""

    last_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listen(Item):
    sockets: tuple[SocketId, ...]
    advertise: SocketId | None = None
    name: str | None = None
    virtual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SocketBlock(Item):
    """``socket = { bind = ...; ... }``: attribute names and their values in order."""

    attrs: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alias(Item):
    sockets: tuple[SocketId, ...]
    keyword: str = "alias"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flags(Item):
    """``flags A:1, B`` and ``avpflags a``: names with their position or None."""

    keyword: str
    flags: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadModule(Item):
    """``loadmodule``/``loadmodulex`` with the name as written."""

    keyword: str
    name: str
    opts: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadPath(Item):
    keyword: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CfgEngine(Item):
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModParam(Item):
    keyword: str
    module: Str
    param: Str
    value: Int | Str | PvRef


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CfgFile(Node):
    """A whole configuration after preprocessing."""

    items: tuple[Item, ...]
    defines: tuple[tuple[str, str | None], ...] = ()
    kamailio_mode: bool = True
    #: the text of the file and of its includes
    files: tuple[SourceFile, ...] = ()
    #: defines of the text that nothing expanded or asked for so far, with their places
    unused: tuple[tuple[str, Span], ...] = ()
    #: paths that includes were looked for at, in vain
    absent: tuple[str, ...] = ()
    #: names that a conditional asked for
    asked: frozenset[str] = frozenset()


def iter_child_nodes(node: Node) -> Iterator[Node]:
    """Direct children in source order."""
    for spec in fields(node):
        value = getattr(node, spec.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, Node):
                    yield item
                elif isinstance(item, tuple):
                    yield from (part for part in item if isinstance(part, Node))


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, parents first and in the order of the text. Depth costs nothing."""
    todo = [node]
    while todo:
        item = todo.pop()
        yield item
        todo.extend(reversed(tuple(iter_child_nodes(item))))
