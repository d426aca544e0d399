"""The workers of one server among themselves: messages, connections and words that belong to another one go to its inbox.

An inbox is a Unix datagram socket that the supervisor keeps, so what lies in it survives the worker. When it is full, what is for it waits here, in order.
"""

from __future__ import annotations

import array
import marshal
import mmap
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from kamc.runtime.net.steer import MOST_WORKERS, call_of, holder_of, owner, owner_of_call, sender_of
from kamc.runtime.proc.roll import Roll
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.rpc.values import plain
from kamc.runtime.store.shared import Marks

if TYPE_CHECKING:
    from kamc.runtime.net.endpoint import Listener
    from kamc.runtime.proc.estate import Estate
    from kamc.runtime.proc.worker import Worker

_READ: Final = 1 << 20
_ROOM: Final = socket.CMSG_SPACE(4)
#: bytes of messages in one parcel: well below what a datagram may have
_PARCEL: Final = 1 << 16
#: what may wait for one worker, and the bytes that its inbox should take
_MOST_WAITING: Final = 20_000
_BUFFER: Final = 1 << 22
#: bytes of shared memory in which a worker shows its statistics
_BOARD: Final = 1 << 17
_HEAD: Final = 8
#: a message, where it came from, its connection and transport
Row = tuple[bytes, tuple[Any, ...], int, str]
#: seconds that another worker has for the answer to a command
_PATIENCE: Final = 5.0


