"""POSIX extended regular expressions with Kamailio's meaning, shared by the checker and the runtime.

Two engines. libc's ``regexec`` is what Kamailio uses: leftmost-longest, and its time cannot explode. Python's ``re`` is eight times as
fast from here; it answers yes/no questions for patterns whose form rules out bad backtracking. Captures always come from libc.
"""

from __future__ import annotations

import ctypes
import locale
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_REG_EXTENDED, _REG_ICASE, _REG_NEWLINE, _REG_NOSUB = 1, 2, 4, 8
_MAX_GROUPS: Final = 10
_MAX_UNBOUNDED: Final = 3


class RegexError(ValueError):
    """A pattern that libc refuses; the message is libc's."""


class _Match(ctypes.Structure):
    _fields_ = (("so", ctypes.c_int), ("eo", ctypes.c_int))


class _RegexT(ctypes.Structure):
    # larger than any libc's regex_t; only libc looks inside
    _fields_ = (("opaque", ctypes.c_char * 256),)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    lib = ctypes.CDLL(None)
    lib.regcomp.argtypes = [ctypes.POINTER(_RegexT), ctypes.c_char_p, ctypes.c_int]
    lib.regexec.argtypes = [ctypes.POINTER(_RegexT), ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_Match), ctypes.c_int]
    lib.regerror.argtypes = [ctypes.c_int, ctypes.POINTER(_RegexT), ctypes.c_char_p, ctypes.c_size_t]
    lib.regfree.argtypes = [ctypes.POINTER(_RegexT)]
    lib.newlocale.argtypes, lib.newlocale.restype = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p], ctypes.c_void_p
    lib.uselocale.argtypes, lib.uselocale.restype = [ctypes.c_void_p], ctypes.c_void_p
    return lib


@lru_cache(maxsize=1)
def _byte_locale() -> int:
    """The C locale: Kamailio never leaves it, so a character is a byte; Python starts in a UTF-8 one."""
    return int(_libc().newlocale(1 << locale.LC_CTYPE, b"C", None))


def _regcomp(pattern: str, flags: int) -> _RegexT:
    """Compile with libc. Raises RegexError with libc's message."""
    lib, compiled = _libc(), _RegexT()
    before = lib.uselocale(_byte_locale())
    try:
        code = lib.regcomp(compiled, pattern.encode("latin-1"), flags)
    finally:
        lib.uselocale(before)
    if code:
        text = ctypes.create_string_buffer(256)
        lib.regerror(code, compiled, text, 256)
        raise RegexError(text.value.decode("latin-1"))
    return compiled


class PosixRegex:
    """A compiled pattern. ``test`` answers whether it is found; ``find`` gives the spans of the groups."""

    __slots__ = ("_compiled", "_fast", "_grouped", "icase", "newline", "pattern", "test")

    def __init__(self, pattern: str, *, icase: bool = False, newline: bool = False) -> None:
        self.pattern, self.icase, self.newline = pattern, icase, newline
        #: answers yes or no, which libc does several times as fast
        self._compiled = _regcomp(pattern, self._flags | _REG_NOSUB)
        #: knows the groups; compiled when they are asked for
        self._grouped: _RegexT | None = None
        fast = translate(pattern, newline=newline)
        self._fast = re.compile(fast, re.ASCII | re.DOTALL | (re.IGNORECASE if icase else 0)) if fast is not None else None
        self.test: Callable[[str], object] = self._fast.search if self._fast is not None else self._slow_test

    @property
    def _flags(self) -> int:
        return _REG_EXTENDED | (_REG_ICASE if self.icase else 0) | (_REG_NEWLINE if self.newline else 0)

    def __del__(self, libc: Callable[[], ctypes.CDLL] = _libc) -> None:
        # the default keeps the function while the interpreter ends
        for compiled in (getattr(self, "_compiled", None), getattr(self, "_grouped", None)):
            if compiled is not None:
                libc().regfree(compiled)

    def _slow_test(self, text: str) -> bool:
        return bool(_libc().regexec(self._compiled, text.encode("latin-1", "replace"), 0, None, 0) == 0)

    def find(self, text: str, start: int = 0, *, notbol: bool = False) -> list[tuple[int, int]] | None:
        """Spans of the match and of its groups (-1, -1 where a group took no part), counted from 0 of ``text``."""
        if self._grouped is None:
            self._grouped = _regcomp(self.pattern, self._flags)
        groups = (_Match * _MAX_GROUPS)()
        raw = text[start:].encode("latin-1", "replace")
        if _libc().regexec(self._grouped, raw, _MAX_GROUPS, groups, 1 if notbol else 0):
            return None
        return [(m.so + start, m.eo + start) if m.so >= 0 else (-1, -1) for m in groups]


@lru_cache(maxsize=512)
def compile_regex(pattern: str, icase: bool = False, newline: bool = False) -> PosixRegex:
    """Compile with a cache: patterns that a script computes tend to repeat. Raises RegexError."""
    return PosixRegex(pattern, icase=icase, newline=newline)


