"""Every way in which a file changes under its name is noticed once, when it has settled; what does not change a content is not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kamc.runtime.proc import watch
from kamc.runtime.proc.digest import print_of
from kamc.runtime.proc.watch import Watch, folders_of


class Ear:
    """Hears of changes."""

    def __init__(self, *paths: Path) -> None:
        self.count = 0
        self._heard = threading.Semaphore(0)
        self.watch = Watch(self._changed)
        for path in paths:
            self.watch.add(str(path), print_of(str(path)))
        self.thread = threading.Thread(target=self.watch.run)
        self.thread.start()

    def _changed(self) -> None:
        self.count += 1
        self._heard.release()

    def hears(self) -> bool:
        return self._heard.acquire(timeout=5)

    def is_quiet(self) -> bool:
        """Nothing comes of what has happened so far: a change that is heard proves that what was before it is over."""
        return not self._heard.acquire(timeout=4 * watch.SETTLE)


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ear]]:
    monkeypatch.setattr(watch, "SETTLE", 0.03)
    made: list[Ear] = []

    def make(*paths: Path) -> Ear:
        made.append(Ear(*paths))
        return made[-1]

    yield make
    for one in made:
        one.watch.stop()
        one.thread.join()


def test_truncated_and_written(ear: Callable[..., Ear], tmp_path: Path) -> None:
    cfg = tmp_path / "kamailio.cfg"
    cfg.write_text("one")
    heard = ear(cfg)
    cfg.write_text("two")
    assert heard.hears()


def test_renamed_over(ear: Callable[..., Ear], tmp_path: Path) -> None:
    cfg, fresh = tmp_path / "kamailio.cfg", tmp_path / ".kamailio.cfg.swp"
    cfg.write_text("one")
    heard = ear(cfg)
    for text in ("two", "three"):
        fresh.write_text(text)
        fresh.replace(cfg)
        assert heard.hears()


def test_moved_away_and_written_anew(ear: Callable[..., Ear], tmp_path: Path) -> None:
    cfg = tmp_path / "kamailio.cfg"
    cfg.write_text("one")
    heard = ear(cfg)
    cfg.rename(tmp_path / "kamailio.cfg~")
    cfg.write_text("two")
    assert heard.hears()


def test_a_symbolic_link_is_exchanged(ear: Callable[..., Ear], tmp_path: Path) -> None:
    """As Kubernetes does it: cfg -> ..data/cfg, ..data -> ..version, and ..data is renamed over."""
    for name in ("one", "two"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "kamailio.cfg").write_text(name)
    data, cfg = tmp_path / "..data", tmp_path / "kamailio.cfg"
    data.symlink_to("..one")
    cfg.symlink_to("..data/kamailio.cfg")
    heard = ear(cfg)
    fresh = tmp_path / "..data_tmp"
    fresh.symlink_to("..two")
    os.replace(fresh, data)
    assert heard.hears()
    (tmp_path / "..two" / "kamailio.cfg").write_text("three")
    assert heard.hears()


def test_a_file_that_was_not_there_comes(ear: Callable[..., Ear], tmp_path: Path) -> None:
    local = tmp_path / "conf" / "kamailio-local.cfg"
    heard = ear(local)
    local.parent.mkdir()
    local.write_text("#!define X")
    assert heard.hears()


def test_a_file_goes(ear: Callable[..., Ear], tmp_path: Path) -> None:
    local = tmp_path / "kamailio-local.cfg"
    local.write_text("one")
    heard = ear(local)
    local.unlink()
    assert heard.hears()


def test_touching_and_other_files_change_nothing(ear: Callable[..., Ear], tmp_path: Path) -> None:
    cfg = tmp_path / "kamailio.cfg"
    cfg.write_text("one")
    heard = ear(cfg)
    os.utime(cfg)
    cfg.write_text("one")
    (tmp_path / "other").write_text("x")
    cfg.chmod(0o600)
    assert heard.is_quiet()


def test_many_writes_are_one_change(ear: Callable[..., Ear], tmp_path: Path) -> None:
    cfg = tmp_path / "kamailio.cfg"
    cfg.write_text("one")
    heard = ear(cfg)
    with cfg.open("a") as file:
        for number in range(50):
            file.write(f"{number}\n")
            file.flush()
    assert heard.hears()
    assert heard.is_quiet()
    assert heard.count == 1


def test_files_can_be_added(ear: Callable[..., Ear], tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    later = tmp_path / "sub" / "later.cfg"
    later.write_text("one")
    heard = ear(tmp_path / "kamailio.cfg")
    heard.watch.add(str(later), print_of(str(later)))
    later.write_text("two")
    assert heard.hears()


def test_what_changed_between_reading_and_watching_is_a_change(ear: Callable[..., Ear], tmp_path: Path) -> None:
    heard = ear(tmp_path / "kamailio.cfg")
    (tmp_path / "came.cfg").write_text("now")
    (tmp_path / "is.cfg").write_text("as before")
    heard.watch.add(str(tmp_path / "is.cfg"), print_of(str(tmp_path / "is.cfg")))
    assert heard.is_quiet()
    heard.watch.add(str(tmp_path / "came.cfg"), b"")
    assert heard.hears()


def test_a_folder_that_comes_with_its_file(ear: Callable[..., Ear], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written after its content was looked at and before its folder is watched."""
    local = tmp_path / "conf" / "local.cfg"
    heard = ear(local)
    schedule = heard.watch.observer.schedule

    def late(handler: object, folder: str, **options: bool) -> object:
        local.write_text("one")
        return schedule(handler, folder, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(heard.watch.observer, "schedule", late)
    local.parent.mkdir()
    assert heard.hears()


def test_folders_of_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "loop").symlink_to("loop")
    assert folders_of(str(tmp_path / "link" / "a.cfg")) == {str(tmp_path / "link"), str(tmp_path), str(tmp_path / "real")}
    assert folders_of(str(tmp_path / "none" / "a.cfg")) == {str(tmp_path)}
    assert str(tmp_path) in folders_of(str(tmp_path / "loop"))
