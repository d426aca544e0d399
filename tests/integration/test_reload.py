"""Hot reload of a whole server: processes, sockets, files, signals."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamc.cli import main
from kamc.errors import ConfigError
from kamc.runtime.proc.control import NAME, ask
from tests.conftest import Server

TEXT = """#!KAMAILIO
debug=1
disable_tcp=yes
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
{more}
request_route {{
	sl_send_reply("200", "{answer}");
}}
"""


def text(answer: str, more: str = "") -> str:
    return TEXT.format(answer=answer, more=more)


def reload(server: Server, *, dry: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = ask(str(server.cfg.parent), {"do": "reload", "dry_run": dry})
    return found


def rpc(server: Server, method: str, *params: Any) -> Any:
    return ask(str(server.cfg.parent), {"do": "rpc", "method": method, "params": list(params)})


def status(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = ask(str(server.cfg.parent), {"do": "status"})
    return found


def answer(server: Server) -> str:
    return server.ask("OPTIONS", "sip:x@127.0.0.1").split("\r\n")[0].removeprefix("SIP/2.0 200 ")


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait for another process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_a_reload_by_command(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    assert reload(server)["state"] == "unchanged"
    server.cfg.write_text(text("two"))
    planned = reload(server, dry=True)
    assert (planned["state"], planned["plan"]) == ("planned", ["exchange the routes"])
    assert answer(server) == "one"
    done = reload(server)
    assert (done["state"], done["generation"]) == ("active", 2)
    assert answer(server) == "two"
    assert [g["generation"] for g in rpc(server, "kamc.generations")] == [2]
    server.cfg.write_text(text("two") + "# a comment is no change\n")
    assert reload(server)["state"] == "unchanged"


def test_sighup(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    server.cfg.write_text(text("two"))
    server.process.send_signal(signal.SIGHUP)
    until(lambda: answer(server) == "two")


def test_a_mistake_changes_nothing_and_says_what_it_is(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    server.cfg.write_text(text("two") + "request_route { nonsense(); }\n")
    with pytest.raises(ConfigError, match=r"unknown function nonsense"):
        reload(server)
    assert answer(server) == "one"
    assert status(server)["reloads"][-1]["state"] == "failed"
    server.cfg.write_text(text("three"))
    assert reload(server)["state"] == "active"
    assert answer(server) == "three"


def test_a_module_that_does_not_start_changes_nothing(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    server.cfg.write_text(text("two", 'loadmodule "dispatcher.so"\nmodparam("dispatcher", "list_file", "/nowhere/list")\n'))
    with pytest.raises(ConfigError, match="list /nowhere/list cannot be read"):
        reload(server)
    assert answer(server) == "one"
    assert [g["generation"] for g in rpc(server, "kamc.generations")] == [1]
    server.cfg.write_text(text("three"))
    assert reload(server)["state"] == "active"


def test_an_address_that_is_taken_changes_nothing(serve: Callable[..., Server]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        taken.bind(("127.0.0.1", 0))
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()[1]
        probe.close()
        server = serve(text("one", f"listen=udp:127.0.0.1:{own}"), port=own)
        server.cfg.write_text(text("two", f"listen=udp:127.0.0.1:{own}\nlisten=udp:127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(ConfigError, match="cannot listen on udp"):
            reload(server)
    assert answer(server) == "one"


def test_listeners_come_and_go(serve: Callable[..., Server]) -> None:
    ports = []
    for _ in range(2):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    first, second = ports
    server = serve(text("one", f"listen=udp:127.0.0.1:{first}"), port=first)
    server.cfg.write_text(text("two", f"listen=udp:127.0.0.1:{first}\nlisten=udp:127.0.0.1:{second}"))
    assert f"listen on udp:127.0.0.1:{second}" in reload(server)["plan"]
    for port in ports:
        server.address = ("127.0.0.1", port)
        assert answer(server) == "two"
    server.cfg.write_text(text("three", f"listen=udp:127.0.0.1:{second}"))
    assert f"listen no more on udp:127.0.0.1:{first}" in reload(server)["plan"]
    assert answer(server) == "three"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", first))


def test_modules_come_and_go(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    server.cfg.write_text(text("two", 'loadmodule "jsonrpcs.so"\nloadmodule "htable.so"\nmodparam("htable", "htable", "t=>size=4;")'))
    assert {"load module jsonrpcs", "load module htable"} <= set(reload(server)["plan"])
    path = server.cfg.parent / "kamailio_rpc.sock"
    assert path.is_socket()
    inode = path.stat().st_ino
    server.cfg.write_text(text("three", 'loadmodule "jsonrpcs.so"'))
    reload(server)
    assert path.stat().st_ino == inode
    with pytest.raises(ConfigError, match="Method Not Found"):
        rpc(server, "htable.listTables")
    server.cfg.write_text(text("four"))
    reload(server)
    assert not path.exists()


def test_files_that_are_watched(serve: Callable[..., Server]) -> None:
    server = serve(text("one", 'import_file "local.cfg"'), "--watch")
    local = server.cfg.parent / "local.cfg"
    until(lambda: answer(server) == "one")

    def becomes(word: str, write: Callable[[], object]) -> None:
        write()
        until(lambda: answer(server) == word)

    becomes("two", lambda: server.cfg.write_text(text("two", 'import_file "local.cfg"')))
    local.write_text("#!define LOCAL\n")
    fresh = server.cfg.parent / ".new"
    fresh.write_text(text("three", 'import_file "local.cfg"'))
    becomes("three", lambda: fresh.replace(server.cfg))
    # a mistake, and its correction
    server.cfg.write_text(text("four", "modparam("))
    until(lambda: "failed, nothing has changed" in server.text())
    assert answer(server) == "three"
    becomes("five", lambda: server.cfg.write_text(text("five")))


def test_an_include_that_goes_and_comes(serve: Callable[..., Server]) -> None:
    server = serve(text("one"), "--watch")
    extra = server.cfg.parent / "extra.cfg"
    server.cfg.write_text(text("two", 'include_file "extra.cfg"'))
    until(lambda: "cannot read included file" in server.text())
    assert answer(server) == "one"
    extra.write_text("#!define X\n")
    until(lambda: answer(server) == "two")
    extra.unlink()
    until(lambda: server.text().count("cannot read included file") > 1)
    assert answer(server) == "two"


def test_a_reload_during_a_reload(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    results: list[str] = []
    server.cfg.write_text(text("two"))
    threads = [threading.Thread(target=lambda: results.append(reload(server)["state"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results)[0] == "active"
    assert set(results) <= {"active", "unchanged"}
    assert answer(server) == "two"


def test_a_worker_that_dies_comes_back_on_the_newest_generation(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    server.cfg.write_text(text("two"))
    reload(server)
    (before,) = status(server)["workers"]
    os.kill(before, signal.SIGKILL)
    until(lambda: status(server)["workers"] not in ([before], []))
    assert answer(server) == "two"
    assert [g["generation"] for g in rpc(server, "kamc.generations")] == [2]
    server.cfg.write_text(text("three"))
    assert reload(server)["generation"] == 3


def test_a_worker_that_hangs_does_not_hold_up_reloads(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(text("one"))
    (before,) = status(server)["workers"]
    os.kill(before, signal.SIGSTOP)
    server.cfg.write_text(text("two"))
    result: list[Any] = []

    def ask_() -> None:
        try:
            result.append(reload(server))
        except ConfigError as err:
            result.append(str(err))

    thread = threading.Thread(target=ask_)
    thread.start()
    until(lambda: status(server)["reload"] == "preparing")
    os.kill(before, signal.SIGKILL)
    thread.join()
    assert "died while the new generation was prepared" in str(result[0])
    until(lambda: status(server)["workers"] not in ([before], []))
    assert reload(server)["state"] == "active"
    assert answer(server) == "two"


def test_a_build_folder_is_taken_again(serve: Callable[..., Server], tmp_path: Path) -> None:
    cfg, out = tmp_path / "built.cfg", tmp_path / "out"
    cfg.write_text(text("one"))
    assert main(["build", str(cfg), "-o", str(out)]) == 0
    server = serve("", target=out)
    cfg.write_text(text("two"))
    assert main(["build", str(cfg), "-o", str(out)]) == 0
    assert reload(server)["state"] == "active"
    assert answer(server) == "two"


def test_memory_and_descriptors_stay_where_they_are(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    (worker,) = status(server)["workers"]

    def measure() -> tuple[int, int]:
        pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
        return pages, len(os.listdir(f"/proc/{worker}/fd"))

    def rounds(count: int, first: int) -> None:
        for number in range(first, first + count):
            server.cfg.write_text(text(f"v{number}"))
            reload(server)

    rounds(6, 0)
    before = measure()
    rounds(20, 100)
    after = measure()
    assert after[1] == before[1]
    assert after[0] < before[0] * 1.05
    assert answer(server) == "v119"


def test_commands(serve: Callable[..., Server], capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(text("one"))
    folder = str(server.cfg.parent)
    server.cfg.write_text(text("two"))
    assert main(["reload", "-Y", folder, "--dry-run"]) == 0
    assert main(["reload", "-Y", folder]) == 0
    assert main(["rpc", "-Y", folder, "core.echo", "a", "12", "s:12"]) == 0
    out = capsys.readouterr().out
    assert "exchange the routes" in out
    assert "generation 2 runs" in out
    assert '"12"' in out
    assert main(["rpc", "-Y", folder, "no.such"]) == 1
    assert main(["reload", "-Y", str(server.cfg)]) == 1
    assert "no server answers" in capsys.readouterr().err
    assert oct((server.cfg.parent / NAME).stat().st_mode & 0o777) == "0o600"


def test_garbage_on_the_control_socket(serve: Callable[..., Server]) -> None:
    server = serve(text("one"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect(str(server.cfg.parent / NAME))
        sock.sendall(b'{"do": \n[1]\n{"do": "rpc", "method": 1}\n{"do": "dance"}\n' + b"[" * 100_000 + b"\n")
        lines = sock.makefile("rb")
        assert [b"error" in lines.readline() for _ in range(5)] == [True] * 5
    assert reload(server)["state"] == "unchanged"


def test_systemd_hears_of_it(serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        server = serve(text("one"))
        assert ear.recv(1000).decode() == f"READY=1\nMAINPID={server.process.pid}"
        server.cfg.write_text(text("two"))
        reload(server)
        assert ear.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert ear.recv(1000) == b"READY=1"
        server.stop()
        assert ear.recv(1000) == b"STOPPING=1"


DATA = """#!KAMAILIO
debug=1
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "pv.so"
loadmodule "dispatcher.so"
loadmodule "permissions.so"
modparam("dispatcher", "list_file", "FOLDER/ds.list")
modparam("dispatcher", "reload_delta", 0)
modparam("permissions", "address_file", "FOLDER/addresses")
modparam("permissions", "reload_delta", 0)
request_route {
	ds_select_dst("1", "4");
	if (allow_source_address("7")) sl_send_reply("200", "$du yes"); else sl_send_reply("200", "$du no");
}
"""


def test_files_of_modules_are_read_again(serve: Callable[..., Server], tmp_path: Path) -> None:
    """With --watch-data; the configuration itself is left alone, and a file that cannot be used changes nothing."""
    lists, addresses = tmp_path / "ds.list", tmp_path / "addresses"
    lists.write_text("1 sip:127.0.0.1:1001\n")
    addresses.write_text("8 192.0.2.1 32 0 x\n")
    server = serve(DATA.replace("FOLDER", str(tmp_path)), "--watch-data")
    assert answer(server) == "sip:127.0.0.1:1001 no"
    (tmp_path / "new").write_text("1 sip:127.0.0.1:1002\n")
    (tmp_path / "new").replace(lists)
    until(lambda: answer(server) == "sip:127.0.0.1:1002 no")
    addresses.write_text("7 127.0.0.1 32 0 x\n")
    until(lambda: answer(server) == "sip:127.0.0.1:1002 yes")
    lists.write_text("nonsense\n")
    until(lambda: "dispatcher.reload after a change of" in server.text() or "dispatcher" in server.text())
    assert answer(server) == "sip:127.0.0.1:1002 yes" and status(server)["generation"] == 1
    server.cfg.write_text(server.cfg.read_text().replace("$du yes", "$du ja"))
    assert reload(server)["state"] == "active"
    lists.write_text("1 sip:127.0.0.1:1003\n")
    until(lambda: answer(server) == "sip:127.0.0.1:1003 ja")


def test_a_change_before_the_watcher_has_begun(serve: Callable[..., Server]) -> None:
    """The configuration changes while the server starts."""
    server = serve(text("one"), "--watch", ready=False)
    until(lambda: (server.cfg.parent / "kamc_control").exists())
    server.cfg.write_text(text("two"))
    server.wait_ready()
    until(lambda: answer(server) == "two")


def type_of_service_of(server: Server) -> int:
    """The TOS of the datagram that a reply comes in."""
    server.sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    server.send("OPTIONS", "sip:u@h")
    _, ancillary, _, _ = server.sock.recvmsg(4096, 64)
    return next(data[0] for level, kind, data in ancillary if (level, kind) == (socket.IPPROTO_IP, socket.IP_TOS))


def test_options_of_sockets_that_stay_open(serve: Callable[..., Server]) -> None:
    server = serve(text("x"))
    assert type_of_service_of(server) == 0
    for value, seen in (("tos=IPTOS_LOWDELAY", 0x10), ("tos=184", 184), ("", 0)):
        server.cfg.write_text(text("x", value))
        done = reload(server)
        assert done["state"] == "active" and "set tos" in done["plan"]
        assert type_of_service_of(server) == seen


def test_what_cannot_change_is_named(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(text("x"))
    server.cfg.write_text(text("y", f'workdir="{tmp_path}"\ngroup="{os.getgid()}"'))
    done = reload(server)
    assert done["state"] == "active"
    assert {"workdir counts from the next start on", "group counts from the next start on"} <= set(done["plan"])
