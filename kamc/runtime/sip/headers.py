"""The table of header names: spelling on the wire → key. Compact forms follow RFC 3261 section 7.3.3 and later RFCs."""

from __future__ import annotations

import re
from typing import Final

COMPACT: Final[dict[str, str]] = {
    "v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "c": "content-type", "l": "content-length", "k": "supported",
    "s": "subject", "e": "content-encoding", "o": "event", "u": "allow-events", "r": "refer-to", "b": "referred-by", "x": "session-expires",
    "a": "accept-contact", "j": "reject-contact", "d": "request-disposition", "y": "identity", "n": "identity-info",
}  # fmt: skip

#: characters that Kamailio takes in a header name; stricter than RFC 3261 (no ! % * + ` ')
_VALID: Final = re.compile(r"[A-Za-z0-9_.~-]+\Z")
_CACHE_LIMIT: Final = 2000


class _Keys(dict[str, str]):
    """Spelling → key, computed once. Bad names give the empty key. Bounded, as peers choose the spellings."""

    def __missing__(self, raw: str) -> str:
        stripped = raw.rstrip(" \t")
        lowered = stripped.lower()
        key = COMPACT.get(lowered, lowered) if _VALID.match(stripped) else ""
        if len(self) < _CACHE_LIMIT:
            self[raw] = key
        return key


KEYS: Final = _Keys()


def header_key(name: str) -> str:
    """Canonical key of a header name or compact form."""
    return KEYS[name]
