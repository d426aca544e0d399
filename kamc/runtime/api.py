"""``Runtime``: one generation of a configuration inside a worker, and what modules may use of the server.

Modules get it as ``self.rt``; generated code sees it as ``rt`` while it binds its constants.
"""

from __future__ import annotations

import hashlib
import platform
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from kamc import __version__, catalogue
from kamc.declare.module import Module, PvDecl, RpcDecl, TransformationDecl
from kamc.declare.pvspec import PvSpec, parse_pv
from kamc.declare.regex import PosixRegex, RegexError, compile_regex
from kamc.declare.values import EvalError, Value
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.db import Database, open_database
from kamc.runtime.doors import Door
from kamc.runtime.hooks import Hooks
from kamc.runtime.net.endpoint import BELOW, Listener
from kamc.runtime.net.steer import call_id_of
from kamc.runtime.pv.bind import BoundPv, Getter, Setter, bind, bind_format
from kamc.runtime.rpc.commands import Command
from kamc.runtime.selects import bind_select
from kamc.runtime.settings import Settings
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.subst import Subst
from kamc.runtime.tm.timers import Repeating

if TYPE_CHECKING:
    from kamc.runtime.proc.worker import Worker


_REQUEST_DEFAULTS: Final = {"force_rport": "force_rport", "local_rport": "add_local_rport", "reply_to_via": "reply_to_via"}


