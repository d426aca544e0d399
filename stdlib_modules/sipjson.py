"""Module sipjson: what a message says, as a JSON document. https://www.kamailio.org/docs/modules/devel/modules/sipjson.html"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Module, function
from kamc.declare.argtypes import PvArg
from kamc.declare.values import Value
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import Getter

#: always there, in this order; of the letters B (body), c (CSeq) and t (To)
_ALWAYS = ("mt", "rm", "pr", "si", "sp", "Ri", "Rp", "ru", "rU", "rd", "rp", "rs", "rr", "fU", "fd", "ua", "ci")
_MORE = {"B": ("rb",), "c": ("cs",), "t": ("tU", "td")}
_NUMBERS = frozenset({"mt", "sp", "Rp", "rp", "rs"})


class Sipjson(Module):
    name = "sipjson"
    depends = ("pv",)

    def mod_init(self) -> None:
        names = (*_ALWAYS, *(name for group in _MORE.values() for name in group))
        self.getters: dict[str, Getter] = {name: self.rt.pv(f"${name}") for name in names}

    @staticmethod
    def _shown(name: str, value: Value) -> Any:
        """Nothing is an empty text, or 0 where a number stands."""
        if name == "mt":
            # the other way round than $mt, as recorded from Kamailio
            return 2 if value == 1 else 1
        if name in _NUMBERS:
            return value if isinstance(value, int) else 0
        return "" if value is None else str(value).encode("latin-1", "replace").decode("utf-8", "replace")

    @function(ANY)
    def sj_serialize(self, ctx: Ctx, opt: str, ovar: PvArg) -> int:
        """``0`` for what is always in it, ``B`` with the body, ``c`` with CSeq, ``t`` with To."""
        if ovar.set is None:
            self.rt.log.error("sj_serialize: the variable cannot be set")
            return -1
        names = [*_ALWAYS, *(name for letter, group in _MORE.items() if letter in opt for name in group)]
        get: Callable[[str], Value] = lambda name: self.getters[name](ctx)  # noqa: E731
        text = json.dumps({name: self._shown(name, get(name)) for name in names}, separators=(",", ":"), ensure_ascii=False)
        ovar.set(ctx, text.encode("utf-8").decode("latin-1"))
        return 1


module = Sipjson
