"""What rtpengine tells by itself: digits that somebody presses (its ``--dtmf-log-dest``), a JSON object in each datagram."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any, Final

from kamc.declare import Routes, modparam
from kamc.errors import ConfigError
from kamc.runtime.doors import Door
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.jsonrpc import loads

EVENT: Final = "rtpengine:dtmf-event"
#: parameter → member of the object
_MEMBERS: Final = {
    "dtmf_event_callid": "callid", "dtmf_event_source_tag": "source_tag", "dtmf_event_source_label": "source_label", "dtmf_event_tags": "tags", "dtmf_event_type": "type",
    "dtmf_event_timestamp": "timestamp", "dtmf_event_source_ip": "source_ip", "dtmf_event": "event", "dtmf_event_duration": "duration", "dtmf_event_volume": "volume",
}  # fmt: skip


class EventParams:
    dtmf_event_callid: str = ""
    dtmf_event_source_tag: str = ""
    dtmf_event_source_label: str = ""
    dtmf_event_tags: str = ""
    dtmf_event_type: str = ""
    dtmf_event_timestamp: str = ""
    dtmf_event_source_ip: str = ""
    dtmf_event: str = ""
    dtmf_event_duration: str = ""
    dtmf_event_volume: str = ""


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, door: Door) -> None:
        self.door = door

    def datagram_received(self, data: bytes, addr: Any) -> None:
        events: Events = self.door.owner
        events.rt.worker.waits.run(events.told, data)


class Events:
    """A part of the module: the socket on which a relay tells, and the event route."""

    rt: Any
    p: Any
    #: where it listens; None for nowhere
    events_at: tuple[str, int] | None = None
    events_door: Door | None = None

    @modparam("dtmf_events_sock")
    def set_events_sock(self, text: str) -> None:
        """``[udp:]address:port``"""
        host, _, port = text.removeprefix("udp:").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ValueError(f"{text!r}: the form is [udp:]ADDRESS:PORT")
        self.events_at = host.strip("[]"), int(port)

    def bind_events(self) -> None:
        """The variables that an event is told in. Raises ConfigError."""
        self.event_pvs: dict[str, BoundPv] = {}
        for param, member in _MEMBERS.items():
            text = getattr(self.p, param)
            if text:
                bound = self.rt.pv_arg(text)
                if bound.set is None:
                    raise ConfigError(f"rtpengine: {param}: {text} is read-only")
                self.event_pvs[member] = bound

    def open_doors(self) -> None:
        if self.events_at is not None:
            try:
                self.events_door = self.rt.open_door(f"rtpengine:{self.events_at}", partial(self._bind, *self.events_at))
            except OSError as err:
                raise ConfigError(f"rtpengine: dtmf_events_sock: {err}") from None

    @staticmethod
    def _bind(host: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        sock.setblocking(False)
        return sock

    def take_events(self) -> None:
        """This generation hears what comes from now on."""
        if self.events_door is not None:
            self.events_door.owner = self

    def child_init(self) -> None:
        loop, door = self.rt.worker.loop, self.events_door
        if loop is not None and door is not None and door.server is None:
            door.server = loop.create_task(self._listen(loop, door))

    @staticmethod
    async def _listen(loop: asyncio.AbstractEventLoop, door: Door) -> None:
        assert isinstance(door.file, socket.socket)
        door.server, _ = await loop.create_datagram_endpoint(partial(_Ear, door), sock=door.file)

    def told(self, data: bytes) -> None:
        """A datagram. What is no event is said in the log, and nothing else."""
        try:
            found = loads(data.decode("utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("callid"), str):
            self.rt.log.limited(0, "rtpengine: what came to dtmf_events_sock is no event: %r", data[:200])
            return
        if not self.rt.has_event(EVENT):
            return
        ctx = self.rt.worker.fake_context(Routes.EVENT)
        for member, bound in self.event_pvs.items():
            value = found.get(member)
            if isinstance(value, list):
                value = ",".join(str(one) for one in value)
            if bound.set is not None:
                bound.set(ctx, value if isinstance(value, int | str) and not isinstance(value, bool) else None)
        self.rt.run_event(EVENT, ctx)
