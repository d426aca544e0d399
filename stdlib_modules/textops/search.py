"""Searching and replacing by pattern, on the whole message, its headers or its body; and the re.subst transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Routes, function, transformation
from kamc.declare.argtypes import Lit, PvArg, RawText, Regex, Subst
from kamc.declare.values import Value, to_str
from kamc.runtime.context import Ctx
from kamc.runtime.sip.headers import header_key
from kamc.runtime.subst import Subst as PreparedSubst

_FROB = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH


class SearchFunctions:
    rt: Any

    # -- search ----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def search(self, ctx: Ctx, re: Regex) -> int:
        return 1 if re.test(ctx.msg.text) else -1

    @function(ANY)
    def search_body(self, ctx: Ctx, re: Regex) -> int:
        body = ctx.msg.body
        return 1 if body and re.test(body) else -1

    @function(ANY)
    def search_hf(self, ctx: Ctx, hf: Lit, re: Regex, flags: Lit) -> int:
        """Flags: a all, f first (default), l last header of the name."""
        found = ctx.msg.all(header_key(hf))
        if not found:
            return -1
        chosen = found if flags.startswith("a") else found[-1:] if flags.startswith("l") else found[:1]
        return 1 if any(re.test(h[2]) for h in chosen) else -1

    @function(ANY)
    def search_str(self, ctx: Ctx, text: str, re: str) -> int:
        return 1 if text and self.rt.dynamic_regex(re).test(text) else -1

    def _append_after(self, ctx: Ctx, re: Any, text: str, begin: int) -> int:
        groups = re.find(ctx.msg.text, begin)
        if groups is None:
            return -1
        ctx.add_edit(groups[0][1], groups[0][1], text)
        return 1

    @function(ANY)
    def search_append(self, ctx: Ctx, re: Regex, txt: Lit) -> int:
        return self._append_after(ctx, re, txt, ctx.msg.first_line_end)

    @function(ANY)
    def search_append_body(self, ctx: Ctx, re: Regex, txt: Lit) -> int:
        return self._append_after(ctx, re, txt, ctx.msg.body_start)

    # -- replace ---------------------------------------------------------------------------------------------------------

    def _replace(self, ctx: Ctx, find: Callable[[str, int], tuple[int, int] | None], new: str, begin: int, end: int, *, every: bool) -> int:
        text = ctx.msg.text[:end]
        done = 0
        at = begin
        while at <= end:
            span = find(text, at)
            if span is None:
                break
            ctx.add_edit(span[0], span[1], new)
            done += 1
            if not every:
                break
            at = span[1] if span[1] > span[0] else span[1] + 1
        return 1 if done else -1

    @staticmethod
    def _by_regex(pattern: Any) -> Callable[[str, int], tuple[int, int] | None]:
        def find(text: str, at: int) -> tuple[int, int] | None:
            groups = pattern.find(text, at)
            return groups[0] if groups is not None else None

        return find

    @staticmethod
    def _by_text(match: str) -> Callable[[str, int], tuple[int, int] | None]:
        def find(text: str, at: int) -> tuple[int, int] | None:
            begin = text.find(match, at)
            return (begin, begin + len(match)) if begin >= 0 and match else None

        return find

    @function(ANY)
    def replace(self, ctx: Ctx, re: Regex, txt: Lit) -> int:
        return self._replace(ctx, self._by_regex(re), txt, ctx.msg.first_line_end, len(ctx.msg.text), every=False)

    @function(ANY)
    def replace_all(self, ctx: Ctx, re: Regex, txt: Lit) -> int:
        return self._replace(ctx, self._by_regex(re), txt, ctx.msg.first_line_end, len(ctx.msg.text), every=True)

    @function(ANY)
    def replace_body(self, ctx: Ctx, re: Regex, txt: Lit) -> int:
        return self._replace(ctx, self._by_regex(re), txt, ctx.msg.body_start, len(ctx.msg.text), every=False)

    @function(ANY, "replace_body_all", "replace_body_atonce")
    def replace_body_all(self, ctx: Ctx, re: Regex, txt: Lit) -> int:
        return self._replace(ctx, self._by_regex(re), txt, ctx.msg.body_start, len(ctx.msg.text), every=True)

    @function(ANY)
    def replace_hdrs(self, ctx: Ctx, re: Regex, txt: Lit) -> int:
        return self._replace(ctx, self._by_regex(re), txt, ctx.msg.first_line_end, ctx.msg.body_start, every=False)

    @function(ANY)
    def replace_str(self, ctx: Ctx, match: str, repl: str, mode: str) -> int:
        return self._replace(ctx, self._by_text(match), repl, ctx.msg.first_line_end, len(ctx.msg.text), every="a" in mode)

    @function(ANY)
    def replace_body_str(self, ctx: Ctx, match: str, repl: str, mode: str) -> int:
        return self._replace(ctx, self._by_text(match), repl, ctx.msg.body_start, len(ctx.msg.text), every="a" in mode)

    @function(ANY)
    def replace_hdrs_str(self, ctx: Ctx, match: str, repl: str, mode: str) -> int:
        return self._replace(ctx, self._by_text(match), repl, ctx.msg.first_line_end, ctx.msg.body_start, every="a" in mode)

    # -- subst -----------------------------------------------------------------------------------------------------------

    def _subst_range(self, ctx: Ctx, subexp: PreparedSubst, begin: int, end: int) -> int:
        spans = subexp.spans(ctx, ctx.msg.text[begin:end])
        for start, stop, new in spans:
            ctx.add_edit(begin + start, begin + stop, new)
        return 1 if spans else -1

    @function(ANY)
    def subst(self, ctx: Ctx, subexp: Subst) -> int:
        return self._subst_range(ctx, subexp, ctx.msg.first_line_end, len(ctx.msg.text))

    @function(ANY)
    def subst_body(self, ctx: Ctx, subexp: Subst) -> int:
        return self._subst_range(ctx, subexp, ctx.msg.body_start, len(ctx.msg.text))

    @function(ANY)
    def subst_hf(self, ctx: Ctx, hf: Lit, subexp: Subst, flags: Lit) -> int:
        found = ctx.msg.all(header_key(hf))
        chosen = found if flags.startswith("a") else found[-1:] if flags.startswith("l") else found[:1]
        done = -1
        for h in chosen:
            begin = ctx.msg.text.index(h[2], h[3] + len(h[1]) + 1)
            if self._subst_range(ctx, subexp, begin, begin + len(h[2])) > 0:
                done = 1
        return done

    @function(_FROB)
    def subst_uri(self, ctx: Ctx, subexp: Subst) -> int:
        new = subexp.apply(ctx, ctx.ruri)
        return -1 if new is None else int(self.rt.module("core").set_ruri(ctx, new))

    @function(_FROB)
    def subst_user(self, ctx: Ctx, subexp: Subst) -> int:
        from kamc.runtime.sip.uri import parse_uri

        uri = parse_uri(ctx.ruri)
        new = subexp.apply(ctx, uri.user or "") if uri is not None else None
        return -1 if new is None else int(self.rt.module("core").rewriteuser(ctx, new))

    @function(ANY)
    def subst_v(self, ctx: Ctx, itext: str, subexp: str, ovp: PvArg) -> int:
        try:
            prepared = self.rt.subst(subexp)
        except ValueError:
            return -1
        new = prepared.apply(ctx, itext)
        if new is None or ovp.set is None:
            return -1
        ovp.set(ctx, new)
        return 1

    @function(_FROB)
    def regex_substring(self, ctx: Ctx, itext: str, regexp: str, mindex: int, mcount: int, dpv: PvArg) -> int:
        """Group ``mindex`` of a match of ``mcount`` groups goes into a variable."""
        from kamc.declare.regex import RegexError, compile_regex

        try:
            groups = compile_regex(regexp).find(itext)
        except RegexError:
            return -1
        if groups is None or mindex >= min(mcount, len(groups)) or groups[mindex][0] < 0 or dpv.set is None:
            return -1
        dpv.set(ctx, itext[groups[mindex][0] : groups[mindex][1]])
        return 1

    @staticmethod
    @transformation("re.subst")
    def re_subst(rt: Any, expression: RawText) -> Any:
        """``{re.subst,/re/repl/flags}``; the text as it is when nothing matches."""
        prepared: PreparedSubst = rt.subst(expression)

        def run(ctx: Ctx, value: Value) -> Value:
            text = to_str(value)
            new = prepared.apply(ctx, text)
            return text if new is None else new

        return run

