"""Module stun: answers STUN binding requests on the UDP sockets of the configuration, so that clients behind NAT learn their address
(RFC 5389) and keep their binding open (RFC 5626 section 4.4.2)."""

from __future__ import annotations

from kamc.declare import Module
from kamc.runtime.net import stun
from kamc.runtime.net.endpoint import Flow


class Stun(Module):
    name = "stun"

    class Params:
        pass

    def mod_init(self) -> None:
        self.software = self.rt.server_header.partition(":")[2].strip() or self.rt.signature()
        self.rt.hooks.stun = self.answer

    def answer(self, data: bytes, flow: Flow) -> None:
        response = stun.answer(data, flow.remote_ip, flow.remote_port, self.software)
        if response is not None:
            self.rt.datapath.send_datagram(flow, response)


module = Stun
