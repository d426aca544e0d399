"""The supervisor's own socket, for ``kamc reload`` and ``kamc rpc``: one JSON object a line each way, whatever modules a configuration loads.

Requests are ``{"do": "reload", "dry_run": false}``, ``{"do": "rpc", "method": "core.uptime", "params": []}``, ``{"do": "workers", "count": 4}`` or
``{"do": "status"}``; answers ``{"result": ...}`` or ``{"error": "..."}``. Only the user that runs the server may connect.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kamc.errors import ConfigError

NAME: Final = "kamc_control"
_LONGEST: Final = 1 << 20
#: seconds that a client waits: as long as a compile may take
_PATIENCE: Final = 120.0

#: what a request gives, sooner or later
Answer = Callable[[str, Any], None]


class Client:
    """One connection. Requests are answered in their order."""

    def __init__(self, sock: socket.socket, serve: Callable[[dict[str, Any], Answer], None]) -> None:
        self.sock, self.serve = sock, serve
        self._buffer = b""

    def readable(self) -> bool:
        """Take what came; False when the connection is over."""
        try:
            data = self.sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        self._buffer += data
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                request = None
            if not isinstance(request, dict):
                self._answer("a request is a JSON object", None)
            else:
                self.serve(request, self._answer)
        return bool(data) and len(self._buffer) < _LONGEST

    def _answer(self, error: str, result: Any) -> None:
        text = json.dumps({"error": error} if error else {"result": result})
        with contextlib.suppress(OSError):
            self.sock.settimeout(1.0)
            self.sock.sendall(text.encode() + b"\n")
            self.sock.setblocking(False)


def listen(folder: str) -> socket.socket:
    """The control socket in a runtime folder. Raises OSError."""
    path = os.path.join(folder, NAME)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(16)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def ask(folder: str, request: dict[str, Any]) -> Any:
    """One request to the server whose runtime folder it is. Raises ConfigError when nobody answers, and with what the server says."""
    path = Path(folder) / NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(str(path))
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as lines:
                line = lines.readline()
    except OSError as err:
        raise ConfigError(f"no server answers at {path}: {err.strerror or err}") from None
    if not line:
        raise ConfigError(f"the server at {path} has closed the connection")
    answer = json.loads(line)
    if "error" in answer:
        raise ConfigError(answer["error"])
    return answer["result"]
