"""Module log_custom: log lines over UDP instead of to the system. https://www.kamailio.org/docs/modules/stable/modules/log_custom.html"""

from __future__ import annotations

import contextlib
import socket

from kamc.declare import ANY, Module, function
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx


class LogCustom(Module):
    name = "log_custom"

    def mod_init(self) -> None:
        self.sock: socket.socket | None = None
        data = str(self.rt.param("log_engine_data") or "")
        host, _, port = data.removeprefix("udp:").rpartition(":")
        host = host.strip("[]")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ConfigError(f"log_custom: log_engine_data {data!r} is not address:port")
        try:
            family, _, _, _, to = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
            self.to: tuple[object, ...] = to
        except OSError as err:
            raise ConfigError(f"log_custom: log_engine_data {data!r}: {err.strerror or err}") from None
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        #: whether all lines go there
        self.diverts = str(self.rt.param("log_engine_type") or "").lower() == "udp" and not self.rt.param("log_stderror")

    def send(self, line: bytes) -> None:
        """A line that cannot leave is lost: logging never waits."""
        if self.sock is None:
            return
        with contextlib.suppress(OSError):
            self.sock.sendto(line, self.to)

    def activate(self, previous: object) -> None:
        super().activate(previous)
        self.rt.log.divert = self.send if self.diverts else None

    def release(self) -> None:
        if self.rt.log.divert == self.send:
            self.rt.log.divert = None
        if self.sock is not None:
            self.sock.close()

    @function(ANY)
    def log_udp(self, ctx: Ctx, text: str) -> int:
        """Send a text there, as it is."""
        self.send(text.encode("latin-1", "replace"))
        return 1


module = LogCustom
