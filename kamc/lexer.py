"""The scanner (PLY): characters of the configuration and its includes → tokens, with preprocessing done on the way.

Strategy. Kamailio's scanner pushes the value of a define back into its input, so a value may hold half a statement, and a comment in
a value swallows the rest of the line where it is used. We do the same: expanding a define *splices* its value in front of the unread
text. Offsets are then counted from the end of the text, where nothing ever moves; that is how every token still knows its place in
the file. An include pushes a new frame.

``CfgLexer`` follows PLY's protocol (``token()``); ``lexpos`` of a token is an index into ``spans``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Final

from ply import lex

from kamc.diagnostics import DiagnosticSink
from kamc.errors import KamcBug
from kamc.frame import Frame
from kamc.preprocess import DIRECTIVE, MAX_INCLUDE_DEPTH, SKIPPED, Preprocessor
from kamc.source import SourceFile, Span, Trail
from kamc.tokens import NUMBER_WORDS, OPERATORS, TOKENS, closing_bracket, closing_quote, keywords, line_end, to_number, unescape

_H: Final = "[0-9A-Fa-f]{1,4}"
_IP6: Final = rf"(?:{_H}(?::{_H}){{7}}|(?:{_H}(?::{_H})*)?::(?:{_H}(?::{_H})*)?(?::?\d+\.\d+\.\d+\.\d+)?)(?![0-9A-Za-z_:])"
_EVENT: Final = re.compile(r"[a-zA-Z][0-9a-zA-Z-]*(?::[a-zA-Z][0-9a-zA-Z_-]*)+")
_BEFORE_BRACKET: Final = re.compile(r"[ \t]*([A-Za-z0-9_\"' \t]*?)[ \t]*(?=\[)")
_EVENT_HEAD: Final = re.compile(r"[^\[\]\n]*")


#: characters that the values of defines may add to a configuration, and how much more for each character of it; what an expansion costs
#: beside its value counts as well
MAX_EXPANSION: Final = 1 << 20
EXPANSION_RATIO: Final = 8
EXPANSION_COST: Final = 16


class CfgRules:
    """The rules, in the order in which PLY tries them."""

    tokens: ClassVar[tuple[str, ...]] = TOKENS
    t_ignore = " \t\b\r"

    def __init__(self, owner: CfgLexer) -> None:
        self.owner = owner

    def t_mode(self, t: Any) -> Any:
        r"(?:\#!|//!)(?:KAMAILIO|OPENSER|SER|MAXCOMPAT|ALL)(?=\n)"
        self.owner.mode = {"KAMAILIO": "KAMAILIO", "OPENSER": "KAMAILIO", "SER": "SER"}.get(t.value[t.value.index("!") + 1 :], "MAXCOMPAT")

    def t_else_endif(self, t: Any) -> Any:
        span = self.owner.here(t, len(t.value.rstrip()))
        if "else" in t.value:
            self.owner.pp.flip(span)
        else:
            self.owner.pp.close_conditional(span)
        return self.owner.restart(t, self.owner.skip_inactive)

    t_else_endif.__doc__ = r"(?:\#!|!!)(?:else|endif)[ \t\b\r]*\n"

    def t_include(self, t: Any) -> Any:
        r'(?:\#!|!!)?(?:include_file|import_file)[ \t\b\r]+"(?:[^"\\\n]|\\.)*"'
        return self.owner.restart(t, lambda: self.owner.include(t))

    def t_directive(self, t: Any) -> Any:
        r"(?:\#!|!!)(?:trydefenvs|trydefenv|tryundefine|tryundef|trydefine|trydef|substdefs|substdef|subst|redefine|redef|undefine|undef|ifndef|ifexp|ifdef|define|defexps|defexp|defenvs|defenv|def)(?![A-Za-z0-9_])"
        return self.owner.directive(t)

    def t_comment(self, t: Any) -> Any:
        r"\#[^\n]*|//[^\n]*"

    def t_block_comment(self, t: Any) -> Any:
        r"/\*"
        return self.owner.block_comment(t)

    def t_newline(self, t: Any) -> Any:
        r"\\?\n+"

    def t_cast(self, t: Any) -> Any:
        r"\(int\)|\(str\)"
        t.type = "INTCAST" if t.value == "(int)" else "STRCAST"
        return t

    def t_IPV4(self, t: Any) -> Any:
        r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(?![0-9A-Za-z_])"
        return t

    def t_IPV6(self, t: Any) -> Any:
        return t

    t_IPV6.__doc__ = _IP6

    def t_NUMBER(self, t: Any) -> Any:
        r"(?:0[xX][0-9A-Fa-f]+|[01]+b|0[0-7]+|[1-9][0-9]*|0)(?![0-9A-Za-z_])"
        t.value = (to_number(t.value), t.value)
        return t

    def t_NUMID(self, t: Any) -> Any:
        r"[0-9]+[0-9A-Za-z_]*"
        return t

    def t_word(self, t: Any) -> Any:
        r"msg:len|uri:host|uri:port|[A-Za-z_][A-Za-z0-9_]*"
        return self.owner.word(t)

    def t_STRING(self, t: Any) -> Any:
        r"\"|'"
        return self.owner.string(t)

    def t_PVAR(self, t: Any) -> Any:
        r"\$"
        return self.owner.variable(t)

    def t_AVP(self, t: Any) -> Any:
        r"%[A-Za-z_][A-Za-z0-9_.]*(?:\[[^\]\n]*\])?"
        return t

    def t_SELECT(self, t: Any) -> Any:
        r"@[A-Za-z_][A-Za-z0-9_]*(?:\[(?:-?[0-9]+|\"[^\"\n]*\"|%?[A-Za-z_][A-Za-z0-9_]*)\])?(?:\.[A-Za-z_][A-Za-z0-9_]*(?:\[(?:-?[0-9]+|\"[^\"\n]*\"|%?[A-Za-z_][A-Za-z0-9_]*)\])?)*"
        return t

    def t_operator(self, t: Any) -> Any:
        t.type = OPERATORS[t.value]
        return self.owner.after_bracket(t) if t.type == "LBRACK" else t

    t_operator.__doc__ = "|".join(re.escape(op) for op in sorted(OPERATORS, key=len, reverse=True))

    def t_error(self, t: Any) -> None:
        """A character that no rule knows: Kamailio echoes and drops it."""
        span = self.owner.here(t, 1)
        self.owner.sink.warning("K0101", span, f"stray character {t.value[0]!r} ignored")
        t.lexer.skip(1)


@lru_cache(maxsize=1)
def _master() -> Any:
    """The compiled rules, once per process; every file clones them."""
    return lex.lex(object=CfgRules(_NO_OWNER), reflags=0, debug=False, errorlog=lex.NullLogger())


_NO_OWNER: Any = None
_COMMAND_LINE = "<command line>"


class CfgLexer:
    """Tokens of a configuration and everything that it includes. ``token()`` is PLY's protocol."""

    tokens: ClassVar[tuple[str, ...]] = TOKENS

    def __init__(self, entry: SourceFile, pp: Preprocessor, sink: DiagnosticSink, prologue: str = "") -> None:
        self.pp = pp
        self.sink = sink
        self.mode = "MAXCOMPAT"
        self.spans: list[Span] = []
        self.frames: list[Frame] = []
        self.entry = entry
        self.failed = False
        self._keywords = keywords()
        self._expanded = 0
        self._pending: Callable[[], None] | None = None
        self._event_bracket = False
        self._last = ""
        #: a substitution that failed: Kamailio notices at the token after it
        self._bad_subst: int | None = None
        self._push(entry, ())
        if prologue:
            self._push(SourceFile(_COMMAND_LINE, prologue), ())
            # no file that anybody could look for
            self.pp.files.pop()

    # -- PLY's side ------------------------------------------------------------------------------------------------------

    def token(self) -> Any:
        while self.frames:
            frame = self.frames[-1]
            tok = frame.lexer.token()
            if tok is None:
                if not frame.more(fresh=True):
                    self.frames.pop()
                continue
            if tok.type == "RESTART":
                pending, self._pending = self._pending, None
                if pending is None:
                    raise KamcBug("scanner restarted for nothing")
                pending()
                continue
            if self._bad_subst is not None and tok.type != "SUBST":
                self.sink.annotate(self._bad_subst, f"Kamailio names what comes next, {frame.span(tok.lexpos, frame.lexer.lexpos).where()}")
                self._bad_subst = None
            self._last = tok.type
            tok.lexpos = self._note(frame.span(tok.lexpos, frame.lexer.lexpos))
            return tok
        return None

    def _note(self, span: Span) -> int:
        self.spans.append(span)
        return len(self.spans) - 1

    def end_span(self) -> Span:
        size = len(self.entry.text)
        return Span(self.entry, max(0, size - 1), size)

    def stop(self) -> None:
        """Read nothing more: after a mistake that Kamailio does not survive."""
        self.frames.clear()

    def _push(self, file: SourceFile, trail: tuple[Trail, ...]) -> None:
        lexer = _master().clone(CfgRules(self))
        lexer.begin("INITIAL")  # PLY's clone() leaves the old rules in place until a state begins
        frame = Frame(file, lexer, trail)
        lexer.input("")
        frame.more(fresh=True)
        lexer.lexpos = 3 if file.text.startswith("\xef\xbb\xbf") else 0
        self.pp.files.append(file)
        self.frames.append(frame)

    # -- called by the rules ---------------------------------------------------------------------------------------------

    def here(self, t: Any, length: int | None = None) -> Span:
        return self.frames[-1].span(t.lexpos, t.lexpos + (len(t.value) if length is None else length))

    def restart(self, t: Any, action: Callable[[], None]) -> Any:
        self._pending = action
        t.type = "RESTART"
        return t

    def word(self, t: Any) -> Any:
        text = t.value
        kind = self._keywords.get(text)
        if kind is not None:
            t.type = kind
            if kind == "NUMBER":
                t.value = (NUMBER_WORDS[text], text)
            elif kind == "EVENT_ROUTE":
                self._event_bracket = True
                before = _BEFORE_BRACKET.match(t.lexer.lexdata, t.lexer.lexpos)
                if before is not None and before.group().strip():
                    self.sink.warning("K0101", self.frames[-1].span(*before.span(1)), "Kamailio overlooks what stands before the bracket")
                    t.lexer.lexpos = before.end()
            return t
        if text in self.pp.defines:
            return self.restart(t, lambda: self._expand(text, self.here(t)))
        t.type = "ID" if ":" not in text else self._keywords[text]
        return t

    def _expand(self, name: str, place: Span) -> None:
        self.pp.used.add(name)
        frame = self.frames[-1]
        value = self.pp.defines[name] or ""
        if len(frame.expansions) > 200:
            self.sink.error("K0204", place, f"define {name} expands to itself")
            self.failed = True
            self.stop()
            return
        lexer = frame.lexer
        self._expanded += len(value) + EXPANSION_COST
        if self._expanded > MAX_EXPANSION + EXPANSION_RATIO * len(self.entry.text):
            self.sink.error("K0204", place, "the defines expand to more than a configuration can hold")
            self.failed = True
            self.stop()
            return
        rest = lexer.lexdata[lexer.lexpos :]
        if value:
            frame.expansions.append((frame.unread(lexer.lexpos), name, place if not frame.expansions else frame.expansions[0][2]))
        lexer.input(value + rest)
        lexer.lexpos = 0

    def string(self, t: Any) -> Any:
        lexer = t.lexer
        data: str = lexer.lexdata
        start = lexer.lexpos
        if t.value == "'":
            while (end := data.find("'", start)) < 0:
                if not self.frames[-1].more():
                    return self._unclosed(t)
                data = lexer.lexdata
            raw = data[start:end]
        else:
            pieces = []
            while True:
                while (end := closing_quote(data, start)) < 0:
                    if not self.frames[-1].more():
                        return self._unclosed(t)
                    data = lexer.lexdata
                pieces.append(unescape(data[start:end]))
                # neighbours are joined, also across lines
                follow = _NEXT_QUOTE.match(data, end + 1)
                while follow is None and _BLANK_TAIL.match(data, end + 1) and self.frames[-1].more():
                    data = lexer.lexdata
                    follow = _NEXT_QUOTE.match(data, end + 1)
                if follow is None:
                    break
                start = follow.end()
            raw = "".join(pieces)
        lexer.lexpos = end + 1
        t.type = "STRING"
        t.value = (self.pp.substitute(raw), t.value)
        return t

    def _unclosed(self, t: Any) -> None:
        self.sink.error("K0102", self.here(t, 1), "string without an end", label="opened here")
        self.failed = True
        t.lexer.lexpos = len(t.lexer.lexdata)

    def variable(self, t: Any) -> Any:
        lexer = t.lexer
        data: str = lexer.lexdata
        at = lexer.lexpos
        text: str | None = None
        kind = "PVAR"
        result = _RESULT.match(data, at)
        if result is not None:
            # the scanner sees these before anything longer: $rcv(x) has to be written $(rcv(x))
            text = "$" + result.group()
        elif data.startswith("(", at) and self.mode != "SER":
            end = closing_bracket(data, at)
            if end > 0:
                text = data[at - 1 : end]
        else:
            match = _NAME.match(data, at)
            if match is not None:
                name, stop = match.group(), match.end()
                if self.mode != "KAMAILIO" and name not in ("rc", "retcode"):
                    attr = _ATTRIBUTE.match(data, at)
                    if attr is not None or self.mode == "SER":
                        kind, stop = "AVP", attr.end() if attr else stop
                if kind == "PVAR" and data.startswith("(", stop):
                    stop = closing_bracket(data, stop)
                if stop > 0:
                    text = data[at - 1 : stop]
        if text is None:
            self.sink.error("K0504", self.here(t, 1), "a variable without an end", hint="brackets have to balance on one line")
            self.failed = True
            return None
        lexer.lexpos = at - 1 + len(text)
        t.type = kind
        t.value = self.pp.substitute(text)
        return t

    def after_bracket(self, t: Any) -> Any:
        """In ``event_route[...]`` the name has its own alphabet; characters that do not fit are dropped."""
        if not self._event_bracket:
            return t
        self._event_bracket = False
        lexer = t.lexer
        head = _EVENT_HEAD.match(lexer.lexdata, lexer.lexpos)
        inside = head.group() if head else ""
        found = _EVENT.search(inside)
        t.value = ("[", found.group() if found else "")
        lexer.lexpos += len(inside)
        return t

    # -- directives ------------------------------------------------------------------------------------------------------

    def directive(self, t: Any) -> Any:
        match = DIRECTIVE.match(t.value)
        if match is None:
            raise KamcBug(t.value)
        word = match.group(1)
        lexer = t.lexer
        data: str = lexer.lexdata
        begin = lexer.lexpos
        while data.endswith(("\\\n", "\\\r\n")) and line_end(data, begin) == len(data) and self.frames[-1].more():
            data = lexer.lexdata
        end = line_end(data, begin)
        if self.pp.compat == "5.6" and word in ("undefine", "undef", "tryundefine", "tryundef", "defexp", "defexps", "ifexp"):
            lexer.lexpos = data.find("\n", begin) if "\n" in data[begin:] else len(data)
            return None
        rest = re.sub(r"\\\r?\n", "", data[begin:end]).rstrip("\r")
        lexer.lexpos = end
        span = self.frames[-1].span(t.lexpos, end)
        span = Span(span.file, span.start, min(span.end, span.start + len(t.value) + len(rest)), span.trail)
        problem = self.pp.directive(word, rest.lstrip(" \t\b\r"), span)
        if problem is not None:
            self._directive_error(problem, span)
            if word.startswith("subst"):
                self._bad_subst = len(self.sink.items) - 1
        if word.startswith("subst"):
            t.type = "SUBST"
            return t
        return self.restart(t, self.skip_inactive)

    def _directive_error(self, problem: str, span: Span) -> None:
        code = "K0203" if "already" in problem else "K0206" if "environment" in problem else "K0204"
        self.sink.error(code, span, problem)
        self.failed = True

    def skip_inactive(self) -> None:
        """Jump over the text of an inactive conditional; nothing in it is scanned."""
        frame = self.frames[-1]
        lexer = frame.lexer
        while self.pp.skipping:
            match = SKIPPED.search(lexer.lexdata, lexer.lexpos)
            if match is None:
                lexer.lexpos = len(lexer.lexdata)
                if not frame.more(fresh=True):
                    return
                continue
            lexer.lexpos = match.end()
            span = frame.span(match.start(), match.end())
            if match.group(1):
                self.pp.balance += 1
                self.pp.conditionals.append(_closed(span))
            elif match.group(2) == "else":
                if self._own_else():
                    self.pp.flip(span)
            else:
                self.pp.close_conditional(span)

    def _own_else(self) -> bool:
        """Whether an ``#!else`` seen while skipping belongs to a conditional that may become active."""
        return all(c.active for c in self.pp.conditionals[:-1])

    def include(self, t: Any) -> None:
        frame = self.frames[-1]
        span = frame.span(t.lexpos, t.lexpos + len(t.value))
        kind = "include_file" if "include_file" in t.value else "import_file"
        name = t.value[t.value.index('"') + 1 : -1]
        if len(self.frames) > MAX_INCLUDE_DEPTH:
            self.sink.error("K0202", span, f"includes nested more than {MAX_INCLUDE_DEPTH} deep")
            self.failed = True
            self.stop()
            return
        found = self.pp.find_include(name, frame.file)
        if found is None:
            if kind == "include_file":
                self.sink.error("K0201", span, f"cannot read included file {name!r}", hint="import_file ignores a missing file")
                self.failed = True
                self.stop()
            return
        path, text = found
        self._push(SourceFile(path, text), (*frame.trail, Trail("include", path, span)))

    def block_comment(self, t: Any) -> Any:
        lexer = t.lexer
        depth, at = 1, lexer.lexpos
        while depth:
            match = _COMMENT_EDGE.search(lexer.lexdata, at)
            if match is None and self.frames[-1].more():
                continue
            if match is None:
                self.sink.warning("K0101", self.here(t), "comment without an end", label="opened here")
                at = len(lexer.lexdata)
                break
            depth += 1 if match.group() == "/*" else -1
            at = match.end()
        lexer.lexpos = at
        return self.restart(t, lambda: None)


_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_BLANK_TAIL: Final = re.compile(r"[ \t\b\r\n]*\Z")
_NEXT_QUOTE: Final = re.compile(r'[ \t\b\r\n]*"')
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESULT: Final = re.compile(r"\?|retcode|rc")
#: attributes of the old style outside of KAMAILIO mode: $f.x, $fu.x, $t.x, $g.x and kin
_ATTRIBUTE: Final = re.compile(r"(?:f|t|fr|tr|fu|tu|fd|td|g|uri|from|to|track|global)\.[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]\n]*\])?")


def _closed(span: Span) -> Any:
    from kamc.preprocess import Conditional

    return Conditional(False, span)
