"""The parser (PLY): tokens → nodes. Rules live in :mod:`kamc.grammar`; here they are assembled, run and recovered.

Rule functions build nodes and look nothing up. Recovery: inside a block a mistake is skipped up to the next semicolon or the closing
bracket (``error`` productions); at the top level reading goes on at the next word that starts a statement. So one run reports every
mistake, each once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ply import yacc
from ply.lex import LexToken

from kamc import __version__
from kamc import nodes as n
from kamc.diagnostics import DiagnosticSink
from kamc.errors import KamcBug
from kamc.grammar.expressions import PRECEDENCE, ExpressionRules
from kamc.grammar.statements import StatementRules
from kamc.grammar.toplevel import TopLevelRules
from kamc.lexer import CfgLexer
from kamc.preprocess import Preprocessor
from kamc.source import SourceFile, Span, load_text
from kamc.tokens import TOKENS, describe_token

#: one run stops after so many syntax errors
MAX_SYNTAX_ERRORS: Final = 20
#: words at which reading goes on after a mistake at the top level
_SYNC: Final = frozenset(
    {"ROUTE", "REQUEST_ROUTE", "REPLY_ROUTE", "ONREPLY_ROUTE", "OTHER_ROUTE", "EVENT_ROUTE", "LOADMODULE", "LOADPATH", "MODPARAM", "PARAM",
     "LISTEN", "ALIAS", "FLAGS", "AVPFLAGS", "SOCKET", "CFGENGINE", "COREPARAM"}
)  # fmt: skip
#: words that never stand inside a block: seeing one there means that a brace is missing
_NEVER_INSIDE: Final = _SYNC - {"ROUTE", "PARAM", "ALIAS", "SOCKET"}

#: tokens that begin a statement, or end the block that the statement stands in: a semicolon is missing before them
_STATEMENT_STARTS: Final = frozenset(
    {"ID", "PVAR", "AVP", "IF", "WHILE", "SWITCH", "CONTROL", "BREAK", "ROUTE", "RBRACE", "CASE", "DEFAULT", "STR_FN", "INT_FN", "EMPTY_FN", "BARE_FN",
     "RPORT", "TCP_ALIAS", "LOG", "ERROR", "FLAG_FN", "AVPFLAG_FN", "FORWARD", "REMOVE_BRANCH", "FORCE_SEND_SOCKET", "SET_ADV_ADDRESS", "SET_ADV_PORT",
     "CFG_SELECT", "CFG_RESET"}
)  # fmt: skip
#: tokens that are made up for one mistake before it is skipped
MAX_REPAIRS: Final = 4


class _Resync(Exception):  # noqa: N818 - control flow of the recovery
    """Raised by ``p_error`` at the top level: skip to the next statement and parse on."""


class TokenStream:
    """The lexer as PLY wants it, with one token of push-back for the recovery."""

    def __init__(self, lexer: CfgLexer) -> None:
        self.lexer = lexer
        #: tokens to read again, the next one last
        self.held: list[Any] = []
        self.before: Any = None
        self.previous: Any = None
        self.current: Any = None
        #: PLY asks the lexer for these when a production is empty
        self.lineno = 1
        self.lexpos = 0

    def token(self) -> Any:
        if self.held:
            tok = self.held.pop()
        else:
            tok = self.lexer.token()
        self.before, self.previous, self.current = self.previous, self.current, tok
        if tok is not None:
            self.lexpos = tok.lexpos
        return tok

    def sync(self, tok: Any, *, inside: bool) -> bool:
        """Skip to a token that starts a top-level statement; False at the end of the input."""
        depth = 0
        first = True
        while tok is not None:
            if tok.type == "LBRACE":
                depth += 1
            elif tok.type == "RBRACE":
                depth = max(0, depth - 1)
            elif tok.type in _SYNC and depth == 0 and not (first and not inside):
                self.held.append(tok)
                return True
            first = False
            tok = self.held.pop() if self.held else self.lexer.token()
        return False


class CfgGrammar(ExpressionRules, StatementRules, TopLevelRules):
    """All rules plus the state of one parse."""

    tokens = TOKENS
    precedence = PRECEDENCE
    start = "cfg"

    def __init__(self) -> None:
        self.sink = DiagnosticSink()
        self.items = []
        self.declared_flags = set()
        self.failed = False
        self.stream: TokenStream | None = None
        self.parser: Any = None
        self.syntax_errors = 0
        self.statements = 0
        self.repaired_at = -1
        self.repairs = 0

    @property
    def spans(self) -> list[Span]:  # type: ignore[override]
        return self.stream.lexer.spans if self.stream is not None else []

    def compat_mode(self) -> bool:
        return self.stream is not None and self.stream.lexer.mode != "KAMAILIO"

    def saw_statement(self) -> None:
        self.statements += 1

    def recovered(self) -> None:
        self.parser.errok()

    def module_loaded(self, node: n.LoadModule) -> None:
        """``MOD_name`` is defined from here on."""
        if self.stream is not None:
            name = os.path.basename(node.name).removesuffix(".so")
            self.stream.lexer.pp.define(f"MOD_{name}", None, node.span)

    def p_error(self, tok: Any) -> Any:
        """Report, then repair: put in what is missing, else skip (``error`` productions inside blocks, next statement at the top)."""
        stream = self.stream
        if stream is None:
            raise KamcBug("a grammar without a stream")
        self.failed = True
        while tok is not None and isinstance(tok.value, LexToken):
            tok = tok.value  # PLY asks again with its error token, which holds the one that was meant
        inside = any(getattr(s, "type", "") == "LBRACE" for s in self.parser.symstack)
        if inside and tok is not None and tok.type == "LBRACK" and stream.previous is not None and stream.previous.type == "ROUTE":
            # route[NAME] begins a block: what is wrong is before it
            stream.held.append(tok)
            tok, stream.current, stream.previous = stream.previous, stream.previous, stream.before
            self.syntax_errors += 1
            self._report(tok, stream, [], inside=True, top=True)
            if not stream.sync(tok, inside=True):
                stream.lexer.stop()
            raise _Resync
        expected = expected_tokens(self.parser)
        repeated = tok is not None and tok.lexpos == self.repaired_at
        if not repeated:
            self.syntax_errors += 1
            self.repairs = 0
            self._report(tok, stream, expected, inside=inside)
        if tok is None or self.syntax_errors >= MAX_SYNTAX_ERRORS:
            raise _Resync
        if not inside or tok.type in _NEVER_INSIDE:
            if not stream.sync(tok, inside=inside):
                stream.lexer.stop()
            raise _Resync
        self.repaired_at = tok.lexpos
        missing = self._missing(tok, expected)
        if missing is None or self.repairs >= MAX_REPAIRS:
            return None
        self.repairs += 1
        stream.held.append(tok)
        self.parser.errok()
        return missing

    @staticmethod
    def _missing(tok: Any, expected: list[str]) -> Any:
        """The token that would let the parser go on, made up; None when nothing obvious is missing."""
        kind = None
        if tok.type in ("SEMICOLON", "RPAREN", "LBRACE", "RBRACE") and "NUMBER" in expected:
            kind = "NUMBER"
        elif tok.type in ("SEMICOLON", "LBRACE", "RBRACE") and "RPAREN" in expected:
            kind = "RPAREN"
        elif "SEMICOLON" in expected and tok.type in _STATEMENT_STARTS:
            kind = "SEMICOLON"
        if kind is None:
            return None
        made = LexToken()
        made.type, made.value = kind, (0, "0") if kind == "NUMBER" else {"RPAREN": ")", "SEMICOLON": ";"}[kind]
        made.lexpos, made.lineno = tok.lexpos, tok.lineno
        return made

    def _report(self, tok: Any, stream: TokenStream, expected: list[str], *, inside: bool, top: bool = False) -> None:
        if stream.lexer.failed and tok is None:
            return  # the scanner said it already
        previous = self.spans[stream.previous.lexpos] if stream.previous is not None else None
        opened = next((s for s in reversed(self.parser.symstack) if getattr(s, "type", "") == "LBRACE"), None)
        still_open = (f"the block that is still open begins at {self.spans[opened.lexpos].where()}",) if opened is not None else ()
        if tok is None and stream.lexer.pp.skipping:
            return  # the text is not over, it is switched off: check_balance() says so
        if tok is None:
            span = stream.lexer.end_span()
            end = f"the end is {span.where()}"
            if self.items or self.statements or previous is not None:
                self.sink.error("K0101", previous or span, "syntax error: the configuration ends too early", notes=(*still_open, end))
            else:
                first = Span(span.file, 0, len(span.file.line(1)))
                self.sink.error("K0103", first, "syntax error: nothing in the configuration", notes=(end,))
            return
        span = self.spans[tok.lexpos]
        value = tok.value if isinstance(tok.value, str) else tok.value[1]
        name = describe_token(tok.type, value)
        if inside and (top or tok.type in _NEVER_INSIDE):
            self.sink.error("K0101", span, f"syntax error at {name}: a '}}' is missing before it", notes=still_open)
            return
        if tok.type == "RBRACE" and previous is not None and stream.previous.type == "LBRACE":
            self.sink.error("K0101", previous.to(span), "syntax error: a block needs at least one statement", hint="';' is one",
                            notes=(f"noticed at {span.where()}",))  # fmt: skip
            return
        if tok.type == "RBRACE" and not inside:
            self.sink.error("K0101", span, "syntax error: '}' without '{'", label="nothing is open here")
            return
        missing = None
        if inside and "SEMICOLON" in expected and tok.type in _STATEMENT_STARTS:
            missing = ";"
        elif "RPAREN" in expected and tok.type in ("SEMICOLON", "LBRACE", "RBRACE"):
            missing = ")"
        if missing and previous is not None:
            at = Span(previous.file, max(previous.end - 1, previous.start), previous.end, previous.trail)
            self.sink.error("K0101", at, f"syntax error: missing '{missing}'", label=f"'{missing}' expected after this", notes=(f"noticed at {name}, {span.where()}",))
            return
        if tok.type == "ID" and not {"ID", "DOT"} & set(expected) and {"STRING", "NUMBER"} & set(expected):
            self.sink.error("K0207", span, f"syntax error at identifier '{value}': a value is expected, and no define of that name is known",
                            hint=f"#!define {value} VALUE, or -A {value}=VALUE")  # fmt: skip
            return
        hint = "expected " + _one_of(expected) if expected and len(expected) <= 6 else None
        if tok.type == "EQUAL" and "EQUAL_T" in expected:
            hint = "'==' compares"
        self.sink.error("K0101", span, f"syntax error at {name}", label="not expected here", hint=hint)


_SPELLED: Final = {"SEMICOLON": "';'", "LPAREN": "'('", "RPAREN": "')'", "LBRACE": "'{'", "RBRACE": "'}'", "EQUAL": "'='", "COMMA": "','",
                   "COLON": "':'", "LBRACK": "'['", "RBRACK": "']'", "STRING": "a string", "NUMBER": "a number", "ID": "an identifier"}  # fmt: skip


def _one_of(kinds: Iterable[str]) -> str:
    words = sorted(_SPELLED.get(k, k.lower().replace("_", " ")) for k in kinds)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def expected_tokens(parser: Any) -> list[str]:
    """Token types that the parser could take now; reductions are simulated, so nothing is promised that would fail."""
    return [kind for kind in parser.action[parser.statestack[-1]] if kind not in ("error", "$end") and _accepts(parser, kind)]


def _accepts(parser: Any, kind: str) -> bool:
    stack = list(parser.statestack)
    for _ in range(400):
        action = parser.action[stack[-1]].get(kind)
        if action is None:
            return False
        if action > 0:
            return True
        if action == 0:
            return kind == "$end"
        production = parser.productions[-action]
        if production.len:
            del stack[-production.len :]
        stack.append(parser.goto[stack[-1]][production.name])
    return False


# -- tables ------------------------------------------------------------------------------------------------------------------


def cache_dir() -> Path | None:
    """The user's cache folder for parser tables, or None where nothing can be written."""
    base = os.environ.get("KAMC_CACHE_DIR") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kamc")
    try:
        path = Path(base)
        path.mkdir(parents=True, exist_ok=True)
        return path if os.access(path, os.W_OK) else None
    except (OSError, RuntimeError):
        return None


