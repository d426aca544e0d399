"""Module presence_mwi: the event package message-summary (RFC 3842), for lamps of waiting messages.

https://www.kamailio.org/docs/modules/stable/modules/presence_mwi.html
"""

from __future__ import annotations

import re
from typing import Final

from kamc.declare import Module
from stdlib_modules.presence.packages import BodyError, Package

_FIRST_LINE: Final = re.compile(r"Messages-Waiting[ \t]*:[ \t]*(?:yes|no)[ \t]*(?:\r?\n|\Z)", re.IGNORECASE)


def check(body: str) -> None:
    """The first line says whether there are messages (RFC 3842 section 3.5)."""
    if _FIRST_LINE.match(body) is None:
        raise BodyError("a message summary begins with Messages-Waiting: yes or no", 500, "Server Internal Error")


class PresenceMwi(Module):
    name = "presence_mwi"
    depends = ("presence",)

    class Params:
        default_expires: int = 3600

    def mod_init(self) -> None:
        self.rt.module("presence").add_package(Package("message-summary", "application/simple-message-summary", self.p.default_expires, check))


module = PresenceMwi
