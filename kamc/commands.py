"""What the subcommands of ``kamc`` do. Each takes the parsed options and returns the exit status."""

from __future__ import annotations

import argparse
import getpass
import json
import marshal
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamc.diagnostics import Diagnostic, Severity
from kamc.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from kamc.compile import Compiled

#: fine; the configuration is wrong or differs; wrong usage; a bug in kamc
OK, BAD_CONFIG, BAD_USAGE, BUG = 0, 1, 2, 3


def parse_defines(items: Sequence[str]) -> dict[str, str | None]:
    """``-A NAME`` and ``-A NAME=VALUE``. Raises UsageError."""
    out: dict[str, str | None] = {}
    for item in items:
        name, eq, value = item.partition("=")
        if not name.replace("_", "a").isalnum() or name[:1].isdigit() or not name.isascii():
            raise UsageError(f"-A {item}: not NAME or NAME=VALUE")
        out[name] = value if eq else None
    return out


def report(diagnostics: Sequence[Diagnostic], fmt: str = "text") -> None:
    """Findings for people go to stderr, those for programs to stdout."""
    from kamc.report import render, summary

    if fmt in ("json", "sarif"):
        print(render(diagnostics, fmt))
    elif diagnostics:
        print(render(diagnostics, fmt, color=sys.stderr.isatty() and fmt == "text"), file=sys.stdout if fmt == "github" else sys.stderr)
        if fmt == "text":
            print(f"\n{summary(diagnostics)}", file=sys.stderr)


def compiled_from(options: argparse.Namespace, path: str, *, syntax_only: bool = False, target: str | None = None,
                  read: Callable[[str], str] | None = None) -> Compiled:  # fmt: skip
    """Compile with the options that all commands share."""
    from kamc.compile import compile_cfg
    from kamc.source import load_text

    substs = [(word, rule) for word in ("subst", "substdef", "substdefs") for rule in getattr(options, word)]
    return compile_cfg(path, parse_defines(options.defines), loadpath=options.loadpath, allow_missing=options.allow_missing, compat=options.compat,
                       substs=substs, prologue=getattr(options, "prologue", ""), syntax_only=syntax_only, target=target,
                       read=read or load_text)  # fmt: skip


def build(options: argparse.Namespace) -> int:
    from kamc.codegen.package import build_files, is_current, write_files

    compiled = compiled_from(options, options.cfg)
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


def check(options: argparse.Namespace) -> int:
    """Errors are what stops Kamailio; what only kamc lacks is a warning here, since the configuration is not to blame."""
    from kamc.analysis.suppress import without_ignored

    options.allow_missing = True
    if options.target == "5.6":
        options.compat = "5.6"
    compiled = compiled_from(options, options.cfg, syntax_only=options.syntax, target=options.target)
    found = without_ignored(compiled.diagnostics)
    report(found, options.format)
    failed = any(d.severity is Severity.ERROR or (options.strict and d.severity is Severity.WARNING) for d in found)
    if not failed and options.format == "text":
        print(f"{options.cfg}: ok")
    return BAD_CONFIG if failed else OK


def run(options: argparse.Namespace) -> int:
    from kamc.runtime.proc.options import Options
    from kamc.runtime.proc.supervisor import Supervisor

    path = options.cfg_option or options.cfg or "kamailio.cfg"
    for listen in options.listen:
        from kamc.runtime.net.listen import parse_option

        try:
            parse_option(listen)
        except ConfigError as err:
            raise UsageError(str(err)) from None
    files, base, watched = _built(options, path)
    if options.bundle:
        Path(options.bundle).write_bytes(marshal.dumps((files, base, watched)))
    if files is None:
        return BAD_CONFIG
    if options.bundle:
        return OK
    if options.check_only:
        print("config file ok, exiting...", file=sys.stderr if options.program == "kamc.kamailio" else sys.stdout)
        return OK
    status = [sys.executable, "-m", "kamc", "status", *(flag for define in options.defines for flag in ("-A", define)), os.path.abspath(path)]
    if options.status_port:
        _status_server()
    return Supervisor(files, base, Options(
        listen=options.listen, aliases=options.aliases, debug=options.debug, debug_level=options.debug_level, work_dir=options.work_dir,
        run_dir=options.run_dir, pid_file=os.path.abspath(options.pid_file) if options.pid_file else None, user=options.user, group=options.group,
        no_tcp=options.no_tcp, server_id=options.server_id, store=options.store if not options.store or "://" in options.store else os.path.abspath(options.store),
        hang_timeout=options.hang_timeout, log_format=options.log_format, status_port=options.status_port, status=status,
        most_waiting=options.most_waiting, workers=options.workers, drain=options.drain,
        argv=[options.program.replace("kamc.", ""), *options.argv],
        rebuild=[sys.executable, "-m", options.program, *options.argv, "--bundle"], watch=options.watch, watched=watched, watch_data=options.watch_data,
        daemon=options.daemon, syslog=options.syslog, pgid_file=os.path.abspath(options.pgid_file) if options.pgid_file else None, overrides=options.overrides,
    )).run()  # fmt: skip


