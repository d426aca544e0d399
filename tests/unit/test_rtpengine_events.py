"""Digits that rtpengine tells of; the datagrams are as rtpengine 10.5 sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kamc.errors import ConfigError

DIGIT = {"callid": "c1", "source_tag": "ft", "tags": ["tt", "ft"], "type": "DTMF", "timestamp": 1795713632,
         "source_ip": "127.0.0.1", "event": 5, "duration": 80, "volume": 10}
NAMES = ("callid", "source_tag", "source_label", "tags", "type", "timestamp", "source_ip", "duration", "volume")
HEAD = "".join(f'modparam("rtpengine", "dtmf_event_{name}", "$avp({name})")\n' for name in NAMES) + 'modparam("rtpengine", "dtmf_event", "$var(digit)")\n'
SHOW = " ".join(f"$avp({name})" for name in NAMES)


def start(bench: Any, more: str = "", event: str = f'event_route[rtpengine:dtmf-event] {{ xlog("digit $var(digit): {SHOW}\\n"); }}\n') -> Any:
    return bench(f'loadmodule "rtpengine.so"\n{HEAD}{more}request_route {{ exit; }}\n{event}')


def test_a_digit(bench: Any) -> None:
    b = start(bench)
    told = b.worker.rt.module("rtpengine").told
    told(json.dumps(DIGIT).encode())
    told(json.dumps({"callid": "c2", "event": 11, "type": True, "volume": 1.5, "source_label": "lab"}).encode())
    assert b.log.lines == ["digit 5: c1 ft <null> tt,ft DTMF 1795713632 127.0.0.1 80 10", "digit 11: c2 <null> lab <null> <null> <null> <null> <null> <null>"]


@pytest.mark.parametrize("data", [b"", b"x", b"\xff\x00", b"[1]", b"5", b'{"callid": 5}', b'{"event": 5}', b'{"callid": "c1"', b"[" * 100_000])
def test_what_is_no_event(bench: Any, data: bytes) -> None:
    b = start(bench)
    b.worker.rt.module("rtpengine").told(data)
    assert len(b.log.lines) == 1 and b.log.lines[0].startswith("rtpengine: what came to dtmf_events_sock is no event: ")


def test_nobody_wants_to_know(bench: Any) -> None:
    b = start(bench, event="")
    b.worker.rt.module("rtpengine").told(json.dumps(DIGIT).encode())
    assert b.log.lines == []


@pytest.mark.parametrize("more", [
    'modparam("rtpengine", "dtmf_events_sock", "127.0.0.1")\n', 'modparam("rtpengine", "dtmf_events_sock", "tcp:127.0.0.1:x")\n',
    'modparam("rtpengine", "dtmf_events_sock", "127.0.0.1:99999")\n', 'modparam("rtpengine", "dtmf_event", "$ci")\n',
])  # fmt: skip
def test_parameters_that_are_wrong(bench: Any, more: str) -> None:
    with pytest.raises((ConfigError, AssertionError), match=r"rtpengine|ADDRESS:PORT|read-only"):
        start(bench, more)
