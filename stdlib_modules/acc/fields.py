"""Values of accounting: what a configuration adds to records, and how times are written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kamc.declare.values import Value
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


def time_fields(now: float, mode: int, attr: str, exten: str, form: str) -> list[tuple[str, str | int]]:
    """What time_mode adds: 1 seconds and microseconds, 2 seconds with milliseconds, 3 and 4 formatted, local and UTC."""
    if mode == 1:
        return [(attr, int(now)), (exten, int(now * 1_000_000) % 1_000_000)]
    if mode == 2:
        return [(attr, f"{now:.3f}")]
    if mode in (3, 4):
        return [(attr, time.strftime(form, time.localtime(now) if mode == 3 else time.gmtime(now)))]
    return []
