"""A worker's side of the channel to its supervisor: generations come in, requests for a reload go out."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.sockopts import renewed
from kamc.runtime.proc.channel import Channel
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.rpc.values import plain

if TYPE_CHECKING:
    from kamc.runtime.proc.worker import Worker

#: seconds between two looks at whether a worker that ends is through
_LOOK: Final = 0.1
#: a listener as it goes over the channel
Row = tuple[str, str, int, str, int, str, int, bool]


def to_row(s: Listener) -> Row:
    return s.proto, s.host, s.port, s.advertise_host, s.advertise_port, s.name, s.index, s.virtual


class Link:
    """``aliases`` are those of the command line."""

    def __init__(self, worker: Worker, channel: Channel, aliases: list[tuple[str, str, int]]) -> None:
        self.worker, self.channel, self.aliases = worker, channel, aliases
        self._questions: dict[int, Callable[[tuple[str, Any]], None]] = {}
        self._serial = 0
        #: the listeners that come with the prepared generation
        self._listeners: dict[Listener, socket.socket] = {}

    def serve(self) -> None:
        """The channel is readable."""
        try:
            messages = self.channel.receive()
        except EOFError:
            # nobody restarts us, and nobody would notice our death
            if self.worker.loop is not None:
                self.worker.loop.remove_reader(self.channel.fileno())
                self.worker.loop.stop()
            return
        for kind, *rest in messages:
            getattr(self, f"_on_{kind}")(*rest)

    def _send(self, *message: Any) -> None:
        try:
            self.channel.send(*message)
        except OSError as err:
            self.worker.log.critical("the supervisor does not listen: %s", err)

    # -- generations -----------------------------------------------------------------------------------------------------

    def _on_prepare(self, number: int, files: dict[str, bytes], base: str, rows: list[Row], known: list[int],
                    overrides: dict[str, Any]) -> None:  # fmt: skip
        """Bind a build beside the running one. ``rows`` are its listeners; those whose place is in ``known`` are open here already, a
        descriptor for each of the others has come along."""
        fresh = self.channel.take_fds(len(rows) - len(known))
        try:
            self._listeners = self._listeners_of(rows, known, fresh)
            before = list(self.worker.listeners)
            # modules look for their sockets while they start
            self.worker.listeners[:] = list(self._listeners)
            try:
                rt = self.worker.generations.prepare(files, base, overrides, number)
            finally:
                self.worker.listeners[:] = before
            rt.aliases += self.aliases
        except Exception as err:
            text = str(err) if isinstance(err, ConfigError) else f"{type(err).__name__}: {err}"
            if not isinstance(err, ConfigError):
                self.worker.datapath.report(err, None)
            self._drop_listeners()
            self._send("refused", number, text)
            return
        self._send("prepared", number)

    def _listeners_of(self, rows: list[Row], known: list[int], fds: list[int]) -> dict[Listener, socket.socket]:
        """Those that are as before are the same objects: transactions hold on to them."""
        here = {to_row(s)[:3]: s for s in self.worker.sockets}
        found: dict[Listener, socket.socket] = {}
        for at, row in enumerate(rows):
            old = here.get(row[:3])
            if at in known and old is not None:
                found[old if to_row(old) == tuple(row) else Listener(*row)] = self.worker.sockets[old]
            else:
                found[Listener(*row)] = socket.socket(fileno=fds.pop(0))
        return found

    def _drop_listeners(self) -> None:
        for sock in set(self._listeners.values()) - set(self.worker.sockets.values()):
            sock.close()
        self._listeners = {}

    def _on_activate(self, number: int) -> None:
        generations = self.worker.generations
        if generations.prepared is None or generations.prepared.generation != number:
            self._send("refused", number, "this generation was not prepared")
            return
        before = self.worker.rt
        self.worker.use_sockets(self._listeners)
        rt = generations.activate()
        if before is not None:
            for listener, sock in self.worker.sockets.items():
                renewed(sock, listener.proto, before.param, rt.param)
        self.worker.log.open_again(rt.param)
        self._listeners = {}
        self.tell_data_files()
        self._send("active", number, generations.pauses[-1])

    def _on_discard(self, number: int) -> None:
        self.worker.generations.discard()
        self._drop_listeners()

    # -- another number of workers ---------------------------------------------------------------------------------------

    def _on_hold(self, serial: int, count: int) -> None:
        """There are about to be ``count`` workers."""
        if self.worker.peers is not None and self.worker.peers.estate is not None:
            self.worker.peers.estate.hold(count)
        self._send("held", serial)

    def _on_settle(self) -> None:
        """Their number has changed."""
        if self.worker.peers is not None and self.worker.peers.estate is not None:
            self.worker.peers.estate.settle()

    def _on_drain(self) -> None:
        """The server is to end: nothing new begins, and this worker ends with its last transaction."""
        worker = self.worker
        worker.waits.closed = True

        def look() -> None:
            if not worker.waits.waiting and all(t.waiting_timer is not None for t in worker.engine.transactions()) and worker.loop is not None:
                worker.loop.stop()

        worker.every(_LOOK, look)

    def tell_idle(self) -> None:
        """This worker is one too many, and has nothing left to do."""
        self._send("idle", self.worker.index)

    def tell_data_files(self) -> None:
        """Of the generation that runs, for who watches them."""
        rt = self.worker.rt
        rows: dict[str, str] = {}
        for module in rt.modules.values() if rt is not None else ():
            rows |= module.data_files()
        self._send("data", rows)

    # -- commands --------------------------------------------------------------------------------------------------------

    def _on_rpc(self, ident: int, name: str, params: list[Any]) -> None:
        """A command that came by the control socket."""

        def run() -> None:
            try:
                self._send("answer", ident, "", plain(self.worker.rpc.call(name, params)))
            except RpcFault as fault:
                self._send("answer", ident, f"{fault.code} {fault.text}", None)
            except Exception as err:
                self.worker.log.error("RPC %s failed: %r", name, err)
                self._send("answer", ident, "500 Internal Server Error", None)

        self.worker.waits.detached(run)

    def ask(self, what: str, *params: Any) -> Any:
        """Ask the supervisor, and wait for its answer without holding up anybody. Raises RpcFault with what it says."""
        self._serial += 1
        ident = self._serial
        found: list[tuple[str, Any]] = []

        def arrange(resume: Callable[[], None]) -> None:
            def answered(answer: tuple[str, Any]) -> None:
                found.append(answer)
                resume()

            self._questions[ident] = answered
            self._send("ask", ident, what, *params)

        if not self.worker.waits.wait(arrange):
            raise RpcFault(500, "not from here")
        error, value = found[0]
        if error:
            raise RpcFault(500, error)
        return value

    def _on_told(self, ident: int, error: str, value: Any) -> None:
        answered = self._questions.pop(ident, None)
        if answered is not None:
            answered((error, value))
