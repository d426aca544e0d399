"""Module usrloc: the table of registered contacts, on the store. https://www.kamailio.org/docs/modules/stable/modules/usrloc.html"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from kamc.declare import Module
from kamc.errors import ConfigError
from kamc.runtime.counters import statistic
from kamc.runtime.db import DbError
from kamc.runtime.net.connection import Connection
from kamc.runtime.sip.uri import parse_uri
from kamc.runtime.store.local import LocalTable
from kamc.runtime.store.mirror import Codec
from stdlib_modules.usrloc.binding import NO_AGENT, Binding, merged, packed, placed, same_contact, unpacked
from stdlib_modules.usrloc.commands import Commands
from stdlib_modules.usrloc.database import DB_ONLY, LOAD_ONLY, WRITE_BACK, WRITE_THROUGH, LocationDatabase
from stdlib_modules.usrloc.keepalive import Keepalives

__all__ = ["NO_AGENT", "Binding", "Usrloc", "placed"]


_CODEC: Final = Codec(packed, unpacked, merged)


class Usrloc(Module, Commands, Keepalives):
    name = "usrloc"
    kept = ("by_connection", "prefix", "serial")
    stats = {"usrloc": ("registered_users",)}
    tuning_params = ("hash_size", "timer_procs", "load_rank", "db_timer_clean", "fetch_rows", "db_raw_fetch_type")

    class Params:
        timer_interval: int = 60
        use_domain: int = 0
        desc_time_order: int = 0
        matching_mode: int = 0
        cseq_delay: int = 20
        nat_bflag: int = -1
        xavp_contact: str = ""
        handle_lost_tcp: int = 0
        close_expired_tcp: int = 0
        db_url: str = "mysql://kamailio:kamailiorw@localhost/kamailio"
        db_mode: int = 0
        db_load: int = 1
        preload: str = ""
        db_ops_ruid: int = 1
        db_update_as_insert: int = 0
        db_check_update: int = 0
        db_insert_update: int = 0
        db_insert_null: int = 0
        db_clean_tcp: int = 0
        skip_remote_socket: int = 0
        server_id_filter: int = 0
        rm_expired_delay: int = 0
        expires_type: int = 0
        version_table: int = 1
        user_column: str = "username"
        domain_column: str = "domain"
        contact_column: str = "contact"
        expires_column: str = "expires"
        q_column: str = "q"
        callid_column: str = "callid"
        cseq_column: str = "cseq"
        flags_column: str = "flags"
        cflags_column: str = "cflags"
        user_agent_column: str = "user_agent"
        received_column: str = "received"
        path_column: str = "path"
        socket_column: str = "socket"
        methods_column: str = "methods"
        ruid_column: str = "ruid"
        instance_column: str = "instance"
        reg_id_column: str = "reg_id"
        server_id_column: str = "server_id"
        connection_id_column: str = "connection_id"
        keepalive_column: str = "keepalive"
        partition_column: str = "partition"
        ka_mode: int = 0
        ka_method: str = "OPTIONS"
        ka_from: str = "sip:server@kamailio.org"
        ka_domain: str = "kamailio.org"
        ka_filter: int = 0
        ka_interval: int = 40
        ka_randomize: int = 20
        ka_timeout: int = 0
        ka_loglevel: int = 255
        ka_logmsg: str = " to-uri: [$tu] remote-addr: [$sas]"
        ka_reply_codes: str = "0"

    def mod_init(self) -> None:
        p = self.p
        if not 0 <= p.db_mode <= LOAD_ONLY:
            raise ConfigError("usrloc: db_mode is 0 (memory), 1 (written at once), 2 (by the timer), 3 (database only) or 4 (loaded only)")
        self.domains: dict[str, LocalTable] = {}
        self.serial = random.randrange(1 << 24)
        self.prefix = f"uloc-{int(time.time()):x}"
        #: called as (event, aor, binding): insert, update, delete, expire
        self.watchers: list[Callable[[str, str, Binding], None]] = []
        #: number of a connection → where contacts came over it
        self.by_connection: dict[int, set[tuple[str, str]]] = {}
        self.database: LocationDatabase | None = None
        if p.db_mode:
            self.database = LocationDatabase(self.rt, p)
            for domain in self._preloaded():
                self.database.check(domain)
            # saving and looking up may have to wait for the database
            self.rt.waits = self.rt.waits or p.db_mode in (WRITE_THROUGH, DB_ONLY)
        if p.handle_lost_tcp:
            self.rt.hooks.connection_closed["usrloc"] = self._connection_lost
        self.start_keepalives()
        self.rt.hooks.statistics["usrloc", "registered_users"] = lambda: sum(len(t) for t in self.domains.values())

    def activate(self, previous: Any) -> None:
        super().activate(previous)
        if previous is None:
            return
        for domain in previous.domains:
            self.table(domain)
        if previous.database is not None:
            previous.database.hand_over(self.database)
        if self.p.ka_mode and previous.p.ka_mode:
            self.ka_sent, self.ka_due, self.ka_serial, self.ka_mark = previous.ka_sent, previous.ka_due, previous.ka_serial, previous.ka_mark

    def _preloaded(self) -> list[str]:
        return [name.strip() for name in self.p.preload.split(",") if name.strip()]

    def child_init(self) -> None:
        p = self.p
        self.rt.every(max(1, p.timer_interval), self.expire)
        if p.ka_mode:
            self.rt.every(max(1, p.timer_interval), self.keep_alive, once=True)
        # the first worker fills what the configuration names, and tells the others
        named = self.rt.locations if self.rt.first else ()
        for domain in (*named, *self._preloaded(), *(name.removeprefix("usrloc.") for name in self.rt.store.names("usrloc."))):
            self.table(domain)

    def destroy(self) -> None:
        if self.database is not None and self.p.db_mode in (WRITE_THROUGH, WRITE_BACK):
            self.database.flush()

    # -- API for other modules -------------------------------------------------------------------------------------------

    def table(self, domain: str) -> LocalTable:
        found = self.domains.get(domain)
        if found is None:
            known = self.rt.store.has(f"usrloc.{domain}")
            found = self.domains[domain] = self.rt.store.table(f"usrloc.{domain}", codec=_CODEC)
            self.rt.hooks.statistics["usrloc", statistic(f"{domain}-users")] = lambda: len(self.domains[domain])
            self.rt.hooks.statistics["usrloc", statistic(f"{domain}-contacts")] = lambda: sum(len(b) for _, b in self.domains[domain].scan())
            self.rt.counters.register("usrloc", statistic(f"{domain}-expires"))
            if self.database is not None and not known:
                self._load(self.database, domain, found)
            # the first worker looks after all of them, and answers commands
            self.rt.tell_peers(self.name, "use", domain)
        return found

    def use(self, domain: str) -> None:
        """Another worker has a domain that may be new here."""
        self.table(domain)

    def _load(self, database: LocationDatabase, domain: str, table: LocalTable) -> None:
        """Fill a table from the database, before anything asks it."""
        try:
            database.check(domain)
            if self.p.db_mode == DB_ONLY or (not self.p.db_load and self.p.db_mode != LOAD_ONLY):
                return
            for aor, bindings in database.load(domain).items():
                table.put(aor, self._ordered(bindings))
        except (DbError, ConfigError) as err:
            self.rt.log.error("usrloc: table %s is not loaded: %s", domain, err)

    def _ordered(self, bindings: list[Binding]) -> list[Binding]:
        out: list[Binding] = []
        for b in bindings:
            out = placed(out, None, b, newest_first=bool(self.p.desc_time_order))
        return out

    def domain_names(self) -> list[str]:
        return list(self.domains)

    def new_ruid(self) -> str:
        self.serial += 1
        return f"{self.prefix}-{self.serial:x}-{self.rt.worker.index + 1}"

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

    def _all(self, domain: str, aor: str) -> list[Binding]:
        """What is kept of an address of record, contacts that are over as well. Raises DbError (db_mode 3)."""
        table = self.table(domain)
        if self.database is not None and self.p.db_mode == DB_ONLY:
            return self.database.contacts(domain, aor)
        held: list[Binding] = table.get(aor) or []
        return held

    def bindings(self, domain: str, aor: str, *, expired: bool = False) -> list[Binding]:
        """Contacts that have not expired, or all that are still there."""
        now = self.rt.wall_time()
        try:
            held = self._all(domain, aor)
        except DbError as err:
            self.rt.log.error("usrloc: table %s: %s", domain, err)
            return []
        return [b for b in held if expired or b.expires == 0 or b.expires > now]

    def store(self, domain: str, aor: str, bindings: list[Binding]) -> bool:
        """Keep these contacts and no others. False when a database that is all there is does not answer."""
        database, mode = self.database, self.p.db_mode
        if database is not None and mode != LOAD_ONLY:
            try:
                database.note(domain, aor, self._all(domain, aor), bindings)
            except DbError as err:
                self.rt.log.error("usrloc: table %s: %s", domain, err)
                return False
        if mode != DB_ONLY:
            table = self.table(domain)
            if bindings:
                table.put(aor, bindings)
            else:
                table.delete(aor)
        if self.p.handle_lost_tcp:
            for b in bindings:
                if b.conn:
                    self.by_connection.setdefault(b.conn, set()).add((domain, aor))
        if database is not None and mode in (WRITE_THROUGH, DB_ONLY):
            database.flush()
        return True

    def each(self) -> Iterator[tuple[str, str, list[Binding]]]:
        """(domain, address of record, contacts that have not expired)."""
        now = self.rt.wall_time()
        for domain in list(self.domains):
            for aor, held in self._everything(domain):
                found = [b for b in held if b.expires == 0 or b.expires > now]
                if found:
                    yield domain, aor, found

    def _everything(self, domain: str) -> Iterator[tuple[str, list[Binding]]]:
        if self.database is None or self.p.db_mode != DB_ONLY:
            yield from self.domains[domain].scan()
            return
        try:
            rows = self.database.everything(domain)
        except DbError as err:
            self.rt.log.error("usrloc: table %s: %s", domain, err)
            return
        grouped: dict[str, list[Binding]] = {}
        for aor, b in rows:
            grouped.setdefault(aor, []).append(b)
        yield from grouped.items()

    def drop(self, domain: str, aor: str, binding: Binding) -> None:
        """Take a contact out before its time."""
        self.store(domain, aor, [b for b in self.bindings(domain, aor) if b.ruid != binding.ruid])
        self.rt.counters.add("usrloc", statistic(f"{domain}-expires"))
        self.notify("expire", aor, binding)

    def _connection_lost(self, conn: Connection, how: object) -> None:
        """``handle_lost_tcp``: contacts that came over a connection end with it."""
        self.everywhere(self.lost, conn.id)

    def lost(self, number: int) -> None:
        """A connection has ended; contacts that were saved here came over it."""
        for domain, aor in self.by_connection.pop(number, ()):
            for b in self.bindings(domain, aor):
                if b.conn == number:
                    self.drop(domain, aor, b)

    def notify(self, event: str, aor: str, binding: Binding) -> None:
        for watcher in self.watchers:
            watcher(event, aor, binding)

    def same(self, a: Binding, b: Binding) -> bool:
        """Whether two contacts are one: by instance and reg-id (RFC 5626 section 6), else by matching_mode: 0 contact, 1 contact and Call-ID,
        2 contact and Path, 3 Call-ID."""
        if a.instance and a.instance == b.instance and a.reg_id == b.reg_id and a.reg_id:
            return True
        mode = self.p.matching_mode
        if mode == 3:
            return a.call_id == b.call_id
        if not same_contact(a.contact, b.contact):
            return False
        return {1: a.call_id == b.call_id, 2: a.path == b.path}.get(mode, True)

    def expire(self) -> None:
        """Drop contacts that are over, and write what waits for the database (``db_mode`` 2)."""
        self.rt.worker.waits.detached(self._expire) if self.database is not None else self._expire()

    def _expire(self) -> None:
        now = self.rt.wall_time()
        delay = self.p.rm_expired_delay if self.p.db_mode == DB_ONLY else 0
        for domain in list(self.domains) if self.rt.first else ():
            for aor, held in list(self._everything(domain)):
                gone = [b for b in held if b.expires and b.expires + delay <= now]
                if not gone:
                    continue
                self.store(domain, aor, [b for b in held if b not in gone])
                for b in gone:
                    self.rt.counters.add("usrloc", statistic(f"{domain}-expires"))
                    self.notify("expire", aor, b)
                    if self.p.close_expired_tcp and b.conn:
                        self.rt.worker.streams.hang_up(b.conn, "its contact has expired")
        if self.database is not None and self.p.db_mode != LOAD_ONLY:
            self.database.flush()


module = Usrloc
