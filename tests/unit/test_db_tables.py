"""What modules load from a database: trusted peers and addresses, hash tables, destinations. Answers as those of Kamailio 5.6.3."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault

VERSIONS = "table_name(string) table_version(int)\ntrusted:6\naddress:6\nhtable:2\ndispatcher:4\n"
ADDRESS = """id(int,auto) grp(int) ip_addr(string) mask(int) port(int) tag(string,null)
1:1:127.0.0.1:32:0:one
2:2:10.0.0.0:8:5060:net
3:3:host.test:0:0:
4:1:10.1.0.0/16:0:0:x
"""
TRUSTED = """id(int,auto) src_ip(string) proto(string) from_pattern(string,null) ruri_pattern(string,null) tag(string,null) priority(int)
1:127.0.0.1:any:^sip\\:a::ta:0
2:127.0.0.1:udp::^sip\\:x:tx:5
3:127.0.0.1:tcp:::tt:1
4:127.0.0.1:none:::tn:9
5:10.0.0.1:any:::t10:0
6:127.0.0.1:udp::^sip\\:x1:tx1:7
7:host.test:any:::th:7
"""
HTABLE = """id(int,auto) key_name(string) key_type(int) value_type(int) key_value(string) expires(int)
1:alice:0:0:hello:0
2:bob:0:1:42:0
3:arr:1:0:one:0
4:arr:1:1:33:0
5:alice:0:0:again:0
6:bad:0:1:12x:0
7:old:0:0:v:100
8:new:0:1:5:4000000000
"""
OWN = "id(int,auto) a(string) b(string,null) c(int)\n1:k1:v1:1\n2:k2::2\n"
DISPATCHER = """id(int,auto) setid(int) destination(string) flags(int) priority(int) attrs(string,null) description(string,null) pfx(string,null)
1:1:sip\\:127.0.0.1\\:6001:0:0:weight=50;duid=a:x:p1
2:1:sip\\:127.0.0.1\\:6002:8:5::y:
3:2:sip\\:127.0.0.1\\:6003:2:0:::
4:1:bad uri:0:0:::
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    db = tmp_path / "db"
    db.mkdir()
    for name, text in {"version": VERSIONS, "address": ADDRESS, "trusted": TRUSTED, "htable": HTABLE, "own": OWN, "dispatcher": DISPATCHER}.items():
        (db / name).write_text(text)
    return db


def server(bench, folder: Path, module: str, params: str, route: str):
    return bench(f'loadmodule "db_text.so"\nloadmodule "{module}.so"\nmodparam("{module}", "db_url", "text://{folder}")\n{params}\n'
                 f"request_route {{ {route} }}\n")  # fmt: skip


def ask(b, uri: str, sender: str = "sip:b@a", *lines: str) -> str:
    b.recv(f"OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{uri}{sender}\r\nFrom: <{sender}>;tag=1\r\nTo: <sip:t@t>\r\n"
           "Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n" + "".join(x + "\r\n" for x in lines) + "\r\n")  # fmt: skip
    return b.take()[-1].first.partition(" r ")[2]


TRUST = """$var(a) = allow_trusted(); $var(t) = $(avp(tag)[*]); $(avp(tag)[*]) = $null;
$var(b) = allow_trusted("$hdr(X-A)", "$hdr(X-P)"); $var(u) = $(avp(tag)[*]); $(avp(tag)[*]) = $null;
$var(c) = allow_trusted("$hdr(X-A)", "$hdr(X-P)", "$hdr(X-F)");
sl_send_reply("200", "r $var(a) $var(t)|$var(b) $var(u)|$var(c)");"""
PEERS = [
    ("sip:x@h", "sip:a@a", ("X-A: 10.0.0.1", "X-P: udp", "X-F: sip:a@a"), ["1 ta|1 t10|1", "2 tx, ta|1 t10|1", "1 tx|1 t10|1", "2 ta, tx|1 t10|1"]),
    ("sip:x1@h", "sip:b@a", ("X-A: 127.0.0.1", "X-P: tcp"), ["1 tx|1 tt|1", "2 tx1, tx|1 tt|1", "1 tx1|1 tt|1", "2 tx, tx1|1 tt|1"]),
    ("sip:y@h", "sip:b@a", ("X-A: 127.0.0.1", "X-P: any", "X-F: sip:aa"), ["-1 0|1 tt|1", "-1 0|2 tn, tt|3", "-1 0|1 tt|1", "-1 0|1 tt|2"]),
    ("sip:y@h", "sip:b@a", ("X-A: 10.0.0.1", "X-P: bad"), ["-1 0|-1 0|-1"] * 4),
    ("sip:y@h", "sip:b@a", ("X-A: 127.0.0.1", "X-P: none"), ["-1 0|-1 0|-1"] * 4),
]


