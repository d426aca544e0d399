"""save() and its replies (RFC 3261 section 10.3)."""

from __future__ import annotations

import random
import re
from copy import deepcopy
from typing import Any, Final

from kamc.declare import ANY, Routes, function
from kamc.declare.argtypes import Lit, Location
from kamc.declare.values import to_str
from kamc.runtime.context import Ctx
from kamc.runtime.sip.addr import NameAddr, parse_addr_list
from kamc.runtime.sip.headers import header_key
from kamc.runtime.sip.methods import method_id
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.usrloc import NO_AGENT, Binding, placed

NO_REPLY, REPLACE = 0x02, 0x04

_LONGEST_AOR: Final = 256
_BEHIND_ADDRESS: Final = re.compile(r">[^;,<>\"\s]++(?=[;,]|\Z)")
_SCHEME: Final = re.compile(r"(?:sips?|tels?|urn):", re.I)
#: error → (status, reason, P-Registrar-Error)
ERRORS: Final = {
    "star_expires": (400, "Bad Request", "* used in contact and expires is not zero"),
    "star_contact": (400, "Bad Request", "* used in contact and more than one contact"),
    "contact": (400, "Bad Request", "Failed to parse Contact HF"),
    "q": (400, "Bad Request", "Invalid q parameter in Contact"),
    "contact_length": (400, "Bad Request", "Contact/received too long"),
    "to": (400, "Bad Request", "Failed to parse To URI"),
    "aor_length": (500, "Server Internal Error", "Address of Record too long"),
    "cseq": (400, "Bad Request", "Invalid CSeq number"),
    "too_many": (503, "Service Unavailable", "Too many registered contacts"),
    "brief": (423, "Interval Too Brief", ""),
    "store": (500, "Server Internal Error", "usrloc_record failure"),
    "no_outbound": (420, "Bad Extension", "No support for Outbound on server"),
    "outbound_required": (421, "Extension Required", "No support for Outbound indicated"),
    "edge_outbound": (439, "First Hop Lacks Outbound Support", "No support for Outbound on edge proxy"),
    "path": (420, "Bad Extension", "No support for found Path indicated"),
}  # fmt: skip


