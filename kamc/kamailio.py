"""The command line of Kamailio over ``kamc run``: same flags, same exit statuses (0 and 255), and in the background unless told otherwise.

Installed as ``kamc-kamailio``; ``kamc`` does the same when it is started under the name ``kamailio``.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from kamc import __version__, commands
from kamc.commands import OK
from kamc.errors import ConfigError, UsageError

#: Kamailio's status for whatever went wrong (-1)
FAILED: Final = 255
_DEFAULT_CFG: Final = "/etc/kamailio/kamailio.cfg"
_RUN_DIR: Final = "/var/run/kamailio"
_YES: Final = ("yes", "on", "1", "y")
#: flags that tune what kamc does not have: memory, poll methods, numbers of processes, buffers
_IGNORED: Final = ("-e", "-K", "-r", "-R", "--all-errors")
_IGNORED_VALUES: Final = ("-m", "-M", "-n", "-N", "-Q", "-b", "-B", "-W", "-O", "-x", "-X", "--atexit", "--log-engine", "--iuid")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        raise UsageError(f"Unknown option '{unknown[1]}'. Use -h for help." if unknown else f"{message}. Use -h for help.")


def make_parser() -> argparse.ArgumentParser:
    """Flags as ``kamailio -h`` of version 5.6 and later lists them."""
    p = _Parser(prog="kamailio", add_help=False, allow_abbrev=False, description="kamc, with the command line of Kamailio.")
    p.add_argument("-f", dest="cfg", default=_DEFAULT_CFG, metavar="file", help=f"configuration file (default: {_DEFAULT_CFG})")
    p.add_argument("-L", dest="loadpath", action="append", default=[], metavar="path", help="folders with modules of your own (NAME.py), separated by colons")
    p.add_argument("-c", dest="check_only", action="store_true", help="check the configuration and end")
    p.add_argument("--cfg-print", dest="cfg_print", action="store_true", help="print the configuration with what it includes and without what its ifdefs leave out")
    p.add_argument("-l", dest="listen", action="append", default=[], metavar="address", help="listen on [proto:]address[:port][/advertised]")
    p.add_argument("-A", dest="defines", action="append", default=[], metavar="define", help="preprocessor define NAME or NAME=VALUE")
    p.add_argument("-a", dest="auto_aliases", metavar="mode", help="auto aliases: yes or no")
    p.add_argument("--alias", "--domain", dest="aliases", action="append", default=[], metavar="val", help="alias of this host")
    p.add_argument("-d", dest="debug", action="count", default=0, help="raise the debug level")
    p.add_argument("--debug", dest="debug_level", type=int, metavar="val", help="debug level")
    p.add_argument("-D", dest="foreground", action="count", default=0, help="-D, -DD: stay in the foreground")
    p.add_argument("-E", dest="to_stderr", action="store_true", help="log to stderr")
    p.add_argument("-P", dest="pid_file", metavar="file", help="pid file")
    p.add_argument("-G", dest="pgid_file", metavar="file", help="file for the number of the process group")
    p.add_argument("-w", dest="work_dir", metavar="dir", help='working folder (default: "/" in the background)')
    p.add_argument("-Y", dest="run_dir", metavar="dir", help="runtime folder, for sockets")
    p.add_argument("-t", dest="chroot", metavar="dir", help="not there: use a unit file or a container")
    p.add_argument("-u", dest="user", metavar="uid", help="user to become")
    p.add_argument("-g", dest="group", metavar="gid", help="group to become")
    p.add_argument("-T", dest="no_tcp", action="store_true", help="no TCP")
    p.add_argument("-S", dest="no_sctp", action="store_true", help="no SCTP")
    p.add_argument("--server-id", dest="server_id", type=int, metavar="num", help="value of server_id")
    p.add_argument("--loadmodule", action="append", default=[], metavar="name", help="load a module before the configuration is read")
    p.add_argument("--modparam", action="append", default=[], metavar="mod:param:type:value", help="set a parameter of such a module; type is s or i")
    for word in ("subst", "substdef", "substdefs"):
        p.add_argument(f"--{word}", action="append", default=[], metavar="exp", help=f"as #!{word}")
    p.add_argument("-v", "-V", "--version", dest="version", action="store_true", help="version")
    p.add_argument("-I", dest="internals", action="store_true", help="version and how it is built")
    p.add_argument("-h", "--help", dest="help", action="store_true", help="this text")
    p.add_argument("--workers", dest="workers", type=int, default=1, metavar="N", help="of kamc: processes that serve (default: 1)")
    p.add_argument("--bundle", help=argparse.SUPPRESS)
    for flag in _IGNORED:
        p.add_argument(flag, dest="ignored", action="count", default=0, help=argparse.SUPPRESS)
    for flag in _IGNORED_VALUES:
        p.add_argument(flag, dest="ignored_value", action="append", default=[], help=argparse.SUPPRESS)
    return p


def version(*, internals: bool = False) -> str:
    """What ``-v`` prints."""
    text = f"version: kamc {__version__} ({platform.machine()}/linux), in place of kamailio"
    if internals:
        text += f"\nPython {platform.python_version()}; regular expressions by Python and libc, TLS by OpenSSL, one event loop for each worker"
    return text


def prologue(loadmodule: Sequence[str], modparam: Sequence[str]) -> str:
    """``--loadmodule`` and ``--modparam`` as configuration text. Raises UsageError."""
    lines = [f'loadmodule "{name}"' for name in loadmodule]
    for text in modparam:
        parts = text.split(":", 3)
        if len(parts) != 4 or parts[2] not in ("s", "i") or (parts[2] == "i" and not re.fullmatch(r"[+-]?\d+", parts[3])):
            raise UsageError(f"--modparam={text}: not modname:paramname:type:value with a type of s or i")
        value = parts[3] if parts[2] == "i" else '"' + parts[3].replace("\\", "\\\\").replace('"', '\\"') + '"'
        lines.append(f'modparam("{parts[0]}", "{parts[1]}", {value})')
    return "".join(f"{line}\n" for line in lines)


def _default_run_dir() -> str | None:
    """Kamailio's, where this user may make it."""
    return _RUN_DIR if os.access(_RUN_DIR if os.path.isdir(_RUN_DIR) else os.path.dirname(_RUN_DIR), os.W_OK) else None


