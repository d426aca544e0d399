"""The pipeline on one page: source → preprocess, lex, parse → analyse → lower → (render, assemble) → package."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kamc.analysis import analyze, check_structure
from kamc.analysis.depth import check_depth, compiling
from kamc.analysis.unit import Unit
from kamc.codegen import GeneratedProgram, generate
from kamc.diagnostics import Diagnostic, DiagnosticSink
from kamc.parser import parse_file
from kamc.registry import Registry
from kamc.source import load_text


@dataclass(frozen=True, slots=True)
class Compiled:
    """The result of a compile: a program when there were no errors, and all findings either way."""

    program: GeneratedProgram | None
    diagnostics: tuple[Diagnostic, ...]
    unit: Unit | None = None

    @property
    def ok(self) -> bool:
        return self.program is not None


def compile_cfg(
    path: str,
    defines: Mapping[str, str | None] | None = None,
    *,
    loadpath: Iterable[str] = (),
    allow_missing: bool = False,
    compat: str = "head",
    env: Mapping[str, str] | None = None,
    substs: Iterable[tuple[str, str]] = (),
    prologue: str = "",
    syntax_only: bool = False,
    target: str | None = None,
    read: Callable[[str], str] = load_text,
) -> Compiled:
    """Compile a configuration. Pure apart from reading its files: nothing is started, nothing is written."""
    sink = DiagnosticSink()
    environment = env if env is not None else os.environ
    with compiling():
        cfg = parse_file(path, sink, defines, environment, compat, read, substs, prologue)
        if cfg is None or not check_depth(cfg, sink):
            return Compiled(None, tuple(sink.items))
        if syntax_only:
            check_structure(cfg, sink)
            return Compiled(None, tuple(sink.items))
        unit = analyze(cfg, Registry(loadpath), sink, allow_missing=allow_missing, env=environment, compat=compat, target=target)
        program = generate(unit, path) if not sink.has_errors else None
    return Compiled(program, tuple(sink.items), unit)
