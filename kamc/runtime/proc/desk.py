"""The supervisor's desk: whoever wants something of it (the control socket, workers, the watcher of files) comes here."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from kamc.runtime.proc import control
from kamc.runtime.proc.digest import print_of

if TYPE_CHECKING:
    from kamc.runtime.proc.supervisor import Supervisor

#: request on the control socket → its argument
_ARGUMENTS: Final = {"reload": "dry_run", "workers": "count"}


class Watcher:
    """A process that watches files (:mod:`.watch`), started with the first of them."""

    def __init__(self, desk: Desk, changed: Callable[[], None]) -> None:
        self.desk, self.changed = desk, changed
        self.process: subprocess.Popen[str] | None = None

    def add(self, prints: dict[str, bytes]) -> None:
        """More files, with digests of what they held when somebody read them: what is different from that is a change."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write("".join(json.dumps([path, digest.hex()]) + "\n" for path, digest in prints.items()))
            self.process.stdin.flush()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-m", "kamc.runtime.proc.watch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   cwd=self.desk.supervisor.reloader.folder, process_group=0)  # fmt: skip
        assert process.stdout is not None
        out = process.stdout

        def readable() -> None:
            line = os.read(out.fileno(), 4096)
            if not line:
                self.desk.selector.unregister(out)
                self.desk.log.error("the watcher has ended; changes are not noticed any more")
                return
            self.changed()

        self.desk.selector.register(out, selectors.EVENT_READ, readable)
        return process

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Desk:
    """See the module."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor, self.log, self.selector = supervisor, supervisor.log, supervisor.selector
        self.control: socket.socket | None = None
        self.sources = Watcher(self, lambda: supervisor.reloader.ask("a file has changed"))
        self.data = Watcher(self, self._data_changed)
        #: files of modules and the commands that read them; what they held
        self._data: dict[str, str] = {}
        self._prints: dict[str, bytes] = {}
        #: commands that workers have in hand: whose, and who waits for the answer
        self._questions: dict[int, tuple[int, control.Answer]] = {}
        self._serial = 0

    def leave(self) -> None:
        """In a worker: the socket is the supervisor's."""
        if self.control is not None:
            self.control.close()

    def close(self) -> None:
        """The control socket and the watchers go."""
        self.sources.close()
        self.data.close()
        if self.control is not None:
            self.control.close()
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.supervisor.run_dir, control.NAME))

    # -- commands --------------------------------------------------------------------------------------------------------

    def asked(self, what: str, params: list[Any], answer: Callable[[str, Any], Any]) -> None:
        """Something that only the supervisor can do: for a worker's RPC command, or for the control socket."""
        if what == "reload":
            self.supervisor.reloader.ask("command", dry=bool(params and params[0]), told=answer)
        elif what == "workers":
            self.supervisor.resizer.ask(params[0] if params and params[0] is not None else self.supervisor.wanted, answer)
        elif what == "status":
            answer("", self.status())
        else:
            answer(f"unknown request {what!r}", None)

    def status(self) -> dict[str, Any]:
        one = self.supervisor
        return {"pid": os.getpid(), "generation": one.generation, "workers": [h.pid for h in one.workers.values()],
                "sockets": [str(s) for s in one.sockets], "reload": one.reloader.state, "reloads": one.reloader.history}  # fmt: skip

    def open_control(self) -> None:
        try:
            self.control = control.listen(self.supervisor.run_dir)
        except OSError as err:
            self.log.warning("no control socket in %s: %s", self.supervisor.run_dir, err.strerror or err)
            return
        self.selector.register(self.control, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        assert self.control is not None
        with contextlib.suppress(OSError):
            sock, _ = self.control.accept()
            sock.setblocking(False)
            client = control.Client(sock, self._request)

            def readable() -> None:
                if not client.readable():
                    self.selector.unregister(sock)
                    sock.close()

            self.selector.register(sock, selectors.EVENT_READ, readable)

    def _request(self, request: dict[str, Any], answer: control.Answer) -> None:
        if request.get("do") != "rpc":
            what = str(request.get("do"))
            self.asked(what, [request.get(_ARGUMENTS.get(what, ""))], answer)
            return
        method, params = request.get("method"), request.get("params", [])
        handle = next(iter(self.supervisor.workers.values()), None)
        if not isinstance(method, str) or not isinstance(params, list):
            answer("an rpc request has a method, and params that are a list", None)
            return
        self._serial += 1
        self._questions[self._serial] = handle.pid if handle is not None else 0, answer
        if handle is None or not handle.send("rpc", self._serial, method, params):
            del self._questions[self._serial]
            answer("no worker answers", None)

    def answered(self, ident: int, error: str, value: Any) -> None:
        """A worker has done a command."""
        _, answer = self._questions.pop(ident, (0, None))
        if answer is not None:
            answer(error, value)

    def died(self, pid: int) -> None:
        """Whoever waits for a worker that is gone hears of that."""
        for ident in [i for i, (whose, _) in self._questions.items() if whose == pid]:
            self._questions.pop(ident)[1]("the worker died", None)

    # -- watching --------------------------------------------------------------------------------------------------------

    def watch(self, prints: dict[str, bytes]) -> None:
        """Reload when one of these files is not any more what was read of it. Later calls add to them."""
        if self.supervisor.options.watch and prints:
            self.sources.add(prints)

    def watch_data(self, commands: dict[str, str]) -> None:
        """Run the commands of files that change, which modules have read."""
        if not self.supervisor.options.watch_data or not commands:
            return
        folder = self.supervisor.reloader.folder
        self._data = {os.path.join(folder, path): command for path, command in commands.items()}
        self._prints = {path: self._prints.get(path) or print_of(path) for path in self._data}
        self.data.add(self._prints)

    def _data_changed(self) -> None:
        for path, command in self._data.items():
            now = print_of(path)
            if now == self._prints.get(path):
                continue
            self._prints[path] = now
            self.log.notice("%s has changed: %s", path, command)
            self._request({"do": "rpc", "method": command}, partial(self._data_read, path, command))

    def _data_read(self, path: str, command: str, error: str, value: Any) -> None:
        if error:
            self.log.error("%s after a change of %s: %s", command, path, error)
