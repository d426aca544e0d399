"""The real kamcli shows of kamc, and of a database that ``kamc db create`` made, what it shows of Kamailio 5.6.3 and its own schema: ``tests/cases/kamcli``, numbers
and dates aside (skipped without kamcli)."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kamc.runtime.dbtables import Tables
from tests import databases
from tests.conftest import ROOT, Server

CASES = ROOT / "tests" / "cases" / "kamcli"
INI = """[main]
domain=h.test
[db]
type=mysql
driver=mysqldb
host=127.0.0.1
dbname=kamailio
rwurl=mysql+mysqldb://root@127.0.0.1:{port}/kamailio
rourl=mysql+mysqldb://root@127.0.0.1:{port}/kamailio
[ctl]
type=jsonrpc
kamgroup=
[jsonrpc]
transport=socket
srvaddr={folder}/rpc.sock
rcvaddr={folder}/reply.sock
outformat=yaml
[apiuser]
"""


def configuration(folder: Path, port: int) -> str:
    """``port`` is that of MariaDB."""
    (folder / "kamcli.ini").write_text(INI.format(folder=folder, port=port))
    return (CASES / "kamailio.cfg").read_text().replace("RUN", str(folder)).replace("DBURL", f"mysql://root:@127.0.0.1:{port}/kamailio")


def traffic(sock: socket.socket, address: tuple[str, int]) -> None:
    """A contact, a hash table, a call that nobody answers."""
    port = sock.getsockname()[1]
    for method, uri, to in (("REGISTER", "sip:h.test", "<sip:bob@h.test>"), ("OPTIONS", "sip:x@h.test", "<sip:bob@h.test>"),
                            ("INVITE", "sip:carol@h.test", "<sip:carol@h.test>")):  # fmt: skip
        text = (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{method}\r\nMax-Forwards: 70\r\nFrom: <sip:bob@h.test>;tag=1\r\n"
                f"To: {to}\r\nCall-ID: {method.lower()}\r\nCSeq: 1 {method}\r\nContact: <sip:bob@127.0.0.1:6000>\r\nExpires: 600\r\n"
                "Content-Length: 0\r\n\r\n")  # fmt: skip
        sock.sendto(text.encode(), address)
        sock.recv(65535)


def normal(line: str, folder: Path) -> str:
    """Without what is another number each time."""
    line = re.sub(r"0x[0-9a-f]+", "0xN", line.replace(str(folder), "RUN").rstrip())
    line = re.sub(r"\b[0-9a-f]{32}\b|ul(?:oc|cx)-[0-9a-f-]+|\d+-\d+-\d+ \d+:\d+:\d+(\.\d+)?", "X", line)
    line = re.sub(r"(?<![a-z_])\d+(\.\d+)*\b", "N", line)
    line = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "DAY MONTH", line)
    return re.sub(r"datetime\([N, ]*\)", "TIME", line)


def shown(command: str, folder: Path) -> list[str]:
    found = subprocess.run(["kamcli", "--no-default-configs", "-c", str(folder / "kamcli.ini"), *shlex.split(command)], capture_output=True, text=True, errors="replace",
                           timeout=20, input="y\n")  # fmt: skip
    # statistics that only kamc has
    return [normal(line, folder) for line in found.stdout.splitlines() if line.strip() and not line.startswith("- kamc:")]


def test_what_kamcli_shows(serve: Callable[..., Server], tmp_path: Path) -> None:
    if shutil.which("kamcli") is None or subprocess.run(["/usr/bin/python3", "-c", "import MySQLdb"], capture_output=True).returncode:
        pytest.skip("kamcli, or the driver for MySQL that it needs, is not installed")
    with databases.server("mysql", tmp_path) as database:
        Tables(database.url).create()
        port = databases.free_port()
        server = serve(configuration(tmp_path, int(database.engine.url.port or 0)), "-l", f"udp:127.0.0.1:{port}", "-l", f"tcp:127.0.0.1:{port}", port=port)
        traffic(server.sock, server.address)
        wrong = []
        for case in json.loads((CASES / "commands.json").read_text()):
            found = shown(case["command"], tmp_path)
            if found != case["output"]:
                wrong.append((case["command"], found, case["output"]))
        assert wrong == []
