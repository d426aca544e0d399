"""``Ctx``: one run of a route over one message. What generated code and module functions get as their only handle.

Attributes that most runs never touch are class defaults, so that making a context costs little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kamc.declare.routes import Exit, Routes
from kamc.runtime.net.endpoint import Flow, Listener
from kamc.runtime.sip.edits import Edit
from kamc.runtime.sip.message import SipMessage

if TYPE_CHECKING:
    from kamc.runtime.api import Runtime

#: Kamailio counts the main route and the called one as well: 256 levels are 254 nested calls here
MAX_ROUTE_DEPTH = 254


class Branch:
    """An additional destination (Kamailio's dset) or the settings of one."""

    __slots__ = ("dst_uri", "flags", "instance", "path", "q", "ruid", "send_socket", "uri", "user_agent")

    def __init__(self, uri: str, dst_uri: str | None = None, path: str | None = None, q: int = -1, send_socket: Listener | None = None,
                 flags: int = 0, instance: str | None = None, ruid: str | None = None, user_agent: str | None = None) -> None:  # fmt: skip
        self.uri, self.dst_uri, self.path, self.q, self.send_socket = uri, dst_uri, path, q, send_socket
        self.flags, self.instance, self.ruid, self.user_agent = flags, instance, ruid, user_agent

    def du_differs(self, ctx: Ctx) -> bool:
        """Whether this target is not simply the context's own destination."""
        return (self.dst_uri, self.path, self.send_socket, self.flags) != (ctx.du, ctx.path, ctx.send_socket, ctx.bflags)


_ESCAPES = str.maketrans({"<": "%3c", ">": "%3e", ";": "%3b", ",": "%2c", "?": "%3f", "&": "%26", '"': "%22", " ": "%20"})
_WITH_FLAGS, _WITH_PATH = 1, 2


def redirect_contact(branch: Branch, rich: int) -> str:
    """A destination as a Contact of a redirection; see :meth:`Ctx.add_redirect_contacts`."""
    route = f"?Route={branch.path.translate(_ESCAPES)}" if rich & _WITH_PATH and branch.path else ""
    flags = f";flags={branch.flags}" if rich & _WITH_FLAGS and branch.flags else ""
    return f"<{branch.uri}{route}>" + (f";q={branch.q / 1000:g}" if branch.q >= 0 else "") + flags


class Ctx:
    """See the module. ``ruri`` is the request URI as the script has made it."""

    rc = 0
    depth = 0
    #: the kind of block that runs now
    kind: Routes = Routes.REQUEST
    #: name of the running block, for logs and $cfg(route)
    du: str | None = None
    path: str | None = None
    q = -1
    ruid: str | None = None
    instance: str | None = None
    location_ua: str | None = None
    send_socket: Listener | None = None
    flags = 0
    bflags = 0
    sflags = 0
    xflags = 0
    msg_iflags = 0
    force_rport = False
    add_local_rport = False
    reply_to_via = False
    #: what streams do: open no connection, close it afterwards
    forward_conn = 0
    #: of udp_mtu_try_proto
    mtu_proto = ""
    forward_no_connect = reply_no_connect = forward_close = reply_close = False
    ruri_used = False
    #: the transaction that this run belongs to, if any
    t: Any = None
    branch_index = -1
    #: the reply that a reply route or failure route looks at
    reply: SipMessage | None = None
    #: hooks that the next transaction takes: kind -> route name
    hooks: dict[str, str] | None = None
    reply_headers: list[str] | None = None
    reply_body: tuple[str, str] | None = None
    new_status: tuple[int, str] | None = None
    #: outgoing side in onsend_route: (text, Dest)
    outgoing: Any = None
    rr_params: list[str] | None = None
    local_route_uri: str | None = None
    sbranch: Branch | None = None
    extra: dict[str, Any] | None = None
    advertise: tuple[str, int] | None = None
    replied = False
    #: the script of the request ran to its end
    finished = False
    fork_budget = 0

    def __init__(self, rt: Runtime, msg: SipMessage, flow: Flow, kind: Routes) -> None:
        self.rt = rt
        self.msg = msg
        self.flow = flow
        self.kind = kind
        self.ruri: str = msg.uri
        self.edits: list[Edit] = []
        self.branches: list[Branch] = []
        self.avps: dict[str, list[Any]] = {}
        self.xavps: dict[str, Any] = {}

    # -- called by generated code ----------------------------------------------------------------------------------------

    def done(self, rc: int) -> int:
        """Note what a module function returned."""
        self.rc = rc
        return rc

    def route(self, function: Callable[[Ctx], int | None]) -> int:
        """Call a route block. 0 ends the script."""
        if self.depth >= MAX_ROUTE_DEPTH:
            self.rt.log.error("too many recursive route calls (%d)", self.depth)
            return -1
        self.depth += 1
        try:
            rc = function(self)
        finally:
            self.depth -= 1
        if rc is None:
            self.rc = 0
            return 0
        self.rc = rc
        if rc == 0:
            raise Exit
        return rc

    def route_by_name(self, name: str) -> int:
        """Call a route whose name was computed; a missing one is logged and skipped."""
        function = self.rt.route_function("request", name)
        if function is None:
            self.rt.log.error("route block %r not found", name)
            return -1
        return self.route(function)

    def failed(self, error: Exception) -> None:
        """An expression without a value: Kamailio warns and goes on."""
        self.rt.log.warning("expression failed: %s", error)

    def loop_limit(self) -> None:
        self.rt.log.error("max_while_loops reached, loop left")

    def not_implemented(self, name: str, *args: str) -> int:
        """A call that kamc cannot make; ``args`` as the configuration has them."""
        self.rt.log.error("%s(%s) is not implemented by kamc", name, ", ".join(args))
        return -1

    # -- state -----------------------------------------------------------------------------------------------------------

    def remember(self, key: str, value: Any) -> None:
        """Module data for the length of this message."""
        if self.extra is None:
            self.extra = {}
        self.extra[key] = value

    def forget(self, key: str) -> None:
        if self.extra is not None:
            self.extra.pop(key, None)

    def recall(self, key: str, default: Any = None) -> Any:
        return self.extra.get(key, default) if self.extra is not None else default

    def hook(self, kind: str) -> str | None:
        return self.hooks.get(kind) if self.hooks is not None else None

    def set_hook(self, kind: str, name: str | None) -> None:
        if self.hooks is None:
            self.hooks = {}
        if name:
            self.hooks[kind] = name
        else:
            self.hooks.pop(kind, None)

    def add_edit(self, start: int, end: int, text: str) -> None:
        self.edits.append((start, end, text))

    def change_replies(self, key: str, change: Callable[[SipMessage], list[Edit]]) -> None:
        """Have the replies to this request changed before they go upstream; ``key`` names the change, so that a later one takes its place."""
        holder = self.t.request_ctx if self.t is not None and self.kind & (Routes.BRANCH | Routes.FAILURE) else self
        holder.remember("reply_edits", {**(holder.recall("reply_edits") or {}), key: change})

    def replace_message(self, msg: SipMessage) -> None:
        """After ``msg_apply_changes``: the changed text is the message now."""
        self.msg = msg
        self.edits = []

    def push_current_branch(self) -> None:
        """Make the current destination a branch of its own (``append_branch()`` without arguments)."""
        self.branches.append(Branch(self.ruri, self.du, self.path, self.q, self.send_socket, self.bflags, self.instance, self.ruid, self.location_ua))

    def add_redirect_contacts(self, rich: int = 0) -> None:
        """A redirection names the destination set in a Contact, beside those that the script added. ``rich`` is the parameter
        ``rich_redirect`` of sl and tm: 1 adds branch flags as a parameter, 2 the Path as a Route header of the URI."""
        values = [redirect_contact(b, rich) for b in self.branches]
        if not self.ruri_used and self.ruri != self.msg.uri:
            values.insert(0, redirect_contact(Branch(self.ruri, path=self.path, flags=self.bflags), rich))
        if values:
            self.reply_headers = [*(self.reply_headers or ()), f"Contact: {', '.join(values)}\r\n"]

    def copy_for(self, kind: Routes) -> Ctx:
        """A context over the same message for another block; edits and destination are copied, variables shared."""
        other = Ctx.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.kind = kind
        other.edits = list(self.edits)
        other.branches = list(self.branches)
        other.depth = 0
        return other
