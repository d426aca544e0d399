"""``kamc fmt``: one layout for configurations, on the token stream of the text as it is written.

Nothing but white space changes: comments and directives survive, defines are not expanded, parts that are switched off are laid out
too. That is checked for every file before it is written (:func:`layout` compares the tokens). The lines stay as the author broke them;
what changes is the indentation (a tab for each open brace), blanks around words and operators, and blank lines (two at most).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from kamc.errors import ConfigError, KamcBug

_TOKEN: Final = re.compile(
    r"(?P<newline>\r?\n)"
    r"|(?P<blank>[ \t\b\r\f\v]+)"
    r"|(?P<directive>(?:#!|!!)(?:[^\n\\]|\\\r?\n|\\.)*)"
    r"|(?P<comment>\#[^\n]*|//[^\n]*)"
    r"|(?P<block>/\*(?:[^*]|\*(?!/))*(?:\*/|\Z))"
    r'|(?P<string>"(?:[^"\\]|\\.)*"|\'[^\']*\')'
    r"|(?P<pv>\$\((?:[^()\n]|\((?:[^()\n]|\((?:[^()\n]|\([^()\n]*\))*\))*\))*\)|\$[A-Za-z_?][A-Za-z0-9_.]*(?:\((?:[^()\n]|\((?:[^()\n]|\([^()\n]*\))*\))*\))?)"
    r"|(?P<select>@[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]\n]*\])?(?:\.[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]\n]*\])?)*)"
    r"|(?P<word>[A-Za-z0-9_]+)"
    r"|(?P<op>==|=~|!=|&&|\|\||<=|>=|<<|>>|.)",
    re.S,
)
_TRAILING: Final = re.compile(r"[ \t\r]+(?=\n|\Z)")
#: operators with a blank on both sides inside of blocks
_SPACED: Final = frozenset({"==", "=~", "!=", "&&", "||", "<=", ">=", "="})
#: words with a blank before their bracket
_HEADS: Final = frozenset({"if", "while", "switch"})
_OPENING: Final = {")": "(", "]": "["}


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    #: white space stood before it on its line
    spaced: bool = False


@dataclass(slots=True)
class _State:
    """What is open at a point of the text."""

    braces: list[str] = field(default_factory=list)
    brackets: int = 0
    #: statements without braces that wait for their body
    hanging: int = 0

    def copy(self) -> _State:
        return _State(list(self.braces), self.brackets, self.hanging)


def tokens_of(text: str) -> list[Token]:
    """The text cut into tokens; joined again with their white space they give the text. Raises ConfigError for a string without an end."""
    out: list[Token] = []
    spaced = False
    for match in _TOKEN.finditer(text):
        kind, piece = str(match.lastgroup), match.group()
        if kind == "blank":
            spaced = True
            continue
        if kind == "op" and piece in "\"'":
            line = text.count("\n", 0, match.start()) + 1
            raise ConfigError(f"line {line}: string without an end")
        out.append(Token(kind, piece, spaced))
        spaced = False
    return out


def layout(text: str) -> str:
    """The text in its one layout. Raises ConfigError for what cannot be cut into tokens."""
    bom = "\xef\xbb\xbf" if text.startswith("\xef\xbb\xbf") else ""
    tokens = tokens_of(text[len(bom) :])
    out = bom + "\n".join(_Layout().lines(tokens)).rstrip("\n") + "\n"
    if [_significant(t) for t in tokens if t.kind != "newline"] != [_significant(t) for t in tokens_of(out[len(bom) :]) if t.kind != "newline"]:
        raise KamcBug("the layout would have changed the configuration")
    return out


def _significant(token: Token) -> tuple[str, str]:
    """A token for comparing: line ends inside of comments and directives may lose blanks before them."""
    return token.kind, _TRAILING.sub("", token.text).rstrip() if token.kind in ("comment", "block", "directive") else token.text


class _Layout:
    """Goes through the lines, keeping what is open."""

    def __init__(self) -> None:
        self.state = _State()
        self.saved: list[_State] = []
        self.head = ""
        self.condition = -1
        self.last = ""

    def lines(self, tokens: list[Token]) -> list[str]:
        out: list[str] = []
        line: list[Token] = []
        for token in [*tokens, Token("newline", "\n")]:
            if token.kind != "newline":
                line.append(token)
                continue
            if not line:
                if out and (out[-1] or (len(out) > 1 and out[-2])):
                    out.append("")
                continue
            out.append(self.line(line))
            line = []
        return out

    def line(self, line: list[Token]) -> str:
        if line[0].kind == "directive":
            self._directive(line[0].text)
            return "".join(_TRAILING.sub("", t.text) for t in line)
        indent = "\t" * self._depth(line[0])
        out = ""
        before: Token | None = None
        for token in line:
            text = _TRAILING.sub("", token.text) if token.kind in ("comment", "block") else token.text
            out += (" " if before is not None and self._blank(before, token) else "") + text
            self._follow(token)
            before = token
        return indent + out

    def _depth(self, first: Token) -> int:
        depth = len(self.state.braces)
        if first.text == "}":
            return max(0, depth - 1)
        if "switch" in self.state.braces and first.kind != "op":
            # labels stand one step in, what follows them two
            depth += sum(b == "switch" for b in self.state.braces)
            if first.text in ("case", "default") and self.state.braces[-1] == "switch":
                depth -= 1
        elif "switch" in self.state.braces:
            depth += sum(b == "switch" for b in self.state.braces)
        if self.state.brackets:
            depth += 2 if self.state.braces else 1
        if first.text not in ("{", "else") and first.kind not in ("comment", "block"):
            depth += self.state.hanging
        return depth

    def _blank(self, a: Token, b: Token) -> bool:
        """Whether a blank stands between two tokens of a line."""
        if b.kind in ("comment", "block") or a.kind == "block":
            return True
        if b.text in (";", ",") and b.kind == "op":
            return False
        if a.text == "," and a.kind == "op":
            return True
        if (a.text in ("(", "[") and a.kind == "op") or (b.text in (")", "]") and b.kind == "op"):
            return False
        if b.text == "(" and b.kind == "op" and a.kind == "word":
            return a.text in _HEADS or (b.spaced and a.text in ("return", "and", "or", "not", "mod", "eq", "ne"))
        if (b.text == "{" and b.kind == "op") or (a.text in ("{", "}") and a.kind == "op"):
            return not (b.text == ";" and b.kind == "op")
        if b.text == "}" and b.kind == "op":
            return True
        if self.state.braces and ((a.kind == "op" and a.text in _SPACED) or (b.kind == "op" and b.text in _SPACED)):
            return True
        if a.kind == "op" and a.text == ";":
            return True
        return b.spaced

    def _follow(self, token: Token) -> None:
        state = self.state
        if token.kind in ("comment", "block", "directive"):
            return
        text = token.text if token.kind in ("op", "word") else ""
        if text in _HEADS:
            if text == "if" and self.last == "else":
                state.hanging = max(0, state.hanging - 1)
            self.head = text
            self.condition = state.brackets
        elif text == "(" or text == "[":
            state.brackets += 1
        elif text in _OPENING:
            state.brackets = max(0, state.brackets - 1)
            if text == ")" and self.condition == state.brackets and self.head in ("if", "while"):
                state.hanging += 1
                self.condition = -1
        elif text == "else":
            state.hanging += 1
        elif text == "{":
            state.brackets = 0
            state.hanging = max(0, state.hanging - 1) if self.head != "switch" else state.hanging
            state.braces.append("switch" if self.head == "switch" else "block")
            self.head = ""
        elif text == "}":
            if state.braces:
                state.braces.pop()
            state.hanging = 0
            state.brackets = 0
        elif text == ";" and not state.brackets:
            state.hanging = 0
            self.head = ""
        self.last = text

    def _directive(self, text: str) -> None:
        """The branches of a conditional each begin with what was open before it."""
        word = re.match(r"(?:#!|!!)(\w+)", text)
        name = word.group(1) if word else ""
        if name in ("ifdef", "ifndef", "ifexp"):
            self.saved.append(self.state.copy())
        elif name == "else" and self.saved:
            first, self.state = self.state, self.saved[-1]
            self.saved[-1] = first
        elif name == "endif" and self.saved:
            self.saved.pop()
