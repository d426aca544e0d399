"""Module uri_db: whether URIs belong to who has shown credentials, and to anybody at all. https://www.kamailio.org/docs/modules/stable/modules/uri_db.html"""

from __future__ import annotations

from kamc.declare import Module, Routes, function
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database
from kamc.runtime.sip.uri import parse_uri

_URI_VERSION, _SUBSCRIBER_VERSION = 1, 7
#: what the checks return besides 1: no URI or no database, no credentials, nobody has it, somebody else has
_NOTHING, _NO_CREDENTIALS, _NOBODY, _OTHER = -1, -2, -5, -10


class UriDb(Module):
    name = "uri_db"

    class Params:
        db_url: str = "mysql://kamailioro:kamailioro@localhost/kamailio"
        db_table: str = "subscriber"
        user_column: str = "username"
        domain_column: str = "domain"
        uriuser_column: str = "uri_user"
        use_uri_table: int = 0
        use_domain: int = 0

    def mod_init(self) -> None:
        self.db: Database | None = None
        if self.p.db_url:
            self.db = self.rt.database(self.p.db_url)
            self.db.check_version(self.p.db_table, _URI_VERSION if self.p.use_uri_table else _SUBSCRIBER_VERSION)

    @staticmethod
    def _credentials(ctx: Ctx) -> tuple[str, str] | None:
        """(user, realm) that the request has proven."""
        given = ctx.recall("auth_credentials")
        return (given.parts["username"].partition("@")[0], given.parts.get("realm", "")) if given is not None else None

    def _check(self, ctx: Ctx, uri: str | None, who: tuple[str, str] | None) -> int:
        """Whether a URI belongs to the owner of the credentials."""
        p = self.p
        parsed = parse_uri(uri) if uri else None
        if parsed is None or not parsed.user:
            return _NOTHING
        who = who or self._credentials(ctx)
        if who is None:
            self.rt.log.error("uri_db: no credentials: authenticate the request first")
            return _NO_CREDENTIALS
        if not p.use_uri_table:
            return 1 if parsed.user.lower() == who[0].lower() and (not p.use_domain or parsed.host.lower() == who[1].lower()) else _OTHER
        where = [(p.user_column, "=", who[0]), (p.uriuser_column, "=", parsed.user)]
        if p.use_domain:
            where.append((p.domain_column, "=", who[1]))
        return self._exists(p.user_column, where)

    def _exists(self, column: str, where: list[tuple[str, str, str]]) -> int:
        rows = self.db.found(self.name, self.p.db_table, (column,), where, limit=1) if self.db is not None else None
        return _NOTHING if rows is None else 1 if rows else _NOBODY

    @function(Routes.REQUEST, waits=True)
    def check_to(self, ctx: Ctx) -> int:
        return self._check(ctx, ctx.msg.to.uri if ctx.msg.to is not None else None, None)

    @function(Routes.REQUEST, waits=True)
    def check_from(self, ctx: Ctx) -> int:
        return self._check(ctx, ctx.msg.from_.uri if ctx.msg.from_ is not None else None, None)

    @function(Routes.REQUEST, arities=(1, 3), waits=True)
    def check_uri(self, ctx: Ctx, uri: str, username: str = "", realm: str = "") -> int:
        return self._check(ctx, uri, (username, realm) if username else None)

    @function(Routes.REQUEST | Routes.LOCAL, waits=True)
    def does_uri_exist(self, ctx: Ctx) -> int:
        """Whether somebody has the R-URI."""
        p, parsed = self.p, parse_uri(ctx.ruri)
        if parsed is None:
            return _NOTHING
        if not parsed.user:
            return _NOBODY
        column = p.uriuser_column if p.use_uri_table else p.user_column
        where = [(column, "=", parsed.user)] + ([(p.domain_column, "=", parsed.host)] if p.use_domain else [])
        return self._exists(column, where)


module = UriDb
