"""The tables of Kamailio's schema, made and brought up to date: ``kamc db``. What they look like is data (``catalogue/tables.json``)."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateColumn

from kamc import catalogue
from kamc.errors import ConfigError
from kamc.runtime.db import DbError, parse_url, shown

_DRIVERS: Final = {"mysql": "mysql+pymysql", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
#: what rows that are there get in a new column that has no default
_NOTHING: Final = {sa.Integer: "0", sa.BigInteger: "0", sa.Float: "0", sa.DateTime: "'2000-01-01 00:00:01'"}


def engine(url: str) -> sa.Engine:
    """For a URL as a configuration names it: ``sqlite:///file``, ``mysql://user:password@host/name``, ``postgres://…``. Raises ConfigError."""
    scheme, _, rest = url.partition("://")
    driver = _DRIVERS.get(scheme)
    if driver is None:
        raise ConfigError(f"{shown(url)}: a database is one of {', '.join(f'{name}://' for name in _DRIVERS)}")
    if scheme == "sqlite":
        return sa.create_engine(sa.URL.create("sqlite", database=rest.removeprefix("/") if not rest.startswith("//") else rest[1:]))
    try:
        parts = parse_url(url)
        return sa.create_engine(sa.URL.create(driver, parts.user or None, parts.password or None, parts.host or "localhost", parts.port or None, parts.name))
    except DbError as err:
        raise ConfigError(f"{shown(url)}: {err}") from None
    except ImportError as err:
        raise ConfigError(f"{shown(url)} needs a driver: pip install 'kamc[{scheme}]' ({err})") from None


def _type(column: dict[str, Any]) -> sa.types.TypeEngine[Any]:
    size = column.get("size", 255)
    kinds: dict[str, sa.types.TypeEngine[Any]] = {
        "text": sa.String(size), "int": sa.Integer(), "big": sa.BigInteger(), "float": sa.Float(), "time": sa.DateTime(), "blob": sa.LargeBinary(), "long": sa.Text(),
    }  # fmt: skip
    return kinds[column["type"]]


def _column(column: dict[str, Any]) -> sa.Column[Any]:
    default = column.get("default")
    text = None if default is None else sa.text(sa.literal(default if column["type"] != "time" else str(default)).compile(compile_kwargs={"literal_binds": True}).string)
    return sa.Column(column["name"], _type(column), primary_key=bool(column.get("key")), nullable=bool(column.get("null")), server_default=text)


def metadata() -> sa.MetaData:
    """All tables."""
    found = sa.MetaData()
    for name, row in catalogue.tables().items():
        table = sa.Table(name, found, *(_column(c) for c in row["columns"]))
        for index, columns in row["unique"]:
            table.append_constraint(sa.UniqueConstraint(*(table.c[c] for c in columns), name=index))
        for index, columns in row["index"]:
            sa.Index(index, *(table.c[c] for c in columns))
    return found


class Tables:
    """The tables of one database. Every method raises ConfigError."""

    def __init__(self, url: str) -> None:
        self.url, self.engine, self.metadata = url, engine(url), metadata()

    def close(self) -> None:
        self.engine.dispose()

    def _wrong(self, err: Exception) -> ConfigError:
        text = str(getattr(err, "orig", None) or err).strip().splitlines()
        return ConfigError(f"{shown(self.url)}: {text[0] if text else err}")

    def _versions(self, connection: sa.Connection) -> dict[str, int]:
        table = self.metadata.tables["version"]
        return {str(name): int(number) for name, number in connection.execute(sa.select(table.c.table_name, table.c.table_version))}

    def _note(self, connection: sa.Connection, name: str) -> None:
        table = self.metadata.tables["version"]
        connection.execute(sa.delete(table).where(table.c.table_name == name))
        connection.execute(sa.insert(table).inline().values(table_name=name, table_version=catalogue.tables()[name]["version"]))

    def create(self) -> list[str]:
        """Make the tables that are not there. Their names."""
        try:
            with self.engine.begin() as connection:
                there = set(sa.inspect(connection).get_table_names())
                missing = [t for t in self.metadata.sorted_tables if t.name not in there]
                self.metadata.create_all(connection, tables=missing)
                for table in missing:
                    self._note(connection, table.name)
        except SQLAlchemyError as err:
            raise self._wrong(err) from None
        return sorted(t.name for t in missing)

    def upgrade(self) -> list[str]:
        """Make what is missing: tables, and columns of tables with an older version. What was done, a line each."""
        done = [f"created {name}" for name in self.create()]
        try:
            with self.engine.begin() as connection:
                versions = self._versions(connection)
                for name, row in catalogue.tables().items():
                    version = versions.get(name)
                    if version == row["version"]:
                        continue
                    if version is not None and version > row["version"]:
                        done.append(f"left {name} alone: it has version {version}, newer than {row['version']}")
                        continue
                    done += self._add_columns(connection, name)
                    self._note(connection, name)
                    done.append(f"{name} has version {row['version']} now, {'none' if version is None else version} before")
        except SQLAlchemyError as err:
            raise self._wrong(err) from None
        return done

    def _add_columns(self, connection: sa.Connection, name: str) -> list[str]:
        there = {c["name"] for c in sa.inspect(connection).get_columns(name)}
        done = []
        for column in self.metadata.tables[name].columns:
            if column.name not in there and not column.primary_key:
                if not column.nullable and column.server_default is None:
                    # rows that are there have nothing for it
                    column = sa.Column(column.name, column.type, nullable=False, server_default=sa.text(_NOTHING.get(type(column.type), "''")))
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.execute(sa.text(f"ALTER TABLE {connection.dialect.identifier_preparer.quote(name)} ADD COLUMN {definition}"))
                done.append(f"added {name}.{column.name}")
        return done

    def add_user(self, address: str, password: str, *, plain: bool = True) -> None:
        """Somebody who may register: ``user@domain``. ``plain``: the password itself is kept, not only what is computed of it."""
        user, at, domain = address.removeprefix("sip:").rpartition("@")
        if not at or not user or not domain:
            raise ConfigError(f"{address!r} is not user@domain")
        table = self.metadata.tables["subscriber"]
        row = {"username": user, "domain": domain, "password": password if plain else "", "ha1": _md5(f"{user}:{domain}:{password}"),
               "ha1b": _md5(f"{user}@{domain}:{domain}:{password}")}  # fmt: skip
        try:
            with self.engine.begin() as connection:
                where = (table.c.username == user) & (table.c.domain == domain)
                if connection.execute(sa.select(table.c.id).where(where)).first() is not None:
                    raise ConfigError(f"{user}@{domain} is there already")
                connection.execute(sa.insert(table).values(**row))
        except SQLAlchemyError as err:
            raise self._wrong(err) from None


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
