"""Kamailio's default configuration with its features switched on, over a MariaDB: each shows by traffic what it is for (skipped without that file, or
without MariaDB)."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kamc.runtime.dbtables import Tables
from tests import databases
from tests.conftest import SHARED, Server
from tests.integration.test_reload import rpc, until
from tests.phone import DOMAIN, Phone, header
from tests.relay import Relay, TextRelay, relay

DEFAULT = SHARED / "corpus" / "kamailio+kamailio" / "etc" / "kamailio.cfg"
FEATURES = ("MYSQL", "AUTH", "IPAUTH", "USRLOCDB", "ALIASDB", "SPEEDDIAL", "MULTIDOMAIN", "ACCDB", "ANTIFLOOD", "BLOCK3XX", "BLOCK401407", "PSTN", "HTABLE", "NAT",
            "RTPRELAY", "JSONRPC", "VOICEMAIL", "PRESENCE", "DEBUG")  # fmt: skip
#: what the configuration says to add to the tables of acc
EXTRA = ("src_user varchar(64), add src_domain varchar(128), add src_ip varchar(64), add dst_ouser varchar(64), add dst_user varchar(64), add dst_domain varchar(128)")
SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\n"
TYPE = "Content-Type: application/sdp"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[databases.Server]:
    if not DEFAULT.is_file():
        pytest.skip("Kamailio's default configuration is not there")
    with databases.server("mysql", tmp_path_factory.mktemp("mysql")) as found:
        yield found


@pytest.fixture
def filled(database: databases.Server) -> databases.Server:
    database.empty()
    tables = Tables(database.url)
    tables.create()
    for user in ("ann", "bob", "eve"):
        tables.add_user(f"{user}@{DOMAIN}", f"secret-{user}")
    tables.close()
    database.execute(*(f"alter table {name} add {EXTRA}" for name in ("acc", "missed_calls")))
    database.execute(f"insert into domain (domain, did) values ('{DOMAIN}', '')",
                     f"insert into dbaliases (alias_username, alias_domain, username, domain) values ('info', '{DOMAIN}', 'bob', '{DOMAIN}')",
                     f"insert into speed_dial (username, domain, sd_username, sd_domain, new_uri) values ('ann', '{DOMAIN}', '22', '{DOMAIN}', 'sip:bob@{DOMAIN}')",
                     "insert into address (grp, ip_addr, mask, port, tag) values (1, '127.0.0.9', 32, 0, '')")  # fmt: skip
    return database


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def start(serve: Callable[..., Server], database: databases.Server, media: Relay, *more: str) -> Server:
    text = DEFAULT.read_text(encoding="latin-1").replace("udp:127.0.0.1:7722", media.url).replace("udp:127.0.0.1:2223", media.url)
    defines = [flag for name in (*FEATURES, *more) for flag in ("-A", f"WITH_{name}")]
    return serve(text, "-T", *defines, "-A", f'DBURL="{database.url}"')


class Subscriber(Phone):
    """Answers challenges."""

    def proof(self, challenge: str, method: str, uri: str, password: str) -> str:
        proxy = "407" in challenge.split("\r\n")[0]
        values = dict(re.findall(r'(\w+)="([^"]*)"', header(challenge, "Proxy-Authenticate" if proxy else "WWW-Authenticate")))
        response = self._response(values, method, uri, password)
        return (f'{"Proxy-" if proxy else ""}Authorization: Digest username="{self.user}", realm="{values["realm"]}", nonce="{values["nonce"]}", uri="{uri}", '
                f'response="{response}"')  # fmt: skip

    def _response(self, values: dict[str, str], method: str, uri: str, password: str) -> str:
        secret = md5(f"{self.user}:{values['realm']}:{password}")
        return md5(f"{secret}:{values['nonce']}:{md5(f'{method}:{uri}')}")

    def sign_on(self, password: str = "") -> str:
        """The first line of what comes of it."""
        uri = f"sip:{DOMAIN}"
        again = {"to": f"<sip:{self.user}@{DOMAIN}>", "call_id": f"r{self.user}"}
        self.request("REGISTER", uri, "Expires: 600", cseq=self.serial + 1, **again)
        challenge = self.receive()
        assert challenge.startswith("SIP/2.0 401"), challenge
        self.request("REGISTER", uri, "Expires: 600", self.proof(challenge, "REGISTER", uri, password or f"secret-{self.user}"), cseq=self.serial + 1, **again)
        return self.receive().split("\r\n")[0]

    def ask(self, method: str, user: str, call_id: str, *lines: str, body: str = "") -> str:
        """A request that is challenged first; the answer."""
        uri = f"sip:{user}@{DOMAIN}"
        self.request(method, uri, *lines, call_id=call_id, body=body)
        challenge = self.until("SIP/2.0 407")
        self.request(method, uri, *lines, self.proof(challenge, method, uri, f"secret-{self.user}"), call_id=call_id, cseq=2, body=body)
        return self.receive()

    def invite(self, user: str, call_id: str, *, body: str = SDP) -> None:
        """With the answer to the challenge that comes first."""
        uri = f"sip:{user}@{DOMAIN}"
        self.request("INVITE", uri, TYPE, call_id=call_id, body=body)
        challenge = self.until("SIP/2.0 407")
        self.request("ACK", uri, call_id=call_id, to=header(challenge, "To"))
        self.request("INVITE", uri, TYPE, self.proof(challenge, "INVITE", uri, f"secret-{self.user}"), call_id=call_id, cseq=2, body=body)


def test_a_day_of_a_server_with_all_of_it(serve: Callable[..., Server], filled: databases.Server) -> None:
    with relay(TextRelay) as media:
        server = start(serve, filled, media)
        ann, bob, eve = (Subscriber(user, "udp", server.port) for user in ("ann", "bob", "eve"))
        try:
            # WITH_AUTH
            assert eve.sign_on("wrong") == "SIP/2.0 401 Unauthorized"
            assert ann.sign_on() == bob.sign_on() == "SIP/2.0 200 OK"
            # a name, an alias (WITH_ALIASDB), a short number (WITH_SPEEDDIAL)
            for number, user in enumerate(("bob", "info", "22")):
                ann.invite(user, f"day{number}")
                invite = bob.until("INVITE")
                # WITH_NAT, WITH_RTPRELAY: the media goes through the relay, in both directions
                assert "m=audio 30000" in invite and "Authorization" not in invite
                bob.answer(invite, "200 OK", TYPE, body=SDP)
                ok = ann.until("SIP/2.0 200")
                assert "m=audio 30000" in ok
                routes = [f"Route: {value}" for value in reversed(re.findall(r"^Record-Route: (.*?)\r$", ok, re.M))]
                target, to = header(ok, "Contact").strip("<>"), header(ok, "To")
                ann.request("ACK", target, *routes, call_id=f"day{number}", to=to, cseq=2)
                bob.until("ACK")
                ann.request("BYE", target, *routes, call_id=f"day{number}", to=to, cseq=3)
                bob.answer(bob.until("BYE"), "200 OK")
                ann.until("SIP/2.0 200")
            assert [c[0] for c in media.said] == ["U", "L", "D"] * 3
            # WITH_ACCDB: nobody waits for the rows
            until(lambda: filled.rows("select count(*) from acc") == [(6,)])
            rows = filled.rows("select method, sip_code, src_user, dst_ouser from acc order by id")
            assert [row[:3] for row in rows] == [("INVITE", "200", "ann"), ("BYE", "200", "ann")] * 3
            # a call that nobody takes is a missed one
            ann.invite("bob", "missed")
            bob.answer(bob.until("INVITE"), "486 Busy Here")
            ann.until("SIP/2.0 486")
            until(lambda: filled.rows("select sip_code, src_user from missed_calls") == [("486", "ann")])
            # WITH_AUTH: no open relay
            ann.request("INVITE", "sip:x@elsewhere.test", call_id="open")
            assert ann.receive().startswith("SIP/2.0 407")
            assert "Traceback" not in server.text()
            # WITH_USRLOCDB: written by a timer, and at the end
            server.stop()
            assert {row[0] for row in filled.rows("select username from location")} == {"ann", "bob"}
        finally:
            for phone in (ann, bob, eve):
                phone.close()


def test_a_flooder_is_banned(serve: Callable[..., Server], filled: databases.Server) -> None:
    """WITH_ANTIFLOOD, WITH_HTABLE."""
    with relay(TextRelay) as media, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        server = start(serve, filled, media)
        sock.bind(("127.0.0.5", 0))
        sock.settimeout(0.5)
        answered = 0
        for n in range(120):
            via = f"SIP/2.0/UDP 127.0.0.5:{sock.getsockname()[1]};branch=z9hG4bKf{n};rport"
            text = (f"OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 9\r\nFrom: <sip:f@f>;tag=1\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: flood{n}\r\n"
                    "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")  # fmt: skip
            sock.sendto(text.encode(), ("127.0.0.1", server.port))
            try:
                sock.recv(9999)
                answered += 1
            except TimeoutError:
                break
        assert 10 < answered < 100
        assert {item["name"] for row in rpc(server, "htable.dump", "ipban") for item in row["slot"]} == {"127.0.0.5"}


def test_media_by_rtpengine(serve: Callable[..., Server], filled: databases.Server) -> None:
    """WITH_RTPENGINE in the place of rtpproxy."""
    with relay() as media:
        server = start(serve, filled, media, "RTPENGINE")
        ann, bob = (Subscriber(user, "udp", server.port) for user in ("ann", "bob"))
        try:
            ann.sign_on()
            bob.sign_on()
            ann.invite("bob", "engine")
            assert "m=audio 30000" in bob.until("INVITE")
            assert [c["command"] for c in media.asked] == ["offer"] and media.asked[0]["replace"] == ["origin", "session-connection"]
        finally:
            for phone in (ann, bob):
                phone.close()


def test_who_is_there(serve: Callable[..., Server], filled: databases.Server) -> None:
    """WITH_PRESENCE; and WITH_DEBUG, which shows each action."""
    with relay(TextRelay) as media:
        server = start(serve, filled, media)
        ann, bob = (Subscriber(user, "udp", server.port) for user in ("ann", "bob"))
        try:
            assert ann.ask("SUBSCRIBE", "bob", "watch", "Event: presence", "Expires: 600").startswith("SIP/2.0 200 OK")
            told = ann.until("NOTIFY")
            assert header(told, "Subscription-State") == "active;expires=600" and told.endswith("\r\n\r\n")
            ann.answer(told, "200 OK")
            body = ('<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:bob@x"><tuple id="t"><status><basic>open</basic></status></tuple>'
                    "</presence>")  # fmt: skip
            assert bob.ask("PUBLISH", "bob", "show", "Event: presence", "Expires: 600", "Content-Type: application/pidf+xml", body=body).startswith("SIP/2.0 200 OK")
            told = ann.until("NOTIFY")
            assert "<basic>open</basic>" in told and header(told, "CSeq") == "3 NOTIFY"
            ann.answer(told, "200 OK")
            until(lambda: filled.rows("select presentity_uri, watcher_username, status, local_cseq from active_watchers") == [(f"sip:bob@{DOMAIN}", "ann", 1, 3)])
            until(lambda: filled.rows("select username, event, body from presentity") == [("bob", "presence", body.encode())])
            where = r"request_route=\[PRESENCE\] c=\[.*kamailio.cfg\] l=\d+ a=\d+ n=handle_publish"
            assert re.search(r" exec: \{.*\} \*\*\* cfgtrace:dbg_cfg_trace\(\): " + where, server.text())
            assert "Traceback" not in server.text()
        finally:
            for phone in (ann, bob):
                phone.close()


@pytest.mark.parametrize("name", FEATURES)
def test_each_alone(database: databases.Server, tmp_path: Path, name: str) -> None:
    from kamc.compile import compile_cfg

    defines = {f"WITH_{name}": None, "DBURL": f'"{database.url}"'}
    found = compile_cfg(str(DEFAULT), defines)
    assert found.program is not None, found.diagnostics
