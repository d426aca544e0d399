"""Log records with fields, in the place of lines: JSON on stderr, or systemd's journal.

Fields are ``time``, ``level``, ``severity``, ``pid``, ``rank``, ``module``, ``file``, ``line``, ``function``, ``message``, ``prefix`` and, where a message is in hand,
``call_id``, ``method``, ``source``, ``cfg`` (file:line of the configuration), ``route``, ``transaction``. One record is one line, whatever its text holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from kamc.errors import ConfigError, SipError
from kamc.runtime.log import PRIORITIES

JOURNAL: Final = "/run/systemd/journal/socket"
#: ``module [file:line]: function(): text``, and what the script writes
_PLACED: Final = re.compile(r"(?P<module>\S+) \[(?P<file>[^\]]*):(?P<line>\d+)\]: (?P<function>[^()\s]*)\(\): (?P<text>.*)", re.S)
_SCRIPT: Final = re.compile(r"<script>: (?P<text>.*)", re.S)


class Records(Protocol):
    """What takes records."""

    def write(self, level: int, name: str, rank: int, prefix: str, text: str, ctx: Any) -> None: ...


def _about(ctx: Any) -> dict[str, Any]:
    """Of the message in hand."""
    out: dict[str, Any] = {}
    with contextlib.suppress(SipError):
        out["call_id"] = ctx.msg.call_id
        out["method"] = ctx.msg.cseq[1]
    out["source"] = f"{ctx.flow.proto}:{ctx.flow.remote_ip}:{ctx.flow.remote_port}"
    frame = ctx.rt.cfg_frame()
    if frame is not None:
        out["cfg"] = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        out["route"] = frame.f_code.co_name
    if ctx.t is not None:
        out["transaction"] = f"{ctx.t.hash_index}:{ctx.t.label}"
    return out


def fields(level: int, name: str, rank: int, prefix: str, text: str, ctx: Any, now: datetime) -> dict[str, Any]:
    """A record."""
    out: dict[str, Any] = {"time": now.isoformat(timespec="milliseconds"), "level": name.lower(), "severity": level, "pid": os.getpid(), "rank": rank}
    placed, script = _PLACED.fullmatch(text), _SCRIPT.fullmatch(text)
    if placed is not None:
        out |= {"module": placed["module"].strip("<>"), "file": placed["file"], "line": int(placed["line"]), "function": placed["function"]}
        text = placed["text"]
    elif script is not None:
        out["module"], text = "script", script["text"]
    out["message"] = text.rstrip("\r\n")
    if prefix:
        out["prefix"] = prefix
    return out | (_about(ctx) if ctx is not None else {})


class JsonRecords:
    """A JSON object a line, on stderr."""

    def __init__(self, fd: int = 2, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._fd, self._clock = fd, clock

    def write(self, level: int, name: str, rank: int, prefix: str, text: str, ctx: Any) -> None:
        line = json.dumps(fields(level, name, rank, prefix, text, ctx, self._clock())) + "\n"
        # nobody reads any more: losing a record must not stop a worker
        with contextlib.suppress(OSError):
            os.write(self._fd, line.encode())


class JournalRecords:
    """Systemd's journal, by its native protocol. Raises ConfigError where there is none."""

    def __init__(self, path: str = JOURNAL, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(path)
        except OSError as err:
            self._socket.close()
            raise ConfigError(f"there is no journal at {path}: {err.strerror or err}") from None
        self._socket.setblocking(False)

    def write(self, level: int, name: str, rank: int, prefix: str, text: str, ctx: Any) -> None:
        record = fields(level, name, rank, prefix, text, ctx, self._clock())
        out = {"MESSAGE": f"{prefix}{record['message']}", "PRIORITY": str(PRIORITIES[max(-5, min(3, level))]), "SYSLOG_IDENTIFIER": "kamc"}
        for key, shown in (("file", "CODE_FILE"), ("line", "CODE_LINE"), ("function", "CODE_FUNC")):
            if key in record:
                out[shown] = str(record[key])
        out |= {f"KAMC_{key.upper()}": str(record[key]) for key in ("module", "rank", "call_id", "method", "source", "cfg", "route", "transaction") if key in record}
        # a record that does not fit, or a journal that is away, is lost: logging never waits
        with contextlib.suppress(OSError):
            self._socket.send(b"".join(_field(key, value) for key, value in out.items()))

    def close(self) -> None:
        self._socket.close()


def _field(name: str, value: str) -> bytes:
    """A value with line ends has its length in front."""
    data = value.encode("latin-1", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def records(form: str) -> Records | None:
    """For ``--log-format``; None for lines of text. Raises ConfigError."""
    if form == "json":
        return JsonRecords()
    return JournalRecords() if form == "journald" else None
