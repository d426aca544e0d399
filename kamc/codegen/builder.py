"""Making Python ``ast`` nodes, each stamped with the cfg line and column that it stands for."""

from __future__ import annotations

import ast
from typing import Any

from kamc.source import Span


def name(identifier: str) -> ast.expr:
    """A name, or a dotted path."""
    first, *rest = identifier.split(".")
    node: ast.expr = ast.Name(id=first, ctx=ast.Load())
    for part in rest:
        node = ast.Attribute(value=node, attr=part, ctx=ast.Load())
    return node


def const(value: Any) -> ast.expr:
    return ast.Constant(value=value)


def call(target: str | ast.expr, *args: ast.expr) -> ast.Call:
    return ast.Call(func=name(target) if isinstance(target, str) else target, args=list(args), keywords=[])


def compare(left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.Compare:
    return ast.Compare(left=left, ops=[op], comparators=[right])


def subscript(target: str, key: str, *, store: bool = False) -> ast.Subscript:
    return ast.Subscript(value=name(target), slice=const(key), ctx=ast.Store() if store else ast.Load())


def store(identifier: str) -> ast.expr:
    node = name(identifier)
    node.ctx = ast.Store()  # type: ignore[attr-defined]
    return node


def expression(source: str) -> ast.expr:
    """Python text → expression, without positions."""
    node = ast.parse(source, mode="eval").body
    for inner in ast.walk(node):
        for attr in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
            if hasattr(inner, attr):
                delattr(inner, attr)
    return node


def stamp(node: ast.AST, span: Span) -> None:
    """Set the position of every node below that has none yet."""
    line, column = span.file.position(span.start)
    end_line, end_column = span.end_position
    if (end_line, end_column) < (line, column):
        end_line, end_column = line, column
    todo = [node]
    while todo:
        item = todo.pop()
        if isinstance(item, ast.expr | ast.stmt | ast.ExceptHandler | ast.arg) and not hasattr(item, "lineno"):
            item.lineno, item.col_offset, item.end_lineno, item.end_col_offset = line, column - 1, end_line, end_column - 1
        todo.extend(child for child in ast.iter_child_nodes(item) if not hasattr(child, "lineno") or isinstance(child, ast.arguments))
