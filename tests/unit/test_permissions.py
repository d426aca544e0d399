"""Module permissions, compared with Kamailio 5.6.3 rule by rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.permissions.addresses import read_file
from stdlib_modules.permissions.rules import parse_rules

ALLOW = '# from : uri\nALL : "^sip:91.*@example\\.com"\n"^sip:3.*@.*example" EXCEPT "^sip:33": "^sip:8", "^sip:7" EXCEPT "^sip:77"\n'
ROUTE = """
request_route {
    if ($rm == "REGISTER") { $var(a) = allow_register("a"); $var(b) = allow_register("none", "b.deny"); }
    else { $var(a) = allow_routing("a"); $var(b) = allow_routing("none", "b.deny"); }
    $var(c) = allow_uri("a", "$ru"); $var(d) = allow_uri("nope", "$hdr(X-U)");
    sl_send_reply("200", "r $var(a) $var(b) $var(c) $var(d)");
}
"""


@pytest.fixture
def rules(bench, tmp_path: Path):
    (tmp_path / "a.allow").write_text(ALLOW)
    (tmp_path / "a.deny").write_text("ALL : ALL\n")
    (tmp_path / "b.deny").write_text('"alice" : "bob"\n')
    return bench('loadmodule "permissions.so"\n' + ROUTE)


def answer(b, method: str, uri: str, who: str, *lines: str) -> str:
    text = (f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bK{hash((method, uri, who, lines))}\r\nFrom: <{who}>;tag=1\r\n"
            f"To: <{who}>\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n" + "".join(x + "\r\n" for x in lines) + "\r\n")  # fmt: skip
    b.recv(text)
    return b.take()[-1].first.partition(" r ")[2]


@pytest.mark.parametrize(
    ("who", "uri", "expected"),
    [("sip:3@example", "sip:911@example.com", "1 1 1 1"), ("sip:3@example", "sip:8@x", "1 1 1 1"), ("sip:3@example", "sip:7@x", "1 1 1 1"),
     ("sip:3@example", "sip:77@x", "-1 1 -1 1"), ("sip:3@example", "SIP:911@EXAMPLE.COM", "1 1 1 1"), ("sip:3@example", "sip:911@example.com:5080;x=1", "1 1 1 1"),
     ("sip:3@example", "tel:911", "-1 1 -1 1"), ("sip:33@example", "sip:8@x", "-1 1 -1 1"), ("sip:alice@x", "sip:bob@x", "-1 -1 -1 1"),
     ("sip:3@a.example;x=1", "sip:7@x", "1 1 1 1")],
)  # fmt: skip
def test_rules_for_requests(rules, who: str, uri: str, expected: str) -> None:
    assert answer(rules, "MESSAGE", uri, who) == expected


@pytest.mark.parametrize(
    ("who", "contact", "expected"),
    [("sip:3@example", "*", "1 1"), ("sip:3@example", "<sip:8@x>, <sip:7@x>", "1 1"), ("sip:3@example", "<sip:8@x>, <sip:77@x>", "-1 1"),
     ("sip:alice@x", "<sip:bob@x>", "-1 -1"), ("sip:alice@x", "sip:bob@x;expires=3", "-1 -1"), ("sip:xx@y", "<sip:911@example.com>", "1 1")],
)  # fmt: skip
def test_rules_for_registrations(rules, who: str, contact: str, expected: str) -> None:
    assert answer(rules, "REGISTER", "sip:x", who, f"Contact: {contact}")[: len(expected)] == expected


@pytest.mark.parametrize("line", ['"a"', '"a" : ', 'a : "b"', '"a" "b" : ALL', '"a", : ALL', '"(" : ALL', "ALL : ALL : ALL", "EXCEPT ALL : ALL"])
def test_rules_that_cannot_be_read_name_their_line(line: str) -> None:
    with pytest.raises(ConfigError, match="x:2"):
        parse_rules("ALL : ALL\n" + line, "x")


def test_a_bad_file_refuses(rules, tmp_path: Path) -> None:
    (tmp_path / "a.allow").write_text("nonsense\n")
    assert answer(rules, "MESSAGE", "sip:8@x", "sip:3@example").startswith("-1")
    assert any("a.allow:1" in line for line in rules.log.lines)


ADDRESSES = (
    "# comment\n1 10.0.0.1 32 0 alice\n1 10.0.0.2 32 5070 bob\n2 10.2.0.0 16 5080 net2\n4 example.com\n5 10.5.0.1\n6 2001:db8:: 32 0 six\n1 127.0.0.1 32 6000 me\n"
)
LOOKUP = """
modparam("permissions", "address_file", "address.list")
modparam("permissions", "peer_tag_avp", "$avp(tag)")
request_route {
    if ($rU == "addr") $var(rc) = allow_address("$(hdr(X-G){s.int})", "$hdr(X-A)", "$(hdr(X-P){s.int})");
    else if ($rU == "group") $var(rc) = allow_address_group("$hdr(X-A)", "$(hdr(X-P){s.int})");
    else if ($rU == "src") $var(rc) = allow_source_address();
    else $var(rc) = allow_source_address_group();
    sl_send_reply("200", "r $var(rc) $avp(tag)");
}
"""


@pytest.fixture
def addresses(bench, tmp_path: Path):
    (tmp_path / "address.list").write_text(ADDRESSES)
    return bench('loadmodule "permissions.so"\n' + LOOKUP)


@pytest.mark.parametrize(
    ("group", "address", "port", "member", "found"),
    [(1, "10.0.0.1", 5060, "1 alice", "1 alice"), (1, "10.0.0.1", 0, "1 alice", "1 alice"), (1, "10.0.0.2", 5070, "1 bob", "1 bob"),
     (1, "10.0.0.2", 0, "-1 <null>", "-1 <null>"), (2, "10.2.2.3", 5080, "1 net2", "2 net2"), (2, "10.2.2.3", 1, "-1 <null>", "-1 <null>"),
     (4, "example.com", 5060, "1 <null>", "4 <null>"), (5, "10.5.0.1", 5, "1 <null>", "5 <null>"), (1, "bogus", 1, "-1 <null>", "-1 <null>"),
     (6, "2001:db8::7", 1, "1 six", "6 six")],
)  # fmt: skip
def test_groups_of_addresses(addresses, group: int, address: str, port: int, member: str, found: str) -> None:
    lines = (f"X-G: {group}", f"X-A: {address}", f"X-P: {port}")
    assert answer(addresses, "OPTIONS", "sip:addr@x", "sip:a@b", *lines) == member
    assert answer(addresses, "OPTIONS", "sip:group@x", "sip:a@b", *lines) == found


def test_the_source_of_a_request(addresses) -> None:
    assert answer(addresses, "OPTIONS", "sip:src@x", "sip:a@b") == "1 me"
    assert answer(addresses, "OPTIONS", "sip:srcg@x", "sip:a@b") == "1 me"


def test_a_reload_takes_the_file_as_it_is_or_keeps_what_was(addresses, tmp_path: Path) -> None:
    (tmp_path / "address.list").write_text("9 127.0.0.1\n")
    assert addresses.rpc("permissions.addressReload") == "Reload OK"
    assert answer(addresses, "OPTIONS", "sip:srcg@x", "sip:a@b") == "9 <null>"
    (tmp_path / "address.list").write_text("x\n")
    with pytest.raises(RpcFault, match="ongoing reload"):
        addresses.rpc("permissions.addressReload")
    addresses.advance(5)
    with pytest.raises(RpcFault, match="Reload failed"):
        addresses.rpc("permissions.addressReload")
    assert answer(addresses, "OPTIONS", "sip:srcg@x", "sip:a@b") == "9 <null>"


@pytest.mark.parametrize("line", ["x 10.0.0.1", "0 10.0.0.1", "1", "1 10.0.0.1 33", "1 10.0.0.0/8", "1 10.0.0.1 32 70000", "1 10.0.0.1 32 0 a b"])
def test_lines_that_cannot_be_read_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "f").write_text("1 10.0.0.1\n" + line + "\n")
    with pytest.raises(ConfigError, match="f:2"):
        read_file(tmp_path / "f")
