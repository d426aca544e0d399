"""Module ctl: the control sockets. This version has the commands; the binrpc wire format comes later, jsonrpcs has sockets already."""

from __future__ import annotations

from typing import Any

from kamc.declare import Module, rpc


class Ctl(Module):
    name = "ctl"

    def mod_init(self) -> None:
        self.rt.log.notice("ctl: no binrpc socket is opened by this version, RPC is served by module jsonrpcs")

    @rpc("ctl.listen")
    def rpc_listen(self) -> list[Any]:
        """Control sockets."""
        return []

    @rpc("ctl.connections")
    def rpc_connections(self) -> int:
        """Number of open control connections."""
        return 0

    @rpc("ctl.who")
    def rpc_who(self) -> list[Any]:
        """Open control connections."""
        return []


module = Ctl
