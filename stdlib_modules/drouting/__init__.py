"""Module drouting: the gateway for a number, by prefix, group, time and priority. https://www.kamailio.org/docs/modules/stable/modules/drouting.html"""

from __future__ import annotations

import random
from datetime import datetime
from itertools import islice
from typing import Any, Final

from kamc.declare import Module, Routes, Spread, function, rpc
from kamc.declare.pvspec import avp_name
from kamc.declare.values import to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Cell, DbError
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.drouting.table import Gateway, RoutingTable, Rule, build

_VERSIONS: Final = {"drd_table": 3, "drr_table": 3, "drl_table": 1, "drg_table": 2}
_RF = Routes.REQUEST | Routes.FAILURE
#: where the rules that are left are noted, beside the AVPs of the transaction
_LEFT: Final = "drouting left"


class Drouting(Module):
    name = "drouting"
    tuning_params = ("fetch_rows",)

    class Params:
        db_url: str = "mysql://kamailioro:kamailioro@localhost/kamailio"
        drd_table: str = "dr_gateways"
        drr_table: str = "dr_rules"
        drg_table: str = "dr_groups"
        drl_table: str = "dr_gw_lists"
        use_domain: int = 1
        drg_user_col: str = "username"
        drg_domain_col: str = "domain"
        drg_grpid_col: str = "groupid"
        ruri_avp: str = ""
        attrs_avp: str = ""
        sort_order: int = 0
        force_dns: int = 1
        enable_keepalive: int = 0

    #: module keepalive where gateways that are down are left out
    keepalive: Any = None

    def mod_init(self) -> None:
        p = self.p
        if p.sort_order not in (0, 1, 2):
            raise ConfigError("drouting: sort_order is 0 (as listed), 1 (any order in each set) or 2 (one of each set)")
        if p.enable_keepalive:
            self.keepalive = self.rt.module("keepalive")
            if self.keepalive is None:
                raise ConfigError("drouting: enable_keepalive needs module keepalive")
        self.ruri_key, self.attrs_key = avp_name("drouting", "ruri_avp", self.p.ruri_avp) or "___dr_ruri__", avp_name("drouting", "attrs_avp", self.p.attrs_avp)
        self.random = random.Random()
        self.db = self.rt.database(p.db_url)
        for param, version in _VERSIONS.items():
            self.db.check_version(getattr(p, param), version)
        try:
            self.table = self._load()
        except DbError as err:
            raise ConfigError(f"drouting: {err}") from None
        self._watch()

    def _watch(self) -> None:
        """Have the gateways asked whether they are alive."""
        if self.keepalive is not None:
            self.keepalive.watch(self.name, [g.host for g in self.table.gateways.values()])

    def _load(self) -> RoutingTable:
        """Raises DbError."""
        p, select = self.p, self.db.select
        lists = {int(str(ident)): str(text or "").strip() for ident, text in select(p.drl_table, ("id", "gwlist")).rows}
        gateways = select(p.drd_table, ("gwid", "type", "address", "strip", "pri_prefix", "attrs")).rows
        rules = select(p.drr_table, ("ruleid", "groupid", "prefix", "timerec", "priority", "gwlist"), order="ruleid").rows
        return build([tuple(row) for row in gateways], [tuple(row) for row in rules], lists, self.rt.log, resolve=bool(p.force_dns))

    # -- choosing --------------------------------------------------------------------------------------------------------

    def _group(self, ctx: Ctx) -> int | None:
        """Of the user of From, in the database."""
        sender = ctx.msg.address("from")
        uri = sender.parsed if sender is not None else None
        if uri is None:
            return None
        p = self.p
        where: list[tuple[str, str, Cell]] = [(p.drg_user_col, "=", uri.user)]
        if p.use_domain:
            where.append((p.drg_domain_col, "=", uri.host))
        rows = self.db.found(self.name, p.drg_table, (p.drg_grpid_col,), where, limit=1)
        if not rows:
            self.rt.log.error("drouting: %s@%s is in no group", uri.user, uri.host)
            return None
        return int(str(rows[0][0]))

    @function(_RF, waits=True)
    def do_routing(self, ctx: Ctx, groupID: int = -1) -> int:
        """Send to the first gateway of the rule that fits best; the others wait for use_next_gw(). Without a group that of the caller counts."""
        group = groupID if groupID >= 0 else self._group(ctx)
        return self._route(ctx, group, ctx.ruri, 0) if group is not None else -1

    def _route(self, ctx: Ctx, group: int, ruri: str, skip: int) -> int:
        uri = parse_uri(ruri)
        if uri is None:
            return -1
        user = uri.user or ""
        now = datetime.fromtimestamp(self.rt.wall_time())
        rule: Rule | None = next(islice(self.table.matching(group, user, now), skip, None), None)
        if rule is None:
            self.rt.log.info("drouting: no rule of group %d for %s", group, user)
            return -1
        gateways = rule.gateways(self.p.sort_order, self.random)
        if self.keepalive is not None:
            gateways = [g for g in gateways if not self.keepalive.is_down(g.host, self.name)]
            if not gateways:
                self.rt.log.warning("drouting: no gateways available (all in state down)")
                return -1
        try:
            targets = [(self._target(ruri, user, g), g.attrs) for g in gateways]
        except ValueError as err:
            self.rt.log.error("drouting: %s", err)
            return -1
        # the newest value of an AVP is the next one
        ctx.avps[self.ruri_key] = [target for target, _ in reversed(targets)]
        if self.attrs_key:
            ctx.avps[self.attrs_key] = [attrs for _, attrs in reversed(targets)]
        ctx.avps[_LEFT] = [f"{group} {skip + 1} {ruri}"]
        ctx.ruri, ctx.ruri_used = to_str(ctx.avps[self.ruri_key].pop()), False
        return 1

    @staticmethod
    def _target(ruri: str, user: str, gateway: Gateway) -> str:
        """The R-URI with the user as the gateway wants it, and its address. Raises ValueError."""
        if gateway.strip > len(user):
            raise ValueError(f"stripping {gateway.strip} leaves nothing of {user!r}")
        scheme, _, rest = ruri.partition(":")
        before, at, behind = rest.rpartition("@")
        more = before[len(user) :] if at else ""
        params = behind.partition(";")[1] + behind.partition(";")[2]
        return f"{scheme}:{gateway.prefix}{user[gateway.strip :]}{more}@{gateway.host}{params}"

    @function(_RF)
    def use_next_gw(self, ctx: Ctx) -> int:
        """The next gateway of the rule; -1 when there is none."""
        stack = ctx.avps.get(self.ruri_key)
        if not stack:
            return -1
        ctx.ruri, ctx.ruri_used = to_str(stack.pop()), False
        if self.attrs_key and ctx.avps.get(self.attrs_key):
            ctx.avps[self.attrs_key].pop()
        return 1

    @function(Routes.FAILURE, waits=True)
    def next_routing(self, ctx: Ctx) -> int:
        """The next rule that fits: of lower priority, then of a shorter prefix."""
        left = ctx.avps.get(_LEFT)
        if not left:
            return -1
        group, skip, ruri = to_str(left[-1]).split(" ", 2)
        return self._route(ctx, int(group), ruri, int(skip))

    # -- who is a gateway ------------------------------------------------------------------------------------------------

    def _found(self, address: str, kind: int) -> Gateway | None:
        return next((g for g in self.table.gateways.values() if address in g.addresses and kind in (-1, g.kind)), None)

    @function(_RF | Routes.ONREPLY)
    def is_from_gw(self, ctx: Ctx, type: int = -1, flag: int = 0) -> int:
        """Whether the message came from a gateway, of a kind. With a flag the user of the R-URI is stripped as that gateway says."""
        found = self._found(ctx.flow.remote_ip, type)
        if found is None:
            return -1
        uri = parse_uri(ctx.ruri)
        if flag and found.strip and uri is not None and len(uri.user or "") >= found.strip:
            scheme, _, rest = ctx.ruri.partition(":")
            ctx.ruri, ctx.ruri_used = f"{scheme}:{rest[found.strip :]}", False
        return 1

    @function(_RF | Routes.ONREPLY)
    def goes_to_gw(self, ctx: Ctx, type: int = -1) -> int:
        """Whether the host of the destination is a gateway, of a kind."""
        uri = parse_uri(ctx.du or ctx.ruri)
        return 1 if uri is not None and self._found(uri.host.strip("[]"), type) is not None else -1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("drouting.reload", spread=Spread.EVERY)
    def rpc_reload(self) -> str:
        """Read gateways and rules again; what cannot be read changes nothing."""
        try:
            self.table = self._load()
            self._watch()
        except DbError as err:
            self.rt.log.error("drouting: %s", err)
            raise RpcFault(500, "Failed to load data") from None
        return "reload ok"


module = Drouting
