"""The real kamcmd shows of kamc what it shows of Kamailio 5.6.3: ``tests/cases/kamcmd``, numbers and dates aside (skipped without kamcmd)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Server

CASES = ROOT / "tests" / "cases" / "kamcmd"
DESTINATIONS = "1 sip:127.0.0.1:6001 0 5 weight=50;duid=a\n1 sip:127.0.0.1:6002 8 0\n2 sip:127.0.0.1:6003\n"


def normal(line: str, folder: Path) -> str:
    line = re.sub(r"0x[0-9a-f]+", "0xN", line.replace(str(folder), "RUN").rstrip())
    line = re.sub(r"(?<![a-z_])\d+(\.\d+)?\b", "N", line)
    line = re.sub(r"(ruid|Ruid).*", r"\1", line, flags=re.I)
    return re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "DAY MONTH", line)


@pytest.mark.skipif(shutil.which("kamcmd") is None, reason="kamcmd is not installed")
def test_what_kamcmd_shows(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "ds.list").write_text(DESTINATIONS)
    server = serve((CASES / "kamailio.cfg").read_text().replace("RUN", str(tmp_path)))
    for method, uri, to, call_id in (("REGISTER", "sip:h.test", "<sip:bob@h.test>", "r"), ("OPTIONS", "sip:set@h.test", "<sip:bob@h.test>", "o"),
                                     ("INVITE", "sip:carol@h.test", "<sip:carol@h.test>", "inv")):  # fmt: skip
        port = server.sock.getsockname()[1]
        text = (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{call_id}\r\nMax-Forwards: 70\r\nFrom: <sip:bob@h.test>;tag=1\r\nTo: {to}\r\n"
                f"Call-ID: {call_id}\r\nCSeq: 1 {method}\r\nContact: <sip:bob@127.0.0.1:{port}>\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
        server.sock.sendto(text.encode(), server.address)
        server.receive()
    wrong = []
    for case in json.loads((CASES / "commands.json").read_text()):
        found = subprocess.run(["kamcmd", "-s", f"unix:{tmp_path}/ctl", *case["command"].split(" ")], capture_output=True, text=True, errors="replace", timeout=20)
        shown = [normal(line, tmp_path) for line in (found.stdout + found.stderr).splitlines() if line.strip()]
        if shown != case["output"]:
            wrong.append((case["command"], shown, case["output"]))
    assert wrong == []
