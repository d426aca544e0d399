"""Module db_postgres: ``postgres://user:password@host:port/database``, over SQLAlchemy and psycopg.
https://www.kamailio.org/docs/modules/stable/modules/db_postgres.html"""

from __future__ import annotations

from typing import Any

from kamc.declare import Module, modparam
from kamc.errors import ConfigError
from kamc.runtime.db import Connection, parse_url


class DbPostgres(Module):
    name = "db_postgres"
    tuning_params = ("retries", "lockset", "bytea_output_escape")

    class Params:
        timeout: int = 0
        tcp_keepalive: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.open: dict[str, Connection] = {}
        self.settings: dict[str, str] = {}

    @modparam("con_param")
    def set_connection(self, text: str) -> None:
        """``name=value`` for the client library, such as ``sslmode=require``."""
        name, eq, value = text.partition("=")
        if not eq or not name.strip():
            raise ValueError(f"{text!r}: the form is NAME=VALUE")
        self.settings[name.strip()] = value.strip()

    def connect(self, url: str) -> Connection:
        """Raises DbError, and ConfigError when the driver is not installed."""
        try:
            import psycopg  # noqa: F401
            import sqlalchemy as sa

            from kamc.runtime.dbsql import SqlConnection
        except ImportError:
            raise ConfigError("db_postgres needs SQLAlchemy and psycopg: pip install 'kamc[postgres]'") from None
        known = self.open.get(url)
        if known is not None:
            return known
        at = parse_url(url)
        options: dict[str, Any] = {**self.settings}
        if self.p.timeout > 0:
            options["connect_timeout"] = self.p.timeout
        if self.p.tcp_keepalive > 0:
            options |= {"keepalives": 1, "keepalives_idle": self.p.tcp_keepalive}
        place = sa.URL.create("postgresql+psycopg", at.user or None, at.password or None, at.host or None, at.port or None, at.name)
        connection = SqlConnection(place, pool_pre_ping=True, connect_args=options)
        connection.raw("SELECT 1")
        self.open[url] = connection
        return connection

    def destroy(self) -> None:
        for connection in self.open.values():
            connection.close()


module = DbPostgres
