"""Module pua_rpc: publications and subscriptions by command. https://www.kamailio.org/docs/modules/stable/modules/pua_rpc.html

Unlike Kamailio's, a second ``pua.subscribe`` for the same watcher refreshes the first one, and one with 0 seconds ends it.
"""

from __future__ import annotations

from typing import Any, Final

from kamc.declare import Module, rpc
from kamc.declare.values import parse_int
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.pua.publish import ETagError, Publication, PublishError
from stdlib_modules.pua.records import EVENTS
from stdlib_modules.pua.subscribe import Wish

#: whose publications these are, as column ``flag`` of table pua says: with an answer and without
_ANSWERED, _SENT, _SUBSCRIBED = 128, 64, 32
_NOTHING: Final = "."
_FAILED: Final = "I'm terribly sorry, server error occurred (1/RPC/PUBLISH)"


def _given(text: str) -> str:
    return "" if text == _NOTHING else text


def _seconds(text: str) -> int:
    """Raises RpcFault."""
    found = parse_int(text.strip())
    if found is None or found < -1:
        raise RpcFault(400, f"Invalid expires value '{text}'")
    return found


class PuaRpc(Module):
    name = "pua_rpc"
    depends = ("pua",)

    def _publication(self, flag: int, values: tuple[str, ...], answered: Any = None) -> Publication:
        uri, expires, event, content_type, ident, etag, proxy, headers, body = (str(value) for value in values)
        if parse_uri(uri) is None:
            raise RpcFault(400, f"Invalid presentity uri '{uri}'")
        seconds = _seconds(expires)
        if event not in EVENTS:
            raise RpcFault(400, "Unknown event")
        if _given(body) and not _given(content_type):
            raise RpcFault(400, "Body parameter is present, but content type is missing")
        if _given(proxy) and parse_uri(proxy) is None:
            raise RpcFault(400, f"Invalid outbound proxy uri '{proxy}'")
        extra = _given(headers)
        return Publication(uri, event, flag, _given(ident), seconds, _given(body) or None, _given(content_type), extra + "\r\n" * (bool(extra) and extra[-1] != "\n"),
                           _given(proxy), _given(etag), answered=answered)  # fmt: skip

    def _publish(self, what: Publication) -> bool:
        try:
            return bool(self.rt.module("pua").publish(what))
        except ETagError as err:
            raise RpcFault(500, str(err)) from None
        except PublishError as err:
            self.rt.log.error("pua_rpc: %s", err)
            raise RpcFault(500, _FAILED) from None

    @rpc("pua.publish")
    def rpc_publish(self, uri: str, expires: str, event: str, content_type: str, ident: str, etag: str, outbound_proxy: str, headers: str,
                    body: str) -> dict[str, Any]:  # fmt: skip
        """Publish, and wait for the answer: its ETag and seconds. ``.`` stands for what is not given."""
        waits = self.rt.worker.waits
        if waits.job is None:
            raise RpcFault(600, "Reply wait/async mode not supported by this rpc transport")
        answers: list[tuple[int, str, int]] = []
        resume: list[Any] = []

        def answered(code: int, etag: str, seconds: int) -> None:
            answers.append((code, etag, seconds))
            if resume:
                resume[0]()

        what = self._publication(_ANSWERED, (uri, expires, event, content_type, ident, etag, outbound_proxy, headers, body), answered)
        if not self._publish(what):
            return {}
        if not answers:
            waits.wait(resume.append)
        code, found, seconds = answers[0]
        return {"SIP-ETag": found, "Expires": seconds} if code < 300 and found else {}

    @rpc("pua.send_publish")
    def rpc_send(self, uri: str, expires: str, event: str, content_type: str, ident: str, etag: str, outbound_proxy: str, headers: str, body: str) -> None:
        """Publish, and answer at once."""
        self._publish(self._publication(_SENT, (uri, expires, event, content_type, ident, etag, outbound_proxy, headers, body)))

    @rpc("pua.subscribe", wrong="Not enough parameters")
    def rpc_subscribe(self, uri: str, watcher: str, event: str, expires: int) -> None:
        """Subscribe a watcher to a presentity, refresh that, or end it with 0 seconds."""
        if parse_uri(uri) is None:
            raise RpcFault(400, "Invalid presentity URI")
        if parse_uri(watcher) is None:
            raise RpcFault(400, "Invalid watcher URI")
        if event not in EVENTS:
            raise RpcFault(404, "Unknown event")
        self.rt.module("pua").subscribe(Wish(uri, watcher, event, _SUBSCRIBED, expires=_seconds(str(expires))))


module = PuaRpc
