"""The transaction layer under random interleavings, in virtual time: requests, replies, retransmissions, losses, CANCELs, timers, reloads.

What has to hold whatever happens (RFC 3261 sections 16.7, 17): a request gets at most one final reply that is no 2xx and none of those after
a 2xx; every reply answers a request that came; a CANCEL or ACK of ours follows a request of ours; when everybody falls silent every
transaction ends and takes its timers along.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kamc.runtime.sip.message import parse_message
from tests.harness import HEAD, Bench, Message, built

CFG = HEAD + """
modparam("tm", "fr_timer", 4000)
modparam("tm", "fr_inv_timer", 12000)
modparam("tm", "max_inv_lifetime", 40000)
modparam("tm", "wt_timer", 3000)
request_route {
    if (is_method("ACK") && !has_totag()) { t_check_trans(); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if ($rU == "local") { t_newtran(); t_reply("486", "Here"); exit; }
    if ($rU == "stateless") { sl_send_reply("404", "Nowhere"); exit; }
    t_on_reply("R");
    if ($rU == "fork" || $rU == "both") { append_branch("sip:c@127.0.0.1:7001"); append_branch("sip:d@127.0.0.1:7002"); }
    if ($rU == "serial" || $rU == "both") t_on_failure("F");
    if ($rU == "branchy") t_on_branch("B");
    $rd = "127.0.0.1"; $rp = 7000;
    t_relay();
}
branch_route[B] { append_hf("X-B: 1\\r\\n"); }
onreply_route[R] { if ($rs == 183) drop; }
failure_route[F] {
    if (t_is_canceled()) exit;
    if (t_branch_timeout()) { t_reply("480", "Given up"); exit; }
    if (t_check_status("486|404")) { $ru = "sip:next@127.0.0.1:7003"; append_branch(); t_relay(); exit; }
}
"""
_BUILD: dict[str, bytes] = {}
USERS = ("plain", "fork", "serial", "both", "branchy", "local", "stateless")
CODES = (100, 180, 183, 200, 202, 302, 401, 404, 407, 408, 486, 487, 500, 503, 603)


@dataclass
class Asked:
    """A request that came in, and what it was answered."""

    text: str
    method: str
    branch: str
    finals: list[str] = field(default_factory=list)


def branch_of(text: str) -> str:
    return text.split(";branch=", 1)[1].split("\r\n", 1)[0].split(";")[0].split(",")[0]


class Traffic(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        folder = Path(tempfile.gettempdir())
        if not _BUILD:
            with tempfile.TemporaryDirectory() as name:
                _BUILD.update(built(Path(name), CFG))
        self.bench = Bench(folder, "", files=_BUILD)
        self.bench.log.level = -1
        self.asked: dict[tuple[str, str], Asked] = {}
        #: requests of ours by branch and method
        self.ours: dict[tuple[str, str], Message] = {}
        self.serial = 0

    # -- what goes out ---------------------------------------------------------------------------------------------------

    def look(self, *, stray: bool = False) -> None:
        """Everything that was sent since the last look. ``stray``: replies of a transaction that is over go on by their Vias."""
        for message in self.bench.take():
            if message.first.startswith("SIP/2.0"):
                self._reply_out(message, stray)
            else:
                self._request_out(message)

    def _reply_out(self, message: Message, stray: bool) -> None:
        code = int(message.first.split()[1])
        method = message.get("CSeq").split()[1]
        key = (branch_of(message.text), method)
        assert key in self.asked, f"a reply to nothing: {message}"
        asked = self.asked[key]
        if code < 200 or stray:
            return
        first = message.first
        if first in asked.finals:
            return
        if code >= 300:
            assert not asked.finals, f"{first} after {asked.finals}"
        asked.finals.append(first)

    def _request_out(self, message: Message) -> None:
        method = message.first.split()[0]
        branch = branch_of(message.text)
        if method in ("ACK", "CANCEL") and len(message.all("Via")) == 1:
            assert (branch, "INVITE") in self.ours, f"{message} follows no INVITE"
        self.ours.setdefault((branch, method), message)

    # -- what comes in ---------------------------------------------------------------------------------------------------

    @rule(user=st.sampled_from(USERS), method=st.sampled_from(("INVITE", "INVITE", "MESSAGE", "BYE")))
    def request(self, user: str, method: str) -> None:
        self.serial += 1
        branch = f"z9hG4bKp{self.serial}"
        # noted first: the answer may come before the call returns
        self.asked[branch, method] = Asked("", method, branch)
        self.asked[branch, method].text = self.bench.request(method, f"sip:{user}@127.0.0.1", branch=branch, call_id=f"c{self.serial}")
        self.look()

    @rule(data=st.data())
    def retransmit(self, data: st.DataObject) -> None:
        if self.asked:
            asked = self.asked[data.draw(st.sampled_from(sorted(self.asked)))]
            if self.bench.worker.engine.find(parse_message(asked.text)) is None:
                asked.finals.clear()  # the first one is forgotten: this one begins anew
            self.bench.recv(asked.text)
            self.look()

    @rule(data=st.data(), code=st.sampled_from(CODES), times=st.integers(1, 2))
    def answer(self, data: st.DataObject, code: int, times: int) -> None:
        """To any request of ours, whether it is still waited for or not; twice is a retransmission."""
        keys = [k for k in self.ours if k[1] != "ACK"]
        if not keys:
            return
        message = self.ours[data.draw(st.sampled_from(keys))]
        branch = branch_of(message.text)
        for _ in range(times):
            stray = branch.rpartition(".")[0] not in self.bench.worker.engine._by_tid
            self.bench.reply(message, f"{code} Whatever", tag=f"t{branch[-6:]}")
            self.look(stray=stray)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        invites = [a for a in self.asked.values() if a.method == "INVITE"]
        if invites:
            asked = data.draw(st.sampled_from(invites))
            self.asked.setdefault((asked.branch, "CANCEL"), Asked(asked.text.replace("INVITE", "CANCEL"), "CANCEL", asked.branch))
            self.bench.recv(asked.text.replace("INVITE", "CANCEL"))
            self.look()

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        refused = [a for a in self.asked.values() if a.method == "INVITE" and a.finals and not a.finals[0].startswith("SIP/2.0 2")]
        if refused:
            self.bench.recv(data.draw(st.sampled_from(refused)).text.replace("INVITE", "ACK"))
            self.look()

    @rule(seconds=st.sampled_from((0.05, 0.5, 0.5, 1.0, 3.0, 5.0, 13.0)))
    def wait(self, seconds: float) -> None:
        self.bench.advance(seconds)
        self.look()

    @rule()
    def reload(self) -> None:
        """A new generation takes over; what runs ends on the one that it began with."""
        self.bench.load()
        self.look()

    # -- what has to hold ------------------------------------------------------------------------------------------------

    @invariant()
    def no_error_was_logged(self) -> None:
        assert not any("Traceback" in line for line in self.bench.log.lines), self.bench.log.lines

    def teardown(self) -> None:
        """Everybody falls silent: it all ends."""
        for _ in range(3):
            self.bench.advance(60)
            self.look()
        assert self.bench.transactions == 0
        assert len(self.bench.worker.timers) == 0
        engine = self.bench.worker.engine
        assert not engine._by_key and engine.stats["current"] == 0
        for asked in self.asked.values():
            if asked.method != "ACK":
                assert asked.finals or asked.method == "CANCEL", f"{asked.method} {asked.branch} was never answered"
        self.bench.worker.rt = None


Traffic.TestCase.settings = settings(max_examples=450, stateful_step_count=50, deadline=None, derandomize=True, print_blob=True,
                                     suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])  # fmt: skip
TestTraffic = Traffic.TestCase
