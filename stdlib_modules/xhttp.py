"""Module xhttp: HTTP requests on the TCP sockets of the configuration, handed to ``event_route[xhttp:request]``.

A request looks like a message to the script: ``$rm`` is the method, ``$hu`` the URL, ``$rb`` the body, ``$hdr(...)`` its headers. A Via
header with the peer's address is put in, as Kamailio does. Messages without Content-Length need ``tcp_accept_no_cl=yes``.
"""

from __future__ import annotations

from kamc.declare import Module, function, pv, transformation
from kamc.declare.routes import Routes
from kamc.declare.values import Value, to_str
from kamc.errors import ConfigError
from kamc.runtime import http
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import Flow
from kamc.runtime.sip.message import SipMessage, parse_message

_EVENT = ("event", "xhttp:request")


class Xhttp(Module):
    name = "xhttp"
    depends = ("sl",)

    class Params:
        url_match: str = ""
        url_skip: str = ""

    def mod_init(self) -> None:
        self.match = self.rt.regex(self.p.url_match) if self.p.url_match else None
        self.skip = self.rt.regex(self.p.url_skip) if self.p.url_skip else None
        if _EVENT not in self.rt.functions:
            raise ConfigError("xhttp: the configuration has no event_route[xhttp:request]")
        self.rt.hooks.http.append(self.request)

    def request(self, msg: SipMessage, flow: Flow) -> bool:
        """Run the event route over an HTTP request. False for one that is not for us."""
        url = msg.uri
        if "transfer-encoding" in msg.first:
            # where such a body ends is not what Content-Length says: nothing that follows can be trusted (RFC 9112 section 6.3)
            http.answer(Ctx(self.rt, msg, flow, Routes.REQUEST), 501, "Not Implemented", close=True)
            return True
        if (self.skip is not None and self.skip.test(url)) or (self.match is not None and not self.match.test(url)):
            return False
        via = f"Via: SIP/2.0/{flow.proto.upper()} {flow.remote_ip}:{flow.remote_port}\r\n"
        seen = parse_message(msg.text[: msg.first_line_end] + via + msg.text[msg.first_line_end :])
        ctx = Ctx(self.rt, seen, flow, Routes.REQUEST)
        ctx.remember("answer_500", lambda ctx: self.xhttp_reply(ctx, 500, "Internal Server Error", "", ""))
        self.rt.datapath.run_request(self.rt.functions[_EVENT], ctx)
        return True

    @pv("hu")
    def pv_hu(self, ctx: Ctx) -> str | None:
        """The URL of an HTTP request."""
        return ctx.msg.uri if http.is_http(ctx) else None

    @function(Routes.REQUEST)
    def xhttp_reply(self, ctx: Ctx, code: int, reason: str, ctype: str, body: str) -> int:
        """Answer the HTTP request of ``event_route[xhttp:request]``; a second answer is not sent."""
        if not 100 <= code <= 699 or not reason:
            self.rt.log.error("xhttp_reply: a code from 100 to 699 and a reason are needed, not %d %r", code, reason)
            return -1
        if not http.is_http(ctx):
            self.rt.log.error("xhttp_reply: not in an HTTP request")
            return -1
        try:
            http.answer(ctx, code, reason, f"Content-Type: {ctype}\r\n" if ctype else "", body)
        except OSError as err:
            self.rt.log.error("xhttp_reply: %s", err.strerror or err)
            return -1
        return 1

    # -- transformations -------------------------------------------------------------------------------------------------

    @staticmethod
    @transformation("url.path")
    def url_path(value: Value) -> Value:
        return to_str(value).partition("?")[0]

    @staticmethod
    @transformation("url.querystring")
    def url_querystring(value: Value) -> Value:
        return to_str(value).partition("?")[2]


module = Xhttp
