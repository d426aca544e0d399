"""Event packages (RFC 6665): what other modules tell of the events that they bring to module presence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: states of a subscription, as column ``status`` has them
ACTIVE, PENDING, TERMINATED, WAITING = 1, 2, 3, 4
STATE_NAMES: Final = {ACTIVE: "active", PENDING: "pending", TERMINATED: "terminated", WAITING: "waiting"}


class BodyError(ValueError):
    """A document that is not what its event package has, and what it is answered with."""

    def __init__(self, text: str, code: int = 415, reason: str = "Unsupported media type") -> None:
        super().__init__(text)
        self.code, self.reason = code, reason


def _as_it_came(bodies: Sequence[str], gone: str | None) -> str:
    return bodies[0] if bodies else ""


def _any(body: str) -> None:
    pass


@dataclass(slots=True)
class Package:
    """``name`` is the value of Event. Documents are texts of the message: one character, one byte."""

    name: str
    content_type: str
    #: seconds of a publication or subscription that asks for nothing
    expires: int = 3600
    #: raises BodyError for a document that may not be published
    check: Callable[[str], None] = _any
    #: documents, newest first, and one that is being taken back → the document for watchers; empty when there is nothing to tell
    combine: Callable[[Sequence[str], str | None], str] = _as_it_came
    #: user, domain → the rules of a presentity; None where there are none
    rules: Callable[[str, str], Any] | None = None
    #: rules, URI of the watcher → (state, reason)
    decide: Callable[[Any, str], tuple[int, str]] | None = None
    #: what a watcher sees who is not to know that it is kept out (reason polite-block)
    politely: Callable[[], str] = lambda: ""
    #: what a watcher sees of somebody of whom nothing is published
    nothing: Callable[[str], str] = lambda uri: ""
    #: documents count their NOTIFYs
    numbered: bool = False

    @property
    def is_winfo(self) -> bool:
        """RFC 3857: the watchers of another package."""
        return self.name.endswith(".winfo")

    @property
    def watched(self) -> str:
        """Of a winfo package: the one whose watchers it shows."""
        return self.name.removesuffix(".winfo")


def event_of(value: str) -> tuple[str, str]:
    """An Event header: the package and the id (RFC 6665 section 8.2.1)."""
    name, *params = value.split(";")
    ident = next((v.strip() for p in params for k, _, v in [p.partition("=")] if k.strip().lower() == "id"), "")
    return name.strip(), ident
