"""Module alias_db: users under several names, from a table. https://www.kamailio.org/docs/modules/stable/modules/alias_db.html"""

from __future__ import annotations

from kamc.declare import Module, Routes, function
from kamc.declare.argtypes import Lit, PvArg
from kamc.errors import ConfigError
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.sip.uri import parse_uri

_RFORB = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH | Routes.LOCAL


class AliasDb(Module):
    name = "alias_db"

    class Params:
        db_url: str = "mysql://kamailioro:kamailioro@localhost/kamailio"
        user_column: str = "username"
        domain_column: str = "domain"
        alias_user_column: str = "alias_username"
        alias_domain_column: str = "alias_domain"
        use_domain: int = 0
        domain_prefix: str = ""
        append_branches: int = 0

    def mod_init(self) -> None:
        if not self.p.db_url:
            raise ConfigError("alias_db: db_url is empty")
        self.db = self.rt.database(self.p.db_url)

    def _uris(self, table: str, uri: str, flags: str) -> list[str]:
        """The URIs that an alias stands for; with ``r`` the aliases of a URI. ``d`` leaves the domain out, ``u`` compares it."""
        parsed = parse_uri(uri)
        if parsed is None or not parsed.user:
            return []
        p = self.p
        names, aliases = (p.user_column, p.domain_column), (p.alias_user_column, p.alias_domain_column)
        asked, wanted = (names, aliases) if "r" in flags else (aliases, names)
        where = [(asked[0], "=", parsed.user)]
        if (p.use_domain or "u" in flags) and "d" not in flags:
            where.append((asked[1], "=", parsed.host.removeprefix(p.domain_prefix)))
        rows = self.db.found(self.name, table, wanted, where) or []
        return [f"sip:{user}@{domain}" for user, domain in rows if user and domain]

    @function(Routes.REQUEST | Routes.FAILURE, waits=True)
    def alias_db_lookup(self, ctx: Ctx, table_name: str, flags: Lit = "") -> int:
        """Put the first URI into the R-URI; with append_branches the others become branches."""
        found = self._uris(table_name, ctx.ruri, flags)
        if not found:
            return -1
        ctx.ruri, ctx.ruri_used = found[0], False
        if self.p.append_branches:
            ctx.branches += [Branch(uri) for uri in found[1:]]
        return 1

    @function(_RFORB, waits=True)
    def alias_db_find(self, ctx: Ctx, table_name: str, input: PvArg, output: PvArg, flags: Lit = "") -> int:
        value = input.get(ctx)
        found = self._uris(table_name, str(value), flags) if value is not None else []
        if not found or output.set is None:
            return -1
        for uri in found:
            # an AVP gets all of them, the last one on top
            output.set(ctx, uri)
        return 1


module = AliasDb
