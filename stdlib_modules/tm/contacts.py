"""Serial forking by q value: t_load_contacts, t_next_contacts; and appending to a transaction from elsewhere."""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, Routes, function
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.tm.transaction import Transaction

_RF = Routes.REQUEST | Routes.FAILURE


class ContactFunctions:
    """The loaded groups live in an avp, so that a failure route finds them. With them go the attributes that usrloc has put into the xavp
    of parameter xavp_contact, one per contact in their order."""

    rt: Any
    p: Any

    def current(self, ctx: Ctx) -> Transaction | None:
        raise NotImplementedError

    _KEY, _ATTRIBUTES = "\0contacts", "\0contact attributes"

    def _keep_attributes(self, ctx: Ctx, targets: list[Branch]) -> None:
        name = self.p.xavp_contact
        held = ctx.xavps.get("xavp", {}).pop(name, None) if name else None
        if held:
            ctx.avps[self._ATTRIBUTES] = [dict(zip(map(id, targets), held, strict=False))]

    def _show_attributes(self, ctx: Ctx, targets: list[Branch]) -> None:
        known = ctx.avps.get(self._ATTRIBUTES)
        if known is None:
            return
        found = [known[0][id(b)] for b in targets if id(b) in known[0]]
        if found:
            # on top of those of earlier groups, as Kamailio's
            ctx.xavps.setdefault("xavp", {}).setdefault(self.p.xavp_contact, [])[:0] = found

    @function(_RF)
    def t_load_contacts(self, ctx: Ctx, mode: int = 0) -> int:
        """Take the destination set away and keep it in groups of equal q, best first. Mode 1: each on its own."""
        targets = list(ctx.branches)
        if not ctx.ruri_used:
            targets.insert(0, Branch(ctx.ruri, ctx.du, ctx.path, ctx.q, ctx.send_socket, ctx.bflags, ctx.instance, ctx.ruid, ctx.location_ua))
        if len(targets) < 2:
            return 1
        self._keep_attributes(ctx, targets)
        same = len({b.q for b in targets}) == 1
        if same and not mode:
            ctx.avps[self._KEY] = [[targets]]
            ctx.branches = []
            ctx.ruri_used = True
            return 1
        ordered = sorted(targets, key=lambda b: -b.q)  # without q comes last
        groups: list[list[Branch]] = []
        for b in ordered:
            if groups and not mode and groups[-1][0].q == b.q:
                groups[-1].append(b)
            else:
                groups.append([b])
        ctx.avps[self._KEY] = [groups]
        ctx.branches = []
        ctx.ruri_used = True
        return 1

    @function(_RF)
    def t_next_contacts(self, ctx: Ctx) -> int:
        """The next group becomes the destination set. -2 when there is none left."""
        held = ctx.avps.get(self._KEY)
        if held is None:
            return -1
        groups: list[list[Branch]] = held[0]
        if not groups:
            return -2
        group = groups.pop(0)
        self._show_attributes(ctx, group)
        first, *rest = group
        ctx.ruri, ctx.du, ctx.path, ctx.q = first.uri, first.dst_uri, first.path, first.q
        ctx.send_socket, ctx.bflags = first.send_socket, first.flags
        ctx.instance, ctx.ruid, ctx.location_ua = first.instance, first.ruid, first.user_agent
        ctx.ruri_used = False
        ctx.branches = list(rest)
        return 1

    @function(Routes.REQUEST)
    def t_next_contact_flow(self, ctx: Ctx) -> int:
        """Further flows of one instance (outbound) are not kept by this version: there is never a next one."""
        return -2

    @function(ANY)
    def t_cell_append_branches(self, ctx: Ctx, tindex: int, tlabel: int) -> int:
        """Fork another transaction to the destination set of this one."""
        t = self.rt.tm.find_id(tindex, tlabel)
        if t is None or t.status >= 200:
            return -1
        work = t.failure_ctx(None)
        work.ruri, work.du, work.branches, work.ruri_used = ctx.ruri, ctx.du, list(ctx.branches), False
        return 1 if self.rt.tm.relay_branches(t, work) > 0 else -1
