"""Statements and route blocks → Python functions of one argument, ``ctx``.

A route function returns the code of its last action, as Kamailio does when a route falls off its end; None means that a ``break``
ended it. ``exit`` and ``drop`` are exceptions, so generated code reads like the cfg.
"""

from __future__ import annotations

import ast

from kamc import nodes as n
from kamc.analysis.types import const_value
from kamc.codegen.builder import call, compare, const, name, stamp, store, subscript
from kamc.codegen.constants import Constants, mangle
from kamc.codegen.expressions import ExpressionCompiler, attr_spec, mod_name
from kamc.errors import KamcBug
from kamc.source import Span

#: kinds of blocks by the words of Kamailio's log
_KEYWORDS = {"request": "request_route", "reply": "onreply_route", "failure": "failure_route", "branch": "branch_route", "onsend": "onsend_route", "event": "event_route"}
#: branches of one ``if`` in Python
LONG_CHAIN = 40
#: levels of blocks in one Python function; deeper ones become functions of their own
DEEP = 12


class RouteCompiler(ExpressionCompiler):
    """Compiles one route (all blocks of one kind and name) to a function definition."""

    loops = 0
    temporaries = 0
    #: the call right before the block that begins may have left an error
    error_fresh = False
    depth = 0
    #: in a function that stands for a block inside of a loop: ``break`` leaves that loop
    in_loop = False
    #: of the route, for who traces statements
    block_name = ""

    def function(self, identifier: str, blocks: list[n.RouteBlock]) -> ast.FunctionDef:
        span = blocks[0].span
        self.block_name = f"{_KEYWORDS.get(blocks[0].kind, blocks[0].kind)}=[{blocks[0].name or 'DEFAULT_ROUTE'}]"
        body: list[ast.stmt] = []
        statements = [s for block in blocks for s in block.body.body]
        self.block(statements, body, tail=True)
        return self._define(identifier, self._finish(body, span), span)

    def _define(self, identifier: str, body: list[ast.stmt], span: Span) -> ast.FunctionDef:
        args = ast.arguments(posonlyargs=[], args=[ast.arg(arg="ctx")], kwonlyargs=[], kw_defaults=[], defaults=[])
        node = ast.FunctionDef(name=identifier, args=args, body=body, decorator_list=[])
        stamp(node, span)
        return node

    @staticmethod
    def _finish(body: list[ast.stmt], span: Span) -> list[ast.stmt]:
        if not body or not isinstance(body[-1], ast.Return | ast.Raise):
            last = ast.Return(value=const(1))
            stamp(last, span)
            body.append(last)
        return body

    def compile_block(self, e: n.BlockExpr) -> str:
        """``{ actions }`` as an operand: a function of its own before the route."""
        identifier = f"block_{len(self.constants.by_name)}_{len(self.blocks)}"
        self.constants.by_name[identifier] = ""
        body: list[ast.stmt] = []
        loops, self.loops, depth, self.depth, in_loop, self.in_loop = self.loops, 0, self.depth, 0, self.in_loop, False
        self.block(list(e.body.body), body, tail=True)
        self.loops, self.depth, self.in_loop = loops, depth, in_loop
        self.blocks.append(self._define(identifier, self._finish(body, e.span), e.span))
        return identifier

    # -- statements ------------------------------------------------------------------------------------------------------

    def block(self, statements: list[n.Stmt], out: list[ast.stmt], *, tail: bool) -> None:
        real = [s for s in statements if not isinstance(s, n.Null)]
        if self.depth >= DEEP and real:
            self._deep_block(real, out, tail=tail)
            return
        self.depth += 1
        self._statements(real, out, tail=tail)
        self.depth -= 1

    def _deep_block(self, real: list[n.Stmt], out: list[ast.stmt], *, tail: bool) -> None:
        """Blocks that Python would nest too deeply."""
        self._own_function("deep", real, out, tail=tail)

    def _suspending(self, s: n.ExprStmt, rest: list[n.Stmt], out: list[ast.stmt], *, tail: bool) -> None:
        """A call that may set the run aside: it gets what follows in its block as a function, to go on with later. When it does not
        suspend, that function runs at once."""
        self.fallible = False
        node = self.raw_call(s.call)
        after: list[ast.stmt] = []
        identifier = self._own_function("rest", rest, after, tail=tail)
        for part in ast.walk(node):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
                part.keywords.append(ast.copy_location(ast.keyword(arg="rest", value=ast.copy_location(name(identifier), part)), part))
                break
        build: list[ast.stmt] = []
        self.guarded([ast.Expr(value=node)], build, [])
        for item in build:
            stamp(item, s.span)
        out.extend([*build, *after])

    def _error_of(self, e: n.Expr) -> str:
        """What a call has to do with the last error: leaves, reads, or nothing."""
        resolved = self.unit.calls.get(id(e)) if isinstance(e, n.Call) else None
        return resolved.decl.error if resolved is not None and resolved.decl is not None else ""

    def _leaves_error(self, e: n.Expr) -> bool:
        """Whether the last thing that an expression does may leave an error for the statement behind it."""
        match e:
            case n.Paren():
                return self._leaves_error(e.inner)
            case n.Unary():
                return self._leaves_error(e.operand)
            case n.Binary():
                return self._leaves_error(e.left) or self._leaves_error(e.right)
            case n.RouteCall():
                return True
        return self._error_of(e) == "leaves"

    def _suspends(self, s: n.Stmt) -> bool:
        resolved = self.unit.calls.get(id(s.call)) if isinstance(s, n.ExprStmt) and isinstance(s.call, n.Call) else None
        return resolved is not None and resolved.decl is not None and resolved.decl.suspends

    def _own_function(self, prefix: str, real: list[n.Stmt], out: list[ast.stmt], *, tail: bool) -> str:
        """Statements as a function that tells how it was left, and its call. Returns its name."""
        span = real[0].span
        identifier = f"{prefix}_{len(self.constants.by_name)}_{len(self.blocks)}"
        self.constants.by_name[identifier] = ""
        depth, loops, in_loop = self.depth, self.loops, self.in_loop
        self.depth, self.loops, self.in_loop = 0, 0, bool(loops or in_loop)
        tail = tail and not self.in_loop
        body: list[ast.stmt] = []
        self._statements(real, body, tail=tail)
        self.depth, self.loops, self.in_loop = depth, loops, in_loop
        if tail:
            self.blocks.append(self._define(identifier, self._finish(body, span), span))
            out.append(ast.Return(value=call(identifier, name("ctx"))))
        else:
            self.helpers |= {"FELL", "BROKE"}
            body.append(ast.Return(value=name("FELL")))
            self.blocks.append(self._define(identifier, body, span))
            self.temporaries += 1
            left = f"left_{self.temporaries}"
            out.append(ast.Assign(targets=[store(left)], value=call(identifier, name("ctx"))))
            if loops:
                out.append(ast.If(test=compare(name(left), ast.Is(), name("BROKE")), body=[ast.Break()], orelse=[]))
            out.append(ast.If(test=compare(name(left), ast.IsNot(), name("FELL")), body=[ast.Return(value=name(left))], orelse=[]))
        for node in out:
            stamp(node, span)
        return identifier

    def _statements(self, real: list[n.Stmt], out: list[ast.stmt], *, tail: bool) -> None:
        fresh, self.error_fresh = self.error_fresh, False
        for index, statement in enumerate(real):
            if not fresh and isinstance(statement, n.ExprStmt) and self._error_of(statement.call) == "reads":
                old: ast.stmt = ast.Expr(value=call("ctx.forget", const("error_reply")))
                stamp(old, statement.span)
                out.append(old)
            if self.unit.tracer:
                self._trace(statement, out)
            fresh = isinstance(statement, n.ExprStmt) and self._leaves_error(statement.call)
            if self._suspends(statement) and index < len(real) - 1 and isinstance(statement, n.ExprStmt):
                self._suspending(statement, real[index + 1 :], out, tail=tail)
                return
            self.statement(statement, out, tail=tail and index == len(real) - 1)
        if not out:
            out.append(ast.Pass())

    def _trace(self, s: n.Stmt, out: list[ast.stmt]) -> None:
        """Tell the tracing module what comes."""
        kind, action = _action(s)
        node: ast.stmt = ast.Expr(value=call(f"{mod_name(self.unit.tracer)}.trace", name("ctx"), const(self.block_name), const(s.span.file.name),
                                             const(s.span.line), const(kind), const(action)))  # fmt: skip
        stamp(node, s.span)
        out.append(node)

    def statement(self, s: n.Stmt, out: list[ast.stmt], *, tail: bool) -> None:
        before = len(out)
        match s:
            case n.ExprStmt():
                self.call_statement(s, out, tail=tail)
            case n.Assign():
                self.assign(s, out)
            case n.Control():
                self.control(s, out)
            case n.If():
                self.if_(s, out, tail=tail)
            case n.While():
                self.while_(s, out)
            case n.Switch():
                self.switch(s, out)
            case _:
                raise KamcBug(type(s).__name__)
        for node in out[before:]:
            stamp(node, s.span)

    def guarded(self, build: list[ast.stmt], out: list[ast.stmt], failed: list[ast.stmt]) -> None:
        """Wrap statements in ``try`` when something in them can fail."""
        if not self.fallible:
            out.extend(build)
            return
        self.fallible = False
        self.helpers.add("EvalError")
        report = ast.Expr(value=call("ctx.failed", name("error")))
        handler = ast.ExceptHandler(type=name("EvalError"), name="error", body=[report, *failed])
        out.append(ast.Try(body=build, handlers=[handler], orelse=[], finalbody=[]))

    def call_statement(self, s: n.ExprStmt, out: list[ast.stmt], *, tail: bool) -> None:
        self.fallible = False
        if isinstance(s.call, n.BlockExpr):
            node: ast.expr = call(self.compile_block(s.call), name("ctx"))
        else:
            node = self.raw_call(s.call)
        statement: ast.stmt = ast.Return(value=node) if tail and not self.loops else ast.Expr(value=node)
        stamp(statement, s.span)
        self.guarded([statement], out, [])

    def assign(self, s: n.Assign, out: list[ast.stmt]) -> None:
        self.fallible = False
        spec = self.spec_of(s.target) if isinstance(s.target, n.PvRef) else attr_spec(s.target.text if isinstance(s.target, n.AttrRef) else "")
        value, kind = self.script_value(s.value)
        if self.is_slot(spec):
            if kind not in ("int", "str"):
                slot = isinstance(value, ast.Subscript) or (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "add")
                value = value if slot else self.helper("zero", value)
            statement: ast.stmt = ast.Assign(targets=[subscript("V", spec.inner or "", store=True)], value=value)
        else:
            statement = ast.Expr(value=self.assigned(spec, s.value, value))
        stamp(statement, s.span)
        self.guarded([statement], out, [])

    def control(self, s: n.Control, out: list[ast.stmt]) -> None:
        self.fallible = False
        if s.kind == "break":
            if self.loops:
                out.append(ast.Break())
            elif self.in_loop:
                self.helpers.add("BROKE")
                out.append(ast.Return(value=name("BROKE")))
            else:
                out.append(ast.Return(value=const(None)))
            return
        if s.kind == "return":
            value: ast.expr = const(1)
            if s.value is not None:
                value = self.as_int(self.value(s.value))
            self.guarded([ast.Return(value=value)], out, [ast.Return(value=const(-1))])
            return
        if s.value is not None and const_value(s.value) is None:
            self.guarded([ast.Expr(value=self.value(s.value)[0])], out, [])
        exception = "Drop" if s.kind == "drop" else "Exit"
        self.helpers.add(exception)
        out.append(ast.Raise(exc=name(exception), cause=None))

    def condition(self, e: n.Expr, out: list[ast.stmt], span: Span, *, loop: bool = False) -> ast.expr:
        """The test of an ``if`` or ``while``; one that can fail is computed before, and failing is false."""
        self.fallible = False
        # Kamailio 5.6 goes on with a loop while the value is not zero
        test = self.nonzero(e) if loop and self.unit.compat == "5.6" else self.test(e)
        if not self.fallible:
            return test
        self.temporaries += 1
        variable = f"test_{self.temporaries}"
        build: list[ast.stmt] = [ast.Assign(targets=[store(variable)], value=test)]
        for node in build:
            stamp(node, span)
        self.guarded(build, out, [ast.Assign(targets=[store(variable)], value=const(False))])
        return name(variable)

    def if_(self, s: n.If, out: list[ast.stmt], *, tail: bool) -> None:
        rest = _chain(s)
        if len(rest) > LONG_CHAIN:
            self._long_chain([s, *rest], out, tail=tail)
            return
        self._if(s, out, tail=tail)

    def _long_chain(self, branches: list[n.If], out: list[ast.stmt], *, tail: bool) -> None:
        """Python nests ``elif`` like ``else``, and only so deep: pieces, each of which runs when none before it was taken."""
        previous = ""
        for at in range(0, len(branches), LONG_CHAIN):
            last = at + LONG_CHAIN >= len(branches)
            self.temporaries += 1
            flag = f"else_{self.temporaries}"
            piece: list[ast.stmt] = []
            tests = branches[at : at + LONG_CHAIN]
            self._if(tests[0], piece, tail=tail and not self.loops, upto=tests[-1], other=None if last else flag)
            if not last:
                start: ast.stmt = ast.Assign(targets=[store(flag)], value=const(False))
                stamp(start, branches[at].span)
                out.append(start)
            if previous:
                out.append(ast.If(test=name(previous), body=piece, orelse=[]))
            else:
                out.extend(piece)
            previous = flag

    def _if(self, s: n.If, out: list[ast.stmt], *, tail: bool, upto: n.If | None = None, other: str | None = None) -> None:
        """One ``if``. Of a chain that is cut, branches up to ``upto``; ``other`` is the flag that says that none of them was taken."""
        test = self.condition(s.test, out, s.test.span)
        body: list[ast.stmt] = []
        orelse: list[ast.stmt] = []
        tail = tail and not self.loops
        self.error_fresh = self._leaves_error(s.test)
        self.block(list(s.then.body), body, tail=tail)
        if s is upto and other is not None:
            taken: ast.stmt = ast.Assign(targets=[store(other)], value=const(True))
            stamp(taken, s.span)
            orelse.append(taken)
        elif s.orelse is not None and upto is not None and s is not upto:
            inner = s.orelse.body[0]
            if not isinstance(inner, n.If):
                raise KamcBug("a chain of else-if with a gap")
            self._if(inner, orelse, tail=tail, upto=upto, other=other)
            for node in orelse:
                stamp(node, inner.span)
        elif s.orelse is not None:
            self.error_fresh = self._leaves_error(s.test)
            self.block(list(s.orelse.body), orelse, tail=tail)
        self.error_fresh = False
        out.append(ast.If(test=test, body=body, orelse=orelse))

    def while_(self, s: n.While, out: list[ast.stmt]) -> None:
        body: list[ast.stmt] = []
        test = self.condition(s.test, body, s.test.span, loop=True)
        stop = ast.If(test=ast.UnaryOp(op=ast.Not(), operand=test), body=[ast.Break()], orelse=[])
        stamp(stop, s.test.span)
        body.append(stop)
        self.loops += 1
        inner: list[ast.stmt] = []
        self.block(list(s.body.body), inner, tail=False)
        self.loops -= 1
        body.extend(inner)
        limit = ast.Expr(value=call("ctx.loop_limit"))
        loop = ast.For(target=store("_"), iter=call("range", name("MAX_WHILE_LOOPS")), body=body, orelse=[limit])
        self.helpers.add("MAX_WHILE_LOOPS")
        out.append(loop)

    # -- switch ----------------------------------------------------------------------------------------------------------

    def switch(self, s: n.Switch, out: list[ast.stmt]) -> None:
        self.fallible = False
        self.temporaries += 1
        variable = f"case_{self.temporaries}"
        labels = [c for c in s.cases if c.value is not None]
        integers = bool(labels) and not any(c.regex for c in labels) and isinstance(const_value(labels[0].value), int)  # type: ignore[arg-type]
        typed = self.value(s.value)
        value = self.as_int(typed) if integers else self.as_str(typed)
        build: list[ast.stmt] = [ast.Assign(targets=[store(variable)], value=value)]
        for node in build:
            stamp(node, s.value.span)
        self.guarded(build, out, [ast.Assign(targets=[store(variable)], value=const(None))])
        bodies = [list(c.body) for c in s.cases]
        if all(self._closed(b, last=i == len(bodies) - 1) for i, b in enumerate(bodies)):
            self._switch_chain(s, variable, out)
        else:
            self._switch_general(s, variable, out)

    @staticmethod
    def _ends(body: list[n.Stmt]) -> bool:
        real = [s for s in body if not isinstance(s, n.Null)]
        return bool(real) and isinstance(real[-1], n.Control)

    def _closed(self, body: list[n.Stmt], *, last: bool) -> bool:
        """Whether a case neither falls through nor breaks from its middle."""
        real = [s for s in body if not isinstance(s, n.Null)]
        head = real[:-1] if real and isinstance(real[-1], n.Control) and real[-1].kind == "break" else real
        return (last or not real or self._ends(body)) and not any(_breaks(s) for s in head)

    def _label_test(self, case: n.Case, variable: str) -> ast.expr:
        if case.value is None:
            raise KamcBug("default has no test")
        constant = const_value(case.value)
        if case.regex:
            test: ast.expr = call(self.regex(str(constant), icase=False), name(variable))
        else:
            test = compare(name(variable), ast.Eq(), const(constant))
        stamp(test, case.span)
        return test

    def _groups(self, s: n.Switch) -> list[tuple[list[n.Case], list[n.Stmt]]]:
        """Labels that share a body: an empty case joins the next one."""
        groups: list[tuple[list[n.Case], list[n.Stmt]]] = []
        pending: list[n.Case] = []
        for case in s.cases:
            pending.append(case)
            if any(not isinstance(b, n.Null) for b in case.body):
                groups.append((pending, list(case.body)))
                pending = []
        if pending:
            groups.append((pending, []))
        return groups

    def _switch_chain(self, s: n.Switch, variable: str, out: list[ast.stmt]) -> None:
        """No case falls through: an if/elif chain, the default last."""
        default: list[ast.stmt] = []
        chain: list[tuple[ast.expr, list[ast.stmt]]] = []
        seen_default: list[n.Stmt] | None = None
        for cases, statements in self._groups(s):
            if statements and isinstance(statements[-1], n.Control) and statements[-1].kind == "break":
                statements = statements[:-1]
            if any(c.value is None for c in cases):
                seen_default = statements
                cases = [c for c in cases if c.value is not None]
                if not cases:
                    continue
            tests = [self._label_test(c, variable) for c in cases]
            body: list[ast.stmt] = []
            self.block(statements, body, tail=False)
            chain.append((tests[0] if len(tests) == 1 else ast.BoolOp(op=ast.Or(), values=tests), body))
        if seen_default is not None:
            self.block(seen_default, default, tail=False)
        result = default
        for test, body in reversed(chain):
            node = ast.If(test=test, body=body, orelse=result)
            stamp(node, s.span)
            result = [node]
        out.extend(result)

    def _switch_general(self, s: n.Switch, variable: str, out: list[ast.stmt]) -> None:
        """Cases that fall through: find the entry, then run the bodies from there inside a loop that runs once."""
        entry = f"{variable}_at"
        chosen: list[ast.stmt] = [ast.Assign(targets=[store(entry)], value=const(len(s.cases)))]
        for index, case in enumerate(s.cases):
            if case.value is None:
                chosen = [ast.Assign(targets=[store(entry)], value=const(index))]
        for index in range(len(s.cases) - 1, -1, -1):
            case = s.cases[index]
            if case.value is not None:
                assign: list[ast.stmt] = [ast.Assign(targets=[store(entry)], value=const(index))]
                chosen = [ast.If(test=self._label_test(case, variable), body=assign, orelse=chosen)]
        out.extend(chosen)
        body: list[ast.stmt] = []
        self.loops += 1
        for index, case in enumerate(s.cases):
            inner: list[ast.stmt] = []
            self.block(list(case.body), inner, tail=False)
            node = ast.If(test=compare(name(entry), ast.LtE(), const(index)), body=inner, orelse=[])
            stamp(node, case.span)
            body.append(node)
        self.loops -= 1
        out.append(ast.For(target=store("_"), iter=call("range", const(1)), body=body, orelse=[]))


