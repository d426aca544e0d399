"""``kamc-kamailio``: the flags, messages and exit statuses of ``kamailio``, in the background and in front."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kamc.kamailio import main, prologue
from tests.integration.test_reload import until

TEXT = """#!KAMAILIO
debug=2
log_stderror=no
loadmodule "sl.so"
loadmodule "xlog.so"
loadmodule "pv.so"
loadmodule "ctl.so"
loadmodule "jsonrpcs.so"
request_route {
	xlog("L_INFO", "took $rm\\n");
	sl_send_reply("200", "OK");
}
"""
OPTIONS = (b"OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;rport;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: 1\r\n"
           b"CSeq: 1 OPTIONS\r\n\r\n")  # fmt: skip


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "kamailio.cfg"
    path.write_text(TEXT)
    return path


def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kamailio(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run([sys.executable, "-m", "kamc.kamailio", *args], capture_output=True, text=True, timeout=30, cwd=cwd, env=environment)


def test_check(cfg: Path) -> None:
    good = kamailio("-c", "-f", str(cfg))
    assert (good.returncode, good.stderr) == (0, "config file ok, exiting...\n")
    cfg.write_text(TEXT.replace("sl_send_reply", "sl_send_nothing"))
    bad = kamailio("-c", "-f", str(cfg))
    assert bad.returncode == 255 and "sl_send_nothing" in bad.stderr


def runs(pid: int | str) -> bool:
    """Whether there is such a process; one that has ended and waits for its parent (init, which takes its time) is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_in_the_background(cfg: Path, tmp_path: Path) -> None:
    """The starter returns when the server serves; one SIGTERM ends all of it."""
    address, pid_file = ("127.0.0.1", port()), tmp_path / "pid"
    flags = ["-f", cfg.name, "-Y", ".", "-P", "pid", "-G", "pgid", "-l", f"udp:{address[0]}:{address[1]}", "-a", "no", "-m", "64", "-M", "8", "-n", "2", "-x", "fm"]
    started = kamailio(*flags, cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    pid = int(pid_file.read_text())
    try:
        assert int((tmp_path / "pgid").read_text()) == os.getpgid(pid) != os.getpgid(0)
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.sendto(OPTIONS, address)
            assert sock.recv(9999).startswith(b"SIP/2.0 200")
        assert {"kamailio_ctl", "kamailio_rpc.fifo", "kamailio_rpc.sock"} <= {p.name for p in tmp_path.iterdir()}
        again = kamailio(*flags, cwd=tmp_path)
        assert again.returncode == 255 and "Address already in use" in again.stderr
        assert int(pid_file.read_text()) == pid
    finally:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(pid, signal.SIGTERM)
    until(lambda: not any(runs(p) for p in (pid, *children)), 2)
    assert not pid_file.exists() and not (tmp_path / "kamailio_ctl").exists()


def test_in_front(cfg: Path, tmp_path: Path) -> None:
    own = port()
    process = subprocess.Popen([sys.executable, "-m", "kamc.kamailio", "-f", str(cfg), "-DD", "-E", "-ddd", "-Y", str(tmp_path), "-l", f"udp:127.0.0.1:{own}"],
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            for _ in range(100):
                sock.sendto(OPTIONS, ("127.0.0.1", own))
                try:
                    assert sock.recv(9999).startswith(b"SIP/2.0 200")
                    break
                except (TimeoutError, ConnectionRefusedError):
                    continue
            sock.sendto(b"nonsense that is no SIP\r\n\r\n", ("127.0.0.1", own))
            until(lambda: bool(sock.sendto(b"OPTIONS sip:x SIP/2.0\r\n\r\n", ("127.0.0.1", own))), 1)
    finally:
        process.send_signal(signal.SIGTERM)
        _, lines = process.communicate(timeout=10)
    assert process.returncode == 0
    assert re.search(r"^ 1\(\d+\) INFO: <script>: took OPTIONS$", lines, re.M)
    assert re.search(r"^ 1\(\d+\) [A-Z]+: <core> \[net/datapath\.py:\d+\]: \w+\(\): .*bad message", lines, re.M), lines


def test_what_cannot_start(cfg: Path, tmp_path: Path) -> None:
    local = f"udp:127.0.0.1:{port()}"
    for flags, word in ((["-f", "/no/such.cfg"], "No such file"), (["-Z"], "Unknown option '-Z'"), (["-f", str(cfg), "-t", "/"], "chroot"),
                        (["-f", str(cfg), "-l", "udp:192.0.2.77:5060"], "192.0.2.77"), (["-f", str(cfg), "-u", "nobody-there", "-l", local], "nobody-there"),
                        (["-f", str(cfg), "--modparam=pv:varset"], "modname:paramname:type:value")):  # fmt: skip
        done = kamailio(*flags, "-Y", str(tmp_path))
        assert done.returncode == 255 and word in done.stderr, (flags, done)


def test_what_is_printed(cfg: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-v"]) == 0 and capsys.readouterr().out.startswith("version: kamc ")
    assert main(["-I"]) == 0 and "Python" in capsys.readouterr().out
    assert main(["-h"]) == 0 and "--cfg-print" in capsys.readouterr().out
    cfg.write_text(TEXT.replace('debug=2\n', '#!define WORD "x"\n#!ifdef WORD\ndebug=3\n#!else\ndebug=4\n#!endif\n').replace('"OK"', 'WORD'))
    assert main(["--cfg-print", "-f", str(cfg)]) == 0
    shown = capsys.readouterr().out
    assert 'sl_send_reply("200", "x")' in shown and "debug = 3" in shown and "debug = 4" not in shown


def test_modules_of_the_command_line(cfg: Path, tmp_path: Path) -> None:
    assert prologue(["a"], ['a:b:s:x"y', "a:c:i:-3"]) == 'loadmodule "a"\nmodparam("a", "b", "x\\"y")\nmodparam("a", "c", -3)\n'
    own = ["--loadmodule=maxfwd", "--modparam=maxfwd:max_limit:i:70"]
    cfg.write_text(TEXT.replace("request_route {", "request_route {\n\tmf_process_maxfwd_header(10);"))
    assert kamailio("-c", "-f", str(cfg)).returncode == 255
    assert kamailio("-c", "-f", str(cfg), *own).returncode == 0
    bad = kamailio("-c", "-f", str(cfg), *own, "--modparam=maxfwd:nothing:i:1")
    assert bad.returncode == 255 and "<command line>" in bad.stderr
