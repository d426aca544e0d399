"""One HTTP request, made in a thread: what it gives is a status, or the number that libcurl has for what went wrong."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

#: libcurl's numbers, as configurations compare them, and its words for ``$curlerror``
ERRORS: Final = {
    0: "No error", 1: "Unsupported protocol", 3: "URL using bad/illegal format or missing URL", 6: "Couldn't resolve host name", 7: "Couldn't connect to server",
    23: "Failed writing received data to disk/application", 28: "Timeout was reached", 35: "SSL connect error", 47: "Number of redirects hit maximum amount",
    52: "Server returned nothing (no headers, no data)", 56: "Failure when receiving data from the peer", 60: "SSL peer certificate or SSH remote key was not OK",
}  # fmt: skip
_SCHEME, _URL, _NAME, _CONNECT, _SIZE, _TIME, _SSL, _REDIRECTS, _NOTHING, _RECEIVE, _CERTIFICATE = 1, 3, 6, 7, 23, 28, 35, 47, 52, 56, 60
_CHUNK: Final = 16384


@dataclass(slots=True)
class Wish:
    """How requests are made. ``seconds`` for all of one, 0 for ever; ``most`` bytes of an answer, 0 for any."""

    seconds: float = 4.0
    redirects: bool = False
    most: int = 0
    agent: str = ""
    verify: bool | str = True
    #: the name in the certificate counts
    named: bool = True
    certificate: tuple[str, str] | None = None
    proxy: str = ""
    user: str = ""
    password: str = ""


@dataclass(slots=True)
class Result:
    """``code`` is the status, or libcurl's number for a failure; ``text`` is latin-1."""

    code: int
    text: str = ""
    content_type: str = ""
    #: where the request went in the end
    url: str = ""
    #: what went wrong, in words
    why: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def fetch(method: str, url: str, body: str, headers: dict[str, str], wish: Wish) -> Result:
    """Make a request and wait for its answer."""
    import requests

    deadline = time.monotonic() + wish.seconds if wish.seconds > 0 else float("inf")
    try:
        with requests.Session() as session:
            session.trust_env = False
            if not wish.named:
                session.mount("https://", _any_name())
            options: dict[str, Any] = {
                "data": body.encode("latin-1", "replace") if body else None, "headers": headers, "stream": True, "timeout": wish.seconds or None,
                "allow_redirects": wish.redirects, "verify": wish.verify, "cert": wish.certificate,
                "proxies": {"http": wish.proxy, "https": wish.proxy} if wish.proxy else None,
            }  # fmt: skip
            answer = session.request(method, url, **options)
            if answer.status_code == 401 and wish.user:
                answer.close()
                answer = session.request(method, url, auth=_credentials(answer, wish), **options)
            data = b""
            for chunk in answer.iter_content(_CHUNK):
                data += chunk
                if wish.most and len(data) > wish.most:
                    return Result(_SIZE, url=answer.url, why=f"more than {wish.most} bytes")
                if time.monotonic() > deadline:
                    return Result(_TIME, url=answer.url, why="not in time")
            return Result(answer.status_code, data.decode("latin-1"), answer.headers.get("Content-Type", ""), answer.url, headers=dict(answer.headers),
                          reason=answer.reason or "")  # fmt: skip
    except requests.RequestException as err:
        return Result(_number(err), url=url, why=str(err))
    except (UnicodeError, ValueError, OSError) as err:
        return Result(_URL, url=url, why=str(err))


def _any_name() -> Any:
    """Certificates are checked, the names in them are not (``verify_host`` 0)."""
    from requests.adapters import HTTPAdapter

    class AnyName(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, assert_hostname=False, **options)

    return AnyName()


def _credentials(answer: Any, wish: Wish) -> Any:
    from requests.auth import HTTPBasicAuth, HTTPDigestAuth

    kind = HTTPDigestAuth if "digest" in answer.headers.get("WWW-Authenticate", "").lower() else HTTPBasicAuth
    return kind(wish.user, wish.password)


def _number(err: Exception) -> int:
    """libcurl's number for what requests raises."""
    import requests

    text = str(err)
    if isinstance(err, requests.exceptions.InvalidSchema):
        return _SCHEME
    if isinstance(err, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
        return _URL
    if isinstance(err, requests.exceptions.TooManyRedirects):
        return _REDIRECTS
    if isinstance(err, requests.exceptions.SSLError):
        return _CERTIFICATE if "CERTIFICATE_VERIFY" in text or "doesn't match" in text else _SSL
    if isinstance(err, requests.exceptions.Timeout):
        return _TIME
    if isinstance(err, requests.exceptions.ConnectionError):
        if "NameResolution" in text or "Name or service" in text:
            return _NAME
        if "RemoteDisconnected" in text or "without response" in text:
            return _NOTHING
        return _TIME if "timed out" in text else _RECEIVE if "reset" in text else _CONNECT
    return _RECEIVE
