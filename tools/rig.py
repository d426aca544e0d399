"""What the load tools have in common: a server with a configuration of its own, sipp beside it, and what both used."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kamc.errors import ConfigError
from kamc.runtime.proc.control import ask

#: the head of every configuration here; a tool adds what its routes need
HEAD = """#!KAMAILIO
debug=-1
log_stderror=yes
auto_aliases=no
listen=udp:127.0.0.1:{port}
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """``kamc run`` in a folder of its own. ``text`` is the configuration behind the head; ``{port}`` in it is the port, ``names`` fill the rest."""

    def __init__(self, text: str, *arguments: str, **names: Any) -> None:
        self.run, self.port, self.text = tempfile.mkdtemp(prefix="kamc-tool-"), free_port(), text
        self.write(**names)
        command = [sys.executable, "-m", "kamc", "run", f"{self.run}/kamailio.cfg", "-w", self.run, "-Y", self.run, *arguments]
        self.process = subprocess.Popen(command, start_new_session=True)

    def write(self, **names: Any) -> None:
        Path(self.run, "kamailio.cfg").write_text((HEAD + self.text).format(port=self.port, **names))

    def rpc(self, method: str, *params: Any) -> Any:
        return ask(self.run, {"do": "rpc", "method": method, "params": list(params)})

    def wait(self) -> None:
        """Until it serves. Ends the tool when it does not."""
        while True:
            try:
                self.rpc("core.uptime")
                return
            except ConfigError:
                if self.process.poll() is not None:
                    raise SystemExit("the server does not start") from None
                time.sleep(0.1)

    def processes(self) -> list[int]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(int(c) for c in children)]

    def processor_seconds(self) -> float:
        return sum(int(Path(f"/proc/{p}/schedstat").read_text().split()[0]) for p in self.processes()) / 1e9

    def resident_mib(self) -> float:
        return sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in self.processes()) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def descriptors(self) -> int:
        return sum(len(os.listdir(f"/proc/{p}/fd")) for p in self.processes())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def sipp_uas(port: int, folder: str) -> subprocess.Popen[bytes]:
    """sipp's own callee."""
    return subprocess.Popen(["sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", str(port), "-nostdin"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)


def sipp(server: Server, rate: int, calls: int, *scenario: str, timeout: int = 120) -> subprocess.Popen[str]:
    command = ["sipp", *scenario, "-i", "127.0.0.1", "-p", str(free_port()), "-r", str(rate), "-m", str(calls), "-nostdin",
               "-timeout", str(timeout), f"127.0.0.1:{server.port}"]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=server.run)


def successful(process: subprocess.Popen[str]) -> int:
    """Waits for the end, and gives the calls that went well."""
    out = process.communicate()[0]
    found = re.findall(r"Successful call +\| +\d+ +\| +(\d+)", out)
    return int(found[-1]) if found else 0
