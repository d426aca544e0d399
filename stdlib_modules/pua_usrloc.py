"""Module pua_usrloc: who registers is published as open, who goes as gone. https://www.kamailio.org/docs/modules/stable/modules/pua_usrloc.html"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr

from kamc.declare import Module, Routes, function
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from stdlib_modules.pua.publish import Publication, PublishError
from stdlib_modules.usrloc import Binding

#: whose publications these are, as column ``flag`` of table pua says
_FLAG = 1
_NAMESPACES = ('xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" '
               'xmlns:c="urn:ietf:params:xml:ns:pidf:cipid"')  # fmt: skip


def document(entity: str) -> str:
    """PIDF (RFC 3863) of somebody who is there. The id of the tuple is module pua's."""
    return f'<?xml version="1.0"?><presence {_NAMESPACES} entity={quoteattr(entity)}><tuple><status><basic>open</basic></status></tuple></presence>'


class PuaUsrloc(Module):
    name = "pua_usrloc"
    depends = ("pua", "usrloc")

    class Params:
        default_domain: str = ""
        entity_prefix: str = ""
        branch_flag: int = -1

    def mod_init(self) -> None:
        if not self.p.default_domain:
            raise ConfigError("pua_usrloc: default_domain is missing")
        #: the REGISTER in hand is one that is published
        self.wanted = False
        self.rt.module("usrloc").watchers.append(self.changed)
        self.rt.hooks.post_script.append(self.forget)

    @function(Routes.REQUEST)
    def pua_set_publish(self, ctx: Ctx) -> int:
        """What ``save()`` does with this REGISTER is published."""
        self.wanted = True
        return 1

    def forget(self, ctx: Any) -> None:
        self.wanted = False

    def changed(self, event: str, aor: str, binding: Binding) -> None:
        p = self.p
        if not self.wanted and not (p.branch_flag >= 0 and binding.cflags >> p.branch_flag & 1):
            return
        address = aor if "@" in aor else f"{aor}@{p.default_domain}"
        gone = event in ("expire", "delete")
        expires = 0 if gone else max(1, round(binding.expires - self.rt.wall_time())) if binding.expires else -1
        entity = f"{p.entity_prefix}:{address}" if p.entity_prefix else address
        try:
            self.rt.module("pua").publish(Publication(f"sip:{address}", "presence", _FLAG, f"UL_PUBLISH.{binding.call_id}", expires,
                                                      None if gone else document(entity), "application/pidf+xml", once=True))  # fmt: skip
        except PublishError as err:
            self.rt.log.error("pua_usrloc: %s", err)


module = PuaUsrloc