def show_expanded(options: argparse.Namespace, path: str) -> int:
    """Print a configuration as it is read: with what it includes, with its defines filled in, without what its ifdefs leave out."""
    from kamc.diagnostics import DiagnosticSink
    from kamc.parser import parse_file
    from kamc.printer import print_cfg

    sink = DiagnosticSink()
    cfg = parse_file(path, sink, parse_defines(options.defines), prologue=options.prologue)
    report(sink.items)
    if cfg is None or sink.has_errors:
        return BAD_CONFIG
    print(print_cfg(cfg), end="")
    return OK


def _built(options: argparse.Namespace, path: str) -> tuple[dict[str, bytes] | None, str, dict[str, bytes]]:
    """A build in memory (None for a configuration with errors), its folder, and the files that it comes from, with digests of what they
    held; empty ones for those that are not there."""
    if os.path.isdir(path):
        from kamc.runtime.proc.digest import print_of
        from kamc.runtime.program import read_artifact

        manifest = os.path.abspath(os.path.join(path, "manifest.json"))
        watched = {manifest: print_of(manifest)}
        return read_artifact(Path(path)), os.path.abspath(path), watched
    from kamc.codegen.package import build_files

    compiled = compiled_from(options, path)
    report(compiled.diagnostics)
    watched = {os.path.abspath(path): b""}
    if compiled.unit is not None:
        cfg = compiled.unit.cfg
        watched |= {os.path.abspath(name): b"" for name in cfg.absent} | {os.path.abspath(file.name): file.digest() for file in cfg.files}
    base = os.path.dirname(os.path.abspath(path))
    if compiled.program is None:
        return None, base, watched
    return build_files(compiled.program, parse_defines(options.defines), {"compat": options.compat}, readable=False), base, watched


def reload(options: argparse.Namespace) -> int:
    """Ask a running server for another generation; 1 when it refuses."""
    from kamc.runtime.proc.control import ask

    if options.workers is not None:
        result = ask(options.run_dir, {"do": "workers", "count": options.workers})
        leaving = len(result["leaving"])
        print(f"{result['workers']} workers serve" + (f"; {leaving} more end with their last call and connection" if leaving else ""))
        return OK
    result = ask(options.run_dir, {"do": "reload", "dry_run": options.dry_run})
    for line in result["plan"]:
        print(line)
    if result["state"] == "active":
        print(f"generation {result['generation']} runs; no worker stood still for more than {result['pause_us']} microseconds")
    return OK


#: how shells find the names of RPC commands: the runtime folder is KAMC_RUN_DIR, or this one
_COMPLETION = {
    "bash": '_kamc_rpc() { compgen -W "$(kamc rpc --format json -Y "${KAMC_RUN_DIR:-.}" system.listMethods 2>/dev/null | tr -d \'[]", \')" -- "$1"; }',
    "zsh": '_kamc_rpc() { compadd -- ${(f)"$(kamc rpc --format json -Y "${KAMC_RUN_DIR:-.}" system.listMethods 2>/dev/null | tr -d \'[]", \')"}; }',
}


def rpc(options: argparse.Namespace) -> int:
    """Run a command of a running server. Numbers are numbers; ``s:`` in front keeps a text."""
    from kamc.runtime.proc.control import ask

    params = [int(p) if re.fullmatch(r"-?[0-9]+", p) else p.removeprefix("s:") for p in options.params]
    answer = ask(options.run_dir, {"do": "rpc", "method": options.method, "params": params})
    if options.format == "table" or (options.format == "auto" and sys.stdout.isatty()):
        from kamc.tables import lines_of

        print("\n".join(lines_of(answer)))
    else:
        print(json.dumps(answer, indent=2))
    return OK


def completion(options: argparse.Namespace) -> int:
    """Print what a shell needs to complete this command: names of RPC commands come from the running server."""
    try:
        import shtab
    except ImportError:
        raise ConfigError("completion needs shtab: pip install 'kamc[completion]'") from None
    from kamc.cli import make_parser

    print(shtab.complete(make_parser(), shell=options.shell, preamble=_COMPLETION))  # type: ignore[arg-type]  # one for each shell
    return OK


def certs(options: argparse.Namespace) -> int:
    from kamc.certs import make, section

    folder = Path(options.out)
    for path in make(folder, options.hosts):
        print(f"# {path}")
    print(section(folder.absolute()), end="")
    return OK


