"""Module presence_reginfo: the event package reg (RFC 3680), the registrations of a user.

https://www.kamailio.org/docs/modules/stable/modules/presence_reginfo.html. Watchers see the latest publication, with ``aggregate_presentities`` the
registrations of all of them in one document, which counts its NOTIFYs.
"""

from __future__ import annotations

from collections.abc import Sequence

from kamc.declare import Module
from stdlib_modules.presence.merge import latest, merged
from stdlib_modules.presence.packages import Package


def combine(bodies: Sequence[str], gone: str | None) -> str:
    """One document of the registrations of all, the oldest first. What is no XML is told as it came when nothing else is published."""
    return merged(list(reversed(bodies)) or [gone or ""], "registration") or latest(bodies, gone)


class PresenceReginfo(Module):
    name = "presence_reginfo"
    depends = ("presence",)

    class Params:
        default_expires: int = 3600
        aggregate_presentities: int = 0

    def mod_init(self) -> None:
        package = Package("reg", "application/reginfo+xml", self.p.default_expires)
        if self.p.aggregate_presentities:
            package.combine, package.numbered = combine, True
        self.rt.module("presence").add_package(package)


module = PresenceReginfo
