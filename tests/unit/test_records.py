"""Log records with fields: JSON and the journal."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.log import SCRIPT, Log
from kamc.runtime.records import JournalRecords, JsonRecords, records
from tests.conftest import Server
from tests.harness import HEAD, Bench

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)


class Taken:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.read, write = os.pipe()
        self.records = JsonRecords(write, lambda: NOW)
        self.log = Log(3, 2)
        self.log.records = self.records

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self.read, 1 << 20).decode().splitlines()]


def test_fields_of_a_line() -> None:
    taken = Taken()
    taken.log.error("bad %s", "thing")
    taken.log.write(2, "from the script\n", SCRIPT)
    error, script = taken.all()
    assert (error["time"], error["level"], error["severity"], error["pid"], error["rank"]) == ("2026-01-02T03:04:05.678+00:00", "error", -1, os.getpid(), 2)
    assert (error["module"], error["function"], error["message"]) == ("core", "test_fields_of_a_line", "bad thing") and error["line"] > 0
    assert (script["module"], script["level"], script["message"]) == ("script", "info", "from the script") and "file" not in script and "call_id" not in script


@pytest.mark.parametrize("text", ['a "quoted" \\ text', "two\nlines\r\nand {json}", "\xff\x00\x1b[31m", "]: x(): y"])
def test_one_record_is_one_line(text: str) -> None:
    taken = Taken()
    taken.log.write(-1, text, SCRIPT)
    (record,) = taken.all()
    assert record["message"] == text


def test_the_message_in_hand(bench: Callable[..., Bench]) -> None:
    b = bench('log_prefix="{$ci} "\nrequest_route { xlog("seen\\n"); route(A); }\nroute[A] { t_newtran(); xlog("again\\n"); exit; }\n', head=HEAD)
    taken = Taken()
    b.worker.datapath.log = b.worker.rt.log = b.worker.log = taken.log
    b.worker.datapath.set_log_prefix(b.worker.rt, "{$ci} ")
    b.request("MESSAGE", call_id="c9")
    seen, again = [r for r in taken.all() if r.get("module") == "script"]
    assert (seen["call_id"], seen["method"], seen["source"], seen["route"], seen["prefix"]) == ("c9", "MESSAGE", "udp:127.0.0.1:6000", "request_route", "{c9} ")
    assert seen["cfg"].endswith("kamailio.cfg:" + seen["cfg"].rpartition(":")[2]) and again["route"] == "route_A" and ":" in again["transaction"]
    assert taken.log.ctx is None


def test_the_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        log = Log(3)
        journal = JournalRecords(path, lambda: NOW)
        log.records = journal
        log.error("bad\nthing")
        data = server.recv(65536)
        assert b"MESSAGE\n" + (9).to_bytes(8, "little") + b"bad\nthing\n" in data
        assert b"\nPRIORITY=3\n" in data and b"\nSYSLOG_IDENTIFIER=kamc\n" in data and b"\nCODE_FUNC=test_the_journal\n" in data and b"\nKAMC_MODULE=core\n" in data
        journal.close()
        log.error("lost, and nobody minds")
    with pytest.raises(ConfigError, match="there is no journal"):
        JournalRecords(str(tmp_path / "none"))
    assert records("text") is None


def test_a_server(serve: Callable[..., Server]) -> None:
    server = serve('debug=2\nloadmodule "sl.so"\nloadmodule "xlog.so"\nrequest_route { xlog("L_INFO", "seen\\n"); sl_send_reply("200", "OK"); }\n',
                   "--log-format", "json")  # fmt: skip
    server.ask("OPTIONS", "sip:x@h", call_id="mine")
    lines = [json.loads(line) for line in server.text().splitlines() if line.startswith("{")]
    assert any(r["message"] == "seen" and r["call_id"] == "mine" and r["rank"] == 1 and r["cfg"].endswith("kamailio.cfg:4") for r in lines)
