"""What this server has published and subscribed to: in the store, which all workers share, and in table ``pua`` of Kamailio's schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Any, Final

from kamc.errors import ConfigError
from kamc.runtime.db import Cell, Database, DbError, Where
from kamc.runtime.store.mirror import Codec

_VERSION: Final = 7
#: event → its number in column ``event``
EVENTS: Final = {"presence": 1, "presence.winfo": 2, "dialog;sla": 4, "message-summary": 8, "conference": 16, "dialog": 32, "reg": 64}
_NAMES: Final = {number: name for name, number in EVENTS.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """A publication, or a subscription when it has a ``watcher``. ``id`` and ``flag`` say whose it is among those of one presentity. Times are wall-clock
    seconds: ``expires`` as the other side said, ``desired`` as whoever wanted it said (0 for always)."""

    uri: str
    event: str
    flag: int
    id: str
    expires: float = 0
    desired: float = 0
    extra_headers: str = ""
    version: int = 0
    etag: str = ""
    tuple_id: str = ""
    watcher: str = ""
    call_id: str = ""
    to_tag: str = ""
    from_tag: str = ""
    cseq: int = 0
    routes: str = ""
    contact: str = ""
    remote_contact: str = ""
    #: where it is sent; not in the table
    proxy: str = ""

    @property
    def key(self) -> str:
        return "\0".join((self.uri, self.watcher, self.event, str(self.flag), self.id))


def lifetime(params: Any, expires: int) -> int:
    """Seconds to ask for: ``default_expires`` for -1, 0 ends, anything else is at least ``min_expires``."""
    return int(params.default_expires if expires < 0 else max(expires, params.min_expires) if expires else 0)


_CODEC: Final = Codec(astuple, lambda row: Record(*row))


def _row(record: Record) -> dict[str, Cell]:
    cells = asdict(record)
    cells |= {"pres_uri": cells.pop("uri"), "pres_id": cells.pop("id"), "event": EVENTS[record.event], "expires": int(record.expires),
              "desired_expires": int(cells.pop("desired")), "watcher_uri": cells.pop("watcher"), "record_route": cells.pop("routes")}  # fmt: skip
    del cells["proxy"]
    return cells


def _record(row: dict[str, Any]) -> Record:
    """Raises KeyError and ValueError."""
    texts = {name: str(cell if cell is not None else "") for name, cell in row.items()}
    numbers = {name: int(float(texts[name] or 0)) for name in ("event", "flag", "expires", "desired_expires", "version", "cseq")}
    return Record(texts["pres_uri"], _NAMES[numbers["event"]], numbers["flag"], texts["pres_id"], numbers["expires"], numbers["desired_expires"],
                  texts["extra_headers"], numbers["version"], texts["etag"], texts["tuple_id"], texts["watcher_uri"], texts["call_id"], texts["to_tag"],
                  texts["from_tag"], numbers["cseq"], texts["record_route"], texts["contact"], texts["remote_contact"])  # fmt: skip


class Records:
    """Changes go to the database without anybody waiting for it."""

    def __init__(self, rt: Any, table: str, database: Database | None) -> None:
        self.rt, self.name, self.db = rt, table, database
        self.rows = rt.store.table("pua", codec=_CODEC)

    def check(self) -> None:
        """Raises ConfigError."""
        if self.db is not None:
            self.db.check_version(self.name, _VERSION)

    def _lost(self, err: BaseException) -> None:
        self.rt.log.error("pua: %s", err)

    @staticmethod
    def _where(record: Record) -> Where:
        return [("pres_uri", "=", record.uri), ("watcher_uri", "=", record.watcher), ("event", "=", EVENTS[record.event]), ("flag", "=", record.flag),
                ("pres_id", "=", record.id)]  # fmt: skip

    def get(self, key: str) -> Record | None:
        found: Record | None = self.rows.get(key)
        return found

    def find(self, wanted: Callable[[Record], bool]) -> Record | None:
        return next((r for r in self if wanted(r)), None)

    def __iter__(self) -> Iterator[Record]:
        return iter([record for _, record in self.rows.scan()])

    def put(self, record: Record) -> None:
        known = self.rows.get(record.key) is not None
        self.rows.put(record.key, record)
        if self.db is None:
            return
        if known:
            self.db.post_update(self.name, _row(record), self._where(record), self._lost)
        else:
            self.db.post(self.name, _row(record), self._lost)

    def delete(self, record: Record) -> None:
        if self.rows.delete(record.key) and self.db is not None:
            self.db.post_delete(self.name, self._where(record), self._lost)

    def load(self) -> None:
        """Take what the database has, where nothing is known yet. Raises ConfigError."""
        if self.db is None or len(self.rows):
            return
        try:
            found = self.db.select(self.name)
            for row in found.rows:
                record = _record(dict(zip(found.columns, row, strict=True)))
                if record.expires > self.rt.wall_time():
                    self.rows.put(record.key, record)
        except (DbError, KeyError, ValueError) as err:
            raise ConfigError(f"pua: cannot load table {self.name}: {err}") from None
