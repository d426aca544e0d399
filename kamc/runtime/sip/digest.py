"""HTTP Digest as SIP uses it: challenges, credentials, and their answers (RFC 3261 section 22, RFC 2617, RFC 8760). Pure functions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_PART: Final = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?:,|\Z)')
_HASHES: Final[dict[str, Callable[[bytes], str]]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    "sha-256": lambda data: hashlib.sha256(data).hexdigest(),
    "sha-512-256": lambda data: hashlib.new("sha512_256", data).hexdigest(),
}


def parse_digest(value: str) -> dict[str, str] | None:
    """The parameters of ``Digest ...`` by lower-case name, quotes removed; None for another scheme or what cannot be read."""
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "digest":
        return None
    out: dict[str, str] = {}
    at = 0
    rest = rest.strip()
    while at < len(rest):
        match = _PART.match(rest, at)
        # neither an empty value that is not quoted nor a comma at the end is Digest (RFC 3261 section 25.1)
        if match is None or match.group(3) == "" or (match.end() == len(rest) and rest.endswith(",")):
            return None
        quoted, plain = match.group(2), match.group(3)
        out[match.group(1).lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        at = match.end()
    return out


def supported(algorithm: str) -> bool:
    """Whether an ``algorithm`` parameter is one that is known; empty means MD5."""
    return (algorithm or "md5").lower().removesuffix("-sess") in _HASHES


def hashed(text: str, algorithm: str = "") -> str:
    """A text in the hash of an algorithm. Raises KeyError for an unknown one."""
    return _HASHES[(algorithm or "md5").lower().removesuffix("-sess")](text.encode("latin-1", "replace"))


def ha1(user: str, realm: str, password: str, algorithm: str = "") -> str:
    return hashed(f"{user}:{realm}:{password}", algorithm)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer is computed from. ``secret`` is HA1 for the plain hash, before any ``-sess`` step."""

    secret: str
    nonce: str
    method: str
    uri: str
    algorithm: str = ""
    qop: str = ""
    nc: str = ""
    cnonce: str = ""
    body: str = ""

    def response(self) -> str:
        """RFC 2617 section 3.2.2.1."""
        secret = self.secret
        if self.algorithm.lower().endswith("-sess"):
            secret = hashed(f"{secret}:{self.nonce}:{self.cnonce}", self.algorithm)
        target = f"{self.method}:{self.uri}"
        if self.qop == "auth-int":
            target += f":{hashed(self.body, self.algorithm)}"
        second = hashed(target, self.algorithm)
        middle = f"{self.nonce}:{self.nc}:{self.cnonce}:{self.qop}" if self.qop else self.nonce
        return hashed(f"{secret}:{middle}:{second}", self.algorithm)


def credentials(challenge: dict[str, str], user: str, secret: str, method: str, uri: str, *, cnonce: str, nc: int = 1, body: str = "") -> str:
    """The value of an (Proxy-)Authorization header that answers a challenge. ``secret`` is HA1."""
    offered = [q.strip().lower() for q in challenge.get("qop", "").split(",") if q.strip()]
    qop = "auth" if "auth" in offered else "auth-int" if "auth-int" in offered else ""
    algorithm = challenge.get("algorithm", "")
    session = algorithm.lower().endswith("-sess")
    answer = Answer(secret, challenge.get("nonce", ""), method, uri, algorithm, qop, f"{nc:08x}" if qop else "", cnonce if qop or session else "", body)
    parts = [f'username="{user}"', f'realm="{challenge.get("realm", "")}"', f'nonce="{answer.nonce}"', f'uri="{uri}"']
    if "opaque" in challenge:
        parts.append(f'opaque="{challenge["opaque"]}"')
    if qop:
        parts += [f"qop={qop}", f"nc={answer.nc}"]
    if answer.cnonce:
        parts.append(f'cnonce="{answer.cnonce}"')
    parts += [f'response="{answer.response()}"', f"algorithm={algorithm or 'MD5'}"]
    return "Digest " + ", ".join(parts)
