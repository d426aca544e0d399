"""What systemd wants to hear (sd_notify(3)): states of a service with Type=notify or notify-reload."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(*states: str) -> bool:
    """Send states (``READY=1``); False when nobody asked for them."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return False
    address = "\0" + where[1:] if where.startswith("@") else where
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(address)
        sock.sendall("\n".join(states).encode())
        return True
    return False


def reloading() -> bool:
    """The beginning of a reload, with the time that notify-reload asks for; ``notify("READY=1")`` ends it."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def inherited_sockets() -> list[socket.socket]:
    """Sockets of socket activation (sd_listen_fds(3)), once: a child does not take them for its own."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    count = os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", None)
    return [socket.socket(fileno=fd) for fd in range(3, 3 + (int(count) if count.isdecimal() else 0))]