def build_parser(grammar: CfgGrammar, *, debug_log: Any = None) -> Any:
    """The LALR parser for a grammar object; tables come from the cache where there is one."""
    if CfgGrammar.p_cfg.__doc__ is None:
        raise KamcBug("kamc's grammar needs docstrings: do not run it under python -OO")
    folder = cache_dir()
    pickle = None
    if folder is not None and debug_log is None:
        pickle = str(folder / f"tables-{__version__}-py{sys.version_info.major}{sys.version_info.minor}.pickle")
        fresh = not os.path.exists(pickle)
        target = f"{pickle}.{os.getpid()}" if fresh else pickle
    else:
        fresh, target = False, None
    log = debug_log or yacc.NullLogger()
    try:
        parser = yacc.yacc(module=grammar, write_tables=target is not None, picklefile=target, debug=debug_log is not None, debuglog=yacc.NullLogger(),
                           errorlog=log, start="cfg")  # fmt: skip
    except OSError:
        parser = yacc.yacc(module=grammar, write_tables=False, debug=False, errorlog=log, start="cfg")
    if fresh and target and pickle and os.path.exists(target):
        os.replace(target, pickle)
    return parser


# -- the two public calls ----------------------------------------------------------------------------------------------------


def parse_file(
    path: str,
    sink: DiagnosticSink,
    defines: Mapping[str, str | None] | None = None,
    env: Mapping[str, str] | None = None,
    compat: str = "head",
    read: Any = load_text,
    substs: Iterable[tuple[str, str]] = (),
    prologue: str = "",
) -> n.CfgFile | None:
    """Parse a configuration and what it includes. Returns None when it cannot be read at all."""
    try:
        text = read(path)
    except OSError as err:
        sink.error("K0201", None, f"cannot read {path}: {err.strerror or err}")
        return None
    return parse_text(text, path, sink, defines, env, compat, read, substs, prologue)


