"""Checks of calls: which function, where it may stand, and its arguments.

A resolved argument is (kind, payload):

``const``   a Python value            ``expr``    an expression, converted to int or str by the declared kind
``fmt``     pieces of a format string ``regex``   a constant pattern
``pv``      a PvSpec                  ``route``   a block name
"""

from __future__ import annotations

from typing import Any

from kamc import catalogue
from kamc import nodes as n
from kamc.analysis.types import check_types, const_value, is_constant
from kamc.analysis.unit import FunctionUse, ResolvedCall, RouteEdge
from kamc.analysis.variables import VariableChecks
from kamc.declare.module import FunctionDecl
from kamc.declare.routes import Routes
from kamc.preprocess import split_subst
from kamc.source import Span

#: argument kind → kind of the block, and what its name begins with there
_ROUTE_KINDS = {"FailureRoute": ("failure", ""), "BranchRoute": ("branch", ""), "ReplyRoute": ("reply", ""),
                "BranchFailureRoute": ("event", "tm:branch-failure:")}  # fmt: skip
_ONSEND_CORE = frozenset({"setflag", "resetflag", "isflagset", "log", "set_forward_no_connect", "set_reply_no_connect", "set_forward_close", "set_reply_close"})


def fitting_mask(decls: list[FunctionDecl]) -> Routes:
    """Where any of these may stand."""
    mask = Routes(0)
    for decl in decls:
        mask |= decl.routes
    return mask