class Runtime:
    """See the module. ``worker`` holds what outlives a generation: sockets, transactions, timers, variables, counters, the store."""

    def __init__(self, worker: Worker, generation: int = 1) -> None:
        self.worker = worker
        self.generation = generation
        self.log = worker.log
        self.vars = worker.vars
        self.counters = worker.counters
        self.timers = worker.timers
        self.store = worker.store
        self.params: dict[str, Any] = {}
        self.settings = Settings(self)
        self.modules: dict[str, Module] = {}
        self.functions: dict[tuple[str, str | None], Callable[[Ctx], Any]] = {}
        self.pv_decls: dict[str, tuple[Module, PvDecl]] = {}
        self.transformations: dict[str, tuple[Callable[..., Any], TransformationDecl]] = {}
        self.defines: dict[str, str | None] = {}
        #: which Kamailio the configuration was built for: head or 5.6
        self.compat = "head"
        #: whether a function that waits is called somewhere
        self.waits = False
        #: location tables that functions of the configuration name
        self.locations: tuple[str, ...] = ()
        self.entry = ""
        self.base = ""
        self.sources: frozenset[str] = frozenset()
        #: what began on this generation and is not done
        self.pins = 0
        #: SHA-256 of the build
        self.digest = ""
        #: it is the one that new messages run on
        self.active = False
        #: the one that it is to replace, while it is prepared
        self.previous: Runtime | None = None
        #: seconds that binding took
        self.prepared_in = 0.0
        self.hooks = Hooks()
        self.repeating: list[Repeating] = []
        #: globals of the generated code
        self.namespace: dict[str, Any] = {}
        self.databases: dict[str, Database] = {}
        self.aliases: list[tuple[str, str, int]] = []
        self.tag_prefix = ""
        self.server_header = ""
        self.user_agent = ""

    # -- life ------------------------------------------------------------------------------------------------------------

    def program_pin(self) -> None:
        """A transaction began on this generation."""
        self.pins += 1

    def program_unpin(self) -> None:
        self.pins -= 1
        if not self.pins and not self.active:
            self.worker.generations.let_go()

    def every(self, seconds: float, function: Callable[[], object], *, once: bool = False) -> None:
        """Run a function again and again, from one interval on, while this generation is the running one. ``once``: not in every worker."""
        if once and not self.first:
            return
        one = Repeating(self.timers, self.now, seconds, function)
        self.repeating.append(one)
        if self.active:
            one.start()

    def start_repeating(self, old: Runtime | None = None) -> None:
        """The generation runs from now on. What the one before did as often goes on in its rhythm."""
        due = {(r.name, r.seconds): r.due for r in old.repeating} if old is not None else {}
        for one in self.repeating:
            one.start(due.get((one.name, one.seconds)))

    def open_door(self, name: str, make: Callable[[], socket.socket | int], path: str = "") -> Door:
        """A socket or FIFO for commands, shared with the generation before when that has the same. Raises what ``make`` does."""
        return self.worker.doors.open(self, name, make, path)

    def release(self) -> None:
        """This generation was replaced, never took over, or the server ends: give back what no other uses."""
        for module in self.modules.values():
            module.release()
        self.worker.doors.leave(self)

    def dispose(self) -> None:
        """Nothing will run on this generation: what refers to itself in circles is taken apart."""
        for database in self.databases.values():
            database.close()
        for table in (self.databases, self.namespace, self.functions, self.modules, self.pv_decls, self.transformations):
            table.clear()
        self.repeating.clear()
        self.hooks = Hooks()
        self.previous = None

    def install(self, name: str, module: Module) -> None:
        """Make a module's variables and transformations known."""
        self.modules[name] = module
        declarations = type(module).declarations()
        for pv_name, decl in declarations.pvs.items():
            self.pv_decls.setdefault(pv_name, (module, decl))
        for t_name, t_decl in declarations.transformations.items():
            self.transformations.setdefault(t_name, (getattr(module, t_decl.method), t_decl))

    def module(self, name: str) -> Any:
        """Another module's instance, or None when the cfg does not load it."""
        return self.modules.get(name)

    def param(self, name: str) -> Any:
        """A core parameter: as the cfg sets it, else its default."""
        if name in self.params:
            return self.params[name]
        row = catalogue.core_params().get(name)
        return row["default"] if row is not None else None

    def signature(self) -> str:
        return f"kamc ({__version__} ({platform.machine()}/linux))"

    def prepare_headers(self) -> None:
        """Server and User-Agent lines as the core parameters want them; empty when switched off."""
        on = self.param("server_signature")
        custom = self.params.get("server_header")
        self.server_header = (custom if custom is not None else f"Server: {self.signature()}") if on else ""
        custom = self.params.get("user_agent_header")
        self.user_agent = (custom if custom is not None else f"User-Agent: {self.signature()}") if on else ""
        self.tag_prefix = hashlib.md5(f"{self.worker.secret}".encode(), usedforsecurity=False).hexdigest()

    def params_changed(self) -> None:
        """Core parameters are set, or one has another value while the server runs: what stands ready for each message follows."""
        #: what requests begin with: force_rport, local_rport and reply_to_via of the configuration
        self.request_defaults = {attribute: True for name, attribute in _REQUEST_DEFAULTS.items() if self.param(name)}
        self.namespace["MAX_WHILE_LOOPS"] = self.param("max_while_loops")

    # -- for generated code ----------------------------------------------------------------------------------------------

    def pv(self, text: str) -> Getter:
        return bind(self, parse_pv(text)).get

    def pv_set(self, text: str) -> Setter:
        bound = bind(self, parse_pv(text))
        if bound.set is None:
            raise ConfigError(f"{text} is read-only")
        return bound.set

    def pv_arg(self, text: str) -> BoundPv:
        spec = parse_pv(text)
        bound = bind(self, spec)
        bound.spec = spec
        return bound

    def bind(self, spec: PvSpec) -> BoundPv:
        return bind(self, spec)

    def format(self, text: str) -> Callable[[Ctx], str]:
        return bind_format(self, text)

    @staticmethod
    def text(text: str) -> Callable[[Ctx], str]:
        return lambda ctx: text

    @staticmethod
    def regex(pattern: str, icase: bool = False, newline: bool = False) -> PosixRegex:
        try:
            return compile_regex(pattern, icase, newline)
        except RegexError as err:
            raise ConfigError(f"bad regular expression {pattern!r}: {err}") from None

    @staticmethod
    def dynamic_regex(pattern: str) -> PosixRegex:
        try:
            return compile_regex(pattern, True, True)
        except RegexError as err:
            raise EvalError(f"bad regular expression {pattern!r}: {err}") from None

    def subst(self, text: str) -> Subst:
        return Subst(text, self.format)

    def select(self, text: str, defined: bool = False) -> Callable[[Ctx], Value]:
        return bind_select(self, text, defined)

    # -- routes ----------------------------------------------------------------------------------------------------------

    def route_function(self, kind: str, name: str | None) -> Callable[[Ctx], Any] | None:
        return self.functions.get((kind, name))

    def run_event(self, name: str, ctx: Ctx) -> bool:
        """Run an event route when the cfg has it. True when it ran to its end without ``drop``."""
        function = self.functions.get(("event", name))
        return True if function is None else self.worker.datapath.run(function, ctx)

    def has_event(self, name: str) -> bool:
        return ("event", name) in self.functions

    def database(self, url: str) -> Database:
        """The database of a ``db_url``. Raises ConfigError."""
        return open_database(self, url)

    # -- the server ------------------------------------------------------------------------------------------------------

    @property
    def tm(self) -> Any:
        return self.worker.engine

    @property
    def datapath(self) -> Any:
        return self.worker.datapath

    @property
    def listeners(self) -> list[Listener]:
        return self.worker.listeners

    def now(self) -> float:
        """Seconds of the monotonic clock that timers use."""
        return self.worker.clock()

    def wall_time(self) -> float:
        return self.worker.wall_clock()

    def totag(self, msg: SipMessage, separator: str = ".") -> str:
        """The To tag for replies of our own: the same for repetitions of one request, different between requests. Replies with and
        without a transaction differ by their separator."""
        via = msg.via1
        key = f"{self.worker.secret}{via.branch or via.text}{msg.call_id}{msg.from_tag}"
        return f"{self.tag_prefix}{separator}{hashlib.md5(key.encode('latin-1', 'replace'), usedforsecurity=False).hexdigest()[:8]}"

    def next_route(self, ctx: Ctx) -> str | None:
        """URI of the topmost Route that the script has left in place."""
        rr = self.modules.get("rr")
        return rr.next_hop(ctx) if rr is not None else None  # type: ignore[attr-defined]

    def is_myself(self, host: str, port: int = 0, proto: str = "") -> bool:
        """Whether an address is ours: a listening socket or an alias. Port 0 counts as 5060 (5061 for tls)."""
        host, proto = host.lower(), BELOW.get(proto, proto)
        wanted = port or (5061 if proto == "tls" else 5060)
        for listener in self.worker.listeners:
            if (not proto or listener.proto == proto) and listener.port == wanted and listener.host == host:
                return True
            if listener.advertise_host and (not proto or listener.proto == proto) and listener.advertise_host == host and listener.via_port == wanted:
                return True
        return any(a_host == host and (not a_port or a_port == wanted) and (not a_proto or not proto or a_proto == proto) for a_proto, a_host, a_port in self.aliases)

    def add_rpc(self, name: str, function: Callable[..., Any], decl: RpcDecl) -> None:
        self.hooks.rpcs[name] = Command(function, decl.doc, decl.spread, decl.wrong)

    @property
    def first(self) -> bool:
        """It runs in the first worker, which does what only one may do."""
        return not self.worker.index

    @property
    def beginning(self) -> bool:
        """A server starts, and this is the worker that does what is done once."""
        return self.previous is None and self.worker.beginning

    def cfg_frame(self) -> FrameType | None:
        """The frame of the generated code that is calling, where there is one: its file and line are those of the configuration."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename not in self.sources:
            frame = frame.f_back
        return frame

    def tell_peers(self, module: str, what: str, *args: Any) -> None:
        """Have a method called on the same module in all other workers. Plain data only."""
        if self.worker.peers is not None:
            self.worker.peers.tell_all("module", module, what, *args)

    def tell_servers(self, module: str, what: str, *args: Any) -> None:
        """Have a method (one of ``between_servers``) called on the same module in the workers of other servers on the same store. Plain data only."""
        if self.worker.far is not None:
            self.worker.far.say("module", module, what, *args)

    def tell_owner(self, call_id: str, module: str, what: str, *args: Any) -> None:
        """Have a method called on the same module in the worker that owns a call. Plain data only."""
        if self.worker.peers is not None:
            self.worker.peers.tell(self.worker.peers.owner_of_call(call_id), "module", module, what, *args)

    def owns_call(self, call_id: str) -> bool:
        """Whether this worker takes the requests of a call."""
        peers = self.worker.peers
        return peers is None or peers.owner_of_call(call_id) == peers.index

    def own_call_id(self, make: Callable[[], str]) -> str:
        """A Call-ID from ``make()``, for a call whose requests shall come to this worker."""
        peers = self.worker.peers
        return make() if peers is None or peers.index >= peers.count else call_id_of(peers.index, peers.count, make)