def parse_text(
    text: str,
    name: str,
    sink: DiagnosticSink,
    defines: Mapping[str, str | None] | None = None,
    env: Mapping[str, str] | None = None,
    compat: str = "head",
    read: Any = load_text,
    substs: Iterable[tuple[str, str]] = (),
    prologue: str = "",
) -> n.CfgFile | None:
    """Parse text as if it were the file ``name``; ``prologue`` is read before it. The tree is returned also when there were errors, for the checker."""
    pp = Preprocessor(sink, read, os.environ if env is None else env, compat)
    entry = SourceFile(name, text)
    for key, value in (defines or {}).items():
        pp.define(key, value or None, None)
    for word, rule in substs:
        problem = pp.directive(word, f'"{rule}"', Span(entry, 0, 0))
        if problem:
            sink.error("K0204", None, f"--{word}: {problem}")
    lexer = CfgLexer(entry, pp, sink, prologue)
    grammar = CfgGrammar()
    grammar.sink = sink
    stream = grammar.stream = TokenStream(lexer)
    parser = grammar.parser = build_parser(grammar)
    while True:
        try:
            parser.parse(lexer=stream, tracking=True)
            break
        except _Resync:
            if not lexer.frames or grammar.syntax_errors >= MAX_SYNTAX_ERRORS:
                break
    pp.check_balance(lexer.end_span())
    whole = Span(entry, 0, len(text))
    return n.CfgFile(span=whole, items=tuple(grammar.items), defines=tuple(sorted(pp.defines.items())), kamailio_mode=lexer.mode == "KAMAILIO",
                     files=tuple(pp.files), unused=pp.unused(), asked=frozenset(pp.asked), absent=tuple(pp.absent))  # fmt: skip
