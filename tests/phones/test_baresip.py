"""Two real phones register with their passwords and talk, through Kamailio's default configuration: ``pytest tests/phones`` (skipped without Debian's baresip)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kamc.runtime.dbtables import Tables
from tests.conftest import SHARED, Server
from tests.databases import free_port
from tests.integration.test_reload import rpc, until

DEFAULT = SHARED / "corpus" / "kamailio+kamailio" / "etc" / "kamailio.cfg"
MODULES = Path("/usr/lib/baresip/modules")
#: sound that needs no hardware: what comes in goes out again
CONFIG = """poll_method epoll
sip_listen 127.0.0.1:{port}
net_interface 127.0.0.1
call_local_timeout 60
call_max_calls 4
audio_source aubridge,sound-{name}
audio_player aubridge,sound-{name}
audio_alert aubridge,alert-{name}
module_path {modules}
module g711.so
module aubridge.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
"""
ACCOUNT = "<sip:{name}@127.0.0.1:{server};transport=udp>;auth_user={name};auth_pass={password};answermode=auto;regint=60;audio_codecs=PCMU\n"

pytestmark = [
    pytest.mark.skipif(shutil.which("baresip") is None or not MODULES.is_dir(), reason="baresip is not installed"),
    pytest.mark.skipif(not DEFAULT.is_file(), reason="Kamailio's default configuration is not there"),
]


class Baresip:
    def __init__(self, folder: Path, name: str, server: int, password: str, *command: str) -> None:
        folder.mkdir()
        # it binds the port behind its own, too, for TLS
        port = free_port()
        (folder / "config").write_text(CONFIG.format(port=port, name=name, modules=MODULES))
        (folder / "accounts").write_text(ACCOUNT.format(name=name, server=server, password=password))
        (folder / "contacts").write_text("")
        self.log = folder / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(["baresip", "-4", "-f", str(folder), "-t", "40", *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def said(self, what: str) -> bool:
        return re.search(what, self.log.read_text(errors="replace")) is not None

    def wait(self, what: str) -> None:
        until(lambda: self.said(what) or self.process.poll() is not None)
        assert self.said(what), self.log.read_text(errors="replace")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=10)


@contextmanager
def phones(*made: Baresip) -> Iterator[None]:
    try:
        yield
    finally:
        for phone in made:
            phone.stop()


@pytest.fixture
def server(serve: Callable[..., Server], tmp_path: Path) -> Server:
    url = f"sqlite:///{tmp_path}/kamailio.db"
    tables = Tables(url)
    tables.create()
    for name in ("ann", "bob"):
        tables.add_user(f"{name}@127.0.0.1", f"secret-{name}")
    tables.close()
    text = DEFAULT.read_text(encoding="latin-1").replace("db_mysql.so", "db_sqlite.so")
    return serve(text, "-A", "WITH_MYSQL", "-A", "WITH_AUTH", "-A", f'DBURL="{url}"')


def test_two_phones_talk(server: Server, tmp_path: Path) -> None:
    bob = Baresip(tmp_path / "bob", "bob", server.port, "secret-bob")
    with phones(bob):
        bob.wait(r"200 OK .*\[1 binding\]")
        ann = Baresip(tmp_path / "ann", "ann", server.port, "secret-ann", "-e", f"/dial sip:bob@127.0.0.1:{server.port}")
        with phones(ann):
            ann.wait("Call established")
            bob.wait("Call established")
            ann.wait("incoming rtp for 'audio' established")
            assert {aor["Info"]["AoR"] for aor in rpc(server, "ul.dump")["Domains"][0]["Domain"]["AoRs"]} == {"ann", "bob"}
        # ending her phone hangs up, and signs off
        bob.wait("session closed|terminated")
        until(lambda: {aor["Info"]["AoR"] for aor in rpc(server, "ul.dump")["Domains"][0]["Domain"]["AoRs"]} == {"bob"})
    assert "Traceback" not in server.text()


def test_a_wrong_password(server: Server, tmp_path: Path) -> None:
    eve = Baresip(tmp_path / "eve", "ann", server.port, "guess")
    with phones(eve):
        eve.wait(r"401 Unauthorized|403|Authentication")
        assert not eve.said(r"\[1 binding\]")
    assert rpc(server, "ul.dump")["Domains"] == [] or rpc(server, "ul.dump")["Domains"][0]["Domain"]["AoRs"] == []
