"""Module registrar: REGISTER processing and look-ups. https://www.kamailio.org/docs/modules/stable/modules/registrar.html"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from kamc.declare import Module
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from stdlib_modules.registrar.lookup import LookupFunctions
from stdlib_modules.registrar.save import SaveFunctions
from stdlib_modules.usrloc import Binding


class Registrar(SaveFunctions, LookupFunctions, Module):
    name = "registrar"
    runtime_names: ClassVar[dict[str, str]] = {"realm_pref": "realm_prefix"}
    depends = ("usrloc", "sl")
    # contacts are always told apart by their reg-id, as Kamailio's are
    ignored_params = ("regid_mode",)
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
        default_expires_range: int = 0
        expires_range: int = 0
        sock_mode: int = 0
        sock_flag: int = -1
        sock_hdr_name: str = ""
        path_check_local: int = 0
        xavp_rcd: str = ""
        xavp_rcd_mask: int = 0
        outbound_mode: int = 0
        flow_timer: int = 0
        lookup_filter_mode: int = 0
        use_expired_contacts: int = 0

    def mod_init(self) -> None:
        p = self.p
        if p.outbound_mode not in (0, 1, 2):
            raise ConfigError("registrar: outbound_mode is 0 (not supported), 1 (supported) or 2 (required)")
        if p.flow_timer < 0 or (p.flow_timer and not p.outbound_mode):
            raise ConfigError("registrar: flow_timer is a number of seconds, and needs outbound_mode")
        if not (0 <= p.default_expires_range <= 100 and 0 <= p.expires_range <= 100):
            raise ConfigError("registrar: default_expires_range and expires_range are 0 to 100 percent")
        for name in ("default_expires", "default_expires_range", "expires_range", "max_contacts", "max_expires"):
            self.rt.hooks.statistics["registrar", "default_expire" if name == "default_expires" else name] = self._shown(name)
        self.usrloc = self.rt.module("usrloc")
        self.sl = self.rt.module("sl")
        self.received = self.rt.pv(self.p.received_avp) if self.p.received_avp else None
        self.usrloc.watchers.append(self.on_contact)

    def _shown(self, name: str) -> Callable[[], int]:
        return lambda: int(getattr(self.p, name))

    def on_contact(self, event: str, aor: str, binding: Binding) -> None:
        """``event_route[usrloc:contact-expired]`` sees the contact through $ulc(exp=>...)."""
        if event != "expire" or not self.rt.has_event("usrloc:contact-expired"):
            return
        ctx: Ctx = self.rt.worker.fake_context()
        ctx.remember("ulc", {"exp": (aor, "location", [binding])})
        self.rt.run_event("usrloc:contact-expired", ctx)

    def keep_record(self, ctx: Ctx, binding: Binding) -> None:
        """Show a contact to the script, as the xavp of parameter xavp_rcd."""
        name, mask = self.p.xavp_rcd, self.p.xavp_rcd_mask
        if not name:
            return
        values = {"ruid": binding.ruid, "contact": binding.contact, "expires": int(binding.expires - self.rt.wall_time() + 0.5) if binding.expires else 0,
                  "received": binding.received, "path": binding.path}  # fmt: skip
        kept = {key: [value] for bit, (key, value) in enumerate(values.items()) if value != "" and not mask >> bit & 1}
        ctx.xavps.setdefault("xavp", {})[name] = [kept]

    def cfg_value(self, ctx: Ctx, field: str, default: Any) -> Any:
        """A setting that ``$xavp(cfg=>field)`` overrides for this message (modparam xavp_cfg)."""
        if not self.p.xavp_cfg:
            return default
        roots = ctx.xavps.get("xavp", {}).get(self.p.xavp_cfg)
        if not roots or not isinstance(roots[0], dict) or field not in roots[0]:
            return default
        return roots[0][field][0]


module = Registrar
