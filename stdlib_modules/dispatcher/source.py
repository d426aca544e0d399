"""Where the sets of the dispatcher come from: a list file, or a table of a database when ``db_url`` is set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kamc.errors import ConfigError
from kamc.runtime.db import Database, DbError
from kamc.runtime.net.endpoint import Listener
from stdlib_modules.dispatcher.table import Destination, DestinationSet, read_list, read_rows

_VERSION: Final = 4


class Sources:
    rt: Any
    p: Any
    sets: dict[int, DestinationSet]
    loads: Any

    def open_source(self) -> None:
        """Raises ConfigError."""
        p = self.p
        self.db: Database | None = self.rt.database(p.db_url) if p.db_url else None
        #: further columns of the table: attribute → column
        self.extra: dict[str, str] = {}
        for part in filter(None, (x.strip() for x in p.ds_db_extra_attrs.split(";"))):
            name, equal, column = part.partition("=")
            if not equal or not name.strip() or not column.strip():
                raise ConfigError(f"dispatcher: ds_db_extra_attrs: {part!r} is not attribute=column")
            self.extra[name.strip()] = column.strip()
        if self.db is not None:
            self.db.check_version(p.table_name, _VERSION)

    def _read(self, report: Callable[[str], None]) -> dict[int, DestinationSet] | None:
        """All sets of the source; None when it cannot be read. What cannot be used is reported."""
        p, log = self.p, self.rt.log
        if self.db is None:
            path = Path(p.list_file)
            try:
                lines = path.read_text(encoding="latin-1").splitlines()
            except OSError as err:
                log.error("dispatcher: %s: %s", path, err.strerror or err)
                return None
            return read_list(lines, lambda why: report(f"{path}:{why}"))
        # Kamailio appends further columns from the last one back
        names, columns = list(self.extra)[::-1], list(self.extra.values())[::-1]
        columns = [p.setid_col, p.destination_col, p.flags_col, p.priority_col, p.attrs_col, *columns]
        try:
            rows = self.db.select(p.table_name, columns).rows
        except DbError as err:
            log.error("dispatcher: table %s: %s", p.table_name, err)
            return None
        return read_rows(rows, names, lambda why: report(f"table {p.table_name}: {why}"))

    def load_list(self) -> bool:
        """Read the sets. States and loads of destinations that stay are kept. False, and the old sets, when they cannot be read or, with
        ds_load_mode 1, a destination cannot be used."""
        bad: list[str] = []
        fresh = self._read(bad.append)
        if fresh is None:
            return False
        for chosen in fresh.values():
            chosen.all = [d for d in chosen.all if self._has_socket(chosen, d, bad.append)]
        for why in bad:
            self.rt.log.error("dispatcher: %s", why)
        if bad and self.p.ds_load_mode:
            return False
        for chosen in fresh.values():
            for d in chosen.all:
                if self.p.ds_attrs_none and not d.attrs:
                    d.attrs, d.values = "none=yes", {"none": "yes"}
            chosen.take_state(self.sets.get(chosen.number), latency=bool(self.p.ds_retain_latency_stats))
        self.sets.clear()
        self.sets.update({number: chosen for number, chosen in fresh.items() if chosen.all})
        self.loads.recount()
        return True

    # -- sockets ---------------------------------------------------------------------------------------------------------

    def _has_socket(self, chosen: DestinationSet, d: Destination, report: Callable[[str], None]) -> bool:
        wanted = d.values.get("sockname") or d.values.get("socket")
        if not wanted or self._own_socket(d) is not None:
            return True
        report(f"{d.uri} of set {chosen.number}: socket {wanted} is not listened on; left out")
        return False

    def _own_socket(self, d: Destination) -> Listener | None:
        """The socket that the attributes name: ``sockname`` comes before ``socket``."""
        name, text = d.values.get("sockname"), d.values.get("socket")
        found: Listener | None = None
        if name:
            found = self.rt.worker.find_listener_name(name)
        elif text:
            found = self.rt.worker.find_socket(text, whole=True)
        return found

    def socket_of(self, d: Destination | None) -> Listener | None:
        """What to send to a destination from: its own socket, else the default one, else None."""
        found = self._own_socket(d) if d is not None else None
        if found is None and self.p.ds_default_sockname:
            found = self.rt.worker.find_listener_name(self.p.ds_default_sockname)
        if found is None and self.p.ds_default_socket:
            found = self.rt.worker.find_socket(self.p.ds_default_socket, whole=True)
        return found

    def ping_socket(self, d: Destination) -> Listener | None:
        """What to ping a destination from."""
        found: Listener | None = self._own_socket(d)
        if found is None and self.p.ds_ping_socket:
            found = self.rt.worker.find_socket(self.p.ds_ping_socket, whole=True)
        return found or self.socket_of(d)
