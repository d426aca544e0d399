"""Side by side with the real Kamailio: call flows as sipp scenarios, and whether both ends see the same messages from both servers.

    python tests/sipp/compare.py [FLOW ...]

Needs ``kamailio`` and ``sipp``; installs nothing. Each folder in ``flows`` has scenarios for the caller (``uac.xml``) and for whom it reaches
(``uas.xml``, ``uas2.xml``). Every flow runs against a fresh server of each kind on the same ports; what every end sent and received is compared
message by message, header by header, after what is random has been given names in the order of its appearance.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PORTS = {"PORT": 5460, "UAC": 5461, "UAS": 5462, "UAS2": 5463, "SILENT": 5464}
COMMANDS = {
    "kamailio": ["kamailio", "-f", "{cfg}", "-DD", "-E", "-m", "64", "-M", "8", "-w", "{run}", "-Y", "{run}", "-P", "{run}/pid"],
    "kamc": [str(ROOT / ".venv/bin/kamc"), "run", "{cfg}", "-w", "{run}", "-Y", "{run}", "-P", "{run}/pid"],
}
_MESSAGE = re.compile(r"^-{40,} [^\n]*\n(UDP message (sent|received)[^\n]*):\n\n", re.M)


def filled(text: str) -> str:
    for name, port in PORTS.items():
        text = text.replace(f"__{name}__", str(port))
    return text


def bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def start_server(kind: str, run: Path) -> subprocess.Popen[bytes]:
    cfg = run / "server.cfg"
    cfg.write_text(filled((HERE / "server.cfg").read_text()))
    command = [part.format(cfg=cfg, run=run) for part in COMMANDS[kind]]
    with open(run / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=run)
    deadline = time.monotonic() + 15
    while not bound(PORTS["PORT"]):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{kind} does not start:\n{(run / 'log').read_text()}")
        time.sleep(0.05)
    time.sleep(0.3)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def sipp(end: str, flow: Path, run: Path) -> subprocess.Popen[bytes]:
    scenario = run / f"{end}.xml"
    scenario.write_text(filled((flow / f"{end}.xml").read_text()))
    command = ["sipp", "-sf", str(scenario), "-i", "127.0.0.1", "-p", str(PORTS[end.upper()]), "-m", "1", "-nostdin", "-trace_msg",
               "-message_file", str(run / f"{end}.msg"), "-trace_err", "-error_file", str(run / f"{end}.err"), "-timeout", "12", "-timeout_error", "-nd",
               "-cid_str", f"{flow.name}-%u"]  # fmt: skip
    if end == "uac":
        command.append(f"127.0.0.1:{PORTS['PORT']}")
    with open(run / f"{end}.out", "wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=run)


def messages(path: Path) -> list[tuple[str, str]]:
    """(sent or received, message) in order."""
    if not path.exists():
        return []
    text = path.read_text("latin-1")
    found = list(_MESSAGE.finditer(text))
    ends = [m.start() for m in found[1:]] + [len(text)]
    return [(m[2], text[m.end() : end].strip()) for m, end in zip(found, ends, strict=True)]


class Names:
    """What is random gets a name, the same for the same value."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def name(self, kind: str, value: str) -> str:
        return self.known.setdefault(value, f"<{kind}{len(self.known)}>")


def normal(message: str, names: Names) -> list[str]:
    lines = []
    for line in message.replace("\r", "").split("\n"):
        text = line.rstrip()
        text = re.sub(r"^(Server|User-Agent): .*", r"\1: <server>", text)
        text = re.sub(r"branch=(z9hG4bK[\w.]*)(?![\w.-])", lambda m: f"branch={names.name('branch', m[1])}", text)
        text = re.sub(r"tag=([\w.-]{12,})", lambda m: f"tag={names.name('tag', m[1])}", text)
        text = re.sub(r'(nonce|response)="([^"]+)"', lambda m: f'{m[1]}="{names.name(m[1], m[2])}"', text)
        lines.append(text)
    return lines


def run_flow(kind: str, flow: Path, keep: Path) -> dict[str, list[str]] | str:
    """What each end saw, or what went wrong."""
    run = keep / flow.name / kind
    run.mkdir(parents=True)
    server = start_server(kind, run)
    try:
        others = [sipp(end, flow, run) for end in ("uas", "uas2") if (flow / f"{end}.xml").exists()]
        for end, process in zip(("uas", "uas2"), others, strict=False):
            deadline = time.monotonic() + 5
            while not bound(PORTS[end.upper()]) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        caller = sipp("uac", flow, run)
        status = [p.wait(20) for p in (caller, *others)]
    finally:
        for process in [p for p in [*others, caller] if p.poll() is None]:
            process.kill()
        stop(server)
    names = Names()
    ends = ["uac", *(e for e in ("uas", "uas2") if (flow / f"{e}.xml").exists())]
    seen = {end: [line for way, text in messages(run / f"{end}.msg") for line in (f"== {way}", *normal(text, names))] for end in ends}
    if any(status):
        errors = "".join((run / f"{end}.err").read_text("latin-1") for end in ends if (run / f"{end}.err").exists())
        return f"sipp ended with {status} against {kind}\n{errors[:1500]}"
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flows", nargs="*", help="names of folders in flows; all without")
    wanted = parser.parse_args().flows
    missing = [tool for tool in ("kamailio", "sipp") if shutil.which(tool) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}")
        return 2
    keep = Path(tempfile.mkdtemp(prefix="kamc-oracle-"))
    flows = sorted(p for p in (HERE / "flows").iterdir() if p.is_dir() and (not wanted or p.name in wanted))
    bad = 0
    for flow in flows:
        real, ours = (run_flow(kind, flow, keep) for kind in ("kamailio", "kamc"))
        if isinstance(real, str) or isinstance(ours, str):
            bad += 1
            print(f"FAIL {flow.name}: {real if isinstance(real, str) else ours}")
            continue
        different = [end for end in real if real[end] != ours[end]]
        count = sum(line.startswith("== ") for lines in real.values() for line in lines)
        print(f"{'FAIL' if different else 'ok  '} {flow.name}: {count} messages at {len(real)} ends")
        for end in different:
            bad += 1
            print("\n".join(difflib.unified_diff(real[end], ours[end], f"{end} by kamailio", f"{end} by kamc", lineterm="", n=4)))
    print(f"{len(flows)} flows, {bad} differences; traces in {keep}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
