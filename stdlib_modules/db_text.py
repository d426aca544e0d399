"""Module db_text: tables in text files, ``text:///folder``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kamc.declare import Module, rpc
from kamc.errors import ConfigError
from kamc.runtime.db import DbError
from kamc.runtime.dbtext import TextDatabase


class DbText(Module):
    name = "db_text"
    #: the files are looked at for each query and written with each change, in every mode; an empty cell of a column without null is a text
    tuning_params = ("db_mode", "file_buffer_size", "max_result_rows", "emptystring")

    class Params:
        db_delim: str = ":"
        default_connection: str = ""

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.folders: dict[str, TextDatabase] = {}

    def connect(self, url: str) -> TextDatabase:
        """Raises DbError."""
        if len(self.p.db_delim) != 1:
            raise ConfigError("db_text: db_delim is one character")
        folder = url.partition("://")[2] or self.p.default_connection
        known = self.folders.get(folder)
        if known is None:
            known = self.folders[folder] = TextDatabase(Path(self.rt.base or ".") / folder, self.p.db_delim)
        return known

    @rpc("db_text.dump")
    def rpc_dump(self) -> str:
        """Write what has changed; each change is in its file already."""
        return "Dump OK"

    @rpc("db_text.query")
    def rpc_query(self, sql: str) -> list[str]:
        """SQL: run a statement over the tables of the default connection, or of the only one that is in use."""
        url = self.p.default_connection or (f"text://{next(iter(self.folders))}" if len(self.folders) == 1 else "")
        try:
            database = self.connect(url if "://" in url else f"text://{url}")
        except DbError as err:
            self.rt.log.error("db_text: %s", err)
            return [f"invalid connection : {self.p.default_connection}"]
        try:
            rows, changed = database.execute(sql)
        except DbError as err:
            self.rt.log.error("db_text: %s", err)
            return ["error executing sql statement"]
        if rows is None:
            return [f"{changed} affected rows"]
        return database.shown(rows) if rows.rows else ["statement returned 0 rows"]


module = DbText
