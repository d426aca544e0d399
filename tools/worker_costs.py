"""What a message costs with one, two and four workers: processor time of all processes of the server per completed call.

    python tools/worker_costs.py [--rounds 3] [--workers 1,2,4] [--calls 20000]

sipp asks as fast as it is answered, from one address and port. ``options`` are stateless answers, ``relay`` are calls from INVITE to BYE through a proxy that
records routes. The numbers of workers take turns; the table gives medians. Needs sipp.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path

from rig import Server, free_port, sipp, sipp_uas, successful

ROUTES = """
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    if (has_totag()) {{
        if (!loose_route()) $du = "sip:127.0.0.1:{far}";
        t_relay();
        exit;
    }}
    t_check_trans();
    record_route();
    $du = "sip:127.0.0.1:{far}";
    t_relay();
}}
"""
OPTIONS = """<?xml version="1.0"?>
<scenario name="options">
<send retrans="500"><![CDATA[
OPTIONS sip:[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:ping@bench.test>;tag=[pid]O[call_number]
To: <sip:bench.test>
Call-ID: [call_id]
CSeq: 1 OPTIONS
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"""
#: (sipp's scenario, calls per second, of a rate that one worker cannot follow, share of --calls)
WORKLOADS = {"options": (("-sf", "options.xml", "-l", "1000"), 40_000, 1.0), "relay": (("-sn", "uac", "-l", "300"), 4_000, 0.2)}


def cost(workload: str, workers: int, calls: int) -> float:
    """Microseconds per call. Ends the tool when a call fails."""
    scenario, rate, share = WORKLOADS[workload]
    wanted = int(calls * share)
    far = free_port()
    server = Server(ROUTES, "--workers", str(workers), far=far)
    Path(server.run, "options.xml").write_text(OPTIONS)
    callee = sipp_uas(far, server.run)
    try:
        server.wait()
        successful(sipp(server, 200, 200, *scenario))
        before = server.processor_seconds()
        done = successful(sipp(server, rate, wanted, *scenario))
        used = server.processor_seconds() - before
    finally:
        callee.kill()
        server.stop()
    if done != wanted:
        raise SystemExit(f"{workload} with {workers} workers: {done} of {wanted} calls went well")
    return used / done * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    options = parser.parse_args()
    if shutil.which("sipp") is None:
        raise SystemExit("sipp is not installed")
    counts = [int(n) for n in options.workers.split(",")]
    names = options.workloads.split(",")
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for workload in names:
            for count in counts:
                found.setdefault((workload, count), []).append(cost(workload, count, options.calls))
    print("workers", *names)
    for count in counts:
        print(count, *(f"{statistics.median(found[name, count]):.0f} ({min(found[name, count]):.0f}..{max(found[name, count]):.0f})" for name in names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
