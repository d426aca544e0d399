"""Module usrloc: the table of registered contacts, on the store. https://www.kamailio.org/docs/modules/stable/modules/usrloc.html"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kamc.declare import Module, rpc
from kamc.errors import ConfigError
from kamc.runtime.rpc.commands import RpcFault
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.store.local import LocalTable


@dataclass(slots=True)
class Binding:
    """One contact of an address of record. Times are wall-clock seconds; ``q`` is 0 to 1000 or -1."""

    contact: str
    expires: float
    q: int = -1
    call_id: str = ""
    cseq: int = 0
    flags: int = 0
    cflags: int = 0
    user_agent: str = ""
    received: str = ""
    path: str = ""
    socket: str = ""
    methods: int | None = None
    ruid: str = ""
    instance: str = ""
    reg_id: int = 0
    modified: float = 0.0
    server_id: int = 0
    xavp: dict[str, Any] = field(default_factory=dict)


class Usrloc(Module):
    name = "usrloc"
    stats = {"usrloc": ("registered_users",)}
    tuning_params = ("hash_size", "timer_procs", "load_rank", "db_timer_clean", "fetch_rows")
    ignored_params = (
        "db_url", "user_column", "domain_column", "contact_column", "expires_column", "q_column", "callid_column", "cseq_column",
        "flags_column", "cflags_column", "user_agent_column", "received_column", "path_column", "socket_column", "methods_column", "ruid_column",
        "instance_column", "reg_id_column", "server_id_column", "connection_id_column", "keepalive_column", "partition_column", "version_table",
        "expires_type", "db_ops_ruid", "db_update_as_insert", "db_check_update", "db_load", "db_insert_update", "db_insert_null",
        "db_raw_fetch_type", "db_clean_tcp", "skip_remote_socket", "preload",
    )  # fmt: skip

    class Params:
        timer_interval: int = 60
        use_domain: int = 0
        matching_mode: int = 0
        cseq_delay: int = 20
        db_mode: int = 0
        nat_bflag: int = -1

    def mod_init(self) -> None:
        if self.p.db_mode:
            raise ConfigError(f"usrloc: db_mode {self.p.db_mode} comes with a later version, only 0 (memory) is there")
        self.domains: dict[str, LocalTable] = {}
        self.serial = random.randrange(1 << 24)
        self.prefix = f"uloc-{int(time.time()):x}"
        #: called as (event, aor, binding): insert, update, delete, expire
        self.watchers: list[Callable[[str, str, Binding], None]] = []
        self.rt.counters.register("usrloc", "registered_users", lambda: sum(len(t) for t in self.domains.values()))

    def child_init(self) -> None:
        self.rt.worker.every(max(1, self.p.timer_interval), self.expire)

    # -- API for other modules -------------------------------------------------------------------------------------------

    def table(self, domain: str) -> LocalTable:
        found = self.domains.get(domain)
        if found is None:
            found = self.domains[domain] = self.rt.store.table(f"usrloc.{domain}")
            self.rt.counters.register("usrloc", f"{domain}-users", lambda: len(self.domains[domain]))
            self.rt.counters.register("usrloc", f"{domain}-contacts", lambda: sum(len(b) for _, b in self.domains[domain].scan()))
            self.rt.counters.register("usrloc", f"{domain}-expires")
        return found

    def new_ruid(self) -> str:
        self.serial += 1
        return f"{self.prefix}-{self.serial:x}-1"

    def aor_of(self, uri: str) -> str | None:
        """Key of an address of record: the user, with use_domain also the host; lower case unless case_sensitive."""
        parsed = parse_uri(uri)
        if parsed is None:
            return None
        user = parsed.user or ""
        if self.p.use_domain:
            host = parsed.host
            prefix = self.rt.module("registrar")
            cut = prefix.p.realm_prefix if prefix is not None else ""
            host = host.removeprefix(cut) if cut else host
            key = f"{user}@{host.lower()}" if user else host.lower()
        else:
            key = user
        registrar = self.rt.module("registrar")
        return key if registrar is not None and registrar.p.case_sensitive else key.lower()

    def bindings(self, domain: str, aor: str) -> list[Binding]:
        """Contacts that have not expired."""
        now = self.rt.wall_time()
        held: list[Binding] = self.table(domain).get(aor) or []
        return [b for b in held if b.expires == 0 or b.expires > now]

    def store(self, domain: str, aor: str, bindings: list[Binding]) -> None:
        table = self.table(domain)
        if bindings:
            table.put(aor, bindings)
        else:
            table.delete(aor)

    def each(self) -> Iterator[tuple[str, str, list[Binding]]]:
        """(domain, address of record, contacts that have not expired)."""
        for domain in list(self.domains):
            for aor, _ in self.domains[domain].scan():
                yield domain, aor, self.bindings(domain, aor)

    def drop(self, domain: str, aor: str, binding: Binding) -> None:
        """Take a contact out before its time."""
        self.store(domain, aor, [b for b in self.bindings(domain, aor) if b.ruid != binding.ruid])
        self.rt.counters.add("usrloc", f"{domain}-expires")
        self.notify("expire", aor, binding)

    def notify(self, event: str, aor: str, binding: Binding) -> None:
        for watcher in self.watchers:
            watcher(event, aor, binding)

    def same(self, a: Binding, b: Binding) -> bool:
        """Whether two contacts are one by matching_mode: 0 contact, 1 contact and Call-ID, 2 contact and Path, 3 Call-ID."""
        if a.instance and a.instance == b.instance and a.reg_id == b.reg_id and a.reg_id:
            return True
        mode = self.p.matching_mode
        if mode == 3:
            return a.call_id == b.call_id
        if not same_contact(a.contact, b.contact):
            return False
        return {1: a.call_id == b.call_id, 2: a.path == b.path}.get(mode, True)

    def expire(self) -> None:
        """Drop contacts that are over."""
        now = self.rt.wall_time()
        for domain, table in self.domains.items():
            for aor, held in table.scan():
                gone = [b for b in held if b.expires and b.expires <= now]
                if not gone:
                    continue
                self.store(domain, aor, [b for b in held if b not in gone])
                for b in gone:
                    self.rt.counters.add("usrloc", f"{domain}-expires")
                    self.notify("expire", aor, b)

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _row(self, b: Binding) -> dict[str, Any]:
        now = self.rt.wall_time()
        return {"Contact": {
            "Address": b.contact, "Expires": "permanent" if not b.expires else int(b.expires - now), "Q": b.q / 1000 if b.q >= 0 else -1.0,
            "Call-ID": b.call_id, "CSeq": b.cseq, "User-Agent": b.user_agent or "[not set]", "Received": b.received or "[not set]",
            "Path": b.path or "[not set]", "State": "CS_NEW", "Flags": b.flags, "CFlags": b.cflags, "Socket": b.socket or "[not set]",
            "Methods": b.methods if b.methods is not None else 4294967295, "Ruid": b.ruid, "Instance": b.instance or "[not set]", "Reg-Id": b.reg_id,
            "Server-Id": b.server_id, "Tcpconn-Id": -1, "Keepalive": 0, "Last-Keepalive": int(b.modified), "KA-Roundtrip": 0, "Last-Modified": int(b.modified),
        }}  # fmt: skip

    def _aor(self, aor: str) -> str:
        return aor if self.p.use_domain else aor.partition("@")[0]

    @rpc("ul.dump")
    def rpc_dump(self, mode: str = "") -> dict[str, Any]:
        """All contacts; ``brief`` leaves the details out."""
        domains = []
        for domain in list(self.domains):
            rows = [{"Info": {"AoR": aor, "HashID": hash(aor) & 0xFFFFFFFF, "Contacts": [self._row(b) if mode != "brief" else {"Contact": {"Address": b.contact}}
                                                                                              for b in self.bindings(domain, aor)]}}
                    for aor, _ in self.domains[domain].scan()]  # fmt: skip
            domains.append({"Domain": {"Domain": domain, "Size": 1024, "AoRs": rows, "Stats": {"Records": len(rows), "Max-Slots": 1}}})
        return {"Domains": domains}

    @rpc("ul.lookup")
    def rpc_lookup(self, domain: str, aor: str) -> dict[str, Any]:
        """Contacts of one address of record."""
        found = self.bindings(domain, self._aor(aor))
        if not found:
            raise RpcFault(500, "AOR not found in location table")
        return {"AoR": self._aor(aor), "Contacts": [self._row(b) for b in found]}

    @rpc("ul.rm")
    def rpc_rm(self, domain: str, aor: str) -> str:
        """Remove an address of record."""
        if not self.table(domain).delete(self._aor(aor)):
            raise RpcFault(404, "AOR not found")
        return ""

    @rpc("ul.rm_contact")
    def rpc_rm_contact(self, domain: str, aor: str, contact: str) -> str:
        """Remove one contact."""
        held = self.bindings(domain, self._aor(aor))
        kept = [b for b in held if not same_contact(b.contact, contact)]
        if len(kept) == len(held):
            raise RpcFault(404, "Contact not found")
        self.store(domain, self._aor(aor), kept)
        return ""

    @rpc("ul.add")
    def rpc_add(self, domain: str, aor: str, contact: str, expires: int, q: float, path: str, flags: int, cflags: int, methods: int) -> str:
        """Add a contact; expires 0 is for ever."""
        now = self.rt.wall_time()
        fresh = Binding(contact, now + int(expires) if int(expires) else 0, int(float(q) * 1000), "dfjrewr12386fd6-343@Kamailio.rpc", 1, int(flags), int(cflags),
                        "SIP Router MI Server", "", "" if path in ("", "0") else path, "", int(methods) & 0xFFFFFFFF, self.new_ruid(), modified=now)  # fmt: skip
        key = self._aor(aor)
        kept = [b for b in self.bindings(domain, key) if not same_contact(b.contact, contact)]
        self.store(domain, key, [fresh, *kept])
        return ""

    @rpc("ul.flush")
    def rpc_flush(self) -> str:
        """Write changes to the database: in memory mode there is nothing to write."""
        return ""


def same_contact(a: str, b: str) -> bool:
    """Contact URIs compared as texts first, then by parts without regard to the host's case."""
    if a == b:
        return True
    x, y = parse_uri(a), parse_uri(b)
    if x is None or y is None:
        return False
    return (x.scheme, x.user, x.host.lower(), x.port, x.params.lower()) == (y.scheme, y.user, y.host.lower(), y.port, y.params.lower())


module = Usrloc
