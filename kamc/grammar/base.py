"""What all rule mix-ins share: spans of productions and the sink."""

from __future__ import annotations

from typing import Any

from kamc.diagnostics import DiagnosticSink
from kamc.source import Span


class GrammarBase:
    """``self.spans`` are the token spans of the running parse (see :class:`kamc.lexer.CfgLexer`)."""

    sink: DiagnosticSink
    spans: list[Span]
    failed: bool

    def at(self, p: Any, n: int = 1) -> Span:
        """Span of the n-th symbol."""
        first, last = p.lexspan(n)
        span: Span = self.spans[first].to(self.spans[last])
        return span

    def whole(self, p: Any) -> Span:
        """Span from the first to the last symbol of the production."""
        first = p.lexspan(1)[0]
        last = p.lexspan(len(p) - 1)[1]
        span: Span = self.spans[first].to(self.spans[last])
        return span

    def fail(self, code: str, span: Span, message: str, hint: str | None = None) -> None:
        self.failed = True
        self.sink.error(code, span, message, hint=hint)

    def recovered(self) -> None:
        """An error production is complete: the next mistake is one of its own."""
