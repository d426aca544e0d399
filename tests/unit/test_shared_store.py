"""Tables that several workers share: what one writes, the others see at once; changes of one entry at the same time are not lost."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamc.runtime.log import Log
from kamc.runtime.store.mirror import Codec, Mirror
from kamc.runtime.store.shared import Marks, SharedStore, SharedTable
from stdlib_modules.usrloc.binding import Binding, merged, packed, unpacked

Make = Callable[..., tuple[SharedTable, SharedTable]]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Make:
    """The same table in two workers."""
    mirror = Mirror(str(tmp_path / "store"), Log(-5))
    marks = Marks(2)

    def make(name: str = "t", **options: Any) -> tuple[SharedTable, SharedTable]:
        one, two = (SharedStore(clock, mirror, marks, i).table(name, **options) for i in range(2))
        assert isinstance(one, SharedTable) and isinstance(two, SharedTable)
        return one, two

    return make


def test_what_one_writes_the_other_reads(pair: Make) -> None:
    one, two = pair()
    assert two.get("a") is None
    one.put("a", 1)
    assert (two.get("a"), len(two), list(two.scan())) == (1, 1, [("a", 1)])
    two.put("a", "x")
    assert one.get("a") == "x"
    assert one.delete("a") and not one.delete("a")
    assert two.get("a") is None and list(two.scan()) == []
    two.put("b", 2)
    one.clear()
    assert two.get("b") is None


def test_values_that_nobody_changed_are_the_same_objects(pair: Make) -> None:
    one, two = pair(codec=Codec(list, list))
    one.put("a", [1, 2])
    first = two.get("a")
    one.put("b", [3])
    assert two.get("a") is first
    one.put("a", [1, 3])
    assert two.get("a") == [1, 3]


def test_expiry_is_shared(pair: Make, clock: Clock) -> None:
    one, two = pair(collected=True)
    one.put("a", 1, clock.now + 10)
    assert two.expires("a") == clock.now + 10
    assert two.set_expires("a", clock.now + 20)
    clock.now += 15
    assert one.get("a") == 1
    clock.now += 10
    assert (one.get("a"), two.get("a"), list(one.scan())) == (None, None, [])
    assert two.take_expired() == [("a", 1)]
    assert one.take_expired() == []


def test_one_that_is_renewed_is_not_taken(pair: Make, clock: Clock) -> None:
    one, two = pair(collected=True)
    one.put("a", 1, clock.now + 10)
    assert list(two.scan()) == [("a", 1)]
    clock.now += 11
    one.put("a", 2, clock.now + 10)
    assert two.take_expired() == []
    assert two.get("a") == 2


def test_a_key_longer_than_the_file_takes(pair: Make) -> None:
    one, two = pair()
    keys = ["", "x" * 2000, "y" * 511, "z\0" + "w" * 32]
    for number, key in enumerate(keys):
        one.put(key, number)
    assert sorted(two.scan(), key=lambda row: row[1]) == [(key, n) for n, key in enumerate(keys)]
    assert [two.get(key) for key in keys] == [0, 1, 2, 3]


def test_changes_see_each_other(pair: Make) -> None:
    one, two = pair()
    for _ in range(50):
        one.update("n", lambda n: (n or 0) + 1)
        two.update("n", lambda n: (n or 0) + 1)
    assert one.get("n") == two.get("n") == 100
    assert one.update("n", lambda n: None) is None
    assert two.get("n") is None


def _count(folder: str, marks: Marks, index: int, times: int) -> None:
    table = SharedStore(lambda: 0.0, Mirror(folder, Log(-5)), marks, index).table("t")
    for _ in range(times):
        table.update("n", lambda n: (n or 0) + 1)


def test_processes_that_count_at_the_same_time(tmp_path: Path) -> None:
    marks, folder = Marks(3), str(tmp_path / "store")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(folder, marks, i, 300)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert SharedStore(lambda: 0.0, Mirror(folder, Log(-5)), marks, 0).table("t").get("n") == 900


def test_an_entry_that_is_damaged_is_left_out(pair: Make) -> None:
    one, two = pair()
    one.put("a", 1)
    one._mirror.exchange("t", "a", lambda raw: b"nonsense")
    one._changed()
    assert two.get("a") is None
    two.put("a", 2)
    assert one.get("a") == 2


def contact(name: str) -> Binding:
    return Binding(f"sip:{name}@h", 0, ruid=name)


def names(held: list[Binding] | None) -> list[str]:
    return sorted(b.ruid for b in held or ())


@pytest.mark.parametrize(("base", "mine", "theirs", "result"), [
    ("", "a", "b", "ab"), ("a", "ab", "ac", "abc"), ("ab", "a", "abc", "ac"), ("ab", "b", "a", ""), ("a", "", "ab", "b"), ("a", "a", "", ""), ("a", "", "", ""),
])  # fmt: skip
def test_two_changes_of_one_list_of_contacts(base: str, mine: str, theirs: str, result: str) -> None:
    found = merged([contact(c) for c in base], [contact(c) for c in mine], [contact(c) for c in theirs])
    assert "".join(names(found)) == result
    assert found or found is None


def test_contacts_that_two_workers_save_at_the_same_time(pair: Make) -> None:
    one, two = pair("usrloc.location", codec=Codec(packed, unpacked, merged))
    one.put("bob", [contact("a")])
    seen = two.get("bob")
    one.put("bob", [*one.get("bob"), contact("b")])
    # it has looked before the other one wrote
    two.put("bob", [*seen, contact("c")])
    assert names(one.get("bob")) == names(two.get("bob")) == ["a", "b", "c"]
    seen = one.get("bob")
    two.put("bob", [b for b in two.get("bob") if b.ruid != "a"])
    assert names(seen) == ["a", "b", "c"]
    one.delete("bob")
    assert names(two.get("bob")) == []


def test_variables_of_all(pair: Make, tmp_path: Path, clock: Clock) -> None:
    mirror, marks = Mirror(str(tmp_path / "vars"), Log(-5)), Marks(2)
    one, two = (SharedStore(clock, mirror, marks, i).variables() for i in range(2))
    assert one.get("n", 0) == 0 and "n" not in one
    one["n"] = 5
    assert (two["n"], "n" in two, list(two), len(two)) == (5, True, ["n"], 1)
    assert two.update_one("n", lambda n: n + 1) == 6
    assert one["n"] == 6
    del one["n"]
    with pytest.raises(KeyError):
        two["n"]
