"""What the variable mix-ins share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from kamc.declare.values import DualInt, Value
from kamc.runtime.context import Ctx

Setter = Callable[[Any, Ctx, Value], None]


def text_only(setter: Setter) -> Setter:
    """A variable that takes texts: a number is refused, unless it comes right out of another variable, which has it as a text, too."""
    name = setter.__name__.removeprefix("set_")

    @wraps(setter)
    def checked(self: Any, ctx: Ctx, value: Value) -> None:
        if isinstance(value, int):
            if not isinstance(value, DualInt):
                self.rt.log.error(f"${name} wants a text")
                return
            value = value.text
        setter(self, ctx, value)

    return checked


class Vars:
    """Base of the mix-ins: the runtime arrives with the module."""

    rt: Any
