"""Cases as text files: what a configuration looks like with the findings of the checker written under its lines.

A case of ``diagnostics/`` begins with its title, what the real ``kamailio -c`` says of it and whether the real server starts with it.
Under each line that a finding points at stands a comment with carets, the severity, the code and the message (up to a ``#!``, which
Kamailio would take for a directive even there)::

    request_route {
        route(RELAI);
    #   ^^^^^^^^^^^^ error K0401 route[RELAI] is not defined

``#<`` stands for a finding that begins in the first column. ``python -m tests.cases.mark`` writes the comments anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kamc.diagnostics import Diagnostic

FOLDER: Final = Path(__file__).resolve().parent / "diagnostics"
MARK: Final = re.compile(r"#(<| *)(\^*) (error|warning) (K\d{4})(.*)")
ORACLE: Final = "# kamailio -c: "
STARTS: Final = "# kamailio starts: "


@dataclass(frozen=True)
class Case:
    path: Path
    title: str
    oracle: str
    starts: str
    #: (line, comment)
    marks: tuple[tuple[int, str], ...]

    @property
    def name(self) -> str:
        return self.path.stem


def read(path: Path) -> Case:
    lines = path.read_text("latin-1").split("\n")
    marks: list[tuple[int, str]] = []
    at = 0
    for number, text in enumerate(lines, 1):
        if MARK.match(text):
            marks.append((at, text))
        else:
            at = number
    oracle, starts = (next(x.removeprefix(head) for x in lines if x.startswith(head)) for head in (ORACLE, STARTS))
    return Case(path, lines[0].removeprefix("# "), oracle, starts, tuple(marks))


def all_cases() -> list[Case]:
    return [read(path) for path in sorted(FOLDER.glob("*.cfg"))]


def mark_of(d: Diagnostic) -> tuple[int, str]:
    """Line and comment of a finding."""
    assert d.span is not None, d
    line, column = d.span.file.position(d.span.start)
    end_line, end_column = d.span.end_position
    width = max(1, (end_column if end_line == line else len(d.span.file.line(line)) + 1) - column)
    carets = "#" + " " * (column - 2) + "^" * width if column > 1 else "#<" + "^" * max(0, width - 2)
    message = d.message.split("#!")[0].rstrip()
    return line, f"{carets} {d.severity.value} {d.code} {message}".rstrip()


def table(cases: list[Case]) -> str:
    """The rows of ``docs/checker.md``."""
    rows = []
    for case in cases:
        found = [MARK.match(text) for _, text in case.marks]
        says = "; ".join(f"{m.group(3)} [{m.group(4)}](diagnostics/{m.group(4)}.md):{m.group(5).replace('|', chr(92) + '|')}" for m in found if m)
        oracle = case.oracle.split("(/")[0].strip().replace("|", "\\|")
        rows.append(f"| {case.title} | {oracle} | {case.starts} | {says or 'nothing'} | [`{case.name}`](../tests/cases/diagnostics/{case.name}.cfg) |")
    return "\n".join(rows)
