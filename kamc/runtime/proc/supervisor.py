"""The supervisor: binds sockets, starts the worker, replaces it when it dies, ends it on a signal.

Signal handlers only note; the loop is: take notes → reap → compare what should run with what runs → correct. Exit statuses:
0 ended on request, 1 cannot start, 70 the worker dies again and again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kamc import catalogue
from kamc.errors import ConfigError
from kamc.runtime.log import Log, startup_error
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.listen import advertised, parse_option, resolve_listeners
from kamc.runtime.net.sctp import bind_sctp, has_sctp
from kamc.runtime.net.tcp import bind_tcp
from kamc.runtime.net.udp import bind_udp
from kamc.runtime.proc.worker import Worker
from kamc.runtime.program import read_params

_PR_SET_PDEATHSIG: Final = 1
#: a worker that dies this many times within the window ends the server
RESPAWN_LIMIT: Final = 10
RESPAWN_WINDOW: Final = 10.0
STOP_TIMEOUT: Final = 5.0
#: enable_sctp: where the kernel has it
_SCTP_IF_THERE: Final = 2


@dataclass(slots=True)
class Options:
    """What the command line says; each overrides the cfg."""

    listen: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    debug: int = 0
    debug_level: int | None = None
    work_dir: str | None = None
    run_dir: str | None = None
    pid_file: str | None = None
    user: str | None = None
    group: str | None = None
    no_tcp: bool = False
    server_id: int | None = None
    argv: list[str] = field(default_factory=list)


def exit_status(status: int) -> int:
    return os.waitstatus_to_exitcode(status)


class Supervisor:
    """One server: its program, its sockets, its worker."""

    def __init__(self, files: Mapping[str, bytes], base: str, options: Options) -> None:
        self.files, self.base, self.options = files, base, options
        self.params = read_params(files)
        self.core = dict(self.params["core"])
        level = options.debug_level if options.debug_level is not None else int(self.core.get("debug", 0))
        self.log = Log(level + options.debug)
        self.sockets: dict[Listener, socket.socket] = {}
        self.worker_pid = 0
        self.deaths: list[float] = []
        self.signals: list[int] = []
        self.wake: tuple[int, int] = (-1, -1)

    # -- start -----------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until told to end. Returns the exit status."""
        try:
            self.prepare()
        except (ConfigError, OSError) as err:
            startup_error(str(err))
            return 1
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda n, _frame: self.signals.append(n))
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        if not self.spawn(first=True):
            self.remove_pid_file()
            return 1
        try:
            return self.loop()
        finally:
            self.remove_pid_file()

    def prepare(self) -> None:
        """Folders, sockets, pid file. Raises ConfigError or OSError with a sentence for the user."""
        if self.options.run_dir:
            os.makedirs(self.options.run_dir, exist_ok=True)
        self.bind()
        if self.options.work_dir:
            os.chdir(self.options.work_dir)
        self.write_pid_file()
        self.drop_privileges()

    def bind(self) -> None:
        items = [parse_option(text) for text in self.options.listen] or self.params["listen"]
        listeners, unserved = resolve_listeners(items, int(self.core.get("port", 0)) or 5060, self.served(), six=bool(self.core.get("auto_bind_ipv6", 0)))
        if unserved:
            self.log.warning("not listening on %s: TLS needs enable_tls=yes and module tls, SCTP needs module sctp and a kernel that has it", " ".join(unserved))
        if not listeners:
            raise ConfigError("no UDP or TCP address to listen on")
        listeners = advertised(listeners, str(self.core.get("advertised_address") or ""), int(self.core.get("advertised_port") or 0))
        for listener in listeners:
            try:
                self.sockets[listener] = self.open(listener)
            except OSError as err:
                raise ConfigError(f"cannot listen on {listener}: {err.strerror or err}") from None

    def served(self) -> frozenset[str]:
        """The transports that the configuration and the command line want and this machine has."""
        modules = self.params["modules"]
        found = {"udp"}
        if not self.options.no_tcp and not self.core.get("disable_tcp", 0):
            found.add("tcp")
            if self.core.get("enable_tls", 0) and "tls" in modules:
                found.add("tls")
        wanted = int(self.core.get("enable_sctp", _SCTP_IF_THERE))
        if "sctp" in modules and wanted and not self.core.get("disable_sctp", 0) and (wanted != _SCTP_IF_THERE or has_sctp()):
            found.add("sctp")
        return frozenset(found)

    def open(self, listener: Listener) -> socket.socket:
        """A bound socket. Raises OSError or ConfigError."""
        if listener.proto == "udp":
            return bind_udp(listener, self.core_param)
        if listener.proto == "sctp":
            settings = {param: int(value) for module, param, value, _where in self.params["modparams"] if module == "sctp"}
            return bind_sctp(listener, self.core_param, settings)
        return bind_tcp(listener, self.core_param)

    def core_param(self, name: str) -> Any:
        """A core parameter: as the configuration sets it, else its default."""
        row = catalogue.core_params().get(name)
        return self.core.get(name, row["default"] if row is not None else None)

    def write_pid_file(self) -> None:
        if self.options.pid_file:
            with open(self.options.pid_file, "w", encoding="ascii") as out:
                out.write(f"{os.getpid()}\n")

    def remove_pid_file(self) -> None:
        if self.options.pid_file:
            with contextlib.suppress(OSError):
                os.unlink(self.options.pid_file)

    def drop_privileges(self) -> None:
        """Become the user and group of ``-u``/``-g`` or of the cfg, after the sockets are bound."""
        import grp
        import pwd

        user = self.options.user or self.core.get("user")
        group = self.options.group or self.core.get("group")
        try:
            if group:
                os.setgid(int(group) if str(group).isdigit() else grp.getgrnam(str(group)).gr_gid)
            if user:
                entry = pwd.getpwuid(int(user)) if str(user).isdigit() else pwd.getpwnam(str(user))
                if not group:
                    os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
        except (KeyError, PermissionError) as err:
            raise ConfigError(f"cannot change to user {user or '-'}, group {group or '-'}: {err}") from None

    # -- worker ----------------------------------------------------------------------------------------------------------

    def spawn(self, *, first: bool) -> bool:
        """Fork a worker and wait until it serves. False when it could not start."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os._exit(self._child(write))
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            word = pipe.read(1)
        if word == b"+":
            self.worker_pid = pid
            return True
        status = exit_status(os.waitpid(pid, 0)[1])
        if not first:
            self.log.critical("the new worker could not start (status %d)", status)
        return False

    def _child(self, write: int) -> int:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        try:
            worker = self.make_worker()
        except ConfigError as err:
            startup_error(str(err))
            return 1
        except Exception as err:
            import traceback

            startup_error(f"bug in kamc while starting: {err!r}")
            traceback.print_exc()
            return 3

        def ready() -> None:
            os.write(write, b"+")
            os.close(write)

        try:
            return worker.run(ready)
        except ConfigError as err:
            startup_error(str(err))
            return 1

    def make_worker(self) -> Worker:
        worker = Worker(Log(self.log.level, 1))
        worker.argv = self.options.argv
        worker.run_dir = self.options.run_dir or str(self.core.get("rundir", "")) or "."
        worker.serves = True
        worker.attach(self.sockets)
        overrides: dict[str, Any] = {"debug": self.log.level}
        if self.options.server_id is not None:
            overrides["server_id"] = self.options.server_id
        rt = worker.load(self.files, self.base, overrides)
        for alias in self.options.aliases:
            parsed = parse_option(alias)
            proto, addresses, port = parsed["sockets"][0]
            rt.aliases += [(proto, a.lower(), port) for a in addresses]
        return worker

    # -- loop ------------------------------------------------------------------------------------------------------------

    def loop(self) -> int:
        while True:
            self.await_signal()
            notes, self.signals = self.signals, []
            if signal.SIGTERM in notes or signal.SIGINT in notes:
                return self.stop()
            if signal.SIGHUP in notes:
                self.log.notice("SIGHUP: reload comes with a later version, nothing changed")
            died = self.reap()
            if died is not None and not self.replace(died):
                return 70

    def await_signal(self) -> None:
        """Sleep until a signal was noted. The wake-up pipe closes the gap between looking and sleeping."""
        if not self.signals:
            select.select([self.wake[0]], [], [])
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake[0], 512)

    def reap(self) -> int | None:
        """The status of a worker that ended, or None."""
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 1
        return exit_status(status) if pid and pid == self.worker_pid else None

    def replace(self, status: int) -> bool:
        """Start a new worker for one that died; False when that happens too often."""
        now = time.monotonic()
        self.deaths = [t for t in self.deaths if now - t < RESPAWN_WINDOW] + [now]
        self.log.critical("worker %d ended with status %d, starting another", self.worker_pid, status)
        if len(self.deaths) > RESPAWN_LIMIT:
            self.log.critical("workers die too often, giving up")
            return False
        return self.spawn(first=False)

    def stop(self) -> int:
        """End the worker: SIGTERM, then SIGKILL."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.worker_pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline:
            try:
                pid, _ = os.waitpid(self.worker_pid, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid:
                return 0
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.worker_pid, signal.SIGKILL)
        return 0
