"""Commands about memory, by the names that Kamailio has for them; what is shown is that of this process."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from kamc.runtime.rpc.fault import RpcFault

LINE = re.compile(rf"memory status of {os.getpid()}: total \d+ KiB, free \d+ KiB, used \d+ KiB, real_used \d+ KiB, max_used \d+ KiB")


@pytest.fixture
def server(bench: Any) -> Any:
    return bench('loadmodule "cfgutils.so"\nrequest_route { pkg_status(); shm_summary(); exit; }\n')


def test_sizes(server: Any) -> None:
    (row,), info, shared = server.rpc("pkg.stats"), server.rpc("shm.info"), server.rpc("shm.stats")
    assert row["pid"] == os.getpid() and 0 < row["used"] <= row["total_size"] == info["size"] == shared["total"]
    assert info == server.rpc("pkg.info") and shared["used"] + shared["free"] <= shared["total"] <= info["size"]
    assert server.rpc("pkg.stats", "pid", os.getpid())[0]["desc"] == server.rpc("mod.stats", "all", "shm")[0]["desc"] == "worker"


def test_lines_in_the_log(server: Any) -> None:
    server.request("OPTIONS")
    for command, *params in (("corex.shm_status",), ("corex.shm_summary",),
                             ("corex.pkg_summary", "pid", os.getpid()), ("corex.pkg_summary", "idx", server.worker.log.rank)):
        server.rpc(command, *params)
    assert [line for line in server.log.lines if not LINE.fullmatch(line)] == [] and len(server.log.lines) == 6


@pytest.mark.parametrize(("command", "params", "text"), [
    ("corex.pkg_summary", (), "not provided"), ("corex.pkg_summary", ("idx",), "not provided"), ("corex.pkg_summary", ("foo", 1), "Unsupported selector"),
    ("corex.pkg_summary", ("idx", 77), "out of range"), ("corex.pkg_summary", ("pid", 1), "No such pid"), ("pkg.stats", ("pid", 1), "No such pid"),
    ("pkg.stats", ("foo", 1), "Invalid filter"), ("mod.stats", (), "Module name"), ("mod.mem_stats", ("all",), "needed"),
])  # fmt: skip
def test_wrong_commands(server: Any, command: str, params: tuple[Any, ...], text: str) -> None:
    with pytest.raises(RpcFault, match=text):
        server.rpc(command, *params)
