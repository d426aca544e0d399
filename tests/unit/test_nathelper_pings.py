"""Keep-alives for clients behind NAT (module nathelper), on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kamc.errors import ConfigError
from kamc.runtime.rpc.fault import RpcFault
from tests.harness import HEAD, Bench, Message

PINGS = (HEAD + 'loadmodule "usrloc.so"\nloadmodule "registrar.so"\nloadmodule "nathelper.so"\nmodparam("usrloc", "nat_bflag", 6)\n'
         'modparam("nathelper", "natping_interval", 10)\n')  # fmt: skip
SIP = PINGS + 'modparam("nathelper", "sipping_bflag", 7)\nmodparam("nathelper", "sipping_from", "sip:ping@b.test")\n'
SAVE = 'request_route { if (is_method("REGISTER")) { if ($hdr(X-Nat) == "1") { setbflag(6); setbflag(7); } save("location"); exit; } lookup("location"); t_relay(); }\n' \
       'reply_route { xlog("reply $rs\\n"); }\n'  # fmt: skip


def register(b: Bench, user: str, *lines: str) -> None:
    b.serial += 1
    b.recv(f"REGISTER sip:b.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:6000;branch=z9hG4bKr{b.serial}\r\nMax-Forwards: 70\r\nFrom: <sip:{user}@b.test>;tag=1\r\n"
           f"To: <sip:{user}@b.test>\r\nCall-ID: {user}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@127.0.0.1:7000>\r\nExpires: 600\r\n"
           + "".join(line + "\r\n" for line in lines) + "Content-Length: 0\r\n\r\n")  # fmt: skip
    assert b.take()[0].first == "SIP/2.0 200 OK"


def answer(b: Bench, ping: Message) -> None:
    b.reply(ping, "200 OK")


def test_every_contact_once_per_interval(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=PINGS)
    for number in range(25):
        register(b, f"u{number}")
    b.advance(10.5)
    pings = b.take()
    assert len(pings) == 25 and {(p.text, p.to[1]) for p in pings} == {("\0\0\0\0", 7000)}
    assert max(sum(1 for p in pings if p.at == at) for at in {p.at for p in pings}) == 3
    b.advance(10)
    assert len(b.take()) == 25


def test_only_those_behind_nat(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=PINGS + 'modparam("nathelper", "ping_nated_only", 1)\n')
    register(b, "open")
    register(b, "natted", "X-Nat: 1")
    b.advance(9)
    assert len(b.take()) == 1


def test_sip_pings_and_their_answers(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=SIP)
    register(b, "bob", "X-Nat: 1")
    b.advance(1.5)
    (ping,) = b.take()
    assert ping.first == "OPTIONS sip:bob@127.0.0.1:7000 SIP/2.0"
    assert (ping.get("From") or "").startswith("<sip:ping@b.test>;tag=uloc-")
    assert ping.get("To") == "<sip:bob@127.0.0.1:7000>"
    answer(b, ping)
    assert b.take() == [] and not [line for line in b.log.lines if line.startswith("reply")]


def test_who_does_not_answer_is_dropped(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=SIP + 'modparam("nathelper", "keepalive_timeout", 25)\n')
    register(b, "good", "X-Nat: 1")
    register(b, "gone", "X-Nat: 1")
    for _ in range(5):
        b.advance(10)
        for ping in b.take():
            if "sip:good@" in ping.first:
                answer(b, ping)
    assert [row["Info"]["AoR"] for row in b.rpc("ul.dump")["Domains"][0]["Domain"]["AoRs"]] == ["good"]


def test_pings_can_be_stopped(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=PINGS)
    register(b, "bob")
    b.rpc("nathelper.enable_ping", 0)
    b.advance(30)
    assert b.take() == []
    b.rpc("nathelper.enable_ping", 1)
    b.advance(10)
    assert len(b.take()) == 1


def test_nothing_to_enable(bench: Callable[..., Bench]) -> None:
    b = bench(SAVE, head=PINGS.replace('"natping_interval", 10', '"natping_interval", 0'))
    with pytest.raises(RpcFault):
        b.rpc("nathelper.enable_ping", 1)


@pytest.mark.parametrize(("line", "message"), [
    ('modparam("nathelper", "natping_interval", -1)', "seconds"),
    ('modparam("nathelper", "sipping_bflag", 7)', "sipping_from"),
    ('modparam("nathelper", "sipping_from", "<sip:")', "is no URI"),
    ('modparam("nathelper", "force_socket", "udp:10.9.9.9:5060")', "none of the sockets"),
])  # fmt: skip
def test_parameters_that_make_no_sense(bench: Callable[..., Bench], line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench(SAVE, head=f"{PINGS}{line}\n")
