"""Tests of methods, texts and lists."""

from __future__ import annotations

from typing import Any

from kamc.declare import ANY, function
from kamc.declare.argtypes import Lit
from kamc.runtime.context import Ctx


class _MethodSets(dict[str, frozenset[str]]):
    """``"INVITE|BYE"`` → set of names, computed once."""

    def __missing__(self, text: str) -> frozenset[str]:
        found = frozenset(m.strip().upper() for m in text.split("|"))
        if len(self) < 1000:
            self[text] = found
        return found


_METHODS = _MethodSets()


class TestFunctions:
    rt: Any

    @function(ANY)
    def is_method(self, ctx: Ctx, name: str) -> int:
        return 1 if ctx.msg.method in _METHODS[name] else -1

    @function(ANY)
    def is_privacy(self, ctx: Ctx, privacy_type: Lit) -> int:
        """Whether Privacy (RFC 3323) names that level."""
        values = {p.strip().lower() for h in ctx.msg.all("privacy") for p in h[2].split(";")}
        return 1 if privacy_type.lower() in values else -1

    @function(ANY)
    def in_list(self, ctx: Ctx, subject: str, list: str, separator: Lit) -> int:
        return 1 if subject in [m.strip() for m in list.split(separator[:1] or ",")] else -1

    @function(ANY)
    def in_list_prefix(self, ctx: Ctx, subject: str, list: str, separator: Lit) -> int:
        return 1 if any(m.strip() and subject.startswith(m.strip()) for m in list.split(separator[:1] or ",")) else -1

    @function(ANY)
    def cmp_str(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if str1 == str2 else -1

    @function(ANY)
    def cmp_istr(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if str1.lower() == str2.lower() else -1

    @function(ANY)
    def starts_with(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if str1 and str1.startswith(str2) else -1

    @function(ANY)
    def ends_with(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if str1 and str1.endswith(str2) else -1

    @function(ANY)
    def str_find(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if str2 in str1 else -1

    @function(ANY)
    def str_ifind(self, ctx: Ctx, str1: str, str2: str) -> int:
        return 1 if str2.lower() in str1.lower() else -1

    @function(ANY)
    def str_any_in(self, ctx: Ctx, txt: str, clist: str) -> int:
        return 1 if any(c in clist for c in txt) else -1

    @function(ANY)
    def str_all_in(self, ctx: Ctx, txt: str, clist: str) -> int:
        return 1 if txt and all(c in clist for c in txt) else -1

    @function(ANY)
    def is_audio_on_hold(self, ctx: Ctx) -> int:
        """SDP audio on hold: address 0.0.0.0, or sendonly/inactive (RFC 3264 section 8.4)."""
        on_audio, held = False, False
        session_null = False
        for line in ctx.msg.body.splitlines():
            if line.startswith("m="):
                on_audio = line.startswith("m=audio")
                held = held or (on_audio and session_null)
            elif line.startswith("c=") and "0.0.0.0" in line:
                session_null = session_null or not on_audio
                held = held or on_audio
            elif on_audio and line.strip() in ("a=sendonly", "a=inactive"):
                held = True
        return 1 if held else -1
