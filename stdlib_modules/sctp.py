"""Module sctp: SIP over SCTP on ``listen=sctp:...`` sockets, where the kernel offers it. The sockets are opened before the module starts
(:mod:`kamc.runtime.net.sctp`), with these parameters."""

from __future__ import annotations

from typing import Any

from kamc.declare import Module, rpc
from kamc.runtime.net.sctp import has_sctp


class Sctp(Module):
    name = "sctp"
    tuning_params = ("sctp_srto_initial", "sctp_srto_max", "sctp_srto_min", "sctp_asocmaxrxt", "sctp_init_max_attempts", "sctp_init_max_timeo", "sctp_hbinterval",
                     "sctp_pathmaxrxt", "sctp_sack_delay", "sctp_sack_freq", "sctp_max_burst", "sctp_send_ttl", "sctp_send_retries", "sctp_assoc_tracking",
                     "sctp_assoc_reuse", "sctp_max_assocs")  # fmt: skip

    class Params:
        #: bytes of the kernel's buffers; 0 leaves its own
        sctp_socket_rcvbuf: int = 0
        sctp_socket_sndbuf: int = 0
        #: seconds of silence after which an association ends
        sctp_autoclose: int = 180

    @rpc("sctp.options")
    def rpc_options(self) -> dict[str, Any]:
        """What the sockets were opened with."""
        p = self.p
        return {"sctp_socket_rcvbuf": p.sctp_socket_rcvbuf, "sctp_socket_sndbuf": p.sctp_socket_sndbuf, "sctp_autoclose": p.sctp_autoclose}

    @rpc("sctp.info")
    def rpc_info(self) -> dict[str, Any]:
        """Sockets, and whether the kernel offers SCTP."""
        return {"kernel": "yes" if has_sctp() else "no", "listeners": sum(s.proto == "sctp" for s in self.rt.listeners)}


module = Sctp
