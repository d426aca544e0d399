"""What keeps the way to clients behind NAT open: small packets to their contacts, and what follows when nobody answers."""

from __future__ import annotations

import secrets
from collections import deque
from typing import Any

from kamc.declare import Spread, rpc
from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Dest, Flow, Listener
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.addr import parse_addr, parse_addr_list
from kamc.runtime.sip.message import SipMessage
from stdlib_modules.usrloc import Binding

#: not a SIP message: whoever gets it drops it
_EMPTY_PACKET = "\0\0\0\0"


class Pings:
    """Goes through the contacts of usrloc once per ``natping_interval``, a share of them each second."""

    rt: Any
    p: Any

    def start_pings(self) -> None:
        """Check the parameters. Raises ConfigError."""
        p = self.p
        if p.natping_interval < 0 or p.keepalive_timeout < 0:
            raise ConfigError("nathelper: natping_interval and keepalive_timeout are numbers of seconds")
        if p.natping_socket:
            raise ConfigError("nathelper: natping_socket needs raw sockets, which are not used; force_socket chooses among the sockets that are listened on")
        self.usrloc = self.rt.module("usrloc")
        self.pinging = p.natping_interval > 0
        if not self.pinging:
            return
        if self.usrloc is None:
            raise ConfigError("nathelper: natping_interval needs module usrloc")
        if p.sipping_bflag >= 0 and not p.sipping_from:
            raise ConfigError("nathelper: sipping_bflag needs sipping_from, the sender of the requests")
        if p.sipping_from and parse_addr(p.sipping_from) is None:
            raise ConfigError(f"nathelper: sipping_from {p.sipping_from!r} is no URI")
        self.ping_socket = self._forced_socket(p.force_socket)
        #: contacts that this round has yet to reach, and how many of them one second takes
        self.waiting: deque[tuple[str, str, str]] = deque()
        self.share = 0
        #: of the round
        self.second = 0
        #: ruid → when it was first asked, or answered last
        self.heard: dict[str, float] = {}
        self.mark = f"kping-{secrets.token_hex(6)}-"
        self.rt.hooks.pre_reply["nathelper"] = self._is_for_others

    def _forced_socket(self, text: str) -> Listener | None:
        if not text:
            return None
        found: Listener | None = self.rt.worker.find_socket(text.lower())
        if found is None:
            raise ConfigError(f"nathelper: force_socket {text} is none of the sockets that are listened on")
        return found

    def child_init(self) -> None:
        if self.pinging:
            self.rt.every(1.0, self._tick, once=True)

    # -- rounds ----------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """One second: its share of the contacts."""
        if not self.pinging:
            return
        first = self.second == 0
        self.second = (self.second + 1) % self.p.natping_interval
        if first:
            self.waiting.extend((domain, aor, b.ruid) for domain, aor, held in self.usrloc.each() for b in held if self._is_pinged(b))
            self.share = -(-len(self.waiting) // self.p.natping_interval)
            self.heard = {ruid: self.heard[ruid] for _, _, ruid in self.waiting if ruid in self.heard}
        for _ in range(min(self.share, len(self.waiting))):
            domain, aor, ruid = self.waiting.popleft()
            found = next((b for b in self.usrloc.bindings(domain, aor) if b.ruid == ruid), None)
            if found is not None and not self._silent(domain, aor, found):
                self.ping(found)

    def _is_pinged(self, b: Binding) -> bool:
        p, nat = self.p, self.usrloc.p.nat_bflag
        if p.ping_nated_only and (nat < 0 or not b.cflags >> nat & 1):
            return False
        if p.natping_disable_bflag >= 0 and b.cflags >> p.natping_disable_bflag & 1:
            return False
        return not p.filter_server_id or b.server_id == int(self.rt.param("server_id") or 0)

    def _by_sip(self, b: Binding) -> bool:
        return self.p.sipping_bflag >= 0 and bool(b.cflags >> self.p.sipping_bflag & 1)

    def _silent(self, domain: str, aor: str, b: Binding) -> bool:
        """Drop a contact that was asked and has not answered for ``keepalive_timeout`` seconds."""
        if not self.p.keepalive_timeout or not self._by_sip(b):
            return False
        now = self.rt.now()
        if now - self.heard.setdefault(b.ruid, now) <= self.p.keepalive_timeout:
            return False
        del self.heard[b.ruid]
        self.usrloc.drop(domain, aor, b)
        return True

    # -- packets ---------------------------------------------------------------------------------------------------------

    def ping(self, b: Binding) -> bool:
        """One packet to where a contact is. False when it could not be sent."""
        by_sip = self._by_sip(b)
        hops = parse_addr_list(b.path) if b.path and not self.p.ignore_path else []
        target = hops[0].uri if hops and (by_sip or self.p.udpping_from_path) else b.received or b.contact
        ctx = self.rt.worker.fake_context()
        ctx.send_socket = self.ping_socket or self.rt.worker.find_socket(b.socket, whole=True)
        ctx.forward_no_connect = True
        dest: Dest | None = self.rt.datapath.resolve(ctx, target)
        if dest is None or (dest.proto != "udp" and not by_sip):
            return False
        text = self._request(ctx, b, dest) if by_sip else _EMPTY_PACKET
        sent: bool = self.rt.datapath.send(dest, text)
        return sent

    def _request(self, ctx: Any, b: Binding, dest: Dest) -> str:
        method, sender = self.p.sipping_method, self.p.sipping_from
        if "<" not in sender:
            sender = f"<{sender}>"
        serial = f"{self.rt.datapath.random_id():08x}"
        via = self.rt.datapath.via_header(ctx, dest, f"{self.rt.tm.branch_prefix}{serial}")
        route = f"Route: {b.path}\r\n" if b.path and not self.p.ignore_path else ""
        return (f"{method} {b.contact} SIP/2.0\r\n{via}Max-Forwards: 70\r\n{route}From: {sender};tag={b.ruid}\r\nTo: <{b.contact}>\r\n"
                f"Call-ID: {self.mark}{serial}@{dest.listener.via_host}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n")  # fmt: skip

    def _is_for_others(self, msg: SipMessage, flow: Flow) -> bool:
        """Take the answers to our own requests out of the way of the script."""
        if not msg.call_id.startswith(self.mark):
            return True
        if msg.status >= 200 and msg.from_tag in self.heard:
            self.heard[msg.from_tag] = self.rt.now()
        return False

    @rpc("nathelper.enable_ping", spread=Spread.FIRST)
    def rpc_enable_ping(self, value: int | None = None) -> str:
        """0 stops the pings, another number lets them go on."""
        if not self.p.natping_interval:
            raise RpcFault(500, "NATping disabled")
        if value is None:
            raise RpcFault(500, "Not enough parameters")
        self.pinging = value != 0
        return ""
