"""Calls and registrations while the configuration changes under them, or workers are killed: what of them is lost.

    python tools/reload_load.py [--seconds 60] [--calls 150] [--registers 50] [--workers 2] [--reloads 30] [--kill-every 0]

sipp makes the calls (its own uac and uas) and the registrations, each of an address of its own. Two configurations take turns; ``--kill-every N`` kills
a worker with signal 9 every N seconds. Exits 1 when a call or a registration is lost without a worker having been killed, or a registration with one. Needs sipp.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
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

CFG = """#!KAMAILIO
debug=-1
log_stderror=yes
auto_aliases=no
listen=udp:127.0.0.1:{port}
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
request_route {{
    if (is_method("REGISTER")) {{ save("location"); exit; }}
    $du = "sip:127.0.0.1:{far}";
    t_on_reply("MARK");
    t_relay();
}}
onreply_route[MARK] {{ append_hf("X-Version: {version}\\r\\n"); }}
"""
REGISTER = """<?xml version="1.0"?>
<scenario name="register">
<send retrans="500"><![CDATA[
REGISTER sip:[remote_ip] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:u[call_number]@[remote_ip]>;tag=[call_number]
To: <sip:u[call_number]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:u[call_number]@[local_ip]:[local_port]>
Expires: 3600
Content-Length: 0

]]></send>
<recv response="100" optional="true"/>
<recv response="200"/>
</scenario>
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """``kamc run`` with the configuration of one version."""

    def __init__(self, run: str, workers: int, far: int) -> None:
        self.run, self.port, self.far = run, free_port(), far
        self.version = 0
        self.write()
        self.process = subprocess.Popen([sys.executable, "-m", "kamc", "run", f"{run}/kamailio.cfg", "-w", run, "-Y", run, "--workers", str(workers)])

    def write(self) -> None:
        self.version += 1
        Path(self.run, "kamailio.cfg").write_text(CFG.format(port=self.port, far=self.far, version="AB"[self.version % 2]))

    def rpc(self, method: str, *params: Any) -> Any:
        return ask(self.run, {"do": "rpc", "method": method, "params": list(params)})

    def wait(self) -> None:
        while True:
            try:
                self.rpc("core.uptime")
                return
            except ConfigError:
                if self.process.poll() is not None:
                    raise SystemExit("the server does not start") from None
                time.sleep(0.1)

    def kill_a_worker(self) -> None:
        workers = [row["PID"] for row in self.rpc("core.psx") if row["DSC"] == "worker"]
        os.kill(random.choice(workers), signal.SIGKILL)


def sipp(server: Server, rate: int, seconds: int, *scenario: str) -> subprocess.Popen[str]:
    command = ["sipp", *scenario, "-i", "127.0.0.1", "-p", str(free_port()), "-r", str(rate), "-m", str(rate * seconds), "-nostdin",
               "-timeout", str(seconds + 40), f"127.0.0.1:{server.port}"]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=server.run)


def successful(process: subprocess.Popen[str]) -> int:
    out = process.communicate()[0]
    found = re.findall(r"Successful call +\| +\d+ +\| +(\d+)", out)
    return int(found[-1]) if found else 0


def disturb(server: Server, options: argparse.Namespace) -> tuple[int, int]:
    """Reload and kill for as long as the load lasts: how often each was done."""
    began = time.monotonic()
    reloads = kills = 0
    while (now := time.monotonic() - began) < options.seconds:
        if options.kill_every and now >= options.kill_every * (kills + 1):
            server.kill_a_worker()
            kills += 1
        if options.reloads and now >= options.seconds / options.reloads * reloads:
            server.write()
            done = subprocess.run([sys.executable, "-m", "kamc", "reload", "-Y", server.run], capture_output=True, text=True)
            reloads += not done.returncode
        time.sleep(0.05)
    return reloads, kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("seconds", 60), ("calls", 150), ("registers", 50), ("workers", 2), ("reloads", 30), ("kill-every", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if shutil.which("sipp") is None:
        raise SystemExit("sipp is not installed")
    run = tempfile.mkdtemp(prefix="kamc-load-")
    Path(run, "register.xml").write_text(REGISTER)
    far = free_port()
    answers = subprocess.Popen(["sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", str(far), "-nostdin"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=run)
    server = Server(run, options.workers, far)
    try:
        server.wait()
        calls = sipp(server, options.calls, options.seconds, "-sn", "uac", "-d", "500")
        registers = sipp(server, options.registers, options.seconds, "-sf", "register.xml")
        reloads, kills = disturb(server, options)
        made, registered = successful(calls), successful(registers)
        kept = int(server.rpc("stats.get_statistics", "location-contacts")[0].rpartition(" ")[2])
        pauses = server.rpc("kamc.reloads")
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        answers.kill()
    wanted, to_register = options.calls * options.seconds, options.registers * options.seconds
    print(f"{reloads} reloads, {kills} workers killed: {made} of {wanted} calls, {registered} of {to_register} registrations answered, {kept} kept; "
          f"pauses in us {pauses}")  # fmt: skip
    return 0 if registered == kept == to_register and (kills or made == wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
