"""Parameters of rr, sl, tm, registrar, auth, nathelper, siputils, sanity and uac. Answers as those of Kamailio 5.6.3."""

from __future__ import annotations

import hashlib
import itertools
import random
import re

import pytest

from kamc.errors import ConfigError

SERIAL = itertools.count(1)


def ask(b, uri: str, *lines: str, method: str = "MESSAGE", to: str = "<sip:t@t>", user: str = "x"):
    b.recv(f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKp{next(SERIAL)}\r\nFrom: <sip:{user}@a>;tag=1\r\nTo: {to}\r\n"
           f"Call-ID: c{next(SERIAL)}\r\nCSeq: {next(SERIAL)} {method}\r\n" + "".join(x + "\r\n" for x in lines) + "Content-Length: 0\r\n\r\n")  # fmt: skip
    return b.take()[-1]


def test_record_routes_of_sips_and_named_sockets(bench) -> None:
    b = bench('modparam("rr", "sockname_mode", 1)\nrequest_route { record_route(); $du = "sip:127.0.0.1:7000"; t_relay(); }')
    assert ask(b, "sips:u@h").get("Record-Route") == "<sips:127.0.0.1;lr;ftag=1>"
    assert ask(b, "sip:u@h").get("Record-Route") == "<sip:127.0.0.1;lr;ftag=1>"
    b = bench('modparam("rr", "ignore_sips", 1)\nrequest_route { record_route(); $du = "sip:127.0.0.1:7000"; t_relay(); }')
    assert ask(b, "sips:u@h").get("Record-Route") == "<sip:127.0.0.1;lr;ftag=1>"


@pytest.mark.parametrize(("params", "route", "expected"), [
    ("", "<sip:127.0.0.1;lr>", "<null>"), ('modparam("rr", "force_send_socket", 1)', "<sip:127.0.0.1;lr>", "udp:127.0.0.1:5060"),
])  # fmt: skip
def test_the_socket_of_a_route(bench, params: str, route: str, expected: str) -> None:
    b = bench(params + '\nrequest_route { loose_route(); sl_send_reply("200", "r $fs"); }')
    assert ask(b, "sip:u@127.0.0.9:7000", f"Route: {route}", to="<sip:t@t>;tag=9").first == f"SIP/2.0 200 r {expected}"


@pytest.mark.parametrize(("mode", "expected"), [(0, "1 sip:u@strict:5"), (1, "-1 sip:127.0.0.1;lr")])
def test_the_look_for_strict_routers(bench, mode: int, expected: str) -> None:
    for route in (f'modparam("rr", "loose_route_mode", {mode})\nrequest_route {{ $var(r) = loose_route();', f"request_route {{ $var(r) = loose_route_mode({mode});"):
        b = bench(route + ' sl_send_reply("200", "r $var(r) $ru"); }')
        found = ask(b, "sip:127.0.0.1;lr", "Route: <sip:127.0.0.1;lr>, <sip:u@strict:5>" if not mode else "Route: <sip:127.0.0.1;lr>").first
        assert found.startswith("SIP/2.0 200 r")
        assert mode == 0 or found == f"SIP/2.0 200 r {expected}"
        assert mode == 1 or found.split()[3] == "1"


@pytest.mark.parametrize(("module", "send"), [("sl", "sl_send_reply"), ("tm", "t_reply")])
@pytest.mark.parametrize(("rich", "expected"), [
    (0, "<sip:a@h:99>, <sip:x@1.1.1.1>;q=0.5"), (1, "<sip:a@h:99>;flags=4, <sip:x@1.1.1.1>;q=0.5;flags=5"),
    (2, "<sip:a@h:99>, <sip:x@1.1.1.1?Route=%3csip:p1%3blr%3e%2c%3csip:p2%3e>;q=0.5"),
    (3, "<sip:a@h:99>;flags=4, <sip:x@1.1.1.1?Route=%3csip:p1%3blr%3e%2c%3csip:p2%3e>;q=0.5;flags=5"),
])  # fmt: skip
def test_rich_redirections(bench, module: str, send: str, rich: int, expected: str) -> None:
    begin = "t_newtran();" if module == "tm" else ""
    b = bench(f'modparam("{module}", "rich_redirect", {rich})\nrequest_route {{ {begin} setbflag(2); append_branch("sip:x@1.1.1.1", "0.5");'
              f'$(branch(path)[0]) = "<sip:p1;lr>,<sip:p2>"; $(branch(flags)[0]) = 5; $rp = "99"; {send}("302", "Moved"); }}')  # fmt: skip
    assert ask(b, "sip:a@h").get("Contact") == expected


