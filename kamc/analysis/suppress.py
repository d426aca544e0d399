"""``# kamc: ignore[K0123]`` on a line: findings of that code are not reported there. Several codes are separated by commas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from kamc.diagnostics import Diagnostic

_COMMENT: Final = re.compile(r"(?:#|//)\s*kamc:\s*ignore\[([K0-9,\s]+)\]")


def without_ignored(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """What is left after the comments in the sources had their say."""
    return [d for d in diagnostics if d.span is None or d.code not in ignored_codes(d.span.file.line(d.span.line))]


def ignored_codes(line: str) -> frozenset[str]:
    """The codes that a line asks to ignore."""
    if "kamc:" not in line:
        return frozenset()
    return frozenset(code.strip() for match in _COMMENT.finditer(line) for code in match.group(1).split(","))
