"""Module rtpengine: media relays that speak the ng protocol. https://www.kamailio.org/docs/modules/stable/modules/rtpengine.html

``flags`` makes the dictionary of a command from what the configuration says, ``nodes`` knows the relays, ``bencode`` writes and reads the packets,
``quality`` reads what a relay says of a call, ``events`` hears what it tells by itself (of several tags of an event, one text with commas)."""

from __future__ import annotations

import math
from typing import Any, Final

from kamc.declare import ANY, Module, Spread, function, modparam, pv, rpc
from kamc.declare.argtypes import PvArg
from kamc.declare.routes import Routes
from kamc.declare.values import to_int, to_str
from kamc.errors import ConfigError, SipError
from kamc.runtime.context import Ctx
from kamc.runtime.db import DbError
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.rpc.fault import RpcFault
from kamc.runtime.sip.multipart import find_sdp, mime_type
from stdlib_modules.rtpengine.events import EventParams, Events
from stdlib_modules.rtpengine.flags import Flags, parse
from stdlib_modules.rtpengine.nodes import Node, NodeError, Nodes, NodeSet, parse_nodes
from stdlib_modules.rtpengine.quality import Quality, QualityParams

#: commands that speak of one side of a call only when they are told which
_OF_THE_CALL: Final = frozenset({"block media", "silence media", "block DTMF", "start forwarding"})
_FRAGMENT: Final = "application/trickle-ice-sdpfrag"
_COUNTED: Final = (("RTP", "RTP"), ("RTCP", "RTCP"))


