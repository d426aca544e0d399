"""Configurations of Kamailio's own shell units (kamailio/kamailio-tests), started as those start them, by the compatible command: the answers, and what
the script logs, are what Kamailio 5.6.3 answered and logged (``tests/cases/units``; of http_async_client, which Debian does not package, what the
units ask for). The configurations lie in ``../shared/corpus``; without it nothing is run.

``KAMC_RECORD=kamailio`` in the environment writes the cases with that command instead.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kamc.runtime.dbtables import Tables
from tests import databases
from tests.conftest import ROOT

CORPUS = ROOT.parent / "shared" / "corpus" / "kamailio+kamailio-tests" / "units"
CASES = ROOT / "tests" / "cases" / "units"
RECORD = os.environ.get("KAMC_RECORD")
COMMAND = [RECORD] if RECORD else [str(Path(sys.executable).parent / "kamc-kamailio")]
#: need an interpreter of Lua, or a database of places
NOT_HERE = {"tauthx0002": "app_lua", "tregxx0002": "app_lua", "tsjlua0001": "app_lua", "tgeoip0001": "geoip2"}
OPTIONS = ("OPTIONS", "sip:alice@127.0.0.1")
MESSAGE = ("MESSAGE", "sip:alice@127.0.0.1")
#: unit → the requests that are sent: method, URI, body
UNITS: dict[str, list[tuple[str, ...]]] = {
    "tasync0001": [MESSAGE], "tauthx0001": [("REGISTER", "sip:127.0.0.1"), ("REGISTER", "sip:127.0.0.1", "", "secret"), ("REGISTER", "sip:127.0.0.1", "", "wrong")],
    "tavpop0001": [MESSAGE, OPTIONS], "tgroup0001": [("OPTIONS", "sip:test@127.0.0.1"), ("OPTIONS", "sip:other@127.0.0.1")],
    "thacxx0001": [OPTIONS], "thacxx0002": [OPTIONS], "thacxx0003": [OPTIONS], "thacxx0004": [OPTIONS], "thacxx0005": [("INVITE", "sip:alice@127.0.0.1")],
    "thacxx0006": [("INVITE", "sip:alice@127.0.0.1")], "thttpc0001": [OPTIONS], "thttpc0002": [OPTIONS], "tlcust0001": [OPTIONS],
    "tphonu0001": [OPTIONS], "tmtree0001": [("OPTIONS", "sip:1@127.0.0.1"), ("OPTIONS", "sip:49123@127.0.0.1")], "tpvxxx0001": [MESSAGE],
    "tregex0001": [("MESSAGE", "sip:alice@127.0.0.1", "HOLA"), ("MESSAGE", "sip:alice@127.0.0.1", "ADIOS"), OPTIONS],
    "tregxx0001": [("REGISTER", "sip:127.0.0.1"), MESSAGE], "tsiput0001": [OPTIONS, ("OPTIONS", "sip:+4912@127.0.0.1"), ("OPTIONS", "sip:a.b-c@127.0.0.1")],
    "tsjson0001": [OPTIONS], "tuacxx0001": [OPTIONS],
}  # fmt: skip
WITH_DATABASE = {"tauthx0001", "tgroup0001", "tmtree0001"}


class Answering(http.server.BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"{self.command} served".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def web() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(3)
    return sock


@contextmanager
def database(unit: str, folder: Path) -> Iterator[str]:
    """The URL that a configuration names it with."""
    (folder / "db").mkdir()
    with databases.server("mysql", folder / "db") as found:
        Tables(found.url).create()
        found.execute("INSERT INTO subscriber (username, domain, password) VALUES ('alice', '127.0.0.1', 'secret')",
                      "INSERT INTO grp (username, domain, grp, last_modified) VALUES ('test', '127.0.0.1', 'test', '2026-01-01 00:00:00')",
                      "INSERT INTO mtree (tprefix, tvalue) VALUES ('49', 'germany'), ('491', 'mobile')")  # fmt: skip
        yield f"mysql://root:@127.0.0.1:{found.engine.url.port}/kamailio"


class Client:
    def __init__(self, sock: socket.socket, port: int) -> None:
        self.sock, self.port, self.serial, self.challenge = sock, port, 0, ""

    def _credentials(self, method: str, uri: str, password: str) -> str:
        realm, nonce = (re.search(rf'{name}="([^"]*)"', self.challenge) for name in ("realm", "nonce"))
        assert realm is not None and nonce is not None, self.challenge

        def digest(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        response = digest(f"{digest(f'alice:{realm[1]}:{password}')}:{nonce[1]}:{digest(f'{method}:{uri}')}")
        kind = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
        return f'{kind}: Digest username="alice", realm="{realm[1]}", nonce="{nonce[1]}", uri="{uri}", response="{response}"\r\n'

    def ask(self, method: str, uri: str, body: str = "", password: str = "") -> str:
        """The answer's first line."""
        self.serial += 1
        port = self.sock.getsockname()[1]
        extra = self._credentials(method, uri, password) if password else ""
        contact = f"Contact: <sip:alice@127.0.0.1:{port}>\r\n"
        self.sock.sendto((f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKu{self.serial}\r\nFrom: <sip:alice@127.0.0.1>;tag=f\r\n"
                          f"To: <sip:alice@127.0.0.1>\r\nCall-ID: unit\r\nCSeq: {self.serial} {method}\r\nMax-Forwards: 70\r\n{contact}{extra}"
                          f"Content-Length: {len(body)}\r\n\r\n{body}").encode(), ("127.0.0.1", self.port))  # fmt: skip
        while True:
            try:
                answer = self.sock.recv(65535).decode("latin-1")
            except TimeoutError:
                return "no answer"
            if not answer.startswith("SIP/2.0 1"):
                self.challenge = answer if "Authenticate: " in answer else self.challenge
                return answer.split("\r\n")[0]


