"""The configurations of ``../shared/corpus`` against their manifest: verdict and line, print and parse again, compile.

Ids are ``PATH``, ``PATH -A DEFINE …`` and, for what the real server accepts as a whole, the same with ``(compile)`` in front.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kamc.compile import compile_cfg
from kamc.diagnostics import Diagnostic, DiagnosticSink
from kamc.parser import parse_text
from kamc.printer import print_cfg

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
#: how the oracles of the manifest are named here
FLAVORS = {"debian_5_6_3": "5.6", "head_6_2": "head"}


@dataclass(frozen=True)
class Case:
    """One file with one set of defines. ``compat`` is set where the real server accepts it as a whole."""

    path: str
    defines: tuple[str, ...]
    valid: bool
    error: dict[str, Any] | None = None
    compat: str | None = None

    @property
    def id(self) -> str:
        name = " ".join((self.path, *(f"-A {d}" for d in self.defines)))
        return f"(compile {self.compat}) {name}" if self.compat else name


def cases() -> Iterator[Case]:
    """Everything that the manifest decides; its README says which rows to leave out."""
    for line in (CORPUS / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        for run in ({"defines": [[]], **row}, *row.get("define_runs", ())):
            valid = run.get("syntax_valid")
            if valid == "unknown" or run.get("missing_includes") or (valid and run.get("core_semantic_errors")):
                continue
            for defines in run["defines"]:
                yield Case(row["path"], tuple(defines), bool(valid), run.get("syntax_error"))
        for oracle, compat in FLAVORS.items():
            for result in row["oracle"].get(oracle, ()):
                if result["result"] == "accepted":
                    for defines in result["defines"]:
                        yield Case(row["path"], tuple(defines), True, None, compat)


def lines_of(found: Diagnostic) -> set[int]:
    """The lines that a finding names: its own and those in its notes."""
    lines = {found.span.line} if found.span else set()
    texts = (*found.notes, *found.hints, *(step.describe() for step in (found.span.trail if found.span else ())))
    return lines | {int(n) for text in texts for n in re.findall(r":(\d+)(?::\d+)?", text)}


def problem(case: Case) -> tuple[str | None, float]:
    """What is wrong with a case, or None; and the seconds that it took."""
    os.chdir("/")
    defines = {name: value or None for name, _, value in (d.partition("=") for d in case.defines)}
    path = str(CORPUS / case.path)
    begin = time.perf_counter()
    if case.compat:
        compiled = compile_cfg(path, defines, allow_missing=True, compat=case.compat)
        errors = [d for d in compiled.diagnostics if d.severity.value == "error"]
        return (f"does not compile: {errors[0].code} {errors[0].message} {errors[0].span and errors[0].span.where()}" if errors else None), time.perf_counter() - begin
    compiled = compile_cfg(path, defines, syntax_only=True)
    errors = [d for d in compiled.diagnostics if d.severity.value == "error"]
    took = time.perf_counter() - begin
    if case.valid:
        if errors:
            return f"refused: {errors[0].message} {errors[0].span and errors[0].span.where()}", took
        return round_trip(path, defines), took
    if not errors:
        return "accepted, and is not valid", took
    wanted = (case.error or {}).get("line")
    if wanted is not None and not any(abs(line - wanted) <= 1 for d in errors for line in lines_of(d)):
        return f"line {wanted} is not named: {errors[0].message}", took
    return None, took


def round_trip(path: str, defines: dict[str, str | None]) -> str | None:
    """Parse, print, parse and print again: both texts have to be the same."""
    with open(path, encoding="latin-1", newline="") as stream:
        text = stream.read()
    first = printed(text, path, defines)
    if first is None:
        return "does not parse"
    again = printed(first, path, {})
    if again is None:
        return "the printed text does not parse"
    return None if first == again else "printed twice, the text differs"


def printed(text: str, path: str, defines: dict[str, str | None]) -> str | None:
    sink = DiagnosticSink()
    cfg = parse_text(text, path, sink, defines)
    return None if cfg is None or sink.has_errors else print_cfg(cfg)


def _timed(case: Case) -> tuple[str, str | None, float]:
    why, took = problem(case)
    return case.id, why, took


def run(only: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """(failed, all)."""
    wanted = set(only)
    chosen = [case for case in cases() if not wanted or case.id in wanted]
    begin = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(_timed, chosen, chunksize=8))
    for name, why, _ in results:
        if why:
            print(f"  {name}: {why}")
    slowest = max(results, key=lambda r: r[2], default=("", None, 0.0))
    print(f"corpus: {len(results)} checks in {time.perf_counter() - begin:.0f} s, the slowest {slowest[2]:.2f} s ({slowest[0]})")
    return {name for name, why, _ in results if why}, {name for name, _, _ in results}
