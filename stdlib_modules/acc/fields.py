"""Values of accounting: what a configuration adds to records, and how times are written."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from kamc.declare.values import Value, to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx

Extra = list[tuple[str, Callable[[Ctx], Value]]]


def parse_extra(rt: Any, param: str, text: str) -> Extra:
    """``name=$var;name=$var``. Raises ConfigError."""
    out: Extra = []
    for part in text.split(";"):
        name, eq, variable = part.strip().partition("=")
        if not name:
            continue
        if not eq:
            raise ConfigError(f"acc: {param} has no variable for {name!r}")
        out.append((name.strip(), rt.pv(variable.strip())))
    return out


#: (field, AVP) pairs: an AVP has a value for each leg of a call, the latest on top
Legs = list[tuple[str, str]]


def parse_legs(text: str) -> Legs:
    """``name=$avp(a);name=$avp(b)``. Raises ConfigError."""
    out: Legs = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        match = re.fullmatch(r"([^=]+)=\s*\$avp\(\s*(?:s:)?([^()$]+?)\s*\)", part)
        if match is None:
            raise ConfigError(f"acc: multi_leg_info: {part!r} is not name=$avp(name)")
        out.append((match[1].strip(), match[2]))
    return out


def legs_of(legs: Legs, ctx: Ctx) -> list[list[tuple[str, str]]]:
    """The fields of each leg, at least of one; empty texts where an AVP has no more values."""
    if not legs:
        return []
    stacks = [(name, [to_str(v) for v in reversed(ctx.avps.get(key) or [])]) for name, key in legs]
    count = max(1, *(len(values) for _, values in stacks))
    return [[(name, values[leg] if leg < len(values) else "") for name, values in stacks] for leg in range(count)]


def time_fields(now: float, mode: int, attr: str, exten: str, form: str) -> list[tuple[str, str | int]]:
    """What time_mode adds: 1 seconds and microseconds, 2 seconds with milliseconds, 3 and 4 formatted, local and UTC."""
    if mode == 1:
        return [(attr, int(now)), (exten, int(now * 1_000_000) % 1_000_000)]
    if mode == 2:
        return [(attr, f"{now:.3f}")]
    if mode in (3, 4):
        return [(attr, time.strftime(form, time.localtime(now) if mode == 3 else time.gmtime(now)))]
    return []
