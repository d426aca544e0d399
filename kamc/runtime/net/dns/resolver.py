"""Records of names: out of /etc/hosts, out of the cache, or from a name server.

A run that has to ask is set aside until the answer is there. Work that cannot be set aside (a timer of a configuration without waiting
functions) gets nothing for now, and the answer with its next try.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from kamc.runtime.counters import Counters
from kamc.runtime.log import Log
from kamc.runtime.net.dns.client import Client, Settings
from kamc.runtime.net.dns.records import Cache, Entry, Naptr, Record, Srv
from kamc.runtime.waits import Waits

KINDS: Final = ("A", "AAAA", "SRV", "NAPTR", "CNAME", "TXT", "PTR")
_HOSTS: Final = Path("/etc/hosts")


def host_lines(path: Path = _HOSTS) -> Iterator[tuple[str, str, list[str]]]:
    """Of the hosts file: address, A or AAAA, names. Lines that make no sense are passed over, as everywhere."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        address, *names = line.partition("#")[0].lower().split()[:100] or [""]
        try:
            yield address, "A" if ipaddress.ip_address(address).version == 4 else "AAAA", names
        except ValueError:
            continue


def read_hosts(path: Path = _HOSTS) -> dict[tuple[str, str], tuple[str, ...]]:
    """(name, A or AAAA) → addresses."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for address, kind, names in host_lines(path):
        for name in names:
            found[name, kind] = (*found.get((name, kind), ()), address)
    return found


def _record(rdata: Any) -> Record:
    kind = rdata.rdtype
    if kind == dns.rdatatype.SRV:
        return Srv(rdata.priority, rdata.weight, rdata.port, rdata.target.to_text(omit_final_dot=True))
    if kind == dns.rdatatype.NAPTR:
        flags, service, regexp = (part.decode("latin-1") for part in (rdata.flags, rdata.service, rdata.regexp))
        return Naptr(rdata.order, rdata.preference, flags.lower(), service.upper(), regexp, rdata.replacement.to_text(omit_final_dot=True))
    if kind in (dns.rdatatype.CNAME, dns.rdatatype.PTR):
        return str(rdata.target.to_text(omit_final_dot=True))
    if kind == dns.rdatatype.TXT:
        return b"".join(rdata.strings).decode("latin-1")
    return str(rdata.address)


@dataclass(slots=True)
class _Pending:
    """A question on its way, and who waits for the answer."""

    waiting: list[Callable[[], None]] = field(default_factory=list)
    entry: Entry | None = None
    over: bool = False


def names_of(address: str) -> list[str]:
    """The names of an address: those of the first line of the hosts file that is about it, as ``gethostbyaddr`` has them."""
    return next((names for found, _, names in host_lines() if found == address), [])


class Resolver:
    """``param`` reads core parameters; times are of ``clock``."""

    def __init__(self, waits: Waits, clock: Callable[[], float], param: Callable[[str], Any], counters: Counters, log: Log) -> None:
        self.waits, self.clock, self.param, self.counters, self.log = waits, clock, param, counters, log
        counters.register("dns", "failed_dns_request", "questions that found no record, or that nobody answered")
        counters.register("dns", "slow_dns_request", "questions that took longer than dns_slow_query_ms")
        self.cache = Cache(clock, lambda: int(param("dns_cache_mem")) * 1024)
        self.hosts = read_hosts()
        #: False while ``dns.set_server_state`` says that no server can be reached
        self.servers_up = True
        #: of dns_set_local_ttl; 0 for what the answers say
        self.local_ttl = 0
        self._client: Client | None = None
        self._asked: dict[tuple[str, str], _Pending] = {}

    @property
    def client(self) -> Client:
        if self._client is None:
            settings = Settings.of_system()
            seconds, attempts, servers = (int(self.param(name)) for name in ("dns_retr_time", "dns_retr_no", "dns_servers_no"))
            if seconds > 0:
                settings.timeout = float(seconds)
            if attempts > 0:
                settings.attempts = attempts
            if servers > 0:
                del settings.servers[servers:]
            if not self.param("dns_use_search_list"):
                settings.search.clear()
            self._client = Client(settings)
        return self._client

    def use(self, settings: Settings) -> None:
        """Ask these servers."""
        self._client = Client(settings)

    # -- records ---------------------------------------------------------------------------------------------------------

    def records(self, name: str, kind: str, ctx: Any = None) -> tuple[Record, ...]:
        """All records of one of :data:`KINDS` that a name has; none when it has none, or nobody could say."""
        own = self.hosts.get((name.lower(), kind))
        if own is not None:
            return own
        entry = self.cache.get(name, kind)
        if entry is None and self.servers_up:
            entry = self._fetch(name, kind, ctx)
        return entry.records if entry is not None else ()

    def addresses(self, name: str, ctx: Any = None, *, v4: bool = True, v6: bool = True) -> list[str]:
        """IPv4 addresses, else IPv6 ones (``dns_cache_flags`` 4: the other way round; 1 and 2: only the one, only the other)."""
        flags = int(self.param("dns_cache_flags"))
        kinds = [kind for kind, wanted in (("A", v4 and not flags & 2), ("AAAA", v6 and self.param("dns_try_ipv6") and not flags & 1)) if wanted]
        if flags & 4:
            kinds.reverse()
        for kind in kinds:
            found = [r for r in self.records(name, kind, ctx) if isinstance(r, str)]
            if found:
                return found
        return []

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _names(self, name: str) -> list[dns.name.Name]:
        """The name itself, then with the suffixes of the search list (resolv.conf: ndots is 1). Raises DNSException."""
        plain = dns.name.from_text(name, origin=None)
        if plain.is_absolute():
            return [plain]
        whole = [plain.concatenate(dns.name.root)]
        searched = [plain.concatenate(suffix) for suffix in self.client.settings.search]
        return searched + whole if len(plain) == 1 else whole + searched

    def _fetch(self, name: str, kind: str, ctx: Any) -> Entry | None:
        try:
            names = self._names(name)
        except (dns.exception.DNSException, UnicodeError, ValueError):
            return None
        if self.waits.loop is None:
            return self._fetch_now(name, kind, names)
        key = name.lower(), kind
        pending = self._asked.get(key)
        if pending is None:
            pending = self._asked[key] = _Pending()
            self.client.loop = self.waits.loop
            self._ask(name, kind, names)
        if not pending.over and not self.waits.wait(pending.waiting.append, ctx, hold=True):
            self.log.debug("%s %s is asked for and used when it is there", name, kind)
        return pending.entry

    def _ask(self, name: str, kind: str, names: list[dns.name.Name]) -> None:
        started = self.clock()

        def done(answer: dns.message.Message | None) -> None:
            if answer is not None and answer.rcode() == dns.rcode.NXDOMAIN and names:
                self.client.ask(names.pop(0), kind, done)
                return
            self._answered(name, kind, answer, started)

        self.client.ask(names.pop(0), kind, done)

    def _answered(self, name: str, kind: str, answer: dns.message.Message | None, started: float) -> None:
        pending = self._asked.pop((name.lower(), kind))
        pending.entry = self._keep(name, kind, answer, started)
        pending.over = True
        for resume in pending.waiting:
            resume()

    def _fetch_now(self, name: str, kind: str, names: list[dns.name.Name]) -> Entry | None:
        started = self.clock()
        answer = None
        for candidate in names:
            answer = self.client.ask_now(candidate, kind)
            if answer is None or answer.rcode() != dns.rcode.NXDOMAIN:
                break
        return self._keep(name, kind, answer, started)

    def _keep(self, name: str, kind: str, answer: dns.message.Message | None, started: float) -> Entry | None:
        """Remember an answer, or that there is none. None when nobody could say."""
        now = self.clock()
        slow = int(self.param("dns_slow_query_ms"))
        if slow and (now - started) * 1000 > slow:
            self.counters.add("dns", "slow_dns_request")
            self.log.warning("the answer for %s %s took %.0f ms", name, kind, (now - started) * 1000)
        records: tuple[Record, ...] = ()
        ttl = 0
        if isinstance(answer, dns.message.QueryMessage):
            try:
                chain = answer.resolve_chaining()
                if chain.answer is not None:
                    records = tuple(_record(rdata) for rdata in chain.answer)
                    ttl = chain.minimum_ttl
            except (dns.exception.DNSException, ValueError, AttributeError) as err:
                self.log.debug("answer for %s %s: %s", name, kind, err)
        else:
            self.log.info("no name server answered for %s %s", name, kind)
        if records:
            longest = int(self.param("dns_cache_max_ttl"))
            ttl = max(ttl, int(self.param("dns_cache_min_ttl")))
            ttl = self.local_ttl or (min(ttl, longest) if longest >= 0 else ttl)
        else:
            self.counters.add("dns", "failed_dns_request")
            ttl = int(self.param("dns_cache_negative_ttl"))
        entry = Entry(name, kind, records, now + ttl, now)
        if ttl > 0 and self.param("use_dns_cache"):
            self.cache.put(entry, delete_unexpired=bool(self.param("dns_cache_del_nonexp")))
        return entry

    def remember(self, name: str, kind: str, record: Record, ttl: int, flags: int = 0) -> bool:
        """Put a record into the cache beside those that are there, for some seconds; with flag 1 the name has none, with 2 it is for good. False without room."""
        now, known = self.clock(), self.cache.get(name, kind)
        others = tuple(r for r in known.records if r != record) if known is not None else ()
        entry = Entry(name, kind, () if flags & 1 else (*others, record), now + ttl, now, permanent=bool(flags & 2))
        return self.cache.put(entry, delete_unexpired=True)