class SaveError(Exception):
    """A REGISTER that is refused."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def methods_mask(text: str | None) -> int | None:
    """``"INVITE, ACK"`` → mask of method ids; None when nothing is said."""
    if not text:
        return None
    mask = 0
    for word in text.strip('"').split(","):
        mask |= method_id(word.strip().upper())
    return mask


def q_value(text: str | None) -> int | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return round(number * 1000) if number is not None and 0 <= number <= 1 else None


def _shortened(seconds: int, percent: int) -> int:
    """A time, less a random part of up to so many percent of it."""
    return seconds - random.randint(0, seconds * percent // 100) if percent > 0 and seconds > 0 else seconds


class SaveFunctions:
    rt: Any
    p: Any
    usrloc: Any
    sl: Any
    received: Any

    def cfg_value(self, ctx: Ctx, field: str, default: Any) -> Any:
        raise NotImplementedError

    def keep_record(self, ctx: Ctx, binding: Binding) -> None:
        raise NotImplementedError

    # -- parsing ---------------------------------------------------------------------------------------------------------

    def _contacts(self, ctx: Ctx) -> list[NameAddr] | None:
        """The contacts; None for ``*``. Raises SaveError."""
        headers = ctx.msg.all("contact")
        texts = [h[2].strip() for h in headers]
        if "*" in texts:
            if len(texts) > 1:
                raise SaveError("star_contact")
            if (ctx.msg.value("expires") or "").strip() != "0":
                raise SaveError("star_expires")
            return None
        out = []
        for text in texts:
            addresses = parse_addr_list(text)
            if addresses is None:
                # Kamailio takes text between an address and its parameters for a part of the URI; a phone is reached without it
                addresses = parse_addr_list(_BEHIND_ADDRESS.sub(">", text))
            if addresses is None:
                raise SaveError("contact")
            out += addresses
        for address in out:
            # as Kamailio does: a URI that leads nowhere is a binding like any other
            if _SCHEME.match(address.uri) is None:
                raise SaveError("contact")
            reg_id = address.param("reg-id")
            if reg_id is not None and address.param("+sip.instance") and not (reg_id.isdecimal() and 0 < int(reg_id) < 1 << 31):
                raise SaveError("contact")
            quality = address.param("q")
            if quality is not None and q_value(quality) is None:
                raise SaveError("q")
            if len(address.uri) > self.p.contact_max_size:
                raise SaveError("contact_length")
        return out

    def _expires(self, ctx: Ctx, address: NameAddr) -> int:
        """Lifetime in seconds, 0 to remove. Raises SaveError for too short with min_expires_mode 1."""
        text = address.param("expires")
        if text is None or not text.isdecimal():
            text = (ctx.msg.value("expires") or "").strip()
        if text.isdecimal():
            seconds = _shortened(int(text), self.p.expires_range)
        else:
            seconds = _shortened(int(self.cfg_value(ctx, "default_expires", self.p.default_expires)), self.p.default_expires_range)
        if seconds == 0:
            return 0
        low, high = int(self.cfg_value(ctx, "min_expires", self.p.min_expires)), int(self.cfg_value(ctx, "max_expires", self.p.max_expires))
        if seconds < low:
            if self.p.min_expires_mode:
                raise SaveError("brief")
            seconds = low
        return min(seconds, high) if high else seconds

    def _path(self, ctx: Ctx, flags: int) -> str:
        if not self.p.use_path or "path" not in ctx.msg.first:
            return ""
        supported = any("path" in [t.strip().lower() for t in h[2].split(",")] for h in ctx.msg.all("supported"))
        if self.p.path_mode and not supported:
            if self.p.path_mode == 2 and not flags & 0x20:
                raise SaveError("path")
            if self.p.path_mode == 1:
                return ""
        return ",".join(h[2].strip() for h in ctx.msg.all("path"))

    def _binding(self, ctx: Ctx, address: NameAddr, seconds: int, path: str) -> Binding:
        msg = ctx.msg
        now = self.rt.wall_time()
        q = q_value(address.param("q"))
        default_q = int(self.cfg_value(ctx, "default_q", self.p.default_q))
        received = to_str(self.received(ctx)) if self.received is not None else ""
        if self.p.path_use_received and path:
            first = parse_addr_list(path)
            uri = first[0].parsed if first else None
            received = (uri.param_map.get("received") or "").replace("%3B", ";").replace("%3b", ";") if uri is not None else ""
        instance = (address.param("+sip.instance") or "").strip('"')
        reg_id = address.param("reg-id") or ""
        return Binding(
            address.uri, now + seconds, q if q is not None else default_q, msg.call_id, msg.cseq[0], 0, ctx.bflags,
            (msg.value("user-agent") or "").strip() or NO_AGENT, received, path, self._socket_text(ctx), methods_mask(address.param("methods") or msg.value("allow")),
            self.usrloc.new_ruid(), instance, int(reg_id) if instance and reg_id.isdecimal() else 0, now, int(self.rt.param("server_id") or 0), ctx.flow.conn,
            self._attributes(ctx),
        )  # fmt: skip

    def _socket_text(self, ctx: Ctx) -> str:
        """The socket that a contact is reached by: the receiving one, or the one that header ``sock_hdr_name`` names when ``sock_flag`` is set."""
        p, listener = self.p, ctx.flow.listener
        if p.sock_flag >= 0 and p.sock_hdr_name and ctx.flags >> p.sock_flag & 1:
            text = (ctx.msg.value(header_key(p.sock_hdr_name)) or "").strip()
            named = self.rt.worker.find_socket(text) if text else None
            if text and named is None:
                self.rt.log.error("save: %s is no socket of this server", text)
            listener = named or listener
        return f"{listener.proto}:{listener.via_host}:{listener.via_port}" if p.sock_mode else str(listener)

    # -- outbound (RFC 5626) ---------------------------------------------------------------------------------------------

    @staticmethod
    def _asks_for_outbound(ctx: Ctx) -> tuple[bool, bool]:
        """Whether the client names ``outbound`` in Supported, in Require."""

        def names(key: str) -> bool:
            return any("outbound" in [t.strip().lower() for t in h[2].split(",")] for h in ctx.msg.all(key))

        return names("supported"), names("require")

    def _check_outbound(self, ctx: Ctx) -> bool:
        """Whether this registration is one of RFC 5626. Raises SaveError."""
        mode = self.p.outbound_mode
        supported, required = self._asks_for_outbound(ctx)
        if mode == 0:
            if required:
                raise SaveError("no_outbound")
            return False
        if mode == 2:
            # Kamailio lets pass who names no extension at all
            if "supported" in ctx.msg.first and not supported and not required:
                raise SaveError("outbound_required")
            return True
        wanted = supported or required
        if wanted and len(ctx.msg.vias) > 1 and not self._edge_has_outbound(ctx):
            raise SaveError("edge_outbound")
        return wanted

    @staticmethod
    def _edge_has_outbound(ctx: Ctx) -> bool:
        """Whether the last Path, which the first proxy has put in, has ``ob`` (RFC 5626 section 5.1)."""
        values = [a for h in ctx.msg.all("path") for a in parse_addr_list(h[2]) or []]
        last = values[-1].parsed if values else None
        return last is not None and "ob" in last.param_map

    def _outbound_headers(self, *, wanted: bool) -> list[str]:
        if not self.p.outbound_mode:
            return []
        if self.p.outbound_mode == 2:
            lines = ["Require: outbound\r\n", "Supported: outbound\r\n"]
        else:
            lines = ["Supported: outbound\r\n", *(["Require: outbound\r\n"] if wanted else [])]
        if wanted and self.p.flow_timer:
            lines.append(f"Flow-Timer: {self.p.flow_timer}\r\n")
        return lines

    def _attributes(self, ctx: Ctx) -> dict[str, Any]:
        """What the script has put into the xavp of usrloc's parameter xavp_contact."""
        name = self.usrloc.p.xavp_contact
        roots = ctx.xavps.get("xavp", {}).get(name) if name else None
        return deepcopy(roots[0]) if roots and isinstance(roots[0], dict) else {}

    # -- updating --------------------------------------------------------------------------------------------------------

    def _update(self, ctx: Ctx, domain: str, aor: str, contacts: list[NameAddr], flags: int) -> int:
        """Insert, refresh and remove. 1 when something is new, 2 when only refreshed, 3 when only removed."""
        held: list[Binding] = self.usrloc.bindings(domain, aor)
        path = self._path(ctx, flags)
        fresh = [(a, self._expires(ctx, a)) for a in contacts]
        result = 3
        kept = [] if flags & REPLACE else list(held)
        events: list[tuple[str, Binding]] = []
        cseq, call_id = ctx.msg.cseq[0], ctx.msg.call_id
        for address, seconds in fresh:
            new = self._binding(ctx, address, seconds, path)
            old = next((b for b in held if self.usrloc.same(b, new)), None)
            if old is not None and old.call_id == call_id and cseq < old.cseq:
                raise SaveError("cseq")
            if old is not None and old.call_id == call_id and cseq == old.cseq and self.rt.wall_time() - old.modified <= self.usrloc.p.cseq_delay and seconds:
                # a retransmission: leave it as it is
                result = min(result, 2)
                if old not in kept:
                    kept.append(old)
                continue
            if seconds == 0:
                if old is not None:
                    events.append(("delete", old))
                    kept = [b for b in kept if b is not old]
                continue
            if old is not None:
                new.ruid = old.ruid
            result = min(result, 2 if old is not None else 1)
            events.append(("update" if old is not None else "insert", new))
            kept = placed(kept, old, new, newest_first=bool(self.usrloc.p.desc_time_order))
        limit = int(self.cfg_value(ctx, "max_contacts", self.p.max_contacts))
        if limit and len(kept) > limit and len(kept) > len(held):
            raise SaveError("too_many")
        if not self.usrloc.store(domain, aor, kept):
            raise SaveError("store")
        for event, binding in events:
            self.usrloc.notify(event, aor, binding)
        return result

    # -- the reply -------------------------------------------------------------------------------------------------------

    def _contact_text(self, ctx: Ctx, aor_uri: str, b: Binding) -> str:
        out = f"<{b.contact}>"
        if b.q >= 0:
            out += f";q={b.q / 1000:g}"
        out += f";expires={max(0, int(b.expires - self.rt.wall_time() + 0.5)) if b.expires else 0}"
        if b.received:
            out += f';{self.p.received_param}="{b.received}"'
        if b.instance:
            out += f';+sip.instance="{b.instance}"'
            if self.p.gruu_enabled and self._supports(ctx, "gruu"):
                out += self._gruu(aor_uri, b)
        if b.reg_id:
            out += f";reg-id={b.reg_id}"
        return out

    @staticmethod
    def _supports(ctx: Ctx, option: str) -> bool:
        return any(option in [t.strip().lower() for t in h[2].split(",")] for h in ctx.msg.all("supported"))

    def _gruu(self, aor_uri: str, b: Binding) -> str:
        """Public and temporary GRUU (RFC 5627 section 5)."""
        uri = parse_uri(aor_uri)
        if uri is None:
            return ""
        instance = b.instance.strip("<>")
        return f';pub-gruu="sip:{uri.user}@{uri.host};gr={instance}";temp-gruu="sip:{b.ruid}@{uri.host};gr"'

    def _reply_headers(self, ctx: Ctx, domain: str, aor: str, uri: str, outbound: bool) -> None:
        bindings = self.usrloc.bindings(domain, aor)
        if bindings:
            self.keep_record(ctx, bindings[-1])
            text = ", ".join(self._contact_text(ctx, uri, b) for b in bindings)
            ctx.reply_headers = [*(ctx.reply_headers or []), f"Contact: {text}\r\n"]
        if self.p.use_path and self.p.path_mode and self._supports(ctx, "path") and "path" in ctx.msg.first:
            ctx.reply_headers = [*(ctx.reply_headers or []), *(f"Path: {h[2].strip()}\r\n" for h in ctx.msg.all("path"))]
        lines = self._outbound_headers(wanted=outbound)
        if lines:
            ctx.reply_headers = [*(ctx.reply_headers or []), *lines]

    def _refuse(self, ctx: Ctx, key: str, flags: int) -> int:
        code, reason, text = ERRORS[key]
        self.rt.counters.add("registrar", "rejected_regs")
        if flags & NO_REPLY:
            return -1
        lines = [f"P-Registrar-Error: {text}\r\n"] if text else []
        if key == "brief":
            lines.append(f"Min-Expires: {self.p.min_expires}\r\n")
        if key == "path":
            lines.append("Unsupported: path\r\n")
        if key == "no_outbound":
            lines.insert(0, "Unsupported: outbound\r\n")
        if key == "outbound_required":
            lines = ["Require: outbound\r\n", "Supported: outbound\r\n", *lines]
        if key == "too_many" and self.p.retry_after:
            lines.append(f"Retry-After: {self.p.retry_after}\r\n")
        ctx.reply_headers = [*(ctx.reply_headers or []), *lines]
        self.sl.send_reply(ctx, code, reason)
        return -1

    @function(Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY)
    def save(self, ctx: Ctx, domain: Location, flags: Lit = "0", uri: str = "") -> int:
        """Process a REGISTER. 1 new, 2 refreshed, 3 removed, 4 only asked; -1 refused, which is answered already unless flag 0x02."""
        number = int(flags, 0) if flags else 0
        to = ctx.msg.to
        aor_uri = uri or (to.uri if to is not None else "")
        aor = self.usrloc.aor_of(aor_uri)
        if aor is None:
            return self._refuse(ctx, "to", number)
        if len(aor) > _LONGEST_AOR:
            return self._refuse(ctx, "aor_length", number)
        try:
            outbound = self._check_outbound(ctx)
            contacts = self._contacts(ctx)
            if contacts is None:
                for b in self.usrloc.bindings(domain, aor):
                    self.usrloc.notify("delete", aor, b)
                self.usrloc.store(domain, aor, [])
                result = 3
            elif not contacts:
                result = 4
            else:
                result = self._update(ctx, domain, aor, contacts, number)
        except SaveError as err:
            return self._refuse(ctx, err.key, number)
        self.rt.counters.add("registrar", "accepted_regs")
        if not number & NO_REPLY:
            self._reply_headers(ctx, domain, aor, aor_uri, outbound)
            self.sl.send_reply(ctx, 200, "OK")
        else:
            ctx.remember("reg_reply", (domain, aor, aor_uri, outbound))
        return result

    @function(Routes.REQUEST | Routes.FAILURE)
    def reg_send_reply(self, ctx: Ctx) -> int:
        """The reply that save() with flag 0x02 has left out."""
        held = ctx.recall("reg_reply")
        if held is None:
            return -1
        self._reply_headers(ctx, *held)
        return int(self.sl.send_reply(ctx, 200, "OK"))

    @function(Routes.REQUEST)
    def add_sock_hdr(self, ctx: Ctx, hdr_name: str) -> int:
        """A header that names the receiving socket."""
        at = ctx.msg.body_start - 2
        ctx.add_edit(at, at, f"{hdr_name}: {ctx.flow.listener}\r\n")
        return 1

    @function(ANY)
    def unregister(self, ctx: Ctx, domain: Location, uri: str, ruid: str = "") -> int:
        """Remove an address of record, or the one contact with that ruid."""
        aor = self.usrloc.aor_of(uri) if uri else None
        if ruid:
            for key, held in list(self.usrloc.table(domain).scan()):
                kept = [b for b in held if b.ruid != ruid]
                if len(kept) != len(held) and (aor is None or key == aor):
                    self.usrloc.store(domain, key, kept)
                    return 1
            return -1
        if aor is None or not self.usrloc.bindings(domain, aor):
            return -1
        self.usrloc.store(domain, aor, [])
        return 1

