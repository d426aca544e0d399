"""Second pass: everything inside route blocks. Calls, their arguments, variables, static types, constant patterns, switches.

A resolved argument is (kind, payload):

``const``   a Python value            ``expr``    an expression, converted to int or str by the declared kind
``fmt``     pieces of a format string ``regex``   a constant pattern
``pv``      a PvSpec                  ``route``   a block name
"""

from __future__ import annotations

import difflib
import ipaddress
from itertools import takewhile
from typing import Any

from kamc import catalogue
from kamc import nodes as n
from kamc.analysis.items import registry_at
from kamc.analysis.types import check_types, const_value, is_constant
from kamc.analysis.unit import ResolvedCall, Route, Unit
from kamc.declare.module import FunctionDecl
from kamc.declare.pvspec import PvSpec, PvSyntaxError, parse_format, parse_pv, read_pv, specs_of
from kamc.declare.regex import RegexError, compile_regex
from kamc.declare.routes import Routes, block_mask
from kamc.preprocess import split_subst
from kamc.registry import Registry
from kamc.source import Span

_ROUTE_KINDS = {"FailureRoute": "failure", "BranchRoute": "branch", "ReplyRoute": "reply", "EventRoute": "event"}
_ONSEND_CORE = frozenset({"setflag", "resetflag", "isflagset", "log", "set_forward_no_connect", "set_reply_no_connect", "set_forward_close", "set_reply_close"})


def check_blocks(unit: Unit) -> None:
    for route in unit.routes.values():
        for block in route.blocks:
            BlockChecker(unit, route, block).run()


