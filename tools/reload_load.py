"""Calls and registrations while the configuration changes under them, or workers are killed: what of them is lost.

    python tools/reload_load.py [--seconds 60] [--calls 150] [--registers 50] [--workers 2] [--reloads 30] [--kill-every 0] [--resize-every 0]

sipp makes the calls (its own uac and uas) and the registrations, each of an address of its own. Two configurations take turns; ``--kill-every N`` kills
a worker with signal 9 every N seconds, ``--resize-every N`` changes the number of workers (2 to 5). Exits 1 when a call or a registration is lost without
a worker having been killed, or a registration with one. Needs sipp.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rig import Server, free_port, sipp, sipp_uas, successful

from kamc.runtime.proc.control import ask

CFG = """
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


class Changing(Server):
    """A server whose configuration has two versions that take turns."""

    def __init__(self, workers: int) -> None:
        self.far, self.version = free_port(), 0
        super().__init__(CFG, "--workers", str(workers), **self._names())

    def _names(self) -> dict[str, Any]:
        self.version += 1
        return {"far": self.far, "version": "AB"[self.version % 2]}

    def change(self) -> None:
        self.write(**self._names())

    def kill_a_worker(self) -> None:
        workers = [row["PID"] for row in self.rpc("core.psx") if row["DSC"] == "worker"]
        os.kill(random.choice(workers), signal.SIGKILL)


def disturb(server: Changing, options: argparse.Namespace) -> tuple[int, int, int]:
    """Reload, kill and change the number of workers for as long as the load lasts: how often each was done."""
    began = time.monotonic()
    reloads = kills = resizes = 0
    while (now := time.monotonic() - began) < options.seconds:
        if options.kill_every and now >= options.kill_every * (kills + 1):
            server.kill_a_worker()
            kills += 1
        if options.reloads and now >= options.seconds / options.reloads * reloads:
            server.change()
            done = subprocess.run([sys.executable, "-m", "kamc", "reload", "-Y", server.run], capture_output=True, text=True)
            reloads += not done.returncode
        if options.resize_every and now >= options.resize_every * (resizes + 1):
            ask(server.run, {"do": "workers", "count": 2 + (resizes * 3 + 1) % 4})
            resizes += 1
        time.sleep(0.05)
    return reloads, kills, resizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("seconds", 60), ("calls", 150), ("registers", 50), ("workers", 2), ("reloads", 30), ("kill-every", 0), ("resize-every", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if shutil.which("sipp") is None:
        raise SystemExit("sipp is not installed")
    server = Changing(options.workers)
    Path(server.run, "register.xml").write_text(REGISTER)
    answers = sipp_uas(server.far, server.run)
    try:
        server.wait()
        calls = sipp(server, options.calls, options.calls * options.seconds, "-sn", "uac", "-d", "500", timeout=options.seconds + 40)
        registers = sipp(server, options.registers, options.registers * options.seconds, "-sf", "register.xml", timeout=options.seconds + 40)
        reloads, kills, resizes = disturb(server, options)
        made, registered = successful(calls), successful(registers)
        kept = int(server.rpc("stats.get_statistics", "location_contacts")[0].rpartition(" ")[2])
        pauses = server.rpc("kamc.reloads")
    finally:
        server.stop()
        answers.kill()
    wanted, to_register = options.calls * options.seconds, options.registers * options.seconds
    print(f"{reloads} reloads, {kills} workers killed, {resizes} other numbers of workers: {made} of {wanted} calls, "
          f"{registered} of {to_register} registrations answered, {kept} kept; pauses in us {pauses}")  # fmt: skip
    return 0 if registered == kept == to_register and (kills or made == wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
