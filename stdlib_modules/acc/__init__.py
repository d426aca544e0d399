"""Module acc: accounting of transactions and dialogs to the log and to a database. https://www.kamailio.org/docs/modules/stable/modules/acc.html"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from kamc.declare import ANY, function
from kamc.declare.values import Value, to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Cell, Database
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.tm.transaction import Transaction
from stdlib_modules.acc.cdr import CdrRecords
from stdlib_modules.acc.fields import Extra, legs_of, parse_extra, parse_legs, time_fields

_STATUS = re.compile(r"SIP/2\.0 (\d+) ([^\r\n]*)")
_TO = re.compile(r"^(?:To|t)[ \t]*:[ \t]*([^\r\n]*)", re.M | re.I)
_REASON = re.compile(r"^Reason[ \t]*:(.*?)\r?$", re.M | re.I)
_VERSION = 5


class Acc(CdrRecords):
    name = "acc"
    depends = ("tm",)
    #: transactions are always watched; inserts wait in no queue of their own
    tuning_params = ("acc_extra_size", "cdr_extra_size", "db_insert_mode", "acc_prepare_flag", "acc_prepare_always", "clone_msg", "cdr_duration_mode")
    ignored_params = ("log_facility", "cdr_facility")

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
        time_mode: int = 0
        time_attr: str = "time_attr"
        time_exten: str = "time_exten"
        time_format: str = "%Y-%m-%d %H:%M:%S"
        acc_extra_nullable: int = 0
        db_url: str = ""
        db_flag: int = -1
        db_missed_flag: int = -1
        db_extra: str = ""
        db_table_acc: str = "acc"
        db_table_missed_calls: str = "missed_calls"
        db_version_check: int = 1
        acc_method_column: str = "method"
        acc_from_tag_column: str = "from_tag"
        acc_to_tag_column: str = "to_tag"
        acc_callid_column: str = "callid"
        acc_sip_code_column: str = "sip_code"
        acc_sip_reason_column: str = "sip_reason"
        acc_time_column: str = "time"
        cdr_enable: int = 0
        cdr_log_enable: int = 1
        cdr_start_on_confirmed: int = 0
        cdr_extra: str = ""
        cdr_extra_nullable: int = 0
        cdr_start_id: str = "start_time"
        cdr_end_id: str = "end_time"
        cdr_duration_id: str = "duration"
        cdr_skip: str = ""
        cdr_expired_dlg_enable: int = 0
        cdr_on_failed: int = 1
        cdrs_table: str = ""
        multi_leg_info: str = ""
        reason_from_hf: int = 0

    def mod_init(self) -> None:
        p = self.p
        self.extra: Extra = parse_extra(self.rt, "log_extra", p.log_extra)
        self.db_extra: Extra = parse_extra(self.rt, "db_extra", p.db_extra)
        #: what each leg of a call adds
        self.legs = parse_legs(p.multi_leg_info)
        self.db: Database | None = None
        if p.db_url:
            self.db = self.rt.database(p.db_url)
            if p.db_version_check:
                # that of missed calls has a version of its own, which Kamailio does not look at
                self.db.check_version(p.db_table_acc, _VERSION)
        elif p.db_flag >= 0 or p.db_missed_flag >= 0 or p.cdrs_table:
            raise ConfigError("acc: db_flag, db_missed_flag and cdrs_table need db_url")
        self.filtered = {c.strip() for c in p.failed_filter.split(",") if c.strip()}
        self.start_cdrs()
        self.rt.hooks.transactions.append(self.watch)
        if p.report_ack:
            self.rt.hooks.post_script.append(self.after_ack)

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
        header = _REASON.search(text) if self.p.reason_from_hf else None
        reason = header.group(1).strip() if header is not None else found.group(2) if found else ""
        if code < 200 and not (self.p.early_media and code in (180, 183)):
            return
        to = _TO.search(text)
        address = parse_addr(to.group(1)) if to else None
        to_tag = (address.tag or "") if address is not None else ""
        if t.is_invite and code >= 300:
            self._account(t, t.flags, (self.p.log_missed_flag, self.p.db_missed_flag), "call missed", self.p.db_table_missed_calls, code, reason, to_tag)
        if code >= 300 and (not self._flag(t.flags, self.p.failed_transaction_flag) or str(code) in self.filtered):
            return
        self._account(t, t.flags, (self.p.log_flag, self.p.db_flag), "transaction answered", self.p.db_table_acc, code, reason, to_tag)

    def _account(self, t: Transaction, flags: int, wanted: tuple[int, int], what: str, table: str, code: int, reason: str, to_tag: str) -> None:
        to_log, to_db = (self._flag(flags, number) for number in wanted)
        if to_log or to_db:
            self._write(what if to_log else "", table if to_db else "", t.request_ctx, t, code, reason, to_tag)

    def after_ack(self, ctx: Ctx) -> None:
        """An ACK of an accounted call."""
        if ctx.msg.method != "ACK" or not self.p.report_ack:
            return
        t = self.rt.tm.by_callid(ctx.msg.call_id, str(ctx.msg.cseq[0]))
        if t is None or not 200 <= t.status < 300:
            return
        to_log, to_db = self._flag(t.flags, self.p.log_flag), self._flag(t.flags, self.p.db_flag)
        if to_log or to_db:
            self._write("request acknowledged" if to_log else "", self.p.db_table_acc if to_db else "", ctx, None, 200, "OK", ctx.msg.to_tag)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def _write(self, what: str, table: str, ctx: Ctx, t: Transaction | None, code: int, reason: str, to_tag: str) -> None:
        """A line when ``what`` is given, a row when ``table`` is."""
        work = ctx
        if t is not None:
            work = ctx.copy_for(ctx.kind)
            t.lend(work, t.relayed_branch)
        msg = ctx.msg
        from_tag, other = msg.from_tag, to_tag or msg.to_tag
        rr = self.rt.module("rr")
        if self.p.detect_direction and rr is not None and rr.is_direction(work, "upstream") > 0:
            from_tag, other = other, from_tag
        values = (msg.method, from_tag, other, msg.call_id, str(code), reason)
        now = self.rt.wall_time()
        times = time_fields(now, self.p.time_mode, self.p.time_attr, self.p.time_exten, self.p.time_format) if self.p.time_mode else []
        if what and self.p.log_level <= self.rt.log.level:
            names = ("method", "from_tag", "to_tag", "call_id", "code", "reason")
            legs = [pair for leg in legs_of(self.legs, work) for pair in leg]
            pairs: list[tuple[str, Any]] = [("timestamp", int(now)), *zip(names, values, strict=True),
                                            *((name, "" if (v := get(work)) is None else to_str(v)) for name, get in self.extra), *legs, *times]  # fmt: skip
            self.rt.log.write(self.p.log_level, f"ACC: {what}: " + ";".join(f"{name}={value}" for name, value in pairs), "acc")
        if table:
            self._insert(table, values, now, times, work)

    def _insert(self, table: str, values: tuple[str, ...], now: float, times: list[tuple[str, str | int]], work: Ctx) -> None:
        p = self.p
        if self.db is None:
            self.rt.log.error("acc: db_url is not set")
            return
        columns = (p.acc_method_column, p.acc_from_tag_column, p.acc_to_tag_column, p.acc_callid_column, p.acc_sip_code_column, p.acc_sip_reason_column)
        row: dict[str, Cell] = {**dict(zip(columns, values, strict=True)), p.acc_time_column: datetime.fromtimestamp(int(now)), **dict(times)}
        for name, get in self.db_extra:
            value: Value = get(work)
            row[name] = value if value is not None or p.acc_extra_nullable else ""
        for leg in legs_of(self.legs, work) or [[]]:
            self.db.post(table, {**row, **dict(leg)}, self.lost)

    @staticmethod
    def _comment(comment: str) -> tuple[int, str]:
        """A comment that begins with a number is status and reason."""
        head, _, rest = comment.partition(" ")
        return (int(head), rest) if head.isdecimal() and len(head) == 3 else (0, comment)

    def _by_hand(self, ctx: Ctx, comment: str, what: str, table: str) -> int:
        code, reason = self._comment(comment)
        self._write(what, table, ctx, self.rt.module("tm").current(ctx), code, reason, ctx.msg.to_tag)
        return 1

    @function(ANY)
    def acc_log_request(self, ctx: Ctx, comment: str) -> int:
        """Account a request now."""
        return self._by_hand(ctx, comment, "request accounted", "")

    @function(ANY)
    def acc_db_request(self, ctx: Ctx, comment: str, table: str) -> int:
        return self._by_hand(ctx, comment, "", table)

    @function(ANY)
    def acc_request(self, ctx: Ctx, comment: str, table: str) -> int:
        """To the log and, with a db_url, to a table."""
        return self._by_hand(ctx, comment, "request accounted", table if self.db is not None else "")


module = Acc
