"""What scripts and operators do with registrations: ``uac_reg_*`` and ``uac.reg_*``."""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, Routes, Spread, function, rpc
from kamc.declare.argtypes import PvArg
from kamc.runtime.context import Ctx
from kamc.runtime.db import DbError
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.uac.registrations import DISABLED, INIT, ONGOING, ONLINE, Registrar, Registration, make_registration

_FILTERS = ("l_uuid", "l_username", "r_username", "auth_username")
_RFB = Routes.REQUEST | Routes.FAILURE | Routes.BRANCH


class RegistrationFunctions(Registrar):
    def _by(self, attr: str, value: str) -> Registration | None:
        if attr == "l_uuid":
            return self.records.get(value)
        return next((r for r in self.records.values() if getattr(r, attr) == value), None)

    def _of_user(self, user: str, domain: str) -> Registration | None:
        """By the local user, and with reg_use_domain by its domain."""
        for record in self.records.values():
            if record.l_username == user and (not self.p.reg_use_domain or record.l_domain == domain):
                return record
        return None

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(ANY)
    def uac_reg_lookup(self, ctx: Ctx, uuid: str, dst: PvArg) -> int:
        """The local URI of a record."""
        record = self.records.get(uuid)
        if record is None or dst.set is None:
            return -1
        dst.set(ctx, f"sip:{record.l_username}@{record.l_domain}")
        return 1

    @function(ANY)
    def uac_reg_lookup_uri(self, ctx: Ctx, uri: str, dst: PvArg) -> int:
        """The l_uuid of the record of a local URI."""
        parsed = parse_uri(uri)
        record = self._of_user(parsed.user or "", parsed.host) if parsed is not None else None
        if record is None or dst.set is None:
            return -1
        dst.set(ctx, record.l_uuid)
        return 1

    @function(ANY)
    def uac_reg_status(self, ctx: Ctx, uuid: str) -> int:
        """1 registered, -2 on the way, -3 disabled, -99 none of these, -1 unknown."""
        record = self.records.get(uuid)
        if record is None:
            return -1
        if record.flags & DISABLED:
            return -3
        if record.flags & ONLINE and record.timer_expires > self.rt.wall_time():
            return 1
        return -2 if record.flags & ONGOING else -99

    @function(_RFB)
    def uac_reg_request_to(self, ctx: Ctx, user: str, mode: int) -> int:
        """Send the request where a record is registered, with its credentials for ``uac_auth``. Mode 0 takes the l_uuid, 1 the local user."""
        record = self._by("l_username" if mode & 1 else "l_uuid", user)
        if record is None:
            return -1
        names = (self.p.auth_username_avp, self.p.auth_realm_avp, self.p.auth_password_avp)
        values = (record.auth_username, record.realm, record.auth_ha1 or record.auth_password)
        for name, value in zip(names, values, strict=True):
            setter = self.rt.pv_set(name) if name else None
            if setter is None:
                self.rt.log.error("uac_reg_request_to: auth_username_avp, auth_realm_avp and auth_password_avp have to be set")
                return -1
            setter(ctx, value)
        ctx.ruri, ctx.du, ctx.ruri_used = f"sip:{record.r_username}@{record.r_domain}", record.auth_proxy, False
        return 1

    def _change(self, attr: str, value: str, enabled: bool) -> bool:
        record = self._by(attr, value) if attr in _FILTERS else None
        if record is None:
            return False
        if enabled and record.flags & DISABLED:
            record.flags &= ~DISABLED
            record.timer_expires = self.rt.wall_time()
        elif not enabled:
            record.flags |= DISABLED
        self.count_registrations()
        return True

    @function(ANY)
    def uac_reg_enable(self, ctx: Ctx, attr: str, val: str) -> int:
        return 1 if self.everywhere(self._change, attr, val, True) else -1

    @function(ANY)
    def uac_reg_disable(self, ctx: Ctx, attr: str, val: str) -> int:
        return 1 if self.everywhere(self._change, attr, val, False) else -1

    @function(ANY, waits=True)
    def uac_reg_refresh(self, ctx: Ctx, luuid: str) -> int:
        """Read a record from the database again."""
        return 1 if self.everywhere(self._refresh, luuid) else -1

    def _refresh(self, uuid: str) -> bool:
        if not self.p.reg_db_url:
            return uuid in self.records
        before = self.records
        try:
            self.load_registrations()
        except DbError as err:
            self.rt.log.error("uac: %s", err)
            return False
        fresh = self.records.get(uuid)
        self.records = before
        if fresh is not None:
            self.records[uuid] = fresh
        self.count_registrations()
        return fresh is not None

    def _send_now(self, attr: str, value: str, expires: int | None) -> bool:
        record = self._by(attr, value) if attr in _FILTERS else None
        if record is None or record.flags & ONGOING:
            return False
        self.register(record, expires)
        return True

    @function(ANY)
    def uac_reg_send_register(self, ctx: Ctx, atttr: str, value: str) -> int:
        return 1 if self._send_now(atttr, value, None) else -1

    @function(ANY)
    def uac_reg_send_unregister(self, ctx: Ctx, atttr: str, value: str) -> int:
        return 1 if self._send_now(atttr, value, 0) else -1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _shown(self, r: Registration) -> dict[str, Any]:
        now = self.rt.wall_time()
        return {
            "l_uuid": r.l_uuid, "l_username": r.l_username, "l_domain": r.l_domain, "r_username": r.r_username, "r_domain": r.r_domain, "realm": r.realm or None,
            "auth_username": r.auth_username, "auth_password": r.auth_password, "auth_ha1": r.auth_ha1 or "none", "auth_proxy": r.auth_proxy,
            "expires": r.expires, "flags": r.flags, "diff_expires": int(r.timer_expires - now), "timer_expires": int(r.timer_expires),
            "reg_init": int(r.added), "reg_delay": r.reg_delay, "contact_addr": r.contact_addr or self.p.reg_contact_addr, "socket": r.socket or None,
        }  # fmt: skip

    def _one(self, attr: str, value: str) -> Registration:
        if attr not in _FILTERS:
            raise RpcFault(400, "Unsupported filter attribute")
        record = self._by(attr, str(value))
        if record is None:
            raise RpcFault(404, "Record not found")
        return record

    @rpc("uac.reg_dump")
    def rpc_dump(self) -> list[dict[str, Any]]:
        """All registrations."""
        return [self._shown(r) for r in reversed(self.records.values())]

    @rpc("uac.reg_info", wrong="400 Invalid Parameters")
    def rpc_info(self, attr: str, value: str) -> dict[str, Any]:
        """One registration, by l_uuid, l_username, r_username or auth_username."""
        return self._shown(self._one(attr, value))

    @rpc("uac.reg_enable", spread=Spread.EVERY)
    def rpc_enable(self, attr: str, value: str) -> None:
        """Switch a registration on."""
        self._change(attr, self._one(attr, value).l_uuid if attr == "l_uuid" else value, True)

    @rpc("uac.reg_disable", spread=Spread.EVERY)
    def rpc_disable(self, attr: str, value: str) -> None:
        """Switch a registration off; what is registered stays until it expires."""
        self._one(attr, value)
        self._change(attr, value, False)

    @rpc("uac.reg_register")
    def rpc_register(self, attr: str, value: str) -> None:
        """Register now."""
        self.register(self._one(attr, value))

    @rpc("uac.reg_unregister")
    def rpc_unregister(self, attr: str, value: str) -> None:
        """Take a registration away."""
        record = self._one(attr, value)
        record.expires = 0
        self.register(record, 0)

    @rpc("uac.reg_reload", spread=Spread.EVERY)
    def rpc_reload(self) -> None:
        """Read the table again."""
        if not self.p.reg_db_url:
            raise RpcFault(500, "Failed to reload records")
        try:
            self.load_registrations()
        except DbError as err:
            self.rt.log.error("uac: %s", err)
            raise RpcFault(500, "Failed to reload records") from None

    @rpc("uac.reg_refresh", spread=Spread.EVERY)
    def rpc_refresh(self, uuid: str) -> None:
        """Read a record again."""
        if not self._refresh(uuid):
            raise RpcFault(404, "Record not found")

    @rpc("uac.reg_remove", spread=Spread.EVERY)
    def rpc_remove(self, uuid: str) -> None:
        """Forget a registration."""
        if self.records.pop(uuid, None) is None:
            raise RpcFault(404, "Record not found")
        self.count_registrations()

    @rpc("uac.reg_active", spread=Spread.EVERY, wrong="Missing parameter")
    def rpc_active(self, mode: int) -> dict[str, int]:
        """Stop (0) and start (1) sending."""
        before, self.reg_active = self.reg_active, bool(mode)
        return {"omode": int(before), "nmode": int(self.reg_active)}

    @rpc("uac.reg_add", spread=Spread.EVERY)
    def rpc_add(self, *values: Any) -> None:
        """Add a registration: l_uuid l_username l_domain r_username r_domain realm auth_username auth_password auth_ha1 auth_proxy expires
        flags reg_delay contact_addr socket, with a dot for what is empty."""
        names = ("l_uuid", "l_username", "l_domain", "r_username", "r_domain", "realm", "auth_username", "auth_password", "auth_ha1", "auth_proxy", "expires",
                 "flags", "reg_delay", "contact_addr", "socket")  # fmt: skip
        if len(values) != len(names):
            raise RpcFault(400, "Invalid Parameters")
        if str(values[0]) in self.records:
            raise RpcFault(409, "uuid already exists")
        try:
            record = make_registration(dict(zip(names, values, strict=True)))
        except (ValueError, TypeError) as err:
            self.rt.log.error("uac: %s", err)
            raise RpcFault(500, "Failed to add record - check log messages") from None
        record.added = self.rt.wall_time()
        record.flags &= ~INIT
        self.records[record.l_uuid] = record
        self.count_registrations()
