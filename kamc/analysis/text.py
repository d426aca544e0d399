"""Checks on the text of the files: directives that Kamailio takes for comments, and defines that nothing asks for."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import Final

from kamc.analysis.unit import Unit
from kamc.diagnostics import DiagnosticSink
from kamc.preprocess import DIRECTIVE_WORDS
from kamc.source import SourceFile, Span

_LINE: Final = re.compile(r"^[ \t]*((?:#!|!!)[ \t]*([A-Za-z_]+))([^\n]*)$", re.M)
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMMENT_LINE: Final = re.compile(r"^[ \t]*(?:#(?!!)|//)[^\n]*$", re.M)
_KNOWN: Final = frozenset({*DIRECTIVE_WORDS, "else", "endif", "include_file", "import_file"})
_MODES: Final = frozenset({"KAMAILIO", "OPENSER", "SER", "MAXCOMPAT", "ALL"})


def check_text(unit: Unit) -> None:
    """Look at every file that was read, included ones too."""
    for file in dict.fromkeys(unit.cfg.files):
        _directives(file, unit.sink)
    _unused_defines(unit)


def _directives(file: SourceFile, sink: DiagnosticSink) -> None:
    for match in _LINE.finditer(file.text):
        word, rest = match.group(2), match.group(3).strip()
        span = Span(file, match.start(1), match.end(1))
        if word in ("else", "endif") and rest:
            sink.warning("K0210", Span(file, match.start(1), match.end()), f"#!{word} counts only when it is alone on its line: this one is a comment",
                         hint="move what follows it to a line of its own")  # fmt: skip
        elif word in _KNOWN or word in _MODES:
            if " " in match.group(1) or "\t" in match.group(1):
                sink.warning("K0210", span, f"a blank after the mark makes a comment of this #!{word}", hint=f"#!{word}")
        else:
            close = difflib.get_close_matches(word.lower(), sorted(_KNOWN), 1, 0.75) or difflib.get_close_matches(word.upper(), sorted(_MODES), 1, 0.8)
            if close:
                sink.warning("K0210", span, f"there is no directive #!{word}: the line is a comment", hint=f"did you mean #!{close[0]}?")


def _unused_defines(unit: Unit) -> None:
    """A define is used when its name stands anywhere else, also in a part that is switched off; whole lines of comment do not count."""
    if not unit.cfg.unused or not unit.is_whole:
        return
    count = Counter(word for file in unit.cfg.files for word in _WORD.findall(_COMMENT_LINE.sub("", file.text)))
    for name, span in unit.cfg.unused:
        if count[name] > 1:
            continue
        at = span.text.find(name)
        place = Span(span.file, span.start + at, span.start + at + len(name), span.trail) if at >= 0 else span
        close = difflib.get_close_matches(name, sorted(unit.cfg.asked), 1, 0.8)
        unit.sink.warning("K0209", place, f"{name} is defined and never used", hint=f"did you mean {close[0]}?" if close else None)
