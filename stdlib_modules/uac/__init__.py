"""Module uac: what a user agent client does. Replacing From and To, answering challenges, sending requests, registering elsewhere."""

from __future__ import annotations

from typing import Any

from kamc.errors import ConfigError
from kamc.runtime.pv.bind import BoundPv
from stdlib_modules.uac.auth import AuthFunctions, Credential
from stdlib_modules.uac.reg_commands import RegistrationFunctions
from stdlib_modules.uac.replace import ReplaceFunctions
from stdlib_modules.uac.requests import Request, RequestFunctions

_MODES = ("none", "manual", "auto")


class Uac(AuthFunctions, RequestFunctions, ReplaceFunctions, RegistrationFunctions):
    name = "uac"
    kept = ("current",)
    depends = ("tm",)
    tuning_params = ("reg_hash_size", "reg_gc_interval", "reload_delta")
    stats = {"uac": ("regtotal", "regactive", "regdisabled")}

    class Params:
        rr_from_store_param: str = "vsf"
        rr_to_store_param: str = "vst"
        restore_mode: str = "auto"
        restore_passwd: str = ""
        restore_dlg: int = 0
        restore_from_avp: str = ""
        restore_to_avp: str = ""
        auth_username_avp: str = ""
        auth_realm_avp: str = ""
        auth_password_avp: str = ""
        default_socket: str = ""
        reg_db_url: str = ""
        reg_db_table: str = "uacreg"
        reg_contact_addr: str = ""
        reg_timer_interval: int = 90
        reg_retry_interval: int = 0
        reg_keep_callid: int = 0
        reg_active: int = 1
        reg_use_domain: int = 0
        reg_random_delay: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.credentials: list[Credential] = []
        self.current = Request()

    def mod_init(self) -> None:
        mode = self.p.restore_mode
        if mode not in _MODES:
            raise ConfigError(f"uac: restore_mode is none, manual or auto, not {mode!r}")
        self.restore, self.automatic = mode != "none", mode == "auto"
        rr = self.rt.module("rr")
        if self.automatic and rr is not None:
            rr.on_route.append(self.on_route)
        self.originals = {key: self._kept(name) for key, name in (("from", self.p.restore_from_avp), ("to", self.p.restore_to_avp)) if name}
        if self.p.restore_dlg:
            self.follow_dialogs()
        self.start_registrations()

    def _kept(self, name: str) -> BoundPv:
        found: BoundPv = self.rt.pv_arg(name)
        if found.set is None:
            raise ConfigError(f"uac: {name} cannot be set")
        return found


module = Uac
