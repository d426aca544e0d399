"""Requests that keep the way to contacts open and measure it (``ka_mode``)."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from typing import Any, Final

from kamc.declare import Routes
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import Dest, Flow
from kamc.runtime.sip.addr import parse_addr_list
from kamc.runtime.sip.message import SipMessage
from stdlib_modules.usrloc.binding import Binding

_ALL, _NATTED, _UDP = 1, 2, 4
_OWN_SERVER: Final = 1
#: ka_loglevel that says nothing
_SILENT: Final = 255
_CALL_ID: Final = "ksrulka-"


class Keepalives:
    """Goes through the contacts once per ``timer_interval``. Newer Kamailios ask each one again only after ``ka_interval`` seconds and up to
    ``ka_randomize`` more."""

    rt: Any
    p: Any

    def each(self) -> Iterator[tuple[str, str, list[Binding]]]:
        raise NotImplementedError

    def drop(self, domain: str, aor: str, binding: Binding) -> None:
        raise NotImplementedError

    def start_keepalives(self) -> None:
        """Check the parameters. Raises ConfigError."""
        p = self.p
        self.ka_codes = self._codes(p.ka_reply_codes)
        if not p.ka_mode:
            return
        if p.ka_mode < 0 or p.ka_mode > _ALL | _NATTED | _UDP:
            raise ConfigError("usrloc: ka_mode is a sum of 1 (all contacts), 2 (behind NAT) and 4 (over UDP)")
        if p.ka_loglevel != _SILENT and not -5 <= p.ka_loglevel <= 3:
            raise ConfigError("usrloc: ka_loglevel is -5 to 3, or 255 for none")
        self.ka_log = self.rt.format(p.ka_logmsg)
        self.ka_mark = f"{_CALL_ID}{secrets.token_hex(6)}-"
        #: number of the request → when it was sent, and to whom
        self.ka_sent: dict[int, tuple[float, Binding]] = {}
        self.ka_serial = 0
        #: ruid → when it is asked next
        self.ka_due: dict[str, float] = {}
        self.rt.hooks.pre_reply["usrloc"] = self._answered

    @staticmethod
    def _codes(text: str) -> frozenset[int]:
        """``200;404``: the only answers that count; 0 or nothing for any."""
        words = [w.strip() for w in text.replace(",", ";").split(";") if w.strip() not in ("", "0")]
        if not all(w.isdecimal() and 100 <= int(w) <= 699 for w in words):
            raise ConfigError(f"usrloc: ka_reply_codes {text!r} is no list of reply codes")
        return frozenset(int(w) for w in words)

    def _is_asked(self, b: Binding) -> bool:
        p = self.p
        if p.ka_filter & _OWN_SERVER and b.server_id != int(self.rt.param("server_id") or 0):
            return False
        if p.ka_mode & _NATTED and (p.nat_bflag < 0 or not b.cflags >> p.nat_bflag & 1):
            return False
        return not p.ka_mode & _UDP or b.socket.startswith("udp:")

    def keep_alive(self) -> None:
        """One round over all contacts; those that were silent for ka_timeout seconds are dropped."""
        now, timeout = self.rt.wall_time(), self.p.ka_timeout
        self.ka_sent = {k: v for k, v in self.ka_sent.items() if now - v[0] < 60}
        for domain, aor, held in self.each():
            for b in held:
                if not self._is_asked(b):
                    continue
                if timeout > 0 and now - (b.heard or b.modified) > timeout:
                    self.drop(domain, aor, b)
                elif self._is_due(b.ruid, now):
                    self._ask(aor, b, now)
        self.ka_due = {ruid: at for ruid, at in self.ka_due.items() if at > now}

    def _is_due(self, ruid: str, now: float) -> bool:
        if self.rt.compat == "5.6":
            return True
        if self.ka_due.get(ruid, 0) > now:
            return False
        self.ka_due[ruid] = now + self.p.ka_interval + random.uniform(0, max(0, self.p.ka_randomize))
        return True

    def _ask(self, aor: str, b: Binding, now: float) -> None:
        hops = parse_addr_list(b.path) if b.path else []
        ctx = self.rt.worker.fake_context()
        ctx.send_socket = self.rt.worker.find_socket(b.socket, whole=True)
        ctx.forward_no_connect = True
        dest: Dest | None = self.rt.datapath.resolve(ctx, hops[0].uri if hops else b.received or b.contact)
        if dest is None:
            return
        self.ka_serial += 1
        serial, p = self.ka_serial, self.p
        via = self.rt.datapath.via_header(ctx, dest, f"{self.rt.tm.branch_prefix}x.{serial}.1.0")
        route = f"Route: {b.path}\r\n" if b.path else ""
        target = aor if p.use_domain else f"{aor}@{p.ka_domain}"
        text = (f"{p.ka_method} {b.contact} SIP/2.0\r\n{via}{route}From: <{p.ka_from}>;tag={b.ruid}-{serial}.1\r\nTo: <sip:{target}>\r\n"
                f"Call-ID: {self.ka_mark}{serial}.1\r\nCSeq: 80 {p.ka_method}\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
        if self.rt.datapath.send(dest, text):
            self.ka_sent[serial] = now, b

    def _answered(self, msg: SipMessage, flow: Flow) -> bool:
        """Measure the way of an answer to us. The script sees it, too."""
        if not msg.call_id.startswith(self.ka_mark) or msg.status < 200:
            return True
        number = msg.call_id.removeprefix(self.ka_mark).partition(".")[0]
        found = self.ka_sent.pop(int(number), None) if number.isdecimal() else None
        if found is None or (self.ka_codes and msg.status not in self.ka_codes):
            return True
        sent, b = found
        b.heard = self.rt.wall_time()
        b.roundtrip = round((b.heard - sent) * 1e6)
        if self.p.ka_loglevel != _SILENT:
            ctx = Ctx(self.rt, msg, flow, Routes.CORE_ONREPLY)
            self.rt.log.write(self.p.ka_loglevel, f"keepalive roundtrip: {b.roundtrip / 1e6:.6f} sec - ruid [{b.ruid}]{self.ka_log(ctx)}", "usrloc")
        return True
