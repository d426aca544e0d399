"""Module xmlrpc: RPC commands as XML-RPC over HTTP, on the TCP and TLS sockets of the configuration.

https://www.kamailio.org/docs/modules/stable/modules/xmlrpc.html. Requests run the block that parameter ``route`` names, which calls ``dispatch_rpc()``, or are
answered at once. Answers are laid out as Kamailio's. A document with a DOCTYPE is refused.
"""

from __future__ import annotations

from typing import Any, Final
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape
from xmlrpc.client import Error, loads

from kamc.declare import Module, function
from kamc.declare.argtypes import Lit
from kamc.declare.routes import Routes
from kamc.declare.values import parse_int
from kamc.errors import ConfigError
from kamc.runtime import http
from kamc.runtime.context import Ctx
from kamc.runtime.net.endpoint import Flow
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.message import SipMessage, parse_message

_PROLOGUE: Final = '<?xml version="1.0"?>\n<methodResponse>\n'
#: what the route sees as the R-URI of an HTTP request, as with Kamailio
_URI: Final = "sip:127.0.0.1:9"
#: autoconversion: numbers of what should be texts, and the other way round
_AUTO: Final = 1
#: numbers of XML-RPC have 32 bits
_INT_BITS: Final = 31


class DocumentError(ValueError):
    """What came is no call."""


def read_call(body: str) -> tuple[str, list[Any]]:
    """The command and its parameters: numbers and texts. Raises DocumentError."""
    if "<!DOCTYPE" in body:
        raise DocumentError("a document with a DOCTYPE")
    try:
        params, name = loads(body.encode("latin-1", "replace"))
    except (ExpatError, Error, ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, OverflowError) as err:
        raise DocumentError(str(err)) from None
    if not name:
        raise DocumentError("there is no methodName")
    return str(name), [int(p) if isinstance(p, bool) else p for p in params if isinstance(p, bool | int | float | str)]


def _value(value: Any) -> str:
    if isinstance(value, bool | int):
        number = int(value)
        return f"<int>{number}</int>" if number.bit_length() <= _INT_BITS else f"<string>{number}</string>"
    if isinstance(value, float):
        return f"<double>{value}</double>"
    if isinstance(value, dict):
        return "<struct>" + "".join(f"<member><name>{escape(str(k))}</name><value>{_value(v)}</value></member>" for k, v in value.items()) + "</struct>"
    if isinstance(value, list | tuple):
        return "<array><data>\n" + "\n".join(f"<value>{_value(v)}</value>" for v in value) + "</data></array>"
    return f"<string>{escape(str('' if value is None else value))}</string>"


def response(result: Any) -> str:
    """An answer. The items of a list stand side by side."""
    if isinstance(result, list):
        inner = "<array><data>\n" + "".join(f"<value>{_value(v)}</value>\n" for v in result) + "</data></array></value>"
    else:
        inner = f"{_value('' if result is None else result)}\n</value>"
    return f"{_PROLOGUE}<params>\n<param>\n<value>{inner}\n</param>\n</params>\n</methodResponse>"


def fault(code: int, text: str) -> str:
    return (f"{_PROLOGUE}<fault>\n<value>\n<struct>\n<member>\n<name>faultCode</name>\n<value><int>{code}</int></value>\n</member>\n<member>\n"
            f"<name>faultString</name>\n<value><string>{escape(text)}</string></value>\n</member>\n</struct>\n</value>\n</fault>\n</methodResponse>")  # fmt: skip


class Xmlrpc(Module):
    name = "xmlrpc"
    depends = ("sl",)
    ignored_params = ("event_callback",)

    class Params:
        route: str = ""
        autoconversion: int = 0
        escape_cr: int = 1
        double_lf_to_crlf: int = 0
        mode: int = 0
        url_match: str = ""
        url_skip: str = ""

    def mod_init(self) -> None:
        p = self.p
        self.match = self.rt.regex(p.url_match) if p.url_match else None
        self.skip = self.rt.regex(p.url_skip) if p.url_skip else None
        self.block = self.rt.route_function("request", p.route) if p.route else None
        if p.route and self.block is None:
            raise ConfigError(f"xmlrpc: there is no route[{p.route}]")
        if p.mode & 1:
            # only dispatch_rpc(), called by the block of another module
            return
        self.rt.hooks.http.append(self.request)

    def request(self, msg: SipMessage, flow: Flow) -> bool:
        """Serve an HTTP request. False for one that is not for us."""
        url = msg.uri
        if msg.method not in ("POST", "GET") or (self.skip is not None and self.skip.test(url)) or (self.match is not None and not self.match.test(url)):
            return False
        if "transfer-encoding" in msg.first:
            # where such a body ends is not what Content-Length says: nothing that follows can be trusted (RFC 9112 section 6.3)
            http.answer(Ctx(self.rt, msg, flow, Routes.REQUEST), 501, "Not Implemented", close=True)
            return True
        via = f"Via: SIP/2.0/{flow.proto.upper()} {flow.remote_ip}:{flow.remote_port}\r\n"
        ctx = Ctx(self.rt, parse_message(msg.text[: msg.first_line_end] + via + msg.text[msg.first_line_end :]), flow, Routes.REQUEST)
        ctx.ruri = _URI
        if self.block is None:
            self.dispatch_rpc(ctx)
            return True
        ctx.remember("answer_500", lambda ctx: self._send(ctx, fault(500, "Internal Server Error")))
        self.rt.datapath.run_request(self.block, ctx)
        return True

    def _send(self, ctx: Ctx, body: str) -> int:
        if not http.is_http(ctx):
            self.rt.log.error("xmlrpc: not in an HTTP request")
            return -1
        try:
            http.answer(ctx, 200, "OK", "Content-Type: text/xml\r\n", body)
        except OSError as err:
            self.rt.log.error("xmlrpc: %s", err.strerror or err)
            return -1
        return 1

    def _params(self, params: list[Any]) -> list[Any]:
        out = []
        for value in params:
            if isinstance(value, str):
                text = value.encode("utf-8", "surrogateescape").decode("latin-1")
                if self.p.double_lf_to_crlf:
                    text = text.replace("\n\n", "\r\n")
                number = parse_int(text) if self.p.autoconversion & _AUTO else None
                out.append(text if number is None else number)
            else:
                out.append(value)
        return out

    @function(Routes.REQUEST, waits=True)
    def dispatch_rpc(self, ctx: Ctx) -> int:
        """Run the command of the request in hand and answer it."""
        try:
            name, params = read_call(ctx.msg.body)
        except DocumentError as err:
            self.rt.log.error("xmlrpc: no XML-RPC document: %s", err)
            return self._send(ctx, fault(400, "Invalid XML-RPC Document"))
        registry = self.rt.worker.rpc
        if name not in registry.commands:
            return self._send(ctx, fault(500, "Method Not Found"))
        try:
            text = response(registry.call(name, self._params(params)))
        except RpcFault as err:
            text = fault(err.code, err.text)
        except Exception as err:  # a command's bug must not end the worker
            self.rt.log.error("RPC %s failed: %r", name, err)
            text = fault(500, "Internal Server Error")
        return self._send(ctx, text.replace("\r", "&#xD;") if self.p.escape_cr else text)

    @function(Routes.REQUEST)
    def xmlrpc_reply(self, ctx: Ctx, code: Lit, reason: str) -> int:
        """Answer with a number below 300, else with a fault."""
        number = parse_int(code)
        if number is None:
            self.rt.log.error("xmlrpc_reply: %r is no number", code)
            return -1
        return self._send(ctx, response(1) if number < 300 else fault(number, reason))


module = Xmlrpc
