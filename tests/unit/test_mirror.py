"""The store's copy in a file: what a worker has put there, the next one finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from kamc.errors import ConfigError
from kamc.runtime.store.local import LocalStore, SharedVars
from kamc.runtime.store.mirror import Codec, Mirror
from stdlib_modules.usrloc.binding import Binding, packed, unpacked
from tests.harness import MemoryLog

Reopen = Callable[[], LocalStore]


class Folder:
    """Opens the same file again and again, as one worker after the other does."""

    def __init__(self, path: Path, *, lasting: bool) -> None:
        self.path, self.lasting, self.log, self.now = path, lasting, MemoryLog(), 1000.0
        self.mirror: Mirror | None = None

    def open(self) -> LocalStore:
        if self.mirror is not None:
            self.mirror.close()
        self.mirror = Mirror(str(self.path), self.log, lasting=self.lasting)
        return LocalStore(lambda: self.now, self.mirror)


@pytest.fixture(params=[True, False], ids=["lasting", "mapped"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "store", lasting=request.param)
    yield made
    if made.mirror is not None:
        made.mirror.close()


@pytest.mark.parametrize("value", [5, -1, 1 << 40, "text", "\xff\0\u20ac"[:2], "", [1, "a", None], {"a": [1]}])
def test_values_come_back(folder: Folder, value: Any) -> None:
    folder.open().table("t").put("k", value)
    assert folder.open().table("t").get("k") == value


@pytest.mark.parametrize("key", ["k", "", "\xe4", "x" * 511, "x" * 2000])
def test_keys_come_back(folder: Folder, key: str) -> None:
    table = folder.open().table("t")
    table.put(key, 1)
    table.put(key + "y", 2)
    table = folder.open().table("t")
    assert (table.get(key), table.get(key + "y"), len(table)) == (1, 2, 2)


def test_every_change_is_written(folder: Folder) -> None:
    table = folder.open().table("t")
    for key in "abcdef":
        table.put(key, key, 2000)
    table.delete("a")
    table.update("b", lambda value: value + "!")
    table.update("c", lambda value: None)
    table.set_expires("d", 3000)
    table = folder.open().table("t")
    assert dict(table.scan()) == {"b": "b!", "d": "d", "e": "e", "f": "f"}
    assert (table.expires("d"), table.expires("e")) == (3000, 2000)
    table.clear()
    assert len(folder.open().table("t")) == 0


def test_what_is_over_is_swept_out_of_the_file(folder: Folder) -> None:
    store = folder.open()
    store.table("t").put("k", 1, 1010)
    store.table("collected", collected=True).put("k", 1, 1010)
    folder.now = 1020
    store.sweep()
    store = folder.open()
    assert (store.has("t"), store.has("collected")) == (False, True)
    assert store.table("collected", collected=True).take_expired() == [("k", 1)]
    assert not folder.open().has("collected")


def test_names_and_whether_there_is_something(folder: Folder) -> None:
    folder.open().table("usrloc.location").put("bob", 1)
    store = folder.open()
    assert store.names("usrloc.") == ["usrloc.location"]
    assert store.has("usrloc.location")
    assert not store.has("usrloc.other")
    assert store.table("usrloc.location").get("bob") == 1


def test_contacts(folder: Folder) -> None:
    codec = Codec(packed, unpacked)
    held = [Binding("sip:a@b", 2000.5, 700, "c1", 3, xavp={"k": ["v"]}, methods=None), Binding("sip:c@d", 0)]
    folder.open().table("usrloc.location", codec=codec).put("bob", held)
    assert folder.open().table("usrloc.location", codec=codec).get("bob") == held


def test_script_variables(folder: Folder) -> None:
    shared = SharedVars(folder.open().table("shv"))
    shared["a"], shared["b"] = 1, "x"
    shared["a"] = 2
    del shared["b"]
    assert dict(SharedVars(folder.open().table("shv"))) == {"a": 2}


def test_damage_is_left_out_and_said(folder: Folder) -> None:
    store = folder.open()
    for key in "abc":
        store.table("t").put(key, key)
    assert folder.mirror is not None
    folder.mirror.close()
    folder.mirror = None
    with lmdb.open(str(folder.path), max_dbs=8) as env, env.begin(write=True, db=env.open_db(b"t")) as txn:
        txn.put(b"b", b"\0\0\0\0garbage")
        txn.put(b"c", b"")
    assert dict(folder.open().table("t").scan()) == {"a": "a"}
    assert folder.log.lines == ["store: 2 entries of t cannot be read and are left out"]


def test_what_cannot_be_written_loses_the_copy_and_nothing_else(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    table = folder.open().table("t")
    table.put("k", object())
    assert "store: table t is not written" in folder.log.lines[0]
    assert table.get("k") is not None
    mirror = folder.mirror
    assert mirror is not None

    def full(*args: Any, **options: Any) -> Any:
        raise lmdb.MapFullError("no room")

    monkeypatch.setattr(mirror, "_env", type("Env", (), {"begin": full, "sync": lambda self, force: None, "close": lambda self: None})())
    table.put("l", 1)
    table.delete("l")
    table.clear()
    assert mirror.failed == 4
    assert "no room" in folder.log.lines[-1]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot open the store in"):
        Mirror(str(tmp_path / "file"), MemoryLog())
    (tmp_path / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match="cannot open the store in"):
        Mirror(str(tmp_path), MemoryLog())
