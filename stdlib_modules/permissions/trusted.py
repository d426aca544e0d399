"""Trusted peers: the table ``trusted`` of a database, asked anew for each request (``db_mode`` 0) or held in memory (1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from kamc.declare.regex import PosixRegex, RegexError, compile_regex
from kamc.errors import ConfigError
from kamc.runtime.db import Cell, Database, DbError

VERSION: Final = 6
ANY_PROTO: Final = "any"
#: what a request can have come by, and ``any``
PROTOCOLS: Final = (ANY_PROTO, "udp", "tcp", "tls", "sctp", "ws", "wss")
#: of a row that trusts nobody
_NOBODY: Final = "none"


@dataclass(frozen=True, slots=True)
class Peer:
    source: str
    proto: str
    sender: PosixRegex | None
    target: PosixRegex | None
    tag: str | None
    priority: int
    #: the expressions as they are written
    texts: tuple[str | None, str | None]

    def matches(self, proto: str, sender: str, target: str) -> bool:
        """Whether it trusts a request that came by ``proto`` from URI ``sender``, for the Request-URI ``target``."""
        if ANY_PROTO not in (self.proto, proto) and self.proto != proto:
            return False
        return bool((self.sender is None or self.sender.test(sender)) and (self.target is None or self.target.test(target)))


def _expression(text: str | None) -> PosixRegex | None:
    return compile_regex(text, False, False) if text else None


def read_peer(row: tuple[Cell, ...]) -> Peer:
    """A row: source, protocol, From pattern, Request-URI pattern, tag, priority. Raises ValueError."""
    source, proto, sender, target, tag = (str(cell) if cell is not None else None for cell in row[:5])
    if not source or not proto:
        raise ValueError("a row needs an address and a protocol")
    proto = proto.lower()
    if proto != _NOBODY and proto not in PROTOCOLS:
        raise ValueError(f"{source}: unknown protocol {proto}")
    try:
        return Peer(source, proto, _expression(sender), _expression(target), tag or None, int(str(row[5] or 0)), (sender, target))
    except RegexError as err:
        raise ValueError(f"{source}: bad regular expression: {err}") from None


class TrustedTable:
    """The peers of a database. Raises ConfigError when the table has another version."""

    def __init__(self, db: Database, p: Any) -> None:
        self._db, self._name = db, p.trusted_table
        self._source = p.source_col
        self._columns = (p.source_col, p.proto_col, p.from_col, p.ruri_col, p.tag_col, p.priority_col)
        self._order = p.priority_col
        self.peers: dict[str, list[Peer]] | None = None
        db.check_version(self._name, VERSION)

    def load(self) -> None:
        """Hold the whole table in memory. Raises DbError or ValueError and keeps the old one."""
        fresh: dict[str, list[Peer]] = {}
        for row in self._db.select(self._name, self._columns).rows:
            peer = read_peer(row)
            if peer.proto != _NOBODY:
                fresh.setdefault(peer.source, []).append(peer)
        for peers in fresh.values():
            peers.sort(key=lambda peer: -peer.priority)
        self.peers = fresh

    def candidates(self, source: str) -> Iterable[Peer]:
        """Peers with an address, in the order in which they are tried. Raises DbError or ValueError."""
        if self.peers is not None:
            return self.peers.get(source, ())
        rows = self._db.select(self._name, self._columns, ((self._source, "=", source),), order=self._order).rows
        return [read_peer(row) for row in rows]

    def dump(self) -> list[dict[str, Any]]:
        """As ``permissions.trustedDump`` shows them."""
        return [
            {"table": 0, "item": {"ip": p.source, "proto": PROTOCOLS.index(p.proto), "pattern": p.texts[0] or "NULL", "ruri_pattern": p.texts[1] or "NULL",
                                  "tag": p.tag or "NULL", "priority": p.priority}}
            for peers in (self.peers or {}).values() for p in peers
        ]  # fmt: skip


def open_trusted(db: Database, p: Any) -> TrustedTable:
    """The table, held in memory when ``db_mode`` says so. Raises ConfigError."""
    table = TrustedTable(db, p)
    if p.db_mode:
        try:
            table.load()
        except (DbError, ValueError) as err:
            raise ConfigError(f"permissions: table {p.trusted_table}: {err}") from None
    return table
