"""Module http_async_client: HTTP requests for which a transaction is set aside; a route goes on with it when the answer is there.
https://www.kamailio.org/docs/modules/stable/modules/http_async_client.html

A request suspends its transaction. A reply waits in its place, with everything that belongs to its transaction behind it. Without a transaction, or
with ``$http_req(suspend)`` 0, the script goes on at once and the route runs on its own."""

from __future__ import annotations

import importlib.util
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from kamc.declare import ANY, Module, Routes, function, pv, pv_class
from kamc.declare.pvspec import PvSpec
from kamc.declare.routes import Exit
from kamc.declare.values import Value, to_int, to_str
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from stdlib_modules.http_client.client import ERRORS, Result, Wish, fetch

#: keys of ``$http_req``; the last ones tune sockets that are not kept
_KEYS: Final = ("all", "hdr", "body", "method", "timeout", "suspend", "tls_client_cert", "tls_client_key", "tls_ca_path", "username", "password", "follow_redirect",
                "keepalive", "ka-idle", "ka-interval", "authmethod", "http_version")  # fmt: skip
_FIRST_STATUS: Final = 100
#: libcurl's number for a timeout
_TIMEOUT: Final = 28


@dataclass(slots=True)
class Wanted:
    """What ``$http_req`` says of the next request."""

    values: dict[str, Value] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """What the route sees. Times in microseconds."""

    result: Result
    ident: str
    took: int
    xdata: str = ""


