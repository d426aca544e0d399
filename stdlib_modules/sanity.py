"""Module sanity: checks of requests and replies, each a bit. https://www.kamailio.org/docs/modules/stable/modules/sanity.html"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from kamc.declare import Exit, Module, Routes, function
from kamc.errors import SipError
from kamc.runtime.context import Ctx
from kamc.runtime.sip.addr import parse_addr, parse_addr_list
from kamc.runtime.sip.uri import parse_uri

_RO = Routes.REQUEST | Routes.ONREPLY
#: a check that failed, of which the sender hears nothing
_NO_ANSWER: Final = (0, "")
_CREDENTIAL: Final = re.compile(r'([A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^,\s]*))')
_REQUIRED: Final = ("via", "from", "to", "call-id", "cseq")

#: what a check gives: None when fine, else status and reason of the reply
Finding = tuple[int, str] | None


class Sanity(Module):
    name = "sanity"
    depends = ("sl",)

    class Params:
        default_checks: int = 3047
        uri_checks: int = 7
        proxy_require: str = ""
        autodrop: int = 1
        noreply: int = 0
        size_checks: int = 0
        size_message: int = 16384
        size_method: int = 32
        size_ruri: int = 256
        size_from_uri: int = 256
        size_to_uri: int = 256
        size_contact_uri: int = 256
        size_route_uri: int = 256
        size_path_uri: int = 256
        size_pai_uri: int = 256
        size_header: int = 2048
        size_headers: int = 8192
        size_body: int = 8192

    def mod_init(self) -> None:
        self.sizes = self._size_limits()
        self.extensions = {x.strip().lower() for x in self.p.proxy_require.split(",") if x.strip()}
        #: bit → check, in the order in which they run
        self.table: tuple[tuple[int, Callable[[Ctx, int], Finding]], ...] = (
            (1, self.ruri_sip_version), (2, self.ruri_scheme), (4, self.required_headers), (8, self.via_sip_version), (16, self.via_protocol),
            (32, self.cseq_method), (64, self.cseq_value), (128, self.content_length), (256, self.expires_value), (512, self.proxy_require),
            (1024, self.parse_uris), (2048, self.digest), (4096, self.duptags), (8192, self.authorization), (16384, self.via1_header),
        )  # fmt: skip

    # -- sizes -----------------------------------------------------------------------------------------------------------

    def _size_limits(self) -> list[tuple[int, Callable[[Ctx], Iterable[int]], Finding]]:
        """(most bytes, the sizes of a message, what to answer) for each bit of ``size_checks``, which count in the order of the parameters."""
        p = self.p

        def uris(key: str) -> Callable[[Ctx], Iterable[int]]:
            return lambda ctx: (len(a.uri) for h in ctx.msg.all(key) for a in parse_addr_list(h[2]) or ())

        table: tuple[tuple[int, Callable[[Ctx], Iterable[int]], tuple[int, str]], ...] = (
            (p.size_message, lambda ctx: (len(ctx.msg.text),), (513, "Message Too Large")),
            (p.size_method, lambda ctx: (len(ctx.msg.method) if ctx.msg.is_request else 0,), (400, "Method Too Long")),
            (p.size_ruri, lambda ctx: (len(ctx.msg.uri) if ctx.msg.is_request else 0,), (414, "Request-URI Too Long")),
            (p.size_from_uri, uris("from"), (400, "From URI Too Long")), (p.size_to_uri, uris("to"), (400, "To URI Too Long")),
            (p.size_contact_uri, uris("contact"), (400, "Contact URI Too Long")), (p.size_route_uri, uris("route"), (400, "Route URI Too Long")),
            (p.size_path_uri, uris("path"), (400, "Path URI Too Long")), (p.size_pai_uri, uris("p-asserted-identity"), (400, "PAI URI Too Long")),
            (p.size_header, lambda ctx: (h[4] - h[3] for h in ctx.msg.headers), (400, "Header Too Long")),
            (p.size_headers, lambda ctx: (ctx.msg.body_start - ctx.msg.first_line_end,), (400, "Headers Too Long")),
            (p.size_body, lambda ctx: (len(ctx.msg.body),), (413, "Request Entity Too Large")),
        )  # fmt: skip
        return [row for bit, row in enumerate(table) if p.size_checks >> bit & 1]

    def _too_large(self, ctx: Ctx) -> Finding:
        return next((finding for limit, sizes, finding in self.sizes if any(size > limit for size in sizes(ctx))), None)

    # -- checks ----------------------------------------------------------------------------------------------------------

    def ruri_sip_version(self, ctx: Ctx, uris: int) -> Finding:
        return None if not ctx.msg.is_request or ctx.msg.version.upper() == "SIP/2.0" else (505, "Version Not Supported (R-URI)")

    def ruri_scheme(self, ctx: Ctx, uris: int) -> Finding:
        return None if not ctx.msg.is_request or parse_uri(ctx.msg.uri) is not None else (400, "Bad Request URI")

    def required_headers(self, ctx: Ctx, uris: int) -> Finding:
        return None if all(key in ctx.msg.first for key in _REQUIRED) else (400, "Missing Required Header in Request")

    def via_sip_version(self, ctx: Ctx, uris: int) -> Finding:
        return None

    def via_protocol(self, ctx: Ctx, uris: int) -> Finding:
        return None

    def cseq_method(self, ctx: Ctx, uris: int) -> Finding:
        header = ctx.msg.first.get("cseq")
        if header is None:
            return None
        if not ctx.msg.is_request:
            return None if ctx.msg.cseq[1] else (400, "CSeq method is missing")
        return None if ctx.msg.cseq[1] == ctx.msg.method else (400, "CSeq method does not match request method")

    def cseq_value(self, ctx: Ctx, uris: int) -> Finding:
        header = ctx.msg.first.get("cseq")
        if header is None:
            return None
        number = header[2].split()[0] if header[2].split() else ""
        return None if number.isdecimal() and int(number) <= 1 << 32 else (400, "CSeq number is illegal")

    def content_length(self, ctx: Ctx, uris: int) -> Finding:
        header = ctx.msg.first.get("content-length")
        if header is None:
            return None
        if ctx.msg.open_ended:
            return 400, "Content-Length Body Failure"
        length = ctx.msg.content_length
        return None if length is not None and length == len(ctx.msg.body) else (400, "Content-Length mis-match")

    def expires_value(self, ctx: Ctx, uris: int) -> Finding:
        value = ctx.msg.value("expires")
        if value is None:
            return None
        text = value.strip()
        return None if text.isdecimal() and int(text) < 1 << 32 else (400, "Expires value is illegal")

    def proxy_require(self, ctx: Ctx, uris: int) -> Finding:
        if not ctx.msg.is_request:
            return None
        wanted = [x.strip() for h in ctx.msg.all("proxy-require") for x in h[2].split(",") if x.strip()]
        unknown = [x for x in wanted if x.lower() not in self.extensions]
        if not unknown:
            return None
        ctx.reply_headers = [*(ctx.reply_headers or []), f"Unsupported: {', '.join(unknown)}\r\n"]
        return 420, "Bad Extension"

    def parse_uris(self, ctx: Ctx, uris: int) -> Finding:
        msg = ctx.msg
        if uris & 1 and msg.is_request and parse_uri(ctx.ruri) is None:
            return 400, "Bad Request URI"
        for bit, key, label in ((2, "from", "From"), (4, "to", "To")):
            if uris & bit:
                address = msg.address(key)
                if address is None or parse_uri(address.uri) is None or not ctx.msg.has_good_address(key):
                    return 400, f"Bad {label} URI"
        if uris & 8:
            for header in msg.all("contact"):
                if header[2].strip() == "*":
                    continue
                addresses = parse_addr_list(header[2])
                if addresses is None or any(parse_uri(a.uri) is None for a in addresses):
                    return 400, "Bad Contact URI"
        return None

    def digest(self, ctx: Ctx, uris: int) -> Finding:
        """Credentials of other schemes than Digest fail without an answer, as in Kamailio."""
        for key in ("authorization", "proxy-authorization"):
            for header in ctx.msg.all(key):
                if not header[2].lower().startswith("digest "):
                    return _NO_ANSWER
                found = {m.group(1).lower(): m.group(2) if m.group(2) is not None else m.group(3) for m in _CREDENTIAL.finditer(header[2][6:])}
                if not found:
                    return 400, "Bad Auth Header"
                if any(not found.get(name) for name in ("username", "nonce", "response")):
                    return 400, "Bad Auth Credentials"
        return None

    def duptags(self, ctx: Ctx, uris: int) -> Finding:
        for key, label in (("from", "From"), ("to", "To")):
            header = ctx.msg.first.get(key)
            address = parse_addr(header[2]) if header is not None else None
            if address is not None and len([p for p in address.params.split(";") if p.strip().lower().startswith("tag=")]) > 1:
                return 400, f"Multiple {label} Tags"
        return None

    def authorization(self, ctx: Ctx, uris: int) -> Finding:
        return self.digest(ctx, uris)

    def via1_header(self, ctx: Ctx, uris: int) -> Finding:
        """The first Via of a reply is ours and there is at least one more."""
        try:
            return None if ctx.msg.via1 else (400, "Bad Via")
        except SipError:
            return 400, "Bad Via"

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(_RO)
    def sanity_check(self, ctx: Ctx, msg_checks: int = -1, uri_checks: int = -1) -> int:
        """Run the checks of a mask. A failed one is answered, and with autodrop ends the script."""
        mask = self.p.default_checks if msg_checks < 0 else msg_checks
        uris = self.p.uri_checks if uri_checks < 0 else uri_checks
        finding = self._too_large(ctx) if self.sizes else None
        if finding is not None:
            return self._failed(ctx, finding)
        for bit, check in self.table:
            if mask & bit:
                finding = check(ctx, uris)
                if finding is not None:
                    return self._failed(ctx, finding)
        return 1

    def _failed(self, ctx: Ctx, finding: tuple[int, str]) -> int:
        ctx.remember("sanity", finding)
        if finding is not _NO_ANSWER and not self.p.noreply and ctx.msg.is_request and ctx.msg.method != "ACK":
            self._reply(ctx, finding)
        if self.p.autodrop:
            raise Exit
        return -1

    def _reply(self, ctx: Ctx, finding: tuple[int, str]) -> int:
        try:
            return int(self.rt.module("sl").stateless(ctx, *finding))
        except SipError:
            return -1

    @function(_RO)
    def sanity_reply(self, ctx: Ctx) -> int:
        """Send the reply that a failed check has prepared (with noreply=1)."""
        finding = ctx.recall("sanity")
        if finding is None or finding is _NO_ANSWER or not ctx.msg.is_request or ctx.msg.method == "ACK":
            return -1
        return self._reply(ctx, finding)


module = Sanity

