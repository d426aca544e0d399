"""What a publication and a subscription are, and their rows in Kamailio's schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kamc.runtime.db import Cell, Where
from stdlib_modules.presence.packages import ACTIVE

DOCUMENT_COLUMNS: Final = ("username", "domain", "event", "etag", "expires", "received_time", "body", "sender", "priority", "ruid")
SUBSCRIPTION_COLUMNS: Final = (
    "presentity_uri", "event", "event_id", "to_user", "to_domain", "watcher_username", "watcher_domain", "from_user", "from_domain", "callid", "to_tag",
    "from_tag", "contact", "local_contact", "socket_info", "record_route", "local_cseq", "remote_cseq", "expires", "status", "reason", "version", "user_agent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """What somebody has published. Times are wall-clock seconds."""

    etag: str
    expires: float
    received: float
    body: str
    sender: str = ""
    priority: int = 0
    ruid: str = ""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A watcher's dialog. ``routes`` is the route set towards the watcher, ``contact`` its URI."""

    uri: str
    event: str
    event_id: str
    to_user: str
    to_domain: str
    watcher_user: str
    watcher_domain: str
    from_user: str
    from_domain: str
    call_id: str
    to_tag: str
    from_tag: str
    contact: str
    local_contact: str
    socket: str
    routes: str = ""
    local_cseq: int = 0
    remote_cseq: int = 0
    expires: float = 0
    status: int = ACTIVE
    reason: str = ""
    version: int = 0
    user_agent: str = ""

    @property
    def watcher(self) -> str:
        return f"sip:{self.watcher_user}@{self.watcher_domain}"

    @property
    def dialog(self) -> str:
        return f"{self.call_id}\0{self.to_tag}\0{self.from_tag}"


def record_key(uri: str, event: str) -> str:
    """Where the publications of a presentity, and the subscriptions to it, are."""
    return f"{uri}\0{event}"


def split_uri(uri: str) -> tuple[str, str]:
    """User and domain of ``sip:user@domain``."""
    user, _, domain = uri.partition(":")[2].rpartition("@")
    return user, domain


def place(row: Sequence[Cell]) -> str:
    """The key of (presentity_uri, event)."""
    return record_key(str(row[0]), str(row[1]))


def document_cells(d: Document) -> dict[str, Cell]:
    return {"etag": d.etag, "expires": int(d.expires), "received_time": int(d.received), "body": d.body, "sender": d.sender, "priority": d.priority}


def document_of(row: Sequence[Any]) -> tuple[str, Document]:
    """A row of ``DOCUMENT_COLUMNS``: its key, and the publication. Raises ValueError."""
    user, domain, event, etag, expires, received, body, sender, priority, ruid = row
    text = body.decode("latin-1") if isinstance(body, bytes) else str(body or "")
    document = Document(str(etag), float(str(expires)), float(str(received)), text, str(sender or ""), int(str(priority or 0)), str(ruid or etag))
    return record_key(f"sip:{user}@{domain}" if user else f"sip:{domain}", str(event)), document


def subscription_where(s: Subscription) -> Where:
    return [("callid", "=", s.call_id), ("to_tag", "=", s.to_tag), ("from_tag", "=", s.from_tag)]


def subscription_cells(s: Subscription) -> dict[str, Cell]:
    return {
        "presentity_uri": s.uri, "watcher_username": s.watcher_user, "watcher_domain": s.watcher_domain, "to_user": s.to_user, "to_domain": s.to_domain,
        "event": s.event, "event_id": s.event_id or None, "to_tag": s.to_tag, "from_tag": s.from_tag, "callid": s.call_id, "local_cseq": s.local_cseq,
        "remote_cseq": s.remote_cseq, "contact": s.contact, "record_route": s.routes, "expires": int(s.expires), "status": s.status,
        "reason": s.reason or None, "version": s.version, "socket_info": s.socket, "local_contact": s.local_contact, "from_user": s.from_user,
        "from_domain": s.from_domain, "updated": -1, "updated_winfo": -1, "flags": 0, "user_agent": s.user_agent,
    }  # fmt: skip


def subscription_of(row: Sequence[Any]) -> Subscription:
    """A row of ``SUBSCRIPTION_COLUMNS``. Raises ValueError."""
    texts = [str(cell if cell is not None else "") for cell in row]
    numbers = [int(float(texts[i] or 0)) for i in (16, 17, 18, 19, 21)]
    return Subscription(*texts[:16], *numbers[:4], texts[20], numbers[4], texts[22])  # type: ignore[arg-type, call-arg]
