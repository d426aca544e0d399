"""Registrations at other servers (module uac), compared with Kamailio 5.6.3."""

from __future__ import annotations

from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault

HEADER = ("id(int,auto) l_uuid(string) l_username(string) l_domain(string) r_username(string) r_domain(string) realm(string) "
          "auth_username(string) auth_password(string) auth_ha1(string,null) auth_proxy(string) expires(int) flags(int) reg_delay(int) "
          "contact_addr(string,null) socket(string,null)\n")  # fmt: skip
ROW = "1:id0:joe:local.test:rjoe:remote.test:remote.test:authjoe:pw::sip\\:127.0.0.1\\:7000:60:0:0::\n"
ROUTE = """
request_route {
    if ($rU == "st") $var(r) = uac_reg_status("id0");
    if ($rU == "lk") { $var(r) = uac_reg_lookup("id0", "$var(u)"); }
    if ($rU == "lu") { $var(r) = uac_reg_lookup_uri("sip:joe@local.test", "$var(u)"); }
    if ($rU == "to") { $var(r) = uac_reg_request_to("joe", "1"); t_relay(); exit; }
    sl_send_reply("200", "r $var(r) $var(u)");
}
"""


def server(bench, tmp_path: Path, rows: str = ROW, params: str = ""):
    folder = tmp_path / "dbtext"
    folder.mkdir()
    (folder / "uacreg").write_text(HEADER + rows)
    (folder / "version").write_text("table_name(string) table_version(int)\nuacreg:5\n")
    return bench('loadmodule "db_text.so"\nloadmodule "uac.so"\nmodparam("uac", "restore_mode", "none")\nmodparam("uac", "reg_timer_interval", 1)\n'
                 'modparam("uac", "reg_contact_addr", "127.0.0.1:5060")\nmodparam("uac", "auth_username_avp", "$avp(u)")\nmodparam("uac", "auth_realm_avp", "$avp(r)")\n'
                 f'modparam("uac", "auth_password_avp", "$avp(p)")\nmodparam("uac", "reg_db_url", "text://{folder}")\n' + params + ROUTE)  # fmt: skip


def ask(b, user: str) -> str:
    b.request("OPTIONS", f"sip:{user}@127.0.0.1")
    return b.take()[-1].first.partition(" r ")[2]


def flags(b) -> int:
    return b.rpc("uac.reg_info", "l_uuid", "id0")["flags"]


def registers(b) -> list:
    """Without retransmissions."""
    return list({m.text: m for m in b.take() if m.first.startswith("REGISTER")}.values())


