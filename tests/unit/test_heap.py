"""Memory of a burst goes back to the system."""

from __future__ import annotations

import pytest

from kamc.runtime.proc.heap import Heap


def test_pages_are_given_back_once() -> None:
    heap = Heap()
    if not heap.free_bytes():
        pytest.skip("the C library does not say how much is free")
    heap.give_back()
    # small enough for the heap, and with something behind it that stays
    burst = [bytes(30_000) for _ in range(2000)]
    kept = bytes(30_000)
    assert not heap.give_back()
    burst.clear()
    assert heap.give_back()
    assert not heap.give_back()
    assert len(kept) == 30_000
