"""Module debugger: each action as it runs, stops before it, variables and messages as they are, log levels of single modules.

``breakpoints`` runs that stand before an action.

https://www.kamailio.org/docs/modules/stable/modules/debugger.html. A program that is compiled with the module has a call before every statement; without it
there is none. The line is the one on which the statement begins (Kamailio shows the one on which it ends). At a breakpoint a run stands, not the worker.
"""

from __future__ import annotations

import json
import os
import syslog
from typing import Any, Final

from kamc.declare import ANY, Module, Routes, Spread, function, modparam, rpc
from kamc.declare.argtypes import Lit
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.edits import apply_edits
from stdlib_modules.debugger.breakpoints import Breakpoints

_DEFAULT_MASK: Final = 31
_NULL, _AVP, _SCRIPT, _XAVP, _OTHER = 1, 2, 4, 8, 16
_LEVELS: Final = {"L_ALERT": -5, "L_BUG": -4, "L_CRIT2": -3, "L_CRIT": -2, "L_ERR": -1, "L_WARN": 0, "L_NOTICE": 1, "L_INFO": 2, "L_DBG": 3}
_FACILITIES: Final = {name: getattr(syslog, name) for name in (
    "LOG_AUTH", "LOG_CRON", "LOG_DAEMON", "LOG_KERN", "LOG_LOCAL0", "LOG_LOCAL1", "LOG_LOCAL2", "LOG_LOCAL3", "LOG_LOCAL4", "LOG_LOCAL5", "LOG_LOCAL6",
    "LOG_LOCAL7", "LOG_LPR", "LOG_MAIL", "LOG_NEWS", "LOG_SYSLOG", "LOG_USER", "LOG_UUCP",
)}  # fmt: skip
#: commands of dbg.bp that need a process, and a variable
_OF_ONE: Final = frozenset({"keep", "next", "move", "show", "eval", "log"})
_OF_VALUE: Final = frozenset({"eval", "log"})
_OF_ALL: Final = frozenset({"on", "off", "release"})


def facility(text: str) -> int:
    """Raises ValueError."""
    found = _FACILITIES.get(text)
    if found is None:
        raise ValueError(f"unknown facility {text!r}")
    return int(found)


