"""The preprocessor: defines, conditionals, substitutions, environment, includes.

Kamailio interleaves preprocessing with scanning, so that a define may stand in the middle of a statement and a value may hold any
tokens. :class:`Preprocessor` therefore holds the state (what is defined, which substitutions apply, how deep we are) and interprets
directives; the scanner (:mod:`kamc.lexer`) calls it whenever it meets one and splices values in.

Facts: Kamailio core cookbook, "Config Pre-Processor Directives"; observed behaviour where it is silent.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kamc import LANGUAGE
from kamc.diagnostics import DiagnosticSink
from kamc.source import SourceFile, Span, Trail

MAX_INCLUDE_DEPTH: Final = 10
MAX_DEFINES: Final = 512
#: what the configuration sees as the server's version; ``--compat 5.6`` gives the other
VERSIONS: Final[dict[str, tuple[int, int, int]]] = {"head": LANGUAGE, "5.6": (5, 6, 3)}

_WORDS: Final[dict[str, str]] = {
    "define": "define", "def": "define",
    "trydefine": "trydefine", "trydef": "trydefine",
    "redefine": "redefine", "redef": "redefine",
    "undefine": "undefine", "undef": "undefine",
    "tryundefine": "tryundefine", "tryundef": "tryundefine",
    "defexp": "defexp", "defexps": "defexps",
    "defenv": "defenv", "defenvs": "defenvs", "trydefenv": "trydefenv", "trydefenvs": "trydefenvs",
    "ifdef": "ifdef", "ifndef": "ifndef", "ifexp": "ifexp",
    "subst": "subst", "substdef": "substdef", "substdefs": "substdefs",
}  # fmt: skip
#: every spelling of a directive that takes something after it
DIRECTIVE_WORDS: Final = tuple(_WORDS)

DIRECTIVE: Final = re.compile(r"(?:#!|!!)(" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")(?![A-Za-z0-9_])")
#: ``#!else`` and ``#!endif`` count only when alone up to the line end
ELSE_ENDIF: Final = re.compile(r"(?:#!|!!)(else|endif)[ \t\b\r]*\n")
INCLUDE: Final = re.compile(r'(?:#!|!!)?(include_file|import_file)[ \t\b\r]+"((?:[^"\\\n]|\\.)*)"')
SKIPPED: Final = re.compile(r"(?:#!|!!)(?:(ifdef|ifndef|ifexp)[ \t\b\r]|(else|endif)[ \t\b\r]*\n)")
_ID: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Conditional:
    """One open ``#!ifdef``: whether its text is read now, and where it began."""

    active: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Substitution:
    """``#!subst "/re/repl/flags"``: applied to every string, variable and include name after it."""

    pattern: re.Pattern[str]
    replacement: str
    everywhere: bool

    def apply(self, text: str) -> str:
        def fill(match: re.Match[str]) -> str:
            def group(m: re.Match[str]) -> str:
                key = m.group(1)
                if key.isdigit():
                    try:
                        return match.group(int(key)) or ""
                    except IndexError:
                        return ""
                return {"n": "\n", "r": "\r", "t": "\t"}.get(key, key)

            return re.sub(r"\\(.)", group, self.replacement)

        return self.pattern.sub(fill, text, count=0 if self.everywhere else 1)


