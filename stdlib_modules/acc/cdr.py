"""Call detail records: a line, or a row, per dialog when it is over."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kamc.declare import Module
from kamc.declare.values import shown
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Cell, Database
from stdlib_modules.acc.fields import Extra, parse_extra
from stdlib_modules.dialog.model import Dialog


class CdrRecords(Module):
    p: Any
    db: Database | None

    def start_cdrs(self) -> None:
        """Raises ConfigError."""
        p = self.p
        self.cdr_extra: Extra = parse_extra(self.rt, "cdr_extra", p.cdr_extra)
        if not p.cdr_enable:
            return
        dialog = self.rt.module("dialog")
        if dialog is None:
            raise ConfigError("acc: cdr_enable needs module dialog, loaded before acc")
        dialog.watchers.append(self._dialog_event)

    @staticmethod
    def _stamp(seconds: float) -> str:
        return f"{seconds:.3f}"

    def _dialog_event(self, what: str, dialog: Dialog, ctx: Ctx | None) -> None:
        p = self.p
        now = self.rt.wall_time()
        if what == "created" or (what == "confirmed" and p.cdr_start_on_confirmed):
            dialog.extra["cdr_start"] = now
            dialog.variables[p.cdr_start_id] = self._stamp(now)
            return
        start = dialog.extra.get("cdr_start")
        wanted = {"ended": True, "failed": bool(p.cdr_on_failed), "expired": bool(p.cdr_expired_dlg_enable)}.get(what, False)
        if not wanted or start is None or (p.cdr_skip and p.cdr_skip in dialog.variables):
            return
        end = start if what == "failed" else now
        duration = self._stamp(end - start) if what != "failed" else "0"
        dialog.variables[p.cdr_end_id], dialog.variables[p.cdr_duration_id] = self._stamp(end), duration
        if ctx is None:
            ctx = self.rt.worker.fake_context()
            ctx.remember("dialog", dialog)
        self._write_cdr(ctx, start, end, duration)

    def _write_cdr(self, ctx: Ctx, start: float, end: float, duration: str) -> None:
        p = self.p
        extra = [(name, get(ctx)) for name, get in self.cdr_extra]
        if p.cdr_log_enable and p.log_level <= self.rt.log.level:
            pairs: list[tuple[str, Any]] = [(p.cdr_start_id, self._stamp(start)), (p.cdr_end_id, self._stamp(end)), (p.cdr_duration_id, duration)]
            pairs += [(name, "" if value is None else shown(value)) for name, value in extra]
            self.rt.log.write(p.log_level, "; ".join(f"{name}={value}" for name, value in pairs), "acc")
        if p.cdrs_table and self.db is not None:
            row: dict[str, Cell] = {p.cdr_start_id: datetime.fromtimestamp(start), p.cdr_end_id: datetime.fromtimestamp(end), p.cdr_duration_id: float(duration)}
            row.update((name, value if value is not None or p.cdr_extra_nullable else "") for name, value in extra)
            self.db.post(p.cdrs_table, row, self.lost)

    def lost(self, err: BaseException) -> None:
        self.rt.log.error("acc: a record is lost: %s", err)
