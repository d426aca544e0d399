"""Core conditions (``uri == myself``, ``src_ip == 10.0.0.0/8``, ``method =~ "INV"``) → calls of the core's tests."""

from __future__ import annotations

import ast
from typing import Final

from kamc import nodes as n
from kamc.analysis.types import const_value
from kamc.codegen.builder import call, compare, const, name

#: a compiled value and its kind, see :mod:`.expressions`
Typed = tuple[ast.expr, str]

ORDER: Final = {"<": ast.Lt, ">": ast.Gt, "<=": ast.LtE, ">=": ast.GtE}


def is_uri_myself(e: n.CoreTest) -> bool:
    """Whether a core condition asks for an own URI: its function gives None for one that cannot be parsed."""
    return e.keyword in ("uri", "from_uri", "to_uri") and isinstance(e.right, n.CoreValue) and e.right.kind == "myself"


class CoreConditions:
    """The part of the expression compiler that knows them."""

    core: set[str]

    def value(self, e: n.Node) -> Typed:
        raise NotImplementedError

    def as_int(self, typed: Typed) -> ast.expr:
        raise NotImplementedError

    def as_str(self, typed: Typed) -> ast.expr:
        raise NotImplementedError

    def regex(self, pattern: str, *, icase: bool) -> str:
        raise NotImplementedError

    def fallible_helper(self, function: str, *args: ast.expr) -> ast.expr:
        raise NotImplementedError

    @staticmethod
    def core_call(e: n.CoreTest) -> ast.expr:
        """The test of a core condition whose right side is a literal."""
        assert isinstance(e.right, n.CoreValue)
        kind = "" if e.right.kind == "word" else f"_{e.right.kind}"
        return call(f"core.test_{e.keyword.replace(':', '_')}{kind}", name("ctx"), const(e.right.text))

    def _CoreTest(self, e: n.CoreTest) -> Typed:
        keyword = e.keyword.replace(":", "_")
        negated = e.op == "!="
        right = e.right
        if isinstance(right, n.CoreValue):
            node = self.core_call(e)
            if negated and is_uri_myself(e):
                return compare(node, ast.Is(), const(False)), "bool"
            return (ast.UnaryOp(op=ast.Not(), operand=node) if negated else node), "bool"
        typed = self.value(right)
        if e.op == "=~":
            pattern = const_value(right)
            text = call(f"core.text_{keyword}", name("ctx"))
            if isinstance(pattern, str):
                return call(self.regex(pattern, icase=True), text), "bool"
            return self.fallible_helper("match", text, self.as_str(typed)), "bool"
        if e.keyword in ("method", "uri", "status", "from_uri", "to_uri", "src_ip", "dst_ip", "snd_ip", "to_ip"):
            self.core.add(e.keyword)
            node = call(f"core.test_{keyword}", name("ctx"), self.as_str(typed))
            return (ast.UnaryOp(op=ast.Not(), operand=node) if negated else node), "bool"
        op = {"==": ast.Eq(), "!=": ast.NotEq(), **{k: v() for k, v in ORDER.items()}}[e.op]
        return compare(call(f"core.number_{keyword}", name("ctx")), op, self.as_int(typed)), "bool"