@dataclass(slots=True)
class Preprocessor:
    """The state of one run over a configuration and its includes."""

    sink: DiagnosticSink
    read: Callable[[str], str]
    env: Mapping[str, str]
    compat: str = "head"
    defines: dict[str, str | None] = field(default_factory=dict)
    define_spans: dict[str, Span | None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    #: paths of includes that could not be read, in order
    absent: dict[str, None] = field(default_factory=dict)
    #: names that #!ifdef, #!ifndef or #!ifexp asked for
    asked: set[str] = field(default_factory=set)
    substitutions: list[Substitution] = field(default_factory=list)
    conditionals: list[Conditional] = field(default_factory=list)
    balance: int = 0
    #: every #!endif that closed nothing
    extra_ends: list[Span] = field(default_factory=list)
    files: list[SourceFile] = field(default_factory=list)

    def __post_init__(self) -> None:
        major, minor, patch = VERSIONS[self.compat]
        for name in (f"KAMAILIO_{major}", f"KAMAILIO_{major}_{minor}", f"KAMAILIO_{major}_{minor}_{patch}"):
            self.define(name, None, None)
        self.define("KAMAILIO_VERSION", str(major * 1000000 + minor * 1000 + patch), None)
        self.define("OS_NAME", '"linux"', None)

    # -- defines ---------------------------------------------------------------------------------------------------------

    def define(self, name: str, value: str | None, span: Span | None) -> None:
        self.defines[name] = value
        self.define_spans[name] = span

    def unused(self) -> tuple[tuple[str, Span], ...]:
        """Defines of the text that were neither expanded nor asked for."""
        return tuple((name, span) for name, span in self.define_spans.items() if span is not None and name not in self.used and not name.startswith("MOD_"))

    @property
    def skipping(self) -> bool:
        return any(not c.active for c in self.conditionals)

    def directive(self, word: str, rest: str, span: Span) -> str | None:
        """Interpret one directive. Returns an error sentence, or None."""
        word = _WORDS[word]
        if word.startswith(("trydefenv", "defenv")):
            return self._defenv(word, rest.strip(), span)
        if word.startswith("subst"):
            return self._subst(word, rest, span)
        if word == "ifexp":
            self.open_conditional(bool(truth(self.evaluate(rest))), span)
            return None
        match = _ID.match(rest)
        if match is None:
            return f"#!{word} needs a name"
        name, after = match.group(), rest[match.end() :]
        if after.startswith("-"):
            return f"a define's name cannot hold '-': {name}-..."
        if word in ("ifdef", "ifndef"):
            self.used.add(name)
            self.asked.add(name)
            self.open_conditional((name in self.defines) == (word == "ifdef"), span)
            return None
        return self._define_word(word, name, after, span)

    def _define_word(self, word: str, name: str, after: str, span: Span) -> str | None:
        if word in ("undefine", "tryundefine"):
            if name not in self.defines:
                return f"{name} is not defined" if word == "undefine" else None
            del self.defines[name]
            return None
        if word in ("defexp", "defexps"):
            result = self.evaluate(after)
            if result is None:
                return "expression without a value"
            text = as_text(result)
            value: str | None = f'"{text}"' if word == "defexps" else text
        else:
            stripped = after.strip(" \t\b\r")
            value = stripped or None
        if name in self.defines and word != "redefine":
            if word == "trydefine":
                return None
            return f"{name} is defined already"
        if len(self.defines) >= MAX_DEFINES and name not in self.defines:
            return f"more than {MAX_DEFINES} defines"
        self.define(name, value, span)
        return None

    def _defenv(self, word: str, rest: str, span: Span) -> str | None:
        name, _, variable = rest.partition("=")
        variable = variable or name
        if not _ID.fullmatch(name):
            return f"#!{word} needs NAME or NAME=VARIABLE"
        text = self.env.get(variable)
        if text is None:
            return None if word.startswith("try") else f"environment variable {variable} is not set"
        if name in self.defines and not word.startswith("try"):
            return f"{name} is defined already"
        self.define(name, f'"{text}"' if word.endswith("s") else text, span)
        return None

    def _subst(self, word: str, rest: str, span: Span) -> str | None:
        match = re.match(r'[ \t\b\r]*"((?:[^"\\]|\\.)*)"', rest) or re.match(r"[ \t\b\r]*'([^']*)'", rest)
        if match is None:
            return f"#!{word} needs a string"
        parts = split_subst(match.group(1))
        if parts is None:
            return 'a substitution has the form "/regex/replacement/flags"'
        regex, replacement, flags = parts
        if flags.strip("gis"):
            return f"unknown flags {flags!r} in the substitution"
        try:
            pattern = re.compile(regex, (re.I if "i" in flags else 0) | (re.S if "s" in flags else 0))
        except re.error as err:
            return f"bad regular expression: {err}"
        if word != "subst":
            if not _ID.fullmatch(regex):
                return f"#!{word} needs an identifier between the first separators"
            if regex in self.defines:
                return f"{regex} is defined already"
            self.define(regex, f'"{replacement}"' if word == "substdefs" else replacement, span)
        self.substitutions.append(Substitution(pattern, replacement, "g" in flags))
        return None

    def substitute(self, text: str) -> str:
        for rule in self.substitutions:
            text = rule.apply(text)
        return text

    # -- conditionals ----------------------------------------------------------------------------------------------------

    def open_conditional(self, active: bool, span: Span) -> None:
        self.balance += 1
        self.conditionals.append(Conditional(active, span))

    def flip(self, span: Span) -> None:
        """``#!else``; an extra one only warns."""
        if not self.conditionals:
            note = f"Kamailio names {span.file.name}:{span.line + 1}"
            self.sink.warning("K0205", span, "#!else without #!ifdef", notes=(note,))
            return
        self.conditionals[-1].active = not self.conditionals[-1].active

    def close_conditional(self, span: Span) -> None:
        self.balance -= 1
        if self.conditionals:
            self.conditionals.pop()
        else:
            self.extra_ends.append(span)

    def check_balance(self, at: Span) -> None:
        if self.balance > 0:
            opened = self.conditionals[-1].span if self.conditionals else at
            self.sink.error("K0205", opened, f"{self.balance} conditional(s) without #!endif", label="opened here",
                            hint="#!endif must stand alone on its line, and the line must have an end")
        elif self.balance < 0:
            for span in self.extra_ends[: -self.balance]:
                self.sink.error("K0205", span, "#!endif without #!ifdef", label="nothing is open here",
                                notes=(f"Kamailio names {span.file.name}:{span.line + 1}",))  # fmt: skip

    # -- includes --------------------------------------------------------------------------------------------------------

    def find_include(self, name: str, including: SourceFile) -> tuple[str, str] | None:
        """Path and text of an include: as given, then beside the including file."""
        name = re.sub(r"\\(.)", lambda m: {"t": "\t", "n": "\n", "r": "\r"}.get(m.group(1), m.group(1)), name)
        name = self.substitute(name)
        folder = os.path.dirname(including.name)
        for path in dict.fromkeys((name, os.path.join(folder, name))):
            try:
                return path, self.read(path)
            except OSError:
                self.absent[path] = None
        return None

    # -- expressions -----------------------------------------------------------------------------------------------------

    def evaluate(self, text: str) -> Value:
        before = set(self.used)
        value = Expression(text, self.defines, self.used).value()
        self.asked |= self.used - before
        return value


def split_subst(text: str) -> tuple[str, str, str] | None:
    """``/a/b/g`` → its three parts; the first character is the separator, a backslash protects it."""
    if not text:
        return None
    parts: list[str] = []
    sep, current, i = text[0], "", 1
    while i < len(text) and len(parts) < 2:
        c = text[i]
        if c == "\\" and i + 1 < len(text):
            current += text[i + 1] if text[i + 1] == sep else text[i : i + 2]
            i += 2
            continue
        if c == sep:
            parts.append(current)
            current = ""
        else:
            current += c
        i += 1
    if len(parts) != 2:
        return None
    return parts[0], parts[1], text[i:]


# -- the small expression language of #!ifexp and #!defexp --------------------------------------------------------------------

Value = float | str | None
_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?)|\"([^\"]*)\"|'([^']*)'|(\*\*|<<|>>|<=|>=|==|!=|&&|\|\||[-*/%+<>&|^!()])|([A-Z@\[\\\]_`a-z{}~$][A-Z@\[\\\]_`a-z{}~$0-9]*))"
)
_LEVELS: Final = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"), ("+", "-"), ("*", "/", "%"), ("**",))


