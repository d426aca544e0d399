"""The store of several servers: two workers on one Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis as redis_library

from kamc.errors import ConfigError
from kamc.runtime.store.far import Change, Far, common_secret, is_far, read_change, shown
from kamc.runtime.store.local import LocalStore
from kamc.runtime.store.mirror import Codec
from stdlib_modules.usrloc.binding import Binding, merged, packed, unpacked
from tests.harness import MemoryLog
from tests.redis_server import RedisServer, redis_server


class Node:
    """A worker of a server of its own."""

    def __init__(self, url: str, name: str, clock: Callable[[], float], all_of_them: list[Node]) -> None:
        self.all_of_them = all_of_them
        self.log = MemoryLog()
        self.far = Far(url, self.log, name)
        self.store = LocalStore(clock, None, self.far)

    def until(self, condition: Callable[[], bool]) -> None:
        """All take what the others did until something is so."""
        deadline = time.monotonic() + 10
        while True:
            for node in self.all_of_them:
                node.far.take()
            if condition():
                return
            assert time.monotonic() < deadline
            time.sleep(0.002)


class Pair:
    def __init__(self, server: RedisServer) -> None:
        self.server, self.now = server, 1000.0
        self.nodes: list[Node] = []

    def node(self) -> Node:
        self.nodes.append(Node(self.server.url, f"host:{len(self.nodes)}.0", lambda: self.now, self.nodes))
        return self.nodes[-1]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def pair(redis: RedisServer) -> Iterator[Pair]:
    found = Pair(redis)
    with redis_library.Redis.from_url(redis.url) as client:
        client.flushall()
    found.node()
    yield found
    for node in found.nodes:
        node.far.close()


def test_what_one_writes_the_other_reads(pair: Pair) -> None:
    one, two = pair.nodes[0], pair.node()
    a, b = one.store.table("htable.t"), two.store.table("htable.t")
    a.put("k", 5)
    a.put("x" * 600, "long")
    two.until(lambda: b.get("k") == 5 and b.get("x" * 600) == "long")
    b.put("k", "text\xff\0")
    one.until(lambda: a.get("k") == "text\xff\0")
    assert dict(a.scan()) == dict(b.scan()) and len(a) == 2
    b.delete("k")
    one.until(lambda: a.get("k") is None)
    b.clear()
    one.until(lambda: len(a) == 0)


def test_who_comes_later_finds_what_is_there(pair: Pair) -> None:
    one = pair.nodes[0]
    one.store.table("usrloc.location", codec=Codec(packed, unpacked, merged)).put("bob", [Binding("sip:b@h", 0, ruid="a")])
    one.store.table("htable.t").put("over", 1, 999.0)
    two = pair.node()
    assert two.store.names("usrloc.") == ["usrloc.location"] and two.store.has("usrloc.location") and not two.store.has("htable.none")
    assert [b.contact for b in two.store.table("usrloc.location", codec=Codec(packed, unpacked, merged)).get("bob")] == ["sip:b@h"]
    assert two.store.table("htable.t").get("over") is None and two.store.table("htable.t").take_expired() == [("over", 1)]
    assert one.store.table("htable.t", collected=True).take_expired() == []


def test_both_change_one_entry_at_once(pair: Pair) -> None:
    """Neither has heard of the other's change when it makes its own."""
    one, two = pair.nodes[0], pair.node()
    a, b = one.store.table("htable.n"), two.store.table("htable.n")
    for _ in range(20):
        a.update("n", lambda n: (n or 0) + 1)
        b.update("n", lambda n: (n or 0) + 1)
    assert b.get("n") == 40
    one.until(lambda: a.get("n") == 40)
    codec = Codec(packed, unpacked, merged)
    x, y = one.store.table("usrloc.l", codec=codec), two.store.table("usrloc.l", codec=codec)
    x.put("bob", [Binding("sip:1@h", 0, ruid="1")])
    y.put("bob", [Binding("sip:2@h", 0, ruid="2")])
    one.until(lambda: sorted(c.ruid for c in x.get("bob")) == ["1", "2"])


def test_a_variable_of_all(pair: Pair) -> None:
    one, two = pair.nodes[0], pair.node()
    v, w = one.store.variables(), two.store.variables()
    v["n"] = 7
    two.until(lambda: w.get("n") == 7)
    assert w.update_one("n", lambda n: n + 1) == 8


def test_what_is_of_one_server_alone_stays_there(pair: Pair) -> None:
    one, two = pair.nodes[0], pair.node()
    one.store.table("dialog").put("d", 1)
    one.store.table("htable.t").put("k", 1)
    two.until(lambda: two.store.table("htable.t").get("k") == 1)
    assert not two.store.has("dialog") and two.store.table("dialog").get("d") is None


