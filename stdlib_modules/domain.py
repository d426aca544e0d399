"""Module domain: which domains are served here, with attributes, from two tables that are read at start and by command.
https://www.kamailio.org/docs/modules/stable/modules/domain.html"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from kamc.declare import Module, Routes, Spread, function, rpc
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database, DbError
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.uri import parse_uri

_RFB = Routes.REQUEST | Routes.FAILURE | Routes.BRANCH | Routes.LOCAL
_VERSIONS: Final = {"domain_table": 2, "domain_attrs_table": 1}
#: type of an attribute that is a number; 2 is a text
_NUMBER: Final = 0


@dataclass(slots=True)
class Served:
    """A domain as the table writes it: its id and the attributes of that."""

    name: str
    did: str
    attributes: list[tuple[str, int | str]] = field(default_factory=list)


class Domain(Module):
    name = "domain"

    class Params:
        db_url: str = "mysql://kamailioro:kamailioro@localhost/kamailio"
        domain_table: str = "domain"
        domain_attrs_table: str = "domain_attrs"
        did_col: str = "did"
        domain_col: str = "domain"
        name_col: str = "name"
        type_col: str = "type"
        value_col: str = "value"
        register_myself: int = 0

    def mod_init(self) -> None:
        p = self.p
        self.db: Database = self.rt.database(p.db_url)
        for param, version in _VERSIONS.items():
            self.db.check_version(p.domain_table if param == "domain_table" else p.domain_attrs_table, version)
        #: domain, in lower case
        self.served: dict[str, Served] = {}
        try:
            self._load()
        except DbError as err:
            raise ConfigError(f"domain: {err}") from None

    def _load(self) -> None:
        """Read both tables. Raises DbError; what was known stays then."""
        p = self.p
        attributes: dict[str, list[tuple[str, int | str]]] = {}
        for did, name, kind, value in self.db.select(p.domain_attrs_table, (p.did_col, p.name_col, p.type_col, p.value_col)).rows:
            text = "" if value is None else str(value)
            number = kind == _NUMBER
            if number and not text.lstrip("+-").isdecimal():
                self.rt.log.error("domain: attribute %s of %s is a number and has value %r: left out", name, did, text)
                continue
            attributes.setdefault(str(did), []).append((str(name), int(text) if number else text))
        found = {}
        for domain, did in self.db.select(p.domain_table, (p.domain_col, p.did_col)).rows:
            known = str(did) if did else str(domain)
            found[str(domain).lower()] = Served(str(domain), known, attributes.get(known, []))
        own = {("", name, 0) for name in self.served}
        self.served = found
        if p.register_myself:
            self.rt.aliases[:] = [*(a for a in self.rt.aliases if a not in own), *(("", name, 0) for name in found)]

    def _is_served(self, host: str) -> int:
        return 1 if host.lower() in self.served else -1

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(_RFB)
    def is_from_local(self, ctx: Ctx) -> int:
        """Whether the domain of From is served here."""
        parsed = parse_uri(ctx.msg.from_.uri) if ctx.msg.from_ is not None else None
        return self._is_served(parsed.host) if parsed is not None else -1

    @function(_RFB)
    def is_uri_host_local(self, ctx: Ctx) -> int:
        """Whether that of the R-URI is; in a failure route, of the first branch to come."""
        uri = ctx.branches[0].uri if ctx.kind & Routes.FAILURE and ctx.branches else ctx.ruri
        parsed = parse_uri(uri)
        return self._is_served(parsed.host) if parsed is not None else -1

    @function(_RFB)
    def is_domain_local(self, ctx: Ctx, domain: str) -> int:
        return self._is_served(domain)

    @function(_RFB)
    def lookup_domain(self, ctx: Ctx, domain: str, prefix: str = "") -> int:
        """Whether a domain is served; its id becomes ``$avp(PREFIXdid)``, its attributes AVPs of their names."""
        found = self.served.get(domain.lower())
        if found is None:
            return -1
        values: list[tuple[str, int | str]] = [("did", found.did), *found.attributes]
        for name, value in values:
            ctx.avps.setdefault(prefix + name, []).insert(0, value)
        return 1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("domain.reload", spread=Spread.EVERY)
    def rpc_reload(self) -> None:
        """Read the tables again."""
        try:
            self._load()
        except DbError as err:
            self.rt.log.error("domain: %s", err)
            raise RpcFault(500, "Domain Table Reload Failed") from None

    @rpc("domain.dump")
    def rpc_dump(self) -> dict[str, Any]:
        """All domains with their ids, and the names of the attributes of each id."""
        ids = {one.did: one for one in self.served.values() if one.attributes}
        return {"domains": [{"domain": one.name, "did": one.did} for one in self.served.values()],
                "attributes": [{"did": did, "attrs": [name for name, _ in reversed(one.attributes)]} for did, one in ids.items()]}  # fmt: skip


module = Domain
