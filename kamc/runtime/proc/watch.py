"""A process that watches files and says when they have changed: one line on stdout for each change, when it has settled.

    python -m kamc.runtime.proc.watch

Folders are watched, not files: editors write beside and rename, truncate and write, or exchange a symbolic link (Kubernetes config maps). What
counts is the content that a path leads to; a file that is not there yet may come. The paths are read from stdin, one a line, as JSON: the
path and the digest (hexadecimal SHA-256, empty for no file) of what whoever asks has read, since it may have changed before anybody watched.
The end of stdin ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Final

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from kamc.runtime.proc.digest import print_of

#: seconds without an event before the files are looked at
SETTLE: Final = 0.2
#: seconds after which they are looked at anyway: file systems that tell nothing of changes made elsewhere
LOOK: Final = 30.0


def folders_of(path: str) -> set[str]:
    """The folders in which something may change what a path leads to: of each symbolic link on the way, and of the file itself."""
    found = set()
    at = os.path.abspath(path)
    for _ in range(40):
        folder = os.path.dirname(at)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        found.add(folder)
        # a link may stand for any part of the path
        part, rest = at, []
        while part != "/" and not os.path.islink(part):
            part, name = os.path.split(part)
            rest.append(name)
        if part == "/":
            return found
        found.add(os.path.dirname(part))
        at = os.path.normpath(os.path.join(os.path.dirname(part), os.readlink(part), *reversed(rest)))
    return found


class Watch(FileSystemEventHandler):
    """``changed`` is called, in a thread of its own, when contents have changed and then nothing has for ``SETTLE`` seconds."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.paths: dict[str, bytes] = {}
        self.stirred, self.ended = threading.Event(), threading.Event()
        self.observer = Observer()
        # an observer that starts while another thread schedules may leave the folder out
        self.observer.start()
        self._folders: set[str] = set()
        self._lock = threading.Lock()

    def add(self, path: str, digest: bytes) -> None:
        """Another file, and what was read of it. One that is watched already is looked at again, too."""
        with self._lock:
            self.paths.setdefault(path, digest)
            self._watch_folders()
        self.stirred.set()

    def _watch_folders(self) -> None:
        for folder in sorted(set().union(*map(folders_of, self.paths)) - self._folders if self.paths else ()):
            try:
                self.observer.schedule(self, folder, recursive=False)
            except OSError as err:
                print(f"kamc: cannot watch {folder}: {err}", file=sys.stderr)
            self._folders.add(folder)
            # what happened in it before has told nobody
            self.stirred.set()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in ("opened", "closed_no_write"):
            self.stirred.set()

    def run(self) -> None:
        """Until ``ended`` is set."""
        while not self.ended.is_set():
            if self.stirred.wait(LOOK):
                while self.stirred.is_set() and not self.ended.is_set():
                    self.stirred.clear()
                    self.stirred.wait(SETTLE)
            if not self.ended.is_set() and self._differs():
                self.changed()
        self.observer.stop()
        self.observer.join()

    def _differs(self) -> bool:
        with self._lock:
            now = {path: print_of(path) for path in self.paths}
            differs = now != self.paths
            self.paths = now
            self._watch_folders()
        return differs

    def stop(self) -> None:
        self.ended.set()
        self.stirred.set()


def main() -> int:
    def say() -> None:
        try:
            print("changed", flush=True)
        except OSError:
            watch.stop()

    watch = Watch(say)
    thread = threading.Thread(target=watch.run)
    thread.start()
    for line in sys.stdin:
        path, digest = json.loads(line)
        watch.add(path, bytes.fromhex(digest))
    watch.stop()
    thread.join()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
