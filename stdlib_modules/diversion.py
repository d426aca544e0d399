"""Module diversion: the Diversion header (RFC 5806). https://www.kamailio.org/docs/modules/stable/modules/diversion.html"""

from __future__ import annotations

from kamc.declare import Module, Routes, function
from kamc.runtime.context import Ctx
from kamc.runtime.sip.build import blank_line
from kamc.runtime.sip.uri import parse_uri


class Diversion(Module):
    name = "diversion"
    #: Kamailio 5.6.3 does not write it anywhere either
    ignored_params = ("suffix",)

    @function(Routes.REQUEST | Routes.FAILURE | Routes.BRANCH)
    def add_diversion(self, ctx: Ctx, reason: str, uri: str = "") -> int:
        """In front of the Diversions that are there. Without a URI it is the one that the request came with."""
        msg = ctx.msg
        if not uri and parse_uri(msg.uri) is None:
            self.rt.log.error("add_diversion: the request URI cannot be read")
            return -1
        header = msg.first.get("diversion")
        at = header[3] if header is not None else msg.body_start - blank_line(msg)
        ctx.add_edit(at, at, f"Diversion: <{uri or msg.uri}>;reason={reason}\r\n")
        return 1


module = Diversion
