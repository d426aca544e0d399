"""Module presence_xml: the event packages presence, presence.winfo, xcap-diff and dialog;sla, and who may watch by pres-rules.

https://www.kamailio.org/docs/modules/stable/modules/presence_xml.html. Rules are read from table ``xcap``; fetching them over HTTP (xcap_client) is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kamc.declare import ANY, Module, function
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database, DbError, Where
from stdlib_modules.presence.packages import Package
from stdlib_modules.presence.publish import aor
from stdlib_modules.presence_xml import pidf
from stdlib_modules.presence_xml.rules import decide

_XCAP_VERSION: Final = 4
#: kind of document in table xcap
_PRES_RULES: Final = 2


class PresenceXml(Module):
    name = "presence_xml"
    depends = ("presence",)
    ignored_params = ("xcap_server", "xcapauth_userdel_reason", "passive_mode")

    class Params:
        db_url: str = "mysql://kamailio:kamailiorw@localhost/kamailio"
        xcap_table: str = "xcap"
        force_active: int = 0
        integrated_xcap_server: int = 0
        disable_presence: int = 0
        disable_winfo: int = 0
        disable_bla: int = 1
        disable_xcapdiff: int = 0
        force_dummy_presence: int = 0
        force_presence_single_body: int = 0
        presence_single_body_priorities: str = "Available|Ringing|On the Phone"
        presence_single_body_lookup_element: str = "note"
        default_expires: int = 3600

    def mod_init(self) -> None:
        p = self.p
        self.db: Database | None = None
        if not p.force_active:
            if not p.integrated_xcap_server:
                raise ConfigError("presence_xml: rules over HTTP (xcap_client) are not implemented: set force_active, or integrated_xcap_server for those in table "
                                  f"{p.xcap_table}")  # fmt: skip
            self.db = self.rt.database(p.db_url)
            self.db.check_version(p.xcap_table, _XCAP_VERSION)
        add = self.presence.add_package
        if not p.disable_presence:
            add(Package("presence", "application/pidf+xml", p.default_expires, pidf.check, self._combine, None if p.force_active else self._rules, decide))
        if not p.disable_winfo:
            add(Package("presence.winfo", "application/watcherinfo+xml", p.default_expires))
        if not p.disable_bla:
            add(Package("dialog;sla", "application/dialog-info+xml", p.default_expires, pidf.check))
        if not p.disable_xcapdiff:
            add(Package("xcap-diff", "application/xcap-diff+xml", p.default_expires, pidf.check))

    @property
    def presence(self) -> Any:
        return self.rt.module("presence")

    def _combine(self, bodies: Sequence[str], gone: str | None) -> str:
        p = self.p
        if p.force_presence_single_body and bodies:
            return pidf.single(bodies, p.presence_single_body_priorities.split("|"), p.presence_single_body_lookup_element)
        found = pidf.combine(bodies, gone)
        return found or (pidf.dummy("") if p.force_dummy_presence else "")

    def _rules(self, user: str, domain: str) -> str | None:
        """The document of a presentity; None when there is none, or the database does not answer."""
        if self.db is None:
            return None
        where: Where = [("username", "=", user), ("domain", "=", domain), ("doc_type", "=", _PRES_RULES)]
        try:
            rows = self.db.select(self.p.xcap_table, ("doc",), where, limit=1).rows
        except DbError as err:
            self.rt.log.error("presence_xml: rules of %s@%s: %s", user, domain, err)
            return None
        if not rows or rows[0][0] is None:
            return None
        cell: Any = rows[0][0]
        return cell.decode("latin-1") if isinstance(cell, bytes) else str(cell)

    # -- functions -------------------------------------------------------------------------------------------------------

    def _body(self, uri: str) -> str | None:
        address = aor(uri)
        documents = self.presence.records.published(address, "presence") if address is not None else []
        return pidf.joined([d.body for d in documents]) if documents else None

    @function(ANY)
    def pres_check_basic(self, ctx: Ctx, presentity_uri: str, status: str) -> int:
        """1 when a tuple has that basic status, -1 when none has, -2 when nothing is published."""
        return self._answer(pidf.has_basic(self._body(presentity_uri) or "", status))

    @function(ANY)
    def pres_check_activities(self, ctx: Ctx, presentity_uri: str, activity: str) -> int:
        """1 when the activities name it, -1 when they do not, -2 without any."""
        return self._answer(pidf.has_activity(self._body(presentity_uri) or "", activity))

    @staticmethod
    def _answer(found: bool | None) -> int:
        return -2 if found is None else 1 if found else -1


module = PresenceXml
