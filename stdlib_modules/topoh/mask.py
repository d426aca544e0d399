"""Texts that only this configuration can read: what stands in for hidden addresses.

A masked text is the same for the same text, key and place, so that a masked Call-ID stays one, and it cannot be made or changed without the
key. The first bytes are a MAC of the text, which also seeds the stream that hides it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache
from typing import Final

_MAC: Final = 6


class Mask:
    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(b"kamc topoh " + key.encode("latin-1", "replace")).digest()
        self.hide = lru_cache(maxsize=8192)(self._hide)
        self.show = lru_cache(maxsize=8192)(self._show)

    def _stream(self, seed: bytes, size: int) -> bytes:
        return hashlib.shake_128(self._key + seed).digest(size)

    def _hide(self, text: str) -> str:
        data = text.encode("latin-1", "replace")
        mac = hmac.new(self._key, data, hashlib.sha256).digest()[:_MAC]
        hidden = bytes(a ^ b for a, b in zip(data, self._stream(mac, len(data)), strict=True))
        return base64.urlsafe_b64encode(mac + hidden).decode().rstrip("=")

    def _show(self, text: str) -> str | None:
        """The text, or None for what was not made with this key."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return None
        mac, hidden = raw[:_MAC], raw[_MAC:]
        data = bytes(a ^ b for a, b in zip(hidden, self._stream(mac, len(hidden)), strict=True))
        good = len(mac) == _MAC and hmac.compare_digest(mac, hmac.new(self._key, data, hashlib.sha256).digest()[:_MAC])
        return data.decode("latin-1") if good else None