def test_register_challenge_and_renewal(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    assert (registers(b), flags(b)) == ([], 0)
    b.advance(1)
    (first,) = registers(b)
    assert (first.first, first.to[1], first.get("From").partition(";")[0], first.get("To"), first.get("Contact"), first.get("Expires")) == (
        "REGISTER sip:remote.test SIP/2.0", 7000, "<sip:rjoe@remote.test>", "<sip:rjoe@remote.test>", "<sip:id0@127.0.0.1:5060>", "60")  # fmt: skip
    assert flags(b) == 18 and ask(b, "st").startswith("-2")
    b.reply(first, "401 Unauthorized", 'WWW-Authenticate: Digest realm="remote.test", nonce="abc", qop="auth"')
    (second,) = registers(b)
    assert 'username="authjoe"' in second.get("Authorization") and flags(b) == 26
    assert (second.get("Call-ID"), second.get("CSeq")) == (first.get("Call-ID"), "11 REGISTER")
    b.reply(second, "200 OK", "Contact: <sip:id0@127.0.0.1:5060>;expires=30")
    assert flags(b) == 20 and ask(b, "st").startswith("1")
    assert b.worker.counters.values["uac", "regactive"] == 1
    b.advance(25)
    assert registers(b) == []
    b.advance(3)
    (again,) = registers(b)
    assert again.get("Call-ID") != first.get("Call-ID")


def test_a_second_challenge_is_a_failure(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path, params='modparam("uac", "reg_retry_interval", 5)\n')
    b.advance(1)
    challenge = 'WWW-Authenticate: Digest realm="remote.test", nonce="abc"'
    b.reply(registers(b)[0], "401 Unauthorized", challenge)
    b.reply(registers(b)[0], "401 Unauthorized", challenge)
    assert flags(b) == 16 and ask(b, "st").startswith("-99")
    b.advance(4)
    assert registers(b) == []
    b.advance(3)
    assert len(registers(b)) == 1


def test_without_a_retry_interval_a_failure_switches_off(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    b.advance(1)
    b.reply(registers(b)[0], "403 Forbidden")
    assert flags(b) == 17 and ask(b, "st").startswith("-3")
    b.advance(100)
    assert registers(b) == []
    b.rpc("uac.reg_enable", "l_uuid", "id0")
    b.advance(2)
    assert len(registers(b)) == 1


def test_too_brief(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    b.advance(1)
    b.reply(registers(b)[0], "423 Interval Too Brief", "Min-Expires: 300")
    (again,) = registers(b)
    assert (again.get("Expires"), again.get("CSeq")) == ("300", "11 REGISTER")


def test_delays_and_switching_off(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path, ROW.replace(":60:0:0:", ":60:0:10:"))
    b.rpc("uac.reg_active", 0)
    b.advance(20)
    assert registers(b) == []
    assert b.rpc("uac.reg_active", 1) == {"omode": 0, "nmode": 1}
    b.advance(1)
    assert len(registers(b)) == 1


def test_lookups_and_requests(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    assert ask(b, "lk") == "1 sip:joe@local.test"
    assert ask(b, "lu") == "1 id0"
    b.request("MESSAGE", "sip:to@127.0.0.1")
    (sent,) = [m for m in b.take() if m.first.startswith("MESSAGE")]
    assert (sent.first, sent.to[1]) == ("MESSAGE sip:rjoe@remote.test SIP/2.0", 7000)


def test_adding_removing_and_reloading(bench, tmp_path: Path) -> None:
    b = server(bench, tmp_path)
    row = ("id9", "j", "l.t", "r", "r.t", "r.t", "a", "p", ".", "sip:127.0.0.1:7000", 60, 0, 0, ".", ".")
    b.rpc("uac.reg_add", *row)
    assert b.rpc("uac.reg_info", "l_username", "j")["socket"] is None
    for call, code in ((("uac.reg_add", *row), 409), (("uac.reg_add", "x"), 400), (("uac.reg_add", "id8", *row[1:9], "nonsense", *row[10:]), 500),
                       (("uac.reg_info", "bogus", "x"), 400), (("uac.reg_info", "l_uuid", "x"), 404), (("uac.reg_remove", "x"), 404)):  # fmt: skip
        with pytest.raises(RpcFault) as fault:
            b.rpc(*call)
        assert fault.value.code == code
    b.rpc("uac.reg_remove", "id9")
    (tmp_path / "dbtext" / "uacreg").write_text(HEADER + ROW + ROW.replace("1:id0", "2:id1") + ROW.replace(":pw:", "::").replace("1:id0", "3:id2"))
    b.advance(1)
    b.rpc("uac.reg_reload")
    assert [(r["l_uuid"], r["flags"]) for r in b.rpc("uac.reg_dump")] == [("id1", 0), ("id0", 18)]
    assert any("neither auth_password nor auth_ha1" in line for line in b.log.lines)
    b.rpc("uac.reg_unregister", "l_uuid", "id1")
    assert [m.get("Expires") for m in registers(b)] == ["60", "0"]


def test_what_is_refused_at_start(bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reg_timer_interval"):
        server(bench, tmp_path, params='modparam("uac", "reg_timer_interval", 0)\n')
