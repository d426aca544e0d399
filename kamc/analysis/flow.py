"""What Kamailio says nothing about: statements that are never reached, assignments where a comparison was meant, texts that stay as they are."""

from __future__ import annotations

from kamc import nodes as n
from kamc.analysis.unit import Unit
from kamc.declare.pvspec import PvSyntaxError, parse_format, specs_of
from kamc.source import Span


def check_flow(unit: Unit) -> None:
    for route in unit.routes.values():
        for block in route.blocks:
            _unreachable(unit, block.body.body)
            for node in n.walk(block):
                match node:
                    case n.Block() if node is not block.body:
                        _unreachable(unit, node.body)
                    case n.Case():
                        _unreachable(unit, node.body)
                    case n.If() | n.While():
                        _assignments(unit, node.test)
                    case n.Assign():
                        _plain_text(unit, node.value)


def ends(statement: n.Stmt, kinds: tuple[str, ...] = ("exit", "drop", "return", "break")) -> bool:
    """Whether nothing after the statement in its list is ever reached."""
    match statement:
        case n.Control():
            return statement.kind in kinds
        case n.If():
            return statement.orelse is not None and _block_ends(statement.then, kinds) and _block_ends(statement.orelse, kinds)
    return False


def _block_ends(block: n.Block, kinds: tuple[str, ...]) -> bool:
    return any(ends(s, kinds) for s in block.body)


def _unreachable(unit: Unit, body: tuple[n.Stmt, ...]) -> None:
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
