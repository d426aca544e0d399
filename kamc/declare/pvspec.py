"""Parsing of pseudo-variables and format strings: text → :class:`PvSpec`. Shared by the compiler (checks) and the runtime (binding).

Kamailio pages: "Pseudo-Variables" and "Transformations".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kamc.errors import ConfigError

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
#: transformations whose argument is the rest of the text up to the closing brace
_RAW: Final = frozenset({"re.subst"})
#: transformations with a single-character argument at this position (a comma is a character too)
#: transformations whose text arguments keep trailing blanks
_KEEP_BLANKS: Final = frozenset({"s.rm", "s.replace"})
_CHAR_ARG: Final = {"s.select": 1, "param.value": 1, "param.in": 1, "param.valueat": 1, "param.name": 1, "param.count": 0}
#: transformations with one argument of which the first character counts; a comma may stand after it
_FIRST_CHAR: Final = frozenset({"s.before", "s.after", "s.rbefore", "s.rafter", "s.count"})


def char_argument(name: str) -> int:
    """Which argument of a transformation is a single character; a number past all of them where none is."""
    return _CHAR_ARG.get(name, 99)


class PvSyntaxError(ValueError):
    """A variable that cannot be read; ``offset`` counts from the start of the text."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Transformation:
    name: str
    args: tuple[str | PvSpec, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class PvSpec:
    """``$(name(inner)[index]{transformations})``; ``inner`` and ``index`` are text as written."""

    name: str
    inner: str | None
    index: str | PvSpec | None
    transformations: tuple[Transformation, ...]
    text: str


def _closing(text: str, start: int, pair: str) -> int:
    """Offset of the bracket that closes the one at ``start``."""
    depth = 0
    opening, closing = pair[0], pair[1]
    for at in range(start, len(text)):
        if text[at] == opening:
            depth += 1
        elif text[at] == closing:
            depth -= 1
            if depth == 0:
                return at
    raise PvSyntaxError(f"'{opening}' without '{closing}'", start)


def read_pv(text: str, at: int = 0, *, script: bool = False) -> tuple[PvSpec, int]:
    """Read the variable whose ``$`` stands at ``at``. Returns it and the offset after it.

    In script text a dot ends a bare name, in format strings it belongs to it.
    """
    if text[at : at + 1] != "$":
        raise PvSyntaxError("a variable begins with '$'", at)
    if text.startswith("$?", at):
        return PvSpec("?", None, None, (), "$?"), at + 2
    if text.startswith("(", at + 1):
        end = _closing(text, at + 1, "()")
        return _bracketed(text[at + 2 : end], text[at : end + 1], at + 2), end + 1
    match = _NAME.match(text, at + 1)
    if match is None:
        raise PvSyntaxError("'$' without a name", at)
    name, end = match.group(), match.end()
    if script and "." in name:
        name = name.split(".")[0]
        end = at + 1 + len(name)
    inner = None
    if text.startswith("(", end):
        close = _closing(text, end, "()")
        inner, end = text[end + 1 : close], close + 1
    return PvSpec(name, inner, None, (), text[at:end]), end


def parse_pv(text: str) -> PvSpec:
    """A text that is one variable and nothing else."""
    text = text.strip()
    spec, end = read_pv(text)
    if end != len(text):
        raise PvSyntaxError(f"unexpected {text[end:]!r} after the variable", end)
    return spec


def avp_name(module: str, param: str, text: str) -> str:
    """The name of the AVP that a module parameter wants, as ``ctx.avps`` knows it; empty for none. Raises ConfigError for anything else."""
    if not text:
        return ""
    try:
        spec = parse_pv(text)
    except PvSyntaxError as err:
        raise ConfigError(f"{module}: {param} {text!r}: {err}") from None
    if spec.name != "avp" or not spec.inner:
        raise ConfigError(f"{module}: {param} {text!r} is no AVP")
    return spec.inner.strip().removeprefix("s:")


def _bracketed(body: str, whole: str, base: int) -> PvSpec:
    """The inside of ``$( )``."""
    lead = len(body) - len(body.lstrip())
    match = _NAME.match(body, lead) or (re.compile(r"\?").match(body, lead))
    if match is None:
        raise PvSyntaxError("'$(' without a name", base)
    name, at = match.group(), match.end()
    inner: str | None = None
    index: str | PvSpec | None = None
    if body.startswith("(", at):
        close = _closing(body, at, "()")
        inner, at = body[at + 1 : close], close + 1
    if body.startswith("[", at):
        close = _closing(body, at, "[]")
        raw, at = body[at + 1 : close], close + 1
        index = parse_pv(raw) if raw.startswith("$") else raw
    steps = []
    while True:
        while at < len(body) and body[at] in " \t\r\n":
            at += 1
        if at >= len(body):
            break
        if body[at] != "{":
            raise PvSyntaxError(f"unexpected {body[at:]!r} in the variable", base + at)
        close = _closing(body, at, "{}")
        steps.append(_transformation(body[at + 1 : close], base + at))
        at = close + 1
    return PvSpec(name, inner, index, tuple(steps), whole)


def _transformation(body: str, base: int) -> Transformation:
    name, comma, rest = body.partition(",")
    cls, dot, function = name.partition(".")
    if not dot:
        raise PvSyntaxError(f"transformation {name!r} has no class", base)
    function = function.strip()
    name = f"{cls}.{function.lower()}"
    if not comma:
        return Transformation(name, (), body)
    if name in _RAW:
        return Transformation(name, (rest.strip(),), body)
    if name in _FIRST_CHAR and not rest.lstrip(" \t\r\n").startswith("$"):
        piece = rest[:1] if rest.startswith(",") else rest.partition(",")[0]
        if rest[len(piece) :] not in ("", ","):
            raise PvSyntaxError(f"unexpected {rest[len(piece) :]!r} in transformation {name}", base)
        return Transformation(name, (piece,), body)
    args: list[str | PvSpec] = []
    at = 0
    while True:
        if _CHAR_ARG.get(name) == len(args) and at < len(rest):
            args.append(rest[at])
            at += 1
        else:
            lead = at
            while lead < len(rest) and rest[lead] in " \t\r\n":
                lead += 1
            if rest.startswith("$", lead):
                spec, at = read_pv(rest, lead)
                args.append(spec)
            else:
                end = rest.find(",", at)
                end = len(rest) if end < 0 else end
                piece = rest[at:end]
                args.append(piece.lstrip(" \t\r\n") if name in _KEEP_BLANKS else piece.strip(" \t\r\n"))
                at = end
        while at < len(rest) and rest[at] in " \t\r\n":
            at += 1
        if at >= len(rest):
            return Transformation(name, tuple(args), body)
        if rest[at] != ",":
            raise PvSyntaxError(f"unexpected {rest[at:]!r} in transformation {name}", base)
        at += 1


def parse_format(text: str) -> tuple[str | PvSpec, ...]:
    """A format string → literal pieces and variables. ``$$`` is a dollar sign."""
    pieces: list[str | PvSpec] = []
    literal = ""
    at = 0
    while True:
        dollar = text.find("$", at)
        if dollar < 0:
            literal += text[at:]
            break
        literal += text[at:dollar]
        if text.startswith("$$", dollar):
            literal += "$"
            at = dollar + 2
            continue
        spec, at = read_pv(text, dollar)
        if literal:
            pieces.append(literal)
            literal = ""
        pieces.append(spec)
    if literal or not pieces:
        pieces.append(literal)
    return tuple(pieces)


def specs_of(pieces: tuple[str | PvSpec, ...]) -> list[PvSpec]:
    """The variables of a format string, those inside transformations and indexes too."""
    out: list[PvSpec] = []
    for piece in pieces:
        if isinstance(piece, PvSpec):
            out.append(piece)
            if isinstance(piece.index, PvSpec):
                out += specs_of((piece.index,))
            for step in piece.transformations:
                out += specs_of(step.args)
    return out