def _as_run(options: argparse.Namespace, argv: list[str]) -> argparse.Namespace:
    """The options of ``kamc run``. Raises UsageError."""
    if options.chroot:
        raise UsageError("-t: there is no chroot; use a unit file (RootDirectory=) or a container")
    overrides: dict[str, object] = {}
    if options.auto_aliases is not None:
        overrides["auto_aliases"] = int(options.auto_aliases.lower() in _YES)
    if options.no_sctp:
        overrides["disable_sctp"] = 1
    if options.to_stderr:
        overrides["log_stderror"] = 1
    paths = [folder for text in options.loadpath for folder in text.split(":")]
    found = argparse.Namespace(**vars(options))
    found.run_dir = options.run_dir or _default_run_dir()
    found.cfg_option, found.cfg = options.cfg, None
    found.loadpath = [folder for folder in paths if os.path.isdir(folder)]
    found.prologue = prologue(options.loadmodule, options.modparam)
    found.overrides, found.argv, found.program = overrides, argv, "kamc.kamailio"
    found.daemon, found.syslog = options.foreground not in (1, 2), not options.to_stderr
    found.allow_missing, found.compat, found.watch, found.store, found.hang_timeout = False, "head", False, None, 15
    found.most_waiting, found.log_format, found.status_port, found.watch_data, found.drain = 10_000, "text", 0, False, 0
    return found


def run(options: argparse.Namespace, argv: list[str]) -> int:
    """Do what the flags say. Returns the exit status."""
    if options.help:
        make_parser().print_help()
        return OK
    if options.version or options.internals:
        print(version(internals=options.internals))
        return OK
    if options.cfg_print:
        return commands.show_expanded(_as_run(options, argv), options.cfg)
    if not options.bundle and not Path(options.cfg).is_file():
        print(f"ERROR: loading config file({options.cfg}): No such file or directory, check file and directory permissions", file=sys.stderr)
        return FAILED
    return OK if commands.run(_as_run(options, argv)) == OK else FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return run(make_parser().parse_args(args), args)
    except (UsageError, ConfigError) as err:
        print(err, file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        return OK


if __name__ == "__main__":
    raise SystemExit(main())