class BlockChecker:
    """Checks one block. ``mask`` is the kind of the block: a function fits when its mask shares a bit."""

    def __init__(self, unit: Unit, route: Route, block: n.RouteBlock) -> None:
        self.unit, self.route, self.block = unit, route, block
        self.sink = unit.sink
        self.registry: Registry = registry_at(unit, block)
        self.mask = block_mask(block.kind, block.name)
        #: Kamailio makes its shared variables with the first modparam or when the first block is read whole
        self.before_shared = not any(isinstance(i, n.ModParam | n.RouteBlock) for i in takewhile(lambda i: i is not block, unit.cfg.items))

    def run(self) -> None:
        self.statements(self.block.body.body)

    # -- statements ------------------------------------------------------------------------------------------------------

    def statements(self, body: tuple[n.Stmt, ...]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, s: n.Stmt) -> None:
        match s:
            case n.ExprStmt():
                self.expression(s.call)
            case n.Assign():
                self.assign(s.target, s.value)
            case n.If():
                before = len(self.sink.items)
                self.expression(s.test)
                check_types(self.sink, s.test)
                self.statements(s.then.body)
                if s.orelse is not None:
                    self.statements(s.orelse.body)
                self._note_seen(before, s)
            case n.While():
                before = len(self.sink.items)
                self.expression(s.test)
                check_types(self.sink, s.test)
                self.statements(s.body.body)
                self._note_seen(before, s)
            case n.Switch():
                before = len(self.sink.items)
                self.switch(s)
                self._note_seen(before, s)
            case n.Control():
                if s.value is not None:
                    self.expression(s.value)
                    check_types(self.sink, s.value)

    def _note_seen(self, before: int, s: n.If | n.While | n.Switch) -> None:
        """Kamailio names the line where it finished reading a compound statement: say so, for those who compare."""
        if s.seen is None or s.seen.line == s.span.line:
            return
        for index in range(before, len(self.sink.items)):
            d = self.sink.items[index]
            if d.span is not None and d.span.file is s.seen.file and not any("Kamailio" in note for note in d.notes):
                from dataclasses import replace

                note = f"Kamailio reports this where the statement ends, at {s.seen.where()}; it begins at {s.span.where()}"
                self.sink.items[index] = replace(d, notes=(*d.notes, note))

    def assign(self, target: n.Expr, value: n.Expr) -> None:
        if isinstance(target, n.PvRef):
            spec = self.pv_ref(target)
            if spec is not None:
                self.check_writable(spec, target.span)
        elif isinstance(target, n.AttrRef):
            self.expression(target)
        self.expression(value)
        check_types(self.sink, value)

    def check_writable(self, spec: PvSpec, span: Span) -> None:
        decl = self.pv_decl(spec.name)
        if spec.transformations:
            self.sink.error("K0502", span, f"{spec.text} has a transformation and cannot be assigned")
        elif decl is not None and decl.writable is None:
            self.sink.error("K0502", span, f"{spec.text} is read-only")

    def switch(self, s: n.Switch) -> None:
        self.expression(s.value)
        check_types(self.sink, s.value)
        seen: dict[Any, Span] = {}
        kinds: set[str] = set()
        defaults = 0
        for case in s.cases:
            if case.value is None:
                defaults += 1
                if defaults > 1:
                    self.sink.error("K0603", case.span, "a switch has one default")
            else:
                self.case_label(s, case, seen, kinds)
            self.statements(case.body)
        if not s.cases:
            self.sink.warning("K0603", s.span, "switch without cases")

    def case_label(self, s: n.Switch, case: n.Case, seen: dict[Any, Span], kinds: set[str]) -> None:
        value = case.value
        if value is None:
            return
        if not is_constant(value):
            self.sink.error("K0603", value.span, "a case label has to be constant")
            return
        constant = const_value(value)
        if constant is None:
            check_types(self.sink, value)
            return
        kinds.add("int" if isinstance(constant, int) else "str")
        if case.regex:
            self.regex(str(constant), value.span)
        elif constant in seen:
            line, column = s.span.end_position
            note = f"Kamailio reports this where the switch ends, at {s.span.file.name}:{line}:{column}"
            self.sink.error("K0603", value.span, f"label {constant!r} stands twice", hint=f"first at {seen[constant].where()}", notes=(note,))
        seen[constant if not case.regex else ("re", constant)] = value.span
        if len(kinds) > 1:
            self.sink.error("K0603", value.span, "numbers and texts do not mix in one switch")

    # -- expressions -----------------------------------------------------------------------------------------------------

    def expression(self, e: n.Node) -> None:
        match e:
            case n.Call():
                self.call(e)
            case n.CoreCall():
                self.core_call(e)
            case n.RouteCall():
                self.route_call(e)
            case n.PvRef():
                self.pv_ref(e)
            case n.AssignExpr():
                self.assign(e.target, e.value)
            case n.BlockExpr():
                self.statements(e.body.body)
            case n.Binary():
                self.expression(e.left)
                self.expression(e.right)
                if e.op == "=~" and is_constant(e.right):
                    pattern = const_value(e.right)
                    if isinstance(pattern, str):
                        self.regex(pattern, e.right.span)
            case n.CoreTest():
                self.core_test(e)
            case n.Unary():
                self.expression(e.operand)
                if e.op == "defined" and isinstance(const_value(e.operand), int):
                    self.sink.error("K0601", e.span, "'defined' of a number has no meaning")
            case n.Paren():
                self.expression(e.inner)
            case n.Selval():
                for part in (e.test, e.then, e.orelse):
                    self.expression(part)
            case n.SelectRef():
                self.select(e)

    def select(self, e: n.SelectRef) -> None:
        if e.text.startswith("@cfg_get."):
            self.custom_var(e.text[len("@cfg_get.") :], e.span)

    def custom_var(self, path: str, span: Span) -> None:
        group, _, name = path.partition(".")
        name = name.split("[")[0]
        known = {(v.group, v.name) for v in self.unit.custom}
        if (group, name) not in known and name not in catalogue.core()["cfg_groups"].get(group, {}):
            close = difflib.get_close_matches(f"{group}.{name}", [f"{g}.{v}" for g, v in known], 1)
            self.sink.error("K0702", span, f"unknown custom variable {path}", hint=f"did you mean {close[0]}?" if close else None)

    def core_test(self, e: n.CoreTest) -> None:
        if isinstance(e.right, n.CoreValue) and e.right.kind == "net":
            try:
                ipaddress.ip_network(e.right.text, strict=False)
            except ValueError:
                self.sink.error("K0605", e.right.span, f"{e.right.text} is no network")
        if e.keyword in ("snd_ip", "to_ip") and self.block.kind != "onsend":
            self.sink.error("K0112", e.span, f"'{e.keyword}' is known in onsend_route only")
        if isinstance(e.right, n.Expr):
            self.expression(e.right)
            constant = const_value(e.right)
            if e.op == "=~" and isinstance(constant, str):
                self.regex(constant, e.right.span)

    def regex(self, pattern: str, span: Span, *, icase: bool = True) -> None:
        try:
            compile_regex(pattern, icase)
        except RegexError as err:
            self.sink.error("K0602", span, f"bad regular expression: {err}")

    def route_call(self, e: n.RouteCall) -> None:
        if e.word is not None:
            self.unit.route_uses.append(("request", e.word, e.span))
            return
        target = e.target
        if target is None:
            return
        self.expression(target)
        constant = const_value(target)
        if constant is None:
            self.unit.route_uses.append(("dynamic", "", e.span))
        else:
            self.unit.route_uses.append(("request", str(constant), e.span))

    # -- calls -----------------------------------------------------------------------------------------------------------

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
        fitting = [d for d in decls if d.accepts(len(e.args))]
        if not fitting:
            self.unknown_call(e, decls)
            return
        allowed = [d for d in fitting if d.routes & self.mask]
        if not allowed:
            names = ", ".join(str(r.name) for r in Routes if r in fitting[0].routes and r is not Routes.ANY and r is not Routes.ONREPLY)
            self.sink.error("K0301", e.span, f"'{e.name}' cannot be used here", label=f"in {self.route.label}", notes=(f"allowed in {names}",))
            return
        decl = allowed[0]
        self.unit.dated("functions", e.name, e.span, decl.module)
        self.const_rule(e, decl)
        args = tuple(self.argument(decl, kind, arg) for kind, arg in zip(decl.args, e.args, strict=False))
        check = getattr(self._module_of(decl.module), f"check_call_{decl.method}", None)
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
        self.sink.error("K0302", e.span, f"unknown function {e.name}()", hint=self.registry.suggest_function(e.name))

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
        if constant is None:
            check_types(self.sink, arg)
            if kind in _ROUTE_KINDS or kind in ("Lit", "Subst"):
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
            return self._arg_route(_ROUTE_KINDS[kind], str(constant), arg)
        return ("const", str(constant))

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

    def _arg_route(self, kind: str, name: str, arg: n.Expr) -> tuple[str, Any]:
        if name and name != "0" and "$" not in name:
            self.unit.route_uses.append((kind, name, arg.span))
        return ("route", name)

    def _fmt(self, text: str, span: Span) -> tuple[str, Any]:
        try:
            pieces = parse_format(text)
        except PvSyntaxError as err:
            self.sink.error("K0504", span, f"in the text: {err}")
            return ("const", text)
        for spec in specs_of(pieces):
            self.check_spec(spec, span)
        return ("fmt", pieces)

    # -- variables -------------------------------------------------------------------------------------------------------

    def pv_ref(self, e: n.PvRef) -> PvSpec | None:
        return self.spec(e.text, e.span, script=True, compat=e.compat)

    def spec(self, text: str, span: Span, *, script: bool = False, compat: bool = False) -> PvSpec | None:
        try:
            if script:
                spec, end = read_pv(text, 0, script=True)
                if end != len(text):
                    raise PvSyntaxError(f"unexpected {text[end:]!r}", end)
            else:
                spec = parse_pv(text)
        except PvSyntaxError as err:
            self.sink.error("K0504", span, f"bad variable {text}: {err}")
            return None
        for inner in specs_of((spec,)):
            self.check_spec(inner, span, compat=compat)
        return spec

    def pv_decl(self, name: str) -> Any:
        for module in self.registry.implemented():
            decl = module.declarations().pvs.get(name)
            if decl is not None:
                return decl
        return None

    def check_spec(self, spec: PvSpec, span: Span, *, compat: bool = False) -> None:
        if spec.name == "sel" and (spec.inner or "").strip().startswith("cfg_get."):
            self.custom_var((spec.inner or "").strip()[len("cfg_get.") :], span)
        decl = self.pv_decl(spec.name)
        if spec.name == "shv" and self.before_shared:
            hint = 'set one module parameter before this block, say modparam("pv", "shvset", "name=i:0")'
            self.sink.error("K0504", span, f"{spec.text}: no shared variable can be named in the first block before any modparam", hint=hint)
        if decl is None:
            if compat and spec.inner is None and not spec.text.startswith("$("):
                return  # outside of KAMAILIO mode an unknown $name is an avp
            self.unknown_pv(spec, span)
            return
        if decl.inner == "required" and spec.inner is None:
            self.sink.error("K0504", span, f"${spec.name} needs a name in brackets")
        elif decl.inner == "none" and spec.inner is not None:
            self.sink.error("K0504", span, f"${spec.name} takes no name in brackets")
        check = getattr(self._module_of(decl.module), f"check_{decl.method}", None)
        problem = check(spec) if check is not None else None
        if problem:
            self.sink.error("K0504", span, f"{spec.text}: {problem}")
        for step in spec.transformations:
            self.check_transformation(step, span)

    def _module_of(self, name: str) -> Any:
        return next((m for m in self.registry.implemented() if m.name == name), None)

    def unknown_pv(self, spec: PvSpec, span: Span) -> None:
        rows = catalogue.pvs().get(spec.name, ())
        for module, _ in rows:
            if module == "core" or module in self.registry.loaded:
                self.unit.missing("K0505", span, f"variable ${spec.name} of {module} is not implemented by kamc")
                return
        if rows:
            self.sink.error("K0501", span, f"unknown variable ${spec.name}", hint=f'it comes from module {rows[0][0]}: loadmodule "{rows[0][0]}.so"')
            return
        known = [p for m in self.registry.implemented() for p in m.declarations().pvs]
        close = difflib.get_close_matches(spec.name, known, 1)
        self.sink.error("K0501", span, f"unknown variable ${spec.name}", hint=f"did you mean ${close[0]}?" if close else None)

    def check_transformation(self, step: Any, span: Span) -> None:
        decls = {name: d for m in self.registry.implemented() for name, d in m.declarations().transformations.items()}
        decl = decls.get(step.name)
        self.unit.dated("transformations", step.name, span)
        if decl is None:
            row = catalogue.core()["transformations"].get(step.name)
            if row is not None and row["module"] in self.registry.loaded:
                self.unit.missing("K0505", span, f"transformation {{{step.name}}} is not implemented by kamc")
                return
            close = difflib.get_close_matches(step.name, list(decls), 1)
            hint = f"it comes from module {row['module']}" if row else f"did you mean {{{close[0]}}}?" if close else None
            self.sink.error("K0503", span, f"unknown transformation {{{step.name}}}", hint=hint)
            return
        if not decl.required <= len(step.args) <= len(decl.args):
            self.sink.error("K0503", span, f"transformation {{{step.name}}} takes {decl.required} to {len(decl.args)} arguments, not {len(step.args)}")
            return
        check = getattr(self._module_of(decl.module), "check_transformation", None)
        problem = check(step, decl) if check is not None else None
        if problem:
            self.sink.error("K0503", span, f"transformation {{{step.name}}}: {problem}")
