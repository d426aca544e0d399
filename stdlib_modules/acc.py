"""Module acc: accounting of transactions to the log. https://www.kamailio.org/docs/modules/stable/modules/acc.html

Database and CDR accounting come with a later version: their parameters and functions are refused by the checker.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kamc.declare import ANY, Module, function
from kamc.declare.values import Value, shown
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.tm.transaction import Transaction

_STATUS = re.compile(r"SIP/2\.0 (\d+) ([^\r\n]*)")
_TO = re.compile(r"^(?:To|t)[ \t]*:[ \t]*([^\r\n]*)", re.M | re.I)


class Acc(Module):
    name = "acc"
    depends = ("tm",)
    ignored_params = (
        "acc_method_column", "acc_from_tag_column", "acc_to_tag_column", "acc_callid_column", "acc_sip_code_column", "acc_sip_reason_column",
        "acc_time_column", "clone_msg", "log_facility", "acc_extra_size", "acc_extra_nullable", "db_table_acc", "db_table_missed_calls", "db_version_check",
    )  # fmt: skip

    class Params:
        early_media: int = 0
        failed_transaction_flag: int = -1
        failed_filter: str = ""
        report_ack: int = 0
        report_cancels: int = 0
        detect_direction: int = 0
        log_flag: int = -1
        log_missed_flag: int = -1
        log_level: int = 1
        log_extra: str = ""

    def mod_init(self) -> None:
        self.extra: list[tuple[str, Callable[[Ctx], Value]]] = []
        for part in self.p.log_extra.split(";"):
            name, eq, variable = part.strip().partition("=")
            if not name:
                continue
            if not eq:
                raise ConfigError(f"acc: log_extra has no variable for {name!r}")
            self.extra.append((name.strip(), self.rt.pv(variable.strip())))
        self.filtered = {c.strip() for c in self.p.failed_filter.split(",") if c.strip()}
        self.rt.tm.watchers.append(self.watch)
        if self.p.report_ack:
            self.rt.datapath.post_script.append(self.after_ack)

    # -- what tm tells ---------------------------------------------------------------------------------------------------

    def watch(self, event: str, t: Transaction, what: Any) -> None:
        if event == "final" and not t.local and t.rt is self.rt:
            self._final(t, *what)

    @staticmethod
    def _flag(flags: int, number: int) -> bool:
        return number >= 0 and bool(flags >> number & 1)

    def _final(self, t: Transaction, code: int, text: str) -> None:
        if t.method == "CANCEL" and not self.p.report_cancels:
            return
        if t.method == "ACK":
            return
        found = _STATUS.match(text)
        reason = found.group(2) if found else ""
        if code < 200 and not (self.p.early_media and code in (180, 183)):
            return
        to = _TO.search(text)
        address = parse_addr(to.group(1)) if to else None
        to_tag = (address.tag or "") if address is not None else ""
        if self._flag(t.flags, self.p.log_missed_flag) and t.is_invite and code >= 300:
            self._write("call missed", t.request_ctx, t, code, reason, to_tag)
        if self._flag(t.flags, self.p.log_flag):
            if code >= 300 and (not self._flag(t.flags, self.p.failed_transaction_flag) or str(code) in self.filtered):
                return
            self._write("transaction answered", t.request_ctx, t, code, reason, to_tag)

    def after_ack(self, ctx: Ctx) -> None:
        """An ACK of an accounted call."""
        if ctx.msg.method != "ACK" or not self.p.report_ack:
            return
        t = self.rt.tm.by_callid(ctx.msg.call_id, str(ctx.msg.cseq[0]))
        if t is not None and self._flag(t.flags, self.p.log_flag) and 200 <= t.status < 300:
            self._write("request acknowledged", ctx, None, 200, "OK", ctx.msg.to_tag)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def _write(self, what: str, ctx: Ctx, t: Transaction | None, code: int, reason: str, to_tag: str) -> None:
        if self.p.log_level > self.rt.log.level:
            return
        work = ctx
        if t is not None:
            work = ctx.copy_for(ctx.kind)
            t.lend(work, t.relayed_branch)
        msg = ctx.msg
        from_tag, other = msg.from_tag, to_tag or msg.to_tag
        rr = self.rt.module("rr")
        if self.p.detect_direction and rr is not None and rr.is_direction(work, "upstream") > 0:
            from_tag, other = other, from_tag
        line = (f"ACC: {what}: timestamp={int(self.rt.wall_time())};method={msg.method};from_tag={from_tag};to_tag={other};call_id={msg.call_id};"
                f"code={code};reason={reason}")  # fmt: skip
        for name, get in self.extra:
            line += f";{name}={shown(get(work))}"
        self.rt.log.write(self.p.log_level, line, "acc")

    @function(ANY)
    def acc_log_request(self, ctx: Ctx, comment: str) -> int:
        """Account a request now; a comment that begins with a number is status and reason."""
        head, _, rest = comment.partition(" ")
        code, reason = (int(head), rest) if head.isdecimal() and len(head) == 3 else (0, comment)
        self._write("request accounted", ctx, self.rt.module("tm").current(ctx), code, reason, ctx.msg.to_tag)
        return 1


module = Acc
