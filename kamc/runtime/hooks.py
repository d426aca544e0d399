"""What the modules of one generation do in the path of a message besides their cfg functions.

A generation registers here while it is prepared; nothing happens until it takes over. Then the worker, its connections and its transactions
look at this object instead of the one before: one assignment, between two messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kamc.runtime.context import Ctx
    from kamc.runtime.net.connection import Closing, Connection, Security
    from kamc.runtime.net.endpoint import Dest, Flow
    from kamc.runtime.rpc.commands import Command
    from kamc.runtime.sip.message import SipMessage
    from kamc.runtime.tm.transaction import Transaction


class Hooks:
    """See the module. Lists are called in load order."""

    def __init__(self) -> None:
        #: what came in, before it is parsed: text in, text out; None drops it
        self.incoming_filters: list[Callable[[str, Flow], str | None]] = []
        #: what goes out (topoh, siptrace): text in, text out; None drops it
        self.outgoing_filters: list[Callable[[str, Dest], str | None]] = []
        #: every request before the script; False ends it
        self.pre_request: list[Callable[[Ctx], bool]] = []
        self.post_script: list[Callable[[Ctx], None]] = []
        #: replies before anything is made of them; False drops them
        self.pre_reply: dict[str, Callable[[SipMessage, Flow], bool]] = {}
        #: asked about replies of no transaction; False drops them
        self.stray_reply: Callable[[Ctx], bool] | None = None
        #: a script ended with a transaction that it neither relayed, answered nor released
        self.unfinished: Callable[[Transaction, Ctx], None] | None = None
        #: called as (event, transaction, ctx or reply) by the transaction layer
        self.transactions: list[Callable[[str, Transaction, Any], None]] = []
        #: datagrams that are no SIP but STUN
        self.stun: Callable[[bytes, Flow], None] | None = None
        #: takes HTTP requests of stream connections; False for one that it does not want
        self.http: list[Callable[[SipMessage, Flow], bool]] = []
        #: the end of a connection, by the name of the module that wants to hear of it
        self.connection_closed: dict[str, Callable[[Connection, Closing], None]] = {}
        #: who knows certificates, and what a run wants of a TLS connection that it may open
        self.security: Security | None = None
        self.tls_wish: Callable[[Ctx], tuple[str, str]] | None = None
        #: what a run that waits keeps: each gives a function that brings its present state back
        self.aside: list[Callable[[], Callable[[], None]]] = []
        #: RPC commands
        self.rpcs: dict[str, Command] = {}
        #: statistics that are computed when asked: (group, name) → function
        self.statistics: dict[tuple[str, str], Callable[[], int]] = {}
        #: those of them of which each worker has a part
        self.partial: set[tuple[str, str]] = set()
