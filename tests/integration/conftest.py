"""What several tests with real processes need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Server
from tests.phone import Phone


@pytest.fixture
def phones() -> Iterator[Callable[..., list[Phone]]]:
    """Registered phones; they are put away with the test."""
    opened: list[Phone] = []

    def make(server: Server, *users: str, transport: str = "udp", port: int = 0) -> list[Phone]:
        found = [Phone(user, transport, port or server.port) for user in users]
        opened.extend(found)
        for phone in found:
            phone.register()
        return found

    yield make
    for phone in opened:
        phone.close()
