"""Digest authentication with passwords of the script (module auth)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from kamc.runtime.sip.digest import credentials, ha1, parse_digest
from tests.harness import HEAD, Bench

AUTH = HEAD + 'loadmodule "auth.so"\n'
ROUTE = ('request_route { $var(rc) = pv_www_authenticate("b.test", "secret", "0"); if ($var(rc) < 0) { append_to_reply("X-Rc: $var(rc)\\r\\n"); '
         'www_challenge("b.test", "1"); exit; } consume_credentials(); t_relay(); }\n')  # fmt: skip
URI = "sip:bob@127.0.0.1:7000"


def challenge(b: Bench) -> dict[str, str]:
    b.request("MESSAGE", URI)
    (reply,) = b.take()
    assert reply.first == "SIP/2.0 401 Unauthorized"
    parts = parse_digest(reply.get("WWW-Authenticate") or "")
    assert parts is not None
    return parts


def answer(parts: dict[str, str], password: str = "secret", *, nc: int = 1, method: str = "MESSAGE", user: str = "alice") -> str:
    algorithm = parts.get("algorithm", "")
    return "Authorization: " + credentials(parts, user, ha1(user, parts["realm"], password, algorithm), method, URI, cnonce="c0ffee", nc=nc)


def code(b: Bench) -> str:
    """The code of the check, or the start line of what was relayed."""
    (message,) = b.take()
    return message.get("X-Rc") or message.first


def test_the_right_password_passes_and_is_taken_out(bench: Callable[..., Bench]) -> None:
    b = bench(ROUTE, head=AUTH)
    parts = challenge(b)
    assert parts["qop"] == "auth"
    b.request("MESSAGE", URI, answer(parts), "X-Other: kept")
    (relayed,) = b.take()
    assert relayed.first == f"MESSAGE {URI} SIP/2.0"
    assert relayed.get("Authorization") is None
    assert relayed.get("X-Other") == "kept"


def test_what_does_not_pass(bench: Callable[..., Bench]) -> None:
    b = bench(ROUTE, head=AUTH)
    parts = challenge(b)
    b.request("MESSAGE", URI, answer(parts, "wrong"))
    assert code(b) == "-2"
    b.request("MESSAGE", URI, answer({**parts, "realm": "other.test"}))
    assert code(b) == "-5"
    b.request("MESSAGE", URI, answer({**parts, "nonce": parts["nonce"][:-1] + "x"}))
    assert code(b) == "-1"
    b.request("MESSAGE", URI, answer(parts, method="INVITE"))
    assert code(b) == "-2"


@pytest.mark.parametrize("value", ["Digest", "Digest realm=", 'Digest realm="b.test"', 'Digest realm="b.test', "Basic YTpi", 'Digest realm="b.test",'
                                   'username="a",nonce="zz",uri="sip:x",response="0"', 'Digest username="\\', "\xff" * 300])  # fmt: skip
def test_credentials_that_cannot_be_read(bench: Callable[..., Bench], value: str) -> None:
    b = bench(ROUTE, head=AUTH)
    b.request("MESSAGE", URI, f"Authorization: {value}")
    (reply,) = b.take()
    assert reply.first == "SIP/2.0 401 Unauthorized"
    assert reply.get("X-Rc") in ("-1", "-5")


def test_a_nonce_gets_old(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("auth", "nonce_expire", 30)\n' + ROUTE, head=AUTH)
    parts = challenge(b)
    b.advance(29)
    b.request("MESSAGE", URI, answer(parts))
    assert code(b).startswith("MESSAGE")
    b.advance(2)
    b.take()
    b.request("MESSAGE", URI, answer(parts))
    assert code(b) == "-4"


def test_counts_are_good_once(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("auth", "nonce_count", 1)\nmodparam("auth", "qop", "auth")\n' + ROUTE, head=AUTH)
    parts = challenge(b)
    outcomes = []
    for nc in (1, 1, 2, 9, 3):
        b.request("MESSAGE", URI, answer(parts, nc=nc))
        outcomes.append(code(b).partition(" ")[0])
    assert outcomes == ["MESSAGE", "-4", "MESSAGE", "MESSAGE", "-4"]


def test_a_nonce_that_is_good_once(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("auth", "one_time_nonce", 1)\n' + ROUTE, head=AUTH)
    parts = challenge(b)
    outcomes = []
    for _ in range(2):
        b.request("MESSAGE", URI, answer(parts))
        outcomes.append(code(b).partition(" ")[0])
    assert outcomes == ["MESSAGE", "-6"]


def test_a_nonce_is_bound_to_what_the_checks_name(bench: Callable[..., Bench]) -> None:
    b = bench('modparam("auth", "auth_checks_no_dlg", 2)\n' + ROUTE, head=AUTH)
    parts = challenge(b)
    b.request("MESSAGE", URI, answer(parts), call_id="another")
    assert code(b) == "-1"
    b.request("MESSAGE", URI, answer(parts))
    assert code(b).startswith("MESSAGE")


def test_nonces_of_another_secret_are_refused(bench: Callable[..., Bench]) -> None:
    first = bench('modparam("auth", "secret", "one")\n' + ROUTE, head=AUTH)
    parts = challenge(first)
    same, other = bench('modparam("auth", "secret", "one")\n' + ROUTE, head=AUTH), bench('modparam("auth", "secret", "two")\n' + ROUTE, head=AUTH)
    for b, wanted in ((same, "MESSAGE"), (other, "-1")):
        b.request("MESSAGE", URI, answer(parts))
        assert code(b).partition(" ")[0] == wanted


def test_algorithms_are_offered_together(bench: Callable[..., Bench]) -> None:
    route = ROUTE.replace('www_challenge("b.test", "1")', 'www_challenge("b.test", "1", "SHA-256,MD5")')
    b = bench(route, head=AUTH)
    b.request("MESSAGE", URI)
    (reply,) = b.take()
    offered = [parse_digest(value) for value in reply.all("WWW-Authenticate")]
    assert [parts and parts["algorithm"] for parts in offered] == ["SHA-256", "MD5"]
    for parts in offered:
        assert parts is not None
        b.request("MESSAGE", URI, answer(parts))
        assert code(b).startswith("MESSAGE")


def test_the_user_has_to_be_the_sender(bench: Callable[..., Bench]) -> None:
    route = ('request_route { $var(rc) = pv_auth_check("b.test", "secret", "0", "1"); if ($var(rc) < 0) { append_to_reply("X-Rc: $var(rc)\\r\\n"); '
             'auth_challenge("b.test", "1"); exit; } t_relay(); }\n')  # fmt: skip
    b = bench(route, head=AUTH)
    b.request("MESSAGE", URI)
    (reply,) = b.take()
    assert reply.first == "SIP/2.0 407 Proxy Authentication Required"
    parts = parse_digest(reply.get("Proxy-Authenticate") or "")
    assert parts is not None
    for user, wanted in (("mallory", "-8"), ("alice", "MESSAGE")):
        b.request("MESSAGE", URI, re.sub("^", "Proxy-", answer(parts, user=user)))
        assert code(b).partition(" ")[0] == wanted


def test_bad_parameters_stop_the_start(bench: Callable[..., Bench]) -> None:
    with pytest.raises(Exception, match="algorithm 'ROT13' is not known"):
        bench('modparam("auth", "algorithm", "ROT13")\n' + ROUTE, head=AUTH)
