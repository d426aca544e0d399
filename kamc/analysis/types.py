"""Constants and static types of expressions: what Kamailio's fix step refuses when both types are known."""

from __future__ import annotations

from collections.abc import Callable

from kamc import nodes as n
from kamc.diagnostics import DiagnosticSink

_INT_OPS = frozenset({"-", "*", "/", "mod", "|", "&", "^", "<<", ">>", "<", ">", "<=", ">=", "ieq", "ine"})


_COMPARISONS = frozenset({"==", "!=", "eq", "ne", "ieq", "ine"})


def is_constant(e: n.Node) -> bool:
    """Whether the value is known at compile time."""
    match e:
        case n.Int() | n.Str():
            return True
        case n.Paren():
            return is_constant(e.inner)
        case n.Unary():
            return e.op != "defined" and is_constant(e.operand)
        case n.Binary():
            return e.op not in ("=~",) and is_constant(e.right) and is_constant(e.left)
    return False


def const_value(e: n.Node) -> int | str | None:
    """The value of a constant expression; None where it is not constant or has no value."""
    from kamc.declare import values as v

    try:
        match e:
            case n.Int() | n.Str():
                return e.value
            case n.Paren():
                return const_value(e.inner)
            case n.Unary() if is_constant(e):
                x = const_value(e.operand)
                table: dict[str, Callable[[int | str], int | str]] = {
                    "-": v.negate,
                    "~": v.invert,
                    "!": lambda y: int(v.to_int(y) == 0),
                    "(int)": v.to_int,
                    "(str)": v.to_str,
                    "strlen": lambda y: len(v.to_str(y)),
                    "strempty": lambda y: int(v.to_str(y) == ""),
                }
                return None if x is None else table[e.op](x)
            case n.Binary() if is_constant(e):
                return _fold(e)
    except v.EvalError:
        return None
    return None


def _fold(e: n.Binary) -> int | str | None:
    from kamc.declare import values as v

    a, b = const_value(e.left), const_value(e.right)
    if a is None or b is None:
        return None
    match e.op:
        case "+":
            return v.add(a, b)
        case "==" | "!=":
            return int(v.eq(a, b) == (e.op == "=="))
        case "eq" | "ne":
            return int((v.to_str(a) == v.to_str(b)) == (e.op == "eq"))
        case "ieq" | "ine":
            return int((v.to_int(a) == v.to_int(b)) == (e.op == "ieq"))
        case "<" | ">" | "<=" | ">=":
            x, y = v.to_int(a), v.to_int(b)
            return int({"<": x < y, ">": x > y, "<=": x <= y, ">=": x >= y}[e.op])
        case "&&":
            return int(v.nonzero(a) and v.nonzero(b))
        case "||":
            return int(v.nonzero(a) or v.nonzero(b))
    table = {"-": v.sub, "*": v.mul, "/": v.div, "mod": v.mod, "|": v.bor, "&": v.band, "^": v.bxor, "<<": v.shl, ">>": v.shr}
    result = table[e.op](a, b)
    # beyond 32 bits the versions of Kamailio differ: left to run time, which knows the version
    return result if not isinstance(result, int) or -(1 << 31) <= result < 1 << 31 else None


def static_type(e: n.Node) -> str | None:
    """``int`` or ``str`` where it is known at compile time."""
    match e:
        case n.Int():
            return "int"
        case n.Str() | n.SelectRef():
            return "str"
        case n.Paren():
            return static_type(e.inner)
        case n.Unary():
            return "str" if e.op == "(str)" else "int"
        case n.Binary():
            return static_type(e.left) if e.op == "+" else "int"
        case n.Call() | n.CoreCall() | n.RouteCall() | n.CoreTest() | n.AssignExpr() | n.BlockExpr():
            return "int"
    return None


def check_types(sink: DiagnosticSink, e: n.Node) -> None:
    """Report operands that do not go together, innermost first."""
    for child in n.iter_child_nodes(e):
        if isinstance(child, n.Expr):
            check_types(sink, child)
    if not isinstance(e, n.Binary | n.Unary):
        return
    if isinstance(e, n.Unary):
        kind = static_type(e.operand)
        if e.op in ("-", "~", "!") and kind == "str":
            sink.error("K0601", e.operand.span, f"'{e.op}' wants a number, this is a text", hint="strempty() and comparisons test texts" if e.op == "!" else None)
        elif e.op in ("defined", "strlen", "strempty") and kind == "int":
            sink.error("K0601", e.operand.span, f"'{e.op}' of a number has no meaning")
        return
    left, right = static_type(e.left), static_type(e.right)
    if e.op in _COMPARISONS and left == "int" and isinstance(e.right, n.PvRef) and e.right.text in ("$null", "$(null)"):
        sink.error("K0601", e.left.span, "a number is never $null")
    elif e.op in _INT_OPS or e.op in ("&&", "||"):
        for side, kind in ((e.left, left), (e.right, right)):
            if kind == "str":
                hint = "strempty() and comparisons test texts" if e.op in ("&&", "||") else "'+' joins texts, '==' or 'eq' compares them"
                sink.error("K0601", side.span, f"'{e.op}' wants numbers, this is a text", hint=hint)
                return
    elif e.op in ("eq", "ne") and left == "int":
        sink.error("K0601", e.left.span, f"'{e.op}' compares texts, this is a number", hint="'==' or 'ieq' compares numbers")
    elif e.op in ("+", "==", "!=", "eq", "ne") and left == "int" and right == "str" and not isinstance(e.right, n.Unary):
        sink.error("K0601", e.right.span, f"a number and a text do not go together with '{e.op}'", hint="(int) or (str) casts")
    elif e.op == "=~" and left == "int":
        sink.error("K0601", e.left.span, "'=~' wants a text on its left")
    if e.op in ("/", "mod") and is_constant(e.right) and const_value(e.right) in (0, "0"):
        sink.warning("K0604", e.right.span, "division by zero: the expression fails at run time")
