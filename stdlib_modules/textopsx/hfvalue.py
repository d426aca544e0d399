"""Functions on single values of list headers: append, insert, remove, assign, include, exclude.

A value is named ``Header``, ``Header[2]`` (from 1, negative from the end), ``Header[*]``, ``Header.param`` or ``Header[2].param``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kamc.declare import Routes, function
from kamc.declare.argtypes import Lit
from kamc.runtime.context import Ctx
from kamc.runtime.sip.build import blank_line
from kamc.runtime.sip.headers import header_key
from kamc.runtime.sip.message import Header
from kamc.runtime.sip.uri import split_quoted

_FROB = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH
_NAME = re.compile(r"([A-Za-z0-9_-]+)(?:\[(-?\d+|\*)\])?(?:\.(?:param\.)?([A-Za-z0-9_+.-]+))?\Z")


@dataclass(frozen=True, slots=True)
class Target:
    key: str
    name: str
    index: int | str
    param: str | None


def parse_target(text: str, default: int | str) -> Target | None:
    match = _NAME.match(text.strip())
    if match is None:
        return None
    name, index, param = match.groups()
    number: int | str = default if index is None else "*" if index == "*" else int(index)
    return Target(header_key(name), name, number, param)


class HeaderValues:
    rt: Any

    @staticmethod
    def _values(ctx: Ctx, key: str) -> list[tuple[Header, list[str]]]:
        return [(h, [v.strip() for v in split_quoted(h[2], ",")]) for h in ctx.msg.all(key)]

    @staticmethod
    def _write(ctx: Ctx, header: Header, values: list[str]) -> None:
        ctx.edits = [e for e in ctx.edits if e[:2] != (header[3], header[4])]
        ctx.add_edit(header[3], header[4], f"{header[1]}: {', '.join(values)}\r\n" if values else "")

    def _place(self, ctx: Ctx, target: Target) -> tuple[Header, list[str], int] | None:
        """The header line, its values and the position of the one that is named."""
        flat = [(h, values, i) for h, values in self._values(ctx, target.key) for i in range(len(values))]
        index = int(target.index)
        at = index - 1 if index > 0 else index
        if index == 0 or not -len(flat) <= at < len(flat):
            return None
        return flat[at]

    def _add(self, ctx: Ctx, text: str, value: str, *, default: int, after: bool) -> int:
        target = parse_target(text, default)
        if target is None:
            return -1
        place = self._place(ctx, target) if target.index != "*" else None
        if place is None:
            at = ctx.msg.body_start - blank_line(ctx.msg)
            ctx.add_edit(at, at, f"{target.name}: {value}\r\n")
            return 1
        header, values, position = place
        values = list(values)
        values.insert(position + (1 if after else 0), value)
        self._write(ctx, header, values)
        return 1

    @function(_FROB)
    def append_hf_value(self, ctx: Ctx, hf: Lit, hvalue: str) -> int:
        return self._add(ctx, hf, hvalue, default=-1, after=True)

    @function(_FROB)
    def insert_hf_value(self, ctx: Ctx, hf: Lit, hvalue: str) -> int:
        return self._add(ctx, hf, hvalue, default=1, after=False)

    @function(_FROB, "remove_hf_value", "remove_hf_value2")
    def remove_hf_value(self, ctx: Ctx, hf_par: Lit) -> int:
        target = parse_target(hf_par, 1)
        if target is None:
            return -1
        if target.index == "*":
            found = self._values(ctx, target.key)
            for header, values in found:
                self._write(ctx, header, [_with_param(v, target.param, None) for v in values] if target.param else [])
            return 1 if found else -1
        place = self._place(ctx, target)
        if place is None:
            return -1
        header, values, position = place
        values = list(values)
        if target.param:
            values[position] = _with_param(values[position], target.param, None)
        else:
            del values[position]
        self._write(ctx, header, values)
        return 1

    @function(_FROB, "assign_hf_value", "assign_hf_value2")
    def assign_hf_value(self, ctx: Ctx, hf: Lit, hvalue: str) -> int:
        target = parse_target(hf, 1)
        if target is None:
            return -1
        if target.index == "*":
            found = self._values(ctx, target.key)
            for header, values in found:
                self._write(ctx, header, [_with_param(v, target.param, hvalue) if target.param else hvalue for v in values])
            return 1 if found else -1
        place = self._place(ctx, target)
        if place is None:
            return -1
        header, values, position = place
        values = list(values)
        values[position] = _with_param(values[position], target.param, hvalue) if target.param else hvalue
        self._write(ctx, header, values)
        return 1

    @function(_FROB)
    def include_hf_value(self, ctx: Ctx, hf: Lit, hvalue: str) -> int:
        """Add the value unless it is there."""
        if self.hf_value_exists(ctx, hf, hvalue) > 0:
            return 1
        return self.append_hf_value(ctx, hf, hvalue)

    @function(_FROB)
    def exclude_hf_value(self, ctx: Ctx, hf: Lit, hvalue: str) -> int:
        """Remove the value wherever it is."""
        for header, values in self._values(ctx, header_key(hf)):
            kept = [v for v in values if _bare(v) != hvalue.lower()]
            if len(kept) != len(values):
                self._write(ctx, header, kept)
        return 1

    @function(_FROB)
    def hf_value_exists(self, ctx: Ctx, hf: Lit, hvalue: str) -> int:
        return 1 if any(_bare(v) == hvalue.lower() for _, values in self._values(ctx, header_key(hf)) for v in values) else -1


def _bare(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def _with_param(value: str, param: str | None, new: str | None) -> str:
    """The value with a parameter set, or removed when ``new`` is None."""
    head, *params = split_quoted(value, ";")
    out, done = [head], False
    for p in params:
        if p.partition("=")[0].strip().lower() == (param or "").lower():
            if new is not None:
                out.append(f"{param}={new}")
            done = True
        else:
            out.append(p)
    if new is not None and not done:
        out.append(f"{param}={new}")
    return ";".join(out)
