"""Module auth_db over a text database: which row, which column, which code."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROWS = "1:alice:db.test:wonder:HA1:HA1B:sip\\:1234@db.test\n2:alice:else.test:other:x:x:\n"
HEADER = "id(int,auto) username(string) domain(string) password(string) ha1(string) ha1b(string) rpid(string,null)\n"


def md5(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()


def server(bench, tmp_path: Path, params: str = "", version: int = 7):
    folder = tmp_path / "dbtext"
    folder.mkdir()
    rows = ROWS.replace("HA1B", md5("alice@db.test", "db.test", "wonder")).replace("HA1", md5("alice", "db.test", "wonder"))
    (folder / "subscriber").write_text(HEADER + rows)
    (folder / "version").write_text(f"table_name(string) table_version(int)\nsubscriber:{version}\n")
    return bench('loadmodule "db_text.so"\nloadmodule "auth.so"\nloadmodule "auth_db.so"\n' + f'modparam("auth_db", "db_url", "text://{folder}")\n{params}'
                 'request_route { if (is_subscriber("$fu", "subscriber", "1")) $var(s) = "known"; else $var(s) = "unknown";\n'
                 'if (auth_check("db.test", "subscriber", "1")) sl_send_reply("200", "$var(s) $avp(rpid)"); else { $var(c) = $rc; '
                 'append_to_reply("X-Code: $var(c)\\r\\n"); auth_challenge("db.test", "0"); } }\n')  # fmt: skip


def attempt(b, user: str, password: str):
    b.request("MESSAGE", "sip:x@db.test")
    nonce = re.search(r'nonce="([^"]+)"', b.take()[-1].get("Proxy-Authenticate"))[1]
    answer = md5(md5(user, "db.test", password), nonce, md5("MESSAGE", "sip:x@db.test"))
    b.request("MESSAGE", "sip:x@db.test", f'Proxy-Authorization: Digest username="{user}", realm="db.test", nonce="{nonce}", uri="sip:x@db.test", response="{answer}"')
    return b.take()[-1]


PLAIN = 'modparam("auth_db", "calculate_ha1", 1)\nmodparam("auth_db", "password_column", "password")\n'


@pytest.mark.parametrize("params", ["", PLAIN])
def test_hashed_and_plain_passwords(bench, tmp_path: Path, params: str) -> None:
    b = server(bench, tmp_path, params)
    assert attempt(b, "alice", "wonder").first.startswith("SIP/2.0 200")
    assert attempt(b, "alice@db.test", "wonder").first.startswith("SIP/2.0 200")
    assert attempt(b, "alice", "nope").get("X-Code") == "-2"
    assert attempt(b, "carol", "x").get("X-Code") == "-3"


def test_domains_and_loaded_columns(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path, PLAIN + 'modparam("auth_db", "use_domain", 1)\nmodparam("auth_db", "load_credentials", "$avp(rpid)=rpid")\n')
    assert attempt(b, "alice@else.test", "other").first == "SIP/2.0 200 unknown <null>"
    assert attempt(b, "alice", "wonder").first == "SIP/2.0 200 unknown sip:1234@db.test"
    assert attempt(b, "alice@none.test", "wonder").get("X-Code") == "-3"


def test_a_database_that_does_not_answer_refuses(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    (tmp_path / "dbtext" / "subscriber").unlink()
    assert attempt(b, "alice", "wonder").get("X-Code") == "-1"
    assert any("cannot read table" in line for line in b.log.lines)


def test_a_table_of_another_version_is_not_used(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path, version=6)
    assert attempt(b, "alice", "wonder").get("X-Code") == "-1"
    assert any("has version 6, not 7" in line for line in b.log.lines)
