"""How deep a configuration is nested. Later stages recurse over the tree, so its depth has a bound; real ones are far below it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kamc import nodes as n
from kamc.diagnostics import DiagnosticSink

#: blocks inside of blocks
MAX_NESTING: Final = 200
#: operators and brackets inside of one another; Python reads 200 brackets, and some of ours become two
MAX_INSIDE: Final = 90
#: branches of an ``else if`` chain, and operands of a chain of ``&&``, ``||`` or ``+``, none of which nest in Python
MAX_CHAIN: Final = 2000
#: Python frames that the passes need for that
_CHAINED: Final = frozenset({"&&", "||", "+"})
RECURSION: Final = 40_000


@contextmanager
def compiling() -> Iterator[None]:
    """For the length of a compile: a recursion limit as high as the bounds of :func:`check_depth` need it (the frames of Python functions
    take no C stack), and no garbage collector that walks the growing trees again and again."""
    before = sys.getrecursionlimit()
    collects = gc.isenabled()
    sys.setrecursionlimit(max(before, RECURSION))
    gc.disable()
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
        if collects:
            gc.enable()


def check_depth(cfg: n.CfgFile, sink: DiagnosticSink) -> bool:
    """Report what is nested beyond the bounds, once per block. True when nothing is."""
    fine = True
    for item in cfg.items:
        if isinstance(item, n.RouteBlock):
            found = _too_deep(item.body)
            if found is not None:
                node, what = found
                sink.error("K0114", node.span, what)
                fine = False
    return fine


def _too_deep(block: n.Block) -> tuple[n.Node, str] | None:
    todo: list[tuple[n.Node, int, int, int]] = [(block, 0, 0, 0)]
    while todo:
        node, blocks, inside, chain = todo.pop()
        if blocks > MAX_NESTING:
            return node, f"blocks are nested more than {MAX_NESTING} deep here"
        if inside > MAX_INSIDE:
            return node, f"the expression is nested more than {MAX_INSIDE} deep here"
        if chain > MAX_CHAIN:
            return node, f"the chain has more than {MAX_CHAIN} parts"
        match node:
            case n.If():
                todo.append((node.test, blocks, 0, 0))
                todo.append((node.then, blocks + 1, 0, 0))
                if node.orelse is not None:
                    chained = node.orelse.body[0] if len(node.orelse.body) == 1 else None
                    if isinstance(chained, n.If):
                        todo.append((chained, blocks, 0, chain + 1))
                    else:
                        todo.append((node.orelse, blocks + 1, 0, 0))
            case n.Binary():
                chains = isinstance(node.left, n.Binary) and node.left.op == node.op and node.op in _CHAINED
                todo.append((node.left, blocks, inside, chain + 1) if chains else (node.left, blocks, inside + 1, 0))
                todo.append((node.right, blocks, inside + 1, 0))
            case n.Expr():
                todo.extend((child, blocks, inside + 1, 0) for child in n.iter_child_nodes(node))
            case n.Block():
                todo.extend((child, blocks, 0, 0) for child in node.body)
            case _:
                deeper = isinstance(node, n.While | n.Case)
                todo.extend((child, blocks + deeper, 0, 0) for child in n.iter_child_nodes(node))
    return None