@pytest.mark.parametrize(("db_mode", "tag_mode"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_trusted_peers(bench, folder: Path, db_mode: int, tag_mode: int) -> None:
    b = server(bench, folder, "permissions", f'modparam("permissions", "db_mode", {db_mode})\nmodparam("permissions", "peer_tag_mode", {tag_mode})\n'
               'modparam("permissions", "peer_tag_avp", "$avp(tag)")', TRUST)  # fmt: skip
    for uri, sender, lines, expected in PEERS:
        assert ask(b, uri, sender, *lines) == expected[2 * db_mode + tag_mode]


def test_trusted_peers_are_shown_and_loaded_again(bench, folder: Path) -> None:
    b = server(bench, folder, "permissions", 'modparam("permissions", "db_mode", 1)', TRUST)
    shown = b.rpc("permissions.trustedDump")
    assert len(shown) == 6
    assert shown[0]["item"] == {"ip": "127.0.0.1", "proto": 1, "pattern": "NULL", "ruri_pattern": "^sip:x1", "tag": "tx1", "priority": 7}
    (folder / "trusted").write_text(TRUSTED.splitlines()[0] + "\n1:127.0.0.1:bad:::t:0\n")
    with pytest.raises(RpcFault, match="Reload failed"):
        b.rpc("permissions.trustedReload")
    assert len(b.rpc("permissions.trustedDump")) == 6
    with pytest.raises(RpcFault, match="ongoing reload"):
        b.rpc("permissions.addressReload")
    b.advance(6)
    (folder / "trusted").write_text(TRUSTED.splitlines()[0] + "\n1:127.0.0.1:udp:::t:0\n")
    assert b.rpc("permissions.trustedReload") == "Reload OK"
    assert len(b.rpc("permissions.trustedDump")) == 1


def test_addresses_of_a_table(bench, folder: Path) -> None:
    b = server(bench, folder, "permissions", "", """
               $var(a) = allow_source_address(); $var(b) = allow_address("2", "10.3.0.1", "5060");
               $var(c) = allow_address("2", "10.3.0.1", "5061"); $var(d) = allow_address_group("host.test", "0");
               sl_send_reply("200", "r $var(a) $var(b) $var(c) $var(d)");""")
    assert ask(b, "sip:x@h") == "1 1 -1 3"
    assert any("10.1.0.0/16" in line and "left out" in line for line in b.log.lines)
    with pytest.raises(RpcFault, match="No trusted table"):
        b.rpc("permissions.trustedDump")


@pytest.mark.parametrize(("change", "message"), [(("trusted", "1:127.0.0.1:bad:::t:0"), "unknown protocol bad"), (("trusted", "1:1.1.1.1:udp:(::t:0"), "bad regular"),
                                                 (("version", "trusted:5"), "does not name")])  # fmt: skip
def test_peers_that_cannot_be_read_are_named(bench, folder: Path, change: tuple[str, str], message: str) -> None:
    table = folder / change[0]
    table.write_text(table.read_text().splitlines()[0] + f"\n{change[1]}\n")
    with pytest.raises(ConfigError, match=message):
        server(bench, folder, "permissions", 'modparam("permissions", "db_mode", 1)', "exit;")


SHOW = ('sl_send_reply("200", "r $sht(t=>alice) $sht(t=>bob) $sht(t=>arr[1]) $sht(t=>arr::size) $sht(t=>bad) $sht(t=>old) '
        '$sht(c=>k1) $sht(c=>k2) $sht(m=>seen)");')  # fmt: skip


def htable(bench, folder: Path, expires: int = 0):
    return server(bench, folder, "htable", f'modparam("htable", "db_expires", {expires})\n'
                  'modparam("htable", "htable", "t=>size=4;autoexpire=100;dbtable=htable;dbmode=1")\n'
                  """modparam("htable", "htable", "c=>size=4;dbtable=own;cols='a,b,c';coldelim=/")\nevent_route[htable:reloaded:t] { $sht(m=>seen) = 1; }\n"""
                  'modparam("htable", "htable", "m=>size=4")',
                  SHOW)  # fmt: skip


def test_hash_tables_of_a_table(bench, folder: Path) -> None:
    assert ask(htable(bench, folder), "sip:x@h") == "again 42 33 2 12 v v1/1 */2 <null>"
    b = htable(bench, folder, expires=1)
    assert ask(b, "sip:x@h") == "again 42 33 2 12 <null> v1/1 */2 <null>"
    assert b.rpc("htable.get", "t", "new")["item"]["expire"].startswith("2096")
    assert [t["dbtable"] for t in b.rpc("htable.listTables")] == ["", "own", "htable"]


def test_hash_tables_are_loaded_again_and_written(bench, folder: Path) -> None:
    b = htable(bench, folder)
    (folder / "htable").write_text(HTABLE.splitlines()[0] + "\n1:zed:0:0:z:0\n")
    assert b.rpc("htable.reload", "t").startswith("Ok")
    assert ask(b, "sip:x@h") == "<null> <null> <null> <null> <null> <null> v1/1 */2 1"
    b.rpc("htable.seti", "t", "n", 7)
    assert b.rpc("htable.store", "t").startswith("Ok")
    assert (folder / "htable").read_text().splitlines()[1:] == ["1:zed:0:0:z:0", "2:n:0:1:7:0"]
    assert b.rpc("htable.store", "c").startswith("Ok")
    assert (folder / "own").read_text() == OWN
    for name, message in (("nope", "No such"), ("m", "No database")):
        with pytest.raises(RpcFault, match=message):
            b.rpc("htable.reload", name)
    b.rpc("htable.sets", "t", "last", "x:y")
    b.worker.stop()
    assert (folder / "htable").read_text().splitlines()[-1] == "3:last:0:0:x\\:y:0"


def test_a_reload_of_the_configuration_keeps_the_items(bench, folder: Path) -> None:
    b = htable(bench, folder)
    b.rpc("htable.sets", "t", "alice", "changed")
    b.load()
    assert ask(b, "sip:x@h").startswith("changed 42")


def test_destinations_of_a_table(bench, folder: Path) -> None:
    route = """ds_select_dst("1", "8"); sl_send_reply("200", "r $du $xavp(_dsdst_=>attrs) $(xavp(_dsdst_[1]=>attrs)) $xavp(_dsctx_=>cnt)");"""
    b = server(bench, folder, "dispatcher", 'modparam("dispatcher", "flags", 2)\nmodparam("dispatcher", "ds_db_extra_attrs", "pref=pfx;d=description")\n'
               'modparam("dispatcher", "ds_attrs_none", 1)', route)  # fmt: skip
    assert ask(b, "sip:x@h") == "sip:127.0.0.1:6002 d=y weight=50;duid=a;d=x;pref=p1 2"
    assert any("'bad uri' is no SIP URI" in line for line in b.log.lines)
    second = next(r["SET"] for r in b.rpc("dispatcher.list")["RECORDS"] if r["SET"]["ID"] == 2)
    assert second["TARGETS"][0]["DEST"]["ATTRS"]["BODY"] == "none=yes"
    (folder / "dispatcher").write_text(DISPATCHER.splitlines()[0] + "\n1:1:sip\\:127.0.0.1\\:6009:0:0:::\n")
    assert b.rpc("dispatcher.reload").startswith("Ok")
    assert ask(b, "sip:y@h").startswith("sip:127.0.0.1:6009 none=yes")


def test_a_destination_that_cannot_be_used_ends_a_strict_start(bench, folder: Path) -> None:
    with pytest.raises(ConfigError, match="table dispatcher cannot be read"):
        server(bench, folder, "dispatcher", 'modparam("dispatcher", "ds_load_mode", 1)', "exit;")


def test_a_table_that_is_not_there(bench, folder: Path) -> None:
    (folder / "dispatcher").unlink()
    with pytest.raises(ConfigError, match="table dispatcher cannot be read"):
        server(bench, folder, "dispatcher", "", "exit;")


@pytest.mark.parametrize(("mode", "expected"), [(0, "1"), (1, "2")])
def test_the_network_that_is_tried_first(bench, folder: Path, mode: int, expected: str) -> None:
    (folder / "address").write_text(ADDRESS.splitlines()[0] + "\n1:1:127.0.0.0:8:0:wide\n2:2:127.0.0.0:24:0:narrow\n")
    b = server(bench, folder, "permissions", f'modparam("permissions", "subnet_match_mode", {mode})',
               '$var(a) = allow_source_address_group(); sl_send_reply("200", "r $var(a)");')  # fmt: skip
    assert ask(b, "sip:x@h") == expected