def test_redis_goes_and_comes_back(pair: Pair, redis: RedisServer) -> None:
    one, two = pair.nodes[0], pair.node()
    a, b = one.store.table("htable.t"), two.store.table("htable.t")
    a.put("k", 1)
    a.put("gone", 1)
    two.until(lambda: b.get("gone") == 1)
    redis.stop()
    one.until(lambda: not one.far.up)
    two.until(lambda: not two.far.up)
    a.put("k", 2)
    a.delete("gone")
    b.put("new", 3)
    assert (a.get("k"), b.get("k"), b.get("new")) == (2, 1, 3)
    late = two.store.table("htable.late")
    late.put("x", 1)
    redis.start()
    one.until(lambda: one.far.up and a.get("new") == 3)
    two.until(lambda: two.far.up and b.get("k") == 2 and b.get("gone") is None)
    assert one.store.table("htable.late").get("x") == 1
    b.update("k", lambda n: n + 1)
    one.until(lambda: a.get("k") == 3)
    assert any("is away" in line for line in one.log.lines) and any("is back" in line for line in one.log.lines)


def test_redis_hangs(pair: Pair, redis: RedisServer) -> None:
    """A write waits for it once, and not long."""
    one = pair.nodes[0]
    a = one.store.table("htable.t")
    a.put("k", 1)
    redis.hang()
    try:
        a.put("k", 2)
        assert not one.far.up
        a.put("k", 3)
        assert a.get("k") == 3
    finally:
        redis.hang(hang=False)
    one.until(lambda: one.far.up)
    two = pair.node()
    assert two.store.table("htable.t").get("k") == 3


def test_redis_is_emptied(pair: Pair) -> None:
    """What comes afterwards is heard of all the same, and who still has an entry writes it again when it changes it."""
    one, two = pair.nodes[0], pair.node()
    a, b = one.store.table("htable.t"), two.store.table("htable.t")
    a.put("k", 1)
    two.until(lambda: b.get("k") == 1)
    pair.nodes[0].far._client.flushall()
    a.put("new", 1)
    two.until(lambda: b.get("new") == 1)
    a.put("k", 2)
    two.until(lambda: b.get("k") == 2)


def test_words_and_who_is_there(pair: Pair) -> None:
    one, two = pair.nodes[0], pair.node()
    heard: list[Any] = []
    one.far.on_word = lambda sender, word: heard.append((sender, word))
    one.far.on_joined = lambda sender: heard.append(("joined", sender))
    one.far.on_lost = lambda sender: heard.append(("lost", sender))
    two.far.say("module", "dialog", "m", 1, ["x"])
    one.until(lambda: len(heard) == 2)
    assert heard == [("joined", "host:1.0"), ("host:1.0", ["module", "dialog", "m", 1, ["x"]])]
    one.far.others["host:1.0"] = time.monotonic() - 60
    one.far.beat()
    assert heard[2:] == [("lost", "host:1.0")]
    two.far.beat()
    one.until(lambda: len(heard) == 4)
    two.far.close()
    one.until(lambda: len(heard) == 5)
    assert heard[3:] == [("joined", "host:1.0"), ("lost", "host:1.0")]


def test_nonsense_on_the_channels(pair: Pair) -> None:
    one, two = pair.nodes[0], pair.node()
    table = one.store.table("htable.t")
    for channel in ("kamc:changes", "kamc:words"):
        for data in (b"", b"nonsense", b"9 x 1 999 5 ab", b"[]", b"{}", b"\xff\xff 1 1 1 1 1", b'["me"]', b'["me", "module"]', b"5", b"[" * 50_000):
            two.far._client.publish(channel, data)
    two.far._client.hset("kamc:t:htable.t", "bad", b"no entry")
    two.store.table("htable.t").put("k", 1)
    one.until(lambda: table.get("k") == 1)
    assert any("cannot be read" in line for line in one.log.lines)
    assert pair.node().store.table("htable.t").get("bad") is None


def test_texts() -> None:
    assert read_change(b"12 me 1 1 2 tk2raw") == Change(12, "me", "t", b"k2", b"raw")
    assert read_change(b"12 me 0 1 2 tk2") == Change(12, "me", "t", b"k2", None)
    assert is_far("redis://h/0") and not is_far("/folder") and not is_far(None)
    assert shown("redis://me:secret@h:1/0") == "redis://h:1/0"


def test_the_secret_of_all(redis: RedisServer, pair: Pair) -> None:
    assert common_secret(redis.url, "first") == common_secret(redis.url, "second") == "first"


def test_a_redis_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"cannot use the store at redis://127\.0\.0\.1:1/0"):
        Far("redis://127.0.0.1:1/0", MemoryLog(), "me")
    with pytest.raises(ConfigError, match="cannot use the store"):
        common_secret("redis://127.0.0.1:1/0", "s")
