"""The real thing: processes, sockets, signals."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kamc.runtime.proc.control import ask
from tests.conftest import ROOT, Server
from tests.databases import free_port
from tests.integration.test_reload import rpc, until
from tests.integration.test_workers import reason

ANSWER = """#!KAMAILIO
debug=1
children=1
disable_tcp=yes
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "xlog.so"
loadmodule "jsonrpcs.so"
loadmodule "tm.so"
loadmodule "broken.so"
request_route {
	if ($rU == "boom") {
		burst("now");
	}
	xlog("L_ERR", "seen $rm $rU\\n");
	sl_send_reply("200", "OK");
}
"""


BROKEN = """from kamc.declare import ANY, Module, function
from kamc.runtime.context import Ctx


class Broken(Module):
    name = "broken"

    @function(ANY)
    def burst(self, ctx: Ctx, text: str) -> int:
        raise RuntimeError(f"burst {text}")


module = Broken
"""


def with_module(folder: Path) -> str:
    """The configuration with a user's own module on its path."""
    (folder / "broken.py").write_text(BROKEN)
    return ANSWER.replace('loadmodule "sl.so"', f'mpath "{folder}"\nloadmodule "sl.so"')


def kamc(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kamc", *args], capture_output=True, text=True, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)


def children_of(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_requests_are_answered_and_sigterm_ends_it(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(with_module(tmp_path))
    assert server.ask("OPTIONS", "sip:bob@127.0.0.1").startswith("SIP/2.0 200 OK")
    assert "seen OPTIONS bob" in server.text()
    workers = children_of(server.process.pid)
    assert server.stop() == 0
    assert not [p for p in workers if Path(f"/proc/{p}").exists()]


def test_garbage_does_not_hurt(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(with_module(tmp_path))
    for junk in (b"", b"\0" * 2000, b"INVITE", os.urandom(500), b"SIP/2.0 200 OK\r\n\r\n" * 3, b"A" * 60000):
        server.sock.sendto(junk, server.address)
    assert server.ask("OPTIONS", "sip:bob@127.0.0.1").startswith("SIP/2.0 200 OK")


def test_an_error_in_a_route_is_500_and_the_next_request_is_served(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(with_module(tmp_path))
    assert server.ask("OPTIONS", "sip:boom@127.0.0.1").startswith("SIP/2.0 500 Server Internal Error")
    text = server.text()
    assert "kamailio.cfg:14 in request_route: RuntimeError: burst now" in text and "call-id" in text
    assert server.ask("OPTIONS", "sip:bob@127.0.0.1").startswith("SIP/2.0 200 OK")


def test_a_dead_worker_is_replaced(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(with_module(tmp_path))
    (worker,) = children_of(server.process.pid)
    os.kill(worker, signal.SIGKILL)
    server.sock.settimeout(0.3)
    deadline = time.monotonic() + 10
    answer = ""
    while not answer and time.monotonic() < deadline:
        try:
            answer = server.ask("OPTIONS", "sip:bob@127.0.0.1")
        except TimeoutError:
            continue
    assert answer.startswith("SIP/2.0 200 OK")
    assert children_of(server.process.pid) != [worker]


def test_json_rpc_over_the_datagram_socket(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(with_module(tmp_path))
    path = str(tmp_path / "me")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.bind(path)
        client.settimeout(5)
        client.sendto(b'{"jsonrpc":"2.0","id":1,"method":"core.psx"}', str(server.cfg.parent / "kamailio_rpc.sock"))
        assert b'"result"' in client.recv(65535)
        client.sendto(b"not json", str(server.cfg.parent / "kamailio_rpc.sock"))
        assert b"-32700" in client.recv(65535)


def test_a_build_runs_without_the_compiler(serve: Callable[..., Server], tmp_path: Path) -> None:
    cfg = tmp_path / "kamailio.cfg"
    cfg.write_text(with_module(tmp_path))
    assert kamc("build", str(cfg), "-o", str(tmp_path / "out")).returncode == 0
    assert kamc("build", str(cfg), "-o", str(tmp_path / "out"), "--check").returncode == 0
    cfg.write_text(with_module(tmp_path) + "# longer\n")
    assert kamc("build", str(cfg), "-o", str(tmp_path / "out"), "--check").returncode == 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"""
import sys
from kamc.cli import main
sys.argv = ['kamc', 'run', {str(tmp_path / 'out')!r}, '-l', 'udp:127.0.0.1:{port}', '-Y', {str(tmp_path)!r}]
import kamc.runtime.proc.supervisor as s
s.Supervisor.run = lambda self: print('ply' in sys.modules, 'astor' in sys.modules) or 0
raise SystemExit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_exit_statuses(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.cfg", tmp_path / "bad.cfg"
    good.write_text(with_module(tmp_path))
    bad.write_text(with_module(tmp_path).replace("sl_send_reply", "sl_send_replay"))
    assert kamc("check", str(good)).returncode == 0
    failed = kamc("check", str(bad), "--format", "line")
    assert failed.returncode == 1 and "bad.cfg:17:2: error[K0302]" in failed.stderr
    assert kamc("check", str(bad), "--syntax").returncode == 0
    assert kamc("check", str(tmp_path / "none.cfg")).returncode == 1
    assert kamc("run", str(good), "-A", "BAD-NAME").returncode == 2
    assert kamc("run", str(good), "-l", "::nonsense::").returncode == 2
    assert kamc("nonsense").returncode == 2
    assert kamc("modules").returncode == 0
    assert kamc("run", "-c", "-f", str(good)).stdout == "config file ok, exiting...\n"
    assert kamc("build", str(bad), "-o", str(tmp_path / "o")).returncode == 1
    assert not (tmp_path / "o").exists()


def test_an_occupied_port_is_one_clear_line(tmp_path: Path) -> None:
    cfg = tmp_path / "kamailio.cfg"
    cfg.write_text(with_module(tmp_path))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        done = kamc("run", str(cfg), "-l", f"udp:127.0.0.1:{port}", "-P", str(tmp_path / "pid"))
    assert done.returncode == 1
    assert done.stderr == f"kamc: cannot listen on udp:127.0.0.1:{port}: Address already in use\n"
    assert not (tmp_path / "pid").exists()


def test_pid_file_and_defines(serve: Callable[..., Server], tmp_path: Path) -> None:
    text = with_module(tmp_path).replace("request_route {", "request_route {\n#!ifdef EXTRA\n sl_send_reply(EXTRA, \"Defined\"); exit;\n#!endif\n")
    server = serve(text, "-P", str(tmp_path / "pid"), "-A", "EXTRA=299", "-DD", "-E", "-m", "64", "-M", "8")
    assert server.ask("OPTIONS", "sip:bob@127.0.0.1").startswith("SIP/2.0 299 Defined")
    assert int((tmp_path / "pid").read_text()) == server.process.pid
    server.stop()
    assert not (tmp_path / "pid").exists()


def test_startup_errors_of_modules_name_the_parameter(tmp_path: Path) -> None:
    cfg = tmp_path / "kamailio.cfg"
    cfg.write_text(with_module(tmp_path).replace("request_route", 'modparam("pv", "varset", "nonsense")\nrequest_route'))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = kamc("run", str(cfg), "-l", f"udp:127.0.0.1:{port}")
    assert done.returncode == 1
    assert "kamailio.cfg:12:26: modparam pv/varset" in done.stderr


def test_tcp_and_udp_share_a_port(serve: Callable[..., Server], tmp_path: Path) -> None:
    text = with_module(tmp_path).replace("disable_tcp=yes\n", "")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(text, "-l", f"tcp:127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        request = ("OPTIONS sip:bob@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n"
                   "Call-ID: %d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
        sock.sendall(((request % 1) + (request % 2)).encode())
        answers = b""
        while answers.count(b"SIP/2.0 200 OK") < 2:
            piece = sock.recv(65536)
            assert piece, server.text()
            answers += piece
    assert server.ask("OPTIONS", "sip:bob@127.0.0.1").startswith("SIP/2.0 200 OK")


def test_an_occupied_tcp_port_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "kamailio.cfg").write_text("request_route { exit; }\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = kamc("run", str(tmp_path / "kamailio.cfg"), "-l", f"tcp:127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"cannot listen on tcp:127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def _ids(pid: int) -> dict[str, list[int]]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {name: [int(n) for n in rest.split()] for name, _, rest in (line.partition(":") for line in lines) if name in ("Uid", "Gid", "Groups")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("args", "in_cfg"), [(("-u", "nobody", "-g", "daemon"), ""), (("-u", "nobody"), ""), ((), "user=nobody\ngroup=daemon\n")])
def test_it_becomes_somebody_else(serve: Callable[..., Server], tmp_path: Path, args: tuple[str, ...], in_cfg: str) -> None:
    """Supervisor and workers; no group of root is left, and there is no way back."""
    entry = pwd.getpwnam("nobody")
    gid = grp.getgrnam("daemon").gr_gid if in_cfg or "-g" in args else entry.pw_gid
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    os.chown(run_dir, entry.pw_uid, gid)
    server = serve(ANSWER.replace("debug=1\n", f"debug=1\n{in_cfg}").replace('loadmodule "broken.so"\n', "").replace('burst("now");', ";"), *args, "-Y", str(run_dir))
    pids = [server.process.pid, *ask(str(run_dir), {"do": "status"})["workers"]]
    assert len(pids) == 2
    for pid in pids:
        ids = _ids(pid)
        assert (set(ids["Uid"]), set(ids["Gid"])) == ({entry.pw_uid}, {gid})
        assert set(ids["Groups"]) == set(os.getgrouplist("nobody", gid))
    assert reason(server.ask("OPTIONS", "sip:x@h")) == "200 OK"
    assert server.stop() == 0


def test_a_user_that_there_is_not(serve: Callable[..., Server]) -> None:
    server = serve(ANSWER.replace('loadmodule "broken.so"\n', "").replace('burst("now");', ";"), "-u", "nobody-there", ready=False)
    assert server.process.wait(20) == 1 and "cannot change to user nobody-there" in server.text()


def test_a_client_that_goes_while_its_route_waits(serve: Callable[..., Server]) -> None:
    """Its connection is closed before the answer is there: nobody hears it, and nothing is left behind."""
    port = free_port()
    server = serve('#!KAMAILIO\ndebug=1\nloadmodule "sl.so"\nloadmodule "cfgutils.so"\nloadmodule "kex.so"\n'
                   'request_route { if (method == "MESSAGE") usleep("400000"); sl_send_reply("200", "OK"); }\n', "-l", f"tcp:127.0.0.1:{port}")  # fmt: skip
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"MESSAGE sip:x@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKgone\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:x@h>\r\nCall-ID: gone\r\n"
                         b"CSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
            until(lambda: rpc(server, "stats.get_statistics", "waiting_routes") != ["kamc:waiting_routes = 0"])
    until(lambda: rpc(server, "stats.get_statistics", "waiting_routes") == ["kamc:waiting_routes = 0"])
    assert reason(server.ask("OPTIONS", "sip:x@h")) == "200 OK"
    assert "Traceback" not in server.text() and rpc(server, "core.tcp_info")["opened_connections"] == 0
