"""Module pv: pseudo-variables, transformations, and functions on xavps. https://www.kamailio.org/docs/modules/stable/modules/pv.html"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from kamc.declare import Module, modparam, rpc
from kamc.declare.values import parse_int
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.pv.address import AddressVars
from stdlib_modules.pv.avp import AvpVars
from stdlib_modules.pv.functions import Functions
from stdlib_modules.pv.headers import HeaderVars
from stdlib_modules.pv.message import MessageVars
from stdlib_modules.pv.network import NetworkVars
from stdlib_modules.pv.script import ScriptVars
from stdlib_modules.pv.target import TargetVars
from stdlib_modules.pv.timevars import TimeVars
from stdlib_modules.pv.tr_parts import PartTransformations
from stdlib_modules.pv.tr_string import StringTransformations
from stdlib_modules.pv.xavp import XavpVars


class Pv(MessageVars, HeaderVars, TargetVars, AddressVars, NetworkVars, ScriptVars, AvpVars, XavpVars, TimeVars, StringTransformations, PartTransformations,
         Functions, Module):  # fmt: skip
    """The variables by area are mix-ins."""

    name = "pv"

    @staticmethod
    def _setting(value: str) -> tuple[str, int | str]:
        """``name=i:5`` or ``name=s:text``."""
        name, eq, rest = value.partition("=")
        kind, colon, body = rest.partition(":")
        if not eq or not colon or kind not in ("i", "s"):
            raise ValueError(f"{value!r} is not NAME=i:NUMBER or NAME=s:TEXT")
        if kind == "i":
            number = parse_int(body.strip())
            if number is None:
                raise ValueError(f"{body!r} is not a number")
            return name.strip(), number
        return name.strip(), body

    @modparam("varset")
    def set_var(self, value: str) -> None:
        name, number = self._setting(value)
        self._first(self.rt.vars, name, number)

    @modparam("shvset")
    def set_shv(self, value: str) -> None:
        name, number = self._setting(value)
        self._first(self.rt.worker.shared, name, number)

    def _first(self, table: MutableMapping[str, Any], name: str, value: int | str) -> None:
        """A value to begin with: a reload leaves what the script has made of it."""
        if (self.rt.beginning if table is self.rt.worker.shared else self.rt.previous is None) or name not in table:
            table[name] = value

    # -- commands --------------------------------------------------------------------------------------------------------

    @rpc("pv.shvGet")
    def rpc_shv_get(self, name: str | None = None) -> dict[str, Any]:
        """A shared variable, or all of them."""
        shared = self.rt.worker.shared
        names = [name] if name is not None else sorted(shared)
        if name is not None and name not in shared:
            raise RpcFault(404, "Variable not found")
        items = [{"item": {"name": n, "type": "int" if isinstance(shared[n], int) else "string", "value": shared[n]}} for n in names]
        return {"items": items} if name is None else items[0]["item"]

    @rpc("pv.shvSet")
    def rpc_shv_set(self, name: str, kind: str, value: str | int) -> str:
        """Set a shared variable that there is: ``int`` or ``str``, and what."""
        shared = self.rt.worker.shared
        if name not in shared:
            raise RpcFault(500, "Variable not found")
        number = parse_int(str(value))
        if kind == "int" and number is None:
            raise RpcFault(500, "The value is no number")
        shared[name] = number if kind == "int" and number is not None else str(value)
        return "Ok. Variable set to new value."


module = Pv
