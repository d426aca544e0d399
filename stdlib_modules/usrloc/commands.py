"""RPC of the usrloc module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kamc.declare import rpc
from kamc.runtime.db import DbError
from kamc.runtime.hashes import core_hash
from kamc.runtime.rpc.binrpc import Member
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.usrloc.binding import Binding, placed, same_contact
from stdlib_modules.usrloc.database import LocationDatabase

_SLOTS = 1024
#: what tools write for a text that is not there
_NOT_SET = ("", "0", ".")
_NO_TABLE = "Not enough parameters (table to lookup)"

#: User-Agent of contacts that ul.add has added
_RPC_AGENT = "kamailio SIP Router - RPC Server"


class Commands:
    rt: Any
    p: Any
    database: LocationDatabase | None

    def bindings(self, domain: str, aor: str, *, expired: bool = False) -> list[Binding]:
        raise NotImplementedError

    def store(self, domain: str, aor: str, bindings: list[Binding]) -> bool:
        raise NotImplementedError

    def each(self) -> Iterator[tuple[str, str, list[Binding]]]:
        raise NotImplementedError

    def new_ruid(self) -> str:
        raise NotImplementedError

    def domain_names(self) -> list[str]:
        raise NotImplementedError

    def _row(self, b: Binding) -> dict[str, Any]:
        now = self.rt.wall_time()
        return {"Contact": {
            "Address": b.contact, "Expires": "permanent" if not b.expires else int(b.expires - now + 0.5), "Q": b.q / 1000 if b.q >= 0 else -1,
            "Call-ID": b.call_id, "CSeq": b.cseq, "User-Agent": b.user_agent or "[not set]", "Received": b.received or "[not set]",
            "Path": b.path or "[not set]", "State": self.database.state(b.ruid) if self.database is not None else "CS_NEW", "Flags": b.flags,
            "CFlags": b.cflags, "Socket": b.socket or "[not set]", "Methods": b.methods if b.methods is not None else 4294967295, "Ruid": b.ruid,
            "Instance": b.instance or "[not set]", "Reg-Id": b.reg_id, "Server-Id": b.server_id, "Tcpconn-Id": b.conn or -1, "Keepalive": 0,
            "Last-Keepalive": int(b.heard or b.modified), "KA-Roundtrip": b.roundtrip, "Last-Modified": int(b.modified),
        }}  # fmt: skip

    def _aor(self, aor: str) -> str:
        return aor if self.p.use_domain else aor.partition("@")[0]

    @rpc("ul.dump")
    def rpc_dump(self, mode: str = "") -> dict[str, Any]:
        """All contacts; ``brief`` only whose there are."""
        rows: dict[str, list[dict[str, Any]]] = {domain: [] for domain in self.domain_names()}
        names: dict[str, list[str]] = {domain: [] for domain in rows}
        for domain, aor, held in sorted(self.each(), key=lambda one: core_hash(one[1]) % _SLOTS):
            names[domain].append(aor)
            rows[domain].append(Member(AoR=aor) if mode == "brief" else {"Info": {"AoR": aor, "HashID": core_hash(aor), "Contacts": [self._row(b) for b in held]}})
        return {"Domains": [{"Domain": {"Domain": domain, "Size": _SLOTS, "AoRs": aors, "Stats": {"Records": len(aors), "Max-Slots": self._fullest(names[domain])}}}
                            for domain, aors in rows.items()]}  # fmt: skip

    @staticmethod
    def _fullest(aors: list[str]) -> int:
        slots: dict[int, int] = {}
        for aor in aors:
            slot = core_hash(aor) % _SLOTS
            slots[slot] = slots.get(slot, 0) + 1
        return max(slots.values(), default=0)

    def _known(self, domain: str) -> None:
        """Raises RpcFault for a domain that nobody uses."""
        if domain not in self.domain_names():
            raise RpcFault(500, "Domain table not found")

    @rpc("ul.lookup", wrong="Not enough parameters (table and AOR to lookup)")
    def rpc_lookup(self, domain: str, aor: str) -> dict[str, Any]:
        """Contacts of one address of record."""
        self._known(domain)
        found = self.bindings(domain, self._aor(aor))
        if not found:
            raise RpcFault(500, "AOR not found in location table")
        return {"AoR": self._aor(aor), "Contacts": [self._row(b) for b in found]}

    @rpc("ul.rm", wrong="Not enough parameters (table and AOR to lookup)")
    def rpc_rm(self, domain: str, aor: str) -> None:
        """Remove an address of record; one that is not there is fine."""
        self._known(domain)
        self.store(domain, self._aor(aor), [])

    @rpc("ul.rm_contact", wrong="Not enough parameters (table, AOR and contact)")
    def rpc_rm_contact(self, domain: str, aor: str, contact: str) -> None:
        """Remove one contact."""
        self._known(domain)
        held = self.bindings(domain, self._aor(aor))
        if not held:
            raise RpcFault(404, "AOR not found")
        kept = [b for b in held if not same_contact(b.contact, contact)]
        if len(kept) == len(held):
            raise RpcFault(404, "Contact not found")
        self.store(domain, self._aor(aor), kept)

    @rpc("ul.add", wrong="Not enough parameters or wrong format")
    def rpc_add(self, domain: str, aor: str, contact: str, expires: int, q: float, path: str, flags: int, cflags: int, methods: int, received: str = "",
                socket: str = "") -> None:  # fmt: skip
        """Add a contact; expires 0 is for ever. Of path, received and socket 0 or a dot is none."""
        now = self.rt.wall_time()
        path, received, socket = ("" if text in _NOT_SET else text for text in (path, received, socket))
        if socket and self.rt.worker.find_socket(socket, whole=True) is None:
            raise RpcFault(500, "Invalid socket value")
        # all bits stand for a contact that has said nothing
        mask = methods & 0xFFFFFFFF
        fresh = Binding(contact, now + expires if expires else 0, int(q * 1000), "dfjrewr12386fd6-343@kamailio.rpc", 1, flags, cflags, _RPC_AGENT, received, path,
                        socket, None if mask == 0xFFFFFFFF else mask, self.new_ruid(), modified=now)  # fmt: skip
        key = self._aor(aor)
        kept = [b for b in self.bindings(domain, key) if not same_contact(b.contact, contact)]
        self.store(domain, key, placed(kept, None, fresh, newest_first=bool(self.p.desc_time_order)))

    @rpc("ul.flush")
    def rpc_flush(self) -> None:
        """Write to the database what waits for it."""
        if self.database is not None:
            self.database.flush()

    def _numbers(self, domain: str) -> tuple[int, int, int]:
        if self.database is None:
            raise RpcFault(500, "Command is not supported in db_mode=0")
        try:
            return self.database.numbers(domain)
        except DbError as err:
            self.rt.log.error("usrloc: table %s: %s", domain, err)
            raise RpcFault(500, "Failed to query contact count") from None

    @rpc("ul.db_users", wrong=_NO_TABLE)
    def rpc_db_users(self, domain: str) -> int:
        """How many addresses of record the database has."""
        return self._numbers(domain)[0]

    @rpc("ul.db_contacts", wrong=_NO_TABLE)
    def rpc_db_contacts(self, domain: str) -> int:
        """How many contacts the database has that are not over."""
        return self._numbers(domain)[1]

    @rpc("ul.db_expired_contacts", wrong=_NO_TABLE)
    def rpc_db_expired(self, domain: str) -> int:
        """How many contacts the database has that are over."""
        return self._numbers(domain)[2]
