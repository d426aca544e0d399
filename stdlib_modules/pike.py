"""Module pike: who sends too much. Addresses are counted byte by byte, so a flood from a whole network costs no more memory than its hot parts.

The limits are those of Kamailio: an address that nobody has seen is refused after a few requests more than ``reqs_density_per_unit``, since
every further byte is only told apart when the one before is busy (recorded in tests/unit/test_pike.py).
"""

from __future__ import annotations

import ipaddress
from typing import Any

from kamc.declare import Module, Routes, function, rpc
from kamc.runtime.context import Ctx
from kamc.runtime.rpc.fault import RpcFault

_ROUTES = Routes.REQUEST | Routes.ONREPLY


class Node:
    """A prefix of addresses, or a whole one (``leaf``): hits of this and the last sampling unit."""

    __slots__ = ("current", "expires", "leaf", "previous", "red")

    def __init__(self, hits: int, expires: float, *, leaf: bool) -> None:
        self.leaf = leaf
        self.previous, self.current = 0, hits
        self.expires = expires
        self.red = False

    def hot(self, limit: int) -> bool:
        return self.previous >= limit or self.current >= limit or (self.previous + self.current) >> 1 >= limit


class Pike(Module):
    name = "pike"
    kept = ("nodes",)
    stats = {"pike": ("blocked_ips",)}

    class Params:
        sampling_time_unit: int = 2
        reqs_density_per_unit: int = 30
        remove_latency: int = 120
        pike_log_level: int = 0

    def mod_init(self) -> None:
        #: address bytes or a prefix of them -> node
        self.nodes: dict[bytes, Node] = {}
        self.p.remove_latency = max(self.p.remove_latency, self.p.sampling_time_unit)
        self.rt.every(float(max(1, self.p.sampling_time_unit)), self._next_unit)

    # -- counting --------------------------------------------------------------------------------------------------------

    def _mark(self, address: bytes) -> Node | None:
        """Count a request. The node of the whole address, when it has one by now."""
        expires = self.rt.now() + self.p.remove_latency
        nodes = self.nodes
        node = nodes.get(address)
        if node is not None:
            node.current += 1
            node.expires = expires
            return node
        depth = len(address) - 1
        while depth and address[:depth] not in nodes:
            depth -= 1
        if not depth:
            nodes[address[:1]] = Node(1, expires, leaf=False)
            return None
        node = nodes[address[:depth]]
        node.current += 1
        node.expires = expires
        if node.hot(self.p.reqs_density_per_unit >> 2):
            leaf = depth + 1 == len(address)
            nodes[address[: depth + 1]] = Node(0 if leaf else node.current, expires, leaf=leaf)
        return None

    def _check(self, address: bytes, shown: str) -> int:
        """1 to let it through; -2 for the request that made it too many, -1 for those that follow."""
        node = self.everywhere(self._mark, address)
        if node is None or not node.hot(self.p.reqs_density_per_unit):
            return 1
        if node.red:
            return -1
        node.red = True
        self._count_red()
        if self.p.pike_log_level <= self.rt.log.level:
            self.rt.log.write(self.p.pike_log_level, f"PIKE - BLOCKing ip {shown}", "pike")
        return -2

    def _count_red(self) -> None:
        self.rt.counters.values["pike", "blocked_ips"] = sum(node.red for node in self.nodes.values())

    def _next_unit(self) -> None:
        """A sampling unit is over: what was the present is the past. Nodes that nobody hit for long go; a prefix stays with what is below it."""
        now, limit = self.rt.now(), self.p.reqs_density_per_unit
        parents: set[bytes] = set()
        for key in sorted(self.nodes, key=len, reverse=True):
            node = self.nodes[key]
            if node.expires <= now and key not in parents:
                del self.nodes[key]
                continue
            parents.add(key[:-1])
            node.previous, node.current = node.current, 0
            if node.red and not node.hot(limit):
                node.red = False
                if self.p.pike_log_level <= self.rt.log.level:
                    self.rt.log.write(self.p.pike_log_level, f"PIKE - UNBLOCKing ip {ipaddress.ip_address(key)}", "pike")
        self._count_red()

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(_ROUTES)
    def pike_check_req(self, ctx: Ctx) -> int:
        ip = ctx.flow.remote_ip
        return self._check(ipaddress.ip_address(ip).packed, ip)

    @function(_ROUTES)
    def pike_check_ip(self, ctx: Ctx, ipaddr: str) -> int:
        try:
            address = ipaddress.ip_address(ipaddr)
        except ValueError:
            self.rt.log.error("pike_check_ip: %r is no IP address", ipaddr)
            return -1
        return self._check(address.packed, ipaddr)

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _status(self, node: Node) -> str:
        limit = self.p.reqs_density_per_unit
        if node.hot(limit):
            return "HOT"
        return "WARM" if node.current >= limit >> 2 else ""

    def _list(self, which: str) -> dict[str, Any]:
        wanted = which.upper()
        if wanted not in ("ALL", "HOT", "WARM"):
            raise RpcFault(500, "Bad argument. Select: ALL, HOT or WARM")
        now = self.rt.now()
        rows = [
            {"ip_addr": str(ipaddress.ip_address(key)), "leaf_hits_prev": node.previous, "leaf_hits_curr": node.current,
             "expires": max(0, round(node.expires - now)), "status": self._status(node)}
            for key, node in self.nodes.items() if node.leaf and (wanted == "ALL" or self._status(node) == wanted)
        ]  # fmt: skip
        return {"max_hits": self.p.reqs_density_per_unit, "list": rows, "number_of_rows": len(rows)}

    @rpc("pike.top")
    def rpc_top(self, which: str = "HOT") -> dict[str, Any]:
        """Addresses and their hits: HOT (the default), WARM or ALL."""
        return self._list(which)

    @rpc("pike.list")
    def rpc_list(self, which: str = "HOT") -> dict[str, Any]:
        """Addresses and their hits: HOT (the default), WARM or ALL."""
        return self._list(which)


module = Pike