# -- registrar ---------------------------------------------------------------------------------------------------------------

INSTANCE = '+sip.instance="<urn:uuid:1>"'
REGISTRAR = ('loadmodule "usrloc.so"\nloadmodule "registrar.so"\nmodparam("registrar", "use_path", 1)\nmodparam("registrar", "path_mode", 0)\n'
             'modparam("registrar", "xavp_cfg", "cfg")\nmodparam("registrar", "xavp_rcd", "rcd")\n')  # fmt: skip
REGISTER = """request_route {
    if ($hdr(X-Sock) != $null) setflag(4);
    if ($hdr(X-B) != $null) setbflag(3);
    if ($rm == "REGISTER") { save("location"); exit; }
    if ($hdr(X-F) != $null) $xavp(cfg=>rlf_bflags) = 8;
    $var(r) = lookup("location"); sl_send_reply("200", "r $var(r) $ru $du $xavp(rcd=>contact) $xavp(rcd=>expires) $xavp(rcd=>path) $branch(count)");
}"""


def registrar(bench, **params: int | str):
    quoted = {name: f'"{value}"' if isinstance(value, str) else value for name, value in params.items()}
    return bench(REGISTRAR + "".join(f'modparam("registrar", "{name}", {value})\n' for name, value in quoted.items()) + REGISTER)


def register(b, user: str, *lines: str):
    return ask(b, "sip:h", *lines, method="REGISTER", to=f"<sip:{user}@t>", user=user)


@pytest.mark.parametrize(("mode", "lines", "status", "extra"), [
    (0, ["Supported: outbound"], "200 OK", []),
    (0, ["Require: outbound"], "420 Bad Extension", ["Unsupported: outbound", "P-Registrar-Error: No support for Outbound on server"]),
    (1, [], "200 OK", ["Supported: outbound"]),
    (1, ["Supported: path, outbound"], "200 OK", ["Supported: outbound", "Require: outbound", "Flow-Timer: 90"]),
    (1, ["Supported: outbound", "Via: SIP/2.0/UDP 1.1.1.1;branch=z9hG4bKx", "Path: <sip:p;lr;ob>"], "200 OK",
     ["Supported: outbound", "Require: outbound", "Flow-Timer: 90"]),
    (1, ["Supported: outbound", "Via: SIP/2.0/UDP 1.1.1.1;branch=z9hG4bKx", "Path: <sip:p;lr>"], "439 First Hop Lacks Outbound Support",
     ["P-Registrar-Error: No support for Outbound on edge proxy"]),
    (2, ["Supported: path"], "421 Extension Required", ["Require: outbound", "Supported: outbound", "P-Registrar-Error: No support for Outbound indicated"]),
    (2, [], "200 OK", ["Require: outbound", "Supported: outbound", "Flow-Timer: 90"]),
])  # fmt: skip
def test_outbound(bench, mode: int, lines: list[str], status: str, extra: list[str]) -> None:
    b = registrar(bench, outbound_mode=mode, flow_timer=90 if mode else 0)
    reply = register(b, "a", f"Contact: <sip:1@127.0.0.1:6002>;{INSTANCE};reg-id=1", *lines)
    assert reply.first == f"SIP/2.0 {status}"
    assert re.findall(r"^((?:Supported|Require|Unsupported|Flow-Timer|P-Registrar-Error): .*?)\r$", reply.text, re.M) == extra


def test_a_reg_id_counts_with_an_instance_only(bench) -> None:
    b = registrar(bench)
    assert register(b, "a", "Contact: <sip:1@127.0.0.1:6002>;reg-id=1").get("Contact") == "<sip:1@127.0.0.1:6002>;expires=3600"
    for name in "12":
        found = register(b, "b", f"Contact: <sip:{name}@127.0.0.1:6002>;{INSTANCE};reg-id=1").get("Contact")
    assert found == f"<sip:2@127.0.0.1:6002>;expires=3600;{INSTANCE};reg-id=1"


