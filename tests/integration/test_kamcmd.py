"""The real kamcmd shows of kamc what it shows of Kamailio 5.6.3: ``tests/cases/kamcmd``, numbers and dates aside (skipped without kamcmd)."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kamc.runtime.dbtables import Tables
from tests.conftest import ROOT, Server

CASES = ROOT / "tests" / "cases"
SEEN = ["1.1.1.1 5060  then 1.1.1.1 5060", "1.1.1.1 7000 1 then 1.1.1.1 5060", "2.2.2.2 5060 2 then 1.1.1.1 5060", *["1.1.1.1 5060  then 1.1.1.1 5060"] * 2]
SEEN_LATER = ["1 1  then 1 1", "1 7000 1 then 1 1", "1 1  then 1 1", "1 1  then 1 1"]
DESTINATIONS = "1 sip:127.0.0.1:6001 0 5 weight=50;duid=a\n1 sip:127.0.0.1:6002 8 0\n2 sip:127.0.0.1:6003\n"


def normal(line: str, folder: Path) -> str:
    line = re.sub(r"0x[0-9a-f]+", "0xN", line.replace(str(folder), "RUN").rstrip())
    line = re.sub(r"(?<![a-z_])\d+(\.\d+)?\b", "N", line).replace("-N", "N")
    line = re.sub(r"(ruid|Ruid).*", r"\1", line, flags=re.I)
    return re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "DAY MONTH", line)


def different(case: str, folder: Path, normalised: Callable[[str], str]) -> list[tuple[str, list[str], list[str]]]:
    """Commands of a case that show something else: what they show, and what they are to show."""
    wrong = []
    for row in json.loads((CASES / case / "commands.json").read_text()):
        command = ["kamcmd", "-s", f"unix:{folder}/ctl", *shlex.split(row["command"].replace("RUN", str(folder)))]
        found = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20)
        shown = [normalised(line) for line in (found.stdout + found.stderr).splitlines() if line.strip()]
        wanted = [normalised(line) for line in row["output"]]
        if shown != wanted:
            wrong.append((row["command"], shown, wanted))
    return wrong


@pytest.mark.skipif(shutil.which("kamcmd") is None, reason="kamcmd is not installed")
def test_what_kamcmd_shows(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "ds.list").write_text(DESTINATIONS)
    server = serve((CASES / "kamcmd" / "kamailio.cfg").read_text().replace("RUN", str(tmp_path)))
    use(server)
    assert different("kamcmd", tmp_path, lambda line: normal(line, tmp_path)) == []


def use(server: Server) -> None:
    """A registration, a request that fills a table, and a call that waits."""
    for method, uri, to, call_id in (("REGISTER", "sip:h.test", "<sip:bob@h.test>", "r"), ("OPTIONS", "sip:set@h.test", "<sip:bob@h.test>", "o"),
                                     ("INVITE", "sip:carol@h.test", "<sip:carol@h.test>", "inv")):  # fmt: skip
        port = server.sock.getsockname()[1]
        text = (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\nFrom: <sip:bob@h.test>;tag=1\r\nTo: {to}\r\n"
                f"Call-ID: {call_id}\r\nCSeq: 1 {method}\r\nContact: <sip:bob@127.0.0.1:{port}>\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
        server.sock.sendto(text.encode(), server.address)
        server.receive()


def fill(case: Path, folder: Path) -> None:
    """The files of a case, and its tables in ``op.db``."""
    content = json.loads((case / "content.json").read_text())
    for name, text in content["files"].items():
        (folder / name).write_text(text.replace("RUN", str(folder)))
    tables = Tables(f"sqlite:///{folder}/op.db")
    tables.create()
    tables.close()
    with sqlite3.connect(folder / "op.db") as db:
        for name, table in content["tables"].items():
            marks = ", ".join("?" * len(table["columns"].split(",")))
            db.executemany(f"insert into {name} ({table['columns']}) values ({marks})", table["rows"])


@pytest.mark.skipif(shutil.which("kamcmd") is None, reason="kamcmd is not installed")
@pytest.mark.parametrize(("case", "workers"), [("operators", "1"), ("operators", "3"), ("operators_http", "1"), ("operators_http", "3")])
def test_what_operators_see(serve: Callable[..., Server], tmp_path: Path, case: str, workers: str) -> None:
    """Commands of forty modules over tables and files, with parameters that are right, wrong and missing."""
    fill(CASES / case, tmp_path)
    server = serve((CASES / case / "kamailio.cfg").read_text().replace("RUN", str(tmp_path)), "--workers", workers)
    if case == "operators":
        use(server)
    assert different(case, tmp_path, lambda line: normal(line, tmp_path)) == []


@pytest.mark.skipif(shutil.which("kamcmd") is None, reason="kamcmd is not installed")
@pytest.mark.parametrize("workers", ["1", "3"])
def test_runtime_variables(serve: Callable[..., Server], tmp_path: Path, workers: str) -> None:
    """Groups, instances, types, ranges and delayed changes, each number as it is; what a route sees of them, before and afterwards."""
    server = serve((CASES / "cfg_rpc" / "kamailio.cfg").read_text().replace("RUN", str(tmp_path)), "--workers", workers)

    def seen(user: str) -> str:
        return server.ask("OPTIONS", f"sip:{user}@127.0.0.1").partition("\r\n")[0].removeprefix("SIP/2.0 200 ")

    assert [seen(user) for user in ("x", "1", "2", "3", "x")] == SEEN
    assert different("cfg_rpc", tmp_path, str.rstrip) == []
    assert [seen(user) for user in ("x", "1", "2", "7")] == SEEN_LATER
