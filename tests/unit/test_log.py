"""A flood of bad messages does not become a flood of lines."""

from __future__ import annotations

from kamc.runtime.log import BURST
from tests.harness import MemoryLog


def test_lines_of_one_kind_are_bounded_in_a_second() -> None:
    log, now = MemoryLog(), [7.0]
    log.clock = lambda: now[0]
    for number in range(BURST + 50):
        log.error("bad message %d", number)
    log.error("something else")
    assert len(log.lines) == BURST + 1
    assert log.lines[-1] == "something else"
    now[0] = 8.1
    log.error("bad message %d", 0)
    assert log.lines[-2:] == ["50 lines like the next one were left out", "bad message 0"]


def test_what_a_script_writes_is_never_left_out() -> None:
    log = MemoryLog()
    log.clock = lambda: 7.0
    for _ in range(BURST + 50):
        log.write(-1, "from xlog")
    assert len(log.lines) == BURST + 50
