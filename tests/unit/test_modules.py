"""Modules: declarations against the catalogue, and behaviour in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kamc import catalogue
from kamc.declare.routes import Routes
from kamc.registry import find_module, shipped
from tests.harness import HEAD, Bench


@pytest.mark.parametrize("name", shipped())
def test_declarations_agree_with_the_catalogue(name: str) -> None:
    """What a module declares exists in Kamailio with the same arity and route mask; what it leaves out is refused, not ignored."""
    cls = find_module(name)
    assert cls is not None and cls.name == name
    row = catalogue.modules()[name]
    declared = cls.declarations()
    for function, decls in declared.functions.items():
        facts = row["functions"][function]
        masks = Routes(0)
        for decl in decls:
            assert any(decl.accepts(n) for n in range(facts["min"], facts["max"] + 1)), function
            assert not any(decl.accepts(n) for n in range(facts["max"] + 1, 8)), function
            assert not any(decl.accepts(n) for n in range(facts["min"])), function
            masks |= decl.routes
        wanted = Routes(0)
        for word in facts["routes"]:
            wanted |= Routes[word]
        assert masks == wanted, function
    unknown = [p for p in (*declared.params, *cls.ignored_params) if p not in row["params"]]
    allowed = {"dialog": {"dlg_flag"},
               "tm": {"delete_timer", "hash_size", "own_cancel", "tm_aggregate_challenges", "contact_flows_avp", "cancel_reason_avp", "reply_to_via"}}  # fmt: skip
    assert [p for p in unknown if p not in allowed.get(name, set())] == []
    assert [c for c in declared.rpcs if c not in row["rpc"]] == []


@pytest.mark.parametrize("name", shipped())
def test_whole_modules(name: str) -> None:
    """Every function of the module is there, but for the ones named here with their reason."""
    msrp = {"msrp_forward", "msrp_relay", "msrp_reply", "msrp_is_request", "msrp_is_reply", "msrp_set_dst", "msrp_relay_flags", "msrp_reply_flags",
            "msrp_cmap_save", "msrp_cmap_lookup"}  # fmt: skip
    left_out = {
        "async": {"async_tkv_emit"},  # key-values for event_route[core:tkv]
        "dispatcher": {"ds_oc_set_attrs", "ds_dsg_fetch", "ds_dsg_fetch_uri"},  # overload control
        "http_client": {"http_client_request_v2pk", "http_client_response_headers_set", "http_client_response_headers_clear"},  # newer than the documentation
        "ipops": {"ptr_query"},  # newer than the documentation
        "dialog": {"dlg_remove_dialogs_from_node", "dlg_update_state"},  # DMQ, and one that the documentation does not name
        "rtpengine": {"rtpengine_subscribe_request", "rtpengine_subscribe_answer", "rtpengine_unsubscribe"},  # newer than the documentation
        "websocket": {"ws_connect", "ws_connect_url", "ws_send"},  # connections to WebSocket servers
        "msrp": msrp,  # MSRP on TCP connections
    }
    cls = find_module(name)
    assert cls is not None
    assert set(catalogue.modules()[name]["functions"]) - set(cls.declarations().functions) == left_out.get(name, set())


REGISTRAR = HEAD + 'loadmodule "usrloc.so"\nloadmodule "registrar.so"\nloadmodule "jsonrpcs.so"\n'
SAVE = ('request_route { if (is_method("REGISTER")) { save("location"); exit; } if (!lookup("location")) { sl_send_reply("404", "rc $rc"); exit; } '
        'append_hf("X-Du: $du\\r\\n"); t_relay(); }\n')  # fmt: skip


def register(b: Bench, contact: str, *lines: str, cseq: int = 1, call_id: str = "r1") -> str:
    b.request("REGISTER", "sip:b.test", f"Contact: {contact}" if contact else "X: y", *lines, cseq=cseq, call_id=call_id)
    (reply,) = b.take()
    return reply.text


def strip_contact(text: str) -> list[str]:
    return [line for line in text.split("\r\n") if line.startswith("Contact:")]


def test_register_lookup_expire(bench: Callable[..., Bench]) -> None:
    # the harness puts a Contact of its own into each request: registering adds that binding as well
    b = bench('modparam("usrloc", "timer_interval", 1)\n' + SAVE, head=REGISTRAR)
    text = register(b, "<sip:line@127.0.0.1:7000>;q=0.9", "Expires: 60")
    assert text.startswith("SIP/2.0 200 OK")
    assert "<sip:line@127.0.0.1:7000>;q=0.9;expires=60" in text
    b.request("MESSAGE", "sip:bob@b.test", call_id="m1")
    assert b.take()[0].first == "MESSAGE sip:line@127.0.0.1:7000 SIP/2.0"
    b.advance(61)
    b.request("MESSAGE", "sip:bob@b.test", call_id="m2")
    assert "SIP/2.0 404 rc -1" in b.firsts()


def test_old_cseq_and_bad_star_are_refused(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=REGISTRAR)
    register(b, "<sip:x@127.0.0.1:7000>", cseq=10)
    assert register(b, "<sip:x@127.0.0.1:7000>;expires=0", cseq=9).startswith("SIP/2.0 400")
    assert "P-Registrar-Error: * used in contact" in register(b, "*", "Expires: 0", cseq=11)


@pytest.mark.parametrize(
    ("contact", "answer"),
    [
        ("<sip:x@127.0.0.1:7000>/;expires=60", "200 OK"),
        ("<sip:x@127.0.0.1:7000>/, <sip:y@127.0.0.1:7000>", "200 OK"),
        ("<sip:x@127.0.0.1:7000>//;/", "200 OK"),
        ('<sip:x@127.0.0.1:7000>"a"', "400 Bad Request"),
        ('<sip:x@127.0.0.1:7000>;+sip.instance="<urn:uuid:1>";reg-id=1', "200 OK"),
        ('<sip:x@127.0.0.1:7000>;+sip.instance="<urn:uuid:1>";reg-id=0', "400 Bad Request"),
        ('<sip:x@127.0.0.1:7000>;+sip.instance="<urn:uuid:1>";reg-id=99999999999', "400 Bad Request"),
        ('<sip:x@127.0.0.1:7000>;+sip.instance="<urn:uuid:1>";reg-id=x', "400 Bad Request"),
        ("<sip:x@127.0.0.1:7000>;reg-id=x", "200 OK"),
    ],
)
def test_contacts_that_are_odd(bench: Callable[..., Bench], contact: str, answer: str) -> None:
    b = bench(SAVE, head=REGISTRAR)
    text = register(b, contact)
    assert text.startswith(f"SIP/2.0 {answer}")
    assert ("<sip:x@127.0.0.1:7000>;" in text) == (answer == "200 OK")


def test_usrloc_rpc(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=REGISTRAR)
    register(b, "<sip:x@127.0.0.1:7000>")
    for path, received, socket in ((".", ".", "0"), ("0", "sip:192.0.2.1:5070", "udp:127.0.0.1:5060"), ("<sip:p.test;lr>", "0", ".")):
        b.rpc("ul.add", "location", "eve", "sip:eve@127.0.0.1:7009", 60, "0.5", path, 0, 0, -1, received, socket)
        row = b.rpc("ul.lookup", "location", "eve")["Contacts"][0]["Contact"]
        assert [row[name] for name in ("Path", "Received", "Socket")] == [text if text not in (".", "0") else "[not set]" for text in (path, received, socket)]
        assert (row["Expires"], row["Q"], row["Methods"]) == (60, 0.5, 4294967295)
    with pytest.raises(Exception, match="Invalid socket"):
        b.rpc("ul.add", "location", "eve", "sip:eve@127.0.0.1:7009", 60, 0.5, ".", 0, 0, -1, ".", "udp:1.2.3.4:5")
    b.rpc("ul.rm", "location", "eve")
    found = b.rpc("ul.lookup", "location", "bob")
    assert found["AoR"] == "bob" and any(c["Contact"]["Address"] == "sip:x@127.0.0.1:7000" for c in found["Contacts"])
    b.rpc("ul.rm", "location", "bob")
    assert b.rpc("ul.dump")["Domains"][0]["Domain"]["AoRs"] == []


def test_record_route_and_loose_route(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { if (loose_route()) { t_relay(); exit; } record_route(); t_relay(); }\n')
    b.request("INVITE", "sip:bob@127.0.0.1:7000")
    invite = b.take()[1]
    assert invite.get("Record-Route") == "<sip:127.0.0.1;lr;ftag=f1>"
    b.request("BYE", "sip:bob@127.0.0.1:7001", "Route: <sip:127.0.0.1;lr;ftag=f1>, <sip:127.0.0.1:7009;lr>", to_tag="t", call_id="c2")
    (bye,) = b.take()
    assert bye.to == ("127.0.0.1", 7009) and bye.first == "BYE sip:bob@127.0.0.1:7001 SIP/2.0"
    assert bye.get("Route") == "<sip:127.0.0.1:7009;lr>"


def test_maxfwd(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; } t_relay(); }\n')
    b.request("MESSAGE")
    assert b.take()[0].get("Max-Forwards") == "69"
    b.recv("MESSAGE sip:a@127.0.0.1:7000 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKq\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n"
           "Call-ID: q\r\nCSeq: 1 MESSAGE\r\nMax-Forwards: 0\r\n\r\n")  # fmt: skip
    assert b.firsts() == ["SIP/2.0 483 Too Many Hops"]


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ('append_hf("X-A: 1\\r\\n");', "X-A: 1\r\n"),
        ('remove_hf("Contact");', "!Contact"),
        ('subst_hf("Contact", "/alice/carol/", "a");', "Contact: <sip:carol@"),
        ('set_body("hello", "text/plain");', "Content-Length: 5\r\n"),
        ('append_body_part("x", "text/plain");', ""),
        ('replace("alice", "ALICE");', "ALICE"),
        ('insert_hf("X-First: 1\\r\\n");', "SIP/2.0\r\nX-First: 1\r\n"),
        ('append_hf_value("X-List", "one");', "X-List: one\r\n"),
        ('$fu = "sip:new@x";', "From: <sip:new@x>;tag=f1"),
        ('$fn = "\\"Al\\"";', 'From: "Al" <sip:alice'),
        ('keep_hf();', "!User-Agent"),
    ],
)
def test_edits_reach_the_wire(bench: Callable[..., Bench], statement: str, check: str) -> None:
    b = bench(f"request_route {{ {statement} t_relay(); }}\n")
    b.request("MESSAGE", "sip:bob@127.0.0.1:7000", "User-Agent: test")
    (message,) = b.take()
    if check.startswith("!"):
        assert f"\r\n{check[1:]}:" not in message.text
    else:
        assert check in message.text


def test_changes_show_after_msg_apply_changes(bench: Callable[..., Bench]) -> None:
    b = bench('request_route { append_hf("X-A: 1\\r\\n"); xlog("L_ERR", "a=$hdr(X-A)\\n"); msg_apply_changes(); xlog("L_ERR", "b=$hdr(X-A)\\n"); exit; }\n')
    b.request("MESSAGE")
    assert b.log.lines[-2:] == ["a=<null>", "b=1"]


def test_sanity(bench: Callable[..., Bench]) -> None:
    b = bench('loadmodule "sanity.so"\nrequest_route { sanity_check("17895", "7"); sl_send_reply("200", "OK"); }\n')
    b.recv("OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKq\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n"
           "Call-ID: q\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\r\n")  # fmt: skip
    assert b.firsts() == ["SIP/2.0 400 CSeq method does not match request method"]


def test_accounting(bench: Callable[..., Bench]) -> None:
    b = bench('loadmodule "acc.so"\nmodparam("acc", "log_flag", 1)\nmodparam("acc", "log_extra", "u=$fU;d=$rd")\nrequest_route { setflag(1); t_relay(); }\n')
    b.request()
    b.reply(b.take()[1], "200 OK")
    line = next(text for text in b.log.lines if text.startswith("ACC:"))
    assert "method=INVITE;from_tag=f1;to_tag=t1;call_id=c1;code=200;reason=OK;u=alice;d=127.0.0.1" in line


def test_counters_and_cfg_rpc(bench: Callable[..., Bench]) -> None:
    b = bench('loadmodule "counters.so"\nloadmodule "cfg_rpc.so"\nmodparam("counters", "script_counter", "my.hits how often")\n;my.limit = 5 desc "x"\n'
              'request_route { cnt_inc("my.hits"); xlog("L_ERR", "limit $sel(cfg_get.my.limit)\\n"); }\n')  # fmt: skip
    b.request("OPTIONS")
    assert b.rpc("cnt.get", "my", "hits") == 1
    b.rpc("cfg.set_now_int", "my", "limit", 9)
    b.request("OPTIONS", call_id="c2")
    assert b.log.lines[-1] == "limit 9"


def test_dlgs(bench: Callable[..., Bench]) -> None:
    b = bench('loadmodule "dlgs.so"\nrequest_route { if (is_method("INVITE")) dlgs_init("$fu", "$tu", "x"); dlgs_update(); t_relay(); }\n')
    b.request()
    b.reply(b.take()[1], "200 OK")
    assert b.rpc("dlgs.stats")["answered"] == 1
    b.request("BYE", "sip:bob@127.0.0.1:7000", to_tag="t", cseq=2)
    assert b.rpc("dlgs.stats")["terminated"] == 1


def test_jsonrpc_from_the_script(bench: Callable[..., Bench]) -> None:
    b = bench('loadmodule "jsonrpcs.so"\nmodparam("jsonrpcs", "pretty_format", 0)\n'
              "request_route { jsonrpc_exec('{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"core.echo\",\"params\":[\"hi\"]}'); xlog(\"L_ERR\", \"$jsonrpl(body)\\n\"); }\n")
    b.request("OPTIONS")
    assert json.loads(b.log.lines[-1])["result"] == ["hi"]
    with pytest.raises(Exception, match="Method Not Found"):
        b.rpc("no.such")


def test_suspended_transactions_continue(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("pv", "shvset", "i=i:0")\n'
              'request_route { if (is_method("MESSAGE")) { t_newtran(); $avp(keep) = "v"; t_suspend(); $shv(i) = $T(id_index); $shv(l) = $T(id_label); exit; } '
              't_continue("$shv(i)", "$shv(l)", "BACK"); sl_send_reply("200", "OK"); }\nroute[BACK] { t_reply("202", "$avp(keep)"); }\n')  # fmt: skip
    b.request("MESSAGE")
    assert b.take() == []
    b.request("OPTIONS", call_id="c2")
    assert b.firsts() == ["SIP/2.0 202 v", "SIP/2.0 200 OK"]


REDIRECT = HEAD + 'loadmodule "uac_redirect.so"\n'
FOLLOW = 'request_route { t_on_failure("R"); t_relay(); }\nfailure_route[R] { %s if (get_redirects("%s")) t_relay(); }\n'


@pytest.mark.parametrize(
    ("before", "limit", "expected"),
    [
        ("", "*", ["c", "a", "b"]),
        ("", "2:2", ["c", "a"]),
        ("", "1", ["c"]),
        ("", "*:1", ["c"]),
        ('set_deny_filter("^sip:c@", "");', "*", ["a", "b"]),
        ('set_accept_filter("^sip:c@", ""); set_deny_filter(".", "");', "*", ["c"]),
    ],
)
def test_contacts_of_a_redirection_become_branches(tmp_path: Path, before: str, limit: str, expected: list[str]) -> None:
    b = Bench(tmp_path, FOLLOW % (before, limit), head=REDIRECT)
    b.request()
    b.reply(b.take()[1], "302 Moved", "Contact: <sip:a@127.0.0.1:7001>;q=0.5, <sip:b@127.0.0.1:7001>", "Contact: <sip:c@127.0.0.1:7001>;q=1.0, <nonsense>")
    assert [m.first.split()[1][4] for m in b.take() if m.first.startswith("INVITE")] == expected


NAT = HEAD + 'loadmodule "nathelper.so"\nmodparam("nathelper", "received_avp", "$avp(rcv)")\n'
SDP_BODY = "v=0\r\no=- 1 1 IN IP4 10.0.0.7\r\ns=-\r\nc=IN IP4 10.0.0.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


@pytest.mark.parametrize(
    ("call", "contact", "expected"),
    [
        ("fix_nated_contact();", '"Al" <sip:a@10.0.0.1:5070;x=y>;q=1', '"Al" <sip:a@127.0.0.1:7000;x=y>;q=1'),
        ("fix_nated_contact();", "sip:a@10.0.0.1;expires=9", "<sip:a@127.0.0.1:7000>;expires=9"),
        ("set_contact_alias();", "<sip:a@10.0.0.1;alias=1.1.1.1~1~1>, *", "<sip:a@10.0.0.1;alias=1.1.1.1~1~1>, *"),
        ("set_contact_alias();", "<sip:a@10.0.0.1;alias=1.1.1.1~1~1>", "<sip:a@10.0.0.1;alias=127.0.0.1~7000~1>"),
        ('add_contact_alias("10.9.9.9", "99999", "udp");', "<sip:a@10.0.0.1>", "<sip:a@10.0.0.1>"),
        ('add_contact_alias("10.9.9.9", "99", "tls");', "<sip:a@10.0.0.1>", "<sip:a@10.0.0.1;alias=10.9.9.9~99~3>"),
        ("add_rcv_param(1);", "<sip:a@10.0.0.1>", "<sip:a@10.0.0.1;received=sip:127.0.0.1:7000>"),
    ],
)
def test_nat_contacts(tmp_path: Path, call: str, contact: str, expected: str) -> None:
    b = Bench(tmp_path, f'request_route {{ {call} $du = "sip:127.0.0.1:7001"; t_relay(); }}\n', head=NAT)
    b.request("MESSAGE", "sip:bob@127.0.0.1:7001", f"Contact: {contact}", port=7000)
    (sent,) = [m for m in b.take() if m.first.startswith("MESSAGE")]
    assert sent.all("Contact")[-1] == expected


@pytest.mark.parametrize(
    ("uri", "code", "du", "ruri"),
    [
        ("sip:b@10.0.0.1;alias=192.0.2.1~5071~2;x=1", 1, "sip:192.0.2.1:5071;transport=tcp", "sip:b@10.0.0.1;x=1"),
        ("sip:b@10.0.0.1;x=1", 2, "<null>", "sip:b@10.0.0.1;x=1"),
        ("sip:b@10.0.0.1;alias=192.0.2.1~5071", -1, "<null>", "sip:b@10.0.0.1;alias=192.0.2.1~5071"),
        ("sip:b@10.0.0.1;alias=192.0.2.1~5071~9", -1, "<null>", "sip:b@10.0.0.1;alias=192.0.2.1~5071~9"),
    ],
)
def test_nat_alias_of_the_request_uri(tmp_path: Path, uri: str, code: int, du: str, ruri: str) -> None:
    b = Bench(tmp_path, 'request_route { $var(r) = handle_ruri_alias(); xlog("L_ERR", "got $var(r) $du $ru\\n"); }\n', head=NAT)
    b.request("MESSAGE", uri=uri)
    assert f"got {code} {du} {ruri}" in b.log.lines


def test_nat_sdp_keeps_its_length(tmp_path: Path) -> None:
    b = Bench(tmp_path, 'request_route { fix_nated_sdp("11", "192.0.2.9"); $du = "sip:127.0.0.1:7001"; t_relay(); }\n', head=NAT)
    b.request("MESSAGE", body=SDP_BODY)
    (sent,) = [m for m in b.take() if m.first.startswith("MESSAGE")]
    body = sent.text.split("\r\n\r\n", 1)[1]
    assert "o=- 1 1 IN IP4 192.0.2.9\r\n" in body and "c=IN IP4 192.0.2.9\r\n" in body
    assert body.endswith("a=direction:active\r\na=oldmediaip:10.0.0.7\r\n")
    assert sent.get("Content-Length") == str(len(body))


PATH = HEAD + 'loadmodule "path.so"\nmodparam("path", "use_received", 1)\n'


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("add_path();", "<sip:127.0.0.1:5060;lr>"),
        ('add_path("edge", "x=y");', "<sip:edge@127.0.0.1:5060;lr;x=y>"),
        ("add_path_received();", "<sip:127.0.0.1:5060;lr;received=sip:127.0.0.1%3A6000>"),
        ('add_path_advertised_address("edge.test:5070");', "<sip:edge.test:5070;lr>"),
    ],
)
def test_path_goes_on_top(tmp_path: Path, call: str, expected: str) -> None:
    b = Bench(tmp_path, f'request_route {{ {call} $du = "sip:127.0.0.1:7001"; t_relay(); }}\n', head=PATH)
    b.request("REGISTER", "sip:a.test", "Path: <sip:inner.test;lr>")
    (sent,) = [m for m in b.take() if m.first.startswith("REGISTER")]
    assert sent.all("Path") == [expected, "<sip:inner.test;lr>"]


@pytest.mark.parametrize("received", ["sip:127.0.0.1%3A7009", "127.0.0.1~7009~1"])
def test_path_received_leads_back(tmp_path: Path, received: str) -> None:
    b = Bench(tmp_path, "request_route { loose_route(); t_relay(); }\n", head=PATH)
    b.request("MESSAGE", "sip:phone@10.0.0.1", f"Route: <sip:127.0.0.1:5060;lr;received={received}>")
    (sent,) = [m for m in b.take() if m.first.startswith("MESSAGE")]
    assert sent.to == ("127.0.0.1", 7009)
    assert sent.get("Route") is None


def test_a_bad_received_parameter_is_not_followed(tmp_path: Path) -> None:
    b = Bench(tmp_path, "request_route { loose_route(); t_relay(); }\n", head=PATH)
    b.request("MESSAGE", "sip:phone@127.0.0.1:7003", "Route: <sip:127.0.0.1:5060;lr;received=%00nonsense>")
    (sent,) = [m for m in b.take() if m.first.startswith("MESSAGE")]
    assert sent.to == ("127.0.0.1", 7003)
    assert any("bad received parameter" in line for line in b.log.lines)


CFGUTILS = HEAD + 'loadmodule "cfgutils.so"\nmodparam("cfgutils", "initial_gflags", 2)\n'


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        # numbers of the real module
        (['core_hash("abcdefg", "xy", "0")', 'core_hash("abcdefg", "xy", "8")', 'core_hash("abcdefg", "", "12")'], "2 214 3917"),
        (['check_route_exists("FOO")', 'check_route_exists("NOPE")', 'route_if_exists("FOO")', 'route_if_exists("NOPE")'], "1 -1 7 -1"),
        (['lock("x")', 'trylock("x")', 'unlock("x")', 'trylock("x")', 'unlock("x")', 'unlock("x")'], "1 -1 1 1 1 1"),
        (['is_gflag("1")', 'is_gflag("3")', 'set_gflag("3")', 'is_gflag("3")', 'reset_gflag("3")', 'is_gflag("3")'], "1 -1 1 1 1 -1"),
        (["rand_get_prob()", 'rand_set_prob("0")', "rand_event()", 'rand_set_prob("100")', "rand_event()", "rand_reset_prob()", "rand_get_prob()"], "10 1 -1 1 1 1 10"),
        (['rand_set_prob("101")', 'set_gflag("77")', "pkg_status()"], "-1 1 1"),
    ],
)
def test_cfgutils_as_the_real_one(tmp_path: Path, calls: list[str], expected: str) -> None:
    steps = "".join(f"$var(v{i}) = {call}; " for i, call in enumerate(calls))
    shown = " ".join(f"$var(v{i})" for i in range(len(calls)))
    b = Bench(tmp_path, f'request_route {{ {steps} xlog("L_ERR", "got {shown}\\n"); }}\nroute[FOO] {{ return 7; }}\n', head=CFGUTILS)
    b.request("OPTIONS")
    assert f"got {expected}" in b.log.lines
