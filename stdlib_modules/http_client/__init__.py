"""Module http_client: HTTP requests of routes, which wait for the answer and hold up nobody. https://www.kamailio.org/docs/modules/stable/modules/http_client.html

Return codes are those of the answer, or libcurl's for what went wrong, as recorded from Kamailio 5.6.3 (tests/unit/test_http_client.py)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from kamc.declare import Module, Routes, function, modparam, pv_class, rpc
from kamc.declare.argtypes import Lit, PvArg
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.fault import RpcFault
from stdlib_modules.http_client.client import ERRORS, Result, Wish, fetch

_RFORB = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH
#: answers from here on give no text
_SERVER_ERROR: Final = 500
#: what may stand behind a URL of httpcon
_OPTIONS: Final = frozenset({
    "timeout", "httpredirect", "maxdatasize", "useragent", "verify_peer", "verify_host", "username", "password", "httpproxy", "clientcert", "clientkey", "cacert",
})  # fmt: skip
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(slots=True)
class Target:
    """A connection of parameter ``httpcon``."""

    name: str
    url: str
    options: dict[str, str]
    wish: Wish = None  # type: ignore[assignment]
    #: where its last request went in the end
    last: str = ""


class HttpClient(Module):
    name = "http_client"
    stats = {"httpclient": ("connections", "connok", "connfail")}
    tuning_params = ("keep_connections",)

    class Params:
        connection_timeout: int = 4
        timeout_mode: int = 1
        cacert: str = ""
        client_cert: str = ""
        client_key: str = ""
        verify_peer: int = 1
        verify_host: int = 2
        httpproxy: str = ""
        httpproxyport: int = 0
        httpredirect: int = 0
        useragent: str = ""
        maxdatasize: int = 0
        query_result: int = 1
        query_maxdatasize: int = 0

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        self.targets: dict[str, Target] = {}

    @modparam("httpcon")
    def set_target(self, text: str) -> None:
        """``name=>url;option=value;…``."""
        name, arrow, rest = text.partition("=>")
        url, *options = rest.split(";")
        parts = urlsplit(url.strip())
        if not arrow or not name.strip() or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{text!r}: the form is NAME=>http://host/path;option=value")
        values = dict(o.strip().partition("=")[::2] for o in options if o.strip())
        if set(values) - _OPTIONS:
            raise ValueError(f"{text!r}: {', '.join(sorted(set(values) - _OPTIONS))} is not known: {', '.join(sorted(_OPTIONS))} are")
        if parts.username:
            values.setdefault("username", unquote(parts.username))
            values.setdefault("password", unquote(parts.password or ""))
        host = parts.netloc.rpartition("@")[2]
        self.targets[name.strip()] = Target(name.strip(), urlunsplit((parts.scheme, host, parts.path, "", "")), values)

    def mod_init(self) -> None:
        if importlib.util.find_spec("requests") is None:
            raise ConfigError("http_client needs requests: pip install 'kamc[http]'")
        p = self.p
        if p.timeout_mode not in (0, 1, 2):
            raise ConfigError("http_client: timeout_mode is 0 (none), 1 (seconds) or 2 (milliseconds)")
        agent = p.useragent or self.rt.user_agent.partition(":")[2].strip() or "kamc"
        proxy = f"http://{p.httpproxy}:{p.httpproxyport or 3128}" if p.httpproxy else ""
        seconds = (0.0, float(p.connection_timeout), p.connection_timeout / 1000)[p.timeout_mode]
        own = (p.client_cert, p.client_key) if p.client_cert else None
        self.wish = Wish(seconds, bool(p.httpredirect), p.query_maxdatasize or p.maxdatasize, agent, (p.cacert or True) if p.verify_peer else False,
                         bool(p.verify_host), own, proxy)  # fmt: skip
        for target in self.targets.values():
            target.wish = self._of(target.options)

    def _of(self, options: dict[str, str]) -> Wish:
        """Raises ConfigError."""
        wish = replace(self.wish, most=self.p.maxdatasize, user=options.get("username", ""), password=options.get("password", ""))
        try:
            if "timeout" in options:
                wish.seconds = float(options["timeout"]) / (1000 if self.p.timeout_mode == 2 else 1)
            wish.redirects = bool(int(options.get("httpredirect", int(wish.redirects))))
            wish.most = int(options.get("maxdatasize", wish.most))
            if not int(options.get("verify_peer", int(wish.verify is not False))):
                wish.verify = False
            wish.named = bool(int(options.get("verify_host", int(wish.named))))
        except ValueError as err:
            raise ConfigError(f"http_client: httpcon: {err}") from None
        wish.agent = options.get("useragent", wish.agent)
        if "cacert" in options and wish.verify is not False:
            wish.verify = options["cacert"]
        if "clientcert" in options:
            wish.certificate = (options["clientcert"], options.get("clientkey", ""))
        if "httpproxy" in options:
            wish.proxy = f"http://{options['httpproxy'].removeprefix('http://')}"
        return wish

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _ask(self, method: str, url: str, body: str, headers: dict[str, str], wish: Wish) -> Result:
        """The run waits, the worker does not."""
        sent = {"User-Agent": wish.agent, "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        result: Result = self.rt.worker.waits.call(fetch, method, url, body, sent, wish)
        self.rt.counters.add("httpclient", "connok" if result.code >= 100 else "connfail")
        if result.code < 100:
            self.rt.log.warning("http_client: %s: %s (%s)", url, ERRORS.get(result.code, "failed"), result.why)
        return result

    @staticmethod
    def _headers(text: str) -> dict[str, str]:
        """Lines of a text. One that is no header is left out."""
        found = {}
        for line in text.replace("\r\n", "\n").split("\n"):
            name, colon, value = line.partition(":")
            if colon and name.strip() and name.strip().isascii():
                found[name.strip()] = value.strip()
        return found

    def _query(self, ctx: Ctx, method: str, url: str, body: str, headers: str, result: PvArg) -> int:
        given = self._headers(headers)
        if body and not any(name.lower() == "content-type" for name in given):
            given["Content-Type"] = _FORM
        answer = self._ask(method, url, body, given, self.wish)
        text = answer.text if answer.code < _SERVER_ERROR else ""
        if self.p.query_result:
            text = text.partition("\n")[0]
        if result.set is not None:
            result.set(ctx, text)
        return answer.code

    @function(_RFORB, "http_client_query", waits=True)
    def query_get(self, ctx: Ctx, url: str, result: PvArg) -> int:
        return self._query(ctx, "GET", url, "", "", result)

    @function(_RFORB, "http_client_query", waits=True)
    def query_post(self, ctx: Ctx, url: str, post_data: str, result: PvArg) -> int:
        """With data it is a POST."""
        return self._query(ctx, "POST" if post_data else "GET", url, post_data, "", result)

    @function(_RFORB, "http_client_query", waits=True)
    def query_headers(self, ctx: Ctx, url: str, post_data: str, hdrs: str, result: PvArg) -> int:
        return self._query(ctx, "POST" if post_data else "GET", url, post_data, hdrs, result)

    @function(_RFORB, waits=True)
    def http_client_get(self, ctx: Ctx, url: str, body: str, hdrs: str, respv: PvArg) -> int:
        return self._query(ctx, "GET", url, body, hdrs, respv)

    @function(_RFORB, waits=True)
    def http_client_request(self, ctx: Ctx, met: str, url: str, body: str, hdrs: str, respv: PvArg) -> int:
        """Any method."""
        if not met.isalpha():
            self.rt.log.error("http_client_request: %r is no method", met)
            return -1
        return self._query(ctx, met.upper(), url, body, hdrs, respv)

    # -- named connections -----------------------------------------------------------------------------------------------

    def _connect(self, ctx: Ctx, name: str, path: str, content_type: str, data: str, result: PvArg) -> int:
        target = self.targets.get(name)
        if target is None:
            self.rt.log.error("http_connect: there is no connection %s", name)
            return -1
        url = f"{target.url.rstrip('/')}/{path.lstrip('/')}" if path else target.url
        answer = self._ask("POST" if data else "GET", url, data, {"Content-Type": content_type or _FORM} if data else {}, target.wish)
        target.last = answer.url
        if result.set is not None:
            result.set(ctx, answer.text)
        return answer.code

    @function(_RFORB, "http_connect", waits=True)
    def connect_get(self, ctx: Ctx, connection: Lit, url: str, result: PvArg) -> int:
        return self._connect(ctx, connection, url, "", "", result)

    @function(_RFORB, "http_connect", waits=True)
    def connect_post(self, ctx: Ctx, connection: Lit, url: str, content_type: Lit, data: str, result: PvArg) -> int:
        return self._connect(ctx, connection, url, content_type, data, result)

    @function(_RFORB, waits=True)
    def http_connect_raw(self, ctx: Ctx, connection: Lit, url: str, content_type: Lit, data: Lit, result: PvArg) -> int:
        """The data is sent as it stands."""
        return self._connect(ctx, connection, url, content_type, data, result)

    @function(_RFORB)
    def http_get_redirect(self, ctx: Ctx, connection: Lit, result: PvArg) -> int:
        """Where the last request of a connection went in the end."""
        target = self.targets.get(connection)
        if target is None or not target.last or result.set is None:
            return -1
        result.set(ctx, target.last)
        return 1

    @pv_class("curlerror")
    def pv_curlerror(self, spec: PvSpec) -> BoundPv:
        """Words for a return code below 100."""
        number = self.rt.format(spec.inner or "")

        def get(ctx: Ctx) -> Value:
            text = number(ctx).strip()
            return ERRORS.get(int(text), "Unknown error") if text.isdecimal() else None

        return BoundPv(get)

    @rpc("httpclient.listcon")
    def rpc_list(self) -> list[dict[str, Any]]:
        """The named connections."""
        if not self.targets:
            raise RpcFault(500, "No connections defined")
        return [{"connection": {"name": t.name, "url": t.url, "username": t.wish.user, "timeout": t.wish.seconds, "useragent": t.wish.agent}}
                for t in self.targets.values()]  # fmt: skip


module = HttpClient
