"""One worker: its loop, sockets, transactions, timers, and the generation that it runs."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from kamc.declare.routes import Routes
from kamc.errors import ConfigError
from kamc.runtime.api import Runtime
from kamc.runtime.context import Ctx
from kamc.runtime.counters import Counters
from kamc.runtime.doors import Doors
from kamc.runtime.log import Log
from kamc.runtime.measure import Measures
from kamc.runtime.net.datapath import Datapath
from kamc.runtime.net.endpoint import DATAGRAM, Flow, Listener
from kamc.runtime.net.sctp import SctpEndpoint
from kamc.runtime.net.tcp import TcpHub
from kamc.runtime.net.udp import SteeredEndpoint, UdpEndpoint
from kamc.runtime.proc.estate import Estate
from kamc.runtime.proc.generations import Generations
from kamc.runtime.proc.heap import INTERVAL as HEAP_INTERVAL
from kamc.runtime.proc.heap import Heap
from kamc.runtime.proc.link import Link
from kamc.runtime.proc.loop import WorkerLoop
from kamc.runtime.proc.peers import Exchange, Peers
from kamc.runtime.proc.pulse import INTERVAL as PULSE_INTERVAL
from kamc.runtime.proc.pulse import Pulse
from kamc.runtime.proc.streams import SharedHub
from kamc.runtime.rpc.commands import RpcRegistry
from kamc.runtime.rpc.core import CoreCommands
from kamc.runtime.rpc.dns import add_dns_commands
from kamc.runtime.sip.message import parse_message
from kamc.runtime.store.far import BEAT, Far
from kamc.runtime.store.local import LocalStore, SharedVars, VarsOfAll
from kamc.runtime.store.mirror import Mirror
from kamc.runtime.store.shared import SharedStore
from kamc.runtime.tm.engine import TmEngine
from kamc.runtime.tm.timers import Repeating, TimerTable
from kamc.runtime.waits import Waits

#: seconds between two sweeps of the store
_SWEEP: Final = 60.0


class Worker:
    """What outlives a generation, and the current one (``rt``)."""

    def __init__(self, log: Log, *, index: int = 0, mirror: Mirror | None = None, secret: str = "", exchange: Exchange | None = None, far: Far | None = None,
                 clock: Callable[[], float] = time.monotonic,
                 wall_clock: Callable[[], float] = time.time) -> None:  # fmt: skip
        self.log = log
        self.index = index
        self.clock, self.wall_clock = clock, wall_clock
        #: of the whole server: what it puts into tags and masks, other workers understand
        self.secret = secret or secrets.token_hex(8)
        self.argv: list[str] = []
        self.run_dir = ""
        #: it has, or will have, real sockets
        self.serves = False
        #: of blocks of the configuration, where somebody wants to see them
        self.measures: Measures | None = None
        #: messages that had come when their numbers (``$mi``) began
        self.first_message = 0
        self.vars: dict[str, Any] = {}
        self.undefined_vars: dict[str, Any] = {}
        self.counters = Counters()
        self.counters.register("kamc", "route_errors", "exceptions in routes")
        self.counters.register("kamc", "refused_requests", "requests answered 503 as too many routes waited")
        self.timers = TimerTable()
        #: the other workers of this server, when there are any
        self.peers = Peers(self, exchange, index) if exchange is not None else None
        #: what several servers share, when they do
        self.far = far
        self.store = (SharedStore(wall_clock, mirror, exchange.marks, index, far) if exchange is not None and mirror is not None
                      else LocalStore(wall_clock, mirror, far))  # fmt: skip
        if self.peers is not None:
            self.counters.of_others = self.peers.of_others
            self.peers.estate = Estate(self, self.peers)
        self.shared: SharedVars | VarsOfAll = self.store.variables()
        #: the first worker of a server that starts: what is done once is done here
        self.beginning = not index
        self.rpc = RpcRegistry(self.peers)
        self.rt: Runtime | None = None
        self.listeners: list[Listener] = []
        self.sockets: dict[Listener, socket.socket] = {}
        self.waits = Waits(self.timers, clock, lambda err: self.datapath.report(err, None))
        self.datapath = Datapath(self)
        self._places: dict[tuple[str, str, int], Listener] = {}
        self.engine = TmEngine(self.datapath, self.timers, f"{index:x}", None if exchange is None else index)
        self.waits.aside += [self._keep_vars, log.keep_prefix]
        self.waits.pin = self._pin
        self.generations = Generations(self)
        self.doors = Doors()
        CoreCommands(self.rpc, self).add()
        add_dns_commands(self.rpc, self.datapath)
        hub = log, clock, self.core_param, self._stream_message, self.datapath.lost, self.counters
        self.streams = TcpHub(*hub) if self.peers is None else SharedHub(self.peers, *hub)
        self.loop: asyncio.AbstractEventLoop | None = None
        #: shared with the supervisor, which replaces a worker that does not beat
        self.pulse: Pulse | None = None
        #: to the supervisor, when there is one
        self.link: Link | None = None
        self._leaving: list[tuple[Listener, socket.socket]] = []
        self.repeating: list[Repeating] = []
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = 0.0

    # -- generation ------------------------------------------------------------------------------------------------------

    def load(self, files: Mapping[str, bytes], base: str, overrides: Mapping[str, Any] | None = None, number: int = 0) -> Runtime:
        """Bind a build, start its modules and run it from now on. Raises ConfigError; the worker is as before then."""
        self.generations.prepare(files, base, overrides, number)
        return self.generations.activate()

    def take_hooks(self, rt: Runtime) -> None:
        """What lives longer than a generation looks at this one's hooks from now on."""
        self.datapath.hooks = self.streams.hooks = self.engine.hooks = self.waits.hooks = rt.hooks
        measured = {("kamc", "waiting_routes"): lambda: self.waits.waiting, **{("tcp", name): value for name, value in self.streams.measured.items()}}
        rt.hooks.statistics |= measured
        rt.hooks.partial |= measured.keys()
        self.counters.callbacks, self.counters.partial = rt.hooks.statistics, rt.hooks.partial
        self.rpc.replace(rt.hooks.rpcs)
        self.datapath.set_log_prefix(rt, rt.params.get("log_prefix") or "")
        self.log.level = int(rt.param("debug") or 0)

    def _pin(self) -> Callable[[], None] | None:
        """Keep the running generation for work that is set aside; the result ends that."""
        rt = self.rt
        if rt is None:
            return None
        rt.program_pin()
        return rt.program_unpin

    def _keep_vars(self) -> Callable[[], None]:
        """``$var`` belongs to a process in Kamailio: a run that waits finds its own again."""
        kept = dict(self.vars)

        def bring_back() -> None:
            self.vars.clear()
            self.vars.update(kept)

        return bring_back

    def find_listener(self, proto: str, host: str, port: int) -> Listener | None:
        """A listening socket by address; protocol and port may be left out."""
        host = host.strip("[]").lower()
        for s in self.listeners:
            if s.host == host and (not port or s.port == port) and (not proto or s.proto == proto):
                return s
        return None

    def find_socket(self, text: str, *, whole: bool = False) -> Listener | None:
        """A listening socket by its text, ``[proto:]host[:port]``; ``whole`` wants all three parts, as a socket prints itself."""
        parts = text.split(":")
        proto = parts.pop(0) if parts[0] in ("udp", "tcp", "tls", "sctp") else ""
        port = int(parts.pop()) if len(parts) > 1 and parts[-1].isdigit() else 0
        if whole and not (proto and port):
            return None
        return self.find_listener(proto, ":".join(parts), port)

    def listener_at(self, place: tuple[str, str, int]) -> Listener | None:
        """A listener by its place: how workers call it among themselves."""
        found = self._places.get(place)
        if found is None or found not in self.datapath.senders:
            self._places = {(s.proto, s.host, s.port): s for s in self.datapath.senders}
            found = self._places.get(place)
        return found

    def find_listener_name(self, name: str) -> Listener | None:
        return next((s for s in self.listeners if s.name and s.name == name), None)

    # -- running ---------------------------------------------------------------------------------------------------------

    def attach(self, sockets: Mapping[Listener, socket.socket]) -> None:
        """Take over bound sockets."""
        for listener, sock in sockets.items():
            self.sockets[listener] = sock
            self.listeners.append(listener)
            self.datapath.add_listener(listener, sock.sendto if listener.proto in DATAGRAM else self.streams.send)

    def use_sockets(self, sockets: Mapping[Listener, socket.socket]) -> None:
        """Another set of listeners: new ones are read from now on. Streams of those that are gone live on, and their datagrams are taken until
        nothing of an older generation waits for one."""
        gone = {s: sock for s, sock in self.sockets.items() if s not in sockets}
        fresh = {s: sock for s, sock in sockets.items() if s not in self.sockets}
        if not gone and not fresh:
            return
        self.sockets, self.listeners[:] = dict(sockets), list(sockets)
        self.datapath.by_proto.clear()
        for listener, sock in sockets.items():
            self.datapath.add_listener(listener, sock.sendto if listener.proto in DATAGRAM else self.streams.send)
        kept = set(sockets.values())
        for listener, sock in gone.items():
            if sock not in kept and listener.proto not in DATAGRAM:
                self._stop_reading(listener, sock)
            else:
                self._leaving.append((listener, sock))
        for listener, sock in fresh.items():
            self._read_from(listener, sock)

    def close_leaving(self) -> None:
        """No older generation is left: nothing comes for listeners that are gone."""
        kept = set(self.sockets.values())
        for listener, sock in self._leaving:
            self.datapath.senders.pop(listener, None)
            if sock not in kept:
                self._stop_reading(listener, sock)
        self._leaving.clear()

    def _read_from(self, listener: Listener, sock: socket.socket) -> None:
        loop = self.loop
        if not isinstance(loop, WorkerLoop):
            return
        if listener.proto not in DATAGRAM:
            self.streams.serve(loop, listener, sock)
            return
        datapath = self.datapath
        endpoint: UdpEndpoint | SctpEndpoint
        if listener.proto == "sctp":
            endpoint = SctpEndpoint(listener, sock, datapath.received)
        elif self.peers is None:
            endpoint = UdpEndpoint(listener, sock, datapath.received)
        else:
            endpoint = SteeredEndpoint(listener, sock, datapath.received, self.peers, lambda: not datapath.hooks.incoming_filters)
        loop.direct.remove_direct(sock.fileno())
        loop.direct.add_direct(sock.fileno(), self._guarded(endpoint.readable))

    def _stop_reading(self, listener: Listener, sock: socket.socket) -> None:
        loop = self.loop
        if isinstance(loop, WorkerLoop):
            if listener.proto in DATAGRAM:
                loop.direct.remove_direct(sock.fileno())
            else:
                loop.remove_reader(sock.fileno())
        sock.close()

    def run(self, ready: Callable[[], None] | None = None) -> int:
        """Serve until SIGTERM or SIGINT. Returns the exit status."""
        loop = WorkerLoop()
        asyncio.set_event_loop(loop)
        self.loop = loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, loop.stop)
        # whoever signals the whole group means the supervisor
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.streams.loop = self.waits.loop = loop
        self.doors.forget = loop.remove_reader
        for listener, sock in self.sockets.items():
            self._read_from(listener, sock)
        self.every(1.0, self.streams.close_idle)
        if self.peers is not None:
            loop.direct.add_direct(self.peers.inbox.fileno(), self._guarded(self.peers.readable))
            self.every(1.0, self.peers.show)
        if self.far is not None:
            self._follow_servers(self.far, loop)
        if self.link is not None:
            loop.add_reader(self.link.channel.fileno(), self.link.serve)
        if self.pulse is not None:
            # SIGUSR2: where it is, in lines of the cfg
            faulthandler.register(signal.SIGUSR2, all_threads=False)
            self._beat()
        self.every(HEAP_INTERVAL, Heap().give_back)
        self.every(_SWEEP, self.store.sweep)
        self.timers.on_earlier = self._earlier
        self.start(loop)
        # what was loaded lives for ever: keep it out of every collection
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if ready is not None:
            ready()
        try:
            loop.run_forever()
        finally:
            self.stop()
            for number in (signal.SIGTERM, signal.SIGINT):
                # a second one, from whoever stops the whole group, finds no loop to wake
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)
            loop.close()
        return 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        rt = self.rt
        if rt is None:
            raise ConfigError("a worker without a program")
        rt.start_repeating()
        for module in rt.modules.values():
            module.child_init()
        if not self.index:
            self.run_event("core:worker-one-init")
        if self.link is not None:
            self.link.tell_data_files()
        self._arm()

    def _follow_servers(self, far: Far, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to the workers of other servers; those of this one are heard of in another way."""
        server = far.sender.rpartition(".")[0]
        take = self._guarded(far.take)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(take)

        def heard(sender: str, word: list[Any]) -> None:
            module = self.rt.modules.get(word[1]) if self.rt is not None and word[0] == "module" and len(word) > 2 else None
            if module is not None and word[2] in module.between_servers and sender.rpartition(".")[0] != server:
                getattr(module, word[2])(sender, *word[3:])

        def each(what: str) -> Callable[[str], None]:
            def tell(sender: str) -> None:
                for module in self.rt.modules.values() if self.rt is not None and sender.rpartition(".")[0] != server else ():
                    getattr(module, what)(sender)

            return tell

        far.on_word, far.on_joined, far.on_lost, far.wake = heard, each("server_joined"), each("server_lost"), wake
        self.every(BEAT, far.beat)
        far.beat()
        wake()

    def stop(self) -> None:
        if self.peers is not None and self.peers.index >= self.peers.count:
            # one too many: what it has counted stays
            self.peers.tell(0, "counters", [(*key, number) for key, number in self.counters.values.items() if number], self.engine.stats)
        self.streams.shutdown()
        if self.rt is not None:
            for module in self.rt.modules.values():
                module.destroy()
            self.rt.release()
        if self.far is not None:
            self.far.close()
        if self.store.mirror is not None:
            self.store.mirror.close()

    def core_param(self, name: str) -> Any:
        """A core parameter, 0 for one without a value."""
        value = self.rt.param(name) if self.rt is not None else None
        return 0 if value is None else value

    def _stream_message(self, data: bytes, listener: Listener, address: tuple[str, int], conn: int, proto: str) -> None:
        try:
            self.datapath.received(data, listener, address, conn, proto)
        except Exception as err:
            self.datapath.report(err, None)

    def _guarded(self, readable: Callable[[], None]) -> Callable[[], None]:
        """A reader callback that survives a bug, and leaves the timers armed."""

        def run() -> None:
            try:
                readable()
            except Exception as err:
                self.datapath.report(err, None)

        return run

    # -- timers ----------------------------------------------------------------------------------------------------------

    def _earlier(self, at: float) -> None:
        if self._wake is None or at < self._wake_at - 0.0005:
            self._schedule(at)

    def _schedule(self, at: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        if self.loop is None:
            return
        self._wake_at = at
        self._wake = self.loop.call_later(max(0.0, at - self.clock()), self._expire)

    def _arm(self) -> None:
        deadline = self.timers.next_deadline()
        if deadline is not None and (self._wake is None or deadline < self._wake_at):
            self._schedule(deadline)

    def _expire(self) -> None:
        self._wake = None
        try:
            self.timers.expire(self.clock())
        except Exception as err:
            self.datapath.report(err, None)
        deadline = self.timers.next_deadline()
        if deadline is not None:
            self._schedule(deadline)

    def _beat(self) -> None:
        """Of the loop itself, not of the timers: a worker that serves nothing but one flood is alive."""
        if self.pulse is not None and self.loop is not None:
            self.pulse.beat()
            self.loop.call_later(PULSE_INTERVAL, self._beat)

    def every(self, seconds: float, function: Callable[[], object]) -> Repeating:
        """Run a function again and again, from one interval on, whatever generation runs."""
        one = Repeating(self.timers, self.clock, seconds, function)
        self.repeating.append(one)
        one.start()
        return one

    def never_again(self, one: Repeating) -> None:
        one.stop()
        self.repeating.remove(one)

    @property
    def periodic(self) -> int:
        """How many timers never end: those of the worker, and of the generation that runs."""
        return len(self.repeating) + (len(self.rt.repeating) if self.rt is not None else 0)

    # -- events ----------------------------------------------------------------------------------------------------------

    def fake_context(self, kind: Routes = Routes.EVENT, flow: Flow | None = None, rt: Runtime | None = None) -> Ctx:
        """A context over a made-up request, for event routes that no message causes; ``flow`` says where it seems to come from."""
        rt = rt or self.rt
        if rt is None:
            raise ConfigError("no program is loaded")
        listener = self.listeners[0] if self.listeners else Listener("udp", "127.0.0.1", 5060)
        text = ("OPTIONS sip:you@kamailio.org SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1\r\nFrom: <sip:you@kamailio.org>;tag=123\r\n"
                "To: <sip:you@kamailio.org>\r\nCall-ID: 123\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
        ctx = Ctx(rt, parse_message(text), flow or Flow(listener, "127.0.0.1", 5060), kind)
        ctx.remember("faked", True)
        return ctx

    def run_event(self, name: str, ctx: Ctx | None = None, rt: Runtime | None = None) -> bool:
        rt = rt or self.rt
        if rt is None or not rt.has_event(name):
            return True
        return rt.run_event(name, ctx if ctx is not None else self.fake_context(rt=rt))

