"""Module uac_redirect: the Contacts of a 3xx become branches of the call."""

from __future__ import annotations

import re

from kamc.declare import Module, Routes, function
from kamc.declare.argtypes import Lit
from kamc.declare.regex import RegexError, compile_regex
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Branch, Ctx
from kamc.runtime.sip.addr import NameAddr, parse_addr_list
from kamc.runtime.tm.branch import ClientBranch
from kamc.runtime.tm.transaction import Transaction

_Q = re.compile(r"(?:0(?:\.(\d{0,3})\d*)?|1(?:\.0*)?)\Z")
_FLAGS = ("", "reset_all", "reset_default", "reset_added")


def q_of(text: str | None, default: int) -> int:
    """A q parameter in thousandths (RFC 3261 section 20.10); ``default`` when absent or no q value."""
    match = _Q.match(text.strip()) if text else None
    if match is None:
        return default
    return 1000 if text is not None and text.strip().startswith("1") else int((match[1] or "").ljust(3, "0"))


def parse_limits(text: str) -> tuple[int, int] | None:
    """``total:branch``, ``total`` or ``*`` for any number: how many contacts count in all and of one branch. None when it is none of these."""
    total, _, branch = text.replace(" ", "").partition(":")
    numbers = [0 if part in ("*", "") else int(part) if part.isdecimal() and len(part) < 4 else -1 for part in (total, branch)]
    return None if -1 in numbers or not total else (numbers[0], numbers[1])


class UacRedirect(Module):
    name = "uac_redirect"
    depends = ("tm",)
    ignored_params = ("acc_db_table", "flags_hdr_mode")

    class Params:
        deny_filter: str = ""
        accept_filter: str = ""
        default_filter: str = "accept"
        acc_function: str = "acc_log_request"
        bflags: int = 0
        q_value: int = 10

    def mod_init(self) -> None:
        if self.p.default_filter not in ("accept", "deny"):
            raise ConfigError(f"uac_redirect: default_filter is accept or deny, not {self.p.default_filter!r}")
        self.default_patterns = {kind: self._pattern(kind, text) for kind, text in (("accept", self.p.accept_filter), ("deny", self.p.deny_filter)) if text}

    @staticmethod
    def _pattern(kind: str, text: str) -> re.Pattern[str]:
        try:
            return compile_regex(text, True)  # type: ignore[return-value]
        except RegexError as err:
            raise ConfigError(f"uac_redirect: bad {kind} filter {text!r}: {err}") from None

    # -- filters ---------------------------------------------------------------------------------------------------------

    def _filters(self, ctx: Ctx, kind: str) -> list[re.Pattern[str]]:
        """Patterns that count for this run: those of the script, and the module's own unless it was reset."""
        state = ctx.recall("redirect_filters", {})
        own = [self.default_patterns[kind]] if kind in self.default_patterns and not state.get(f"no_{kind}") else []
        return [*own, *state.get(kind, ())]

    def _set(self, ctx: Ctx, kind: str, text: str, flags: str) -> int:
        state = {**ctx.recall("redirect_filters", {})}
        if flags in ("reset_all", "reset_default"):
            state[f"no_{kind}"] = True
        added = () if flags in ("reset_all", "reset_added") else state.get(kind, ())
        state[kind] = (*added, self._pattern(kind, text)) if text else added
        ctx.remember("redirect_filters", state)
        return 1

    @function(Routes.FAILURE)
    def set_deny_filter(self, ctx: Ctx, filter: Lit, flags: Lit) -> int:
        """Contacts whose URI matches are left out. ``flags``: reset_all, reset_default or reset_added forget earlier filters."""
        return self._set(ctx, "deny", filter, flags)

    @function(Routes.FAILURE)
    def set_accept_filter(self, ctx: Ctx, filter: Lit, flags: Lit) -> int:
        """Contacts whose URI matches are taken, whatever the deny filters say of the rest."""
        return self._set(ctx, "accept", filter, flags)

    @classmethod
    def check_call_set_deny_filter(cls, args: tuple[int | str | None, ...]) -> str | None:
        return None if args[1] in _FLAGS else f"the flags are one of {' '.join(_FLAGS[1:])}, or empty"

    check_call_set_accept_filter = check_call_set_deny_filter

    def allowed(self, ctx: Ctx, uri: str) -> bool:
        """Accept filters first, then deny filters, then default_filter."""
        if any(p.test(uri) for p in self._filters(ctx, "accept")):  # type: ignore[attr-defined]
            return True
        if any(p.test(uri) for p in self._filters(ctx, "deny")):  # type: ignore[attr-defined]
            return False
        return bool(self.p.default_filter == "accept")

    # -- redirects -------------------------------------------------------------------------------------------------------

    @classmethod
    def check_call_get_redirects(cls, args: tuple[int | str | None, ...]) -> str | None:
        return None if args[0] is None or parse_limits(str(args[0])) is not None else 'the limit has the form "total:branch", each a number or *'

    @function(Routes.FAILURE)
    def get_redirects(self, ctx: Ctx, max: Lit, reason: str = "") -> int:
        """Contacts of the 3xx replies of this round become branches, best q first. -1 when there is none to follow."""
        t = ctx.t
        limits = parse_limits(max)
        if t is None or limits is None:
            return -1
        total, per_branch = limits
        found: list[tuple[int, NameAddr]] = []
        for branch in t.live:
            contacts = self._contacts(ctx, t, branch)
            found += contacts[:per_branch] if per_branch else contacts
        found.sort(key=lambda entry: -entry[0])
        added = 0
        for q, contact in found[:total] if total else found:
            if len(ctx.branches) + 1 > self.rt.param("max_branches"):
                break
            ctx.branches.append(Branch(contact.uri, q=q, flags=self.p.bflags))
            added += 1
            if reason and "acc" in self.rt.modules and self.p.acc_function == "acc_log_request":
                self.rt.module("acc").acc_log_request(ctx, reason)
        return 1 if added else -1

    def _contacts(self, ctx: Ctx, t: Transaction, branch: ClientBranch) -> list[tuple[int, NameAddr]]:
        """Contacts of one branch's redirection that pass the filters, best first; each branch counts once."""
        done = t.extra.setdefault("redirected", set())
        if branch.reply is None or branch.faked or not 300 <= branch.status < 400 or branch.index in done:
            return []
        done.add(branch.index)
        out: list[tuple[int, NameAddr]] = []
        for header in branch.reply.all("contact"):
            try:
                addresses = parse_addr_list(header[2]) or []
            except SipError:
                continue
            out += [(q_of(a.param("q"), self.p.q_value), a) for a in addresses if a.parsed is not None and self.allowed(ctx, a.uri)]
        return sorted(out, key=lambda entry: -entry[0])


module = UacRedirect
