"""Files of rules, as in hosts.allow: ``FROM, FROM EXCEPT FROM : URI, URI EXCEPT URI``, each a regular expression in quotes or ``ALL``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kamc.declare.regex import PosixRegex, RegexError, compile_regex
from kamc.errors import ConfigError

_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|(ALL|EXCEPT)\b|([,:]))')


@dataclass(slots=True)
class Side:
    """Expressions on one side of the colon; an empty tuple stands for ALL."""

    wanted: tuple[PosixRegex, ...] | None
    spared: tuple[PosixRegex, ...] | None

    def matches(self, text: str) -> bool:
        if self.wanted is not None and not any(r.test(text) for r in self.wanted):
            return False
        return self.spared is None or not any(r.test(text) for r in self.spared)


@dataclass(slots=True)
class Rule:
    left: Side
    right: Side


def parse_rules(text: str, name: str) -> list[Rule]:
    """The rules of a file. Raises ConfigError with file and line."""
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.split("#", 1)[0] if '"' not in line else line
        if not stripped.strip() or stripped.lstrip().startswith("#"):
            continue
        try:
            rules.append(_rule(stripped))
        except (ValueError, RegexError) as err:
            raise ConfigError(f"permissions: {name}:{number}: {err}") from None
    return rules


def _rule(line: str) -> Rule:
    tokens: list[tuple[str, str]] = []
    at = 0
    while line[at:].strip() and not line[at:].lstrip().startswith("#"):
        found = _TOKEN.match(line, at)
        if found is None:
            raise ValueError(f"cannot read {line[at:].strip()!r}: expressions stand in double quotes, or are ALL")
        tokens.append(("expr", found[1]) if found[1] is not None else (found[2] or found[3], ""))
        at = found.end()
    kinds = [kind for kind, _ in tokens]
    if kinds.count(":") != 1:
        raise ValueError("a rule has the form FROM : URI")
    colon = kinds.index(":")
    return Rule(_side(tokens[:colon]), _side(tokens[colon + 1 :]))


def _side(tokens: list[tuple[str, str]]) -> Side:
    kinds = [kind for kind, _ in tokens]
    cut = kinds.index("EXCEPT") if "EXCEPT" in kinds else len(tokens)
    wanted = _expressions(tokens[:cut])
    return Side(wanted, _expressions(tokens[cut + 1 :]) if cut < len(tokens) else None)


def _expressions(tokens: list[tuple[str, str]]) -> tuple[PosixRegex, ...] | None:
    """None for ALL."""
    if [kind for kind, _ in tokens] == ["ALL"]:
        return None
    if not tokens or any(kind != ("expr" if i % 2 == 0 else ",") for i, (kind, _) in enumerate(tokens)) or tokens[-1][0] == ",":
        raise ValueError("a list is ALL, or expressions with commas between them")
    return tuple(compile_regex(text, True) for kind, text in tokens if kind == "expr")


def read_rules(path: Path) -> list[Rule] | None:
    """The rules of a file; None when it is not there, which allows everything. Raises ConfigError."""
    try:
        text = path.read_text("latin-1")
    except FileNotFoundError:
        return None
    except OSError as err:
        raise ConfigError(f"permissions: cannot read {path}: {err.strerror or err}") from None
    return parse_rules(text, str(path))


def found(rules: list[Rule] | None, left: str, right: str) -> bool:
    return rules is not None and any(rule.left.matches(left) and rule.right.matches(right) for rule in rules)