@pytest.mark.parametrize(("check", "path", "expected"), [
    (0, "<sip:127.0.0.1;lr>, <sip:127.0.0.1:6009;lr>", "sip:127.0.0.1;lr"), (1, "<sip:127.0.0.1;lr>, <sip:127.0.0.1:6009;lr>", "sip:127.0.0.1:6009;lr"),
    (1, "<sip:127.0.0.1;lr>", "<null>"), (1, "<sip:127.0.0.1:6009;lr>", "sip:127.0.0.1:6009;lr"),
])  # fmt: skip
def test_a_path_through_this_server(bench, check: int, path: str, expected: str) -> None:
    b = registrar(bench, path_check_local=check)
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>", f"Path: {path}")
    assert ask(b, "sip:a@h").first.split()[5] == expected


def test_contacts_by_their_flags(bench) -> None:
    b = registrar(bench, lookup_filter_mode=1)
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>;expires=300")
    register(b, "a", "Contact: <sip:2@127.0.0.1:6002>;q=0.5", "X-B: 1")
    assert ask(b, "sip:a@h").first == "SIP/2.0 200 r 1 sip:2@127.0.0.1:6002 <null> sip:2@127.0.0.1:6002 3600 <null> 1"
    assert ask(b, "sip:a@h", "X-F: 1").first == "SIP/2.0 200 r 1 sip:2@127.0.0.1:6002 <null> sip:2@127.0.0.1:6002 3600 <null> <null>"


def test_only_contacts_with_a_connection(bench) -> None:
    b = registrar(bench, lookup_filter_mode=2, sock_flag=4, sock_hdr_name="X-Sock")
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>")
    assert ask(b, "sip:a@h").first.startswith("SIP/2.0 200 r 1 ")
    usrloc = b.worker.rt.module("usrloc")
    (held,) = usrloc.bindings("location", "a")
    held.socket = "tcp:127.0.0.1:5060"
    assert ask(b, "sip:a@h").first.startswith("SIP/2.0 200 r -1 ")


@pytest.mark.parametrize(("header", "expected"),
    [("udp:127.0.0.1:5060", "udp:127.0.0.1:5060"), ("udp:127.0.0.1:7", "udp:127.0.0.1:5060"), ("junk", "udp:127.0.0.1:5060")])
def test_the_socket_that_a_header_names(bench, header: str, expected: str) -> None:
    b = registrar(bench, sock_flag=4, sock_hdr_name="X-Sock", sock_mode=1)
    register(b, "a", "Contact: <sip:1@127.0.0.1:6002>", f"X-Sock: {header}")
    assert b.rpc("ul.lookup", "location", "a")["Contacts"][0]["Contact"]["Socket"] == expected
    assert any("no socket of this server" in line for line in b.log.lines) == (header != "udp:127.0.0.1:5060")


def test_lifetimes_are_spread(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "randint", lambda low, high: high)
    b = registrar(bench, expires_range=50, default_expires_range=10, xavp_rcd_mask=2)
    assert register(b, "a", "Contact: <sip:1@127.0.0.1:6002>;expires=1000").get("Contact") == "<sip:1@127.0.0.1:6002>;expires=500"
    assert register(b, "b", "Contact: <sip:1@127.0.0.1:6002>").get("Contact") == "<sip:1@127.0.0.1:6002>;expires=3240"
    assert ask(b, "sip:a@h").first.split()[6] == "<null>"


def test_expired_contacts_can_be_used(bench) -> None:
    for use, expected in ((0, "-1"), (1, "1")):
        b = registrar(bench, use_expired_contacts=use, min_expires=1)
        register(b, "a", "Contact: <sip:1@127.0.0.1:6002>;expires=10")
        b.advance(11)
        assert ask(b, "sip:a@h").first.split()[3] == expected


@pytest.mark.parametrize(("name", "value"), [("outbound_mode", 3), ("flow_timer", 5), ("expires_range", 101), ("default_expires_range", -1)])
def test_registrar_parameters_that_make_no_sense(bench, name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name.removeprefix("default_")):
        registrar(bench, **{name: value})


