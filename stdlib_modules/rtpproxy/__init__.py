"""Module rtpproxy: the media relay rtpproxy, by its command protocol. https://www.kamailio.org/docs/modules/stable/modules/rtpproxy.html

What goes to it and what becomes of the description is as recorded from Kamailio 5.6.3 (tests/cases/rtpproxy.json)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from kamc.declare import ANY, Module, Spread, function, modparam, pv, rpc
from kamc.declare.pvspec import avp_name
from kamc.declare.routes import Routes
from kamc.declare.values import to_str
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Ctx
from kamc.runtime.db import DbError
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.multipart import find_sdp
from stdlib_modules.rtpengine.nodes import Node, NodeError, Nodes, NodeSet, parse_nodes
from stdlib_modules.rtpproxy.sdp import NOWHERE, Description, read, rewritten

#: what the functions return besides 1: it did not come to that; another relay is in the description already
_FAILED, _RELAYED = -1, -2
#: how long a call stays with its node, in seconds
_KEEP: Final = 12 * 3600.0
#: what ice_candidate_priority_avp says (2 without a value), and the priority of the relay's first candidate
_PRIORITIES: Final = {0: 0, 1: 2197815295, 2: 16777215}
_LOW: Final = 2
_FLAGS: Final = re.compile(r"[12aborlfwxieIEtc3]|z\d*")


@dataclass(slots=True)
class Flags:
    """What the letters of a call ask for."""

    options: str = ""
    branch: str = ""
    #: the addresses of the description are taken for true
    trusted: bool = False
    lookup: bool = False
    forced: bool = False
    no_to_tag: bool = False


def parse_flags(text: str) -> Flags | None:
    """None for a letter that is unknown."""
    found = Flags()
    at = 0
    while at < len(text):
        match = _FLAGS.match(text, at)
        if match is None:
            return None
        word, at = match[0], match.end()
        if word in "123b":
            found.branch = word
        elif word == "a":
            found.options, found.trusted = found.options + "A", True
        elif word == "r":
            found.trusted = True
        elif word == "l":
            found.lookup = True
        elif word == "f":
            found.forced = True
        elif word == "t":
            found.no_to_tag = True
        elif word == "w":
            found.options += "S"
        elif word == "x":
            found.options += "IE"
        elif word in "ieIE" or word[0] == "z":
            found.options += word.upper()
    return found


class Rtpproxy(Module):
    name = "rtpproxy"

    class Params:
        nortpproxy_str: str = "a=nortpproxy:yes"
        rtpproxy_disable_tout: int = 60
        rtpproxy_retr: int = 5
        rtpproxy_tout: int = 1
        extra_id_pv: str = ""
        rtp_inst_pvar: str = ""
        db_url: str = ""
        table_name: str = "rtpproxy"
        timeout_socket: str = ""
        ice_candidate_priority_avp: str = ""

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: as the parameters name them: (set, node)
        self.named: list[tuple[int, Node]] = []

    @modparam("rtpproxy_sock")
    def set_socks(self, text: str) -> None:
        number, found = parse_nodes(text)
        self.named += [(number or 0, node) for node in found]

    def mod_init(self) -> None:
        p = self.p
        if p.rtpproxy_tout <= 0:
            raise ConfigError("rtpproxy: rtpproxy_tout is a number of seconds above 0")
        self.nodes = Nodes(self.rt.now, _KEEP)
        for number, node in [*self.named, *self._of_table()]:
            self.nodes.sets.setdefault(number, NodeSet()).nodes.append(node)
        #: nodes that know the codecs of a stream, once they were asked
        self.knows_codecs: dict[str, bool] = {}
        self.extra_id: BoundPv | None = self.rt.pv_arg(p.extra_id_pv) if p.extra_id_pv else None
        self.ice_key = avp_name("rtpproxy", "ice_candidate_priority_avp", p.ice_candidate_priority_avp)
        self.inst_pv: BoundPv | None = self.rt.pv_arg(p.rtp_inst_pvar) if p.rtp_inst_pvar else None
        self.rt.every(60.0, self.nodes.clean)

    def _of_table(self) -> list[tuple[int, Node]]:
        """Raises ConfigError."""
        if not self.p.db_url:
            return []
        found = []
        try:
            for number, url, flags, weight in self.rt.database(self.p.db_url).select(self.p.table_name, ("setid", "url", "flags", "weight")).rows:
                _, [node] = parse_nodes(f"{url}={weight or 1}")
                node.disabled_until = math.inf if int(str(flags or 0)) & 1 else 0.0
                found.append((int(str(number)), node))
        except (DbError, ValueError) as err:
            raise ConfigError(f"rtpproxy: table {self.p.table_name}: {err}") from None
        return found

    def activate(self, previous: Any) -> None:
        """Which node has which call outlives a reload, and which ones are down."""
        super().activate(previous)
        if previous is not None:
            self.nodes.take_over(previous.nodes)

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _ask(self, node: Node, command: str) -> str:
        """Raises NodeError. The run waits, the worker does not."""
        answer: bytes = self.rt.worker.waits.call(
            lambda: node.exchange(command.encode("latin-1", "replace"), tries=self.p.rtpproxy_retr, seconds=float(self.p.rtpproxy_tout)))
        return answer.decode("latin-1").strip()

    def _is_up(self, node: Node) -> bool:
        """Asked once: what it can do. One that does not answer is left alone for a while."""
        if node.url in self.knows_codecs:
            return True
        try:
            self._ask(node, "V")
            self.knows_codecs[node.url] = self._ask(node, "VF 20081102") == "1"
        except NodeError as err:
            self._failed(node, err)
            return False
        return True

    def _failed(self, node: Node, err: NodeError) -> None:
        self.rt.log.error("rtpproxy: %s", err)
        self.knows_codecs.pop(node.url, None)
        node.disabled_until = max(node.disabled_until, self.rt.now() + self.p.rtpproxy_disable_tout)

    def _node(self, ctx: Ctx, call_id: str, tried: set[str]) -> Node | None:
        """The next node that may have the call."""
        number = int(ctx.recall("rtpproxy_set", 0))
        for node in self.nodes.candidates(number, call_id, ""):
            if node.url not in tried and self._is_up(node):
                return node
        self.rt.log.error("rtpproxy: no rtpproxy of set %d answers", number)
        return None

    def _call_id(self, ctx: Ctx, branch: str) -> str | None:
        """The Call-ID, with a Via branch (1, 2, 3 for the first of a request and the second of a reply) or with extra_id_pv behind it. None when that is not there."""
        call_id = ctx.msg.call_id
        if not branch:
            return call_id
        if branch == "b":
            value = self.extra_id.get(ctx) if self.extra_id is not None else None
            return call_id + f";{to_str(value)}" if value is not None else call_id
        try:
            vias = ctx.msg.vias
        except SipError:
            return None
        at = {"1": 0, "2": 1, "3": 0 if ctx.msg.is_request else 1}[branch]
        return f"{call_id};{vias[at].branch}" if at < len(vias) and vias[at].branch else None

    # -- offers and answers ----------------------------------------------------------------------------------------------

    def _force(self, ctx: Ctx, letters: str, ip: str, *, offer: bool) -> int:
        """Let the relay stand in the description of the message."""
        flags = parse_flags(letters)
        msg = ctx.msg
        if flags is None:
            self.rt.log.error("rtpproxy: unknown flag in %r", letters)
            return _FAILED
        found = find_sdp(msg)
        description = read(found[1]) if found is not None else None
        if found is None or description is None:
            return _FAILED
        mark = self.p.nortpproxy_str
        marked = bool(mark) and any(line.strip() == mark for line in description.lines)
        if marked and not flags.forced:
            return _RELAYED
        create, swapped = self._direction(ctx, flags, offer=offer)
        tags = [msg.to_tag, msg.from_tag] if swapped else [msg.from_tag, msg.to_tag]
        call_id = self._call_id(ctx, flags.branch)
        priority = self._ice_priority(ctx)
        if (not create and not msg.to_tag) or call_id is None or priority is None:
            return _FAILED
        places = self._places(ctx, description, flags, f"{'U' if create else 'L'}", call_id, [t for t in tags if t], ip)
        if places is None:
            return _FAILED
        at, text = found
        ctx.add_edit(at, at + len(text), rewritten(description, places, "" if marked else mark, priority))
        return 1

    def _ice_priority(self, ctx: Ctx) -> int | None:
        """That of the relay as an ICE candidate, 0 where it is to be none; None for an AVP that says neither 0, 1 nor 2."""
        if not self.ice_key:
            return 0
        values = ctx.avps.get(self.ice_key)
        wish = values[-1] if values else _LOW
        if wish not in _PRIORITIES:
            self.rt.log.error("rtpproxy: ice_candidate_priority_avp is %r, not 0, 1 or 2", wish)
            return None
        return _PRIORITIES[wish]

    def _direction(self, ctx: Ctx, flags: Flags, *, offer: bool) -> tuple[bool, bool]:
        """(whether a session may be made, whether the To side comes first). A reply whose request brought an offer answers that; else it is
        an offer of the other side."""
        if ctx.msg.is_request:
            create = offer and not flags.lookup
            return create, not create
        offered = ctx.t is not None and (ctx.t.extra.get("rtpproxy_offered") or (ctx.t.request_ctx is not None and ctx.t.request_ctx.recall("rtpproxy_offered")))
        create = (offer or not offered) and not flags.lookup
        return create, create

    def _places(self, ctx: Ctx, d: Description, flags: Flags, letter: str, call_id: str, tags: list[str], ip: str) -> list[tuple[str, int]] | None:
        """Where the relay is for each stream. None when no node has it."""
        tried: set[str] = set()
        while (node := self._node(ctx, ctx.msg.call_id, tried)) is not None:
            tried.add(node.url)
            try:
                places = [self._place(ctx, node, flags, letter, stream, number, call_id, tags, ip) for number, stream in enumerate(d.streams, 1)]
            except NodeError as err:
                self._failed(node, err)
                continue
            if any(place is None for place in places):
                return None
            self.nodes.has(ctx.msg.call_id, "", node)
            if self.inst_pv is not None and self.inst_pv.set is not None:
                self.inst_pv.set(ctx, node.url)
            return [place for place in places if place is not None]
        return None

    def _place(self, ctx: Ctx, node: Node, flags: Flags, letter: str, stream: Any, number: int, call_id: str, tags: list[str], ip: str) -> tuple[str, int] | None:
        """One stream. Raises NodeError; None when the node refuses."""
        source = stream.address if flags.trusted else ctx.flow.remote_ip
        options = flags.options + ("6" if ":" in stream.address else "")
        if stream.rtp and stream.payloads and self.knows_codecs.get(node.url):
            options += "c" + ",".join(stream.payloads)
        who = " ".join(f"{tag};{number}" for tag in tags)
        # where the node says that the media of a call whose both sides are known has ended
        notify = f" {self.p.timeout_socket}" if self.p.timeout_socket and letter == "U" and len(tags) > 1 else ""
        answer = self._ask(node, f"{letter}{options} {call_id} {source} {stream.port} {who}{notify}").split()
        if not answer or not answer[0].isdecimal() or not 0 < int(answer[0]) < 1 << 16:
            self.rt.log.error("rtpproxy: %s refuses: %s", node.url, " ".join(answer) or "nothing")
            return None
        address = answer[1] if len(answer) > 1 else node.address[1][0]
        if stream.address in NOWHERE:
            # on hold
            address = stream.address
        return (ip if ip and stream.address not in NOWHERE else address), int(answer[0])

    def _note_offer(self, ctx: Ctx) -> None:
        if ctx.msg.is_request:
            ctx.remember("rtpproxy_offered", True)
            if ctx.t is not None:
                ctx.t.extra["rtpproxy_offered"] = True

    @function(ANY, waits=True)
    def rtpproxy_offer(self, ctx: Ctx, flags: str = "", ip_address: str = "") -> int:
        self._note_offer(ctx)
        return self._force(ctx, flags, ip_address, offer=True)

    @function(ANY, waits=True)
    def rtpproxy_answer(self, ctx: Ctx, flags: str = "", ip_address: str = "") -> int:
        """In a reply, or in an ACK or PRACK."""
        if ctx.msg.is_request and ctx.msg.method not in ("ACK", "PRACK"):
            return _FAILED
        return self._force(ctx, flags, ip_address, offer=False)

    @function(ANY, waits=True)
    def rtpproxy_manage(self, ctx: Ctx, flags: str = "", ip_address: str = "") -> int:
        """What the message asks for: an offer, an answer, the end."""
        msg = ctx.msg
        method = msg.method if msg.is_request else msg.cseq[1]
        if method not in ("INVITE", "ACK", "CANCEL", "BYE", "UPDATE", "PRACK"):
            return _FAILED
        if method in ("CANCEL", "BYE") or (not msg.is_request and msg.status >= 300):
            return self._destroy(ctx, flags)
        if find_sdp(msg) is None:
            return _FAILED
        if msg.is_request:
            if method in ("ACK", "PRACK"):
                return self._force(ctx, flags, ip_address, offer=False)
            if ctx.kind & Routes.FAILURE:
                return self._destroy(ctx, flags)
            return self.rtpproxy_offer(ctx, flags, ip_address)
        return self._force(ctx, flags, ip_address, offer=False)

    # -- other commands --------------------------------------------------------------------------------------------------

    def _command(self, ctx: Ctx, make: Any, branch: str = "") -> str | None:
        """Send ``make(Call-ID)`` to the node of the call; its answer, None when it refuses."""
        call_id = self._call_id(ctx, branch)
        if call_id is None:
            self.rt.log.error("rtpproxy: the message lacks the Via branch that is wanted")
            return None
        tried: set[str] = set()
        while (node := self._node(ctx, ctx.msg.call_id, tried)) is not None:
            tried.add(node.url)
            try:
                answer = self._ask(node, make(call_id))
            except NodeError as err:
                self._failed(node, err)
                continue
            if answer.startswith("E"):
                self.rt.log.error("rtpproxy: %s refuses: %s", node.url, answer)
                return None
            return answer
        return None

    def _destroy(self, ctx: Ctx, letters: str) -> int:
        flags = parse_flags(letters)
        if flags is None:
            self.rt.log.error("rtpproxy: unknown flag in %r", letters)
            return _FAILED
        to_tag = f" {ctx.msg.to_tag}" if ctx.msg.to_tag and not flags.no_to_tag else ""
        answer = self._command(ctx, lambda call_id: f"D {call_id} {ctx.msg.from_tag}{to_tag}", flags.branch)
        self.nodes.forget(ctx.msg.call_id, "")
        return 1 if answer is not None else _FAILED

    @function(ANY, "rtpproxy_destroy", "unforce_rtp_proxy", waits=True)
    def rtpproxy_destroy(self, ctx: Ctx, flags: str = "") -> int:
        return self._destroy(ctx, flags)

    def _tags(self, ctx: Ctx, *, callee: bool = False, numbered: bool = True) -> str:
        tags = [ctx.msg.from_tag, ctx.msg.to_tag]
        if callee:
            tags.reverse()
        return " ".join(f"{tag};1" if numbered and tag else tag for tag in tags)

    @function(ANY, waits=True)
    def start_recording(self, ctx: Ctx) -> int:
        answer = self._command(ctx, lambda call_id: f"R {call_id} {self._tags(ctx, numbered=False)}".rstrip())
        return 1 if answer is not None else _FAILED

    def _stream(self, ctx: Ctx, prompt: str, count: int, *, callee: bool) -> int:
        """Play a file to a side; a count of 0 ends that."""
        def make(call_id: str) -> str:
            tags = self._tags(ctx, callee=callee)
            return f"P{count} {call_id} {prompt} session {tags}" if count else f"S {call_id} {tags}"

        return 1 if self._command(ctx, make) is not None else _FAILED

    @function(ANY, waits=True)
    def rtpproxy_stream2uac(self, ctx: Ctx, prompt_name: str, count: int) -> int:
        return self._stream(ctx, prompt_name, count, callee=False)

    @function(ANY, waits=True)
    def rtpproxy_stream2uas(self, ctx: Ctx, prompt_name: str, count: int) -> int:
        return self._stream(ctx, prompt_name, count, callee=True)

    @function(ANY, waits=True)
    def rtpproxy_stop_stream2uac(self, ctx: Ctx) -> int:
        return self._stream(ctx, "", 0, callee=False)

    @function(ANY, waits=True)
    def rtpproxy_stop_stream2uas(self, ctx: Ctx) -> int:
        return self._stream(ctx, "", 0, callee=True)

    @function(ANY)
    def set_rtp_proxy_set(self, ctx: Ctx, setid: int) -> int:
        """The set for the commands of this message that follow."""
        if setid not in self.nodes.sets:
            self.rt.log.error("rtpproxy: there is no set %d", setid)
            return _FAILED
        ctx.remember("rtpproxy_set", setid)
        return 1

    @pv("rtpstat", "rtppstat")
    def pv_rtpstat(self, ctx: Ctx) -> str | None:
        """What rtpproxy has counted for a call, in its own words."""
        to_tag = f" {ctx.msg.to_tag}" if ctx.msg.to_tag else ""
        return self._command(ctx, lambda call_id: f"Q {call_id} {ctx.msg.from_tag};1{to_tag}")

    # -- RPC -------------------------------------------------------------------------------------------------------------

    @rpc("rtpproxy.list")
    def rpc_list(self) -> list[dict[str, Any]]:
        """All nodes with their sets and whether they are up."""
        now, out = self.rt.now(), []
        for index, (number, node) in enumerate(self.nodes.all()):
            left = node.disabled_until - now
            out.append({"setid": number, "url": node.url, "index": index, "disabled": int(left > 0), "weight": node.weight,
                        "recheck": -1 if left == math.inf else max(0, round(left))})  # fmt: skip
        return out

    @rpc("rtpproxy.enable", spread=Spread.EVERY)
    def rpc_enable(self, url: str, on: int) -> None:
        """Switch a node, or all of them, on (1) or off (0)."""
        found = [node for _, node in self.nodes.all() if url in ("all", node.url)]
        if not found:
            raise RpcFault(404, "RTPProxy not found")
        for node in found:
            node.disabled_until = 0.0 if on else math.inf


module = Rtpproxy
