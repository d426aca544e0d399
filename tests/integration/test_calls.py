"""Calls between phones of every transport: through Kamailio's default configuration where it is there, and through the sample."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.conftest import ROOT, SHARED, Server
from tests.phone import DOMAIN, Phone

DEFAULT = SHARED / "corpus" / "kamailio+kamailio" / "etc" / "kamailio.cfg"
HEAD = """#!KAMAILIO
#!define WITH_TLS
enable_tls=yes
disable_tcp=no
tcp_accept_no_cl=yes
"""
#: what the handbook of module websocket adds for browsers
BROWSERS = """
loadmodule "nathelper.so"
loadmodule "xhttp.so"
loadmodule "websocket.so"
modparam("nathelper|registrar", "received_avp", "$avp(RECEIVED)")
event_route[xhttp:request] {
    if ($hdr(Upgrade) =~ "websocket") { ws_handle_handshake(); exit; }
    xhttp_reply("404", "Not Found", "", "");
}
route[BROWSERS] {
    if (proto != WS && proto != WSS) return;
    force_rport();
    if (is_method("REGISTER")) { fix_nated_register(); } else if (is_first_hop()) { add_contact_alias(); }
}
onreply_route {
    if (proto == WS || proto == WSS) add_contact_alias();
}
"""


def configuration(path: Path, folder: Path) -> str:
    Authority(folder).issue("server")
    (folder / "tls.cfg").write_text(f"[server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n"
                                    f"private_key = {folder}/server.key\ncertificate = {folder}/server.crt\n")  # fmt: skip
    text = path.read_text(encoding="latin-1").replace("disable_tcp=yes", "")
    text = re.sub(r'(modparam\("tls", "config", ")[^"]*', rf"\1{folder}/tls.cfg", text)
    head, begin, rest = text.partition("\nrequest_route {\n")
    if 'loadmodule "tls.so"' not in head:
        head += f'\nloadmodule "tls.so"\nmodparam("tls", "config", "{folder}/tls.cfg")\n'
    rest = rest.replace("route[RELAY] {\n", "route[RELAY] {\n\tif (!isdsturiset()) handle_ruri_alias();\n", 1)
    return HEAD + head + BROWSERS + begin + "\troute(BROWSERS);\n" + rest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


SAMPLE = ROOT / "samples" / "kamailio.cfg"


@pytest.mark.parametrize(("base", "workers"), [(DEFAULT, "1"), (SAMPLE, "1"), (SAMPLE, "3")], ids=["default", "sample", "sample-3-workers"])
def test_phones_of_every_transport_call_each_other(serve: Callable[..., Server], tmp_path: Path, base: Path, workers: str) -> None:
    if not base.is_file():
        pytest.skip(f"{base.name} of Kamailio is not there")
    streams, secure = free_port(), free_port()
    server = serve(configuration(base, tmp_path), "-l", f"tcp:127.0.0.1:{streams}", "-l", f"tls:127.0.0.1:{secure}", "--alias", DOMAIN, "--workers", workers)
    ports = {"udp": server.port, "tcp": streams, "ws": streams, "tls": secure, "wss": secure}
    phones = [Phone(transport, transport, port) for transport, port in ports.items()]
    try:
        for phone in phones:
            phone.register()
        for caller in phones:
            for callee in phones:
                if callee is not caller:
                    caller.call(callee)
        for phone in phones:
            phone.register(expires=0)
    except Exception:
        print(server.text())
        raise
    finally:
        for phone in phones:
            phone.close()
