"""Module sipdump: files laid out as Kamailio 5.6.3 does, events, rotation, old files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kamc.errors import ConfigError

ROUTE = 'request_route { if ($rU == "s") sipdump_send("mytag"); sl_send_reply("200", "m"); }\n'


def server(bench, tmp_path: Path, params: str = "", more: str = ""):
    (tmp_path / "out").mkdir(exist_ok=True)
    return bench(f'loadmodule "sipdump.so"\nmodparam("sipdump", "folder", "{tmp_path}/out")\nmodparam("sipdump", "enable", 1)\n{params}{ROUTE}{more}')


def files(tmp_path: Path, suffix: str) -> list[Path]:
    return sorted((tmp_path / "out").glob(f"*{suffix}"))


def test_files(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    text = b.request("OPTIONS", "sip:x@127.0.0.1")
    b.request("OPTIONS", "sip:s@127.0.0.1")
    b.advance(0.2)
    (path,) = files(tmp_path, ".data")
    assert re.fullmatch(r"kamailio-sipdump-\d{4}-\d\d-\d\d--\d\d-\d\d-\d\d\.data", path.name)
    records = path.read_bytes().decode().split("====================\n")[1:]
    assert [re.search(r"tag: (\w+)", r)[1] for r in records] == ["rcv", "snd", "rcv", "mytag", "snd"]
    assert re.fullmatch(r"tag: rcv\npid: \d+\nprocess: 0\ntime: 1700001000\.000000\ndate: .*\nproto: udp ipv4\nsrcip: 127\.0\.0\.1\nsrcport: 6000\n"
                        r"dstip: 127\.0\.0\.1\ndstport: 5060\n~{20}\n" + re.escape(text) + r"\|{20}\n", records[0])  # fmt: skip
    assert files(tmp_path, ".meta")[0].read_text().startswith("v: 1.0\nversion: kamc ")


def test_switching(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    assert b.rpc("sipdump.enable") == {"oldval": 1, "newval": 1}
    assert b.rpc("sipdump.enable", 0) == {"oldval": 1, "newval": 0}
    b.request("OPTIONS", "sip:s@127.0.0.1")
    b.advance(1)
    assert files(tmp_path, ".data") == []


def test_rotation_and_old_files(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path, 'modparam("sipdump", "rotate", 60)\nmodparam("sipdump", "fage", 100)\n')
    old, other = tmp_path / "out" / "kamailio-sipdump-x.data", tmp_path / "out" / "mine.data"
    for path in (old, other):
        path.write_text("x")
        os.utime(path, (1, 1))
    b.request("OPTIONS")
    b.advance(61)
    b.request("OPTIONS")
    b.advance(1)
    assert len([p for p in files(tmp_path, ".data") if p.name.startswith("kamailio-sipdump-2")]) == 2
    b.advance(100)
    assert not old.exists() and other.exists()


def test_events(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path, 'modparam("sipdump", "mode", 3)\n',
               'event_route[sipdump:msg] { xlog("EV $sipdump(af) $sipdump(tag) $sipdump(proto) $sipdump(src_ip) $sipdump(src_port) $sipdump(dst_port) '
               '$sipdump(call_id)\\n"); if ($sipdump(tag) == "snd") drop; }\n')  # fmt: skip
    b.request("OPTIONS", call_id="c7")
    b.advance(0.2)
    assert [line for line in b.log.lines if "EV" in line] == ["EV ipv4 rcv udp 127.0.0.1 6000 5060 c7", "EV ipv4 snd udp 127.0.0.1 5060 6000 c7"]
    assert files(tmp_path, ".data")[0].read_text().count("tag: ") == 1


def test_a_folder_that_is_gone_loses_nothing_else(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    (tmp_path / "out").rmdir()
    b.request("OPTIONS")
    b.advance(1)
    assert any("sipdump: cannot write" in line for line in b.log.lines)
    (tmp_path / "out").mkdir()
    b.request("OPTIONS")
    b.advance(1)
    assert len(files(tmp_path, ".data")) == 1


@pytest.mark.parametrize("param", ['"folder", "/nowhere/x"', '"rotate", 0'])
def test_what_is_refused_at_start(bench, tmp_path: Path, param: str) -> None:
    with pytest.raises(ConfigError, match="sipdump"):
        server(bench, tmp_path, f'modparam("sipdump", {param})\n')
