"""Kamailio's log layout on stderr: `` N(PID) LEVEL: {prefix}module [file:line]: function(): text``, one write per line, latin-1. What the script
writes has ``<script>`` for a module and no place."""

from __future__ import annotations

import os
import re
import sys
import syslog
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kamc.runtime.records import Records

NAMES: Final[dict[int, str]] = {-5: "ALERT", -4: "BUG", -3: "CRITICAL", -2: "CRITICAL", -1: "ERROR", 0: "WARNING", 1: "NOTICE", 2: "INFO", 3: "DEBUG"}
#: syslog's priorities by level
PRIORITIES: Final[dict[int, int]] = {-5: syslog.LOG_ALERT, -4: syslog.LOG_CRIT, -3: syslog.LOG_CRIT, -2: syslog.LOG_CRIT, -1: syslog.LOG_ERR,
                                     0: syslog.LOG_WARNING, 1: syslog.LOG_NOTICE, 2: syslog.LOG_INFO, 3: syslog.LOG_DEBUG}  # fmt: skip


#: lines of one kind that are written in one second
BURST: Final = 100
_MOST_KINDS: Final = 1000


#: a value that came from outside and goes on as if another line began there
_FORGED: Final = re.compile(r"\n(?=\s*\d+\(\d+\) )")
_INDENTED: Final = "\n\t| "
#: stands for the module of lines that the configuration writes
SCRIPT: Final = "<script>"


