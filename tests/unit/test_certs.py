"""kamc certs."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from kamc.cli import main


def test_a_client_that_trusts_the_authority_takes_the_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certs"
    assert main(["certs", "-o", str(folder), "sip.example.com", "127.0.0.1"]) == 0
    printed = capsys.readouterr().out
    assert f"certificate = {folder}/server.crt\n" in printed and (folder / "server.key").stat().st_mode & 0o77 == 0
    authority = (folder / "ca.crt").read_bytes()
    assert main(["certs", "-o", str(folder), "127.0.0.1"]) == 0
    assert (folder / "ca.crt").read_bytes() == authority
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(folder / "server.crt", folder / "server.key")
    trusting = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    left, right = socket.socketpair()
    with left, right:
        thread = threading.Thread(target=lambda: served.wrap_socket(left, server_side=True).close())
        thread.start()
        with trusting.wrap_socket(right, server_hostname="127.0.0.1") as sock:
            assert sock.version() in ("TLSv1.2", "TLSv1.3")
        thread.join()


@pytest.mark.parametrize("hosts", [["a..b"], ["x" * 300]])
def test_bad_names(tmp_path: Path, hosts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "-o", str(tmp_path), *hosts]) == 1
    assert "neither an address nor a host name" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["certs", "-o", str(tmp_path / "file"), "h.test"]) == 1
    assert "cannot write" in capsys.readouterr().err
    (tmp_path / "ca.key").write_text("nonsense")
    (tmp_path / "ca.crt").write_text("nonsense")
    assert main(["certs", "-o", str(tmp_path), "h.test"]) == 1