class CallChecks(VariableChecks):
    """Checks of the calls in one block: a function fits when its mask shares a bit with the block's."""

    def expression(self, e: n.Node) -> None:
        raise NotImplementedError

    def core_call(self, e: n.CoreCall) -> None:
        if self.block.kind == "onsend" and e.name not in _ONSEND_CORE:
            self.sink.error("K0301", e.span, f"{e.name}() cannot be used here", label="in onsend_route")
        for arg in e.args:
            if isinstance(arg, n.Expr):
                self.expression(arg)
        if e.name in ("setflag", "resetflag", "isflagset"):
            self.flag(e.args[0])

    def flag(self, arg: n.Node) -> None:
        if isinstance(arg, n.Int) and not 0 <= arg.value <= 31:
            self.sink.error("K0111", arg.span, f"flag {arg.value} is not within 0 and 31")
        elif isinstance(arg, n.Word) and arg.text not in self.unit.flags:
            self.sink.error("K0111", arg.span, f"flag {arg.text} is not declared", hint=f"flags {arg.text};")

    def call(self, e: n.Call) -> None:
        for arg in e.args:
            for inner in n.walk(arg):
                if isinstance(inner, n.Call | n.CoreCall | n.RouteCall):
                    self.sink.error("K0306", inner.span, "a function cannot be called inside the arguments of another")
                    return
        decls = self.registry.functions(e.name)
        if decls or any(module in self.registry.loaded for module in catalogue.functions().get(e.name, ())):
            self.unit.outdated("functions", e.name, self.name_of(e), f"{e.name}()")
        fitting = [d for d in decls if d.accepts(len(e.args))]
        if not fitting:
            self.unknown_call(e, decls)
            return
        allowed = [d for d in fitting if d.routes & self.mask]
        if not allowed:
            names = ", ".join(str(r.name) for r in Routes if r in fitting[0].routes and r is not Routes.ANY and r is not Routes.ONREPLY)
            self.sink.error("K0301", self.name_of(e), f"'{e.name}' cannot be used here", label=f"in {self.route.label}", notes=(f"allowed in {names}",))
            return
        decl = allowed[0]
        self.unit.uses.append(FunctionUse(self.route, e.name, fitting_mask(fitting), self.name_of(e)))
        self.unit.dated("functions", e.name, e.span, decl.module)
        self.const_rule(e, decl)
        args = tuple(self.argument(decl, kind, arg) for kind, arg in zip(decl.args, e.args, strict=False))
        check = getattr(self.module_of(decl.module), f"check_call_{decl.method}", None)
        problem = check(tuple(const_value(a) for a in e.args)) if check is not None else None
        if problem:
            self.sink.error("K0304", e.span, f"{decl.name}(): {problem}")
        self.unit.calls[id(e)] = ResolvedCall(decl, args)

    def unknown_call(self, e: n.Call, decls: list[FunctionDecl]) -> None:
        if decls:
            takes = " or ".join(str(c) for c in range(8) if any(d.accepts(c) for d in decls))
            self.sink.error("K0303", e.span, f"{e.name}() takes {takes or 'other'} arguments, not {len(e.args)}")
            return
        for module in catalogue.functions().get(e.name, ()):
            if module in self.registry.loaded:
                self.unit.missing("K0305", e.span, f"{e.name}() of module {module} is not implemented by kamc")
                self.unit.calls[id(e)] = ResolvedCall(None, ())
                return
        instead = catalogue.removed("functions", e.name)
        if instead is not None:
            self.sink.error("K0308", self.name_of(e), f"{e.name}() was removed from Kamailio", hint=f"instead: {instead}")
            return
        self.sink.error("K0302", self.name_of(e), f"unknown function {e.name}()", hint=self.registry.suggest_function(e.name))

    @staticmethod
    def name_of(e: n.Call) -> Span:
        """The place of a call's name."""
        return Span(e.span.file, e.span.start, e.span.start + len(e.name), e.span.trail) if e.span.text.startswith(e.name) else e.span

    def const_rule(self, e: n.Call, decl: FunctionDecl) -> None:
        rule = catalogue.const_args(self.unit.compat, decl.module, decl.name)
        if not rule or (isinstance(rule, tuple) and len(e.args) not in rule):
            return
        for arg in e.args:
            if not is_constant(arg):
                self.sink.error("K0304", arg.span, f"{decl.name}() wants constant arguments", hint='put the variable into a text: "$var(x)"')

    def argument(self, decl: FunctionDecl, kind: str, arg: n.Expr) -> tuple[str, Any]:
        constant = const_value(arg)
        self.expression(arg)
        check_types(self.sink, arg)
        if constant is None:
            if kind in _ROUTE_KINDS or kind in ("Lit", "Location", "Subst"):
                self.sink.error("K0304", arg.span, f"{decl.name}() wants a constant here")
            if kind == "PvArg" and isinstance(arg, n.PvRef):
                spec = self.spec(arg.text, arg.span, script=True)
                return ("pv", spec)
            return ("expr", arg)
        handler = getattr(self, f"_arg_{kind}", None)
        if handler is not None:
            result: tuple[str, Any] = handler(decl, constant, arg)
            return result
        if kind in _ROUTE_KINDS:
            return self._arg_route(decl, *_ROUTE_KINDS[kind], str(constant), arg)
        return ("const", str(constant))

    def _fmt(self, text: str, span: Span) -> tuple[str, Any]:
        pieces = self.format(text, span)
        return ("const", text) if pieces is None else ("fmt", pieces)

    def _arg_Value(self, decl: FunctionDecl, constant: int | str, arg: n.Expr) -> tuple[str, Any]:
        return ("const", constant)

    def _arg_int(self, decl: FunctionDecl, constant: int | str, arg: n.Expr) -> tuple[str, Any]:
        if isinstance(constant, int):
            return ("const", constant)
        if "$" in constant:
            return self._fmt(constant, arg.span)
        from kamc.declare.values import parse_int

        number = parse_int(constant.strip()) if constant.strip() else None
        if number is None:
            self.sink.error("K0304", arg.span, f"{decl.name}() wants a number, not {constant!r}")
            return ("const", 0)
        return ("const", number)

    def _arg_str(self, decl: FunctionDecl, constant: int | str, arg: n.Expr) -> tuple[str, Any]:
        text = str(constant)
        return self._fmt(text, arg.span) if "$" in text else ("const", text)

    _arg_Lazy = _arg_str

    def _arg_Flag(self, decl: FunctionDecl, constant: int | str, arg: n.Expr) -> tuple[str, Any]:
        if isinstance(constant, str) and constant in self.unit.flags:
            return ("const", self.unit.flags[constant])
        return self._arg_int(decl, constant, arg)

    def _arg_Regex(self, decl: FunctionDecl, constant: int | str, arg: n.Expr) -> tuple[str, Any]:
        text = str(constant)
        if text.startswith("$"):
            return self._fmt(text, arg.span)
        self.regex(text, arg.span, icase=False)
        return ("regex", text)

    def _arg_Subst(self, decl: FunctionDecl, constant: int | str, arg: n.Expr) -> tuple[str, Any]:
        parts = split_subst(str(constant))
        if parts is None or parts[2].strip("gimsGIMS"):
            self.sink.error("K0304", arg.span, f"{decl.name}() wants /regex/replacement/flags")
        else:
            self.regex(parts[0], arg.span, icase=False)
            self._fmt(parts[1], arg.span)
        return ("const", str(constant))

    def _arg_PvArg(self, decl: FunctionDecl, constant: int | str, arg: n.Expr) -> tuple[str, Any]:
        text = str(constant)
        if not text.startswith("$"):
            self.sink.error("K0304", arg.span, f"{decl.name}() wants a variable, not {text!r}")
            return ("const", None)
        return ("pv", self.spec(text, arg.span))

    def _arg_route(self, decl: FunctionDecl, kind: str, prefix: str, name: str, arg: n.Expr) -> tuple[str, Any]:
        if name and name != "0" and "$" not in name:
            self.unit.route_uses.append((kind, prefix + name, arg.span))
            self.unit.edges.append(RouteEdge(self.route, kind, prefix + name, arg.span, decl.name))
        elif "$" in name:
            self.unit.route_uses.append((f"dynamic {kind}", "", arg.span))
        return ("route", name)