def _place(module: str) -> str:
    """``module [file:line]: function()`` of whoever writes a line."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    code = frame.f_code
    _, found, path = code.co_filename.rpartition("/stdlib_modules/")
    if not found:
        path = code.co_filename.rpartition("/runtime/")[2]
    name = module or (path.partition("/")[0].removesuffix(".py") if found else "<core>")
    return f"{name} [{path}:{frame.f_lineno}]: {code.co_name}()"


def open_syslog(param: Callable[[str], Any]) -> None:
    """``log_name``, ``log_facility``."""
    facility = str(param("log_facility") or "LOG_DAEMON")
    syslog.openlog(str(param("log_name") or "kamailio"), syslog.LOG_PID, getattr(syslog, facility, syslog.LOG_DAEMON))


class Log:
    """``level`` is the highest level that is written. ``rank`` is the process number in front of the pid."""

    __slots__ = ("_burst", "_fd", "_prefix", "_prefix_ctx", "_prefix_format", "clock", "ctx", "divert", "facilities", "level", "levels", "rank", "records", "to_syslog")

    def __init__(self, level: int = 0, rank: int = 0, *, to_syslog: bool = False) -> None:
        self.level, self.rank, self.to_syslog = level, rank, to_syslog
        self._fd = 2
        #: takes structured records instead of lines (:mod:`kamc.runtime.records`), and the message that they are about
        self.records: Records | None = None
        self.ctx: Any = None
        #: takes the lines instead: module log_custom
        self.divert: Callable[[bytes], object] | None = None
        #: of single modules: module debugger
        self.levels: dict[str, int] = {}
        self.facilities: dict[str, int] = {}
        self.clock = time.monotonic
        #: text before its values are put in → the second that is counted, how many lines it had in it
        self._burst: dict[str, tuple[int, int]] = {}
        self._prefix = ""
        self._prefix_format: Callable[[Any], str] | None = None
        self._prefix_ctx: Any = None

    def open_again(self, param: Callable[[str], Any]) -> None:
        """Where lines go to syslog: under the name and with the facility of these core parameters from now on."""
        if self.to_syslog:
            open_syslog(param)

    def about(self, prefix: Callable[[Any], str], ctx: Any) -> None:
        """Lines from here on are about a message. The prefix is made with the first of them: most messages write none."""
        self._prefix_format, self._prefix_ctx = prefix, ctx

    def about_nothing(self) -> None:
        """The message is done."""
        self._prefix = ""
        self._prefix_format = self._prefix_ctx = self.ctx = None

    def keep_prefix(self) -> Callable[[], None]:
        """A function that brings the present prefix back: for a run that is set aside."""
        kept = self._prefix, self._prefix_format, self._prefix_ctx, self.ctx

        def bring_back() -> None:
            self._prefix, self._prefix_format, self._prefix_ctx, self.ctx = kept

        return bring_back

    @property
    def prefix(self) -> str:
        """The evaluated log_prefix of the message in hand, or an empty text."""
        if self._prefix_format is not None:
            make, ctx = self._prefix_format, self._prefix_ctx
            # off first: what the format itself logs has no prefix
            self._prefix = ""
            self._prefix_format = self._prefix_ctx = None
            self._prefix = make(ctx)
        return self._prefix

    def write(self, level: int, text: str, module: str = "") -> None:
        """Write a line whatever the level. A missing line end is added. ``module`` is where it comes from, by default the caller's."""
        if module != SCRIPT:
            module = _place(module)
        self.say(level, f"{module}: {text}", "", self.facilities.get(module.partition(" ")[0].strip("<>")) if self.facilities else None)

    def say(self, level: int, text: str, name: str = "", facility: int | None = None) -> None:
        """Write a line whatever the level, without the place of whoever writes it. ``name`` stands for that of the level."""
        name = name or NAMES[max(-5, min(3, level))]
        prefix = self.prefix
        if self.records is not None:
            self.records.write(level, name, self.rank, prefix, text, self.ctx)
            return
        if self.divert is not None:
            self.divert(f"({os.getpid()}) {name}: {prefix}{text.rstrip()}\n".encode("latin-1", "replace"))
            return
        if self.to_syslog:
            syslog.syslog(PRIORITIES[max(-5, min(3, level))] | (facility or 0), f"{name}: {prefix}{text.rstrip()}")
            return
        line = f" {self.rank}({os.getpid()}) {name}: {prefix}{_FORGED.sub(_INDENTED, text)}"
        if not line.endswith("\n"):
            line += "\n"
        try:
            os.write(self._fd, line.encode("latin-1", "replace"))
        except OSError:
            # nobody reads any more: losing a log line must not stop a worker
            return

    def limited(self, level: int, text: str, *args: object) -> None:
        """Write a line whatever the level, unless there were too many of its kind in this second."""
        if self._within_burst(level, text):
            self.write(level, text % args if args else text)

    def _at(self, level: int, text: str, args: tuple[object, ...]) -> None:
        if level <= (self._level_here() if self.levels else self.level) and (level == 3 or self._within_burst(level, text)):
            self.write(level, text % args if args else text)

    def _level_here(self) -> int:
        """Of the module that writes."""
        module = _place("").partition(" ")[0].strip("<>")
        return self.levels.get(module, self.levels.get("all", self.level))

    def _within_burst(self, level: int, text: str) -> bool:
        """Whether a line of the server itself may be written: ``BURST`` of one kind a second, so that a flood of bad messages does not
        become a flood of lines. What was left out is told with the first line of that kind in a later second."""
        second = int(self.clock())
        began, count = self._burst.get(text, (second, 0))
        if began != second:
            if count > BURST:
                self.write(level, f"{count - BURST} lines like the next one were left out")
            began, count = second, 0
            if len(self._burst) > _MOST_KINDS:
                self._burst.clear()
        self._burst[text] = began, count + 1
        return count < BURST

    def debug(self, text: str, *args: object) -> None:
        self._at(3, text, args)

    def info(self, text: str, *args: object) -> None:
        self._at(2, text, args)

    def notice(self, text: str, *args: object) -> None:
        self._at(1, text, args)

    def warning(self, text: str, *args: object) -> None:
        self._at(0, text, args)

    def error(self, text: str, *args: object) -> None:
        self._at(-1, text, args)

    def critical(self, text: str, *args: object) -> None:
        self._at(-2, text, args)


def startup_error(text: str) -> None:
    """One line for the person who starts the server."""
    sys.stderr.write(f"kamc: {text}\n")
    sys.stderr.flush()
