"""The three error families of kamc.

* :class:`ConfigError` is the user's: the configuration (or a file it names) is wrong.
* :class:`SipError` is the peer's: a SIP message cannot be understood.
* :class:`KamcBug` is ours: an invariant of kamc itself broke.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kamc.diagnostics import Diagnostic


class ConfigError(Exception):
    """A configuration that cannot be used; carries the diagnostics that say why."""

    def __init__(self, message: str, diagnostics: Sequence[Diagnostic] = ()) -> None:
        super().__init__(message)
        self.diagnostics = tuple(diagnostics)


class SipError(Exception):
    """A SIP message from the network that breaks the grammar (RFC 3261 section 25)."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class KamcBug(Exception):  # noqa: N818 - a bug is not an "error" of anybody's input
    """Something that can only happen when kamc itself is wrong."""


class UsageError(Exception):
    """A command line that cannot be meant."""
