"""Module sdpops: reading and changing session descriptions. https://www.kamailio.org/docs/modules/stable/modules/sdpops.html

A description is found as the whole body or as a part of a multipart one. One that cannot be used (RFC 4566; a stream without an address)
is an error to every function. Edits show in the message that is sent, as with textops, not in the message that the script reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from kamc.declare import ANY, Module, function, pv_class
from kamc.declare.argtypes import PvArg
from kamc.declare.pvspec import PvSpec
from kamc.declare.values import Value
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv
from kamc.runtime.sip.message import SipMessage
from kamc.runtime.sip.multipart import find_sdp
from kamc.runtime.sip.sdp import Sdp, SdpError, Stream, parse_sdp
from stdlib_modules.textopsx.iterators import Iterators, line_pieces

_LEVELS: Final = range(-5, 5)
_FAMILIES: Final = {"IP4": 4, "IP6": 6}
_STREAM_FIELD: Final = re.compile(r"m(\d+):(raw|b:[A-Z]+|rtp:port|rtcp:port)\Z")


class Description:
    """A description inside a message. Places in ``sdp`` count from ``start``."""

    __slots__ = ("msg", "sdp", "start", "text")

    def __init__(self, msg: SipMessage, start: int, text: str, sdp: Sdp) -> None:
        self.msg, self.start, self.text, self.sdp = msg, start, text, sdp


def _names(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


class Sdpops(Module):
    name = "sdpops"

    def __init__(self, rt: Any) -> None:
        super().__init__(rt)
        # variables are bound before mod_init
        self.iterators = Iterators()

    def read(self, ctx: Ctx) -> Description | None:
        """The description of a message, parsed once; None when there is none. Raises SdpError."""
        held: Description | None = ctx.recall("sdp")
        if held is not None and held.msg is ctx.msg:
            return held
        found = find_sdp(ctx.msg)
        if found is None:
            return None
        held = Description(ctx.msg, *found, parse_sdp(found[1]))
        ctx.remember("sdp", held)
        return held

    def _with(self, ctx: Ctx, use: Callable[[Description], int], absent: int = -1, bad: int = -1) -> int:
        """Give the description to a function; ``absent`` is the result when there is none, ``bad`` when it cannot be used."""
        try:
            found = self.read(ctx)
        except SdpError as err:
            self.rt.log.error("sdpops: the session description cannot be used: %s", err)
            return bad
        return use(found) if found is not None else absent

    @staticmethod
    def _cut(ctx: Ctx, d: Description, spans: Iterable[tuple[int, int]]) -> None:
        for start, end in spans:
            ctx.add_edit(d.start + start, d.start + end, "")

    # -- codecs ----------------------------------------------------------------------------------------------------------

    def _remove_payloads(self, ctx: Ctx, d: Description, streams: list[Stream], doomed: Callable[[str], bool]) -> int:
        """Take payload types out of the m= lines, and the attributes that speak of them."""
        for stream in streams:
            for payload, start, end in stream.payloads:
                if doomed(payload):
                    self._cut(ctx, d, [(start, end), *((line.start, line.end) for line in stream.codec_lines(payload))])
        return 1

    @staticmethod
    def _ids(sdp: Sdp, codecs: str) -> set[str]:
        return {payload for name in _names(codecs) for payload in sdp.payloads_named(name)}

    @function(ANY)
    def sdp_remove_codecs_by_id(self, ctx: Ctx, list: str, mtype: str = "") -> int:
        ids = set(_names(list))
        return self._with(ctx, lambda d: self._remove_payloads(ctx, d, d.sdp.of(mtype), ids.__contains__))

    @function(ANY)
    def sdp_remove_codecs_by_name(self, ctx: Ctx, list: str, mtype: str = "") -> int:
        """-1 when the description knows none of the names."""

        def use(d: Description) -> int:
            ids = self._ids(d.sdp, list)
            return self._remove_payloads(ctx, d, d.sdp.of(mtype), ids.__contains__) if ids else -1

        return self._with(ctx, use)

    @function(ANY)
    def sdp_keep_codecs_by_id(self, ctx: Ctx, list: str, mtype: str = "") -> int:
        ids = set(_names(list))
        return self._with(ctx, lambda d: self._remove_payloads(ctx, d, d.sdp.of(mtype), lambda p: p not in ids))

    @function(ANY)
    def sdp_keep_codecs_by_name(self, ctx: Ctx, list: str, mtype: str = "") -> int:
        """-1, and no change, when the description knows none of the names."""

        def use(d: Description) -> int:
            ids = self._ids(d.sdp, list)
            return self._remove_payloads(ctx, d, d.sdp.of(mtype), lambda p: p not in ids) if ids else -1

        return self._with(ctx, use)

    @staticmethod
    def _with_codecs(sdp: Sdp, ids: set[str]) -> int:
        """1 when every stream has all of them, 2 when some are there, -1 when none is."""
        found = [payload in {p for p, _, _ in stream.payloads} for stream in sdp.streams for payload in ids]
        return -1 if not any(found) else 1 if all(found) else 2

    @function(ANY)
    def sdp_with_codecs_by_id(self, ctx: Ctx, list: str) -> int:
        return self._with(ctx, lambda d: self._with_codecs(d.sdp, set(_names(list))), -2, -2)

    @function(ANY)
    def sdp_with_codecs_by_name(self, ctx: Ctx, list: str) -> int:
        return self._with(ctx, lambda d: self._with_codecs(d.sdp, self._ids(d.sdp, list)))

    # -- streams ---------------------------------------------------------------------------------------------------------

    def _has(self, ctx: Ctx, test: Callable[[Stream], bool]) -> int:
        return self._with(ctx, lambda d: 1 if any(map(test, d.sdp.streams)) else -1)

    def _remove_streams(self, ctx: Ctx, test: Callable[[Stream], bool]) -> int:
        def use(d: Description) -> int:
            doomed = [s for s in d.sdp.streams if test(s)]
            self._cut(ctx, d, (s.span for s in doomed))
            return 1 if doomed else -1

        return self._with(ctx, use)

    @function(ANY)
    def sdp_with_media(self, ctx: Ctx, type: str) -> int:
        return self._has(ctx, lambda s: s.media.lower() == type.lower())

    @function(ANY)
    def sdp_with_active_media(self, ctx: Ctx, type: str) -> int:
        """A stream with a port that is not inactive."""
        return self._has(ctx, lambda s: s.media.lower() == type.lower() and s.active)

    @function(ANY)
    def sdp_remove_media(self, ctx: Ctx, type: str) -> int:
        return self._remove_streams(ctx, lambda s: s.media.lower() == type.lower())

    @function(ANY)
    def sdp_with_transport(self, ctx: Ctx, type: str) -> int:
        return self._has(ctx, lambda s: s.transport.lower() == type.lower())

    @function(ANY)
    def sdp_with_transport_like(self, ctx: Ctx, type: str) -> int:
        """A transport that contains the text."""
        return self._has(ctx, lambda s: type in s.transport)

    @function(ANY)
    def sdp_remove_transport(self, ctx: Ctx, type: str) -> int:
        return self._remove_streams(ctx, lambda s: s.transport.lower() == type.lower())

    @function(ANY)
    def sdp_transport(self, ctx: Ctx, pv: PvArg) -> int:
        """The transport that all streams have in common; -2 when they differ."""
        if pv is None or pv.set is None:
            self.rt.log.error("sdp_transport: the variable cannot be set")
            return -1

        def use(d: Description) -> int:
            transports = {s.transport for s in d.sdp.streams}
            if len(transports) > 1:
                return -2
            if transports:
                pv.set(ctx, transports.pop())
            return 1

        return self._with(ctx, use, 1)

    def _into_avp(self, ctx: Ctx, avp: Any, read: Callable[[Description], str | None]) -> int:
        """Results go into AVPs only, as in Kamailio."""
        if avp is None or avp.spec is None or avp.spec.name != "avp":
            self.rt.log.error("sdpops: the result needs an AVP")
            return -1

        def use(d: Description) -> int:
            text = read(d)
            if text is None:
                return -1
            avp.set(ctx, text)
            return 1

        return self._with(ctx, use, -2)

    # -- lines -----------------------------------------------------------------------------------------------------------

    @function(ANY)
    def sdp_remove_line_by_prefix(self, ctx: Ctx, string: str, mtype: str = "") -> int:
        """In the whole description, or in the streams of a kind of media."""

        def use(d: Description) -> int:
            lines = [line for s in d.sdp.of(mtype) for line in s.lines] if mtype else d.sdp.lines
            self._cut(ctx, d, ((line.start, line.end) for line in lines if line.text.startswith(string)))
            return 1

        return self._with(ctx, use)

    @function(ANY)
    def sdp_get_line_startswith(self, ctx: Ctx, avpvar: PvArg, string: str) -> int:
        return self._into_avp(ctx, avpvar, lambda d: next((line.text for line in d.sdp.lines if line.text.startswith(string)), None))

    @function(ANY)
    def sdp_get(self, ctx: Ctx, avpvar: PvArg) -> int:
        return self._into_avp(ctx, avpvar, lambda d: d.text)

    @function(ANY)
    def sdp_print(self, ctx: Ctx, level: int) -> int:
        """Log what the description says."""

        def use(d: Description) -> int:
            if level <= self.rt.log.level:
                for number, stream in enumerate(d.sdp.streams):
                    codecs = " ".join(p for p, _, _ in stream.payloads)
                    self.rt.log.write(max(_LEVELS.start, level), f"stream {number}: {stream.media} {stream.port} {stream.transport} {codecs}", "sdpops")
            return 1

        return self._with(ctx, use, 1)

    @function(ANY)
    def sdp_content(self, ctx: Ctx, sloppy: int = 0) -> int:
        """Whether there is a description; with ``sloppy`` it need not be a good one."""
        if sloppy:
            return 1 if find_sdp(ctx.msg) is not None else -1
        return self._with(ctx, lambda d: 1)

    @function(ANY)
    def sdp_with_ice(self, ctx: Ctx) -> int:
        return self._with(ctx, lambda d: 1 if any(line.text.startswith("a=candidate") for line in d.sdp.lines) else -1)

    @function(ANY)
    def sdp_get_address_family(self, ctx: Ctx) -> int:
        """4 or 6, as the connection says."""
        return self._with(ctx, lambda d: _FAMILIES.get(_field(d.sdp.connection, 1) or "", -1))

    # -- iterators -------------------------------------------------------------------------------------------------------

    @function(ANY)
    def sdp_iterator_start(self, ctx: Ctx, iname: str) -> int:
        return self._with(ctx, lambda d: self.iterators.start(iname, line_pieces(d.text, d.start)))

    @function(ANY)
    def sdp_iterator_next(self, ctx: Ctx, iname: str) -> int:
        return self.iterators.step(iname, 1)

    @function(ANY)
    def sdp_iterator_end(self, ctx: Ctx, iname: str) -> int:
        return self.iterators.end(iname)

    @function(ANY)
    def sdp_iterator_rm(self, ctx: Ctx, iname: str) -> int:
        return self.iterators.remove(ctx, iname)

    @function(ANY)
    def sdp_iterator_append(self, ctx: Ctx, iname: str, text: str) -> int:
        return self.iterators.append(ctx, iname, text)

    @function(ANY)
    def sdp_iterator_insert(self, ctx: Ctx, iname: str, text: str) -> int:
        return self.iterators.insert(ctx, iname, text)

    @pv_class("sdpitval")
    def pv_sdpitval(self, spec: PvSpec) -> BoundPv:
        return BoundPv(self.iterators.getter((spec.inner or "").strip(), 1))

    # -- $sdp(...) -------------------------------------------------------------------------------------------------------

    @pv_class("sdp", set=True)
    def pv_sdp(self, spec: PvSpec) -> BoundPv:
        name = (spec.inner or "").strip()
        read = _reader(name)

        def get(ctx: Ctx) -> Value:
            try:
                found = self.read(ctx)
            except SdpError as err:
                self.rt.log.error("sdpops: the session description cannot be used: %s", err)
                return None
            return read(found) if found is not None else None

        return BoundPv(get, self._set_version if name == "sess_version" else None)

    @classmethod
    def check_pv_sdp(cls, spec: PvSpec) -> str | None:
        name = (spec.inner or "").strip()
        if name == "c:af":
            return "kamc does not have c:af"
        return None if name in _FIELDS or _STREAM_FIELD.match(name) else f"unknown name {name!r}"

    def _set_version(self, ctx: Ctx, value: Value) -> None:
        """Session version of the o= line; -1 makes it one more."""
        try:
            found = self.read(ctx)
        except SdpError:
            found = None
        line = next((line for line in found.sdp.head if line.text.startswith("o=")), None) if found is not None else None
        old = _field(line.text, 2) if line is not None else None
        if not isinstance(value, int) or found is None or line is None or old is None:
            self.rt.log.error("$sdp(sess_version) is set to an integer, in a message with a session description that has an o= line")
            return
        if value == -1:
            value = int(old) + 1 if old.isdecimal() else 1
        at = found.start + line.start + _field_at(line.text, 2)
        ctx.edits = [e for e in ctx.edits if e[:2] != (at, at + len(old))]
        ctx.add_edit(at, at + len(old), str(value))


def _field(line: str | None, index: int) -> str | None:
    """A field of ``x=a b c``."""
    parts = line[2:].split(" ") if line else []
    return parts[index] if index < len(parts) else None


def _field_at(line: str, index: int) -> int:
    """Where a field begins in the line."""
    return 2 + sum(len(part) + 1 for part in line[2:].split(" ")[:index])


_FIELDS: Final[dict[str, Callable[[Description], Value]]] = {
    "body": lambda d: d.text,
    "raw": lambda d: d.text,
    "sess_version": lambda d: _field(d.sdp.session_line("o="), 2),
    "c:ip": lambda d: _field(d.sdp.connection, 2),
    "o:ip": lambda d: _field(d.sdp.session_line("o="), 5),
}


def _reader(name: str) -> Callable[[Description], Value]:
    found = _FIELDS.get(name)
    if found is not None:
        return found
    match = _STREAM_FIELD.match(name)
    if match is None:
        raise ConfigError(f"unknown variable $sdp({name})")
    index, what = int(match[1]), match[2]

    def read(d: Description) -> Value:
        return _stream_field(d, d.sdp.streams[index], what) if index < len(d.sdp.streams) else None

    return read


def _stream_field(d: Description, stream: Stream, what: str) -> Value:
    if what == "raw":
        return d.text[slice(*stream.span)]
    if what.startswith("b:"):
        line = stream.find(f"b={what[2:]}:")
        return line.text.partition(":")[2] if line is not None else None
    port = stream.port.partition("/")[0]
    if what == "rtp:port":
        return port
    explicit = stream.find("a=rtcp:")
    # without an attribute RTCP is on the next port (RFC 3605)
    return explicit.text[7:].partition(" ")[0] if explicit is not None else str(int(port) + 1)


module = Sdpops