class Board:
    """What each worker shows of its statistics: a region of shared memory per worker, which nobody else writes. Made before the workers are."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, workers * _BOARD)

    def show(self, worker: int, value: Any) -> None:
        data = marshal.dumps(value)
        if len(data) > _BOARD - _HEAD:
            return
        at = worker * _BOARD
        self._memory[at + _HEAD : at + _HEAD + len(data)] = data
        self._memory[at : at + _HEAD] = len(data).to_bytes(4, "little") + crc32(data).to_bytes(4, "little")

    def read(self, worker: int) -> Any:
        """What a worker showed last; None before that, and for what is being written."""
        at = worker * _BOARD
        head = self._memory[at : at + _HEAD]
        data = self._memory[at + _HEAD : at + _HEAD + min(int.from_bytes(head[:4], "little"), _BOARD - _HEAD)]
        if not data or crc32(data) != int.from_bytes(head[4:], "little"):
            return None
        return marshal.loads(data)


class Exchange:
    """What the workers share, made by the supervisor before it starts them: who serves, an inbox for each that there may be, marks of the store, boards."""

    def __init__(self, workers: int) -> None:
        self.roll = Roll(workers)
        self.marks, self.board = Marks(MOST_WORKERS), Board(MOST_WORKERS)
        #: (what the worker reads, what the others write)
        self.inboxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(MOST_WORKERS)]
        for reading, writing in self.inboxes:
            reading.setblocking(False)
            writing.setblocking(False)
            writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)


class Peers:
    """A worker's side. ``index`` is its number."""

    def __init__(self, worker: Worker, exchange: Exchange, index: int) -> None:
        self.worker, self.exchange, self.index, self.roll = worker, exchange, index, exchange.roll
        self.board = exchange.board
        self.inbox = exchange.inboxes[index][0]
        self._out = [writing for _, writing in exchange.inboxes]
        self._waiting: list[deque[tuple[bytes, tuple[int, ...]]]] = [deque() for _ in self._out]
        self._questions: dict[int, Callable[[tuple[str, Any]], None]] = {}
        self._serial = 0
        #: what waits to be passed on together, while messages are to stay in order
        self._burst: list[tuple[tuple[str, str, int], Row]] | None = None
        #: what workers hold on to that belongs to others by now
        self.estate: Estate | None = None
        self.board.show(index, {})
        self.roll.enter(index)

    @property
    def count(self) -> int:
        """How many workers share the new calls."""
        return self.roll.count

    def others(self) -> list[int]:
        return self.roll.others(self.index)

    # -- whose -----------------------------------------------------------------------------------------------------------

    def _owner(self, data: bytes) -> int:
        """The worker that owns a message, -1 when whoever has it may keep it."""
        held = self._held_call(call_of(data).decode("latin-1")) if self.roll.holds and sender_of(data) < 0 else None
        return held if held is not None else owner(data, self.count, self.roll.there)

    def _held_call(self, call_id: str) -> int | None:
        return self.estate.holder_of_call(call_id) if self.estate is not None else None

    def owner(self, data: bytes) -> int:
        """Who owns a message: this worker, or another one."""
        number = self._owner(data)
        return self.index if number < 0 else number

    def owner_of_call(self, call_id: str) -> int:
        held = self._held_call(call_id) if self.roll.holds else None
        return held if held is not None else owner_of_call(call_id, self.count)

    def holder(self, ip: str) -> int:
        """Who holds the connections with an address."""
        held = self.estate.holder_of_address(ip) if self.roll.holds and self.estate is not None else None
        return held if held is not None else holder_of(ip, self.count)

    # -- out -------------------------------------------------------------------------------------------------------------

    def tell(self, to: int, *words: Any, fds: tuple[int, ...] = ()) -> None:
        """Put something into the inbox of another worker: the name of what it is (see ``_on_*``), and plain data."""
        data = marshal.dumps(words)
        waiting = self._waiting[to]
        if not waiting and self._send(to, data, fds):
            return
        if len(waiting) >= _MOST_WAITING:
            self.worker.counters.add("core", "send_queue_full")
            return
        # descriptors may be closed by whoever gave them
        waiting.append((data, tuple(os.dup(fd) for fd in fds)))
        if len(waiting) == 1 and self.worker.loop is not None:
            self.worker.loop.add_writer(self._out[to].fileno(), self._again, to)

    def tell_all(self, *words: Any) -> None:
        """The same for all others."""
        for to in self.others():
            self.tell(to, *words)

    def _send(self, to: int, data: bytes, fds: tuple[int, ...]) -> bool:
        """False when the inbox is full."""
        try:
            if fds:
                self._out[to].sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            else:
                self._out[to].send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as err:
            self.worker.log.error("cannot hand over to worker %d: %s", to, err.strerror or err)
        return True

    def _again(self, to: int) -> None:
        waiting = self._waiting[to]
        while waiting:
            data, fds = waiting[0]
            if not self._send(to, data, fds):
                return
            waiting.popleft()
            for fd in fds:
                os.close(fd)
        if self.worker.loop is not None:
            self.worker.loop.remove_writer(self._out[to].fileno())

    # -- in --------------------------------------------------------------------------------------------------------------

    def readable(self) -> None:
        """One parcel: the loop comes back at once when there are more."""
        try:
            data, ancillary, _, _ = self.inbox.recvmsg(_READ, _ROOM)
        except (BlockingIOError, InterruptedError):
            return
        words = marshal.loads(data)
        fd = -1
        for level, kind, packed in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fd = int.from_bytes(packed[:4], "little")
        try:
            if fd >= 0:
                self._on_connection(fd, *words[1:])
            else:
                getattr(self, f"_on_{words[0]}")(*words[1:])
        except Exception as err:
            self.worker.datapath.report(err, None)

    def passed_on(self, data: bytes, listener: Listener, address: tuple[Any, ...], conn: int, proto: str) -> bool:
        """Whether a message that came here is for another worker, or has to wait for one that is (:meth:`in_order`)."""
        to = self._owner(data)
        if to < 0 or (to == self.index and not self._burst):
            return False
        place, row = (listener.proto, listener.host, listener.port), (data, address, conn, proto)
        if self._burst is None:
            self.hand_over(to, place, [row])
        else:
            self._burst.append((place, row))
        return True

    @contextmanager
    def in_order(self) -> Iterator[None]:
        """Messages that come meanwhile, which stood one behind the other in a stream, are served in their order: behind the first one that belongs to
        another worker all others go there, too, and each worker serves what is its own at the head and passes the rest on."""
        if self._burst is not None:
            yield
            return
        self._burst = []
        try:
            yield
        finally:
            burst, self._burst = self._burst, None
            if burst:
                place, (data, *_) = burst[0]
                self.hand_over(self.owner(data), place, [row for _, row in burst])

    def hand_over(self, to: int, place: tuple[str, str, int], rows: list[Row]) -> None:
        """Messages that came here and belong to another worker, at least the first of them."""
        parcel: list[Row] = []
        size = 0
        for row in rows:
            if parcel and size + len(row[0]) > _PARCEL:
                self.tell(to, "messages", place, parcel)
                parcel, size = [], 0
            parcel.append(row)
            size += len(row[0])
        self.tell(to, "messages", place, parcel)

    def _on_messages(self, place: tuple[str, str, int], rows: list[Row]) -> None:
        listener = self.worker.listener_at(place)
        if listener is None:
            return
        datapath = self.worker.datapath
        for n, (data, address, conn, proto) in enumerate(rows):
            to = self.owner(data)
            if to != self.index:
                self.hand_over(to, place, rows[n:])
                return
            try:
                datapath.received(data, listener, address, conn, proto, own=True)
            except Exception as err:
                datapath.report(err, None)

    def _on_connection(self, fd: int, place: tuple[str, str, int], ip: str, port: int, named: bool) -> None:
        sock = socket.socket(fileno=fd)
        listener = self.worker.listener_at(place)
        if listener is None:
            sock.close()
            return
        self.worker.streams.accepted(sock, listener, (ip, port), named=named)

    def _on_send(self, sender: int, data: bytes, place: tuple[str, str, int], remote: tuple[str, int], number: int, connect: bool, close: bool,
                 wish: tuple[str, str]) -> None:  # fmt: skip
        """Bytes for a connection that is held here. Whoever sends hears of it when they cannot leave."""
        listener = self.worker.listener_at(place)
        try:
            if listener is None:
                raise OSError("its listener is gone")
            self.worker.streams.send(listener, data, remote, number, connect=connect, close=close, wish=wish)
        except OSError as err:
            self.worker.log.error("cannot send to %s:%s:%d: %s", place[0], *remote, err.strerror or err)
            self.tell(sender, "lost", remote)

    def _on_lost(self, remote: tuple[str, int]) -> None:
        self.worker.datapath.lost(remote)

    def _on_stream(self, name: str, *args: Any) -> None:
        """Something to be done with a connection that is held here."""
        getattr(self.worker.streams, name)(*args)

    def _on_module(self, name: str, what: str, *args: Any) -> None:
        """A word of a module to itself in the other workers."""
        module = self.worker.rt.modules.get(name) if self.worker.rt is not None else None
        if module is not None:
            self.worker.waits.detached(getattr(module, what), *args)

    # -- commands --------------------------------------------------------------------------------------------------------

    def _on_rpc(self, sender: int, ident: int, name: str, params: list[Any]) -> None:
        self._answer(sender, ident, name, lambda: self.worker.rpc.here(name, params))

    def _on_question(self, sender: int, ident: int, name: str, what: str, *args: Any) -> None:
        rt = self.worker.rt
        self._answer(sender, ident, what, lambda: getattr(rt.modules[name], what)(*args) if rt is not None else None)

    def _answer(self, sender: int, ident: int, name: str, work: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                answer: tuple[str, Any] = "", plain(work())
            except RpcFault as fault:
                answer = f"{fault.code} {fault.text}", None
            except Exception as err:
                self.worker.log.error("%s for another worker failed: %r", name, err)
                answer = "500 Internal Server Error", None
            self.tell(sender, "answer", ident, *answer)

        self.worker.waits.detached(run)

    def _on_answer(self, ident: int, error: str, value: Any) -> None:
        answered = self._questions.pop(ident, None)
        if answered is not None:
            answered((error, value))

    def ask(self, to: int, name: str, params: list[Any]) -> tuple[str, Any]:
        """Have another worker run a command, and wait without holding up anybody. (error, answer)."""
        return self._ask(to, "rpc", name, params)

    def ask_module(self, to: int, name: str, what: str, *args: Any) -> Any:
        """Have another worker call a method of a module, and wait for what it gives, plain data; None when it gives none."""
        return self._ask(to, "question", name, what, *args)[1]

    def _ask(self, to: int, kind: str, *words: Any) -> tuple[str, Any]:
        self._serial += 1
        ident = self._serial
        found: list[tuple[str, Any]] = []

        def arrange(resume: Callable[[], None]) -> None:
            def answered(answer: tuple[str, Any]) -> None:
                if not found:
                    found.append(answer)
                    resume()

            self._questions[ident] = answered
            self.worker.timers.arm(self.worker.clock() + _PATIENCE, lambda now: self._on_answer(ident, "500 a worker does not answer", None))
            self.tell(to, kind, self.index, ident, *words)

        if not self.worker.waits.wait(arrange):
            return "500 not from here", None
        return found[0]

    # -- their number ----------------------------------------------------------------------------------------------------

    def _on_counters(self, rows: list[tuple[str, str, int]], transactions: dict[str, int]) -> None:
        """What a worker has counted that has ended."""
        for group, name, number in rows:
            self.worker.counters.add(group, name, number)
        own = self.worker.engine.stats
        for name, number in transactions.items():
            own[name] = own.get(name, 0) + number

    # -- statistics ------------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Put this worker's numbers where the others see them."""
        self.board.show(self.index, self.worker.counters.own())

    def of_others(self) -> list[dict[tuple[str, str], int]]:
        """What the others have shown."""
        found = [self.board.read(i) for i in self.others()]
        return [one for one in found if one is not None]
