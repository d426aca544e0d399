"""Module db_mysql: ``mysql://user:password@host:port/database``, over SQLAlchemy and PyMySQL.
https://www.kamailio.org/docs/modules/stable/modules/db_mysql.html"""

from __future__ import annotations

from typing import Any

from kamc.declare import Module
from kamc.errors import ConfigError
from kamc.runtime.db import Connection, parse_url

#: opt_ssl_mode: 1 switches TLS off, 2 (preferred) and 3 (required) use it, 4 checks the authority, 5 the name as well
_SSL_OFF, _SSL_REQUIRED, _SSL_CA, _SSL_IDENTITY = 1, 3, 4, 5


class DbMysql(Module):
    name = "db_mysql"
    stats = {"mysql": ("driver_errors",)}
    tuning_params = ("ping_interval", "auto_reconnect", "insert_delayed", "unsigned_type", "retries", "server_timezone")

    class Params:
        timeout_interval: int = 2
        connect_timeout: int = 0
        send_timeout: int = 0
        receive_timeout: int = 0
        update_affected_found: int = 0
        opt_ssl_ca: str = ""
        opt_ssl_mode: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.open: dict[str, Connection] = {}

    def mod_init(self) -> None:
        if not 0 <= self.p.opt_ssl_mode <= _SSL_IDENTITY:
            raise ConfigError("db_mysql: opt_ssl_mode is 0 to 5")
        if self.p.opt_ssl_mode >= _SSL_CA and not self.p.opt_ssl_ca:
            raise ConfigError("db_mysql: opt_ssl_mode 4 and 5 need opt_ssl_ca, the file of the authority")

    def connect(self, url: str) -> Connection:
        """Raises DbError, and ConfigError when the driver is not installed."""
        try:
            import pymysql
            import sqlalchemy as sa

            from kamc.runtime.dbsql import SqlConnection
        except ImportError:
            raise ConfigError("db_mysql needs SQLAlchemy and PyMySQL: pip install 'kamc[mysql]'") from None
        known = self.open.get(url)
        if known is not None:
            return known
        p, at = self.p, parse_url(url)
        options: dict[str, Any] = {"connect_timeout": max(1, p.connect_timeout or p.timeout_interval), "charset": "utf8mb4", "autocommit": False}
        if p.send_timeout > 0:
            options["write_timeout"] = p.send_timeout
        if p.receive_timeout > 0:
            options["read_timeout"] = p.receive_timeout
        if p.update_affected_found:
            options["client_flag"] = pymysql.constants.CLIENT.FOUND_ROWS
        options |= self._security()
        place = sa.URL.create("mysql+pymysql", at.user or None, at.password or None, at.host or None, at.port or None, at.name)
        connection = SqlConnection(place, failed=lambda: self.rt.counters.add("mysql", "driver_errors"), pool_pre_ping=True, connect_args=options)
        connection.raw("SELECT 1")
        self.open[url] = connection
        return connection

    def _security(self) -> dict[str, Any]:
        mode, authority = self.p.opt_ssl_mode, self.p.opt_ssl_ca
        if mode == _SSL_OFF:
            return {"ssl_disabled": True}
        if mode < _SSL_REQUIRED:
            return {}
        return {"ssl": {"ca": authority or None, "check_hostname": mode == _SSL_IDENTITY, "verify_mode": "required" if mode >= _SSL_CA else "none"}}

    def destroy(self) -> None:
        for connection in self.open.values():
            connection.close()


module = DbMysql
