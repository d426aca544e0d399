"""TLS: the sections of tls.cfg, and connections over real sockets on loopback. Variables as those of Kamailio 5.6.3."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamc.errors import ConfigError
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.tcp import bind_tcp
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.tls.config import Domain, Domains, parse, versions
from tests.certificates import Authority
from tests.harness import Bench
from tests.unit.test_tcp import Loop

SECTIONS = """
# comment
[server:default]
certificate = server.crt
private_key = "server.key"
verify_certificate = {verify}
require_certificate = {require}
ca_list = ca.crt
[server:any]
server_name = second.test
server_name_mode = 1
certificate = second.crt
private_key = second.key
[client:default]
verify_certificate = {check}
ca_list = ca.crt
certificate = client.crt
private_key = client.key
"""
FIELDS = ("version", "peer_version", "my_serial", "my_subject_cn", "my_issuer_cn", "my_subject_organization", "my_san_hostname", "my_san_ip", "peer_subject_cn",
          "peer_subject_uid", "peer_san_email", "peer_san_uri", "peer_verified", "peer_expired", "peer_selfsigned", "peer_notBefore", "peer_server_name",
          "my_subject")  # fmt: skip


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    authority = Authority(folder)
    for name in ("server", "second", "client"):
        authority.issue(name)
    authority.issue("old", days=-1)
    other = folder / "other"
    other.mkdir()
    Authority(other).issue("stranger")
    return folder


class Secure:
    """A bench whose hub serves a TLS socket."""

    def __init__(self, bench: Callable[..., Bench], certificates: Path, body: str, *, verify: str = "no", require: str = "no", check: str = "no",
                 params: str = "") -> None:  # fmt: skip
        text = re.sub(r"(\w+\.(?:crt|key))", rf"{certificates}/\1", SECTIONS)
        (certificates / "tls.cfg").write_text(text.format(verify=verify, require=require, check=check))
        self.bench = bench(f'loadmodule "tls.so"\nmodparam("tls", "config", "{certificates}/tls.cfg")\n{params}\n{body}'.replace("@C@", str(certificates)))
        self.folder = certificates
        self.loop = Loop()
        self.hub = self.bench.worker.streams
        self.server = bind_tcp(Listener("tls", "127.0.0.1", 0))
        self.listener = Listener("tls", *self.server.getsockname())
        self.bench.worker.listeners.append(self.listener)
        self.bench.worker.datapath.add_listener(self.listener, self.hub.send)
        self.hub.serve(self.loop, self.listener, self.server)
        self.sockets: list[socket.socket] = [self.server]

    def context(self, name: str = "") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if name:
            context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return context

    def connect(self, certificate: str = "", name: str = "server.test") -> ssl.SSLSocket:
        """A client after its handshake. Raises ssl.SSLError or OSError."""
        raw = socket.create_connection(self.listener_address(), timeout=5)
        raw.setblocking(False)
        sock = self.context(certificate).wrap_socket(raw, server_hostname=name, do_handshake_on_connect=False)
        self.sockets.append(sock)
        self.shake(sock)
        return sock

    def listener_address(self) -> tuple[str, int]:
        return self.listener.host, self.listener.port

    def shake(self, sock: ssl.SSLSocket) -> None:
        for _ in range(200):
            try:
                sock.do_handshake()
                return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self.loop.turn(0.05)
        raise AssertionError("no handshake")

    def ask(self, sock: ssl.SSLSocket, *lines: str) -> str:
        sock.send(("OPTIONS sip:x@h SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:9;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n"
                   "Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n" + "".join(x + "\r\n" for x in lines) + "Content-Length: 0\r\n\r\n").encode())  # fmt: skip
        return self.read(sock)

    def read(self, sock: ssl.SSLSocket) -> str:
        for _ in range(200):
            try:
                return sock.recv(65536).decode("latin-1")
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self.loop.turn(0.05)
        raise AssertionError("nothing came")

    def close(self) -> None:
        self.hub.shutdown()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def secure(bench: Callable[..., Bench], certificates: Path) -> Iterator[Callable[..., Secure]]:
    made: list[Secure] = []

    def make(body: str, **options: Any) -> Secure:
        made.append(Secure(bench, certificates, body, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


SHOW = 'request_route { ' + "".join(f'append_to_reply("X-{f}: $tls_{f}\\r\\n"); ' for f in FIELDS) + (
    'append_to_reply("X-count: $tls_my_san_count(DNS)$tls_peer_san_count(DNS)\\r\\nX-line: $tls(m_subject_line)\\r\\n"); '
    '$var(v) = is_peer_verified(); sl_send_reply("200", "$proto $var(v)"); }')  # fmt: skip


def fields(reply: str) -> dict[str, str]:
    return dict(re.findall(r"^X-(\w+): (.*?)\r$", reply, re.M))


def test_what_is_known_of_a_connection(secure: Callable[..., Secure]) -> None:
    s = secure(SHOW)
    reply = s.ask(s.connect())
    assert reply.startswith("SIP/2.0 200 tls -1\r\n")
    found = fields(reply)
    assert found.pop("line").startswith("UID=uid-server,CN=server.test,")
    assert found == {
        "version": "TLSv1.3", "peer_version": "<null>", "my_serial": "12345", "my_subject_cn": "server.test", "my_issuer_cn": "ca.test",
        "my_subject_organization": "Org server", "my_san_hostname": "server.test", "my_san_ip": "127.0.0.1", "peer_subject_cn": "<null>",
        "peer_subject_uid": "<null>", "peer_san_email": "<null>", "peer_san_uri": "<null>", "peer_verified": "0", "peer_expired": "0", "peer_selfsigned": "0",
        "peer_notBefore": "<null>", "peer_server_name": "server.test", "my_subject": "<null>", "count": "20",
    }  # fmt: skip


def test_a_client_that_shows_itself(secure: Callable[..., Secure]) -> None:
    s = secure(SHOW, verify="yes")
    reply = s.ask(s.connect("client"))
    assert reply.startswith("SIP/2.0 200 tls 1\r\n")
    found = fields(reply)
    wanted = {"peer_subject_cn": "client.test", "peer_subject_uid": "uid-client", "peer_san_email": "client@san.test", "peer_san_uri": "sip:client.test",
              "peer_verified": "1", "peer_notBefore": "Jan  2 03:04:05 2020 GMT", "peer_version": "2", "count": "22"}  # fmt: skip
    assert {k: found[k] for k in wanted} == wanted


@pytest.mark.parametrize(("require", "certificate", "good"), [
    ("no", "", True), ("yes", "", False), ("yes", "client", True), ("no", "old", False), ("no", "other/stranger", False),
])  # fmt: skip
def test_who_is_let_in(secure: Callable[..., Secure], require: str, certificate: str, good: bool) -> None:
    s = secure(SHOW, verify="yes", require=require)
    try:
        reply = s.ask(s.connect(certificate))
    except OSError:
        reply = ""
    assert reply.startswith("SIP/2.0 200") == good
    if not good:
        assert any("tls handshake" in line for line in s.bench.log.lines)


@pytest.mark.parametrize(("name", "shown"), [
    ("server.test", "server.test"), ("second.test", "second.test"), ("a.SECOND.test", "second.test"), ("xsecond.test", "server.test"),
])  # fmt: skip
def test_a_certificate_by_name(secure: Callable[..., Secure], name: str, shown: str) -> None:
    s = secure(SHOW)
    assert fields(s.ask(s.connect(name=name)))["my_subject_cn"] == shown


def test_plain_text_on_a_tls_socket(secure: Callable[..., Secure]) -> None:
    s = secure(SHOW)
    raw = socket.create_connection(s.listener_address(), timeout=5)
    s.sockets.append(raw)
    s.loop.until(lambda: bool(s.hub.connections))
    raw.send(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
    s.loop.until(lambda: not s.hub.connections)
    try:
        answer = b"".join(iter(lambda: raw.recv(1000), b""))
    except ConnectionResetError:  # what was not read when the server closed
        answer = b""
    assert not answer.startswith(b"SIP/2.0")


def test_a_handshake_that_does_not_come_ends(secure: Callable[..., Secure]) -> None:
    s = secure(SHOW)
    s.sockets.append(socket.create_connection(s.listener_address(), timeout=5))
    s.loop.until(lambda: bool(s.hub.connections))
    assert s.bench.rpc("tls.list")[0]["state"] == "handshake"
    s.bench.time += 11
    s.hub.close_idle()
    assert s.bench.rpc("tls.list") == []


def test_a_reload_keeps_connections(secure: Callable[..., Secure]) -> None:
    s = secure(SHOW)
    first = s.connect()
    s.ask(first)
    path = s.folder / "tls.cfg"
    path.write_text(path.read_text().replace("server.crt", "second.crt").replace("server.key", "second.key"))
    assert s.bench.rpc("tls.reload").startswith("Ok")
    assert fields(s.ask(first))["my_subject_cn"] == "server.test"
    assert fields(s.ask(s.connect()))["my_subject_cn"] == "second.test"
    path.write_text("[server:default]\ncertificate = nowhere.crt\n")
    with pytest.raises(RpcFault, match=r"cannot read .*nowhere\.crt"):
        s.bench.rpc("tls.reload")
    assert fields(s.ask(s.connect()))["my_subject_cn"] == "second.test"


def test_connections_are_listed_and_ended(secure: Callable[..., Secure]) -> None:
    s = secure(SHOW)
    s.ask(s.connect())
    (row,) = s.bench.rpc("tls.list")
    assert (row["state"], row["dst_port"], row["timeout"]) == ("established", s.listener.port, 600)
    assert row["cipher"].startswith("TLS_")
    assert s.bench.rpc("core.tcp_list")[0]["type"] == "TLS"
    assert s.bench.rpc("tls.info")["opened_connections"] == s.bench.rpc("core.tcp_info")["opened_tls_connections"] == 1
    assert s.bench.rpc("tls.kill", row["id"]) == "Ok"
    assert s.bench.rpc("tls.list") == []
    with pytest.raises(RpcFault, match="No such"):
        s.bench.rpc("tls.kill", row["id"])


# -- connections that we open ------------------------------------------------------------------------------------------------


class Peer:
    """A TLS server behind us."""

    def __init__(self, s: Secure, certificate: str, *, verify: bool = False) -> None:
        self.s = s
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(s.folder / f"{certificate}.crt", s.folder / f"{certificate}.key")
        self.asked: list[str | None] = []
        self.context.sni_callback = lambda sock, name, context: self.asked.append(name)
        if verify:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(s.folder / "ca.crt")
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(5)
        s.sockets.append(self.socket)
        self.port = self.socket.getsockname()[1]

    def accept(self) -> ssl.SSLSocket:
        raw, _ = self.socket.accept()
        raw.setblocking(False)
        sock = self.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        self.s.sockets.append(sock)
        self.s.shake(sock)
        return sock


RELAY = 'request_route {{ {before} $du = "sip:127.0.0.1:" + $hdr(X-Port) + ";transport=tls"; t_relay(); }}\n{after}'


@pytest.mark.parametrize(("before", "params", "asked"), [
    ("", "", []), ('$xavp(tls=>server_name) = "peer.test";', 'modparam("tls", "xavp_cfg", "tls")', ["peer.test"]),
])  # fmt: skip
def test_a_request_goes_out_over_tls(secure: Callable[..., Secure], before: str, params: str, asked: list[str]) -> None:
    s = secure(RELAY.format(before=before, after=""), check="yes", params=params)
    peer = Peer(s, "server", verify=True)
    s.bench.request("MESSAGE", "sip:bob@h", f"X-Port: {peer.port}")
    got = s.read(peer.accept())
    assert got.startswith("MESSAGE sip:bob@h SIP/2.0\r\n")
    assert f"Via: SIP/2.0/TLS 127.0.0.1:{s.listener.port};branch=" in got
    assert peer.asked == (asked or [None])


def test_a_peer_that_is_not_trusted(secure: Callable[..., Secure]) -> None:
    s = secure(RELAY.format(before="", after=""), check="yes")
    peer = Peer(s, "other/stranger")
    s.bench.request("MESSAGE", "sip:bob@h", f"X-Port: {peer.port}")
    with pytest.raises(OSError):
        s.read(peer.accept())
    s.loop.until(lambda: not s.hub.connections)
    s.bench.advance(0)
    assert s.bench.firsts()[-1].startswith("SIP/2.0 477")
    assert any("tls handshake" in line for line in s.bench.log.lines)


def test_a_connection_that_a_script_drops(secure: Callable[..., Secure]) -> None:
    s = secure(RELAY.format(before="", after="event_route[tls:connection-out] { drop; }"))
    peer = Peer(s, "server")
    s.bench.request("MESSAGE", "sip:bob@h", f"X-Port: {peer.port}")
    s.loop.until(lambda: not s.hub.connections)
    s.bench.advance(0)
    assert s.bench.firsts()[-1].startswith("SIP/2.0 477")


# -- tls.cfg -----------------------------------------------------------------------------------------------------------------


def read(text: str, folder: Path) -> Domains:
    return Domains(parse(text, "tls.cfg", {}, lambda name: folder / name))


def test_which_section_counts(certificates: Path) -> None:
    own = "certificate = server.crt\nprivate_key = server.key\n"
    d = read(f"[server:default]\n{own}[server:127.0.0.1:5061]\n{own}[server:[::1]:5061]\n{own}[client:default]\n[client:10.0.0.1:5061]\nserver_id = one\n"
             "[client:10.0.0.1:5062]\nserver_name = x.test\n[client:any]\nserver_id = two\nserver_name = two.test\n", certificates)  # fmt: skip

    def title(found: Domain | None) -> str:
        return found.title if found is not None else ""

    assert title(d.find_server(("127.0.0.1", 5061))) == "[server:127.0.0.1:5061]"
    assert title(d.find_server(("::1", 5061))) == "[server:::1:5061]"
    assert title(d.find_server(("127.0.0.1", 5062))) == "[server:default]"
    assert title(d.find_client(("10.0.0.1", 5061))) == "[client:10.0.0.1:5061]"
    assert title(d.find_client(("10.0.0.1", 5062))) == "[client:default]"
    assert title(d.find_client(("10.0.0.1", 5062), "x.test")) == "[client:10.0.0.1:5062]"
    assert title(d.find_client(("10.0.0.9", 1), "two.test")) == "[client:any]"
    assert title(d.find_client(("10.0.0.9", 1), "", "one")) == "[client:10.0.0.1:5061]"
    assert title(d.find_client(("10.0.0.9", 1), "", "nobody")) == "[client:default]"


@pytest.mark.parametrize(("text", "message"), [
    ("certificate = x", "before the first section"), ("[server]", "is no section"), ("[peer:default]", "is no section"), ("[server:default]\nx", "neither"),
    ("[server:default]\nx = y", "unknown option 'x'"), ("[server:default]\nverify_certificate = perhaps", "neither yes nor no"),
    ("[server:default]\nverify_client = optional_no_ca", "not implemented"), ("[server:default]\nverify_client = x", "off, on or optional"),
    ("[server:default]\nverify_depth = x", "invalid literal"), ("[server:default]", "has no certificate"),
    ("[server:default]\ncertificate = no.crt", "cannot read .*no.crt"), ("[server:default]\ncertificate = ca.key", "PEM|SSL|NO_START|unknown"),
    ("[client:default]\nmethod = SSLv3", "SSLv3"), ("[client:default]\ncipher_list = none-of-them", "NO_CIPHER|No cipher"),
    ("[client:default]\nca_list = no.crt", "cannot read .*no.crt"), ("[server:default]\ncertificate = server.crt\nprivate_key = client.key", "MISMATCH|mismatch"),
])  # fmt: skip
def test_what_cannot_be_read_is_named(certificates: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(text, certificates)
    assert "tls.cfg:" in str(caught.value)


@pytest.mark.parametrize(("method", "expected"), [
    ("TLSv1.2", (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)), ("tlsv1.2+", (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED)),
    ("TLSv1.3", (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)), ("SSLv23", (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED)),
])  # fmt: skip
def test_versions(method: str, expected: tuple[ssl.TLSVersion, ssl.TLSVersion]) -> None:
    assert versions(method) == expected


@pytest.mark.parametrize(("params", "message"), [
    ('modparam("tls", "config", "/nowhere/tls.cfg")', "cannot read /nowhere/tls.cfg"), ("", "cannot read .*cert.pem"),
    ('modparam("tls", "engine", "pkcs11")', "engines"), ('modparam("tls", "key_password_mode", 1)', "key_password_mode"),
    ('modparam("tls", "verify_client", "x")', "verify_client"),
])  # fmt: skip
def test_parameters_that_make_no_sense(bench: Callable[..., Bench], params: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench(f'loadmodule "tls.so"\n{params}\nrequest_route {{ exit; }}')


def test_certificates_by_parameter(bench: Callable[..., Bench], certificates: Path) -> None:
    b = bench(f'loadmodule "tls.so"\nmodparam("tls", "certificate", "{certificates}/server.crt")\nmodparam("tls", "private_key", "{certificates}/server.key")\n'
              'modparam("tls", "verify_depth", 3)\nrequest_route { exit; }')  # fmt: skip
    found = b.worker.rt.module("tls").domains.find_server(("127.0.0.1", 5061))
    assert found is not None and found.title == "[server:default]"
    assert any("verify_depth has no effect" in line for line in b.log.lines)
    assert b.rpc("tls.options")["certificate"] == f"{certificates}/server.crt"
