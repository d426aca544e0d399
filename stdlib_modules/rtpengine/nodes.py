"""The rtpengines that may be asked: sets of them, who is up, who has a call. Talking to one may take its time and is done in a thread."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

from stdlib_modules.rtpengine.bencode import decode, encode

_LARGEST: Final = 65535


class NodeError(Exception):
    """A node that does not answer, or answers nonsense."""


@dataclass(slots=True)
class Node:
    """``url`` is ``udp:host:port`` or ``udp6:host:port``. ``disabled_until``: a second of the clock, 0 for one that is up, infinity for one that was switched off."""

    url: str
    weight: int = 1
    disabled_until: float = 0.0

    @property
    def address(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        proto, _, rest = self.url.partition(":")
        host, _, port = rest.rpartition(":")
        return (socket.AF_INET6 if proto == "udp6" else socket.AF_INET), (host.strip("[]"), int(port))

    def exchange(self, payload: bytes, *, tries: int, seconds: float, interface: str = "") -> bytes:
        """A packet behind a cookie, and what comes back behind the same one; sent again when nothing comes. Raises NodeError."""
        family, where = self.address
        cookie = f"{os.getpid()}_{os.urandom(6).hex()} ".encode()
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                if interface:
                    sock.bind((interface, 0))
                sock.connect(where)
                sock.settimeout(seconds)
                for _ in range(max(1, tries)):
                    sock.send(cookie + payload)
                    answer = self._answer(sock, cookie)
                    if answer is not None:
                        return answer
        except OSError as err:
            raise NodeError(f"{self.url}: {err.strerror or err}") from None
        raise NodeError(f"{self.url} does not answer")

    @staticmethod
    def _answer(sock: socket.socket, cookie: bytes) -> bytes | None:
        """What belongs to the question; answers to earlier ones are left out. None when nothing came in time."""
        while True:
            try:
                data = sock.recv(_LARGEST)
            except TimeoutError:
                return None
            if data.startswith(cookie):
                return data[len(cookie) :]

    def ask(self, command: dict[str, Any], *, tries: int, seconds: float, interface: str = "") -> dict[str, Any]:
        """One question of the ng protocol and its answer. Raises NodeError."""
        try:
            found = decode(self.exchange(encode(command), tries=tries, seconds=seconds, interface=interface))
        except ValueError as err:
            raise NodeError(f"{self.url}: an answer that is no bencoding: {err}") from None
        if not isinstance(found, dict):
            raise NodeError(f"{self.url}: an answer that is no dictionary")
        return found


@dataclass(slots=True)
class NodeSet:
    nodes: list[Node] = field(default_factory=list)


def parse_nodes(text: str) -> tuple[int | None, list[Node]]:
    """``[SET ==] udp:host:port[=weight] …``. Raises ValueError."""
    head, mark, rest = text.partition("==")
    number = None
    if mark:
        if not head.strip().isdecimal():
            raise ValueError(f"{text!r}: a set has a number")
        number = int(head)
    found = []
    for word in (rest if mark else text).split():
        url, _, weight = word.partition("=")
        proto, _, place = url.partition(":")
        host, _, port = place.rpartition(":")
        if proto not in ("udp", "udp6") or not host or not port.isdecimal() or not 0 < int(port) <= _LARGEST or (weight and not weight.isdecimal()):
            raise ValueError(f"{word!r} is not udp:host:port or udp6:host:port, with =WEIGHT behind it if wanted")
        found.append(Node(url, int(weight or 1)))
    return number, found


class Nodes:
    """All sets. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float], keep: float) -> None:
        self.clock, self.keep = clock, keep
        self.sets: dict[int, NodeSet] = {}
        #: (Call-ID, Via branch) → the node that has the call, and until when that is remembered
        self.calls: dict[tuple[str, str], tuple[Node, float]] = {}

    def all(self) -> list[tuple[int, Node]]:
        return [(number, node) for number, one in self.sets.items() for node in one.nodes]

    def take_over(self, previous: Nodes) -> None:
        """At a reload: who is down and who has which call, for the nodes that are still here."""
        here = {node.url: node for _, node in self.all()}
        for _, node in previous.all():
            if node.url in here:
                here[node.url].disabled_until = max(here[node.url].disabled_until, node.disabled_until)
        self.calls = {key: (here[node.url], until) for key, (node, until) in previous.calls.items() if node.url in here}

    def candidates(self, number: int, call_id: str, branch: str, *, finishing: bool = False) -> list[Node]:
        """The nodes of a set, in the order to be tried: the one that has the call, then by weight and Call-ID. Those that are down are left out;
        with ``finishing`` not the one that was switched off and has the call."""
        now = self.clock()
        chosen = self.sets.get(number)
        if chosen is None:
            return []
        up = [node for node in chosen.nodes if node.disabled_until <= now and node.weight > 0]
        out = []
        known = self.calls.get((call_id, branch))
        if known is not None and (known[0] in up or (finishing and known[0].disabled_until == math.inf)):
            out.append(known[0])
            up = [node for node in up if node is not known[0]]
        seed = crc32(call_id.encode("latin-1", "replace"))
        while up:
            total = sum(node.weight for node in up)
            at = seed % total
            for node in up:
                at -= node.weight
                if at < 0:
                    break
            out.append(node)
            up.remove(node)
        return out

    def has(self, call_id: str, branch: str, node: Node) -> None:
        """A node took a call."""
        self.calls[call_id, branch] = node, self.clock() + self.keep

    def forget(self, call_id: str, branch: str) -> None:
        self.calls.pop((call_id, branch), None)

    def clean(self) -> None:
        now = self.clock()
        self.calls = {key: held for key, held in self.calls.items() if held[1] > now}
