"""Modules that ask a database for each request, against SQLite, MariaDB and PostgreSQL: they print what Kamailio 5.6.3 printed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pytest

from kamc.errors import ConfigError
from tests import databases
from tests.conftest import ROOT

CASES = ROOT / "tests" / "cases" / "databases"
LOAD = "".join(f'loadmodule "{name}.so"\n' for name in ("auth", "alias_db", "speeddial", "domain", "group", "uri_db"))
TABLES = """
create table version(table_name varchar(32), table_version int);
insert into version values('subscriber',7),('dbaliases',1),('speed_dial',2),('domain',2),('domain_attrs',1),('grp',2),('re_grp',1),('uri',1);
create table dbaliases(id integer primary key, alias_username varchar(64), alias_domain varchar(64), username varchar(64), domain varchar(64));
insert into dbaliases values(1,'info','h','alice','h'),(2,'info','h','bob','h2'),(3,'info','other','carol','h');
create table speed_dial(id integer primary key, username varchar(64), domain varchar(64), sd_username varchar(64), sd_domain varchar(64), new_uri varchar(255));
insert into speed_dial values(1,'a','h','11','h','sip:eleven@x'),(2,'a','z','12','q','twelve@x');
create table domain(id integer primary key, domain varchar(64), did varchar(64));
insert into domain values(1,'h',NULL),(2,'Big.Example','big');
create table domain_attrs(id integer primary key, did varchar(64), name varchar(32), type int, value varchar(255));
insert into domain_attrs values(1,'big','limit',0,'42'),(2,'big','label',2,'Large'),(3,'h','label',2,'Small');
create table grp(id integer primary key, username varchar(64), domain varchar(64), grp varchar(64));
insert into grp values(1,'a','h','local'),(2,'alice','h','vip');
create table re_grp(id integer primary key, reg_exp varchar(128), group_id int);
insert into re_grp values(1,'^sip:a',10),(2,'@h$',20),(3,'nobody',30);
create table subscriber(id integer primary key, username varchar(64), domain varchar(64), password varchar(64), ha1 varchar(64), ha1b varchar(64));
insert into subscriber values(1,'a','h','x','',''),(2,'zoe','elsewhere','x','','');
create table uri(id integer primary key, username varchar(64), domain varchar(64), uri_user varchar(64));
insert into uri values(1,'a','h','alias-of-a');
"""
SETTINGS = ('modparam("alias_db", "append_branches", 1)\nmodparam("group", "re_table", "re_grp")\nmodparam("domain", "register_myself", 1)\n')


@pytest.fixture(scope="module", params=databases.KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.Server]:
    with databases.server(request.param, tmp_path_factory.mktemp(request.param)) as found:
        found.execute(*(s for s in TABLES.replace("\n", " ").split(";") if s.strip()))
        yield found


def start(bench, server: databases.Server, text: str, settings: str = SETTINGS):
    urls = f'modparam("alias_db|speeddial|domain|group|uri_db", "db_url", "{server.url}")\n'
    return bench(server.load + LOAD + urls + settings + text)


def printed(b) -> list[str]:
    return [line.partition("OUT: ")[2] for line in b.log.lines if "OUT: " in line]


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def ask(b, user: str) -> None:
    """As the recording asked: a request, and once more with credentials where it is challenged."""
    text = (f"OPTIONS sip:{user}@h SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{user}\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:alice@h>\r\n"
            f"Call-ID: {user}\r\nCSeq: 1 OPTIONS\r\n")  # fmt: skip
    b.recv(text + "Content-Length: 0\r\n\r\n")
    answer = b.take()[-1]
    if " 401 " in answer.first:
        nonce = re.search(r'nonce="([^"]+)"', answer.get("WWW-Authenticate"))[1]
        response = md5(f"{md5('a:h:pw')}:{nonce}:{md5('OPTIONS:sip:h')}")
        shown = f'Authorization: Digest username="a", realm="h", nonce="{nonce}", uri="sip:h", response="{response}"\r\n'
        b.recv(text.replace("CSeq: 1", "CSeq: 2") + shown + "Content-Length: 0\r\n\r\n")
        b.take()


def test_they_print_what_kamailio_prints(bench, server: databases.Server) -> None:
    b = start(bench, server, (CASES / "modules.cfg").read_text())
    for user in ("al", "sd", "dom", "grp", "uri", "uri2"):
        ask(b, user)
    assert "\n".join(printed(b)) + "\n" == (CASES / "modules.out").read_text()


def test_uris_of_a_table_of_their_own(bench, server: databases.Server) -> None:
    settings = 'modparam("uri_db", "use_uri_table", 1)\nmodparam("uri_db", "db_table", "uri")\nmodparam("uri_db", "use_domain", 1)\n'
    b = start(bench, server, """request_route {
	if (!pv_www_authenticate("h", "pw", "0")) { www_challenge("h", "0"); exit; }
	check_uri("sip:alias-of-a@h"); xlog("OUT: $rc\\n");
	check_uri("sip:a@h"); xlog("OUT: $rc\\n");
	check_uri("sip:alias-of-a@h", "a", "elsewhere"); xlog("OUT: $rc\\n");
	$ru = "sip:alias-of-a@h"; does_uri_exist(); xlog("OUT: $rc\\n");
	$ru = "sip:a@h"; does_uri_exist(); xlog("OUT: $rc\\n");
	sl_send_reply("200", "OK");
}
""", settings)  # fmt: skip
    ask(b, "any")
    assert printed(b) == ["1", "-5", "-5", "1", "-5"]


def test_domains_are_read_again_by_command(bench, server: databases.Server) -> None:
    b = start(bench, server, 'request_route { if (uri == myself) sl_send_reply("200", "mine"); else sl_send_reply("404", "not mine"); }\n')
    server.execute("delete from domain where id > 2")
    b.request("OPTIONS", "sip:x@later.example")
    server.execute("insert into domain values (3, 'later.example', NULL)")
    b.worker.rpc.call("domain.reload", [])
    b.request("OPTIONS", "sip:x@later.example")
    server.execute("delete from domain where id = 3")
    b.worker.rpc.call("domain.reload", [])
    b.request("OPTIONS", "sip:x@later.example")
    assert b.firsts() == ["SIP/2.0 404 not mine", "SIP/2.0 200 mine", "SIP/2.0 404 not mine"]
    dump = b.worker.rpc.call("domain.dump", [])
    assert dump["domains"] == [{"domain": "h", "did": "h"}, {"domain": "Big.Example", "did": "big"}]
    assert {"did": "big", "attrs": ["label", "limit"]} in dump["attributes"]


@pytest.mark.parametrize("user", ["' OR 1=1 --", "x'; DELETE FROM dbaliases; --", '" OR ""="', "info\\' OR 1=1 #", "%", "_nfo"])
def test_names_are_never_sql(bench, server: databases.Server, user: str) -> None:
    b = start(bench, server, """request_route {
	$var(u) = $hdr(X-User);
	$ru = "sip:" + $(var(u){s.escape.user}) + "@h";
	$var(in) = "sip:" + $var(u) + "@h";
	alias_db_lookup("dbaliases"); xlog("OUT: $rc\\n");
	alias_db_find("dbaliases", "$var(in)", "$var(out)"); xlog("OUT: $rc\\n");
	is_user_in("From", "$var(u)"); xlog("OUT: $rc\\n");
	does_uri_exist(); xlog("OUT: $rc\\n");
	sl_send_reply("200", "OK");
}
""")  # fmt: skip
    b.request("OPTIONS", "sip:x@h", f"X-User: {user}", "From: <sip:a@h>;tag=1")
    assert all(int(code) < 0 for code in printed(b)), printed(b)
    assert server.rows("select count(*) from dbaliases") == [(3,)]


def test_a_database_that_is_away(bench, server: databases.Server) -> None:
    b = start(bench, server, 'request_route { alias_db_lookup("no_such_table"); xlog("OUT: $rc\\n"); sd_lookup("no_such_table"); xlog("OUT: $rc\\n"); }\n')
    b.request("OPTIONS", "sip:11@h")
    assert printed(b) == ["-1", "-1"]
    assert sum("no_such_table" in line for line in b.log.lines) == 2
    with pytest.raises(ConfigError, match="does not name"):
        start(bench, server, "request_route { exit; }\n", 'modparam("domain", "domain_table", "nothing")\n')
