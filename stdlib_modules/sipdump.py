"""Module sipdump: every message into a file, or into an event route. https://www.kamailio.org/docs/modules/stable/modules/sipdump.html

A ``.data`` file has the messages with where they went from and to, a ``.meta`` file beside it the server and its processes; the layout was
recorded from Kamailio 5.6.3.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kamc.declare import ANY, Module, Routes, Spread, function, pv_class, rpc
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import Dest, Flow
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.message import parse_message

_FILE, _EVENT = 1, 2
#: seconds between writes
_FLUSH: Final = 0.1
#: bytes that wait for the next write, at most; what comes above is counted and left out
_BUFFER: Final = 1 << 24
_FIELDS: Final = ("af", "buf", "len", "tag", "proto", "sproto", "src_ip", "dst_ip", "call_id", "src_port", "dst_port")


@dataclass(frozen=True, slots=True)
class Dumped:
    tag: str
    text: str
    proto: str
    source: tuple[str, int]
    target: tuple[str, int]

    @property
    def family(self) -> str:
        return "ipv6" if ":" in self.source[0] else "ipv4"


class Sipdump(Module):
    name = "sipdump"
    tuning_params = ("wait", "wait_mode", "parse_call_id")
    ignored_params = ("event_callback",)

    class Params:
        enable: int = 0
        mode: int = 1
        folder: str = "/tmp"
        fprefix: str = "kamailio-sipdump-"
        rotate: int = 7200
        fage: int = 0

    def mod_init(self) -> None:
        p = self.p
        self.on = bool(p.enable)
        self.folder = Path(self.rt.base or ".") / p.folder
        if p.mode & _FILE and not os.access(self.folder, os.W_OK):
            raise ConfigError(f"sipdump: cannot write into folder {self.folder}")
        if p.rotate <= 0:
            raise ConfigError("sipdump: rotate is a number of seconds above 0")
        self.current: Dumped | None = None
        self.waiting: list[bytes] = []
        self.size = 0
        self.path: Path | None = None
        self.opened = 0.0
        self.rt.hooks.incoming_filters.append(self.incoming)
        self.rt.hooks.outgoing_filters.append(self.outgoing)
        if p.mode & _FILE:
            self.rt.every(_FLUSH, self.write)
        if p.fage > 0:
            self.rt.every(float(max(1, min(p.fage, 600))), self.remove_old, once=True)

    def activate(self, previous: Any) -> None:
        super().activate(previous)
        if previous is not None and previous.folder == self.folder:
            self.waiting, self.size, self.path, self.opened = previous.waiting, previous.size, previous.path, previous.opened
        self.carry(previous, "on", "enable")

    # -- what passes by --------------------------------------------------------------------------------------------------

    def incoming(self, text: str, flow: Flow) -> str:
        if self.on:
            self._dump(Dumped("rcv", text, flow.proto, (flow.remote_ip, flow.remote_port), (flow.listener.host, flow.listener.port)))
        return text

    def outgoing(self, text: str, dest: Dest) -> str:
        if self.on:
            self._dump(Dumped("snd", text, dest.proto, (dest.listener.host, dest.listener.port), (dest.ip, dest.port)))
        return text

    def _dump(self, dumped: Dumped) -> None:
        if self.p.mode & _EVENT and self.rt.has_event("sipdump:msg") and not self._event(dumped):
            return
        if self.p.mode & _FILE:
            self._keep(dumped)

    def _event(self, dumped: Dumped) -> bool:
        """The event route may keep a message out of the file, with drop."""
        try:
            msg = parse_message(dumped.text)
        except SipError:
            return True
        before, self.current = self.current, dumped
        try:
            return bool(self.rt.run_event("sipdump:msg", Ctx(self.rt, msg, Flow(self.rt.listeners[0], *dumped.source), Routes.EVENT)))
        finally:
            self.current = before

    def _keep(self, dumped: Dumped) -> None:
        now = self.rt.wall_time()
        record = (f"====================\ntag: {dumped.tag}\npid: {os.getpid()}\nprocess: {self.rt.log.rank}\ntime: {now:.6f}\ndate: {time.ctime(now)}\n"
                  f"proto: {dumped.proto} {dumped.family}\nsrcip: {dumped.source[0]}\nsrcport: {dumped.source[1]}\ndstip: {dumped.target[0]}\n"
                  f"dstport: {dumped.target[1]}\n~~~~~~~~~~~~~~~~~~~~\n{dumped.text}||||||||||||||||||||\n").encode("latin-1", "replace")  # fmt: skip
        if self.size + len(record) > _BUFFER:
            self.rt.counters.add("sipdump", "lost")
            return
        self.waiting.append(record)
        self.size += len(record)

    # -- files -----------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """What waits goes into the file of the time."""
        if not self.waiting:
            return
        data, self.waiting, self.size = b"".join(self.waiting), [], 0
        now = self.rt.wall_time()
        try:
            if self.path is None or now - self.opened >= self.p.rotate:
                self._open(now)
            assert self.path is not None
            with open(self.path, "ab") as file:
                file.write(data)
        except OSError as err:
            self.path = None
            self.rt.log.error("sipdump: cannot write to %s: %s", self.folder, err.strerror or err)

    def _open(self, now: float) -> None:
        stamp = time.strftime("%Y-%m-%d--%H-%M-%S", time.localtime(now))
        self.path, self.opened = self.folder / f"{self.p.fprefix}{stamp}.data", now
        meta = f"v: 1.0\nversion: {self.rt.signature()}\nstart: {time.ctime(now)}\nnrprocs: 1\nprocess: {self.rt.log.rank} {os.getpid()} worker\n"
        self.path.with_suffix(".meta").write_text(meta)

    def remove_old(self) -> None:
        """Files of ours that nobody wrote to for fage seconds."""
        limit = self.rt.wall_time() - self.p.fage
        for path in self.folder.glob("*"):
            if path.name.startswith(self.p.fprefix) and path.suffix in (".data", ".meta") and path != self.path:
                try:
                    if path.stat().st_mtime < limit:
                        path.unlink()
                except OSError as err:
                    self.rt.log.error("sipdump: cannot remove %s: %s", path, err.strerror or err)

    def destroy(self) -> None:
        self.write()

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(ANY)
    def sipdump_send(self, ctx: Ctx, tag: str) -> int:
        """Dump this message under a tag."""
        if self.on:
            flow = ctx.flow
            self._keep(Dumped(tag, ctx.msg.text, flow.proto, (flow.remote_ip, flow.remote_port), (flow.listener.host, flow.listener.port)))
        return 1

    @classmethod
    def check_pv_sipdump(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _FIELDS else f"the name is one of {', '.join(_FIELDS)}"

    @pv_class("sipdump")
    def pv_sipdump(self, spec: PvSpec) -> BoundPv:
        """The message of event_route[sipdump:msg]."""
        name = spec.inner or ""

        def get(ctx: Ctx) -> Value:
            dumped = self.current
            if dumped is None:
                return None
            values: dict[str, Any] = {"af": dumped.family, "buf": dumped.text, "len": len(dumped.text), "tag": dumped.tag, "proto": dumped.proto,
                                      "sproto": dumped.proto, "src_ip": dumped.source[0], "src_port": dumped.source[1], "dst_ip": dumped.target[0],
                                      "dst_port": dumped.target[1], "call_id": ctx.msg.call_id}  # fmt: skip
            value: Value = values[name]
            return value

        return BoundPv(get)

    @rpc("sipdump.enable", spread=Spread.EVERY)
    def rpc_enable(self, value: int | None = None) -> dict[str, int]:
        """Show whether messages are dumped, switch it on (1) or off (0)."""
        before = int(self.on)
        if value is not None:
            self.on = bool(value)
        return {"oldval": before, "newval": int(self.on)}


module = Sipdump