class Debugger(Module):
    name = "debugger"
    traces = True
    tuning_params = ("step_usleep", "step_loops", "cfgpkgcheck")
    ignored_params = ("log_assign",)

    class Params:
        cfgtrace: int = 0
        cfgtrace_format: int = 0
        breakpoint: int = 0
        log_level: int = -1
        log_facility: str = ""
        log_prefix: str = "*** cfgtrace:"
        log_level_name: str = ""
        mod_hash_size: int = 0
        mod_level_mode: int = 0
        mod_facility_mode: int = 0
        reset_msgid: int = 0
        cfgtest: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.levels: dict[str, int] = {}
        self.facilities: dict[str, int] = {}
        self.breakpoints = Breakpoints()

    @modparam("mod_level")
    def set_level(self, text: str) -> None:
        module, sep, level = text.partition("=")
        if not sep or not module or not level.removeprefix("-").isdecimal():
            raise ValueError(f"{text!r} is not module=level")
        self.levels[module] = int(level)

    @modparam("mod_facility")
    def set_facility(self, text: str) -> None:
        module, sep, name = text.partition("=")
        if not sep or not module:
            raise ValueError(f"{text!r} is not module=facility")
        self.facilities[module] = facility(name)

    def mod_init(self) -> None:
        p = self.p
        if p.cfgtest:
            raise ConfigError("debugger: cfgtest is not implemented by kamc: kamc check and coverage do that")
        try:
            self.facility = facility(p.log_facility) if p.log_facility else None
        except ValueError as err:
            raise ConfigError(f"debugger: log_facility: {err}") from None
        self.tracing = bool(p.cfgtrace)
        self.breakpoints.on = bool(p.breakpoint)

    def activate(self, previous: Any) -> None:
        self.carry(previous, "tracing", "cfgtrace")
        if previous is not None:
            self.breakpoints = previous.breakpoints
            if previous.p.breakpoint != self.p.breakpoint:
                self.breakpoints.on = bool(self.p.breakpoint)
        self.rt.log.levels = self.levels if self.p.mod_level_mode else {}
        self.rt.log.facilities = self.facilities if self.p.mod_facility_mode else {}

    def release(self) -> None:
        if self.rt.log.levels is self.levels:
            self.rt.log.levels = {}
        if self.rt.log.facilities is self.facilities:
            self.rt.log.facilities = {}

    def trace(self, ctx: Ctx, block: str, file: str, line: int, kind: int, action: str) -> None:
        """Generated code calls this before each statement. ``kind`` is Kamailio's number of the action, 0 where it has one of its own."""
        if self.tracing:
            where = "" if self.p.cfgtrace_format else f"c=[{file}] "
            self._say(f"{block} {where}l={line} a={kind} n={action}")
        if self.breakpoints.active:
            self.breakpoints.reach(self.rt, ctx, f"[{file}:{line}] a={kind} n={action}", self._say)

    def _say(self, text: str) -> None:
        log = self.rt.log
        if self.p.log_level <= log.level:
            log.say(self.p.log_level, f"{self.p.log_prefix}dbg_cfg_trace(): {text}", self.p.log_level_name, self.facility)

    # -- functions -------------------------------------------------------------------------------------------------------

    @classmethod
    def check_call_dbg_pv_dump(cls, args: tuple[Any, ...]) -> str | None:
        return f"unknown level {args[1]!r}" if len(args) > 1 and str(args[1]).upper() not in _LEVELS else None

    @classmethod
    def check_call_dbg_sip_msg(cls, args: tuple[Any, ...]) -> str | None:
        if args and str(args[0]).upper() not in _LEVELS:
            return f"unknown level {args[0]!r}"
        return f"unknown facility {args[1]!r}" if len(args) > 1 and args[1] not in _FACILITIES else None

    @function(ANY)
    def dbg_breakpoint(self, ctx: Ctx, mode: Lit) -> int:
        """By itself it stops nobody, as in Kamailio: with breakpoints on, a run stands before it as before any other action."""
        return 1

    @function(ANY)
    def dbg_pv_dump(self, ctx: Ctx, mask: int = _DEFAULT_MASK, level: Lit = "L_DBG") -> int:
        """Variables as one line of JSON: 1 also those without a value, 2 AVPs, 4 ``$var``, 8 XAVPs, 16 ``$shv``."""
        number = _LEVELS[level.upper()]
        if number <= self.rt.log.level:
            self.rt.log.write(number, json.dumps(self._variables(ctx, mask), separators=(",", ":")))
        return 1

    def _variables(self, ctx: Ctx, mask: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if mask & _AVP:
            found |= {f"$avp({key})": list(reversed(stack)) for key, stack in ctx.avps.items() if stack or mask & _NULL}
        if mask & _SCRIPT:
            found |= {f"$var({key})": value for key, value in self.rt.worker.vars.items() if value is not None or mask & _NULL}
        if mask & _XAVP:
            for kind, tree in ctx.xavps.items():
                found |= {f"${kind}({key})": values for key, values in tree.items() if values or mask & _NULL}
        if mask & _OTHER:
            found |= {f"$shv({key})": self.rt.worker.shared[key] for key in self.rt.worker.shared}
        return found

    @function(Routes.REQUEST | Routes.ONREPLY)
    def dbg_sip_msg(self, ctx: Ctx, log_level: Lit = "L_ERR", facility: Lit = "") -> int:
        """The message with its changes, and the changes."""
        level = _LEVELS[log_level.upper()]
        if level > self.rt.log.level:
            return 1
        msg, edits = ctx.msg, sorted(ctx.edits)
        body_at = len(msg.text) - len(msg.body)
        changes = {True: "", False: ""}
        for start, end, text in edits:
            removed = msg.text[start:end]
            changes[start >= body_at] += f"- {removed}{'' if removed.endswith(chr(10)) else chr(10)}" * bool(removed) + text
        frame = self.rt.cfg_frame()
        whole = apply_edits(msg.text, edits, 0, len(msg.text))
        line = frame.f_lineno if frame is not None else 0
        self.rt.log.say(level, f"debugger: dbg_sip_msg(): CONFIG LINE {line}\n{' START OF SIP message debug ':-^79}\n{whole}"
                        f"{' SIP header diffs ':-^79}\n{changes[False]}{' SIP body diffs ':-^79}\n{changes[True]}{' END OF SIP message debug ':-^79}\n",
                        "", _FACILITIES.get(facility))  # fmt: skip
        return 1

    # -- commands --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _mine(pid: int | str | None) -> bool:
        """Whether a command is for this process. Raises RpcFault where another one is meant."""
        if pid is None:
            return False
        try:
            if int(pid) == os.getpid():
                return True
        except ValueError:
            pass
        raise RpcFault(500, "No such pid")

    @rpc("dbg.trace", spread=Spread.EVERY)
    def rpc_trace(self, command: str | None = None, pid: int | str | None = None) -> str:
        """on|off [PID]: switch the trace of actions."""
        if command is None:
            raise RpcFault(500, "Config trace command missing")
        if command not in ("on", "off"):
            raise RpcFault(500, "Unknown trace command")
        self._mine(pid)
        self.tracing = command == "on"
        return "200 ok"

    @rpc("dbg.bp", spread=Spread.EVERY)
    def rpc_breakpoint(self, command: str | None = None, pid: int | str | None = None, variable: str | None = None) -> str:
        """on|off|release [PID], keep|show|next|move PID, eval|log PID VARIABLE: stand before each action, and go on."""
        if command is None:
            raise RpcFault(500, "Config breakpoint command missing")
        if command not in _OF_ONE and command not in _OF_ALL:
            raise RpcFault(500, "Unknown inner command")
        if not self._mine(pid) and command in _OF_ONE:
            raise RpcFault(500, "Missing pid parameter")
        if command in _OF_VALUE:
            return self._value(command, variable)
        return str(getattr(self, f"_bp_{command}")() or "200 ok")

    def _bp_on(self) -> None:
        self.breakpoints.on = True

    def _bp_off(self) -> None:
        self.breakpoints.clear()

    def _bp_release(self) -> None:
        self.breakpoints.release()

    def _bp_keep(self) -> None:
        self.rt.tell_peers(self.name, "_bp_off")

    def _bp_show(self) -> str:
        stop = self.breakpoints.first()
        return f"at bkp {stop.action}" if stop is not None else ""

    def _bp_next(self) -> str:
        return self.breakpoints.next()

    def _bp_move(self) -> None:
        self.breakpoints.move()

    def _value(self, command: str, variable: str | None) -> str:
        """A variable of the run that stands; a text that is none is said in the log alone, as Kamailio has it."""
        if not variable:
            raise RpcFault(500, "pv param missing")
        stop = self.breakpoints.first()
        if stop is None:
            return "200 ok"
        try:
            found = stop.evaluate(variable)
        except ConfigError as err:
            self._say(f"unable to get pv value for [{variable}]: {err}")
            return "200 ok"
        if command == "eval":
            return found
        self._say(f"breakpoint eval: {found}")
        return "200 ok"

    @rpc("dbg.ls", spread=Spread.JOIN)
    def rpc_list(self, pid: int | str | None = None) -> list[dict[str, int]]:
        """[PID]: the processes that run routes; ``set``: 1 traces, 2 stands before actions; ``state``: 0 no run stands, 1 before its first, 2 before a later one."""
        self._mine(pid)
        points = self.breakpoints
        return [{"entry": self.rt.worker.index, "pid": os.getpid(), "set": int(self.tracing) | 2 * points.shown, "state": points.state, "in.pid": 0, "in.cmd": 0}]

    @rpc("dbg.set_mod_level", spread=Spread.EVERY)
    def rpc_set_level(self, module: str | None = None, level: int | None = None) -> str:
        """Set the log level of a module, of ``core``, or of ``all``."""
        if module is None or level is None:
            raise RpcFault(500, "invalid parameters")
        if not self.p.mod_hash_size:
            raise RpcFault(500, "cannot store parameter")
        self.levels[module] = level
        self.rt.log.levels = self.levels
        return "200 ok"

    @rpc("dbg.get_mod_level")
    def rpc_get_level(self, module: str | None = None) -> int:
        """The log level of a module."""
        if module is None:
            raise RpcFault(500, "invalid parameters")
        return int(self.levels.get(module, self.rt.log.level))

    @rpc("dbg.set_mod_facility", spread=Spread.EVERY)
    def rpc_set_facility(self, module: str | None = None, name: str | None = None) -> str:
        """Set the syslog facility of a module."""
        if module is None or name is None:
            raise RpcFault(500, "invalid parameters")
        try:
            number = facility(name)
        except ValueError:
            raise RpcFault(500, "facility not found") from None
        if not self.p.mod_hash_size:
            raise RpcFault(500, "cannot store parameter")
        self.facilities[module] = number
        self.rt.log.facilities = self.facilities
        return "200 ok"

    @rpc("dbg.get_mod_facility")
    def rpc_get_facility(self, module: str | None = None) -> str:
        """The syslog facility of a module."""
        if module is None:
            raise RpcFault(500, "invalid parameters")
        number = self.facilities.get(module, facility(str(self.rt.param("log_facility") or "LOG_DAEMON")))
        return next(name for name, value in _FACILITIES.items() if value == number)

    @rpc("dbg.reset_msgid", spread=Spread.EVERY)
    def rpc_reset_msgid(self) -> str:
        """Number messages from 1 again."""
        if not self.p.reset_msgid:
            raise RpcFault(500, "reset_msgid is 0. Set it to 1 to enable.")
        counters = self.rt.counters
        self.rt.worker.first_message = (counters.get("core", "rcv_requests") or 0) + (counters.get("core", "rcv_replies") or 0)
        return "200 ok"


module = Debugger
