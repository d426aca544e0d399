"""Documents of watcher information (RFC 3858)."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from stdlib_modules.presence.packages import STATE_NAMES
from stdlib_modules.presence.rows import Subscription


def watcherinfo(uri: str, package: str, version: int, watchers: Iterable[Subscription], *, full: bool) -> str:
    """The watchers of a presentity; of one change only those that it is about."""
    rows = "".join(
        f'    <watcher id={quoteattr(s.call_id)} event="subscribe" status="{STATE_NAMES[s.status]}">{escape(s.watcher)}</watcher>\n' for s in watchers
    )
    listed = f">\n{rows}  </watcher-list>" if rows else "/>"
    return (f'<?xml version="1.0"?>\n<watcherinfo xmlns="urn:ietf:params:xml:ns:watcherinfo" version="{version}" state="{"full" if full else "partial"}">\n'
            f"  <watcher-list resource={quoteattr(uri)} package={quoteattr(package)}{listed}\n</watcherinfo>\n")  # fmt: skip
