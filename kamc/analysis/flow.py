"""What Kamailio says nothing about: statements that are never reached, assignments where a comparison was meant, texts that stay as they are."""

from __future__ import annotations

from kamc import nodes as n
from kamc.analysis.unit import Unit
from kamc.declare.pvspec import PvSyntaxError, parse_format, specs_of
from kamc.source import Span


def check_flow(unit: Unit) -> None:
    ends = _Ends()
    for route in unit.routes.values():
        for block in route.blocks:
            _unreachable(unit, block.body.body, ends)
            for node in n.walk(block):
                match node:
                    case n.Block() if node is not block.body:
                        _unreachable(unit, node.body, ends)
                    case n.Case():
                        _unreachable(unit, node.body, ends)
                    case n.If() | n.While():
                        _assignments(unit, node.test)
                    case n.Assign():
                        _plain_text(unit, node.value)


class _Ends:
    """Whether nothing after a statement in its list is ever reached; remembered, since chains of ``else if`` are asked from every branch."""

    def __init__(self) -> None:
        self.known: dict[int, bool] = {}

    def __call__(self, statement: n.Stmt) -> bool:
        if isinstance(statement, n.Control):
            return True
        if not isinstance(statement, n.If) or statement.orelse is None:
            return False
        known = self.known.get(id(statement))
        if known is None:
            known = self.known[id(statement)] = self.block(statement.then) and self.block(statement.orelse)
        return known

    def block(self, block: n.Block) -> bool:
        return any(map(self, block.body))


def _unreachable(unit: Unit, body: tuple[n.Stmt, ...], ends: _Ends) -> None:
    for index, statement in enumerate(body):
        if not ends(statement):
            continue
        rest = [s for s in body[index + 1 :] if not isinstance(s, n.Null)]
        # a break that closes a case after an exit is habit, not a mistake
        if rest and not all(isinstance(s, n.Control) for s in rest) and not _switched(statement.span, rest[0].span):
            word = statement.kind if isinstance(statement, n.Control) else "both branches of the 'if'"
            unit.sink.warning("K0611", rest[0].span, "this is never reached", label="not reached",
                              notes=(f"{word} at {statement.span.where()} leaves before it",))  # fmt: skip
        return


def _switched(before: Span, after: Span) -> bool:
    """Whether a conditional stands between two statements: with other defines the second one may be reached."""
    return before.file is after.file and ("#!" in before.file.text[before.end : after.start] or "!!" in before.file.text[before.end : after.start])


def _assignments(unit: Unit, test: n.Node) -> None:
    for node in n.walk(test):
        if isinstance(node, n.AssignExpr):
            unit.sink.warning("K0610", node.span, "'=' assigns: this condition is always true", hint="'==' compares")


def _plain_text(unit: Unit, value: n.Expr) -> None:
    """A text in quotes is not evaluated: say so where it names a variable that there is."""
    if not isinstance(value, n.Str) or "$" not in value.value:
        return
    try:
        specs = specs_of(parse_format(value.value))
    except PvSyntaxError:
        return
    known = {name for m in unit.registry.implemented() for name in m.declarations().pvs}
    for spec in specs:
        if spec.name in known:
            at = value.value.find(spec.text)
            place: Span = value.span.part(value.value, at, at + len(spec.text))
            unit.sink.warning("K0613", place, f"{spec.text} in a text that is assigned stays as it is", hint="join with '+', or use $_s(...)")
            return
