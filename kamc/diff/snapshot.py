"""One side of a comparison, whatever it comes from."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kamc.analysis.depth import compiling
from kamc.codegen import GeneratedProgram
from kamc.codegen.render import render_constants, render_module, render_params
from kamc.compile import Compiled
from kamc.declare.routes import route_label
from kamc.errors import ConfigError

_NAME: Final = re.compile(r"\b[A-Za-z_]\w*\b")
_PARAMS: Final = ("CORE", "MODULES", "LOADPATH", "MODPARAMS", "UNUSED_MODPARAMS", "CUSTOM", "LISTEN", "ALIAS", "FLAGS", "DEFINES", "ROUTES")


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A line of generated code and the place in the configuration that it comes from (``file:line``, or nothing)."""

    text: str
    place: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a configuration generates. ``functions`` are the route blocks by label; constants are written out where they are used."""

    name: str
    functions: Mapping[str, tuple[CodeLine, ...]]
    params: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=dict)


def take(what: str, compiler: Callable[..., Compiled]) -> tuple[Snapshot | None, Compiled | None]:
    """A snapshot of ``FILE``, of a build folder or of ``git:REV:FILE``. Without one, the findings of the compile say why.

    ``compiler(path, read=...)`` compiles a configuration; ``read`` is given for git. Raises ConfigError.
    """
    if what.startswith("git:"):
        rev, _, path = what[4:].partition(":")
        if not rev or not path:
            raise ConfigError(f"{what}: not git:REVISION:PATH")
        compiled = compiler(path, read=_GitReader(rev, path))
    elif os.path.isdir(what):
        return of_folder(Path(what)), None
    else:
        compiled = compiler(what)
    return (of_program(what, compiled.program), compiled) if compiled.program is not None else (None, compiled)


class _GitReader:
    """Reads the files of a revision, by the names that they have in the working tree. Missing ones are FileNotFoundError."""

    def __init__(self, rev: str, path: str) -> None:
        self.folder = os.path.dirname(os.path.abspath(path))
        self.rev = rev
        while not os.path.isdir(self.folder):
            self.folder = os.path.dirname(self.folder)
        self.top = self._git("rev-parse", "--show-toplevel").decode().strip()
        if rev.startswith("-"):
            raise ConfigError(f"{rev}: no revision")
        self._git("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")

    def _git(self, *args: str) -> bytes:
        try:
            done = subprocess.run(["git", *args], cwd=self.folder, capture_output=True, check=False)
        except OSError as err:
            raise ConfigError(f"git cannot be run: {err.strerror or err}") from None
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip() or f"{self.rev} is no commit here"
            raise ConfigError(f"git {args[0]}: {reason}")
        return done.stdout

    def __call__(self, path: str) -> str:
        name = os.path.relpath(os.path.realpath(path), os.path.realpath(self.top))
        try:
            return self._git("show", f"{self.rev}:{name}").decode("latin-1")
        except ConfigError as err:
            raise FileNotFoundError(2, str(err), path) from None


def of_program(name: str, program: GeneratedProgram) -> Snapshot:
    texts: dict[str, str] = {}
    lines: dict[str, dict[int, str]] = {}
    for kind, module in program.modules.items():
        with compiling():
            rendered = render_module(program, module)
        texts[kind] = rendered.text
        lines[kind] = {at: f"{file}:{line}" for at, file, line in rendered.line_map}
    return _snapshot(name, texts, lines, render_constants(program), render_params(program))


def of_folder(folder: Path) -> Snapshot:
    """A build made by ``kamc build``. Raises ConfigError where the folder is none."""
    try:
        map_rows = json.loads((folder / "map.json").read_text())
        source = folder / "src"
        texts = {stem: (source / f"{stem}.py").read_text("latin-1") for stem in (Path(name).stem for name in map_rows)}
        lines = {Path(name).stem: {at: f"{file}:{line}" for at, file, line in rows} for name, rows in map_rows.items()}
        return _snapshot(str(folder), texts, lines, (source / "constants.py").read_text("latin-1"), (source / "params.py").read_text("latin-1"))
    except (OSError, ValueError, SyntaxError) as err:
        raise ConfigError(f"{folder} is no kamc build: {err}") from None


def _snapshot(name: str, texts: Mapping[str, str], lines: Mapping[str, Mapping[int, str]], constants: str, params: str) -> Snapshot:
    values = {
        target.id: ast.unparse(node.value).removeprefix("rt.")
        for node in ast.parse(constants).body
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name)
    }
    given = {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(params).body
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name) and target.id in _PARAMS
    }
    labels = {function: route_label(kind, route) for kind, route, function, _ in given["ROUTES"]}
    functions: dict[str, tuple[CodeLine, ...]] = {}
    for stem, text in texts.items():
        rows = text.split("\n")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                code = [CodeLine(_written_out(rows[at - 1], values), lines[stem].get(at, "")) for at in range(node.lineno, (node.end_lineno or node.lineno) + 1)]
                functions[labels.get(node.name, node.name)] = tuple(code)
    if not any("$def" in value for value in values.values()):
        given["DEFINES"] = []
    return Snapshot(name, functions, given, {route_label(kind, route): place for kind, route, _, place in given["ROUTES"]})


def _written_out(line: str, values: Mapping[str, str]) -> str:
    """Names of constants depend on their neighbours; their values do not."""
    return _NAME.sub(lambda m: values.get(m.group(), m.group()), line)
