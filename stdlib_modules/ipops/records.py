"""SRV and NAPTR records for the script: ``srv_query``, ``naptr_query`` and what they found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from kamc.declare import ANY, function, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value, to_int
from kamc.runtime.context import Ctx
from kamc.runtime.net.dns.records import Naptr, Srv
from kamc.runtime.pv.bind import BoundPv

_E_RESOLVE: Final = -1
_SRV_FIELDS: Final[dict[str, Callable[[Srv], Value]]] = {
    "port": lambda r: r.port, "priority": lambda r: r.priority, "target": lambda r: r.target, "weight": lambda r: r.weight,
}  # fmt: skip
_NAPTR_FIELDS: Final[dict[str, Callable[[Naptr], Value]]] = {
    "order": lambda r: r.order, "pref": lambda r: r.preference, "flags": lambda r: r.flags, "services": lambda r: r.service, "regex": lambda r: r.regexp,
    "replace": lambda r: r.replacement,
}  # fmt: skip


def _pattern(fields: dict[str, Any]) -> re.Pattern[str]:
    return re.compile(rf"(?P<id>[^=]+)=>(?:(?P<count>count)|(?P<key>{'|'.join(fields)})(?:\[(?P<index>-?\d+|\$.+)\])?)")


_SRV_KEY: Final = _pattern(_SRV_FIELDS)
_NAPTR_KEY: Final = _pattern(_NAPTR_FIELDS)


class RecordQueries:
    rt: Any
    found: dict[tuple[str, str], list[Any]]

    @function(ANY, waits=True)
    def srv_query(self, ctx: Ctx, srvcname: str, pvid: str) -> int:
        """Look SRV records up; ``$srvquery(pvid=>...)`` has them by priority, the heavier first (RFC 2782)."""
        records = [r for r in self.rt.datapath.dns.records(srvcname, "SRV", ctx) if isinstance(r, Srv)]
        return self._keep("srv", pvid, sorted(records, key=lambda r: (r.priority, -r.weight)))

    @function(ANY, waits=True)
    def naptr_query(self, ctx: Ctx, domain: str, pvid: str) -> int:
        """Look NAPTR records up; ``$naptrquery(pvid=>...)`` has them by order and preference (RFC 3403)."""
        records = [r for r in self.rt.datapath.dns.records(domain, "NAPTR", ctx) if isinstance(r, Naptr)]
        return self._keep("naptr", pvid, sorted(records, key=lambda r: (r.order, r.preference)))

    def _keep(self, kind: str, pvid: str, records: list[Any]) -> int:
        self.found.pop((kind, pvid), None)
        if not records:
            return _E_RESOLVE
        self.found[kind, pvid] = records
        return 1

    @function(ANY)
    def dns_set_local_ttl(self, ctx: Ctx, vttl: int) -> int:
        """The TTL, in seconds, of what is looked up from now on; 0 for what the answers say."""
        if vttl < 0:
            return -1
        self.rt.datapath.dns.local_ttl = vttl
        return 1

    # -- variables -------------------------------------------------------------------------------------------------------

    def _bound(self, kind: str, spec: PvSpec, pattern: re.Pattern[str], fields: dict[str, Callable[[Any], Value]]) -> BoundPv:
        match = pattern.fullmatch(spec.inner or "")
        assert match is not None
        key = kind, match["id"].strip()
        if match["count"]:
            return BoundPv(lambda ctx: len(self.found[key]) if key in self.found else None)
        field, text = fields[match["key"]], match["index"] or "0"
        index = self.rt.pv(text) if text.startswith("$") else None
        fixed = 0 if index is not None else int(text)

        def get(ctx: Ctx) -> Value:
            records = self.found.get(key)
            if records is None:
                return None
            at = to_int(index(ctx)) if index is not None else fixed
            at = at if at >= 0 else len(records) + at
            return field(records[at]) if 0 <= at < len(records) else None

        return BoundPv(get)

    @pv_class("srvquery")
    def pv_srvquery(self, spec: PvSpec) -> BoundPv:
        """``pvid=>count``, ``port[i]``, ``priority[i]``, ``target[i]``, ``weight[i]``."""
        return self._bound("srv", spec, _SRV_KEY, _SRV_FIELDS)

    @classmethod
    def check_pv_srvquery(cls, spec: PvSpec) -> str | None:
        return None if _SRV_KEY.fullmatch(spec.inner or "") else f"the form is $srvquery(NAME=>count), or one of {', '.join(_SRV_FIELDS)} with [INDEX]"

    @pv_class("naptrquery")
    def pv_naptrquery(self, spec: PvSpec) -> BoundPv:
        """``pvid=>count``, ``order[i]``, ``pref[i]``, ``flags[i]``, ``services[i]``, ``regex[i]``, ``replace[i]``."""
        return self._bound("naptr", spec, _NAPTR_KEY, _NAPTR_FIELDS)

    @classmethod
    def check_pv_naptrquery(cls, spec: PvSpec) -> str | None:
        return None if _NAPTR_KEY.fullmatch(spec.inner or "") else f"the form is $naptrquery(NAME=>count), or one of {', '.join(_NAPTR_FIELDS)} with [INDEX]"