@contextmanager
def callee(sock: socket.socket) -> Iterator[None]:
    """Answers each INVITE."""

    def serve() -> None:
        while True:
            try:
                data, source = sock.recvfrom(65535)
            except (TimeoutError, OSError):
                return
            if data.startswith(b"INVITE"):
                kept = b"".join(line + b"\r\n" for line in data.split(b"\r\n") if re.match(rb"(Via|From|Call-ID|CSeq|Record-Route):", line))
                sock.sendto(b"SIP/2.0 200 OK\r\n" + kept + b"To: <sip:alice@127.0.0.1>;tag=t\r\nContact: <sip:c@127.0.0.1>\r\nContent-Length: 0\r\n\r\n", source)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    sock.close()
    thread.join()


def prepared(unit: str, folder: Path, places: dict[str, str]) -> Path:
    """The configurations of a unit, with the places of this test."""
    for path in (CORPUS / unit).glob("*.cfg"):
        text = path.read_text(encoding="latin-1")
        for old, new in places.items():
            text = text.replace(old, new)
        (folder / path.name).write_text(text, encoding="latin-1")
    return folder / f"kamailio-{unit}.cfg"


def logged(text: str) -> list[str]:
    """What the script has written."""
    found = re.findall(r"^ ?\d+\(\d+\) \w+: (?:\{[^}]*\} )?<script>: (.*)$", text, re.M)
    return [re.sub(r"\b\d{5}\b|0x[0-9a-f]+|uloc-\S+", "N", line) for line in found]


def observe(unit: str, folder: Path) -> dict[str, list[str]]:
    with ExitStack() as stack:
        sock, far = (stack.enter_context(closing(udp())) for _ in range(2))
        log_sink = stack.enter_context(closing(udp()))
        page, port = stack.enter_context(web()), databases.free_port()
        (folder / "groups").write_text("[0]\n^HOLA\n")
        places = {"127.0.0.1:8080": f"127.0.0.1:{page}", '"5080"': f'"{far.getsockname()[1]}"', ":24680": f":{log_sink.getsockname()[1]}",
                  "127.0.0.1:5060": f"127.0.0.1:{port}", "/tmp/regex_groups": f"{folder}/groups", "+ $Ri;": '+ $Ri + ":" + $Rp;'}  # fmt: skip
        if unit in WITH_DATABASE:
            places["mysql://kamailio:kamailiorw@localhost/kamailio"] = stack.enter_context(database(unit, folder))
        cfg = prepared(unit, folder, places)
        listen = [] if "listen=" in cfg.read_text(encoding="latin-1") else ["-l", f"udp:127.0.0.1:{port}"]
        log = folder / "log"
        with log.open("wb") as out:
            flags = ["-P", str(folder / "kam.pid"), "-w", str(folder), "-Y", str(folder), "-a", "no", "-dd", "-DD", "-E", *listen]
            process = subprocess.Popen([*COMMAND, "-f", str(cfg), *flags], stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            deadline = time.monotonic() + 15
            wanted = f":{port:04X} "
            while wanted not in Path("/proc/net/udp").read_text():
                assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
                time.sleep(0.02)
            time.sleep(0.5 if RECORD else 0.1)
            with callee(far):
                client = Client(sock, port)
                answers = [client.ask(*request) for request in UNITS[unit]]
                # what follows the answer in the log
                time.sleep(0.7)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        elsewhere = []
        log_sink.settimeout(0.2)
        while unit == "tlcust0001":
            try:
                elsewhere.append(re.sub(r"\(\d+\)", "(N)", log_sink.recv(65535).decode("latin-1").rstrip()))
            except TimeoutError:
                break
        return {"answers": answers, "log": logged(log.read_text(encoding="latin-1")), "elsewhere": [line for line in elsewhere if "=====" in line]}


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no ../shared beside the checkout")
@pytest.mark.parametrize("unit", sorted(UNITS))
def test_a_unit(unit: str, tmp_path: Path) -> None:
    found = observe(unit, tmp_path)
    path = CASES / f"{unit}.json"
    if RECORD:
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(path.read_text())


@pytest.mark.skipif(not CORPUS.is_dir() or bool(RECORD), reason="no ../shared beside the checkout")
@pytest.mark.parametrize(("unit", "module"), sorted(NOT_HERE.items()))
def test_units_that_need_what_is_not_here_are_refused_by_name(unit: str, module: str) -> None:
    (cfg,) = (CORPUS / unit).glob("kamailio-*.cfg")
    done = subprocess.run([*COMMAND, "-c", "-f", str(cfg)], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and module in done.stdout + done.stderr


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no ../shared beside the checkout")
def test_a_configuration_that_is_wrong_either_way() -> None:
    cfg = str(CORPUS / "tcfgxx0003" / "kamailio-tcfgxx0003.cfg")
    statuses = [subprocess.run([*COMMAND, "-c", *more, "-f", cfg], capture_output=True, timeout=60).returncode for more in ((), ("-A", "WITH_ME"))]
    assert [bool(status) for status in statuses] == [True, True]
