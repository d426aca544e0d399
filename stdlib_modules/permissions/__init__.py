"""Module permissions: who may call whom (files of rules), which addresses belong to which group (a file or a table), and which peers are
trusted (a table). https://www.kamailio.org/docs/modules/stable/modules/permissions.html"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kamc.declare import ANY, Module, Routes, Spread, function, rpc
from kamc.declare.argtypes import Lit, PvArg
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import DbError
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.binrpc import Members
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.sip.uri import parse_uri, split_quoted
from stdlib_modules.permissions.addresses import AddressTable, Entry, dump, read_file, read_rows
from stdlib_modules.permissions.rules import Rule, found, read_rules
from stdlib_modules.permissions.trusted import PROTOCOLS, TrustedTable, open_trusted

_RF = Routes.REQUEST | Routes.FAILURE
#: the group of allow_source_address() without an argument
_DEFAULT_GROUP = 1
_ADDRESS_VERSION: Final = 6
#: bits of load_backends
_ADDRESSES, _TRUSTED = 1, 2


def plain(uri: str) -> str | None:
    """``sip:user@host``, without port and parameters: what rules are compared with."""
    parsed = parse_uri(uri)
    if parsed is None:
        return None
    return f"sip:{parsed.user}@{parsed.host}" if parsed.user else f"sip:{parsed.host}"


class Permissions(Module):
    name = "permissions"
    tuning_params = ("max_subnets", "trusted_cleanup_interval")

    class Params:
        default_allow_file: str = "permissions.allow"
        default_deny_file: str = "permissions.deny"
        check_all_branches: int = 1
        allow_suffix: str = ".allow"
        deny_suffix: str = ".deny"
        address_file: str = ""
        address_table: str = "address"
        grp_col: str = "grp"
        ip_addr_col: str = "ip_addr"
        mask_col: str = "mask"
        port_col: str = "port"
        trusted_table: str = "trusted"
        source_col: str = "src_ip"
        proto_col: str = "proto"
        from_col: str = "from_pattern"
        ruri_col: str = "ruri_pattern"
        tag_col: str = "tag"
        priority_col: str = "priority"
        db_url: str = ""
        db_mode: int = 0
        load_backends: int = 65535
        peer_tag_avp: str = ""
        peer_tag_mode: int = 0
        subnet_match_mode: int = 0
        reload_delta: int = 5

    def mod_init(self) -> None:
        self.files: dict[str, list[Rule] | None] = {}
        self.addresses = AddressTable()
        self.tag: BoundPv | None = self.rt.pv_arg(self.p.peer_tag_avp) if self.p.peer_tag_avp else None
        p = self.p
        if p.db_mode not in (0, 1):
            raise ConfigError("permissions: db_mode is 0 (ask the database each time) or 1 (in memory)")
        self.changed = float("-inf")
        self.db = self.rt.database(p.db_url) if p.db_url else None
        if self.db is not None and p.load_backends & _ADDRESSES and not p.address_file:
            self.db.check_version(p.address_table, _ADDRESS_VERSION)
        self._load_addresses()
        self.trusted: TrustedTable | None = open_trusted(self.db, p) if self.db is not None and p.load_backends & _TRUSTED else None

    def _load_addresses(self) -> None:
        """From the file, else from the table. Raises ConfigError."""
        p = self.p
        if p.address_file:
            self.addresses = read_file(self._path(p.address_file))
        elif self.db is not None and p.load_backends & _ADDRESSES:
            try:
                rows = self.db.select(p.address_table, (p.grp_col, p.ip_addr_col, p.mask_col, p.port_col, p.tag_col)).rows
            except DbError as err:
                raise ConfigError(f"permissions: table {p.address_table}: {err}") from None
            self.addresses = read_rows(rows, lambda why: self.rt.log.error("permissions: table %s: %s; left out", p.address_table, why))
        if p.subnet_match_mode:
            self.addresses.narrowest_first()

    def data_files(self) -> dict[str, str]:
        return {str(self._path(self.p.address_file)): "permissions.addressReload"} if self.p.address_file else {}

    def _path(self, name: str) -> Path:
        """Relative names are meant from the folder of the configuration."""
        return Path(self.rt.base or ".") / name

    # -- rules -----------------------------------------------------------------------------------------------------------

    def _rules(self, name: str) -> list[Rule] | None:
        """A file is read when something asks for it first."""
        if name not in self.files:
            self.files[name] = read_rules(self._path(name))
        return self.files[name]

    def _pair(self, base: str, deny: str | None) -> tuple[list[Rule] | None, list[Rule] | None]:
        if deny is not None:
            return self._rules(base), self._rules(deny)
        if not base:
            return self._rules(self.p.default_allow_file), self._rules(self.p.default_deny_file)
        return self._rules(base + self.p.allow_suffix), self._rules(base + self.p.deny_suffix)

    @staticmethod
    def _allowed(pair: tuple[list[Rule] | None, list[Rule] | None], left: str, right: str) -> bool:
        """What the first file names is allowed, else what the second does not name."""
        return found(pair[0], left, right) or not found(pair[1], left, right)

    def _files_of(self, allow: str, deny: str) -> tuple[list[Rule] | None, list[Rule] | None] | None:
        try:
            return self._pair(allow, deny or None)
        except ConfigError as err:
            self.rt.log.error("%s", err)
            return None

    @function(ANY)
    def allow_routing(self, ctx: Ctx, allow_file: Lit = "", deny_file: Lit = "") -> int:
        """Compare From and Request-URI, and those of the branches."""
        pair = self._files_of(allow_file, deny_file)
        sender = plain(ctx.msg.from_.uri) if ctx.msg.from_ is not None else None
        if pair is None or sender is None:
            return -1
        targets = [ctx.ruri, *(b.uri for b in ctx.branches)] if self.p.check_all_branches else [ctx.ruri]
        for uri in targets:
            target = plain(uri)
            if target is None or not self._allowed(pair, sender, target):
                return -1
        return 1

    def _contacts(self, ctx: Ctx) -> Iterator[str]:
        for header in ctx.msg.all("contact"):
            for value in split_quoted(header[2], ","):
                address = parse_addr(value)
                if address is not None:
                    yield address.uri

    def _register(self, ctx: Ctx, allow: str, deny: str, port: bool) -> int:
        pair = self._files_of(allow, deny)
        owner = plain(ctx.msg.to.uri) if ctx.msg.to is not None else None
        if pair is None or owner is None:
            return -1
        if any(header[2].strip() == "*" for header in ctx.msg.all("contact")):
            return 1
        for uri in self._contacts(ctx):
            contact = plain(uri)
            if contact is not None and port:
                parsed = parse_uri(uri)
                contact += f":{parsed.port}" if parsed is not None and parsed.port else ""
            if contact is None or not self._allowed(pair, owner, contact):
                return -1
        return 1

    @function(_RF)
    def allow_register(self, ctx: Ctx, allow_file: Lit, deny_file: Lit = "") -> int:
        """Compare To and each Contact."""
        return self._register(ctx, allow_file, deny_file, False)

    @function(_RF)
    def allow_register_include_port(self, ctx: Ctx, allow_file: Lit, deny_file: Lit = "") -> int:
        return self._register(ctx, allow_file, deny_file, True)

    @function(_RF)
    def allow_uri(self, ctx: Ctx, basename: Lit, pvar: PvArg) -> int:
        """Compare From and the URI of a variable."""
        pair = self._files_of(basename, "")
        if pair == (None, None):
            return 1
        sender = plain(ctx.msg.from_.uri) if ctx.msg.from_ is not None else None
        value = pvar.get(ctx)
        target = plain(value) if isinstance(value, str) else None
        if pair is None or sender is None or target is None:
            return -1
        return 1 if self._allowed(pair, sender, target) else -1

    # -- addresses -------------------------------------------------------------------------------------------------------

    def _tagged(self, ctx: Ctx, entry: Entry | None) -> Entry | None:
        if entry is not None and entry.tag is not None and self.tag is not None and self.tag.set is not None:
            self.tag.set(ctx, entry.tag)
        return entry

    def _in_group(self, ctx: Ctx, group: int, address: str, port: int) -> int:
        return 1 if self._tagged(ctx, self.addresses.find(address, port, group)) is not None else -1

    def _group_of(self, ctx: Ctx, address: str, port: int) -> int:
        entry = self._tagged(ctx, self.addresses.find(address, port))
        return entry.group if entry is not None else -1

    @function(ANY)
    def allow_address(self, ctx: Ctx, group_id: int, ip_addr_pvar: str, port_pvar: int) -> int:
        return self._in_group(ctx, group_id, ip_addr_pvar, port_pvar)

    @function(ANY)
    def allow_source_address(self, ctx: Ctx, group_id: int = _DEFAULT_GROUP) -> int:
        return self._in_group(ctx, group_id, ctx.flow.remote_ip, ctx.flow.remote_port)

    @function(ANY)
    def allow_address_group(self, ctx: Ctx, addr: str, port: int) -> int:
        """The group that an address belongs to, or -1."""
        return self._group_of(ctx, addr, port)

    @function(ANY)
    def allow_source_address_group(self, ctx: Ctx) -> int:
        return self._group_of(ctx, ctx.flow.remote_ip, ctx.flow.remote_port)

    # -- trusted peers ---------------------------------------------------------------------------------------------------

    def _trusted(self, ctx: Ctx, source: str, proto: str, sender: str) -> int:
        """How many peers trust the request; with ``peer_tag_mode`` 0 it ends at the first one."""
        if self.trusted is None:
            return -1
        try:
            matching = [peer for peer in self.trusted.candidates(source) if peer.matches(proto, sender, ctx.ruri)]
        except (DbError, ValueError) as err:
            self.rt.log.error("permissions: table %s: %s", self.p.trusted_table, err)
            return -1
        for peer in matching if self.p.peer_tag_mode else matching[:1]:
            if peer.tag is not None and self.tag is not None and self.tag.set is not None:
                self.tag.set(ctx, peer.tag)
        return (len(matching) if self.p.peer_tag_mode else 1) if matching else -1

    @function(ANY, waits=True)
    def allow_trusted(self, ctx: Ctx, src_ip_pvar: str | None = None, proto_pvar: str = "", furi_pvar: str | None = None) -> int:
        """Whether the source, or the given address, protocol and From URI, are those of a trusted peer."""
        proto = ctx.flow.proto if src_ip_pvar is None else proto_pvar.lower()
        if proto not in PROTOCOLS:
            self.rt.log.error("allow_trusted: unknown protocol %s", proto)
            return -1
        sender = furi_pvar if furi_pvar is not None else ctx.msg.from_.uri if ctx.msg.from_ is not None else None
        if sender is None:
            return -1
        return self._trusted(ctx, ctx.flow.remote_ip if src_ip_pvar is None else src_ip_pvar, proto, sender)

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _not_too_soon(self) -> None:
        """Raises RpcFault within reload_delta seconds of the last reload."""
        now = self.rt.now()
        if now - self.changed < self.p.reload_delta:
            raise RpcFault(500, "ongoing reload")
        self.changed = now

    @rpc("permissions.addressReload", spread=Spread.EVERY)
    def rpc_reload(self) -> str:
        """Read the addresses again."""
        self._not_too_soon()
        if not self.p.address_file and self.db is None:
            raise RpcFault(500, "Reload failed")
        try:
            self._load_addresses()
        except ConfigError as err:
            self.rt.log.error("%s", err)
            raise RpcFault(500, "Reload failed") from None
        return "Reload OK"

    @rpc("permissions.trustedReload", spread=Spread.EVERY)
    def rpc_reload_trusted(self) -> str:
        """Read the trusted peers again (db_mode 1)."""
        self._not_too_soon()
        if self.trusted is None or self.trusted.peers is None:
            raise RpcFault(500, "Reload failed.")
        try:
            self.trusted.load()
        except (DbError, ValueError) as err:
            self.rt.log.error("permissions: table %s: %s", self.p.trusted_table, err)
            raise RpcFault(500, "Reload failed.") from None
        return "Reload OK"

    @rpc("permissions.trustedDump")
    def rpc_trusted(self) -> Members:
        """Trusted peers, where they are held in memory."""
        if self.trusted is None or self.trusted.peers is None:
            raise RpcFault(500, "No trusted table")
        return Members(self.trusted.dump())

    @rpc("permissions.addressDump")
    def rpc_addresses(self) -> list[dict[str, Any]]:
        """Single addresses, their groups, ports and tags."""
        return dump(self.addresses)

    @rpc("permissions.subnetDump")
    def rpc_subnets(self) -> list[dict[str, Any]]:
        """Networks, their groups, ports and tags."""
        return [{"id": i, "group": e.group, "item": {"ip": str(net.network_address), "mask": net.prefixlen, "port": e.port, "tag": e.tag or "NULL"}}
                for i, (net, e) in enumerate(self.addresses.networks)]  # fmt: skip

    @rpc("permissions.domainDump")
    def rpc_names(self) -> Members:
        """Host names, their groups, ports and tags."""
        return Members({"table": 0, "group": e.group, "item": {"domain_name": name, "port": e.port, "tag": e.tag or "NULL"}}
                for name, entries in self.addresses.names.items() for e in entries)  # fmt: skip

    def _test(self, *params: str) -> str:
        if len(params) < 3:
            raise RpcFault(500, "Not enough parameters (basename, URI and contact)")
        pair = self._files_of(str(params[0]), "")
        left, right = plain(str(params[1])), plain(str(params[2]))
        if pair is None or left is None or right is None:
            raise RpcFault(500, "Bad URI or file")
        # without files nothing is allowed here, unlike in a route
        return "Allowed" if any(pair) and self._allowed(pair, left, right) else "Denied"

    @rpc("permissions.testUri")
    def rpc_test(self, *params: str) -> str:
        """What the rules of BASENAME say to FROM and URI."""
        return self._test(*params)

    @rpc("permissions.allowUri")
    def rpc_allow(self, *params: str) -> str:
        """What the rules of BASENAME say to FROM and URI."""
        return self._test(*params)


module = Permissions