def _single(x: float) -> float:
    """Kamailio's engine counts in single precision."""
    try:
        return float(struct.unpack("f", struct.pack("f", x))[0])
    except OverflowError:
        return 0.0


def number(value: Value) -> float | None:
    if isinstance(value, str):
        try:
            return _single(float(value))
        except ValueError:
            return None
    return value


def truth(value: Value) -> bool:
    if isinstance(value, str):
        return value != ""
    return bool(value)


def as_text(value: Value) -> str:
    if isinstance(value, float):
        whole = int(value)
        return str(whole if whole >= 0 else whole + (1 << 64))
    return value or ""


class Expression:
    """Recursive descent over :data:`_LEVELS`; the left side decides the type."""

    def __init__(self, text: str, defines: Mapping[str, str | None], used: set[str]) -> None:
        self.tokens = list(_TOKEN.finditer(text))
        self.at = 0
        self.defines = defines
        self.used = used

    def value(self) -> Value:
        return self._level(0)

    def _op(self) -> str | None:
        return self.tokens[self.at].group(4) if self.at < len(self.tokens) else None

    def _level(self, level: int) -> Value:
        if level == len(_LEVELS):
            return self._unary()
        left = self._level(level + 1)
        while (op := self._op()) in _LEVELS[level]:
            self.at += 1
            left = self._binary(op or "", left, self._level(level + 1))
        return left

    def _unary(self) -> Value:
        op = self._op()
        if op in ("!", "-", "^"):
            self.at += 1
            operand = self._unary()
            if op == "!":
                return 0.0 if truth(operand) else 1.0
            as_number = number(operand)
            if as_number is None:
                return None
            return -as_number if op == "-" else float(~int(as_number))
        if op == "(":
            self.at += 1
            inner = self._level(0)
            if self._op() == ")":
                self.at += 1
            return inner
        if self.at >= len(self.tokens):
            return None
        token = self.tokens[self.at]
        self.at += 1
        if token.group(1) is not None:
            return _single(float(token.group(1)))
        for index in (2, 3):
            if token.group(index) is not None:
                return token.group(index)
        name = token.group(5)
        if name is None:
            return None
        self.used.add(name)
        if name not in self.defines:
            return 0.0
        text = self.defines[name]
        if text is None:
            return 1.0
        return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text

    def _binary(self, op: str, left: Value, right: Value) -> Value:
        if op in ("&&", "||"):
            return float(truth(left) and truth(right)) if op == "&&" else float(truth(left) or truth(right))
        if isinstance(left, str):
            return self._text_binary(op, left, right)
        a, b = left, number(right)
        if a is None or b is None:
            return None
        if op in ("/", "%") and b == 0:
            return None
        compute: dict[str, Callable[[float, float], float]] = {
            "+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y, "/": lambda x, y: x / y,
            "%": lambda x, y: float(int(x) % int(y)) if int(y) else 0.0, "**": lambda x, y: x**y,
            "<<": lambda x, y: float(int(x) << int(y)), ">>": lambda x, y: float(int(x) >> int(y)),
            "<": lambda x, y: float(x < y), "<=": lambda x, y: float(x <= y), ">": lambda x, y: float(x > y), ">=": lambda x, y: float(x >= y),
            "==": lambda x, y: float(x == y), "!=": lambda x, y: float(x != y),
            "&": lambda x, y: float(int(x) & int(y)), "|": lambda x, y: float(int(x) | int(y)), "^": lambda x, y: float(int(x) ^ int(y)),
        }  # fmt: skip
        try:
            return _single(float(compute[op](a, b)))
        except (OverflowError, ValueError, ZeroDivisionError):
            return None

    @staticmethod
    def _text_binary(op: str, left: str, right: Value) -> Value:
        other = right if isinstance(right, str) else as_text(right)
        if op == "+":
            return left + other
        compare = {"==": left == other, "!=": left != other, "<": left < other, "<=": left <= other, ">": left > other, ">=": left >= other}
        return float(compare[op]) if op in compare else None


def trail_step(kind: str, name: str, at: Span) -> Trail:
    return Trail(kind, name, at)
