"""Module presence_reginfo: the event package reg (RFC 3680), the registrations of a user as the latest publication has them.

https://www.kamailio.org/docs/modules/stable/modules/presence_reginfo.html
"""

from __future__ import annotations

from kamc.declare import Module
from stdlib_modules.presence.packages import Package


class PresenceReginfo(Module):
    name = "presence_reginfo"
    depends = ("presence",)

    class Params:
        default_expires: int = 3600

    def mod_init(self) -> None:
        self.rt.module("presence").add_package(Package("reg", "application/reginfo+xml", self.p.default_expires))


module = PresenceReginfo
