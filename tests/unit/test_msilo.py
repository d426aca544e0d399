"""Module msilo: messages that wait for their owner. What is stored and sent was compared with Kamailio 5.6.3."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kamc.errors import ConfigError
from kamc.runtime.dbtables import Tables
from tests.harness import HEAD, Bench, Message

ROUTE = """request_route {
    if (is_method("REGISTER")) { m_dump(); xlog("rc $rc\\n"); exit; }
    if ($rU == "other") { m_dump("sip:bob@b.test"); xlog("rc $rc\\n"); exit; }
    if ($hdr(X-Owner) != $null) { m_store("$hdr(X-Owner)"); xlog("rc $rc\\n"); exit; }
    if ($hdr(X-At) != $null) { $avp(at) = $hdr(X-At); $avp(more) = "X-More: 1\\r\\n"; m_store(); xlog("rc $rc\\n"); exit; }
    if ($rU == "addrs") { m_store_addrs("sip:own@b.test", "sip:src@s", "sip:dst@d"); xlog("rc $rc\\n"); exit; }
    if ($rU == "quiet") setflag(5);
    m_store(); xlog("rc $rc\\n");
}
"""
TELL = ('modparam("msilo", "from_address", "sip:silo@b.test")\nmodparam("msilo", "offline_message", "$rU is away")\n'
        'modparam("msilo", "contact_hdr", "Contact: <sip:silo@b.test>\\r\\n")\n'
        'modparam("msilo", "skip_notification_flag", 5)\n')  # fmt: skip
BOB = "sip:bob@b.test"


class Silo:
    def __init__(self, make: Callable[..., Bench], folder: Path, params: str) -> None:
        self.path = folder / "silo.db"
        tables = Tables(f"sqlite:///{self.path}")
        tables.create()
        tables.close()
        self.b = make(ROUTE, head=HEAD + f'loadmodule "db_sqlite.so"\nloadmodule "msilo.so"\nmodparam("msilo", "db_url", "sqlite:///{self.path}")\n'
                                         f'modparam("msilo", "outbound_proxy", "sip:127.0.0.1:7000")\n{params}')  # fmt: skip
        self.n = 0

    def rows(self, columns: str = "src_addr, dst_addr, username, domain, snd_time, ctype, body, extra_hdrs, status") -> list[tuple[object, ...]]:
        with sqlite3.connect(self.path) as db:
            return db.execute(f"select {columns} from silo order by id").fetchall()

    def send(self, method: str, uri: str, *lines: str, body: str = "") -> str:
        """What the script saw."""
        self.n += 1
        self.b.log.lines.clear()
        self.b.request(method, uri, *lines, *(["Content-Type: text/plain"] if body and not any("Content-Type" in line for line in lines) else []), body=body,
                       branch=f"z9hG4bKm{self.n}")  # fmt: skip
        return next(line.removeprefix("rc ") for line in self.b.log.lines if line.startswith("rc"))

    def sent(self, status: str = "200 OK") -> list[Message]:
        found = [m for m in self.b.take() if m.first.startswith("MESSAGE")]
        for m in found:
            self.b.reply(m, status)
        return found

    def stat(self, name: str) -> int | None:
        return self.b.worker.counters.get("msilo", name)


@pytest.fixture
def silo(bench: Callable[..., Bench], tmp_path: Path) -> Callable[..., Silo]:
    return lambda params="": Silo(bench, tmp_path, params)


def body(m: Message) -> str:
    return m.text.partition("\r\n\r\n")[2]


def test_a_message_waits_and_is_sent(silo: Callable[..., Silo]) -> None:
    s = silo()
    assert s.send("MESSAGE", BOB, body="hello") == "1" and s.send("MESSAGE", BOB, "Content-Type: text/html", "Expires: 100", body="<b>two</b>") == "1"
    assert s.rows() == [("sip:alice@a.test", BOB, "bob", "b.test", 0, "text/plain", "hello", "", 0),
                        ("sip:alice@a.test", BOB, "bob", "b.test", 0, "text/html", "<b>two</b>", "", 0)]  # fmt: skip
    assert [end - begin for begin, end in s.rows("inc_time, exp_time")] == [259200, 100]
    assert s.send("REGISTER", "sip:b.test", "Contact: <sip:bob@127.0.0.1:7000>") == "1"
    one, two = s.sent()
    assert (one.first, one.get("To"), one.get("From").partition(";")[0]) == (f"MESSAGE {BOB} SIP/2.0", f"<{BOB}>", "<sip:alice@a.test>") and one.to == ("127.0.0.1", 7000)
    assert re.fullmatch(r"\[Offline message - \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] hello", body(one)) and one.get("Date").endswith(" GMT")
    assert body(two) == "<b>two</b>" and two.get("Content-Type") == "text/html"
    assert s.rows() == [] and (s.stat("stored_messages"), s.stat("dumped_messages"), s.stat("failed_messages")) == (2, 2, 0)


def test_one_that_is_refused_stays(silo: Callable[..., Silo]) -> None:
    s = silo()
    s.send("MESSAGE", BOB, body="hello")
    assert s.send("OPTIONS", "sip:other@b.test") == "1"
    assert s.send("OPTIONS", "sip:other@b.test") == "1", "while it is on its way it is not sent again"
    assert len(s.sent("480 Away")) == 1 and len(s.rows()) == 1 and s.stat("failed_messages") == 1
    s.send("OPTIONS", "sip:other@b.test")
    assert len(s.sent()) == 1 and s.rows() == []


@pytest.mark.parametrize(("uri", "lines", "text"), [(BOB, (), ""), ("sip:b.test", (), "x"), (BOB, ("X-Owner: sip:b.test",), "x"), (BOB, ("X-Owner: nonsense",), "x")])
def test_what_is_not_stored(silo: Callable[..., Silo], uri: str, lines: tuple[str, ...], text: str) -> None:
    s = silo()
    assert s.send("MESSAGE", uri, *lines, body=text) == "-1" and s.rows() == []


@pytest.mark.parametrize("lines", [("Contact: *", "Expires: 0"), ("Contact: <sip:b@h>", "Expires: 0"), ("Contact: <sip:b@h>;expires=0",)])
def test_who_goes_gets_nothing(silo: Callable[..., Silo], lines: tuple[str, ...]) -> None:
    s = silo()
    s.send("MESSAGE", BOB, body="hello")
    s.n += 1
    s.b.log.lines.clear()
    text = (f"REGISTER sip:b.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKr{s.n}\r\nFrom: <sip:bob@b.test>;tag=1\r\nTo: <sip:bob@b.test>\r\n"
            "Call-ID: r\r\nCSeq: 1 REGISTER\r\n" + "".join(f"{line}\r\n" for line in lines) + "Content-Length: 0\r\n\r\n")  # fmt: skip
    s.b.recv(text)
    assert "rc -1" in s.b.log.lines and s.sent() == []


def test_the_sender_is_told(silo: Callable[..., Silo]) -> None:
    s = silo(TELL)
    s.send("MESSAGE", BOB, body="hello")
    (told,) = s.sent()
    assert (told.first, told.get("To")) == ("MESSAGE sip:alice@127.0.0.1:6000 SIP/2.0", "<sip:alice@a.test>")
    assert (told.get("Contact"), body(told)) == ("<sip:silo@b.test>", "bob is away")
    assert told.get("From").startswith("<sip:silo@b.test>;tag=")
    s.send("MESSAGE", "sip:quiet@b.test", body="hello")
    assert s.sent() == [] and len(s.rows()) == 2


def test_other_addresses(silo: Callable[..., Silo]) -> None:
    s = silo()
    assert s.send("MESSAGE", "sip:addrs@b.test", body="x") == "1"
    assert s.rows("src_addr, dst_addr, username") == [("sip:src@s", "sip:dst@d", "own")]


def test_reminders(silo: Callable[..., Silo]) -> None:
    s = silo('modparam("msilo", "snd_time_avp", "$avp(at)")\nmodparam("msilo", "extra_hdrs_avp", "$avp(more)")\nmodparam("msilo", "reminder", "sip:rem@b.test")\n'
             'modparam("msilo", "check_time", 10)\n')  # fmt: skip
    at = time.strftime("%Y%m%d%H%M%S", time.localtime(s.b.worker.wall_clock() + 25))
    assert s.send("MESSAGE", BOB, f"X-At: {at}", body="milk") == "1" and s.send("MESSAGE", BOB, "X-At: soon", body="x") == "1"
    assert [row[0] > 0 for row in s.rows("snd_time")] == [True, False]
    s.b.advance(21)
    assert s.sent() == []
    s.b.advance(10)
    reminder, *again = s.sent()
    assert all(m.text == reminder.text for m in again)
    assert re.match(r"\[Reminder message - .*\] milk", body(reminder)) and reminder.get("From").startswith("<sip:rem@b.test>") and reminder.get("X-More") == "1"
    assert s.stat("dumped_reminders") == 1 and len(s.rows()) == 1


def test_time_and_number_are_bounded(silo: Callable[..., Silo]) -> None:
    s = silo('modparam("msilo", "max_messages", 2)\nmodparam("msilo", "clean_period", 5)\n')
    assert [s.send("MESSAGE", BOB, "Expires: 60", body="x") for _ in range(3)] == ["1", "1", "-1"]
    s.b.advance(70)
    assert s.rows() == [] and s.send("MESSAGE", BOB, body="x") == "1"


def test_values_are_no_sql_and_no_headers(silo: Callable[..., Silo]) -> None:
    s = silo()
    evil = "'); drop table silo; --"
    assert s.send("MESSAGE", "sip:o'brien@b.test", body=evil) == "1"
    assert s.rows("username, body") == [("o'brien", evil)]


@pytest.mark.parametrize(("params", "text"), [
    ('modparam("msilo", "snd_time_avp", "$var(x)")\n', "is no AVP"), ('modparam("msilo", "check_time", 0)\n', "numbers of seconds"),
    ('modparam("msilo", "db_table", "nosuch")\n', "nosuch"), ('modparam("msilo", "db_url", "")\n', "db_url is empty"),
])  # fmt: skip
def test_parameters_that_are_wrong(silo: Callable[..., Silo], params: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        silo(params)
