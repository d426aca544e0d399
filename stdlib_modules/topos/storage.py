"""What topos knows of dialogs and branches: in the store of the worker, and in the tables ``topos_d`` and ``topos_t`` of a database, so that
a restart, or another server on the same tables, can go on with a call.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from kamc.runtime.db import Cell, Database, DbError

_VERSION = 2


@dataclass(slots=True)
class Sides:
    """A dialog: side ``a`` began it. Lists are Record-Route values: ``a_rr`` as the request brought them, ``b_rr`` from us to the callee,
    ``s_rr`` ours. Users and hosts are those that the script wants in our Contacts: of ``a`` in the one that stands for ``a``."""

    uuid: str
    method: str
    call_id: str
    a_tag: str = ""
    b_tag: str = ""
    a_contact: str = ""
    b_contact: str = ""
    a_rr: list[str] = field(default_factory=list)
    b_rr: list[str] = field(default_factory=list)
    s_rr: list[str] = field(default_factory=list)
    a_user: str = ""
    b_user: str = ""
    a_host: str = ""
    b_host: str = ""

    def names(self, side: str) -> str:
        """The user and the host of a side as a URI, for columns ``bs_contact`` (what b sees of a) and ``as_contact``."""
        user, host = (self.a_user, self.a_host) if side == "a" else (self.b_user, self.b_host)
        return f"sip:{user}@{host}" if user or host else ""


def _names(cell: Cell) -> tuple[str, str]:
    """What :meth:`Sides.names` has written; what Kamailio has written names the dialog and is not read."""
    text = str(cell or "")
    user, _, host = text.removeprefix("sip:").rpartition("@") if text.startswith("sip:") else ("", "", "")
    return user, host


class Storage:
    """``database`` is None when everything stays in memory."""

    def __init__(self, rt: Any, database: Database | None, dialog_expire: int, branch_expire: int, context: str) -> None:
        self.rt, self.db, self.context = rt, database, context
        self.dialog_expire, self.branch_expire = dialog_expire, branch_expire
        self.dialogs = rt.store.table("topos.dialogs")
        self.branches = rt.store.table("topos.branches")

    def check(self) -> None:
        """Raises ConfigError."""
        if self.db is not None:
            for table in ("topos_d", "topos_t"):
                self.db.check_version(table, _VERSION)

    def _lost(self, err: BaseException) -> None:
        self.rt.log.error("topos: %s", err)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self.rt.wall_time()))

    # -- dialogs ---------------------------------------------------------------------------------------------------------

    def dialog(self, uuid: str) -> Sides | None:
        found = self.dialogs.get(uuid)
        if found is None and self.db is not None:
            found = self._load(uuid)
            if found is not None:
                self.dialogs.put(uuid, found, self.rt.wall_time() + self.dialog_expire)
        return Sides(**found) if found is not None else None

    def _load(self, uuid: str) -> dict[str, Any] | None:
        assert self.db is not None
        columns = ("s_method", "a_callid", "a_tag", "b_tag", "a_contact", "b_contact", "a_rr", "b_rr", "s_rr", "bs_contact", "as_contact")
        try:
            rows = self.db.select("topos_d", columns, (("a_uuid", "=", f"atpsh-{uuid}"),), limit=1).rows
        except DbError as err:
            self._lost(err)
            return None
        if not rows:
            return None
        texts = ["" if v is None else str(v) for v in rows[0]]
        lists = [[v for v in text.split(",") if v] for text in texts[6:9]]
        (a_user, a_host), (b_user, b_host) = _names(texts[9]), _names(texts[10])
        return asdict(Sides(uuid, *texts[:6], *lists, a_user, b_user, a_host, b_host))  # type: ignore[arg-type, call-arg]  # six texts, three lists

    def keep(self, sides: Sides, *, new: bool) -> None:
        """Note a dialog, or what changed of it."""
        before = self.dialogs.get(sides.uuid)
        row = asdict(sides)
        self.dialogs.put(sides.uuid, row, self.rt.wall_time() + self.dialog_expire)
        if self.db is None or row == before:
            return
        values: dict[str, Cell] = {"a_tag": sides.a_tag, "b_tag": sides.b_tag, "a_contact": sides.a_contact, "b_contact": sides.b_contact, "a_rr": ",".join(sides.a_rr),
                                  "b_rr": ",".join(sides.b_rr), "s_rr": ",".join(sides.s_rr), "rectime": self._now(),
                                  "bs_contact": sides.names("a"), "as_contact": sides.names("b")}  # fmt: skip
        if new and before is None:
            names = {"a_uuid": f"atpsh-{sides.uuid}", "b_uuid": f"btpsh-{sides.uuid}", "a_callid": sides.call_id, "s_method": sides.method, "x_context": self.context}
            self.db.post("topos_d", {**values, **names}, self._lost)
        else:
            self.db.post_update("topos_d", values, (("a_uuid", "=", f"atpsh-{sides.uuid}"),), self._lost)

    # -- branches --------------------------------------------------------------------------------------------------------

    def branch(self, branch: str) -> tuple[list[str], list[str]] | None:
        """The Vias and Record-Routes that a branch of ours went without."""
        found = self.branches.get(branch)
        if found is None and self.db is not None:
            try:
                rows = self.db.select("topos_t", ("x_via", "x_rr"), (("x_vbranch", "=", branch),), limit=1).rows
            except DbError as err:
                self._lost(err)
                return None
            if rows:
                found = tuple([v for v in str(cell or "").split("\n") if v] for cell in rows[0])
        return (found[0], found[1]) if found is not None else None

    def keep_branch(self, branch: str, vias: list[str], records: list[str], sides: Sides | None) -> None:
        known = self.branches.get(branch)
        self.branches.put(branch, (vias, records), self.rt.wall_time() + self.branch_expire)
        if self.db is not None and known is None:
            row: dict[str, Cell] = {"rectime": self._now(), "x_context": self.context, "x_vbranch": branch, "x_via": "\n".join(vias), "x_rr": "\n".join(records),
                   "a_uuid": f"atpsh-{sides.uuid}" if sides is not None else "", "a_callid": sides.call_id if sides is not None else ""}  # fmt: skip
            self.db.post("topos_t", row, self._lost)

    # -- time ------------------------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Forget what is too old."""
        self.dialogs.take_expired()
        self.branches.take_expired()
        if self.db is None:
            return
        now = int(self.rt.wall_time())
        for table, seconds in (("topos_d", self.dialog_expire), ("topos_t", self.branch_expire)):
            self.db.post_delete(table, (("rectime", "<", datetime.fromtimestamp(now - seconds)),), self._lost)