_INTERVAL: Final = re.compile(r"\{(\d*)(?:(,)(\d*))?\}")
_BRACKET: Final = re.compile(r"\[(\^?)(\]?(?:\[:\w+:\]|[^\]])*)\]", re.S)
_CLASSES: Final = {
    "alpha": "A-Za-z", "digit": "0-9", "alnum": "A-Za-z0-9", "upper": "A-Z", "lower": "a-z", "space": " \\t\\n\\r\\f\\v", "blank": " \\t",
    "punct": "!-/:-@\\[-`{-~", "xdigit": "0-9A-Fa-f", "cntrl": "\\x00-\\x1f\\x7f", "print": " -~", "graph": "!-~",
}  # fmt: skip
_UNKNOWN_CLASS: Final = re.compile(r"\[:(?!(?:" + "|".join(_CLASSES) + r"):\])")
_GNU: Final = {"w": r"\w", "W": r"\W", "s": r"\s", "S": r"\S", "b": r"\b", "B": r"\B", "<": r"\b(?=\w)", ">": r"\b(?<=\w)", "`": r"\A", "'": r"\Z"}


def translate(pattern: str, *, newline: bool = False) -> str | None:
    """The same question for Python's ``re``, or None where only libc can be trusted with it.

    ``newline`` is REG_NEWLINE: ``.`` and negated classes stop at line ends, ``^`` and ``$`` match there.
    """
    plain = {"^": "(?m:^)", "$": r"(?=\n|\Z)", ".": r"[^\n]"} if newline else {"^": r"\A", "$": r"\Z", ".": "."}
    out: list[str] = []
    groups: list[list[bool]] = []  # per open group: [holds a quantifier or alternative]
    at, unbounded = 0, 0
    last_quantified = last_risky = False
    can_repeat = False
    while at < len(pattern):
        c = pattern[at]
        risky, quantified = False, False
        if c == "\\":
            if at + 1 >= len(pattern) or pattern[at + 1].isdigit():
                return None
            nxt = pattern[at + 1]
            out.append(_GNU.get(nxt) or re.escape(nxt))
            at += 2
            can_repeat = nxt not in "bB<>`'"
        elif c == "[":
            bracket = _BRACKET.match(pattern, at)
            translated = _bracket(bracket, newline) if bracket else None
            if bracket is None or translated is None:
                return None
            out.append(translated)
            at = bracket.end()
            can_repeat = True
        elif c in "*+?{":
            interval = _INTERVAL.match(pattern, at) if c == "{" else None
            if c == "{" and interval is None:
                out.append(r"\{")
                at += 1
                can_repeat = True
            else:
                if not can_repeat or last_quantified:
                    return None
                open_ended = c in "*+" or (interval is not None and interval.group(2) is not None and not interval.group(3))
                if open_ended:
                    unbounded += 1
                if last_risky and (open_ended or interval is not None):
                    return None
                if interval is not None and (not interval.group(1) and not interval.group(2)):
                    return None
                text = interval.group() if interval is not None else c
                out.append(text.replace("{,", "{0,"))
                at += len(text) if interval is None else len(interval.group())
                quantified = True
                for group in groups:
                    group[0] = True
                can_repeat = True
        elif c == "(":
            if pattern.startswith(("(?", "(*"), at):
                return None
            groups.append([False])
            out.append("(?:")
            at += 1
            can_repeat = False
        elif c == ")":
            if not groups:
                return None
            risky = groups.pop()[0]
            out.append(")")
            at += 1
            can_repeat = True
        elif c == "|":
            for group in groups:
                group[0] = True
            out.append("|")
            at += 1
            can_repeat = False
        else:
            out.append(plain.get(c) or re.escape(c))
            at += 1
            can_repeat = c not in "^$"
        last_quantified, last_risky = quantified, risky
    return None if groups or unbounded > _MAX_UNBOUNDED else "".join(out)


def error_offset(pattern: str) -> int | None:
    """Where a pattern that libc refuses is wrong: an open bracket, a bad interval, a lone backslash. None where no place stands out."""
    opened: list[int] = []
    at = 0
    while at < len(pattern):
        c = pattern[at]
        if c == "\\":
            if at + 1 >= len(pattern):
                return at
            at += 1
        elif c == "[":
            bracket = _BRACKET.match(pattern, at)
            if bracket is None or _UNKNOWN_CLASS.search(bracket.group(2)):
                return at
            at = bracket.end() - 1
        elif c == "{":
            interval = _INTERVAL.match(pattern, at)
            if interval is None or (interval.group(1) and interval.group(3) and int(interval.group(1)) > int(interval.group(3))):
                return at
        elif c == "(":
            opened.append(at)
        elif c == ")":
            if not opened:
                return at
            opened.pop()
        at += 1
    return opened[-1] if opened else None


def _bracket(match: re.Match[str], newline: bool) -> str | None:
    negated, body = match.groups()
    out, at = "", 0
    while at < len(body):
        if body.startswith("[:", at):
            end = body.find(":]", at)
            name = body[at + 2 : end]
            if end < 0 or name not in _CLASSES:
                return None
            out += _CLASSES[name]
            at = end + 2
            continue
        if body.startswith(("[.", "[="), at):
            return None
        c = body[at]
        out += "\\" + c if c in "\\[]^&~|" else c
        at += 1
    if newline and negated:
        out += "\\n"
    return f"[{negated}{out}]" if out else None
