"""Module msrp: the ``{msrpuri.*}`` transformations (RFC 4975 section 6). Relaying MSRP is not there."""

from __future__ import annotations

import re
from typing import Final

from kamc.declare import Module, transformation
from kamc.declare.values import Value, to_str

_URI: Final = re.compile(
    r"(?P<scheme>msrps?)://(?:(?P<userinfo>[^@/]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/;@]+)(?::(?P<port>\d+))?(?:/(?P<session>[^;]*))?(?:;(?P<params>.*))?\Z", re.I | re.S
)


def _part(value: Value, name: str) -> str:
    """A part of an MSRP URI; the empty text where it has none or the URI is bad."""
    match = _URI.match(to_str(value))
    if match is None:
        return ""
    found = match.group(name) or ""
    if name == "params":
        # the transport comes first; alone it is no parameter
        return found if ";" in found else ""
    return found


class Msrp(Module):
    name = "msrp"
    tuning_params = ("cmap_size", "timer_interval")

    @staticmethod
    @transformation("msrpuri.scheme")
    def msrpuri_scheme(value: Value) -> Value:
        return _part(value, "scheme")

    @staticmethod
    @transformation("msrpuri.userinfo")
    def msrpuri_userinfo(value: Value) -> Value:
        return _part(value, "userinfo")

    @staticmethod
    @transformation("msrpuri.user")
    def msrpuri_user(value: Value) -> Value:
        return _part(value, "userinfo").partition(":")[0]

    @staticmethod
    @transformation("msrpuri.host")
    def msrpuri_host(value: Value) -> Value:
        return _part(value, "host")

    @staticmethod
    @transformation("msrpuri.port")
    def msrpuri_port(value: Value) -> Value:
        return _part(value, "port")

    @staticmethod
    @transformation("msrpuri.session")
    def msrpuri_session(value: Value) -> Value:
        return _part(value, "session")

    @staticmethod
    @transformation("msrpuri.proto")
    def msrpuri_proto(value: Value) -> Value:
        match = _URI.match(to_str(value))
        return (match.group("params") or "").partition(";")[0] if match is not None else ""

    @staticmethod
    @transformation("msrpuri.params")
    def msrpuri_params(value: Value) -> Value:
        return _part(value, "params")


module = Msrp
