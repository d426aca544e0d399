"""Module speeddial: short numbers of users, from a table. https://www.kamailio.org/docs/modules/stable/modules/speeddial.html"""

from __future__ import annotations

from kamc.declare import Module, Routes, function
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.uri import parse_uri

#: use_domain: compare the owner's domain, and that of the number as well
_OWNER, _BOTH = 1, 2


class Speeddial(Module):
    name = "speeddial"

    class Params:
        db_url: str = "mysql://kamailioro:kamailioro@localhost/kamailio"
        user_column: str = "username"
        domain_column: str = "domain"
        sd_user_column: str = "sd_username"
        sd_domain_column: str = "sd_domain"
        new_uri_column: str = "new_uri"
        use_domain: int = 0
        domain_prefix: str = ""

    def mod_init(self) -> None:
        if not self.p.db_url:
            raise ConfigError("speeddial: db_url is empty")
        self.db = self.rt.database(self.p.db_url)

    @function(Routes.REQUEST, waits=True)
    def sd_lookup(self, ctx: Ctx, table: str, owner: str = "") -> int:
        """Put what the owner (by default the user of From) has for the user of the R-URI into the R-URI."""
        p = self.p
        whose = parse_uri(owner or (ctx.msg.from_.uri if ctx.msg.from_ is not None else ""))
        number = parse_uri(ctx.ruri)
        if whose is None or number is None or not whose.user or not number.user:
            return -1
        where = [(p.user_column, "=", whose.user), (p.sd_user_column, "=", number.user)]
        if p.use_domain >= _OWNER:
            where.append((p.domain_column, "=", whose.host.removeprefix(p.domain_prefix)))
        if p.use_domain >= _BOTH:
            where.append((p.sd_domain_column, "=", number.host.removeprefix(p.domain_prefix)))
        rows = self.db.found(self.name, table, (p.new_uri_column,), where, limit=1)
        uri = str(rows[0][0] or "") if rows else ""
        if not uri:
            return -1
        ctx.ruri, ctx.ruri_used = uri if uri.startswith(("sip:", "sips:", "tel:")) else f"sip:{uri}", False
        return 1


module = Speeddial
