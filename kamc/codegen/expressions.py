"""Expressions → Python. Where types are known the result is a plain operator; elsewhere a function of :mod:`kamc.declare.values`.

Kinds of a compiled value: ``int``, ``bool`` (a Python truth value, 1 or 0 in the cfg), ``str``, ``str?`` (text or undefined) and ``any``.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from kamc import nodes as n
from kamc.analysis.types import const_value, is_constant
from kamc.analysis.unit import ResolvedCall, Unit
from kamc.codegen.builder import call, compare, const, expression, name, stamp, subscript
from kamc.codegen.conditions import ORDER, CoreConditions, Typed, is_uri_myself
from kamc.codegen.constants import Constants, mangle
from kamc.declare.module import PvDecl
from kamc.declare.pvspec import PvSpec, read_pv
from kamc.errors import KamcBug
from kamc.printer import print_node

_ARITH = {"-": "sub", "*": "mul", "/": "div", "mod": "mod", "|": "bor", "&": "band", "^": "bxor", "<<": "shl", ">>": "shr"}

#: sums with more operands than this are one call
LONG_SUM = 20


class ExpressionCompiler(CoreConditions):
    """Compiles the expressions of one block. ``fallible`` is set when something compiled can fail at run time."""

    def __init__(self, unit: Unit, constants: Constants, *, uses_rc: bool) -> None:
        self.unit, self.constants = unit, constants
        self.uses_rc = uses_rc
        #: return_mode=1: a call in an expression is the number that it returned, and not whether it was greater than zero
        self.keep_returned = unit.core_param("return_mode", 0) == 1
        self.fallible = False
        self.helpers: set[str] = set()
        #: core functions and conditions that are called
        self.core: set[str] = set()
        self.blocks: list[ast.stmt] = []

    def helper(self, function: str, *args: ast.expr) -> ast.expr:
        self.helpers.add(function)
        return call(function, *args)

    def fallible_helper(self, function: str, *args: ast.expr) -> ast.expr:
        self.fallible = True
        return self.helper(function, *args)

    # -- entry points ----------------------------------------------------------------------------------------------------

    def value(self, e: n.Node) -> Typed:
        """The value of an expression; every node gets its position."""
        node, kind = self._value(e)
        stamp(node, e.span)
        return node, kind

    def script_value(self, e: n.Node) -> Typed:
        """As stored in a variable: truth values become 1 and 0."""
        if isinstance(e, n.Call | n.RouteCall | n.CoreCall):
            node, kind = self.raw_call(e), "int"
        else:
            node, kind = self.value(e)
        if kind == "bool":
            node, kind = self.as_int((node, kind)), "int"
        stamp(node, e.span)
        return node, kind

    def test(self, e: n.Expr) -> ast.expr:
        """A condition: true when the value is greater than zero."""
        node, kind = self.value(e)
        if kind == "bool":
            return node
        if kind == "int":
            inner = e.inner if isinstance(e, n.Paren) else e
            negative_counts = self.keep_returned and isinstance(inner, n.Call | n.RouteCall | n.CoreCall)
            result: ast.expr = compare(node, ast.NotEq() if negative_counts else ast.Gt(), const(0))
        else:
            result = self.fallible_helper("truth", node)
        stamp(result, e.span)
        return result

    def nonzero(self, e: n.Expr) -> ast.expr:
        """An operand of ``&&``, ``||`` and ``!``: true when not zero."""
        inner = e.inner if isinstance(e, n.Paren) else e
        if isinstance(inner, n.CoreTest) and is_uri_myself(inner):
            # Kamailio's -1 for a URI that is none counts as true here, and as false where the test stands alone
            return compare(self.core_call(inner), ast.IsNot(), const(inner.op == "!="))
        node, kind = self.value(e)
        if kind == "bool":
            return node
        result = compare(node, ast.NotEq(), const(0)) if kind == "int" else self.fallible_helper("nonzero", node)
        stamp(result, e.span)
        return result

    # -- conversions -----------------------------------------------------------------------------------------------------

    def as_int(self, typed: Typed) -> ast.expr:
        node, kind = typed
        if kind == "int":
            return node
        if kind == "bool":
            return ast.IfExp(test=node, body=const(1), orelse=const(0))
        return self.fallible_helper("to_int", node)

    def as_str(self, typed: Typed) -> ast.expr:
        node, kind = typed
        if isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
            return const(str(node.value))
        if kind == "str":
            return node
        if kind == "str?":
            return ast.BoolOp(op=ast.Or(), values=[node, const("")])
        if kind == "bool":
            return ast.IfExp(test=node, body=const("1"), orelse=const("0"))
        return self.helper("to_str", node)

    # -- by node type ----------------------------------------------------------------------------------------------------

    def _value(self, e: n.Node) -> Typed:
        method = getattr(self, f"_{type(e).__name__}", None)
        if method is None:
            raise KamcBug(f"no code for {type(e).__name__}")
        result: Typed = method(e)
        return result

    def _Int(self, e: n.Int) -> Typed:
        return const(e.value), "int"

    def _Str(self, e: n.Str) -> Typed:
        return const(e.value), "str"

    def _Paren(self, e: n.Paren) -> Typed:
        return self._value(e.inner)

    def _PvRef(self, e: n.PvRef) -> Typed:
        return self.pv(self.spec_of(e))

    def _AttrRef(self, e: n.AttrRef) -> Typed:
        return self.pv(attr_spec(e.text))

    def _SelectRef(self, e: n.SelectRef) -> Typed:
        return call(self.constants.hoist("sel", e.text, f"rt.select({e.text!r})"), name("ctx")), "str"

    def spec_of(self, e: n.PvRef) -> PvSpec:
        spec, _ = read_pv(e.text, 0, script=True)
        if e.compat and spec.inner is None and not e.text.startswith("$(") and self.pv_decl(spec.name) is None:
            return attr_spec("$" + spec.name)
        return spec

    def pv_decl(self, pv_name: str) -> PvDecl | None:
        for module in self.unit.registry.implemented():
            decl = module.declarations().pvs.get(pv_name)
            if decl is not None:
                return decl
        return None

    def pv(self, spec: PvSpec) -> Typed:
        """Reading a variable: ``$var`` from its slot, others by inline expression or bound getter."""
        decl = self.pv_decl(spec.name)
        if spec.name == "null" and not spec.transformations:
            return const(None), "any"
        if spec.name in ("rc", "retcode", "?") and not spec.transformations:
            return name("ctx.rc"), "int"
        if self.is_slot(spec):
            return subscript("V", spec.inner or ""), "any"
        simple = not spec.transformations and spec.index is None
        if decl is not None and simple and spec.inner is None:
            kind = {"int": "int", "str": "str?" if decl.nullable else "str"}.get(decl.kind, "any")
            if kind == "int" and decl.nullable:
                kind = "any"
            if decl.inline:
                return expression(decl.inline), kind
            return call(self.getter(spec), name("ctx")), kind
        kind = "str?" if decl is not None and simple and decl.kind == "str" else "any"
        return call(self.getter(spec), name("ctx")), kind

    def is_slot(self, spec: PvSpec) -> bool:
        return spec.name == "var" and not spec.transformations and spec.index is None and bool(spec.inner)

    def getter(self, spec: PvSpec) -> str:
        return self.constants.hoist("pv", spec.text, f"rt.pv({spec.text!r})")

    def setter(self, spec: PvSpec) -> str:
        return self.constants.hoist("set", spec.text, f"rt.pv_set({spec.text!r})")

    # -- operators -------------------------------------------------------------------------------------------------------

    def _Unary(self, e: n.Unary) -> Typed:
        constant = const_value(e)
        if constant is not None and e.op != "!":
            return const(constant), "int" if isinstance(constant, int) else "str"
        match e.op:
            case "!":
                return ast.UnaryOp(op=ast.Not(), operand=self.nonzero(e.operand)), "bool"
            case "-":
                return self.fallible_helper("negate", self.value(e.operand)[0]), "int"
            case "~":
                return self.fallible_helper("invert", self.value(e.operand)[0]), "int"
            case "(int)":
                return self.as_int(self.value(e.operand)), "int"
            case "(str)":
                return self.as_str(self.value(e.operand)), "str"
            case "defined":
                return self._defined(e.operand), "bool"
            case "strlen":
                return call("len", self.as_str(self.value(e.operand))), "int"
            case "strempty":
                return compare(self.as_str(self.value(e.operand)), ast.Eq(), const("")), "bool"
        raise KamcBug(e.op)

    def _defined(self, operand: n.Expr) -> ast.expr:
        inner = operand.inner if isinstance(operand, n.Paren) else operand
        if isinstance(inner, n.SelectRef):
            return compare(call(self.constants.hoist("seldef", inner.text, f"rt.select({inner.text!r}, True)"), name("ctx")), ast.IsNot(), const(None))
        return compare(self.value(operand)[0], ast.IsNot(), const(None))

    def _Binary(self, e: n.Binary) -> Typed:
        constant = const_value(e)
        if constant is not None:
            return const(constant), "int" if isinstance(constant, int) else "str"
        if e.op in ("&&", "||"):
            return self._logic(e)
        if e.op == "+":
            return self._plus(e)
        if e.op in ("==", "!=", "eq", "ne", "ieq", "ine"):
            return self._equality(e), "bool"
        if e.op in ORDER:
            left, right = self.as_int(self.value(e.left)), self.as_int(self.value(e.right))
            return compare(left, ORDER[e.op](), right), "bool"
        if e.op == "=~":
            return self._match(e), "bool"
        return self.fallible_helper(_ARITH[e.op], self._plain(e.left), self._plain(e.right)), "int"

    def _plain(self, e: n.Expr) -> ast.expr:
        typed = self.value(e)
        return self.as_int(typed) if typed[1] == "bool" else typed[0]

    def _logic(self, e: n.Binary) -> Typed:
        # Kamailio's optimizer: a neutral constant (1 for &&, 0 for ||) leaves the other operand, as a number
        neutral = 1 if e.op == "&&" else 0
        for constant, other in ((e.right, e.left), (e.left, e.right)):
            value = const_value(constant)
            if isinstance(value, int) and value == neutral:
                if isinstance(other, n.Call | n.RouteCall | n.CoreCall):
                    return self.raw_call(other), "int"
                return self.as_int(self._value(other)), "int"
        for constant in (e.left, e.right):
            value = const_value(constant)
            if isinstance(value, int) and (value == 0 if e.op == "&&" else value != 0):
                return const(0 if e.op == "&&" else 1), "int"
        op: ast.boolop = ast.And() if e.op == "&&" else ast.Or()
        left, right = self.nonzero(e.left), self.nonzero(e.right)
        if isinstance(e.left, n.Binary) and isinstance(left, ast.BoolOp) and type(left.op) is type(op):
            return ast.BoolOp(op=op, values=[*left.values, right]), "bool"
        return ast.BoolOp(op=op, values=[left, right]), "bool"

    def _plus(self, e: n.Binary) -> Typed:
        operands = [e.right]
        first = e.left
        while isinstance(first, n.Binary) and first.op == "+" and len(operands) <= LONG_SUM:
            operands.append(first.right)
            first = first.left
        if len(operands) > LONG_SUM:
            return self._long_sum(e)
        left, right = self.value(e.left), self.value(e.right)
        if left[1] == "str":
            return ast.BinOp(left=left[0], op=ast.Add(), right=self.as_str(right)), "str"
        a = self.as_int(left) if left[1] == "bool" else left[0]
        b = self.as_int(right) if right[1] == "bool" else right[0]
        if left[1] == "str?":
            return self.helper("add", a, b), "str"
        if not (left[1] in ("int", "bool") and right[1] in ("int", "bool")):
            self.fallible = True
        return self.helper("add", a, b), "int" if left[1] in ("int", "bool") else "any"

    def _long_sum(self, e: n.Binary) -> Typed:
        """Many operands in one call: brackets in Python nest only so deep."""
        operands = []
        first: n.Expr = e
        while isinstance(first, n.Binary) and first.op == "+" and const_value(first) is None:
            operands.append(self._plain(first.right))
            first = first.left
        head = self.value(first)
        operands.append(self.as_int(head) if head[1] == "bool" else head[0])
        self.fallible = True
        return self.helper("add_all", *reversed(operands)), "str" if head[1] in ("str", "str?") else "int" if head[1] in ("int", "bool") else "any"

    def _equality(self, e: n.Binary) -> ast.expr:
        negated = e.op in ("!=", "ne", "ine")
        op: ast.cmpop = ast.NotEq() if negated else ast.Eq()
        right_inner = e.right.inner if isinstance(e.right, n.Paren) else e.right
        if isinstance(right_inner, n.PvRef) and right_inner.text in ("$null", "$(null)"):
            left_inner = e.left.inner if isinstance(e.left, n.Paren) else e.left
            if isinstance(left_inner, n.SelectRef):
                defined = self._defined(left_inner)
                return defined if negated else ast.UnaryOp(op=ast.Not(), operand=defined)
            return compare(self.value(e.left)[0], ast.IsNot() if negated else ast.Is(), const(None))
        if e.op == "==" and const_value(e.right) == "":
            # Kamailio's optimizer makes this a test for the empty text: a number is none
            return compare(self.as_str(self.value(e.left)), op, const(""))
        left, right = self.value(e.left), self.value(e.right)
        if e.op in ("eq", "ne"):
            return compare(self.as_str(left), op, self.as_str(right))
        if e.op in ("ieq", "ine") or left[1] in ("int", "bool"):
            return compare(self.as_int(left), op, self.as_int(right))
        constant = right[0].value if isinstance(right[0], ast.Constant) else None
        if left[1] == "str?" and isinstance(constant, str) and constant:
            return compare(left[0], op, right[0])
        if left[1] in ("str", "str?") and right[1] in ("str", "str?"):
            return compare(self.as_str(left), op, self.as_str(right))
        a, b = left[0], self.as_int(right) if right[1] == "bool" else right[0]
        return self.fallible_helper("ne" if negated else "eq", a, b)

    def _match(self, e: n.Binary) -> ast.expr:
        left = self.as_str(self.value(e.left))
        pattern = const_value(e.right) if is_constant(e.right) else None
        if isinstance(pattern, str):
            found = call(self.regex(pattern, icase=True), left)
            return found
        return self.fallible_helper("match", left, self.as_str(self.value(e.right)))

    def regex(self, pattern: str, *, icase: bool) -> str:
        return self.constants.hoist("re", pattern, f"rt.regex({pattern!r}, {icase}).test")

    def _Selval(self, e: n.Selval) -> Typed:
        then, orelse = self.value(e.then), self.value(e.orelse)
        kind = then[1] if then[1] == orelse[1] else "any"
        a = self.as_int(then) if then[1] == "bool" else then[0]
        b = self.as_int(orelse) if orelse[1] == "bool" else orelse[0]
        kind = "int" if kind == "bool" else kind
        chosen: ast.expr = ast.IfExp(test=self.test(e.test), body=a, orelse=b)
        if kind in ("any", "str?"):
            chosen = self.helper("selected", chosen)
            kind = "any" if kind == "any" else "str"
        return chosen, kind

    def _AssignExpr(self, e: n.AssignExpr) -> Typed:
        return ast.BoolOp(op=ast.Or(), values=[self.assignment(e.target, e.value), const(True)]), "bool"

    def assignment(self, target: n.Expr, value: n.Expr) -> ast.expr:
        """An assignment as an expression that gives None."""
        spec = self.spec_of(target) if isinstance(target, n.PvRef) else attr_spec(target.text if isinstance(target, n.AttrRef) else "")
        return self.assigned(spec, value, self.script_value(value)[0])

    def assigned(self, spec: PvSpec, value: n.Expr, node: ast.expr) -> ast.expr:
        """The call of a setter. A number right out of a variable is a text, too, for variables that take texts."""
        inner = value.inner if isinstance(value, n.Paren) else value
        decl = self.pv_decl(spec.name)
        if isinstance(inner, n.PvRef) and decl is not None and decl.kind == "str":
            node = self.helper("from_pv", node)
        return call(self.setter(spec), name("ctx"), node)

    def _BlockExpr(self, e: n.BlockExpr) -> Typed:
        return compare(call(self.compile_block(e), name("ctx")), ast.Gt(), const(0)), "bool"

    def compile_block(self, e: n.BlockExpr) -> str:
        raise KamcBug("blocks as operands are compiled by the statement compiler")

    # -- calls -----------------------------------------------------------------------------------------------------------

    def _Call(self, e: n.Call) -> Typed:
        if self.keep_returned:
            return self.raw_call(e), "int"
        return compare(self.raw_call(e), ast.Gt(), const(0)), "bool"

    _CoreCall = _RouteCall = _Call

    def raw_call(self, e: n.Expr) -> ast.expr:
        """A call with the number that it returns."""
        match e:
            case n.Call():
                node = self._module_call(e)
                if self.uses_rc:
                    node = call("ctx.done", node)
            case n.CoreCall():
                self.core.add(e.name)
                node = call(f"core.{e.name}", name("ctx"), *(self._core_arg(e.name, at, a) for at, a in enumerate(e.args)))
            case n.RouteCall():
                node = self._route_call(e)
            case _:
                raise KamcBug(type(e).__name__)
        stamp(node, e.span)
        return node

    def _core_arg(self, function: str, at: int, arg: n.Node) -> ast.expr:
        if (function, at) == ("cfg_select", 1):
            return self.as_int(self.value(arg))
        match arg:
            case n.Word():
                return const(self.unit.flags[arg.text]) if arg.text in self.unit.flags else const(arg.text)
            case n.SocketId():
                return const((arg.proto, arg.addresses[0], arg.port))
            case n.AttrRef() | n.PvRef():
                return const(arg.text)
        return self.value(arg)[0]

    def _route_call(self, e: n.RouteCall) -> ast.expr:
        target = e.word if e.word is not None else const_value(e.target) if e.target is not None else None
        if target is not None:
            return call("ctx.route", name(f"route_{mangle(str(target))}"))
        return call("ctx.route_by_name", self.as_str(self.value(e.target)) if e.target is not None else const(""))

    def _module_call(self, e: n.Call) -> ast.expr:
        resolved = self.unit.calls.get(id(e))
        if resolved is None:
            raise KamcBug(f"unresolved call of {e.name}")
        if resolved.decl is None:
            return call("ctx.not_implemented", const(e.name), *(const(print_node(a)) for a in e.args))
        decl = resolved.decl
        return call(f"{mod_name(decl.module)}.{decl.method}", name("ctx"), *self._args(resolved))

    def _args(self, resolved: ResolvedCall) -> list[ast.expr]:
        kinds = resolved.decl.args if resolved.decl is not None else ()
        return [self._arg(kind, how, payload) for kind, (how, payload) in zip(kinds, resolved.args, strict=False)]

    def _arg(self, kind: str, how: str, payload: Any) -> ast.expr:
        match how:
            case "const":
                if kind == "Lazy":
                    return name(self.constants.hoist("fmt", str(payload), f"rt.text({payload!r})"))
                if kind == "Subst":
                    return name(self.constants.hoist("subst", payload, f"rt.subst({payload!r})"))
                return const(payload)
            case "regex":
                return name(self.constants.hoist("regex", payload, f"rt.regex({payload!r}, True, True)"))
            case "pv":
                return name(self.constants.hoist("var", payload.text, f"rt.pv_arg({payload.text!r})"))
            case "route":
                return const(payload)
            case "fmt":
                if kind == "Lazy":
                    text = join_format(payload)
                    return name(self.constants.hoist("fmt", text, f"rt.format({text!r})"))
                text_node = self.format(payload)
                if kind == "Regex":
                    self.fallible = True
                    return call("rt.dynamic_regex", text_node)
                return self.fallible_helper("int_arg", text_node) if kind in ("int", "Flag") else text_node
            case "expr":
                return self._expr_arg(kind, payload)
        raise KamcBug(how)

    def _expr_arg(self, kind: str, e: n.Expr) -> ast.expr:
        typed = self.value(e)
        if kind in ("int", "Flag"):
            return typed[0] if typed[1] == "int" else self.fallible_helper("int_arg", self.as_int(typed) if typed[1] == "bool" else typed[0])
        if kind == "Value":
            return self.as_int(typed) if typed[1] == "bool" else typed[0]
        text = self.as_str(typed)
        if kind == "Regex":
            self.fallible = True
            return call("rt.dynamic_regex", text)
        if kind == "Lazy":
            return call("rt.text", text)
        return text

    def format(self, pieces: tuple[str | PvSpec, ...]) -> ast.expr:
        """A format string as a concatenation."""
        parts = [const(p) if isinstance(p, str) else self._printed(p) for p in pieces]
        out = parts[0]
        for part in parts[1:]:
            out = ast.BinOp(left=out, op=ast.Add(), right=part)
        return out

    def _printed(self, spec: PvSpec) -> ast.expr:
        node, kind = self.pv(spec)
        if kind == "str":
            return node
        if spec.transformations:
            return self.helper("to_str", node)
        return self.helper("shown", node)


def attr_spec(text: str) -> PvSpec:
    """``%name``, ``$name``, ``$f.name``: an old style attribute is an avp of that name."""
    body = text.lstrip("%$")
    match = re.match(r"([A-Za-z0-9_.]+)(?:\[(.*)\])?", body)
    avp = (match.group(1) if match else body).split(".")[-1]
    index = match.group(2) if match else None
    written = f"$(avp({avp})[{index}])" if index else f"$avp({avp})"
    return PvSpec("avp", avp, index, (), written)


def join_format(pieces: tuple[str | PvSpec, ...]) -> str:
    return "".join(p.replace("$", "$$") if isinstance(p, str) else (p.text if p.text.startswith("$(") or p.name == "?" else f"$({p.text[1:]})") for p in pieces)


def mod_name(module: str) -> str:
    """The name under which generated code sees a module."""
    return f"{module}_" if module in ("async", "core", "ctx", "rt") else module
