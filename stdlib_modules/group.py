"""Module group: which users are in which groups, from tables. https://www.kamailio.org/docs/modules/stable/modules/group.html"""

from __future__ import annotations

from kamc.declare import Module, Routes, function
from kamc.declare.argtypes import Lit, PvArg
from kamc.declare.regex import PosixRegex
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database, DbError
from kamc.runtime.pv.bind import Getter
from kamc.runtime.sip.uri import parse_uri

_RFB = Routes.REQUEST | Routes.FAILURE | Routes.BRANCH | Routes.LOCAL
#: what is_user_in returns besides 1
_ERROR, _NOT_IN = -1, -6
_TABLE_VERSION, _RE_VERSION = 2, 1


class Group(Module):
    name = "group"

    class Params:
        db_url: str = "mysql://kamailioro:kamailioro@localhost/kamailio"
        table: str = "grp"
        user_column: str = "username"
        domain_column: str = "domain"
        group_column: str = "grp"
        use_domain: int = 0
        re_table: str = ""
        re_exp_column: str = "reg_exp"
        re_gid_column: str = "group_id"
        multiple_gid: int = 1

    def mod_init(self) -> None:
        p = self.p
        self.db: Database = self.rt.database(p.db_url)
        if p.table:
            self.db.check_version(p.table, _TABLE_VERSION)
        self._getters: dict[str, Getter] = {}
        self.rules: list[tuple[PosixRegex, int]] = []
        if p.re_table:
            self.db.check_version(p.re_table, _RE_VERSION)
            try:
                rows = self.db.select(p.re_table, (p.re_exp_column, p.re_gid_column)).rows
                self.rules = [(self.rt.regex(str(expression)), int(str(group))) for expression, group in rows]
            except (DbError, ValueError) as err:
                raise ConfigError(f"group: table {p.re_table}: {err}") from None

    def _whose(self, ctx: Ctx, which: str) -> tuple[str, str] | None:
        """(user, domain) of Request-URI, To, From, Credentials, or of the URI in a variable."""
        word = which.strip().lower()
        if word == "credentials":
            given = ctx.recall("auth_credentials")
            if given is None:
                self.rt.log.error("group: the request has shown no credentials that hold: authenticate it first")
                return None
            user, _, domain = given.parts["username"].partition("@")
            return user, domain or given.parts.get("realm", "")
        if word == "request-uri":
            uri: str | None = ctx.ruri
        elif word in ("to", "from"):
            address = ctx.msg.to if word == "to" else ctx.msg.from_
            uri = address.uri if address is not None else None
        else:
            getter = self._getters.get(which)
            if getter is None:
                getter = self._getters[which] = self.rt.pv(which)
            value = getter(ctx)
            uri = str(value) if value is not None else None
        parsed = parse_uri(uri) if uri is not None else None
        return (parsed.user, parsed.host) if parsed is not None and parsed.user else None

    @function(_RFB, waits=True)
    def is_user_in(self, ctx: Ctx, URI: Lit, group: str) -> int:
        """Whether the user is in a group. ``URI`` is Request-URI, To, From, Credentials or a variable with a URI."""
        p, found = self.p, self._whose(ctx, URI)
        if found is None:
            return -1
        where = [(p.user_column, "=", found[0]), (p.group_column, "=", group)]
        if p.use_domain:
            where.append((p.domain_column, "=", found[1]))
        rows = self.db.found(self.name, p.table, (p.group_column,), where, limit=1)
        return _ERROR if rows is None else 1 if rows else _NOT_IN

    @function(_RFB)
    def get_user_group(self, ctx: Ctx, URI: Lit, AVP: PvArg) -> int:
        """The groups whose expressions match ``sip:user@domain``: the first, or with multiple_gid all of them. How many there are."""
        found = self._whose(ctx, URI)
        if found is None or AVP.set is None:
            return -1
        uri = f"sip:{found[0]}@{found[1]}"
        groups = [group for expression, group in self.rules if expression.test(uri)]
        if not self.p.multiple_gid:
            groups = groups[:1]
        for group in reversed(groups):
            AVP.set(ctx, group)
        return len(groups) or -1


module = Group
