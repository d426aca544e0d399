"""Second pass: everything inside route blocks. Statements and expressions are walked here; calls and variables have files of their own."""

from __future__ import annotations

import ipaddress
from typing import Any

from kamc import nodes as n
from kamc.analysis.calls import CallChecks
from kamc.analysis.types import check_types, const_value, is_constant
from kamc.analysis.unit import RouteEdge, Unit
from kamc.diagnostics import DiagnosticSink
from kamc.source import Span


def note_seen(sink: DiagnosticSink, before: int, s: n.If | n.While | n.Switch) -> None:
    """Kamailio names the line where it finished reading a compound statement: say so at the findings since ``before``, for those who
    compare."""
    if s.seen is None or s.seen.line == s.span.line:
        return
    for index in range(before, len(sink.items)):
        d = sink.items[index]
        if d.span is not None and d.span.file is s.seen.file and not any("Kamailio" in note for note in d.notes):
            sink.annotate(index, f"Kamailio reports this where the statement ends, at {s.seen.where()}; it begins at {s.span.where()}")


def check_statement_types(unit: Unit) -> None:
    """Operands that do not go together, without looking at functions or variables."""
    for route in unit.routes.values():
        for block in route.blocks:
            for node in n.walk(block):
                before = len(unit.sink.items)
                match node:
                    case n.If() | n.While():
                        check_types(unit.sink, node.test)
                        note_seen(unit.sink, before, node)
                    case n.Switch():
                        check_types(unit.sink, node.value)
                        note_seen(unit.sink, before, node)
                    case n.Assign() | n.AssignExpr():
                        check_types(unit.sink, node.value)
                    case n.Control() if node.value is not None:
                        check_types(unit.sink, node.value)


def check_blocks(unit: Unit) -> None:
    for route in unit.routes.values():
        for block in route.blocks:
            BlockChecker(unit, route, block).run()


class BlockChecker(CallChecks):
    """Checks one block."""

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
                note_seen(self.sink, before, s)
            case n.While():
                before = len(self.sink.items)
                self.expression(s.test)
                check_types(self.sink, s.test)
                self.statements(s.body.body)
                note_seen(self.sink, before, s)
            case n.Switch():
                before = len(self.sink.items)
                self.switch(s)
                note_seen(self.sink, before, s)
            case n.Control():
                if s.value is not None:
                    self.expression(s.value)
                    check_types(self.sink, s.value)

    def assign(self, target: n.Expr, value: n.Expr) -> None:
        if isinstance(target, n.PvRef):
            spec = self.pv_ref(target)
            if spec is not None:
                self.check_writable(spec, target.span)
        elif isinstance(target, n.AttrRef):
            self.expression(target)
        self.expression(value)
        check_types(self.sink, value)

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

    def route_call(self, e: n.RouteCall) -> None:
        if e.word is not None:
            self._use_route(e.word, e.name_span or e.span)
            return
        target = e.target
        if target is None:
            return
        self.expression(target)
        constant = const_value(target)
        if constant is None:
            self.unit.route_uses.append(("dynamic", "", e.span))
            self.unit.edges.append(RouteEdge(self.route, "request", None, e.span))
        else:
            self._use_route(str(constant), target.span)

    def _use_route(self, name: str, span: Span) -> None:
        self.unit.route_uses.append(("request", name, span))
        self.unit.edges.append(RouteEdge(self.route, "request", name, span))
