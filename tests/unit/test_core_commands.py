"""Commands of the core that need no socket: what they say and refuse."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamc import catalogue
from kamc.runtime import memory
from kamc.runtime.rpc.fault import RpcFault
from tests.harness import Bench

CFG = """#!define WITH_IT
#!define PORT "5070"
request_route { exit; }
"""


#: one that waits on purpose, memory of an allocator that Python does not have, parameters of modules (cfg.* sets those that may change), a proxy between processes
ABSENT = {"core.echo_delta", "core.sfmalloc", "modparam.getn", "modparam.gets", "modparam.setn", "modparam.list", "udp.proxy.dump", "udp.proxy.stats", "udp.proxy.clean",
          "udp.proxy.flush"}  # fmt: skip


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Any]:
    bench = Bench(tmp_path, CFG)
    return lambda name, *args: bench.worker.rpc.commands[name].function(*args)


def test_names_that_the_configuration_defines(ask: Callable[..., Any]) -> None:
    names = ask("core.ppdefines")
    assert {"KAMAILIO_6_2", "WITH_IT", "PORT", "MOD_pv"} <= set(names)
    full = {row["name"]: row["value"] for row in ask("core.ppdefines_full")}
    assert list(full) == names
    assert full["PORT"] == '"5070"' and full["WITH_IT"] == "none" and full["MOD_pv"] == "none"


def test_commands_of_the_catalogue_are_there(ask: Callable[..., Any]) -> None:
    assert set(catalogue.core()["rpc"]) - set(ask("system.listMethods")) == ABSENT


def test_memory_in_units(ask: Callable[..., Any]) -> None:
    sizes = ask("core.shmmem")
    assert 0 < sizes["used"] <= sizes["max_used"] <= sizes["total"] and sizes["free"] < sizes["total"]
    assert ask("core.shmmem", "m")["total"] == sizes["total"] >> 20
    with pytest.raises(RpcFault, match="use b"):
        ask("core.shmmem", "t")


def test_a_limit_on_the_process_or_its_group_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = memory.total()
    (tmp_path / "none").write_text("max\n")
    (tmp_path / "half").write_text(f"{whole // 2}\n")
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(tmp_path / "none"), str(tmp_path / "missing")))
    assert memory.total() >= whole
    monkeypatch.setattr(memory, "_CGROUP_LIMITS", (str(tmp_path / "none"), str(tmp_path / "half")))
    assert memory.total() == whole // 2


def test_signals_go_to_the_supervisor_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, CFG)
    kill = bench.worker.rpc.commands["core.kill"].function
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    with pytest.raises(RpcFault, match="no supervisor"):
        kill()
    monkeypatch.setattr(bench.worker, "link", object())
    for number in (signal.SIGKILL, 0, -1, 99):
        with pytest.raises(RpcFault, match="no meaning"):
            kill(number)
    assert sent == []
    kill()
    kill(signal.SIGHUP)
    assert sent == [(os.getppid(), signal.SIGTERM), (os.getppid(), signal.SIGHUP)]
