"""Module regex: Perl-compatible regular expressions, and groups of them in a file. https://www.kamailio.org/docs/modules/stable/modules/regex.html"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from kamc.declare import Module, Routes, Spread, function, rpc
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.regex.pcre import CASELESS, DOTALL, EXTENDED, MULTILINE, Pcre, PcreError, library

_ROUTES = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH | Routes.LOCAL
#: what the functions return besides 1 and -1: a pattern, or a group, that is none
_BAD = -4


@lru_cache(maxsize=256)
def _compiled(pattern: str, options: int) -> Pcre:
    return Pcre(pattern, options)


class Regex(Module):
    name = "regex"

    class Params:
        file: str = ""
        max_groups: int = 20
        group_max_size: int = 8192
        pcre_caseless: int = 0
        pcre_multiline: int = 0
        pcre_dotall: int = 0
        pcre_extended: int = 0

    def mod_init(self) -> None:
        p = self.p
        try:
            library()
        except OSError as err:
            raise ConfigError(f"regex: the library pcre2 is not installed: {err}") from None
        self.options = sum(bit for on, bit in ((p.pcre_caseless, CASELESS), (p.pcre_multiline, MULTILINE), (p.pcre_dotall, DOTALL), (p.pcre_extended, EXTENDED)) if on)
        self.groups: list[Pcre] = self._read() if p.file else []

    def _read(self) -> list[Pcre]:
        """The groups of the file: its lines, any of which may match. Raises ConfigError."""
        path = Path(self.rt.base or ".") / self.p.file
        try:
            text = path.read_text("latin-1")
        except OSError as err:
            raise ConfigError(f"regex: cannot read {path}: {err.strerror or err}") from None
        groups: list[list[str]] = []
        for line in text.splitlines():
            if not line or line[0] in " \t#":
                continue
            if line.startswith("["):
                groups.append([])
            elif groups:
                groups[-1].append(line.rstrip())
        if len(groups) > self.p.max_groups:
            raise ConfigError(f"regex: {path} has {len(groups)} groups, more than max_groups")
        found = []
        for number, lines in enumerate(groups):
            pattern = "(" + "|".join(f"({line})" for line in lines) + ")"
            if len(pattern) > self.p.group_max_size:
                raise ConfigError(f"regex: group {number} of {path} is longer than group_max_size")
            if not lines:
                raise ConfigError(f"regex: group {number} of {path} has no expression")
            try:
                found.append(Pcre(pattern, self.options))
            except PcreError as err:
                raise ConfigError(f"regex: group {number} of {path}: {err}") from None
        return found

    def _test(self, pattern: Pcre, text: str) -> int:
        try:
            return 1 if pattern.matches(text) else -1
        except PcreError as err:
            self.rt.log.error("regex: %s", err)
            return -1

    @function(_ROUTES)
    def pcre_match(self, ctx: Ctx, string: str, pcre_regex: str) -> int:
        """1 when an expression matches somewhere in a text."""
        try:
            pattern = _compiled(pcre_regex, self.options)
        except PcreError as err:
            self.rt.log.error("pcre_match: %r: %s", pcre_regex, err)
            return _BAD
        return self._test(pattern, string)

    @function(_ROUTES)
    def pcre_match_group(self, ctx: Ctx, string: str, group: str = "0") -> int:
        """1 when one of a group of the file does."""
        if not group.strip().isdecimal():
            self.rt.log.error("pcre_match_group: %r is no number of a group", group)
            return -1
        number = int(group)
        if number >= len(self.groups):
            self.rt.log.error("pcre_match_group: there is no group %d", number)
            return _BAD
        return self._test(self.groups[number], string)

    def data_files(self) -> dict[str, str]:
        return {str(Path(self.rt.base or ".") / self.p.file): "regex.reload"} if self.p.file else {}

    @rpc("regex.reload", spread=Spread.EVERY)
    def rpc_reload(self) -> None:
        """Read the file again."""
        if not self.p.file:
            raise RpcFault(500, "Group matching not enabled")
        try:
            self.groups = self._read()
        except ConfigError as err:
            self.rt.log.error("%s", err)
            raise RpcFault(500, "Failed to reload") from None


module = Regex