# -- auth, nathelper, siputils -----------------------------------------------------------------------------------------------


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("one_time", [0, 1])
def test_authentication_info(bench, one_time: int) -> None:
    b = bench(f'loadmodule "auth.so"\nmodparam("auth", "add_authinfo_hdr", 1)\nmodparam("auth", "one_time_nonce", {one_time})\n'
              'request_route { if (!pv_www_authenticate("t", "pw", "0")) { www_challenge("t", "1"); exit; } sl_send_reply("200", "OK"); }')  # fmt: skip
    challenge = ask(b, "sip:a@b").get("WWW-Authenticate") or ""
    nonce = challenge.partition('nonce="')[2].partition('"')[0]
    secret = md5("u:t:pw")
    tail = f"{nonce}:00000001:cn:auth:"
    reply = ask(b, "sip:a@b", f'Authorization: Digest username="u", realm="t", nonce="{nonce}", uri="sip:a@b", qop=auth, nc=00000001, cnonce="cn", '
                f'response="{md5(secret + ":" + tail + md5("MESSAGE:sip:a@b"))}"')  # fmt: skip
    assert reply.first == "SIP/2.0 200 OK"
    match = re.fullmatch(r'nextnonce="([^"]+)", qop=auth, rspauth="([0-9a-f]{32})", cnonce="cn", nc=00000001', reply.get("Authentication-Info") or "")
    assert match is not None
    assert (match[1] == nonce) == (not one_time)
    assert match[2] == md5(secret + ":" + tail + md5(":sip:a@b"))


@pytest.mark.parametrize(("contact", "expected"), [
    ("<sip:c@10.0.0.1:5;alias=1.2.3.4~2~1>", "1 sip:1.2.3.4:2;transport=udp"), ("<sip:c@10.0.0.1:5;alias=1.2.3.4~2~2>", "1 sip:1.2.3.4:2;transport=tcp"),
    ("<sip:c@10.0.0.1:5>", "-1 0"), ("<sip:c@10.0.0.1:5;alias=x>", "-1 0"),
])  # fmt: skip
def test_an_alias_as_a_uri(bench, contact: str, expected: str) -> None:
    b = bench('loadmodule "nathelper.so"\nrequest_route { $var(r) = set_alias_to_pv("$var(x)"); sl_send_reply("200", "r $var(r) $var(x)"); }')
    assert ask(b, "sip:a@b", f"Contact: {contact}").first == f"SIP/2.0 200 r {expected}"


@pytest.mark.parametrize(("lines", "expected"), [
    ([], "0 0"), (["Record-Route: <sip:a>, <sip:b>", "Record-Route: <sip:c>"], "3 1"), (["Record-Route: <sip:a;r2=on>, <sip:b;r2=on>", "Record-Route: <sip:c>"], "3 2"),
])  # fmt: skip
def test_record_routes_are_counted(bench, lines: list[str], expected: str) -> None:
    b = bench('loadmodule "nathelper.so"\nrequest_route { sl_send_reply("200", "r $rr_count $rr_top_count"); }')
    assert ask(b, "sip:a@b", *lines).first == f"SIP/2.0 200 r {expected}"


def test_a_spoofed_source_is_refused(bench) -> None:
    with pytest.raises(ConfigError, match="raw sockets"):
        bench('loadmodule "usrloc.so"\nloadmodule "nathelper.so"\nmodparam("nathelper", "natping_interval", 10)\n'
              'modparam("nathelper", "natping_socket", "1.2.3.4:5")\nrequest_route { exit; }')  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), [
    ("P-Charging-Vector: icid-value=12ab;icid-generated-at=192.0.6.8;orig-ioi=home1.net;term-ioi=b.net", "12ab 192.0.6.8 home1.net b.net 1"),
    ('P-Charging-Vector: icid-value="a b";icid-generated-at=x', '"a x <null> <null> 1'), ("P-Charging-Vector: junk", "<null> <null> <null> <null> 0"),
    ("X: y", "<null> <null> <null> <null> 0"),
])  # fmt: skip
def test_charging_vectors(bench, line: str, expected: str) -> None:
    b = bench('request_route { sl_send_reply("200", "r $pcv(value) $pcv(genaddr) $pcv(orig) $pcv(term) $pcv(status)"); }')
    assert ask(b, "sip:a@b", line).first == f"SIP/2.0 200 r {expected}"


def test_a_charging_vector_that_was_made(bench) -> None:
    b = bench('request_route { sip_p_charging_vector("g"); sl_send_reply("200", "r $(pcv(value){s.len}) $pcv(genaddr) $pcv(status)"); }')
    assert ask(b, "sip:a@b").first == "SIP/2.0 200 r 32 127.0.0.1 2"


# -- sanity ------------------------------------------------------------------------------------------------------------------

