"""Module topos: each side of a call sees this server and nothing behind it. https://www.kamailio.org/docs/modules/stable/modules/topos.html

Vias, Record-Routes and Contacts of one side are taken out of what goes to the other and kept (:mod:`.storage`): by the branch of our Via for
replies, by the user of the Contact that we put in (``atpsh-...`` towards the caller, ``btpsh-...`` towards the callee) for requests of the dialog.
Scripts and other modules see whole messages. Between coming in and going out a request carries, in the Via of who sent it, a parameter of ours
that names its dialog and side.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from kamc.declare import ANY, Module, Routes, function
from kamc.declare.values import to_str
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import Dest, Flow
from kamc.runtime.sip.addr import parse_addr
from kamc.runtime.sip.edits import Edit, apply_edits
from kamc.runtime.sip.message import SipMessage, parse_message
from kamc.runtime.sip.uri import Uri, parse_uri, split_quoted
from kamc.runtime.sip.via import split_vias
from stdlib_modules.topos.storage import Sides, Storage

#: they have no dialog, and their Contacts are for registrars and presence servers
_SKIPPED: Final = frozenset({"REGISTER", "PUBLISH"})
#: they may tell a new Contact of their sender (RFC 3261 section 12.2, RFC 3311, RFC 6665)
_REFRESHING: Final = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})
#: requests that go without a Contact when they came without one; others get ours
_NO_CONTACT: Final = "BYE,CANCEL,PRACK"
_OUTGOING, _SENDING, _INCOMING, _RECEIVING = 1, 2, 4, 8


def _values(msg: SipMessage, key: str) -> list[str]:
    return [v.strip() for header in msg.all(key) for v in (split_vias(header[2]) if key == "via" else split_quoted(header[2], ","))]


class Topos(Module):
    name = "topos"
    ignored_params = ("event_callback", "sanity_checks", "header_mode")

    class Params:
        storage: str = "db"
        db_url: str = "mysql://kamailio:kamailiorw@localhost/kamailio"
        version_table: int = 1
        mask_callid: int = 0
        branch_expire: int = 180
        dialog_expire: int = 10800
        clean_interval: int = 60
        event_mode: int = 15
        contact_host: str = ""
        contact_mode: int = 0
        cparam_name: str = "tps"
        context: str = ""
        methods_noinitial: str = ""
        methods_nocontact: str = ""
        xavu_cfg: str = ""
        xavu_field_a_contact: str = ""
        xavu_field_b_contact: str = ""
        xavu_field_contact_host: str = ""
        xavu_field_a_contact_host: str = ""
        xavu_field_b_contact_host: str = ""

    def mod_init(self) -> None:
        p = self.p
        if p.storage not in ("db", "memory"):
            raise ConfigError(f"topos: storage {p.storage!r} is not implemented by kamc: db, or memory for this server alone")
        if p.contact_mode not in (0, 1, 2):
            raise ConfigError("topos: contact_mode is 0 (the user of the Contact), 1 (a parameter) or 2 (a parameter, the user is the script's)")
        if p.contact_mode == 2 and not (p.xavu_cfg and p.xavu_field_a_contact and p.xavu_field_b_contact):
            raise ConfigError("topos: contact_mode 2 needs xavu_cfg, xavu_field_a_contact and xavu_field_b_contact")
        self.no_contact = frozenset(m.strip().upper() for m in (p.methods_nocontact or _NO_CONTACT).split(",") if m.strip())
        self.skipped = _SKIPPED | {m.strip().upper() for m in p.methods_noinitial.split(",") if m.strip()}
        self.storage = Storage(self.rt, self.rt.database(p.db_url) if p.storage == "db" else None, p.dialog_expire, p.branch_expire, p.context)
        if p.version_table:
            self.storage.check()
        self.key = self.rt.worker.secret.encode()
        self.mark = "tps" + hashlib.sha256(self.key).hexdigest()[:8]
        self.marked = re.compile(rf";{self.mark}=([0-9a-f]+)-([ab])")
        self.named = re.compile(r"^sips?:([ab])tpsh-([0-9a-f]+)@" if p.contact_mode == 0 else rf";{re.escape(p.cparam_name)}=([ab])tpsh-([0-9a-f]+)")
        self.rt.hooks.incoming_filters.append(self.incoming)
        self.rt.hooks.outgoing_filters.append(self.outgoing)
        if p.clean_interval > 0:
            self.rt.every(float(p.clean_interval), self.storage.clean, once=True)

    def _event(self, bits: tuple[int, int], names: tuple[str, str], msg: SipMessage, flow: Flow, outgoing: tuple[Dest, str] | None = None) -> bool:
        """Event routes may leave a message as it is, with drop."""
        for bit, name in zip(bits, names, strict=True):
            if self.p.event_mode & bit and self.rt.has_event(name):
                ctx = Ctx(self.rt, msg, flow, Routes.EVENT)
                ctx.outgoing = outgoing
                if not self.rt.run_event(name, ctx):
                    return False
        return True

    @function(ANY)
    def tps_set_context(self, ctx: Ctx, ctx_name: str) -> int:
        """The name under which what follows is stored."""
        self.storage.context = ctx_name
        return 1

    # -- in --------------------------------------------------------------------------------------------------------------

    def incoming(self, text: str, flow: Flow) -> str:
        try:
            msg = parse_message(text)
            if not ("via" in msg.first and "call-id" in msg.first) or msg.cseq[1] in self.skipped:
                return text
            branch = msg.via1.branch
        except SipError:
            return text
        if not self._event((_INCOMING, _RECEIVING), ("topos:msg-incoming", "topos:msg-receiving"), msg, flow):
            return text
        edits = self._request_in(msg) if msg.is_request else self._reply_in(msg, branch)
        return apply_edits(text, edits, 0, len(text)) if edits else text

    def _request_in(self, msg: SipMessage) -> list[Edit]:
        """Find the dialog, or begin one, and put back what the request went without."""
        found = self.named.search(msg.uri)
        if found is None:
            if msg.to_tag or msg.method in ("ACK", "CANCEL"):
                return []
            return self._mark(msg, self._uuid(msg), "a")
        side, uuid = found[1], found[2]
        sides = self.storage.dialog(uuid)
        if sides is None:
            return []
        target, records = (sides.b_contact, sides.b_rr) if side == "a" else (sides.a_contact, sides.a_rr)
        edits = self._mark(msg, uuid, side)
        if target:
            start = len(msg.method) + 1
            edits.append((start, start + len(msg.uri), target))
        edits += [(h[3], h[4], "") for h in msg.all("route")]
        routes = [*sides.s_rr, *records]
        if routes:
            at = msg.first["via"][3]
            edits.append((at, at, "".join(f"Route: {route}\r\n" for route in routes)))
        if self.p.mask_callid and msg.call_id == f"btpsh-{uuid}":
            header = msg.first["call-id"]
            edits.append((header[3], header[4], f"{header[1]}: {sides.call_id}\r\n"))
        return edits

    def _uuid(self, msg: SipMessage) -> str:
        """The same for repetitions of a request."""
        return hmac.new(self.key, f"{msg.call_id}\n{msg.from_tag}".encode("latin-1", "replace"), hashlib.sha256).hexdigest()[:24]

    def _mark(self, msg: SipMessage, uuid: str, side: str) -> list[Edit]:
        header = msg.first["via"]
        values = [v.strip() for v in split_vias(header[2])]
        values[0] = f"{self.marked.sub('', values[0])};{self.mark}={uuid}-{side}"
        return [(header[3], header[4], f"{header[1]}: {', '.join(values)}\r\n")]

    def _reply_in(self, msg: SipMessage, branch: str) -> list[Edit]:
        """Put back the Vias and the Record-Routes of our side."""
        kept = self.storage.branch(branch)
        if kept is None:
            return []
        vias, records = kept
        header = msg.first["via"]
        edits: list[Edit] = [(header[4], header[4], "".join(f"Via: {via}\r\n" for via in vias))]
        if records and msg.status > 100:
            last = msg.all("record-route")
            at = last[-1][4] if last else header[4]
            edits.append((at, at, "".join(f"Record-Route: {record}\r\n" for record in records)))
        if self.p.mask_callid and msg.call_id.startswith("btpsh-"):
            sides = self.storage.dialog(msg.call_id.removeprefix("btpsh-"))
            if sides is not None:
                call = msg.first["call-id"]
                edits.append((call[3], call[4], f"{call[1]}: {sides.call_id}\r\n"))
        return edits

    # -- out -------------------------------------------------------------------------------------------------------------

    def outgoing(self, text: str, dest: Dest) -> str:
        try:
            msg = parse_message(text)
            vias = _values(msg, "via")
        except SipError:
            return text
        if not vias:
            return text
        where = vias[1] if msg.is_request and len(vias) > 1 else vias[0]
        found = self.marked.search(where)
        if found is None:
            return text
        flow = Flow(dest.listener, dest.ip, dest.port)
        if not self._event((_OUTGOING, _SENDING), ("topos:msg-outgoing", "topos:msg-sending"), msg, flow, (dest, text)):
            return self.marked.sub("", text)
        uuid, side = found[1], found[2]
        edits = self._request_out(msg, vias, uuid, side, dest) if msg.is_request else self._reply_out(msg, uuid, side, dest)
        return apply_edits(text, edits, 0, len(text))

    def _own(self, value: str) -> bool:
        address = parse_addr(value)
        uri = address.parsed if address is not None else None
        return uri is not None and bool(self.rt.is_myself(uri.host, uri.port_number))

    def _request_out(self, msg: SipMessage, vias: list[str], uuid: str, side: str, dest: Dest) -> list[Edit]:
        records = _values(msg, "record-route")
        sides = self.storage.dialog(uuid)
        new = sides is None
        if sides is None:
            sides = Sides(uuid, msg.method, msg.call_id, a_tag=msg.from_tag)
            if self.p.xavu_cfg and not self._ask_script(msg, sides):
                return [self._unmark(msg)]
        contact = msg.address("contact")
        if not msg.to_tag:
            sides.s_rr = [r for r in records if self._own(r)]
            sides.a_rr = [r for r in records if not self._own(r)]
        if contact is not None and (msg.method in _REFRESHING or not msg.to_tag):
            if side == "a":
                sides.a_contact = contact.uri
            else:
                sides.b_contact = contact.uri
        self.storage.keep(sides, new=new)
        self.storage.keep_branch(msg.via1.branch, vias[1:], records, sides)
        headers = msg.all("via")
        edits: list[Edit] = [(headers[0][3], headers[0][4], f"{headers[0][1]}: {vias[0]}\r\n")]
        edits += [(h[3], h[4], "") for h in (*headers[1:], *msg.all("record-route"))]
        self._contact_out(msg, side, sides, uuid, dest, edits)
        if self.p.mask_callid and side == "a":
            header = msg.first["call-id"]
            edits.append((header[3], header[4], f"{header[1]}: btpsh-{uuid}\r\n"))
        return edits

    def _unmark(self, msg: SipMessage) -> Edit:
        """The message as it would be without this module."""
        header = next(h for h in msg.all("via") if self.marked.search(h[2]))
        return header[3], header[4], f"{header[1]}: {self.marked.sub('', header[2], count=1).strip()}\r\n"

    def _ask_script(self, msg: SipMessage, sides: Sides) -> bool:
        """Take the users and hosts of Contacts from the xavus of the transaction. False when a user is missing and ``contact_mode`` needs it."""
        p = self.p
        found = self.rt.tm.match_reply(msg)
        root = found[0].xavps.get("xavu", {}).get(p.xavu_cfg) if found is not None else None
        fields = root[0] if root and isinstance(root[0], dict) else {}

        def value(name: str) -> str:
            held = fields.get(name) if name else None
            return to_str(held[0]) if held and isinstance(held[0], int | str) else ""

        both = value(p.xavu_field_contact_host)
        sides.a_host, sides.b_host = value(p.xavu_field_a_contact_host) or both, value(p.xavu_field_b_contact_host) or both
        if p.contact_mode == 2:
            sides.a_user, sides.b_user = value(p.xavu_field_a_contact), value(p.xavu_field_b_contact)
            if not sides.a_user or not sides.b_user:
                missing = p.xavu_field_b_contact if sides.a_user else p.xavu_field_a_contact
                self.rt.log.error("topos: $xavu(%s=>%s) is not set: the call goes on as it is", p.xavu_cfg, missing)
                return False
        return True

    def _reply_out(self, msg: SipMessage, uuid: str, side: str, dest: Dest) -> list[Edit]:
        header = msg.first["via"]
        edits: list[Edit] = [(header[3], header[4], f"{header[1]}: {self.marked.sub('', header[2], count=1).strip()}\r\n")]
        sides = self.storage.dialog(uuid)
        records = _values(msg, "record-route")
        first = next((i for i, r in enumerate(records) if self._own(r)), len(records))
        last = next((i for i in range(len(records) - 1, -1, -1) if self._own(records[i])), first - 1)
        if records:
            headers = msg.all("record-route")
            edits += [(h[3], h[4], "") for h in headers]
            left = records[last + 1 :] if first < len(records) else []
            edits.append((headers[0][3], headers[0][3], "".join(f"Record-Route: {record}\r\n" for record in left)))
        contact = msg.address("contact")
        if sides is not None and 100 < msg.status < 300 and msg.to_tag and (msg.cseq[1] in _REFRESHING or msg.cseq[1] == sides.method):
            if side == "a":
                sides.b_contact = contact.uri if contact is not None else sides.b_contact
                if msg.cseq[1] == sides.method and (not sides.b_tag or sides.b_tag != msg.to_tag):
                    sides.b_tag = msg.to_tag
                    sides.b_rr = records[:first][::-1] if first < len(records) else sides.b_rr
            elif contact is not None:
                sides.a_contact = contact.uri
            self.storage.keep(sides, new=False)
        if not 300 <= msg.status < 400:
            self._contact_out(msg, "b" if side == "a" else "a", sides, uuid, dest, edits)
        if self.p.mask_callid and side == "b":
            call = msg.first["call-id"]
            edits.append((call[3], call[4], f"{call[1]}: btpsh-{uuid}\r\n"))
        return edits

    def _contact_out(self, msg: SipMessage, side: str, sides: Sides | None, uuid: str, dest: Dest, edits: list[Edit]) -> None:
        """Contact points to us, and names the dialog; ``side`` is the one whose Contact it stands for."""
        headers = msg.all("contact")
        address = msg.address("contact")
        if address is None:
            if not headers and msg.is_request and msg.method not in self.no_contact:
                at = msg.first["via"][4]
                edits.append((at, at, f"Contact: <{self._contact_uri(None, side, sides, uuid, dest)}>\r\n"))
            return
        uri = self._contact_uri(parse_uri(address.uri), side, sides, uuid, dest)
        display = f"{address.display} " if address.display else ""
        params = f";{address.params}" if address.params else ""
        edits.append((headers[0][3], headers[0][4], f"{headers[0][1]}: {display}<{uri}>{params}\r\n"))
        edits += [(h[3], h[4], "") for h in headers[1:]]

    def _contact_uri(self, hidden: Uri | None, side: str, sides: Sides | None, uuid: str, dest: Dest) -> str:
        scheme = "sips" if hidden is not None and hidden.is_sips else "sip"
        named = (sides.a_user, sides.a_host) if sides is not None and side == "a" else (sides.b_user, sides.b_host) if sides is not None else ("", "")
        name = f"{'btpsh-' if side == 'a' else 'atpsh-'}{uuid}"
        host = f"{named[1]}:{dest.listener.via_port}" if named[1] else self.p.contact_host or f"{dest.listener.via_host}:{dest.listener.via_port}"
        transport = f";transport={dest.proto}" if dest.proto != "udp" else ""
        if self.p.contact_mode == 0:
            return f"{scheme}:{name}@{host}{transport}"
        user = named[0] if self.p.contact_mode == 2 else hidden.user if hidden is not None else ""
        return f"{scheme}:{user}{'@' if user else ''}{host}{transport};{self.p.cparam_name}={name}"


module = Topos
