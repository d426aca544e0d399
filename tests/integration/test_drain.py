"""``--drain``: on SIGTERM what is in hand is finished and nothing new begins."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.conftest import Server
from tests.integration.test_resize import ring
from tests.integration.test_workers import TEXT, reason
from tests.phone import DOMAIN, Phone, header


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_call_that_rings_is_answered_before_the_end(serve: Callable[..., Server], phones: Callable[..., list[Phone]], workers: str) -> None:
    server = serve(TEXT, "--alias", DOMAIN, "--drain", "20", "--workers", workers)
    ann, bob = phones(server, "ann", "bob")
    call_id, invite = ring(ann, bob)
    server.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    answer = ""
    while not answer.startswith("503"):
        assert time.monotonic() < deadline
        whole = server.ask("OPTIONS", "sip:ready@h", call_id=f"late{time.monotonic()}")
        answer = reason(whole)
    assert answer == "503 Server Shutting Down" and header(whole, "Retry-After") == "5"
    # a repeated INVITE is no new one
    ann.serial -= 1
    ann.request("INVITE", f"sip:bob@{DOMAIN}", call_id=call_id)
    assert reason(ann.receive()).startswith("180")
    bob.answer(invite, "200 OK")
    ok = ann.until("SIP/2.0 200")
    ann.request("ACK", bob.contact.strip("<>"), call_id=call_id, to=header(ok, "To"))
    assert server.process.wait(10) == 0


def test_the_time_is_over_or_it_is_said_twice(serve: Callable[..., Server], phones: Callable[..., list[Phone]]) -> None:
    for seconds, twice in ((1, False), (60, True)):
        server = serve(TEXT, "--alias", DOMAIN, "--drain", str(seconds))
        ring(*phones(server, "ann", "bob"))
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        if twice:
            while not reason(server.ask("OPTIONS", "sip:ready@h", call_id=f"late{time.monotonic()}")).startswith("503"):
                assert time.monotonic() < began + 10
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        assert time.monotonic() - began < 12