LONG = "x" * 300


@pytest.mark.parametrize(("bit", "uri", "lines", "status"), [
    (2, f"sip:{LONG}@h", [], "414 Request-URI Too Long"), (5, "sip:h", [f"Contact: <sip:{LONG}@h>"], "400 Contact URI Too Long"),
    (6, "sip:h", [f"Route: <sip:1;lr>, <sip:{LONG}@h;lr>"], "400 Route URI Too Long"), (7, "sip:h", [f"Path: <sip:{LONG}>"], "400 Path URI Too Long"),
    (8, "sip:h", [f"P-Asserted-Identity: <sip:{LONG}@h>"], "400 PAI URI Too Long"), (9, "sip:h", ["X: " + "y" * 2100], "400 Header Too Long"),
    (10, "sip:h", [f"X-{n}: " + "y" * 1900 for n in range(5)], "400 Headers Too Long"),
    (0, "sip:h", [f"X-{n}: " + "y" * 1900 for n in range(9)], "513 Message Too Large"),
])  # fmt: skip
def test_sizes_are_checked_when_asked_for(bench, bit: int, uri: str, lines: list[str], status: str) -> None:
    for checks, expected in ((1 << bit, status), (0xFFF & ~(1 << bit) & ~(0x600 if bit in (0, 10) else 0) & ~(1 if bit == 10 else 0), "200 OK")):
        b = bench(f'loadmodule "sanity.so"\nmodparam("sanity", "size_checks", {checks})\nrequest_route {{ sanity_check("0", "0"); sl_send_reply("200", "OK"); }}')
        assert ask(b, uri, *lines).first == f"SIP/2.0 {expected}"


# -- uac ---------------------------------------------------------------------------------------------------------------------

DIALOG = ('loadmodule "dialog.so"\nloadmodule "uac.so"\nmodparam("uac", "restore_mode", "auto")\nmodparam("uac", "restore_dlg", 1)\n'
          'modparam("uac", "restore_from_avp", "$avp(was)")\n')  # fmt: skip


def test_replaced_addresses_are_kept_in_the_dialog(bench) -> None:
    b = bench(DIALOG + """request_route {
        if (loose_route()) { t_relay(); exit; }
        dlg_manage(); record_route(); uac_replace_from("sip:new@n.test"); uac_replace_to("sip:callee@n.test"); xlog("L_NOTICE", "was $avp(was)\\n");
        $du = "sip:127.0.0.1:7000"; t_relay(); }""")
    b.request("INVITE", "sip:bob@127.0.0.1:7000")
    invite = b.take()[-1]
    assert (invite.get("From"), invite.get("To")) == ("<sip:new@n.test>;tag=f1", "<sip:callee@n.test>")
    route = invite.get("Record-Route") or ""
    assert "vsf=" not in route
    b.reply(invite, "200 OK", f"Contact: <sip:bob@127.0.0.1:7000>\r\nRecord-Route: {route}")
    ok = b.take()[-1]
    assert (ok.get("From"), ok.get("To")) == ("<sip:alice@a.test>;tag=f1", "<sip:bob@b.test>;tag=t1")
    assert any("was sip:alice@a.test" in line for line in b.log.lines)
    b.request("INFO", "sip:bob@127.0.0.1:7000", f"Route: {route}", to_tag="t1", cseq=2)
    info = b.take()[-1]
    assert (info.get("From"), info.get("To")) == ("<sip:new@n.test>;tag=f1", "<sip:callee@n.test>;tag=t1")
    b.recv(f"INFO sip:alice@127.0.0.1:6000 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:7000;branch=z9hG4bKup\r\nFrom: <sip:callee@n.test>;tag=t1\r\n"
           f"To: <sip:new@n.test>;tag=f1\r\nCall-ID: c1\r\nCSeq: 7 INFO\r\nRoute: {route}\r\n\r\n", ("127.0.0.1", 7000))  # fmt: skip
    back = b.take()[-1]
    assert (back.get("From"), back.get("To")) == ("<sip:bob@b.test>;tag=t1", "<sip:alice@a.test>;tag=f1")


def test_restore_dlg_needs_the_dialog_module(bench) -> None:
    with pytest.raises(ConfigError, match="needs module dialog"):
        bench('loadmodule "uac.so"\nmodparam("uac", "restore_dlg", 1)\nrequest_route { exit; }')
