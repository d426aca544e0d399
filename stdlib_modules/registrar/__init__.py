"""Module registrar: REGISTER processing and look-ups. https://www.kamailio.org/docs/modules/stable/modules/registrar.html"""

from __future__ import annotations

from typing import Any

from kamc.declare import Module
from kamc.runtime.context import Ctx
from stdlib_modules.registrar.lookup import LookupFunctions
from stdlib_modules.registrar.save import SaveFunctions
from stdlib_modules.usrloc import Binding


class Registrar(SaveFunctions, LookupFunctions, Module):
    name = "registrar"
    depends = ("usrloc", "sl")
    stats = {"registrar": ("accepted_regs", "rejected_regs")}

    class Params:
        default_expires: int = 3600
        default_q: int = -1
        append_branches: int = 1
        case_sensitive: int = 0
        received_avp: str = ""
        received_param: str = "received"
        max_expires: int = 0
        min_expires: int = 60
        min_expires_mode: int = 0
        max_contacts: int = 0
        contact_max_size: int = 512
        retry_after: int = 0
        method_filtering: int = 0
        use_path: int = 0
        path_mode: int = 2
        path_use_received: int = 0
        xavp_cfg: str = ""
        gruu_enabled: int = 1
        realm_prefix: str = ""

    def mod_init(self) -> None:
        self.usrloc = self.rt.module("usrloc")
        self.sl = self.rt.module("sl")
        self.received = self.rt.pv(self.p.received_avp) if self.p.received_avp else None
        self.usrloc.watchers.append(self.on_contact)

    def on_contact(self, event: str, aor: str, binding: Binding) -> None:
        """``event_route[usrloc:contact-expired]`` sees the contact through $ulc(exp=>...)."""
        if event != "expire" or not self.rt.has_event("usrloc:contact-expired"):
            return
        ctx: Ctx = self.rt.worker.fake_context()
        ctx.remember("ulc", {"exp": (aor, "location", [binding])})
        self.rt.run_event("usrloc:contact-expired", ctx)

    def cfg_value(self, ctx: Ctx, field: str, default: Any) -> Any:
        """A setting that ``$xavp(cfg=>field)`` overrides for this message (modparam xavp_cfg)."""
        if not self.p.xavp_cfg:
            return default
        roots = ctx.xavps.get("xavp", {}).get(self.p.xavp_cfg)
        if not roots or not isinstance(roots[0], dict) or field not in roots[0]:
            return default
        return roots[0][field][0]


module = Registrar
