"""Module acc: call detail records (recorded from Kamailio 5.6.3) and accounting to tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from tests.harness import HEAD, Bench

DIALOG = HEAD + 'loadmodule "dialog.so"\nmodparam("dialog", "dlg_match_mode", 1)\n'
ROUTE = """
request_route {
    if (has_totag()) { loose_route(); t_relay(); exit; }
    record_route(); $dlg_ctx(timeout_bye) = 1; dlg_manage(); $dlg_var(who) = "w;q"; setflag(1); setflag(2); setflag(3);
    if ($rU == "short") dlg_set_timeout("1");
    if ($rU == "skip") $dlg_var(skip) = 1;
    $ru = "sip:bob@127.0.0.1:7000"; t_relay();
}
"""


def call(b: Bench, user: str = "bob", status: str = "200 OK", wait: float = 0.3) -> None:
    """An INVITE, its answer after a while, and the ACK after another; then nobody says anything."""
    b.request("INVITE", f"sip:{user}@127.0.0.1", call_id=user)
    invite = next(m for m in b.take() if m.first.startswith("INVITE"))
    b.advance(wait)
    b.reply(invite, status, "Contact: <sip:bob@127.0.0.1:7000>")
    b.advance(wait)
    if status.startswith("2"):
        within(b, "ACK", user)
    b.take()


def within(b: Bench, method: str, user: str) -> None:
    b.request(method, "sip:bob@127.0.0.1:7000", "Route: <sip:127.0.0.1;lr>", call_id=user, cseq=2 if method != "ACK" else 1, to_tag="t1")


def records(b: Bench) -> list[str]:
    return [re.sub(r"\d{10}\.(\d{3})", r"T.\1", line) for line in b.log.lines if "caller=" in line]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("", ["start_time=T.000; end_time=T.600; duration=1.600; caller=w;q; nope="]),
        ('modparam("acc", "cdr_start_on_confirmed", 1)\n', ["start_time=T.600; end_time=T.600; duration=1.000; caller=w;q; nope="]),
        ('modparam("acc", "cdr_start_id", "st")\nmodparam("acc", "cdr_end_id", "et")\nmodparam("acc", "cdr_duration_id", "du")\n',
         ["st=T.000; et=T.600; du=1.600; caller=w;q; nope="]),
        ('modparam("acc", "cdr_log_enable", 0)\n', []),
    ],
)  # fmt: skip
def test_a_call_that_ends_by_bye(bench, params: str, expected: list[str]) -> None:
    b = bench('loadmodule "acc.so"\nmodparam("acc", "cdr_enable", 1)\n'
              'modparam("acc", "cdr_extra", "caller=$dlg_var(who);nope=$avp(nope)")\n' + params + ROUTE, head=DIALOG)  # fmt: skip
    call(b)
    b.advance(1)
    within(b, "BYE", "bob")
    assert records(b) == expected


def test_failed_expired_and_skipped_calls(bench) -> None:
    b = bench('loadmodule "acc.so"\nmodparam("acc", "cdr_enable", 1)\nmodparam("acc", "cdr_extra", "caller=$ci")\nmodparam("acc", "cdr_skip", "skip")\n'
              'modparam("acc", "cdr_expired_dlg_enable", 1)\n' + ROUTE, head=DIALOG)  # fmt: skip
    call(b, "bob", "486 Busy Here")
    call(b, "skip")
    within(b, "BYE", "skip")
    call(b, "short")
    b.advance(3)
    assert [r.partition("duration=")[2] for r in records(b)] == ["0; caller=bob", "1.300; caller=123"]


def text_tables(tmp_path: Path) -> Path:
    folder = tmp_path / "dbtext"
    folder.mkdir()
    columns = "id(int,auto) method(string) from_tag(string) to_tag(string) callid(string) sip_code(string) sip_reason(string) time(int) src(string,null)\n"
    for name in ("acc", "missed_calls", "mine"):
        (folder / name).write_text(columns)
    (folder / "acc_cdrs").write_text("id(int,auto) start_time(int) end_time(int) duration(double) caller(string)\n")
    (folder / "version").write_text("table_name(string) table_version(int)\nacc:5\nmissed_calls:5\n")
    return folder


def test_rows(bench, tmp_path: Path) -> None:
    folder = text_tables(tmp_path)
    b = bench('loadmodule "db_text.so"\nloadmodule "acc.so"\n' + f'modparam("acc", "db_url", "text://{folder}")\n'
              'modparam("acc", "db_flag", 1)\nmodparam("acc", "db_missed_flag", 2)\nmodparam("acc", "failed_transaction_flag", 4)\n'
              'modparam("acc", "db_extra", "src=$fU")\n'
              'modparam("acc", "cdr_enable", 1)\nmodparam("acc", "cdrs_table", "acc_cdrs")\nmodparam("acc", "cdr_extra", "caller=$dlg_var(who)")\n'
              + ROUTE.replace("t_relay(); exit; }", 't_relay(); exit; } acc_db_request("480 By Hand", "mine");', 1), head=DIALOG)  # fmt: skip
    call(b)
    call(b, "busy", "486 Busy Here")
    within(b, "BYE", "bob")
    assert (folder / "acc").read_text().splitlines()[1:] == ["1:INVITE:f1:t1:bob:200:OK:1700001000:alice"]
    assert (folder / "missed_calls").read_text().splitlines()[1:] == ["1:INVITE:f1:t1:busy:486:Busy Here:1700001000:alice"]
    assert (folder / "mine").read_text().splitlines()[1:] == ["1:INVITE:f1::bob:480:By Hand:1700001000:alice", "2:INVITE:f1::busy:480:By Hand:1700001000:alice"]
    assert [line.split(":")[3:] for line in (folder / "acc_cdrs").read_text().splitlines()[1:]] == [["0.00", "w;q"], ["1.20", "w;q"]]
    (folder / "acc").unlink()
    call(b, "lost")
    assert any("a record is lost" in line for line in b.log.lines)


@pytest.mark.parametrize(("mode", "shape"), [(1, r"time_attr=\d{10};time_exten=\d+$"), (2, r"time_attr=\d{10}\.\d{3}$"), (4, r"time_attr=2023-11-14 \d\d:\d\d:\d\d$")])
def test_time_modes(bench, mode: int, shape: str) -> None:
    b = bench(f'loadmodule "acc.so"\nmodparam("acc", "log_flag", 1)\nmodparam("acc", "time_mode", {mode})\n'
              f'request_route {{ setflag(1); t_newtran(); t_reply("200", "OK"); }}\n')  # fmt: skip
    b.request("MESSAGE")
    assert re.search(shape, next(line for line in b.log.lines if "ACC:" in line))


@pytest.mark.parametrize("params", ['modparam("acc", "db_flag", 1)', 'modparam("acc", "cdr_enable", 1)', 'modparam("acc", "log_extra", "x")'])
def test_parameters_that_do_not_fit(bench, params: str) -> None:
    with pytest.raises(ConfigError, match="acc: "):
        bench(f'loadmodule "acc.so"\n{params}\nrequest_route {{ exit; }}\n')


LEGS = """loadmodule "acc.so"
modparam("acc", "log_flag", 1)
modparam("acc", "log_missed_flag", 1)
modparam("acc", "log_extra", "ex=$hdr(X-E)")
modparam("acc", "multi_leg_info", "src=$avp(src);dst=$avp(s:dst)")
modparam("acc", "reason_from_hf", 1)
request_route {
    setflag(1);
    if ($rU == "legs") { $avp(src) = "s1"; $avp(dst) = "d1"; $avp(src) = "s2"; $avp(dst) = "d2"; $avp(src) = 3; }
    $du = "sip:127.0.0.1:7000"; t_relay();
}
"""


@pytest.mark.parametrize(("user", "reply", "expected"), [
    ("legs", ("200 OK",), "code=200;reason=OK;ex=;src=3;dst=d2;src=s2;dst=d1;src=s1;dst="), ("none", ("200 OK",), "code=200;reason=OK;ex=;src=;dst="),
    ("bad", ("486 Busy", 'Reason: SIP;cause=600;text="Gone fishing"', "Reason: Q.850;cause=1"), 'code=486;reason=SIP;cause=600;text="Gone fishing";ex=;src=;dst='),
])  # fmt: skip
def test_legs_of_a_call_and_reasons(bench, user: str, reply: tuple[str, ...], expected: str) -> None:
    b = bench(LEGS)
    b.request("INVITE", f"sip:{user}@h")
    b.reply(b.take()[-1], *reply)
    assert any(line.endswith(expected) for line in b.log.lines)


@pytest.mark.parametrize("text", ["src", "src=$var(x)", "=$avp(a)", "src=$avp($var(x))"])
def test_legs_that_are_no_avps(bench, text: str) -> None:
    with pytest.raises(ConfigError, match="multi_leg_info"):
        bench(LEGS.replace("src=$avp(src);dst=$avp(s:dst)", text))
