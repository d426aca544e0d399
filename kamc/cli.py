"""The ``kamc`` command: build, check, run, modules. Exit statuses: 0 fine, 1 the configuration is wrong, 2 wrong usage, 3 a bug in kamc."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kamc import __version__, commands
from kamc.commands import BAD_CONFIG, BAD_USAGE, BUG, OK
from kamc.errors import ConfigError, UsageError
from kamc.report import FORMATS

#: versions that ``kamc check --target`` knows
TARGETS = ("5.6", "6.0", "6.1")
#: a worker's number is one hexadecimal digit of the branches that it makes
MOST_WORKERS = 16


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _compile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-A", dest="defines", action="append", default=[], metavar="NAME[=VALUE]", help="define a preprocessor name")
    parser.add_argument("-L", dest="loadpath", action="append", default=[], metavar="DIR", help="folder with modules of your own (NAME.py)")
    parser.add_argument("--compat", choices=("head", "5.6"), default="head", help="which Kamailio to follow where versions differ")
    parser.add_argument("--allow-missing", action="store_true", help="compile what kamc does not implement into run-time errors")
    for word in ("subst", "substdef", "substdefs"):
        parser.add_argument(f"--{word}", action="append", default=[], metavar="/RE/TEXT/FLAGS", help=f"as #!{word}")


def _workers(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number from 1 to {MOST_WORKERS}")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kamc", description="Compile and run Kamailio configurations.")
    parser.add_argument("--version", action="version", version=f"kamc {__version__}")
    sub = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    build = sub.add_parser("build", help="compile a configuration to a folder")
    build.add_argument("cfg", help="configuration file")
    build.add_argument("-o", dest="out", default="out", metavar="DIR", help="target folder (default: out)")
    build.add_argument("--check", action="store_true", help="write nothing; status 1 when the folder is not what this build would give")
    _compile_options(build)
    build.set_defaults(run=commands.build)

    check = sub.add_parser("check", help="check a configuration")
    check.add_argument("cfg", help="configuration file")
    check.add_argument("--syntax", action="store_true", help="grammar only: no modules, functions or variables are looked up")
    check.add_argument("--format", choices=FORMATS, default="text")
    check.add_argument("--target", choices=TARGETS, help="say which names that version of Kamailio does not have")
    check.add_argument("--strict", action="store_true", help="warnings fail, too")
    _compile_options(check)
    check.set_defaults(run=commands.check)

    run = sub.add_parser("run", help="run a configuration or a build, in the foreground", description="Serve until SIGTERM. Logs go to stderr.")
    run.add_argument("cfg", nargs="?", default=None, help="configuration file or build folder (default: ./kamailio.cfg)")
    _run_options(run)
    _compile_options(run)
    run.set_defaults(run=commands.run)

    diff = sub.add_parser("diff", help="show what changes between two configurations or builds",
                          description="Each side is a configuration, a build folder or git:REVISION:PATH. Status 1 when they differ.")  # fmt: skip
    diff.add_argument("old", metavar="OLD")
    diff.add_argument("new", metavar="NEW")
    diff.add_argument("--format", choices=("text", "json", "html"), default="text")
    diff.add_argument("-o", dest="output", metavar="FILE", help="write to a file")
    _compile_options(diff)
    diff.set_defaults(run=commands.diff)

    fmt = sub.add_parser("fmt", help="lay configurations out, in place")
    fmt.add_argument("files", nargs="+", metavar="FILE", help="configuration file, or - for a filter")
    fmt.add_argument("--check", action="store_true", help="write nothing; status 1 when a file would change")
    fmt.set_defaults(run=commands.fmt)

    graph = sub.add_parser("graph", help="draw which route calls which")
    graph.add_argument("cfg", help="configuration file")
    graph.add_argument("--format", choices=("dot", "mermaid", "svg"), default="dot")
    graph.add_argument("-o", dest="output", metavar="FILE", help="write to a file")
    _compile_options(graph)
    graph.set_defaults(run=commands.graph)

    status = sub.add_parser("status", help="serve the status page of a running server, on this machine")
    status.add_argument("cfg", nargs="?", help="its configuration, for the graph of routes")
    status.add_argument("-Y", dest="run_dir", default=".", metavar="DIR", help="runtime folder of the server")
    status.add_argument("--port", type=int, default=8088, help="port of 127.0.0.1 (default: 8088)")
    status.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    _compile_options(status)
    status.set_defaults(run=commands.status)

    _lookup_commands(sub)
    return parser


def _lookup_commands(sub: argparse._SubParsersAction[_Parser]) -> None:
    """Those that compile nothing."""
    explain = sub.add_parser("explain", help="tell what a code means", description="Without a code: list them all.")
    explain.add_argument("code", nargs="?", metavar="K0123")
    explain.set_defaults(run=commands.explain)

    reload = sub.add_parser("reload", help="let a running server take its configuration again")
    reload.add_argument("-Y", dest="run_dir", default=".", metavar="DIR", help="runtime folder of the server")
    reload.add_argument("--dry-run", action="store_true", help="only say what would change")
    reload.add_argument("--workers", type=int, metavar="N", help="serve with N workers from now on, and leave the configuration as it is")
    reload.set_defaults(run=commands.reload)

    rpc = sub.add_parser("rpc", help="run a command of a running server")
    rpc.add_argument("-Y", dest="run_dir", default=".", metavar="DIR", help="runtime folder of the server")
    method = rpc.add_argument("method", help="such as core.uptime or kamc.generations")
    method.complete = {"bash": "_kamc_rpc", "zsh": "_kamc_rpc"}  # type: ignore[attr-defined]
    rpc.add_argument("--format", choices=("auto", "json", "table"), default="auto", help="auto: a table on a terminal, JSON else")
    rpc.add_argument("params", nargs="*", help="numbers and texts; s:12 is a text")
    rpc.set_defaults(run=commands.rpc)

    db = sub.add_parser("db", help="make or update the tables of Kamailio's modules, add subscribers")
    db.add_argument("--url", default="sqlite:///kamailio.db", metavar="URL", help="as db_url of a configuration has it (default: sqlite:///kamailio.db)")
    actions = db.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("create", help="make the tables that are not there")
    actions.add_parser("upgrade", help="make what is missing: tables, and columns of tables of older versions")
    user = actions.add_parser("add-user", help="add somebody who may register")
    user.add_argument("address", metavar="USER@DOMAIN")
    user.add_argument("password", nargs="?", help="asked for when it is left out")
    user.add_argument("--no-plain", dest="plain", action="store_false", help="keep only what is computed of the password (needs calculate_ha1=0)")
    db.set_defaults(run=commands.db)

    completion = sub.add_parser("completion", help="print what a shell needs to complete this command")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(run=commands.completion)

    certs = sub.add_parser("certs", help="make an authority and a certificate, for tests")
    certs.add_argument("hosts", nargs="+", metavar="NAME", help="host name or address")
    certs.add_argument("-o", dest="out", default="certs", metavar="DIR", help="target folder (default: certs)")
    certs.set_defaults(run=commands.certs)

    modules = sub.add_parser("modules", help="list the modules that kamc implements")
    modules.add_argument("name", nargs="?", help="show one module")
    modules.add_argument("--json", action="store_true")
    modules.set_defaults(run=commands.modules)


def _run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("-f", dest="cfg_option", metavar="CFG", help="configuration file, as Kamailio takes it")
    run.add_argument("-l", dest="listen", action="append", default=[], metavar="[PROTO:]ADDR[:PORT]", help="listen here instead of what the cfg says")
    run.add_argument("-w", dest="work_dir", metavar="DIR", help="working folder")
    run.add_argument("-Y", dest="run_dir", metavar="DIR", help="runtime folder, for sockets")
    run.add_argument("-P", dest="pid_file", metavar="FILE", help="pid file")
    run.add_argument("-u", dest="user", help="user to become after binding")
    run.add_argument("-g", dest="group", help="group to become after binding")
    run.add_argument("-d", dest="debug", action="count", default=0, help="raise the debug level")
    run.add_argument("--debug", dest="debug_level", type=int, help="debug level")
    run.add_argument("-c", dest="check_only", action="store_true", help="check the configuration and end")
    run.add_argument("-T", dest="no_tcp", action="store_true", help="no TCP")
    run.add_argument("--alias", "--domain", dest="aliases", action="append", default=[], help="alias of this host")
    run.add_argument("--watch", action="store_true", help="reload when the configuration changes")
    run.add_argument("--watch-data", action="store_true", help="have modules read their files again (lists of destinations, addresses, tls.cfg ...) when those change")
    run.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes that serve, 1 to 16, or auto: one per processor, at most children (default: 1)")
    run.add_argument("--hang-timeout", type=int, default=15, metavar="SECONDS", help="replace a worker that does not serve for so long (default: 15, 0: never)")
    run.add_argument("--status-port", type=int, default=0, metavar="PORT", help="serve a status page and metrics on this port of 127.0.0.1 (default: none)")
    run.add_argument("--log-format", choices=("text", "json", "journald"), default="text",
                     help="lines as Kamailio's (default), a JSON object a line, or records for systemd's journal")  # fmt: skip
    run.add_argument("--most-waiting", type=int, default=10_000, metavar="N",
                     help="answer 503 to new requests when so many routes of a worker wait for something (default: 10000, 0: never)")  # fmt: skip
    run.add_argument("--drain", type=int, default=0, metavar="SECONDS",
                     help="on SIGTERM, refuse new requests and give transactions so many seconds to end; a second signal ends at once (default: 0)")  # fmt: skip
    run.add_argument("--store", metavar="DIR", help="keep contacts, hash tables and variables here across restarts; redis://HOST:PORT/DB: share them with other servers")
    run.add_argument("--bundle", help=argparse.SUPPRESS)
    run.set_defaults(daemon=False, syslog=False, pgid_file=None, overrides={}, program="kamc")
    run.add_argument("--server-id", dest="server_id", type=int)
    for flag in ("-E", "-e", "-D", "-S", "-K", "-r", "-R", "-v", "--all-errors"):
        run.add_argument(flag, dest="ignored", action="count", default=0, help=argparse.SUPPRESS)
    for flag in ("-m", "-M", "-n", "-N", "-Q", "-b", "-B", "-W", "-O", "-a", "-x", "-X", "-t", "-G", "--log-engine", "--atexit", "--iuid"):
        run.add_argument(flag, dest="ignored_value", action="append", default=[], help=argparse.SUPPRESS)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Maps outcomes to exit statuses."""
    if argv is None and Path(sys.argv[0]).name == "kamailio":
        from kamc import kamailio

        return kamailio.main()
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        options = make_parser().parse_args(args)
        options.argv = args
        status: int = options.run(options)
        return status
    except UsageError as err:
        print(f"kamc: {err}", file=sys.stderr)
        return BAD_USAGE
    except ConfigError as err:
        print(f"kamc: {err}", file=sys.stderr)
        return BAD_CONFIG
    except BrokenPipeError:
        return OK
    except Exception as err:
        traceback.print_exc()
        print(f"kamc: this is a bug in kamc {__version__}, please report it with the lines above: {err!r}", file=sys.stderr)
        return BUG


if __name__ == "__main__":
    raise SystemExit(main())
