"""Module xlog: logging of format strings."""

from __future__ import annotations

from kamc.declare import ANY, Module, function
from kamc.declare.argtypes import Lazy
from kamc.declare.values import parse_int
from kamc.runtime.context import Ctx

#: a level's name counts by its third character: L_ERR, L_ERROR and L_EXTRA are one
_BY_LETTER = {"A": -5, "B": -4, "C": -2, "E": -1, "W": 0, "N": 1, "I": 2, "D": 3}


class Xlog(Module):
    """Texts are expanded only when the level is written."""

    name = "xlog"
    ignored_params = ("force_color", "log_facility", "log_colors")

    class Params:
        buf_size: int = 4096
        prefix: str = "<script>: "

    def mod_init(self) -> None:
        self.prefix = self.p.prefix
        # Log.write adds its own ": " after the module name
        self.tag = self.prefix.removesuffix(": ") if self.prefix.endswith(": ") else self.prefix

    @staticmethod
    def level_of(text: str) -> int:
        """``L_ERR`` by its third character, as Kamailio reads it, or the number that a variable holds; anything else counts as an error."""
        found = _BY_LETTER.get(text[2:3])
        if found is None:
            number = parse_int(text)
            found = number if number is not None else -1
        return found

    def write(self, ctx: Ctx, level: int, text: Lazy) -> int:
        log = self.rt.log
        if level <= log.level:
            log.write(level, text(ctx)[: self.p.buf_size - 1], self.tag)
        return 1

    @function(ANY)
    def xlog(self, ctx: Ctx, first: Lazy, second: Lazy = None, third: Lazy = None) -> int:
        """``xlog([[facility,] level,] text)``."""
        if second is None:
            return self.write(ctx, -1, first)
        if third is None:
            return self.write(ctx, self.level_of(first(ctx)), second)
        return self.write(ctx, self.level_of(second(ctx)), third)

    @classmethod
    def check_call_xlog(cls, args: tuple[int | str | None, ...]) -> str | None:
        """A constant level has to be one."""
        if len(args) < 2:
            return None
        level = args[-2]
        if level is None or str(level).startswith("$"):
            return None
        return None if str(level)[2:3] in _BY_LETTER else f"unknown level {level!r}"

    check_call_xlogl = check_call_xlog

    @function(ANY)
    def xlogl(self, ctx: Ctx, first: Lazy, second: Lazy = None, third: Lazy = None) -> int:
        """As xlog; the place in the cfg is in front of the text."""
        import sys

        frame = sys._getframe(1)
        where = f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}:"
        text = third or second or first
        level = self.level_of((second if third is not None else first)(ctx)) if second is not None else -1
        return self.write(ctx, level, lambda c: where + text(c))

    @function(ANY)
    def xlogm(self, ctx: Ctx, level: Lazy, text: Lazy) -> int:
        """As xlog; several lines are written one by one."""
        number = self.level_of(level(ctx))
        if number <= self.rt.log.level:
            for line in text(ctx).splitlines():
                self.rt.log.write(number, line, self.tag)
        return 1

    @function(ANY, "xdbg", "xdbgl")
    def xdbg(self, ctx: Ctx, text: Lazy) -> int:
        return self.write(ctx, 3, text)

    @function(ANY)
    def xinfo(self, ctx: Ctx, text: Lazy) -> int:
        return self.write(ctx, 2, text)

    @function(ANY)
    def xnotice(self, ctx: Ctx, text: Lazy) -> int:
        return self.write(ctx, 1, text)

    @function(ANY)
    def xwarn(self, ctx: Ctx, text: Lazy) -> int:
        return self.write(ctx, 0, text)

    @function(ANY)
    def xerr(self, ctx: Ctx, text: Lazy) -> int:
        return self.write(ctx, -1, text)

    @function(ANY)
    def xcrit(self, ctx: Ctx, text: Lazy) -> int:
        return self.write(ctx, -2, text)

    @function(ANY)
    def xbug(self, ctx: Ctx, text: Lazy) -> int:
        return self.write(ctx, -4, text)

    @function(ANY)
    def xalert(self, ctx: Ctx, text: Lazy) -> int:
        return self.write(ctx, -5, text)


module = Xlog