def _action(s: n.Stmt) -> tuple[int, str]:
    """The number and the name of an action, as module debugger of Kamailio shows them; 0 for functions of the core."""
    match s:
        case n.Assign():
            return 63, "assign"
        case n.If():
            return 16, "if"
        case n.While():
            return 23, "while"
        case n.Switch():
            return 21, "switch"
        case n.Control():
            return 2, s.kind
        case n.ExprStmt(call=n.RouteCall()):
            return 5, "route"
        case n.ExprStmt(call=n.Call(name=called, args=args)):
            return 24 + len(args), called
        case n.ExprStmt(call=n.CoreCall(name=called)):
            return 0, called
    return 0, ""


def _chain(s: n.If) -> list[n.If]:
    """The ``else if`` that follow an ``if``."""
    out: list[n.If] = []
    while s.orelse is not None and len(s.orelse.body) == 1 and isinstance(s.orelse.body[0], n.If):
        s = s.orelse.body[0]
        out.append(s)
    return out


def _breaks(s: n.Stmt) -> bool:
    """Whether a ``break`` inside would leave the enclosing switch."""
    match s:
        case n.Control():
            return s.kind == "break"
        case n.If():
            return any(_breaks(x) for x in s.then.body) or (s.orelse is not None and any(_breaks(x) for x in s.orelse.body))
    return False


def function_name(kind: str, route_name: str | None) -> str:
    """The Python name of a route block."""
    if kind == "request":
        return f"route_{mangle(route_name)}" if route_name else "request_route"
    if kind == "reply":
        return f"onreply_route_{mangle(route_name)}" if route_name else "reply_route"
    return f"{kind}_route_{mangle(route_name)}" if route_name else f"{kind}_route"




__all__ = ["Constants", "RouteCompiler", "function_name"]