def db(options: argparse.Namespace) -> int:
    """Tables and subscribers."""
    try:
        from kamc.runtime.dbtables import Tables
    except ImportError:
        raise ConfigError("databases need SQLAlchemy: pip install 'kamc[db]'") from None
    tables = Tables(options.url)
    try:
        if options.action == "add-user":
            tables.add_user(options.address, options.password or getpass.getpass(f"password of {options.address}: "), plain=options.plain)
            return OK
        done = [f"created {name}" for name in tables.create()] if options.action == "create" else tables.upgrade()
    finally:
        tables.close()
    print("\n".join(done) if done else "nothing to do")
    return OK


def modules(options: argparse.Namespace) -> int:
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


def diff(options: argparse.Namespace) -> int:
    """0 where both generate the same, 1 where not, also where one does not compile."""
    from functools import partial

    from kamc.diff import compare, take
    from kamc.diff.render import render

    options.allow_missing = True
    sides = []
    for what in (options.old, options.new):
        snapshot, compiled = take(what, partial(compiled_from, options))
        if compiled is not None and snapshot is None:
            report([d for d in compiled.diagnostics if d.severity is Severity.ERROR])
        if snapshot is None:
            print(f"kamc: {what} does not compile, there is nothing to compare", file=sys.stderr)
            return BAD_CONFIG
        sides.append(snapshot)
    difference = compare(*sides)
    text = render(difference, options.format, color=sys.stdout.isatty() and not options.output)
    if options.output:
        try:
            Path(options.output).write_text(text + "\n", encoding="utf-8")
        except OSError as err:
            raise ConfigError(f"cannot write {options.output}: {err.strerror or err}") from None
    elif text:
        print(text)
    return OK if difference.same else BAD_CONFIG


def fmt(options: argparse.Namespace) -> int:
    """Lay files out in place. With ``--check`` nothing is written and 1 says that something would be."""
    from kamc.formatter import layout
    from kamc.source import load_text

    status = OK
    for name in options.files:
        try:
            text = sys.stdin.buffer.read().decode("latin-1") if name == "-" else load_text(name)
        except OSError as err:
            raise ConfigError(f"cannot read {name}: {err.strerror or err}") from None
        try:
            result = layout(text)
        except ConfigError as err:
            print(f"kamc: {name}: {err}", file=sys.stderr)
            status = BAD_CONFIG
            continue
        if name == "-" and not options.check:
            sys.stdout.buffer.write(result.encode("latin-1"))
        elif result != text:
            if options.check:
                print(f"{name} would change", file=sys.stderr)
                status = BAD_CONFIG
            else:
                _replace(Path(name), result)
                print(f"{name} laid out", file=sys.stderr)
    return status


def _replace(path: Path, text: str) -> None:
    """Write beside and rename, with the old file's mode: whoever reads sees one or the other."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fresh.write_bytes(text.encode("latin-1"))
        fresh.chmod(path.stat().st_mode & 0o7777)
        fresh.replace(path.resolve())
    except OSError as err:
        fresh.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {err.strerror or err}") from None


def _status_server() -> Any:
    """The class that serves the page. Raises ConfigError where its library is not there."""
    try:
        from kamc.status.server import StatusServer
    except ImportError:
        raise ConfigError("the status page needs aiohttp: pip install 'kamc[status]'") from None
    return StatusServer


def status(options: argparse.Namespace) -> int:
    """Serve the status page of a running server until told to end."""
    from kamc.graph import draw, graph_of

    server = _status_server()
    drawing = ""
    if options.cfg and not os.path.isdir(options.cfg):
        options.allow_missing = True
        compiled = compiled_from(options, options.cfg)
        drawing = draw(graph_of(compiled.unit), "svg") if compiled.unit is not None else ""
    title = f"kamc {os.path.basename(options.cfg)}" if options.cfg else "kamc"
    print(f"http://127.0.0.1:{options.port}/", file=sys.stderr)
    try:
        server(options.run_dir, drawing, title).run(options.port, options.parent)
    except KeyboardInterrupt:
        pass
    return OK


def graph(options: argparse.Namespace) -> int:
    """Draw what could be read, also when the configuration has errors; 1 then."""
    from kamc.graph import draw, graph_of

    options.allow_missing = True
    compiled = compiled_from(options, options.cfg)
    errors = [d for d in compiled.diagnostics if d.severity is Severity.ERROR]
    report(errors)
    if compiled.unit is None:
        return BAD_CONFIG
    text = draw(graph_of(compiled.unit), options.format)
    if options.output:
        try:
            Path(options.output).write_text(text + "\n", encoding="utf-8")
        except OSError as err:
            raise ConfigError(f"cannot write {options.output}: {err.strerror or err}") from None
    else:
        print(text)
    return BAD_CONFIG if errors else OK


def explain(options: argparse.Namespace) -> int:
    from kamc.diagnostics import CODES
    from kamc.explain import page

    if options.code is None:
        for code, title in CODES.items():
            print(f"{code}  {title}")
        return OK
    print(page(options.code).rstrip())
    return OK
