"""Module auth_db: digest authentication against a table of subscribers."""

from __future__ import annotations

from typing import Any, Final

from kamc.declare import ANY, Module, Routes, function
from kamc.declare.argtypes import Lit
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database, DbError
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.auth import ERROR, OK, Given

UNKNOWN_USER: Final = -3
_VERSION: Final = 7
#: bits of is_subscriber's and auth_check's flags
_CHECK_ID, _USE_DOMAIN = 1, 1


class AuthDb(Module):
    name = "auth_db"
    depends = ("auth",)

    class Params:
        db_url: str = "mysql://kamailioro:kamailioro@localhost/kamailio"
        user_column: str = "username"
        domain_column: str = "domain"
        password_column: str = "ha1"
        password_column_2: str = "ha1b"
        calculate_ha1: int = 0
        use_domain: int = 0
        load_credentials: str = ""
        version_table: int = 1
        force_generate_avps: int = 0

    def mod_init(self) -> None:
        self.auth: Any = self.rt.module("auth")
        self.db: Database = self.rt.database(self.p.db_url)
        #: column → the variable that it lands in
        self.loaded: list[tuple[str, BoundPv]] = []
        for part in self.p.load_credentials.split(";"):
            variable, eq, column = part.strip().rpartition("=")
            if not column:
                continue
            bound: BoundPv = self.rt.pv_arg(variable.strip() if eq else f"$avp({column})")
            if bound.set is None:
                raise ConfigError(f"auth_db: load_credentials: {variable} cannot be set")
            self.loaded.append((column.strip(), bound))
        self.checked: dict[str, bool] = {}

    def _usable(self, table: str) -> bool:
        """Whether a table has the version that the module knows; looked up once."""
        if not self.p.version_table:
            return True
        if table not in self.checked:
            try:
                self.db.check_version(table, _VERSION)
                self.checked[table] = True
            except ConfigError as err:
                self.rt.log.error("auth_db: %s", err)
                return False
        return self.checked[table]

    def _fetch(self, table: str, user: str, domain: str, columns: list[str]) -> tuple[Any, ...] | int | None:
        """The row of a user; None for nobody, ERROR when the database does not answer."""
        where = [(self.p.user_column, "=", user)] + ([(self.p.domain_column, "=", domain)] if domain else [])
        if not self._usable(table):
            return ERROR
        try:
            rows = self.db.select(table, columns, where, limit=1).rows
        except DbError as err:
            self.rt.log.error("auth_db: %s", err)
            return ERROR
        return rows[0] if rows else None

    def _check(self, ctx: Ctx, given: Given, realm: str, table: str, method: str) -> int:
        user, at, domain = given.parts.get("username", "").partition("@")
        # HA1 over user@domain stands in a column of its own
        column = self.p.password_column_2 if at and not self.p.calculate_ha1 else self.p.password_column
        found = self._fetch(table, user, (domain or realm) if self.p.use_domain else "", [column, *(c for c, _ in self.loaded)])
        if found is None:
            return UNKNOWN_USER
        if isinstance(found, int):
            return found
        password = "" if found[0] is None else str(found[0])
        result: int = self.auth.check(ctx, given, password, hashed=not self.p.calculate_ha1, method=method)
        if result == OK or self.p.force_generate_avps:
            self._load(ctx, found[1:])
        return result

    def _load(self, ctx: Ctx, values: tuple[Any, ...]) -> None:
        for (_, variable), value in zip(self.loaded, values, strict=True):
            if value is not None and variable.set is not None:
                variable.set(ctx, int(value) if isinstance(value, float) else value)

    def _authenticate(self, ctx: Ctx, kind: str, realm: str, table: str, method: str = "") -> int:
        given = self.auth.given(ctx, kind, realm)
        return given if isinstance(given, int) else self._check(ctx, given, realm, table, method)

    @function(Routes.REQUEST, waits=True)
    def www_authenticate(self, ctx: Ctx, realm: str, table: Lit, method: str = "") -> int:
        return self._authenticate(ctx, "authorization", realm, table, method)

    @function(Routes.REQUEST, waits=True)
    def www_authorize(self, ctx: Ctx, realm: str, table: Lit) -> int:
        return self._authenticate(ctx, "authorization", realm, table)

    @function(Routes.REQUEST, "proxy_authenticate", "proxy_authorize", waits=True)
    def proxy_authenticate(self, ctx: Ctx, realm: str, table: Lit) -> int:
        return self._authenticate(ctx, "proxy-authorization", realm, table)

    @function(Routes.REQUEST, waits=True)
    def auth_check(self, ctx: Ctx, realm: str, table: str, flags: int) -> int:
        """As the request's kind wants it. Flag 1: the user of From (To for REGISTER) has to be the one of the credentials."""
        result: int = self.auth.check_identity(ctx, self._authenticate(ctx, self.auth.kind(ctx), realm, table), flags & _CHECK_ID)
        return result

    @function(ANY, waits=True)
    def is_subscriber(self, ctx: Ctx, uri: str, dbtable: str, flags: int) -> int:
        """Whether a URI belongs to a subscriber, whose columns are loaded then. Flag 1 compares the domain, too."""
        parsed = parse_uri(uri)
        if parsed is None or not parsed.user:
            return -1
        found = self._fetch(dbtable, parsed.user, parsed.host if flags & _USE_DOMAIN else "", [self.p.user_column, *(c for c, _ in self.loaded)])
        if found is None or isinstance(found, int):
            return -1
        self._load(ctx, found[1:])
        return 1


module = AuthDb
