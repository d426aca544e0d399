"""What attackers send, against a server with passwords, a database, accounting, commands and bans: each does nothing."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kamc.runtime.dbtables import Tables
from tests.conftest import Server
from tests.integration.test_reload import rpc, until

TEXT = """#!KAMAILIO
debug=1
loadmodule "db_sqlite.so"
loadmodule "jsonrpcs.so"
loadmodule "kex.so"
loadmodule "corex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "auth_db.so"
loadmodule "acc.so"
loadmodule "htable.so"
loadmodule "alias_db.so"
loadmodule "sqlops.so"
modparam("auth_db", "db_url", "DBURL")
modparam("auth_db", "calculate_ha1", 1)
modparam("auth_db", "password_column", "password")
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")
modparam("acc", "db_url", "DBURL")
modparam("acc", "db_flag", 1)
modparam("acc", "db_extra", "ua=$ua;subject=$hdr(Subject)")
modparam("alias_db", "db_url", "DBURL")
modparam("sqlops", "sqlcon", "ca=>DBURL")
modparam("htable", "htable", "fails=>size=8;autoexpire=60;initval=0")
modparam("jsonrpcs", "transport", 6)
modparam("jsonrpcs", "dgram_socket", "RUN/rpc.sock")
request_route {
	if ($sht(fails=>$si) > 4) { sl_send_reply("403", "Banned"); exit; }
	if ($hdr(X-Own) == "log") { xlog("L_ERR", "subject $hdr(Subject) user $(rU{s.unescape.user})\\n"); sl_send_reply("200", "OK"); exit; }
	if ($hdr(X-Own) == "header") { append_to_reply("X-User: $(rU{s.unescape.user})\\r\\n"); sl_send_reply("200", "OK"); exit; }
	if ($hdr(X-Own) == "sql") {
		sql_query("ca", "select count(*) from subscriber where username='$(fU{s.escape.common})'", "r");
		sl_send_reply("200", "Found $dbr(r=>[0,0])");
		exit;
	}
	if ($hdr(X-Own) == "alias") { if (alias_db_lookup("dbaliases")) sl_send_reply("200", "Alias"); else sl_send_reply("404", "None"); exit; }
	if ($hdr(X-Own) == "acc") { setflag(1); t_newtran(); t_reply("200", "OK"); exit; }
	if (is_method("REGISTER")) {
		if (!www_authenticate("h", "subscriber")) {
			if ($rc == -2) $sht(fails=>$si) = $sht(fails=>$si) + 1;
			www_challenge("h", "1");
			exit;
		}
		save("location");
		exit;
	}
	sl_send_reply("200", "OK");
}
"""
SQL = ["' or '1'='1", "'; drop table subscriber; --", '" or ""="', "\\", "\\'; drop table subscriber; --", "%' or 1=1 --", "a' union select 1,2,3 --"]


@pytest.fixture
def server(serve: Callable[..., Server], tmp_path: Path) -> Iterator[Server]:
    path = tmp_path / "kamailio.db"
    tables = Tables(f"sqlite:///{path}")
    tables.create()
    tables.add_user("ann@h", "secret")
    tables.close()
    with sqlite3.connect(path) as db:
        db.execute("alter table acc add ua text")
        db.execute("alter table acc add subject text")
    yield serve(TEXT.replace("DBURL", f"sqlite:///{path}").replace("RUN", str(tmp_path)))


def rows(server: Server, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(server.cfg.parent.parent / "kamailio.db") as db:
        return db.execute(query).fetchall()


def first(text: str) -> str:
    return text.split("\r\n")[0].removeprefix("SIP/2.0 ")


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def proof(challenge: str, user: str, password: str, *, nc: str = "00000001") -> str:
    values = dict(re.findall(r'(\w+)="([^"]*)"', challenge.partition("WWW-Authenticate:")[2].partition("\r\n")[0]))
    digest = md5(f"{md5(f'{user}:h:{password}')}:{values['nonce']}:{nc}:c:auth:{md5('REGISTER:sip:h')}")
    name = user.replace("\\", "\\\\").replace('"', '\\"')
    return (f'Authorization: Digest username="{name}", realm="h", nonce="{values["nonce"]}", uri="sip:h", qop=auth, nc={nc}, cnonce="c", response="{digest}"')


def challenge(server: Server) -> str:
    answer = server.ask("REGISTER", "sip:h", to="<sip:ann@h>")
    assert first(answer) == "401 Unauthorized"
    return answer


@pytest.mark.parametrize("evil", SQL)
def test_sql_in_names(server: Server, evil: str) -> None:
    assert first(server.ask("REGISTER", "sip:h", proof(challenge(server), evil, "x"), to="<sip:ann@h>")) == "401 Unauthorized"
    quoted = "".join(c if c.isalnum() else f"%{ord(c):02x}" for c in evil)
    for user in (quoted, re.sub(r'[\s"\\<>%]', "", evil)):
        assert first(server.ask("OPTIONS", f"sip:{user}@h", "X-Own: alias")) in ("404 None", "400 Bad Request")
    assert rows(server, "select username, password from subscriber") == [("ann", "secret")]


@pytest.mark.parametrize("evil", SQL)
def test_sql_in_headers(server: Server, evil: str) -> None:
    """Is stored as it is."""
    assert first(server.ask("MESSAGE", "sip:bob@h", "X-Own: acc", f"User-Agent: {evil}", f"Subject: {evil}")) == "200 OK"
    until(lambda: rows(server, "select ua, subject from acc") == [(evil, evil)])
    assert rows(server, "select username from subscriber") == [("ann",)]


def test_sql_of_the_script(server: Server) -> None:
    """Texts that the configuration escapes, as sqlops of Kamailio wants it."""
    text = ("OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{};branch=z9hG4bKq;rport\r\nFrom: <sip:x'or'1'='1@h>;tag=1\r\nTo: <sip:h>\r\nCall-ID: q\r\n"
            "CSeq: 1 OPTIONS\r\nX-Own: sql\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
    server.sock.sendto(text.format(server.sock.getsockname()[1]).encode(), server.address)
    assert first(server.receive()) in ("200 Found 0", "200 Found <null>")


@pytest.mark.parametrize("user", ["a%0d%0aX-Evil:%201", "a%0aX-Evil:%201", "a%0dX-Evil:%201", "%0d%0a%0d%0aSIP/2.0%20200%20OK"])
def test_line_ends_in_values_begin_no_header(server: Server, user: str) -> None:
    answer = server.ask("OPTIONS", f"sip:{user}@h", "X-Own: header")
    assert first(answer) == "200 OK" and "\nX-Evil" not in answer and "\rX-Evil" not in answer and answer.count("SIP/2.0 200") == 1


@pytest.mark.parametrize("subject", ["a\r\n  1(99) ERROR: <script>: forged", "a\r\n\t1(99) ERROR: <script>: forged", "\x1b[2Jgone", "a\r\n " + "x" * 3000])
def test_a_value_forges_no_log_line(server: Server, subject: str) -> None:
    server.ask("OPTIONS", "sip:a%0a%201(99)%20ERROR:%20forged@h", "X-Own: log", f"Subject: {subject}")
    lines = server.text().splitlines()
    assert any("subject" in line for line in lines) and not [line for line in lines if re.match(r"\s*\d+\(99\) ", line)]


BAD_RPC = [b"", b"\x00", b"{", b"[]", b"null", b'"x"', b"[" * 5000, b'{"jsonrpc": "2.0"}', b'{"method": 5, "id": 1}',
           b'{"jsonrpc": "2.0", "method": "core.echo", "params": 7, "id": 1}', b'{"jsonrpc": "2.0", "method": "core.echo", "params": {"a": [[[[]]]]}, "id": 1}',
           b'{"jsonrpc": "2.0", "method": "__class__", "id": 1}', b'{"jsonrpc": "2.0", "method": "core.echo\\u0000", "id": 1}', b"\xff\xfe{}",
           b'{"jsonrpc": "2.0", "method": "ul.dump", "params": ["' + b"x" * 30_000 + b'"], "id": 1}',
           b'{"jsonrpc": "2.0", "method": "htable.dump", "params": ["../../etc/passwd"], "id": 1}',
           b'{"jsonrpc": "2.0", "method": "corex.debug", "params": [1e999], "id": 1}',
           b'{"jsonrpc": "2.0", "method": "core.printi", "params": ["x"], "id": 1}']  # fmt: skip


def test_bad_commands(server: Server, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "me"))
        sock.settimeout(0.2)
        for request in BAD_RPC:
            sock.sendto(request, str(tmp_path / "rpc.sock"))
            try:
                answer = json.loads(sock.recv(65536))
            except TimeoutError:
                continue
            # these two take anything
            assert "error" in answer or b'"core.echo"' in request or b'"ul.dump"' in request, request
    assert rpc(server, "core.echo", "still", "here") == ["still", "here"] and "Traceback" not in server.text()


def test_a_proof_counts_once(server: Server) -> None:
    answer = proof(challenge(server), "ann", "secret")
    assert first(server.ask("REGISTER", "sip:h", answer, to="<sip:ann@h>")) == "200 OK"
    assert first(server.ask("REGISTER", "sip:h", answer, to="<sip:ann@h>")) == "401 Unauthorized"
    assert first(server.ask("REGISTER", "sip:h", answer.replace("nc=00000001", "nc=00000002"), to="<sip:ann@h>")) == "401 Unauthorized"


def test_guessing_is_banned(server: Server) -> None:
    for n in range(5):
        assert first(server.ask("REGISTER", "sip:h", proof(challenge(server), "ann", f"guess{n}"), to="<sip:ann@h>")) == "401 Unauthorized"
    assert first(server.ask("REGISTER", "sip:h", to="<sip:ann@h>")) == "403 Banned"
    assert first(server.ask("OPTIONS", "sip:x@h")) == "403 Banned"


def test_nonces_of_others(server: Server) -> None:
    made_up = 'WWW-Authenticate: Digest realm="h", nonce="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"\r\n'
    assert first(server.ask("REGISTER", "sip:h", proof(made_up, "ann", "secret"), to="<sip:ann@h>")) == "401 Unauthorized"