class HttpAsyncClient(Module):
    name = "http_async_client"
    depends = ("tm", "pv")
    stats = {"http_async_client": ("requests", "replies", "errors", "timeouts")}
    tuning_params = ("workers", "hash_size", "memory_manager", "curl_verbose", "tcp_keepalive", "tcp_ka_idle", "tcp_ka_interval", "authmethod")

    class Params:
        connection_timeout: int = 500
        curl_follow_redirect: int = 0
        tls_verify_host: int = 1
        tls_verify_peer: int = 1
        tls_client_cert: str = ""
        tls_client_key: str = ""
        tls_ca_path: str = ""

    def mod_init(self) -> None:
        if importlib.util.find_spec("requests") is None:
            raise ConfigError("http_async_client needs requests: pip install 'kamc[http]'")
        if self.p.connection_timeout <= 0:
            raise ConfigError("http_async_client: connection_timeout is a number of milliseconds above 0")

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _wanted(self, ctx: Ctx) -> Wanted:
        found: Wanted | None = ctx.recall("http_async_wanted")
        if found is None:
            found = Wanted()
            ctx.remember("http_async_wanted", found)
        return found

    def _wish(self, values: dict[str, Value]) -> Wish:
        p = self.p
        certificate = to_str(values.get("tls_client_cert") or p.tls_client_cert)
        key = to_str(values.get("tls_client_key") or p.tls_client_key)
        verify: bool | str = to_str(values.get("tls_ca_path") or p.tls_ca_path) or True
        follow = values.get("follow_redirect", p.curl_follow_redirect)
        agent = self.rt.user_agent.partition(":")[2].strip() or "kamc"
        return Wish(to_int(values.get("timeout") or p.connection_timeout) / 1000, bool(to_int(follow)), 0, agent,
                    verify if p.tls_verify_peer else False, bool(p.tls_verify_host), (certificate, key) if certificate else None, "",
                    to_str(values.get("username") or ""), to_str(values.get("password") or ""))  # fmt: skip

    def _request(self, ctx: Ctx, url: str) -> Callable[[], Answer]:
        """What makes the request that $http_req describes, in a thread; the description is used up."""
        wanted = self._wanted(ctx)
        ctx.remember("http_async_wanted", Wanted())
        values, wish, ident = wanted.values, self._wish(wanted.values), secrets.token_hex(8)
        body = to_str(values.get("body") or "")
        method = to_str(values.get("method") or ("POST" if body else "GET")).upper()
        headers = {"User-Agent": wish.agent, "Accept": "*/*", "Accept-Encoding": "identity", **wanted.headers}
        ctx.remember("http_async_ident", ident)
        self.rt.counters.add("http_async_client", "requests")

        def work() -> Answer:
            began = time.monotonic()
            result = fetch(method if method.isalpha() else "GET", url, body, headers, wish)
            return Answer(result, ident, int((time.monotonic() - began) * 1e6))

        return work

    def _counted(self, answer: Answer) -> Answer:
        code = answer.result.code
        self.rt.counters.add("http_async_client", "replies" if code >= _FIRST_STATUS else "timeouts" if code == _TIMEOUT else "errors")
        return answer

    def _later(self, work: Callable[[], Answer], told: Callable[[Answer], None]) -> None:
        """Have a thread make the request; ``told`` is called in the worker."""
        found: list[Answer] = []

        def failed(err: BaseException) -> None:
            found.append(Answer(Result(56, why=str(err)), "", 0))

        self.rt.worker.waits.aside_of_runs(lambda: found.append(work()), failed, lambda: self.rt.worker.waits.run(told, self._counted(found[0])))

    def _query(self, ctx: Ctx, url: str, routename: str, *, suspend: bool, xdata: str = "") -> int:
        route = self.rt.route_function("request", routename)
        if route is None:
            self.rt.log.error("http_async_client: there is no route[%s]", routename)
            return -1
        set_aside = suspend and to_int(self._wanted(ctx).values.get("suspend", 1))
        work = self._request(ctx, url)

        def go_on(work_ctx: Ctx, answer: Answer) -> None:
            answer.xdata = xdata
            work_ctx.remember("http_async_answer", answer)
            route(work_ctx)

        if set_aside and not ctx.msg.is_request:
            answer = self._counted(self.rt.worker.waits.call(work, ctx=ctx))
            go_on(ctx, answer)
            raise Exit
        tm = self.rt.module("tm")
        t = tm.suspend(ctx) if set_aside and tm.current(ctx) is not None else None
        if t is None:
            self._later(work, lambda answer: self._alone(go_on, answer))
            return 1
        ident = t.hash_index, t.label

        def answered(answer: Answer) -> None:
            if self.rt.tm.find_id(*ident) is t:
                tm.resume(t, lambda work_ctx: go_on(work_ctx, answer))

        self._later(work, answered)
        raise Exit

    def _alone(self, go_on: Callable[[Ctx, Answer], None], answer: Answer) -> None:
        """The route over a made-up request: the script has gone on without it."""
        ctx = self.rt.worker.fake_context(Routes.REQUEST)
        self.rt.datapath.run(lambda work_ctx: go_on(work_ctx, answer), ctx)

    @function(ANY, waits=True)
    def http_async_query(self, ctx: Ctx, url: str, route_name: str) -> int:
        """Ends the script where it sets a transaction aside."""
        return self._query(ctx, url, route_name, suspend=True)

    @function(ANY, waits=True)
    def http_async_send(self, ctx: Ctx, url: str, route_name: str) -> int:
        """Never sets anything aside."""
        return self._query(ctx, url, route_name, suspend=False)

    @function(ANY, waits=True)
    def http_async_send_xdata(self, ctx: Ctx, url: str, route_name: str, xdata: str) -> int:
        """The same; ``$http_xdata`` of the route is the text."""
        return self._query(ctx, url, route_name, suspend=False, xdata=xdata)

    # -- the next request ------------------------------------------------------------------------------------------------

    @classmethod
    def check_pv_http_req(cls, spec: PvSpec) -> str | None:
        return None if spec.inner in _KEYS else f"the key is one of {' '.join(_KEYS)}"

    @pv_class("http_req", set=True)
    def pv_http_req(self, spec: PvSpec) -> BoundPv:
        key = spec.inner or ""

        def put(ctx: Ctx, value: Value) -> None:
            wanted = self._wanted(ctx)
            if key == "all":
                ctx.remember("http_async_wanted", Wanted())
            elif key == "hdr":
                name, colon, text = to_str(value or "").partition(":")
                if colon and name.strip():
                    wanted.headers[name.strip()] = text.strip().replace("\r", " ").replace("\n", " ")
            elif value is None:
                wanted.values.pop(key, None)
            else:
                wanted.values[key] = value

        return BoundPv(lambda ctx: self._wanted(ctx).values.get(key), put)

    # -- the answer ------------------------------------------------------------------------------------------------------

    def _result(self, ctx: Ctx) -> Result | None:
        answer: Answer | None = ctx.recall("http_async_answer")
        return answer.result if answer is not None else None

    @pv("http_ok")
    def pv_http_ok(self, ctx: Ctx) -> int | None:
        """1 when there is an answer, whatever it says."""
        found = self._result(ctx)
        return None if found is None else int(found.code >= _FIRST_STATUS)

    @pv("http_err")
    def pv_http_err(self, ctx: Ctx) -> str | None:
        found = self._result(ctx)
        return None if found is None or found.code >= _FIRST_STATUS else ERRORS.get(found.code, found.why)

    @pv("http_rs")
    def pv_http_rs(self, ctx: Ctx) -> int | None:
        found = self._result(ctx)
        return found.code if found is not None and found.code >= _FIRST_STATUS else None

    @pv("http_rr")
    def pv_http_rr(self, ctx: Ctx) -> str | None:
        found = self._result(ctx)
        return found.reason if found is not None and found.code >= _FIRST_STATUS else None

    @pv("http_rb")
    def pv_http_rb(self, ctx: Ctx) -> str | None:
        found = self._result(ctx)
        return found.text if found is not None and found.code >= _FIRST_STATUS else None

    @pv("http_bs")
    def pv_http_bs(self, ctx: Ctx) -> int | None:
        found = self._result(ctx)
        return len(found.text) if found is not None and found.code >= _FIRST_STATUS else None

    def _whole(self, found: Result) -> str:
        return f"HTTP/1.1 {found.code} {found.reason}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in found.headers.items()) + f"\r\n{found.text}"

    @pv("http_mb")
    def pv_http_mb(self, ctx: Ctx) -> str | None:
        found = self._result(ctx)
        return self._whole(found) if found is not None and found.code >= _FIRST_STATUS else None

    @pv("http_ml")
    def pv_http_ml(self, ctx: Ctx) -> int | None:
        found = self._result(ctx)
        return len(self._whole(found)) if found is not None and found.code >= _FIRST_STATUS else None

    @pv_class("http_hdr")
    def pv_http_hdr(self, spec: PvSpec) -> BoundPv:
        name = (spec.inner or "").strip().lower()

        def get(ctx: Ctx) -> Value:
            found = self._result(ctx)
            return next((v for k, v in found.headers.items() if k.lower() == name), None) if found is not None else None

        return BoundPv(get)

    @pv_class("http_time")
    def pv_http_time(self, spec: PvSpec) -> BoundPv:
        """Only ``total``: requests does not say what the parts took."""

        def get(ctx: Ctx) -> Value:
            answer: Answer | None = ctx.recall("http_async_answer")
            return answer.took if answer is not None else None

        return BoundPv(get)

    @classmethod
    def check_pv_http_time(cls, spec: PvSpec) -> str | None:
        return None if spec.inner == "total" else "kamc knows only total"

    @pv("http_req_id")
    def pv_http_req_id(self, ctx: Ctx) -> str | None:
        answer: Answer | None = ctx.recall("http_async_answer")
        if answer is not None:
            return answer.ident
        value: str | None = ctx.recall("http_async_ident")
        return value

    @pv("http_xdata")
    def pv_http_xdata(self, ctx: Ctx) -> str | None:
        answer: Answer | None = ctx.recall("http_async_answer")
        return answer.xdata if answer is not None else None


module = HttpAsyncClient
