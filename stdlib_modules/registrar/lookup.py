"""lookup() and what else asks the location table."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from kamc.declare import ANY, Routes, function, pv_class
from kamc.declare.argtypes import Lit, Location
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.pv.bind import BoundPv, index_getter
from kamc.runtime.sip.addr import parse_addr_list
from kamc.runtime.sip.methods import method_id
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.usrloc import Binding

_RF = Routes.REQUEST | Routes.FAILURE
_FIELDS: dict[str, Callable[[Binding], Value]] = {
    "addr": lambda b: b.contact, "path": lambda b: b.path or None, "expires": lambda b: int(b.expires), "q": lambda b: b.q, "callid": lambda b: b.call_id,
    "cseq": lambda b: b.cseq, "flags": lambda b: b.flags, "cflags": lambda b: b.cflags, "user_agent": lambda b: b.user_agent,
    "received": lambda b: b.received or None, "socket": lambda b: b.socket or None, "modified": lambda b: int(b.modified),
    "methods": lambda b: b.methods, "ruid": lambda b: b.ruid, "instance": lambda b: b.instance or None, "regid": lambda b: b.reg_id, "reg_id": lambda b: b.reg_id,
    "conid": lambda b: b.conn or -1, "server_id": lambda b: b.server_id,
}  # fmt: skip


class LookupFunctions:
    rt: Any
    p: Any
    usrloc: Any

    def cfg_value(self, ctx: Ctx, field: str, default: Any) -> Any:
        raise NotImplementedError

    def keep_record(self, ctx: Ctx, binding: Binding) -> None:
        raise NotImplementedError

    # -- finding ---------------------------------------------------------------------------------------------------------

    def _find(self, ctx: Ctx, domain: str, uri: str) -> tuple[int, list[Binding]]:
        """Usable contacts, best first; the code is 1, -1 not there, -2 method not supported, -3 bad URI."""
        aor = self.usrloc.aor_of(uri)
        if aor is None:
            return -3, []
        parsed = parse_uri(uri)
        gruu = parsed.param_map.get("gr") if parsed is not None and "gr" in parsed.param_map else None
        found: list[Binding] = self.usrloc.bindings(domain, aor, expired=bool(self.p.use_expired_contacts))
        if parsed is not None and "gr" in parsed.param_map and self.p.gruu_enabled:
            if gruu:
                found = [b for b in found if b.instance.strip("<>") == gruu]
            else:
                found = [b for _, held in self.usrloc.table(domain).scan() for b in held if b.ruid == (parsed.user or "")]
        found = self._filtered(ctx, found)
        if not found:
            return -1, []
        if self.p.method_filtering and ctx.msg.is_request:
            mask = method_id(ctx.msg.method)
            usable = [b for b in found if b.methods is None or b.methods & mask]
            if not usable:
                return -2, []
            found = usable
        return 1, found

    def _filtered(self, ctx: Ctx, found: list[Binding]) -> list[Binding]:
        """By lookup_filter_mode: 1 those with a flag of ``rlf_bflags`` (xavp_cfg), 2 those whose connection is there."""
        mode = self.p.lookup_filter_mode
        flags = int(self.cfg_value(ctx, "rlf_bflags", 0)) if mode & 1 else 0
        if flags:
            found = [b for b in found if b.cflags & flags]
        if mode & 2:
            is_open = self.rt.worker.streams.is_open
            found = [b for b in found if b.socket.split(":")[0] in ("udp", "sctp") or is_open(b.conn)]
        return found

    def _socket(self, text: str) -> Listener | None:
        if not text:
            return None
        found: Listener | None = self.rt.worker.find_socket(text, whole=True)
        return found

    def _way(self, b: Binding) -> tuple[str | None, str | None]:
        """(next hop, Path) of a contact: its first Path, else the address it registered from. With path_check_local a first hop that is this
        server itself is left out."""
        if not b.path or not self.p.use_path:
            return b.received or None, None
        hops = parse_addr_list(b.path) or []
        own = hops[0].parsed if hops and self.p.path_check_local else None
        if own is None or not self.rt.is_myself(own.host, own.port_number, own.transport):
            return hops[0].uri if hops else None, b.path
        if len(hops) == 1:
            return b.received or None, None
        return hops[1].uri, ", ".join(f"<{hop.uri}>" for hop in hops[1:])

    def _branch(self, b: Binding) -> Branch:
        target, path = self._way(b)
        return Branch(b.contact, target, path, b.q, self._socket(b.socket), b.cflags, b.instance or None, b.ruid, b.user_agent or None)

    def _lookup(self, ctx: Ctx, domain: str, uri: str, *, to_set: bool) -> int:
        code, found = self._find(ctx, domain, uri or ctx.ruri)
        if code < 0:
            return code
        attributes = [deepcopy(b.xavp) for b in found if b.xavp]
        if attributes:
            held = ctx.xavps.setdefault("xavp", {}).setdefault(self.usrloc.p.xavp_contact, [])
            held[:0] = attributes
        self.keep_record(ctx, found[0])
        branches = [self._branch(b) for b in found]
        if not to_set:
            first, *rest = branches
            ctx.ruri, ctx.ruri_used = first.uri, False
            ctx.du, ctx.path, ctx.q = first.dst_uri, first.path, first.q
            if first.send_socket is not None:
                ctx.send_socket = first.send_socket
            ctx.bflags, ctx.instance, ctx.ruid, ctx.location_ua = first.flags, first.instance, first.ruid, first.user_agent
            branches = rest
        if int(self.cfg_value(ctx, "append_branches", self.p.append_branches)) or to_set:
            room = self.rt.param("max_branches") - 1 - len(ctx.branches)
            ctx.branches += branches[: max(0, room)]
        return 1

    @function(_RF)
    def lookup(self, ctx: Ctx, domain: Location, uri: str = "") -> int:
        """The request URI becomes the best contact, the others further branches."""
        return self._lookup(ctx, domain, uri, to_set=False)

    @function(_RF)
    def lookup_to_dset(self, ctx: Ctx, domain: Location, uri: str = "") -> int:
        """All contacts become further branches; the request URI stays."""
        return self._lookup(ctx, domain, uri, to_set=True)

    @function(_RF)
    def lookup_branches(self, ctx: Ctx, domain: Location) -> int:
        """Look up the request URI and every branch that is there."""
        targets = [b.uri for b in ctx.branches]
        result = self._lookup(ctx, domain, "", to_set=False)
        kept = ctx.branches[: len(targets)]
        ctx.branches = ctx.branches[len(targets) :]
        for target, original in zip(targets, kept, strict=True):
            aor = self.usrloc.aor_of(target)
            uri = parse_uri(target)
            if aor is None or uri is None or not self.rt.is_myself(uri.host, uri.port_number, uri.transport):
                ctx.branches.append(original)
            elif self._lookup(ctx, domain, target, to_set=True) > 0:
                result = 1
        return result

    @function(ANY)
    def registered(self, ctx: Ctx, domain: Location, uri: str = "", match_option: int = 0, match_action: int = 0) -> int:
        """Whether there is a contact; match_option restricts: 1 Call-ID, 2 received, 4 contact, 8 ruid."""
        found: list[Binding]
        aor = self.usrloc.aor_of(uri or ctx.ruri)
        found = self.usrloc.bindings(domain, aor) if aor is not None else []
        source = f"sip:{ctx.flow.remote_ip}:{ctx.flow.remote_port}"
        contact = ctx.msg.address("contact")
        tests: dict[int, Callable[[Binding], bool]] = {
            1: lambda b: b.call_id == ctx.msg.call_id, 2: lambda b: b.received.split(";")[0] == source,
            4: lambda b: contact is not None and b.contact == contact.uri, 8: lambda b: b.ruid == ctx.ruid,
        }  # fmt: skip
        for bit, test in tests.items():
            if match_option & bit:
                found = [b for b in found if test(b)]
        if not found:
            return -1
        self.keep_record(ctx, found[0])
        if match_action & 1:
            ctx.bflags |= found[0].cflags
        return 1

    @function(ANY)
    def lookup_xavp(self, ctx: Ctx, ultable: str, uri: str, rxname: str, cxname: str) -> int:
        """Contacts of an address as xavps: the record and one root per contact."""
        aor = self.usrloc.aor_of(uri)
        found = self.usrloc.bindings(ultable, aor) if aor is not None else []
        if not found:
            return -1
        tree = ctx.xavps.setdefault("xavp", {})
        tree.setdefault(rxname, []).insert(0, {"aor": [aor], "count": [len(found)]})
        for b in reversed(found):
            tree.setdefault(cxname, []).insert(0, {k: [v] for k, part in _FIELDS.items() if (v := part(b)) is not None})
        return 1

    @function(ANY)
    def reg_from_user(self, ctx: Ctx, ultable: str, uri: str, mode: int) -> int:
        """Whether the request came from where the user registered."""
        aor = self.usrloc.aor_of(uri)
        for b in self.usrloc.bindings(ultable, aor) if aor is not None else []:
            parsed = parse_uri(b.received or b.contact)
            if parsed is not None and parsed.host == ctx.flow.remote_ip and (mode & 1 or parsed.real_port() == ctx.flow.remote_port):
                return 1
        return -1

    # -- $ulc ------------------------------------------------------------------------------------------------------------

    @function(_RF)
    def reg_fetch_contacts(self, ctx: Ctx, domain: Location, uri: str, profile: Lit) -> int:
        aor = self.usrloc.aor_of(uri)
        found = self.usrloc.bindings(domain, aor) if aor is not None else []
        profiles = dict(ctx.recall("ulc", {}))
        profiles.pop(profile, None)
        if found:
            profiles[profile] = (aor, domain, list(found))
        ctx.remember("ulc", profiles)
        return 1 if found else -1

    @function(_RF)
    def reg_free_contacts(self, ctx: Ctx, profile: Lit) -> int:
        profiles = dict(ctx.recall("ulc", {}))
        profiles.pop(profile, None)
        ctx.remember("ulc", profiles)
        return 1

    @pv_class("ulc", index=True)
    def pv_ulc(self, spec: PvSpec) -> BoundPv:
        """``$ulc(profile=>attribute)``, with an index for the contact."""
        profile, _, attribute = (spec.inner or "").partition("=>")
        index, index_of = index_getter(self.rt, spec)

        def get(ctx: Ctx) -> Value:
            held = ctx.recall("ulc", {}).get(profile)
            if held is None:
                return None
            aor, domain, bindings = held
            simple: dict[str, Value] = {"aor": aor, "domain": domain, "aorhash": hash(aor) & 0xFFFFFFFF, "count": len(bindings)}
            if attribute in simple:
                return simple[attribute]
            at = to_int(index_of(ctx)) if index_of is not None else int(index or 0)
            return _FIELDS[attribute](bindings[at]) if 0 <= at < len(bindings) else None

        return BoundPv(get)

    @classmethod
    def check_pv_ulc(cls, spec: PvSpec) -> str | None:
        attribute = (spec.inner or "").partition("=>")[2]
        known = (*_FIELDS, "aor", "domain", "aorhash", "count")
        return None if attribute in known else f"the attribute is one of {' '.join(known)}"
