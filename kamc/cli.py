"""The ``kamc`` command: build, check, run, modules. Exit statuses: 0 fine, 1 the configuration is wrong, 2 wrong usage, 3 a bug in kamc."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kamc import __version__
from kamc.diagnostics import Diagnostic, Severity
from kamc.errors import ConfigError

OK, BAD_CONFIG, BAD_USAGE, BUG = 0, 1, 2, 3


class UsageError(Exception):
    """A command line that cannot be meant."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse_defines(items: Sequence[str]) -> dict[str, str | None]:
    """``-A NAME`` and ``-A NAME=VALUE``. Raises UsageError."""
    out: dict[str, str | None] = {}
    for item in items:
        name, eq, value = item.partition("=")
        if not name.replace("_", "a").isalnum() or name[:1].isdigit() or not name.isascii():
            raise UsageError(f"-A {item}: not NAME or NAME=VALUE")
        out[name] = value if eq else None
    return out


def _compile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-A", dest="defines", action="append", default=[], metavar="NAME[=VALUE]", help="define a preprocessor name")
    parser.add_argument("-L", dest="loadpath", action="append", default=[], metavar="DIR", help="folder with modules of your own (NAME.py)")
    parser.add_argument("--compat", choices=("head", "5.6"), default="head", help="which Kamailio to follow where versions differ")
    parser.add_argument("--allow-missing", action="store_true", help="compile what kamc does not implement into run-time errors")
    for word in ("subst", "substdef", "substdefs"):
        parser.add_argument(f"--{word}", action="append", default=[], metavar="/RE/TEXT/FLAGS", help=f"as #!{word}")


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kamc", description="Compile and run Kamailio configurations.")
    parser.add_argument("--version", action="version", version=f"kamc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    build = commands.add_parser("build", help="compile a configuration to a folder")
    build.add_argument("cfg", help="configuration file")
    build.add_argument("-o", dest="out", default="out", metavar="DIR", help="target folder (default: out)")
    build.add_argument("--check", action="store_true", help="write nothing; status 1 when the folder is not what this build would give")
    _compile_options(build)
    build.set_defaults(run=cmd_build)

    check = commands.add_parser("check", help="check a configuration")
    check.add_argument("cfg", help="configuration file")
    check.add_argument("--syntax", action="store_true", help="grammar only: no modules, functions or variables are looked up")
    check.add_argument("--format", choices=("text", "line", "json"), default="text")
    check.add_argument("--strict", action="store_true", help="warnings fail, too")
    _compile_options(check)
    check.set_defaults(run=cmd_check)

    run = commands.add_parser("run", help="run a configuration or a build, in the foreground", description="Serve until SIGTERM. Logs go to stderr.")
    run.add_argument("cfg", nargs="?", default=None, help="configuration file or build folder (default: ./kamailio.cfg)")
    _run_options(run)
    _compile_options(run)
    run.set_defaults(run=cmd_run)

    modules = commands.add_parser("modules", help="list the modules that kamc implements")
    modules.add_argument("name", nargs="?", help="show one module")
    modules.add_argument("--json", action="store_true")
    modules.set_defaults(run=cmd_modules)
    return parser


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
    run.add_argument("--server-id", dest="server_id", type=int)
    for flag in ("-E", "-e", "-D", "-S", "-K", "-r", "-R", "-v", "--all-errors"):
        run.add_argument(flag, dest="ignored", action="count", default=0, help=argparse.SUPPRESS)
    for flag in ("-m", "-M", "-n", "-N", "-Q", "-b", "-B", "-W", "-O", "-a", "-x", "-X", "-t", "-G", "--log-engine", "--atexit", "--iuid"):
        run.add_argument(flag, dest="ignored_value", action="append", default=[], help=argparse.SUPPRESS)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Maps outcomes to exit statuses."""
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


def report(diagnostics: Sequence[Diagnostic], fmt: str = "text") -> None:
    from kamc.report import render

    if fmt == "json":
        print(render(diagnostics, "json"))
    elif diagnostics:
        print(render(diagnostics, fmt, color=sys.stderr.isatty() and fmt == "text"), file=sys.stderr)
        errors = sum(d.severity is Severity.ERROR for d in diagnostics)
        if fmt == "text":
            print(f"\n{errors} error(s), {len(diagnostics) - errors} warning(s)", file=sys.stderr)


def _compile(options: argparse.Namespace, path: str, *, syntax_only: bool = False):  # type: ignore[no-untyped-def]
    from kamc.compile import compile_cfg

    substs = [(word, rule) for word in ("subst", "substdef", "substdefs") for rule in getattr(options, word)]
    return compile_cfg(path, parse_defines(options.defines), loadpath=options.loadpath, allow_missing=options.allow_missing, compat=options.compat,
                       substs=substs, syntax_only=syntax_only)  # fmt: skip


def cmd_build(options: argparse.Namespace) -> int:
    from kamc.codegen.package import build_files, is_current, write_files

    compiled = _compile(options, options.cfg)
    report(compiled.diagnostics)
    if compiled.program is None:
        return BAD_CONFIG
    files = build_files(compiled.program, parse_defines(options.defines), {"compat": options.compat, "allow_missing": options.allow_missing})
    target = Path(options.out)
    if options.check:
        if is_current(target, files):
            print(f"{target} is up to date")
            return OK
        print(f"{target} is stale: it is not what {options.cfg} builds to", file=sys.stderr)
        return BAD_CONFIG
    try:
        write_files(target, files)
    except OSError as err:
        print(f"kamc: cannot write {target}: {err.strerror or err}", file=sys.stderr)
        return BAD_CONFIG
    print(f"{options.cfg} -> {target} ({len(compiled.program.params['routes'])} routes)")
    return OK


def cmd_check(options: argparse.Namespace) -> int:
    compiled = _compile(options, options.cfg, syntax_only=options.syntax)
    report(compiled.diagnostics, options.format)
    failed = any(d.severity is Severity.ERROR or options.strict for d in compiled.diagnostics)
    if not failed and options.format == "text":
        print(f"{options.cfg}: ok")
    return BAD_CONFIG if failed else OK


def cmd_run(options: argparse.Namespace) -> int:
    from kamc.runtime.proc.supervisor import Options, Supervisor

    path = options.cfg_option or options.cfg or "kamailio.cfg"
    for listen in options.listen:
        from kamc.runtime.net.listen import parse_option

        try:
            parse_option(listen)
        except ConfigError as err:
            raise UsageError(str(err)) from None
    if os.path.isdir(path):
        from kamc.runtime.program import read_artifact

        files, base = read_artifact(Path(path)), os.path.abspath(path)
    else:
        from kamc.codegen.package import build_files

        compiled = _compile(options, path)
        report(compiled.diagnostics)
        if compiled.program is None:
            return BAD_CONFIG
        files = build_files(compiled.program, parse_defines(options.defines), {"compat": options.compat}, readable=False)
        base = os.path.dirname(os.path.abspath(path))
    if options.check_only:
        print("config file ok, exiting...")
        return OK
    return Supervisor(files, base, Options(
        listen=options.listen, aliases=options.aliases, debug=options.debug, debug_level=options.debug_level, work_dir=options.work_dir,
        run_dir=options.run_dir, pid_file=os.path.abspath(options.pid_file) if options.pid_file else None, user=options.user, group=options.group,
        no_tcp=options.no_tcp, server_id=options.server_id, argv=["kamc", *options.argv],
    )).run()  # fmt: skip


def cmd_modules(options: argparse.Namespace) -> int:
    from kamc.registry import find_module, shipped

    names = [options.name] if options.name else shipped()
    rows = []
    for name in names:
        found = find_module(name)
        if found is None:
            print(f"kamc: no module {name!r}", file=sys.stderr)
            return BAD_CONFIG
        d = found.declarations()
        rows.append({"name": name, "functions": sorted(d.functions), "params": sorted(d.params), "ignored_params": sorted((*found.tuning_params, *found.ignored_params)),
                     "pvs": sorted(d.pvs), "transformations": sorted(d.transformations), "rpc": sorted(d.rpcs)})  # fmt: skip
    if options.json:
        print(json.dumps(rows, indent=1))
        return OK
    for row in rows:
        if options.name:
            for key, value in row.items():
                print(f"{key}: {value if isinstance(value, str) else ' '.join(value) or '-'}")
        else:
            print(f"{row['name']:12} {len(row['functions']):3} functions {len(row['params']):3} parameters {len(row['pvs']):3} variables")
    return OK


if __name__ == "__main__":
    raise SystemExit(main())
