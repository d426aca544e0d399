"""$xavp, $xavi and $xavu: trees of named values.

A name holds a list of values, newest first; a value is an int, a text, or a dict of such lists. $xavi ignores case in names; $xavu
holds one value per name.
"""

from __future__ import annotations

import re
from typing import Any

from kamc.declare import pv_class
from kamc.declare.pvspec import PvSpec, parse_pv
from kamc.declare.values import Value, to_int
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv, Getter
from stdlib_modules.pv.base import Vars

_INDEX = re.compile(r"-?[0-9]+\Z|\*\Z|\$")
Tree = dict[str, list[Any]]
_STEP = re.compile(r"([^=\[\]\s]+)(?:\[([^\]]*)\])?\Z")


class Step:
    """One name of a path with its index: None, a number, ``*`` or a variable."""

    __slots__ = ("get_index", "index", "name")

    def __init__(self, name: str, index: int | str | None, get_index: Getter | None) -> None:
        self.name, self.index, self.get_index = name, index, get_index

    def at(self, ctx: Ctx) -> int | str | None:
        return to_int(self.get_index(ctx)) if self.get_index is not None else self.index


class XavpVars(Vars):
    def _steps(self, text: str, fold: bool) -> list[Step]:
        steps = []
        for part in text.split("=>"):
            match = _STEP.match(part.strip())
            if match is None:
                raise ValueError(f"bad name {part!r}")
            name, index = match.groups()
            getter = None
            number: int | str | None = None
            if index is not None:
                index = index.strip()
                if index.startswith("$"):
                    getter = self.rt.bind(parse_pv(index)).get
                else:
                    number = "*" if index == "*" else int(index)
            steps.append(Step(name.lower() if fold else name, number, getter))
        return steps

    @classmethod
    def check_pv_xavp(cls, spec: PvSpec) -> str | None:
        for part in (spec.inner or "").split("=>"):
            match = _STEP.match(part.strip())
            if match is None:
                return f"bad name {part!r}"
            if match.group(2) is not None and not _INDEX.match(match.group(2).strip()):
                return f"the index is a number, * or a variable, not {match.group(2)!r}"
        return None

    check_pv_xavi = check_pv_xavu = check_pv_xavp

    @pv_class("xavp", set=True)
    def pv_xavp(self, spec: PvSpec) -> BoundPv:
        steps = self._steps(spec.inner or "", fold=False)
        return BoundPv(lambda ctx: self._read(ctx, "xavp", steps), lambda ctx, value: self._write(ctx, "xavp", steps, value))

    @pv_class("xavi", set=True)
    def pv_xavi(self, spec: PvSpec) -> BoundPv:
        steps = self._steps(spec.inner or "", fold=True)
        return BoundPv(lambda ctx: self._read(ctx, "xavi", steps), lambda ctx, value: self._write(ctx, "xavi", steps, value))

    @pv_class("xavu", set=True)
    def pv_xavu(self, spec: PvSpec) -> BoundPv:
        steps = self._steps(spec.inner or "", fold=False)

        def put(ctx: Ctx, value: Value) -> None:
            tree = self.tree(ctx, "xavu")
            for step in steps[:-1]:
                held = tree.get(step.name)
                if not held or not isinstance(held[0], dict):
                    tree[step.name] = held = [{}]
                tree = held[0]
            if value is None:
                tree.pop(steps[-1].name, None)
            else:
                tree[steps[-1].name] = [value]

        return BoundPv(lambda ctx: self._read(ctx, "xavu", steps), put)

    @staticmethod
    def tree(ctx: Ctx, kind: str) -> Tree:
        """The roots of a kind, by name."""
        found: Tree = ctx.xavps.setdefault(kind, {})
        return found

    @staticmethod
    def _pick(values: list[Any] | None, index: int | str | None) -> Any:
        if not values:
            return None
        at = 0 if index is None or index == "*" else int(index)
        return values[at] if -len(values) <= at < len(values) else None

    def _read(self, ctx: Ctx, kind: str, steps: list[Step]) -> Value:
        tree: Any = self.tree(ctx, kind)
        for number, step in enumerate(steps):
            if not isinstance(tree, dict):
                return None
            tree = self._pick(tree.get(step.name), step.at(ctx))
            if tree is None:
                return None
            if number == len(steps) - 1 and isinstance(tree, dict):
                if kind == "xavu":
                    return None
                return f"<<{'xavp' if kind == 'xavp' else kind}:{id(tree) & 0xFFFFFFFF:#x}>>"
        return tree  # type: ignore[no-any-return]

    def _write(self, ctx: Ctx, kind: str, steps: list[Step], value: Value) -> None:
        root = steps[0]
        tree = self.tree(ctx, kind)
        index = root.at(ctx)
        roots = tree.setdefault(root.name, [])
        if len(steps) == 1:
            self._write_leaf(roots, index, value)
        elif index is None and value is None:
            if roots and isinstance(roots[0], dict):
                self._write_path(ctx, roots[0], steps[1:], value)
        elif index is None:
            fresh: Tree = {}
            self._write_path(ctx, fresh, steps[1:], value)
            roots.insert(0, fresh)
        else:
            held = self._pick(roots, index)
            if isinstance(held, dict):
                self._write_path(ctx, held, steps[1:], value)
            else:
                self.rt.log.error("no $%s(%s[%s])", kind, root.name, index)
        if not tree[root.name]:
            del tree[root.name]

    def _write_path(self, ctx: Ctx, tree: Tree, steps: list[Step], value: Value) -> None:
        for step in steps[:-1]:
            held = self._pick(tree.setdefault(step.name, []), step.at(ctx))
            if not isinstance(held, dict):
                held = {}
                tree[step.name].insert(0, held)
            tree = held
        last = steps[-1]
        values = tree.setdefault(last.name, [])
        self._write_leaf(values, last.at(ctx), value)
        if not values:
            del tree[last.name]

    @staticmethod
    def _write_leaf(values: list[Any], index: int | str | None, value: Value) -> None:
        if index == "*":
            values.clear()
            if value is not None:
                values.append(value)
        elif value is None:
            at = 0 if index is None else int(index)
            if -len(values) <= at < len(values):
                del values[at]
        elif index is None:
            values.insert(0, value)
        else:
            at = int(index)
            if -len(values) <= at < len(values):
                values[at] = value
            elif not values and at == 0:
                values.append(value)

    def xavp_count(self, ctx: Ctx, spec: PvSpec) -> int:
        """How many values a name holds."""
        kind = spec.name
        steps = self._steps(spec.inner or "", fold=kind == "xavi")
        tree: Any = self.tree(ctx, kind)
        for step in steps[:-1]:
            tree = self._pick(tree.get(step.name), step.at(ctx)) if isinstance(tree, dict) else None
        return len(tree.get(steps[-1].name, ())) if isinstance(tree, dict) else 0
