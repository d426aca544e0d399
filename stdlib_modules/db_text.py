"""Module db_text: tables in text files, ``text:///folder``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kamc.declare import Module, rpc
from kamc.errors import ConfigError
from kamc.runtime.db import Connection, DbError
from kamc.runtime.dbtext import TextDatabase
from kamc.runtime.rpc.fault import RpcFault


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

    def connect(self, url: str) -> Connection:
        """Raises DbError."""
        if len(self.p.db_delim) != 1:
            raise ConfigError("db_text: db_delim is one character")
        folder = url.partition("://")[2] or self.p.default_connection
        known = self.folders.get(folder)
        if known is None:
            known = self.folders[folder] = TextDatabase(Path(self.rt.base or ".") / folder, self.p.db_delim)
        return known

    @rpc("db_text.dump")
    def rpc_dump(self, folder: str, table: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        known = self.folders.get(folder)
        if known is None:
            raise RpcFault(404, f"{folder} is not in use")
        try:
            found = known.select(table, (), (), "", 0)
        except DbError as err:
            raise RpcFault(500, str(err)) from None
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


module = DbText