class Rtpengine(Events, Module):
    name = "rtpengine"
    kept = ("last_query",)
    tuning_params = ("hash_table_size", "aggressive_redetection", "control_cmd_tos", "hash_algo")

    class Params(QualityParams, EventParams):
        rtpengine_disable_tout: int = 60
        rtpengine_retr: int = 5
        rtpengine_tout_ms: int = 1000
        rtpengine_allow_op: int = 0
        queried_nodes_limit: int = 30
        ping_mode: int = 1
        ping_interval: int = 60
        db_url: str = ""
        table_name: str = "rtpengine"
        setid_col: str = "setid"
        url_col: str = "url"
        weight_col: str = "weight"
        disabled_col: str = "disabled"
        extra_id_pv: str = ""
        setid_avp: str = ""
        setid_default: int = 0
        force_send_interface: str = ""
        rtp_inst_pvar: str = ""
        write_sdp_pv: str = ""
        write_sdp_pv_mode: int = 0
        read_sdp_pv: str = ""
        media_duration: str = ""
        hash_table_tout: int = 3600

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        #: as the parameters name them: (set, or None for the default one; node)
        self.named: list[tuple[int | None, Node]] = []
        self.last_query = ""

    @modparam("rtpengine_sock")
    def set_socks(self, text: str) -> None:
        number, found = parse_nodes(text)
        self.named += [(number, node) for node in found]

    # -- start -----------------------------------------------------------------------------------------------------------

    def mod_init(self) -> None:
        p = self.p
        if p.rtpengine_tout_ms <= 0:
            raise ConfigError("rtpengine: rtpengine_tout_ms is a number of milliseconds above 0")
        self.nodes = Nodes(self.rt.now, float(p.hash_table_tout))
        self._fill()
        self.extra_id, self.set_pv, self.inst_pv, self.write_pv, self.read_pv, self.duration_pv = (
            self._variable(name) for name in ("extra_id_pv", "setid_avp", "rtp_inst_pvar", "write_sdp_pv", "read_sdp_pv", "media_duration"))
        self.quality = Quality(self._variable)
        self.bind_events()
        if p.ping_interval > 0 and p.ping_mode:
            self.rt.every(float(p.ping_interval), self._ping_all)
        self.rt.every(60.0, self.nodes.clean)

    def _variable(self, param: str) -> BoundPv | None:
        text = getattr(self.p, param)
        return self.rt.pv_arg(text) if text else None

    def _fill(self) -> None:
        """The sets, from the parameters and the table. Raises ConfigError."""
        sets: dict[int, NodeSet] = {}
        for number, node in self.named:
            sets.setdefault(self.p.setid_default if number is None else number, NodeSet()).nodes.append(Node(node.url, node.weight))
        if self.p.db_url:
            p, db = self.p, self.rt.database(self.p.db_url)
            try:
                for number, url, weight, disabled in db.select(p.table_name, (p.setid_col, p.url_col, p.weight_col, p.disabled_col)).rows:
                    (_, [node]) = parse_nodes(f"{url}={weight}")
                    node.disabled_until = math.inf if to_int(disabled) else 0.0
                    sets.setdefault(to_int(number), NodeSet()).nodes.append(node)
            except (DbError, ValueError) as err:
                raise ConfigError(f"rtpengine: table {p.table_name}: {err}") from None
        before = {(number, node.url): node.disabled_until for number, node in self.nodes.all()}
        for number, one in sets.items():
            for node in one.nodes:
                node.disabled_until = max(node.disabled_until, before.get((number, node.url), 0.0))
        self.nodes.sets = sets

    def activate(self, previous: Any) -> None:
        """Which node has which call outlives a reload, and which ones are down."""
        super().activate(previous)
        self.take_events()
        if previous is not None:
            self.nodes.take_over(previous.nodes)

    # -- asking ----------------------------------------------------------------------------------------------------------

    def _ask(self, node: Node, command: dict[str, Any], tries: int) -> dict[str, Any]:
        """Raises NodeError. The run waits, the worker does not."""
        answer: dict[str, Any] = self.rt.worker.waits.call(
            lambda: node.ask(command, tries=tries, seconds=self.p.rtpengine_tout_ms / 1000, interface=self.p.force_send_interface))
        return answer

    def _ping(self, node: Node) -> bool:
        try:
            up = self._ask(node, {"command": "ping"}, 1).get("result") == "pong"
        except NodeError:
            up = False
        if node.disabled_until != math.inf:
            node.disabled_until = 0.0 if up else self.rt.now() + self.p.rtpengine_disable_tout
        return up

    def _ping_all(self) -> None:
        def run() -> None:
            for _, node in self.nodes.all():
                if node.disabled_until != math.inf:
                    self._ping(node)

        self.rt.worker.waits.detached(run)

    def _set_of(self, ctx: Ctx) -> int:
        chosen = ctx.recall("rtpengine_set")
        if chosen is None and self.set_pv is not None:
            chosen = self.set_pv.get(ctx)
        return to_int(chosen) if chosen is not None else self.p.setid_default

    def _command(self, ctx: Ctx, what: str, flags: Flags) -> dict[str, Any] | None:
        """The dictionary of a command; None when the message lacks what it needs."""
        msg, names = ctx.msg, flags.names
        branch = self._branch(ctx, names.get("via-branch", ""))
        if branch is None:
            return None
        family = "IP6" if ":" in ctx.flow.remote_ip else "IP4"
        out: dict[str, Any] = {"supports": ["load limit"], **flags.fields, "call-id": names.get("call-id") or msg.call_id}
        if branch:
            out["via-branch"] = branch
        out["received-from"] = [family, ctx.flow.remote_ip]
        from_tag, to_tag = msg.from_tag, msg.to_tag
        if what == "answer" and msg.is_request:
            # an ACK or PRACK with an answer comes from the side that got the offer
            from_tag, to_tag = to_tag, from_tag
        one_side = what not in _OF_THE_CALL or flags.directional
        if one_side or "from-tag" in names:
            out["from-tag"] = names.get("from-tag") or from_tag
        if "to-tag" in names:
            out["to-tag"] = names["to-tag"]
        elif to_tag and one_side and (what in ("answer", "offer") or flags.to_tag):
            out["to-tag"] = to_tag
        out["command"] = what
        return out

    def _branch(self, ctx: Ctx, which: str) -> str | None:
        """The Via branch that goes along: ``1``, ``2``, ``auto`` (1 for a request, 2 for a reply), ``extra``; empty for none, None for one that is not there."""
        if not which:
            return ""
        if which == "extra":
            value = self.extra_id.get(ctx) if self.extra_id is not None else None
            return to_str(value) if value is not None else None
        if which == "auto":
            which = "1" if ctx.msg.is_request else "2"
        try:
            vias = ctx.msg.vias
        except SipError:
            return None
        number = int(which) if which in ("1", "2") else 0
        return vias[number - 1].branch or None if 0 < number <= len(vias) else None

    def _do(self, ctx: Ctx, what: str, text: str, extra: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Send a command to the node of the call, or to another one when that is down. None when nobody has done it."""
        command = self._command(ctx, what, parse(text))
        if command is None:
            self.rt.log.error("rtpengine: %s: the message lacks the Via branch that is wanted", what)
            return None
        command |= extra or {}
        call_id, branch = command["call-id"], command.get("via-branch", "")
        tried = self.nodes.candidates(self._set_of(ctx), call_id, branch, finishing=bool(self.p.rtpengine_allow_op))
        for node in tried[: max(1, self.p.queried_nodes_limit)]:
            try:
                answer = self._ask(node, command, self.p.rtpengine_retr)
            except NodeError as err:
                self.rt.log.error("rtpengine: %s", err)
                node.disabled_until = max(node.disabled_until, self.rt.now() + self.p.rtpengine_disable_tout)
                continue
            result = answer.get("result")
            if result == "load limit":
                continue
            if result == "error":
                self.rt.log.error("rtpengine: %s at %s: %s", what, node.url, answer.get("error-reason", "refused"))
                return None
            if answer.get("warning"):
                self.rt.log.warning("rtpengine: %s at %s: %s", what, node.url, answer["warning"])
            if what == "delete":
                self.nodes.forget(call_id, branch)
            else:
                self.nodes.has(call_id, branch, node)
            if self.inst_pv is not None and self.inst_pv.set is not None:
                self.inst_pv.set(ctx, node.url)
            return answer
        self.rt.log.error("rtpengine: %s: no rtpengine of set %d takes it", what, self._set_of(ctx))
        return None

    def _simply(self, ctx: Ctx, what: str, flags: str) -> int:
        return 1 if self._do(ctx, what, flags) is not None else -1

    # -- offers and answers ----------------------------------------------------------------------------------------------

    def _description(self, ctx: Ctx) -> tuple[int, str] | None:
        """(place in the message, text) of the session description; the place is -1 for one from read_sdp_pv."""
        if self.read_pv is not None:
            value = self.read_pv.get(ctx)
            if isinstance(value, str) and value:
                return -1, value
        return find_sdp(ctx.msg)

    def _exchange(self, ctx: Ctx, what: str, flags: str) -> int:
        """Let the relay stand in a description."""
        found = self._description(ctx)
        if found is None:
            return -1
        at, text = found
        answer = self._do(ctx, what, flags, {"sdp": text})
        new = answer.get("sdp") if answer is not None else None
        if not isinstance(new, str):
            return -1
        if self.write_pv is not None and self.write_pv.set is not None:
            self.write_pv.set(ctx, new)
            if not self.p.write_sdp_pv_mode:
                return 1
        if at >= 0:
            ctx.add_edit(at, at + len(text), new)
        return 1

    @function(ANY, waits=True)
    def rtpengine_offer(self, ctx: Ctx, flags: str = "", via_branch: str = "") -> int:
        return self._exchange(ctx, "offer", self._with_branch(flags, via_branch))

    @function(ANY, waits=True)
    def rtpengine_answer(self, ctx: Ctx, flags: str = "", via_branch: str = "") -> int:
        """In a reply, or in an ACK or PRACK."""
        if ctx.msg.is_request and ctx.msg.method not in ("ACK", "PRACK"):
            return -1
        return self._exchange(ctx, "answer", self._with_branch(flags, via_branch))

    @staticmethod
    def _with_branch(flags: str, via_branch: str) -> str:
        return f"{flags} via-branch={via_branch}" if via_branch else flags

    @function(ANY, "rtpengine_delete", "rtpengine_destroy", waits=True)
    def rtpengine_delete(self, ctx: Ctx, flags: str = "", via_branch: str = "") -> int:
        answer = self._do(ctx, "delete", self._with_branch(flags, via_branch))
        if answer is None:
            return -1
        self.quality.tell(ctx, answer)
        if self.duration_pv is not None and self.duration_pv.set is not None and isinstance(answer.get("created"), int):
            self.duration_pv.set(ctx, str(max(0, int(self.rt.wall_time()) - answer["created"])))
        return 1

    @function(ANY, waits=True)
    def rtpengine_manage(self, ctx: Ctx, flags: str = "", via_branch: str = "") -> int:
        """What the message asks for: an offer, an answer, the end."""
        msg, text = ctx.msg, self._with_branch(flags, via_branch)
        method = msg.method if msg.is_request else msg.cseq[1]
        if method not in ("INVITE", "ACK", "CANCEL", "BYE", "UPDATE", "PRACK"):
            return -1
        if method in ("CANCEL", "BYE"):
            return self.rtpengine_delete(ctx, text)
        described = self._description(ctx) is not None
        if msg.is_request:
            if not described:
                return -1
            if method in ("ACK", "PRACK"):
                return self._exchange(ctx, "answer", text)
            if method == "INVITE" and ctx.kind & Routes.FAILURE:
                return self.rtpengine_delete(ctx, text)
            return self._exchange(ctx, "offer", text)
        if msg.status >= 300:
            return self.rtpengine_delete(ctx, text)
        if not described:
            return -1
        return self._exchange(ctx, "offer" if method == "INVITE" and self._asks_for_offer(ctx) else "answer", text)

    @staticmethod
    def _asks_for_offer(ctx: Ctx) -> bool:
        """The INVITE had no description: its reply brings the offer."""
        t = ctx.t
        return t is not None and find_sdp(t.msg) is None

    # -- the rest of the commands ----------------------------------------------------------------------------------------

    @function(ANY, waits=True)
    def rtpengine_info(self, ctx: Ctx, flags: str = "", via_branch: str = "") -> int:
        """A trickle ICE fragment, which is passed on as it is; or an offer within a call."""
        text = self._with_branch(flags, via_branch)
        if mime_type(ctx.msg.value("content-type")) == _FRAGMENT and ctx.msg.body:
            return 1 if self._do(ctx, "offer", f"{text} fragment", {"sdp": ctx.msg.body}) is not None else -1
        return self._exchange(ctx, "offer", text)

    @function(ANY, waits=True)
    def rtpengine_query(self, ctx: Ctx, flags: str = "", via_branch: str = "") -> int:
        answer = self._do(ctx, "query", self._with_branch(flags, via_branch))
        if answer is None:
            return -1
        self.quality.tell(ctx, answer)
        return 1

    @function(ANY, waits=True)
    def rtpengine_connect(self, ctx: Ctx, flags: str = "", via_branch: str = "") -> int:
        return self._simply(ctx, "connect", self._with_branch(flags, via_branch))

    @function(ANY, waits=True)
    def start_recording(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "start recording", flags)

    @function(ANY, waits=True)
    def stop_recording(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "stop recording", flags)

    @function(ANY, waits=True)
    def block_dtmf(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "block DTMF", flags)

    @function(ANY, waits=True)
    def unblock_dtmf(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "unblock DTMF", flags)

    @function(ANY, waits=True)
    def block_media(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "block media", flags)

    @function(ANY, waits=True)
    def unblock_media(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "unblock media", flags)

    @function(ANY, waits=True)
    def silence_media(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "silence media", flags)

    @function(ANY, waits=True)
    def unsilence_media(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "unsilence media", flags)

    @function(ANY, waits=True)
    def start_forwarding(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "start forwarding", flags)

    @function(ANY, waits=True)
    def stop_forwarding(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "stop forwarding", flags)

    @function(ANY, waits=True)
    def play_media(self, ctx: Ctx, flags: str, duration: str = "") -> int:
        """``file=…``, ``blob=…`` or ``db-id=…``."""
        answer = self._do(ctx, "play media", flags)
        if answer is not None and self.duration_pv is not None and self.duration_pv.set is not None and isinstance(answer.get("duration"), int):
            self.duration_pv.set(ctx, str(answer["duration"]))
        return 1 if answer is not None else -1

    @function(ANY, waits=True)
    def stop_media(self, ctx: Ctx, flags: str = "") -> int:
        return self._simply(ctx, "stop media", flags)

    @function(ANY, waits=True)
    def play_dtmf(self, ctx: Ctx, flags: str) -> int:
        return self._simply(ctx, "play DTMF", flags)

    @function(ANY)
    def set_rtpengine_set(self, ctx: Ctx, setid: int) -> int:
        """The set for the commands of this message that follow."""
        if setid not in self.nodes.sets:
            self.rt.log.error("rtpengine: there is no set %d", setid)
            return -1
        ctx.remember("rtpengine_set", setid)
        return 1

    # -- what is counted -------------------------------------------------------------------------------------------------

    @pv("rtpestat", "rtpstat")
    def pv_rtpestat(self, ctx: Ctx) -> str | None:
        """Packets, bytes and errors of a call, asked for now."""
        answer = self._do(ctx, "query", "to-tag")
        if answer is None:
            return None
        totals = answer.get("totals")
        if not isinstance(totals, dict):
            return ""
        parts = []
        for key, shown in _COUNTED:
            row = totals.get(key)
            row = row if isinstance(row, dict) else {}
            parts.append(f"{shown}: {row.get('bytes', 0)} bytes, {row.get('packets', 0)} packets, {row.get('errors', 0)} errors")
        return "; ".join(parts)

    @function(ANY, waits=True)
    def rtpengine_query_v(self, ctx: Ctx, fmt: str, var: PvArg) -> int:
        """What rtpengine says of a call, in a variable: ``fmt`` is the flags of the query."""
        answer = self._do(ctx, "query", fmt)
        if answer is None or var.set is None:
            return -1
        import json

        var.set(ctx, json.dumps(answer, separators=(",", ":")))
        return 1

    # -- RPC -------------------------------------------------------------------------------------------------------------

    def _matching(self, url: str) -> list[tuple[int, Node]]:
        found = [(number, node) for number, node in self.nodes.all() if url == "all" or node.url == url]
        if not found:
            raise RpcFault(404, "Instance not found" if url != "all" else "No instances found")
        return found

    def _row(self, number: int, node: Node) -> dict[str, Any]:
        left = node.disabled_until - self.rt.now()
        disabled: int | str = "1(permanent)" if left == math.inf else int(left > 0)
        return {"url": node.url, "set": number, "index": [n for _, n in self.nodes.all()].index(node), "weight": node.weight, "disabled": disabled,
                "recheck_ticks": "N/A" if left == math.inf else max(0, round(left))}  # fmt: skip

    @rpc("rtpengine.show")
    def rpc_show(self, url: str) -> list[dict[str, Any]]:
        """A node by its URL, or all of them."""
        return [self._row(number, node) for number, node in self._matching(url)]

    @rpc("rtpengine.ping")
    def rpc_ping(self, url: str) -> dict[str, Any] | list[dict[str, Any]]:
        """Ask a node, or all of them, whether they are there."""
        out = []
        for _, node in self._matching(url):
            up = self._ping(node)
            out.append({"url": node.url, "status": "success" if up else "disabled" if node.disabled_until == math.inf else "fail"})
        return self._told(url, out, "success")

    @staticmethod
    def _told(url: str, rows: list[dict[str, Any]], good: str) -> dict[str, Any] | list[dict[str, Any]]:
        """One word for all nodes, as Kamailio has it: that of the first that is not well. A node may be in several sets."""
        if url == "all":
            return {"url": "all", "status": next((row["status"] for row in rows if row["status"] != good), good)}
        return rows[0] if len(rows) == 1 else rows

    @rpc("rtpengine.enable", spread=Spread.EVERY)
    def rpc_enable(self, url: str, on: int) -> dict[str, Any] | list[dict[str, Any]]:
        """Switch a node, or all of them, on (1) or off (0)."""
        out = []
        for _, node in self._matching(url):
            node.disabled_until = 0.0 if on else math.inf
            out.append({"url": node.url, "status": "disable" if not on else "enable" if self._ping(node) else "fail"})
        return self._told(url, out, "enable" if on else "disable")

    @rpc("rtpengine.reload", spread=Spread.EVERY)
    def rpc_reload(self) -> None:
        """Read the table again."""
        if not self.p.db_url:
            raise RpcFault(500, "No Database URL")
        try:
            self._fill()
        except ConfigError as err:
            self.rt.log.error("%s", err)
            raise RpcFault(500, "Failed to reload the table content") from None

    @rpc("rtpengine.get_hash_total", spread=Spread.SUM)
    def rpc_total(self) -> int:
        """How many calls are remembered."""
        return len(self.nodes.calls)


module = Rtpengine
