"""Module dispatcher: balancing and failover over sets of destinations. https://www.kamailio.org/docs/modules/stable/modules/dispatcher.html

Not there: overload control (``ds_oc_set_attrs``, ``ds_dsg_fetch``, ``$dsg``).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from kamc.declare import ANY, Module, Routes, function, pv_class
from kamc.declare.argtypes import Lit
from kamc.declare.pvspec import PvSpec, parse_pv
from kamc.declare.values import Value, to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.pv.bind import BoundPv, bind
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.dispatcher.choose import CALL_LOAD, PARALLEL, Chooser, in_order
from stdlib_modules.dispatcher.commands import Commands, state_of
from stdlib_modules.dispatcher.load import CallLoads
from stdlib_modules.dispatcher.probe import Probing
from stdlib_modules.dispatcher.source import Sources
from stdlib_modules.dispatcher.table import DISABLED, INACTIVE, PROBING, TRYING, Destination, DestinationSet

_RF: Final = Routes.REQUEST | Routes.FAILURE
_RFO: Final = _RF | Routes.ONREPLY
#: of parameter ``flags``
_USER_ONLY, _FAILOVER = 1, 2
#: of ds_is_from_list
_ANY_PORT, _ANY_PROTO = 1, 2
#: of xavp_dst_mode and xavp_ctx_mode
_NO_ATTRS, _SOCKET_TEXT, _SOCKET_NAME, _NO_COUNT = 1, 2, 4, 1


class Dispatcher(Sources, Probing, Commands, Module):
    name = "dispatcher"
    runtime_names: ClassVar[dict[str, str]] = {n: f"ds_{n}" for n in ("inactive_threshold", "ping_reply_codes", "probing_threshold")}
    tuning_params = ("ds_dns_mode", "ds_dns_interval", "ds_dns_ttl", "ds_hash_check_interval", "ds_timer_mode")

    class Params:
        list_file: str = "/etc/kamailio/dispatcher.list"
        db_url: str = ""
        table_name: str = "dispatcher"
        setid_col: str = "setid"
        destination_col: str = "destination"
        flags_col: str = "flags"
        priority_col: str = "priority"
        attrs_col: str = "attrs"
        ds_db_extra_attrs: str = ""
        ds_attrs_none: int = 0
        ds_load_mode: int = 0
        flags: int = 0
        force_dst: int = 1
        use_default: int = 0
        xavp_dst: str = "_dsdst_"
        xavp_dst_mode: int = 0
        xavp_ctx: str = "_dsctx_"
        xavp_ctx_mode: int = 0
        hash_pvar: str = ""
        setid_pvname: str = ""
        attrs_pvname: str = ""
        ds_probing_threshold: int = 1
        ds_inactive_threshold: int = 1
        ds_ping_method: str = "OPTIONS"
        ds_ping_from: str = "sip:dispatcher@localhost"
        ds_ping_interval: int = 0
        ds_ping_latency_stats: int = 0
        ds_latency_estimator_alpha: int = 900
        ds_ping_reply_codes: str = ""
        ds_probing_mode: int = 0
        ds_hash_size: int = 0
        ds_hash_expire: int = 7200
        ds_hash_initexpire: int = 7200
        outbound_proxy: str = ""
        ds_default_socket: str = ""
        ds_default_sockname: str = ""
        ds_ping_socket: str = ""
        ds_ping_fr_timeout: int = 0
        ds_ping_fr_timer: int = 0
        ds_retain_latency_stats: int = 0
        reload_delta: int = 5

    def data_files(self) -> dict[str, str]:
        return {str(self.p.list_file): "dispatcher.reload"} if self.db is None else {}

    def mod_init(self) -> None:
        p = self.p
        if p.ds_probing_mode not in (0, 1, 2, 3):
            raise ConfigError("dispatcher: ds_probing_mode is 0, 1, 2 or 3")
        if p.ds_probing_threshold < 1 or p.ds_inactive_threshold < 1:
            raise ConfigError("dispatcher: ds_probing_threshold and ds_inactive_threshold are at least 1")
        self.sets: dict[int, DestinationSet] = {}
        self.changed = float("-inf")
        self.loads = CallLoads(self.rt, self.sets, unanswered=p.ds_hash_initexpire, answered=p.ds_hash_expire)
        hashed = self.rt.format(p.hash_pvar) if p.hash_pvar else None
        self.chooser = Chooser(self.rt, user_only=bool(p.flags & _USER_ONLY), hashed=hashed)
        self.found_set, self.found_attrs = self._target_pv(p.setid_pvname), self._target_pv(p.attrs_pvname)
        self.open_source()
        if not self.load_list():
            raise ConfigError(f"dispatcher: the {f'table {p.table_name}' if self.db is not None else f'list {p.list_file}'} cannot be read")
        self.start_probing()

    def _target_pv(self, name: str) -> BoundPv | None:
        if not name:
            return None
        found = bind(self.rt, parse_pv(name))
        if found.set is None:
            raise ConfigError(f"dispatcher: {name} cannot be set")
        return found

    def activate(self, previous: Any) -> None:
        """What is known of destinations that are still there (states, latencies, calls) is carried over."""
        super().activate(previous)
        if previous is None:
            return
        for number, chosen in self.sets.items():
            chosen.take_state(previous.sets.get(number), latency=True)
        self.loads.take_over(previous.loads)
        if (previous.p.ds_ping_interval > 0) == (self.p.ds_ping_interval > 0):
            self.pinging = previous.pinging

    def child_init(self) -> None:
        super().child_init()
        if self.p.ds_hash_size > 0:
            self.rt.every(30, self.loads.expire)

    # -- choosing --------------------------------------------------------------------------------------------------------

    def _choose(self, ctx: Ctx, number: int, algorithm: int, limit: int) -> list[tuple[DestinationSet, Destination]]:
        """The destinations to try, best first; empty when there is none."""
        chosen = self.sets.get(number)
        if chosen is None:
            self.rt.log.error("dispatcher: there is no set %d", number)
            return []
        if algorithm == CALL_LOAD and self.p.ds_hash_size <= 0:
            self.rt.log.error("dispatcher: algorithm 10 needs ds_hash_size")
            return []
        first = self.chooser.first(ctx, chosen, algorithm)
        if first is None:
            return []
        found = in_order(chosen, first, algorithm, use_default=bool(self.p.use_default))
        if algorithm == CALL_LOAD and found and ctx.msg.method == "INVITE" and not ctx.msg.to_tag and not self.loads.put(ctx.msg.call_id, chosen, found[0]):
            return []
        return [(chosen, d) for d in found[: limit if limit > 0 else None]]

    def _tree(self, ctx: Ctx) -> dict[str, Any]:
        tree: dict[str, Any] = ctx.xavps.setdefault("xavp", {})
        return tree

    def _keep(self, ctx: Ctx, found: list[tuple[DestinationSet, Destination]]) -> None:
        """Put the list into the xavps, for ds_next_dst."""
        tree, mode = self._tree(ctx), self.p.xavp_dst_mode
        entries = []
        for chosen, d in found:
            entry: dict[str, Any] = {"uri": [d.uri], "grp": [chosen.number]}
            if d.attrs and not mode & _NO_ATTRS:
                entry["attrs"] = [d.attrs]
            if d.values.get("duid"):
                entry["dstid"] = [d.values["duid"]]
            if mode & _SOCKET_TEXT and d.values.get("socket"):
                entry["socket"] = [d.values["socket"]]
            if mode & _SOCKET_NAME and d.values.get("sockname"):
                entry["sockname"] = [d.values["sockname"]]
            own = self.socket_of(d)
            if own is not None:
                entry["sock"] = [str(own)]
            entries.append(entry)
        if self.p.xavp_dst:
            tree[self.p.xavp_dst] = entries + tree.get(self.p.xavp_dst, [])
        if self.p.xavp_ctx and not self.p.xavp_ctx_mode & _NO_COUNT:
            tree.setdefault(self.p.xavp_ctx, []).insert(0, {"cnt": [len(entries)]})

    def _direct(self, ctx: Ctx, uri: str, socket: Listener | None, *, domain: bool) -> bool:
        """Send to a destination: by $du, or by all that follows the user in the R-URI."""
        if domain:
            target, own = parse_uri(uri), parse_uri(ctx.ruri)
            if target is None or own is None:
                self.rt.log.error("dispatcher: cannot put the host of %s into %s", uri, ctx.ruri)
                return False
            ctx.ruri = str(own.replaced(host=target.host, port=target.port, params=target.params))
        else:
            ctx.du = uri
        ctx.ruri_used = False
        if socket is not None:
            ctx.send_socket = socket
        return True

    def _select(self, ctx: Ctx, number: int, algorithm: int, limit: int, *, domain: bool) -> int:
        if ctx.du and not domain and not self.p.force_dst:
            self.rt.log.error("dispatcher: the destination is set already (%s), and force_dst is 0", ctx.du)
            return -1
        found = self._choose(ctx, number, algorithm, limit)
        if not found:
            return -1
        if algorithm == PARALLEL:
            for _, d in found[1:]:
                ctx.branches.append(Branch(ctx.ruri, d.uri))
            self._keep(ctx, [])
        elif self.p.flags & _FAILOVER:
            self._keep(ctx, found)
        first = found[0][1]
        return 1 if self._direct(ctx, first.uri, self.socket_of(first), domain=domain) else -1

    @function(_RF)
    def ds_select_dst(self, ctx: Ctx, set: int, alg: int, limit: int = 0) -> int:
        return self._select(ctx, set, alg, limit, domain=False)

    @function(_RF)
    def ds_select_domain(self, ctx: Ctx, set: int, alg: int, limit: int = 0) -> int:
        return self._select(ctx, set, alg, limit, domain=True)

    @function(ANY)
    def ds_select(self, ctx: Ctx, set: int, alg: int, limit: int = 0) -> int:
        """Only the list in the xavps."""
        found = self._choose(ctx, set, alg, limit)
        if not found:
            return -1
        self._keep(ctx, found)
        return 1

    @function(_RF)
    def ds_select_routes(self, ctx: Ctx, rules: str, mode: str, limit: int = 0) -> int:
        """``1=4;2=8``: sets and algorithms, one after the other. ``mode`` 0 sets $du, 1 the R-URI, 2 only the list."""
        found: list[tuple[DestinationSet, Destination]] = []
        for rule in filter(None, (r.strip() for r in rules.split(";"))):
            number, sep, algorithm = rule.partition("=")
            if not sep or not number.strip().isdecimal() or not algorithm.strip().isdecimal():
                self.rt.log.error("ds_select_routes: bad rule %r", rule)
                return -1
            room = max(1, limit - len(found)) if limit > 0 else 0
            found += self._choose(ctx, int(number), int(algorithm), room)
        if not found:
            return -1
        self._keep(ctx, found)
        first = found[0][1]
        if mode.strip().lower() in ("2", "x"):
            return 1
        return 1 if self._direct(ctx, first.uri, self.socket_of(first), domain=mode.strip().lower() in ("1", "r")) else -1

    # -- failover --------------------------------------------------------------------------------------------------------

    def _entries(self, ctx: Ctx) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._tree(ctx).get(self.p.xavp_dst) or []
        return entries

    def _take(self, ctx: Ctx, *, domain: bool, pop: bool) -> int:
        if not self.p.flags & _FAILOVER or not self.p.xavp_dst:
            self.rt.log.warning("dispatcher: failover is off (parameter flags)")
            return -1
        entries = self._entries(ctx)
        if pop and entries:
            entries.pop(0)
        if not entries:
            return -1
        entry = entries[0]
        uri = to_str(entry["uri"][0])
        chosen = self.sets.get(entry["grp"][0])
        d = chosen.find(uri) if chosen is not None else None
        if pop and chosen is not None and d is not None and d.values.get("duid") and self.loads.unset(ctx.msg.call_id):
            self.loads.put(ctx.msg.call_id, chosen, d)
        socket = self.rt.worker.find_socket(to_str(entry["sock"][0]), whole=True) if "sock" in entry else self.socket_of(d)
        return 1 if self._direct(ctx, uri, socket, domain=domain) else -1

    @function(_RF)
    def ds_next_dst(self, ctx: Ctx) -> int:
        return self._take(ctx, domain=False, pop=True)

    @function(_RF)
    def ds_next_domain(self, ctx: Ctx) -> int:
        return self._take(ctx, domain=True, pop=True)

    @function(_RF)
    def ds_set_dst(self, ctx: Ctx) -> int:
        return self._take(ctx, domain=False, pop=False)

    @function(_RF)
    def ds_set_domain(self, ctx: Ctx) -> int:
        return self._take(ctx, domain=True, pop=False)

    # -- states ----------------------------------------------------------------------------------------------------------

    def set_state(self, chosen: DestinationSet, d: Destination, flags: int) -> None:
        """A state by hand: the letter and whether it is probed."""
        self.mark(chosen, d, flags & (INACTIVE | TRYING | DISABLED))
        d.flags = d.flags & ~PROBING | flags & PROBING
        self.share(chosen, d)

    @function(_RFO)
    def ds_mark_dst(self, ctx: Ctx, state: Lit = "i") -> int:
        """The destination in use: ``a``, ``i``, ``t`` or ``d``, with ``p`` to have it probed."""
        flags = state_of(str(state))
        entries = self._entries(ctx)
        if flags is None or not entries:
            return -1
        return self._mark(int(entries[0]["grp"][0]), to_str(entries[0]["uri"][0]), flags)

    def _mark(self, number: int, uri: str, flags: int) -> int:
        chosen = self.sets.get(number)
        d = chosen.find(uri) if chosen is not None else None
        if chosen is None or d is None:
            return -1
        self.set_state(chosen, d, flags)
        return 1

    @function(ANY)
    def ds_mark_addr(self, ctx: Ctx, state: str, setid: int, uri: str) -> int:
        flags = state_of(state)
        return self._mark(setid, uri, flags) if flags is not None else -1

    @function(ANY)
    def ds_is_active(self, ctx: Ctx, groupid: int, uri: str = "") -> int:
        chosen = self.sets.get(groupid)
        return 1 if chosen is not None and any(d.usable for d in chosen.all if not uri or d.uri == uri) else -1

    @function(ANY, "ds_list_exists", "ds_list_exist")
    def ds_list_exists(self, ctx: Ctx, groupid: int) -> int:
        return 1 if groupid in self.sets else -1

    @function(ANY)
    def ds_reload(self, ctx: Ctx) -> int:
        return 1 if self.everywhere(self.load_list) else -1

    def follow_turn(self, number: int, following: int) -> None:
        """Another worker has taken the turn of a set."""
        if number in self.sets:
            self.sets[number].next = following

    def follow_load(self, what: str, call_id: str, number: int, duid: str) -> None:
        """Another worker has counted a call."""
        self.loads.follow(what, call_id, number, duid)

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _is_from(self, ctx: Ctx, number: int, mode: int, uri: str) -> int:
        """``mode`` 1 lets the port be another one, 2 the transport. A negative set is any."""
        if uri:
            parsed = parse_uri(uri)
            if parsed is None:
                self.rt.log.error("ds_is_from_list: bad URI %r", uri)
                return -1
            host, port, proto = parsed.host.strip("[]"), parsed.real_port(), parsed.proto()
        else:
            host, port, proto = ctx.flow.remote_ip, ctx.flow.remote_port, ctx.flow.proto
        for chosen in [self.sets[number]] if number in self.sets else self.sets.values() if number < 0 else ():
            for d in chosen.all:
                same = d.parsed.host.strip("[]").lower() == host.lower() or self.rt.datapath.lookup(d.parsed.host) == host
                if same and (mode & _ANY_PORT or d.parsed.real_port() == port) and (mode & _ANY_PROTO or d.parsed.proto() == proto):
                    self._report(ctx, chosen, d)
                    return 1
        return -1

    def _report(self, ctx: Ctx, chosen: DestinationSet, d: Destination) -> None:
        if self.found_set is not None and self.found_set.set is not None:
            self.found_set.set(ctx, chosen.number)
        if self.found_attrs is not None and self.found_attrs.set is not None and d.attrs:
            self.found_attrs.set(ctx, d.attrs)

    @function(ANY)
    def ds_is_from_list(self, ctx: Ctx, groupid: int = -1, mode: int = 0, uri: str = "") -> int:
        return self._is_from(ctx, groupid, mode, uri)

    # -- call load -------------------------------------------------------------------------------------------------------

    @function(ANY)
    def ds_load_unset(self, ctx: Ctx) -> int:
        """The call is over."""
        return 1 if self.loads.unset(ctx.msg.call_id) else -1

    @function(ANY)
    def ds_load_update(self, ctx: Ctx) -> int:
        """As the message says: an answered INVITE stays, a refused one and a BYE go."""
        msg = ctx.msg
        if msg.is_request:
            if msg.method in ("BYE", "CANCEL"):
                self.loads.unset(msg.call_id)
        elif msg.cseq[1] == "INVITE" and 200 <= msg.status < 300:
            self.loads.confirm(msg.call_id)
        elif msg.cseq[1] == "INVITE" and msg.status >= 300:
            self.loads.unset(msg.call_id)
        return 1

    # -- events ----------------------------------------------------------------------------------------------------------

    @pv_class("dsv")
    def pv_dsv(self, spec: PvSpec) -> BoundPv:
        key = {"group": "setid"}.get(spec.inner or "", spec.inner or "")

        def get(ctx: Ctx) -> Value:
            event = ctx.recall("dispatcher_event")
            return event.get(key) if event is not None else None

        return BoundPv(get)

    @classmethod
    def check_pv_dsv(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in ("uri", "flags", "setid", "group", "code", "reason") else f"unknown name {spec.inner!r}"


module = Dispatcher
