"""The supervisor: binds sockets, starts the workers, replaces those that die, brings new generations, ends everything on a signal.

Signal handlers only note; the loop is: take notes → reap → compare what should run with what runs → correct. Exit statuses:
0 ended on request, 1 cannot start, 70 the workers die again and again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kamc.errors import ConfigError
from kamc.runtime.log import Log, open_syslog, startup_error
from kamc.runtime.measure import Measures
from kamc.runtime.net.endpoint import Listener
from kamc.runtime.net.listen import parse_option
from kamc.runtime.net.steer import MOST_WORKERS
from kamc.runtime.proc import notify
from kamc.runtime.proc.channel import Channel
from kamc.runtime.proc.daemon import Detached, detach, leave_terminal
from kamc.runtime.proc.desk import Desk
from kamc.runtime.proc.ending import Ending
from kamc.runtime.proc.link import Link
from kamc.runtime.proc.options import Options
from kamc.runtime.proc.peers import Exchange
from kamc.runtime.proc.pulse import Pulse
from kamc.runtime.proc.reload import Reloader
from kamc.runtime.proc.resize import Resizer
from kamc.runtime.proc.sockets import Bound, Wanted, activated
from kamc.runtime.proc.worker import Worker
from kamc.runtime.program import read_params
from kamc.runtime.records import records
from kamc.runtime.store.far import Far, common_secret, is_far
from kamc.runtime.store.mirror import Mirror

_PR_SET_PDEATHSIG: Final = 1
#: a worker that dies this many times within the window ends the server
RESPAWN_LIMIT: Final = 10
RESPAWN_WINDOW: Final = 10.0
#: seconds between two looks at what hangs
_TICK: Final = 1.0
#: where a store lives that ends with its server, and what its folder is called, with the process in it
_SHARED_MEMORY: Final = "/dev/shm"
_STORE: Final = "kamc-store-"
#: seconds that a worker that hangs has for its traceback
_LAST_WORDS: Final = 1.0
#: Kamailio's default of ``children``
_CHILDREN: Final = 8
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


def exit_status(status: int) -> int:
    return os.waitstatus_to_exitcode(status)


def _remove_left_stores(folder: str) -> None:
    """Stores of servers of this user that were killed."""
    for path in Path(folder).glob(f"{_STORE}*-*"):
        pid = path.name.removeprefix(_STORE).partition("-")[0]
        if pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            with contextlib.suppress(OSError):
                if path.stat().st_uid == os.getuid():
                    shutil.rmtree(path, ignore_errors=True)


class Handle:
    """A worker as its supervisor knows it."""

    def __init__(self, pid: int, index: int, channel: Channel, pulse: Pulse) -> None:
        self.pid, self.index, self.channel, self.pulse = pid, index, channel, pulse
        #: when it was asked to say where it hangs, 0 for never
        self.asked = 0.0

    def send(self, *message: Any, fds: tuple[int, ...] = ()) -> bool:
        """False when the worker does not take it."""
        try:
            self.channel.send(*message, fds=fds)
        except OSError:
            return False
        return True


class Supervisor:
    """One server: its program, its sockets, its workers."""

    def __init__(self, files: Mapping[str, bytes], base: str, options: Options) -> None:
        self.files, self.base, self.options = dict(files), base, options
        self.params = read_params(files)
        self.core = dict(self.params["core"])
        self.core |= options.overrides
        self.log = Log(self._level(self.core), to_syslog=self._opens_syslog())
        self.log.records = records(options.log_format)
        self.detached: Detached | None = None
        self.starting = True
        self.generation = 1
        self.folder = os.getcwd()
        self.sockets: dict[Listener, Bound] = {}
        self.workers: dict[int, Handle] = {}
        #: how many workers there are to be, and what they share when they are several
        self.wanted = options.workers or self.as_many_as_wanted(self.core)
        self.exchange = Exchange(self.wanted) if self.wanted > 1 else None
        self.deaths: list[float] = []
        #: one could not start: not before then again
        self.retry_at = 0.0
        self.signals: list[int] = []
        self.wake: tuple[int, int] = (-1, -1)
        self.selector = selectors.DefaultSelector()
        self.reloader = Reloader(self, options.rebuild, self.folder)
        self.resizer = Resizer(self)
        self.ending = Ending(self)
        self.desk = Desk(self)
        self.page: subprocess.Popen[bytes] | None = None
        #: the store of several servers, where there is one
        self.far = options.store or "" if is_far(options.store) else ""
        #: folder of what is this server's alone
        self.store = "" if self.far else options.store or ""
        self.secret = secrets.token_hex(8)

    def _level(self, core: Mapping[str, Any]) -> int:
        level = self.options.debug_level if self.options.debug_level is not None else int(core.get("debug", 0))
        return level + self.options.debug

    @staticmethod
    def as_many_as_wanted(core: Mapping[str, Any]) -> int:
        """``children``, Kamailio's processes for one UDP socket: no route holds up a worker, so more than one for each processor serve nobody."""
        return max(1, min(int(core.get("children") or _CHILDREN), len(os.sched_getaffinity(0)), MOST_WORKERS))

    def overrides(self, core: Mapping[str, Any]) -> dict[str, Any]:
        """Core parameters that the command line has the last word about."""
        found: dict[str, Any] = {"debug": self._level(core), **self.options.overrides}
        if self.options.server_id is not None:
            found["server_id"] = self.options.server_id
        return found

    @property
    def run_dir(self) -> str:
        """Where sockets are, from the folder that the server was started in."""
        return os.path.join(self.folder, self.options.run_dir or str(self.core.get("rundir", "")) or "")

    # -- start -----------------------------------------------------------------------------------------------------------

    def _opens_syslog(self) -> bool:
        """Whether lines go to syslog, which is open then."""
        if not self.options.syslog or self.core.get("log_stderror", 0):
            return False
        open_syslog(self.core.get)
        return True

    def run(self) -> int:
        """Serve until told to end. Returns the exit status; in the background, that of the start to whoever started it."""
        if self.options.daemon:
            one = detach()
            if isinstance(one, int):
                return one
            self.detached = one
        try:
            self.prepare()
        except (ConfigError, OSError) as err:
            startup_error(str(err))
            return 1
        for number in _SIGNALS:
            signal.signal(number, lambda n, _frame: self.signals.append(n))
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        # whoever gets an answer finds the control socket, too
        self.desk.open_control()
        if not all(self.spawn(index, first=True) for index in range(self.wanted)):
            self.ending.stop()
            self.clean_up()
            return 1
        self.desk.watch(self.options.watched)
        self.show_status()
        notify.notify("READY=1", f"MAINPID={os.getpid()}")
        if self.detached is not None:
            leave_terminal(keep_stderr=not self.log.to_syslog)
            self.detached.serves()
            self.starting = False
        try:
            return self.loop()
        finally:
            self.clean_up()

    def show_status(self) -> None:
        """Start the process that serves the status page; it ends with this one."""
        if self.options.status_port:
            command = [*self.options.status, "--port", str(self.options.status_port), "-Y", self.run_dir, "--parent", str(os.getpid())]
            self.page = subprocess.Popen(command, cwd=self.folder)

    def prepare(self) -> None:
        """Folders, sockets, pid file. Raises ConfigError or OSError with a sentence for the user."""
        os.makedirs(self.run_dir, exist_ok=True)
        wanted = Wanted(self.params, self.options)
        if wanted.unserved:
            self.log.warning("not listening on %s: TLS needs enable_tls=yes and module tls, SCTP needs module sctp and a kernel that has it", " ".join(wanted.unserved))
        self.sockets = wanted.open(activated(notify.inherited_sockets()), self.wanted)
        if self.options.work_dir or self.detached is not None:
            os.chdir(self.options.work_dir or "/")
        self.write_pid_file()
        self.drop_privileges()
        if self.far:
            self.secret = common_secret(self.far, self.secret)
        if self.store:
            self.secret = self._kept_secret()
        else:
            folder = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else tempfile.gettempdir()
            _remove_left_stores(folder)
            self.store = tempfile.mkdtemp(prefix=f"{_STORE}{os.getpid()}-", dir=folder)

    def _kept_secret(self) -> str:
        """The secret of a store that outlives the server: tags and masks that it has given out stay readable. Raises OSError."""
        os.makedirs(self.store, mode=0o700, exist_ok=True)
        path = os.path.join(self.store, "secret")
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            return file.read().strip() or self.secret
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(self.secret)
        return self.secret

    def write_pid_file(self) -> None:
        if self.options.pid_file:
            with open(self.options.pid_file, "w", encoding="ascii") as out:
                out.write(f"{os.getpid()}\n")
        if self.options.pgid_file:
            with open(self.options.pgid_file, "w", encoding="ascii") as out:
                out.write(f"{os.getpgid(0)}\n")

    def clean_up(self) -> None:
        """What the server leaves in the file system goes."""
        self.desk.close()
        if self.page is not None:
            self.page.terminate()
            self.page.wait()
        for path in (self.options.pid_file, self.options.pgid_file):
            if path:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        if self.far or not self.options.store:
            shutil.rmtree(self.store, ignore_errors=True)

    def drop_privileges(self) -> None:
        """Become the user and group of ``-u``/``-g`` or of the cfg, after the sockets are bound; other groups of the one who started are let go of."""
        import grp
        import pwd

        user = self.options.user or self.core.get("user")
        group = self.options.group or self.core.get("group")
        try:
            gid = (int(group) if str(group).isdigit() else grp.getgrnam(str(group)).gr_gid) if group else None
            entry = (pwd.getpwuid(int(user)) if str(user).isdigit() else pwd.getpwnam(str(user))) if user else None
            if entry is not None and gid is None:
                gid = entry.pw_gid
            if gid is not None:
                if os.geteuid() == 0:
                    os.initgroups(entry.pw_name, gid) if entry is not None else os.setgroups([gid])
                os.setgid(gid)
            if entry is not None:
                os.setuid(entry.pw_uid)
        except (KeyError, PermissionError) as err:
            raise ConfigError(f"cannot change to user {user or '-'}, group {group or '-'}: {err}") from None

    def adopt(self, files: dict[str, bytes], base: str, sockets: dict[Listener, Bound], number: int) -> None:
        """A reload has come through: what starts from now on starts with this."""
        kept = set(sockets.values())
        for bound in set(self.sockets.values()) - kept:
            bound.close()
        self.files, self.base, self.sockets, self.generation = files, base, sockets, number
        self.params = read_params(files)
        self.core = dict(self.params["core"]) | self.options.overrides
        self.log.level = self._level(self.core)
        self.log.open_again(self.core.get)

    # -- workers ---------------------------------------------------------------------------------------------------------

    def spawn(self, index: int, *, first: bool) -> bool:
        """Fork worker ``index`` and wait until it serves. False when it could not start."""
        read, write = os.pipe()
        own, theirs = Channel.pair()
        pulse = Pulse()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            own.close()
            self.desk.leave()
            for other in self.workers.values():
                other.channel.close()
            os._exit(self._child(index, write, theirs, pulse, first=first))
        os.close(write)
        theirs.close()
        with os.fdopen(read, "rb") as pipe:
            word = pipe.read(1)
        if word == b"+":
            handle = self.workers[pid] = Handle(pid, index, own, pulse)
            self.selector.register(own, selectors.EVENT_READ, lambda: self.heard(handle))
            return True
        own.close()
        status = exit_status(os.waitpid(pid, 0)[1])
        if not first:
            self.log.critical("the new worker could not start (status %d)", status)
        return False

    def _child(self, index: int, write: int, channel: Channel, pulse: Pulse, *, first: bool) -> int:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        try:
            worker = self.make_worker(index, channel, first=first)
            worker.pulse = pulse
        except ConfigError as err:
            startup_error(str(err))
            return 1
        except Exception as err:
            import traceback

            startup_error(f"bug in kamc while starting: {err!r}")
            traceback.print_exc()
            return 3

        if self.detached is not None and self.starting:
            self.detached.forget()

        def ready() -> None:
            if self.detached is not None and self.starting:
                leave_terminal(keep_stderr=not self.log.to_syslog)
            os.write(write, b"+")
            os.close(write)

        try:
            return worker.run(ready)
        except ConfigError as err:
            startup_error(str(err))
            return 1

    def make_worker(self, index: int, channel: Channel, *, first: bool) -> Worker:
        log = Log(self.log.level, index + 1, to_syslog=self.log.to_syslog)
        log.records = self.log.records
        lasting = self.options.store is not None and not self.far
        far = Far(self.far, log, f"{socket.gethostname()}:{os.getppid()}.{index}") if self.far else None
        worker = Worker(log, index=index, mirror=Mirror(self.store, log, lasting=lasting), secret=self.secret, exchange=self.exchange, far=far)
        worker.beginning = first and not index
        worker.argv = self.options.argv
        worker.run_dir = self.run_dir
        worker.serves = True
        worker.waits.most = self.options.most_waiting
        if self.options.status_port:
            worker.measures = Measures()
            worker.measures.watch_calls()
        for bound in self.sockets.values():
            bound.leave_to(index)
        worker.attach({listener: bound.of(index) for listener, bound in self.sockets.items()})
        aliases = []
        for alias in self.options.aliases:
            proto, addresses, port = parse_option(alias)["sockets"][0]
            aliases += [(proto, a.lower(), port) for a in addresses]
        worker.link = Link(worker, channel, aliases)
        worker.load(self.files, self.base, self.overrides(self.core), self.generation).aliases += aliases
        return worker

    def heard(self, handle: Handle) -> None:
        """A worker has something to say."""
        try:
            messages = handle.channel.receive()
        except EOFError:
            # it is about to be reaped
            self.selector.unregister(handle.channel)
            return
        for kind, *rest in messages:
            if kind == "answer":
                self.desk.answered(*rest)
            elif kind == "data":
                self.desk.watch_data(*rest)
            elif kind == "held":
                self.resizer.heard(handle, *rest)
            elif kind == "idle":
                self.resizer.idle(handle)
            elif kind == "ask":
                ident, what, *params = rest
                self.desk.asked(what, params, lambda error, value, ident=ident: handle.send("told", ident, error, value))  # type: ignore[misc]
            else:
                self.reloader.heard(handle, kind, rest[0], rest[1] if len(rest) > 1 else None)

    # -- loop ------------------------------------------------------------------------------------------------------------

    def loop(self) -> int:
        self.selector.register(self.wake[0], selectors.EVENT_READ, lambda: None)
        while True:
            self.await_something()
            notes, self.signals = self.signals, []
            if (signal.SIGTERM in notes or signal.SIGINT in notes) and self.ending.asked():
                return self.ending.stop()
            if signal.SIGHUP in notes:
                self.reloader.ask("SIGHUP")
            if signal.SIGUSR1 in notes:
                self.log.write(1, f"status: {self.desk.status()}")
            for pid, status in self.reap():
                self.bury(pid, status)
            if self.ending.over():
                return self.ending.stop()
            if not self.ending.under_way and not self.fill_up(time.monotonic()):
                self.ending.stop()
                return 70
            self.reloader.look()
            self.resizer.look()
            self.look_for_hanging(time.monotonic())

    def look_for_hanging(self, now: float) -> None:
        """A worker whose loop does not turn says where it is, and is ended: another one takes its place."""
        limit = self.options.hang_timeout
        for handle in self.workers.values() if limit > 0 else ():
            if handle.pulse.silence(now) < limit:
                handle.asked = 0.0
            elif not handle.asked:
                self.log.critical("worker %d has not served for %d seconds; this is where it is:", handle.pid, limit)
                handle.asked = now
                os.kill(handle.pid, signal.SIGUSR2)
            elif now - handle.asked >= _LAST_WORDS:
                self.log.critical("worker %d hangs, it is ended", handle.pid)
                os.kill(handle.pid, signal.SIGKILL)

    def await_something(self) -> None:
        """Sleep until a signal was noted or somebody writes. The wake-up pipe closes the gap between looking and sleeping."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake[0], 512)
        for key, _ in self.selector.select(0 if self.signals else _TICK):
            try:
                key.data()
            except Exception as err:
                self.log.error("the supervisor: %r", err)

    def reap(self) -> list[tuple[int, int]]:
        """Workers that ended, with their statuses."""
        found = []
        for pid in list(self.workers):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = pid, 256
            if ended:
                found.append((pid, exit_status(status)))
        return found

    def fill_up(self, now: float) -> bool:
        """Start a worker for each that is missing; one that cannot start is tried again with the next tick. False when that happens too often."""
        running = {handle.index for handle in self.workers.values()}
        if now < self.retry_at or running.issuperset(range(self.wanted)):
            return True
        for index in (i for i in range(self.wanted) if i not in running):
            self.deaths = [t for t in self.deaths if now - t < RESPAWN_WINDOW] + [now]
            if len(self.deaths) > RESPAWN_LIMIT:
                self.log.critical("workers die too often, giving up")
                return False
            if not self.spawn(index, first=False):
                self.retry_at = now + _TICK
                break
        return True

    def bury(self, pid: int, status: int) -> None:
        """A worker is gone: whoever waits for it hears of that."""
        handle = self.workers.pop(pid)
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(handle.channel)
        handle.channel.close()
        handle.pulse.close()
        if self.ending.under_way:
            self.log.info("worker %d has ended", pid)
        elif self.resizer.gone(handle):
            self.log.notice("worker %d, which is not needed any more, ended with status %d", pid, status)
        else:
            self.log.critical("worker %d ended with status %d, starting another", pid, status)
        self.reloader.died(pid)
        self.resizer.died(pid)
        self.desk.died(pid)
