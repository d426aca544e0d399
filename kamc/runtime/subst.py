"""``/regex/replacement/flags``: sed-like substitutions of textops and the re.subst transformation."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from kamc.declare.regex import compile_regex

if TYPE_CHECKING:
    from kamc.runtime.context import Ctx

_PIECE = re.compile(r"\\(\d|[ntr\\]|.)", re.S)


class Subst:
    """A prepared substitution. Variables and back references in the replacement are filled in for each match."""

    def __init__(self, text: str, formatter: Callable[[str], Callable[[Ctx], str]]) -> None:
        sep = text[0]
        parts = self._split(text[1:], sep)
        if parts is None:
            raise ValueError(f"not a substitution: {text!r}")
        pattern, replacement, flags = parts
        self.regex = compile_regex(pattern, "i" in flags.lower(), "s" not in flags.lower())
        self.all = "g" in flags.lower()
        self.pieces: list[int | Callable[[Ctx], str]] = []
        at = 0
        for match in _PIECE.finditer(replacement):
            if match.start() > at:
                self.pieces.append(formatter(replacement[at : match.start()]))
            key = match.group(1)
            if key.isdigit():
                self.pieces.append(int(key))
            else:
                literal = {"n": "\n", "t": "\t", "r": "\r"}.get(key, key)
                self.pieces.append(lambda ctx, literal=literal: literal)  # type: ignore[misc]
            at = match.end()
        if at < len(replacement):
            self.pieces.append(formatter(replacement[at:]))

    @staticmethod
    def _split(text: str, sep: str) -> tuple[str, str, str] | None:
        out: list[str] = []
        current, at = "", 0
        while at < len(text) and len(out) < 2:
            c = text[at]
            if c == "\\" and at + 1 < len(text):
                current += text[at + 1] if text[at + 1] == sep else text[at : at + 2]
                at += 2
                continue
            if c == sep:
                out.append(current)
                current = ""
            else:
                current += c
            at += 1
        return (out[0], out[1], text[at:]) if len(out) == 2 else None

    def spans(self, ctx: Ctx, text: str) -> list[tuple[int, int, str]]:
        """The stretches that change, with what replaces them."""
        out = []
        at = 0
        while at <= len(text):
            groups = self.regex.find(text, at, notbol=at > 0)
            if groups is None:
                break
            begin, end = groups[0]
            new = "".join((text[groups[p][0] : groups[p][1]] if groups[p][0] >= 0 else "") if isinstance(p, int) else p(ctx) for p in self.pieces)
            out.append((begin, end, new))
            if not self.all:
                break
            at = end if end > begin else end + 1
        return out

    def apply(self, ctx: Ctx, text: str) -> str | None:
        """The text with the substitution done; None when nothing matched."""
        spans = self.spans(ctx, text)
        if not spans:
            return None
        out, at = [], 0
        for begin, end, new in spans:
            out += [text[at:begin], new]
            at = end
        return "".join(out) + text[at:]
