"""The worker's event loop."""

from __future__ import annotations

import socket

from kamc.runtime.proc.loop import WorkerLoop


def test_direct_sockets_timers_and_ordinary_readers_take_turns() -> None:
    loop = WorkerLoop()
    direct, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    plain, peer = socket.socketpair()
    seen: list[str] = []

    def on_direct() -> None:
        seen.append(direct.recv(100).decode())
        # what a callback asks of the loop happens although the loop was inside select()
        loop.call_soon(seen.append, "soon")

    def on_plain() -> None:
        seen.append(plain.recv(100).decode())
        loop.call_later(0.01, loop.stop)

    try:
        loop.direct.add_direct(direct.fileno(), on_direct)
        loop.add_reader(plain, on_plain)
        other.send(b"one")
        loop.call_later(0.01, lambda: other.send(b"two"))
        loop.call_later(0.02, lambda: peer.send(b"plain"))
        loop.run_forever()
        assert seen == ["one", "soon", "two", "soon", "plain"]
        loop.direct.remove_direct(direct.fileno())
        loop.remove_reader(plain)
        other.send(b"unheard")
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        assert seen[-1] == "plain"
    finally:
        loop.close()
        for sock in (direct, other, plain, peer):
            sock.close()
