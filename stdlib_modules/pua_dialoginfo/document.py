"""Documents of dialog-info (RFC 4235), laid out as Kamailio's module lays them out."""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from kamc.runtime.sip.uri import parse_uri


class Party(NamedTuple):
    """A side of a call: who it is, and where requests go."""

    identity: str
    target: str


class Shown(NamedTuple):
    """What a document tells. ``call_id``, tags and parties are left out where they are empty or None."""

    entity: str
    ident: str
    state: str
    direction: str
    call_id: str = ""
    local_tag: str = ""
    remote_tag: str = ""
    remote: Party | None = None
    local: Party | None = None
    #: targets name their users
    display: bool = False


def _party(name: str, party: Party, *, display: bool) -> str:
    uri = parse_uri(party.identity) if display else None
    shown = f"display={quoteattr(uri.user)} " if uri is not None and uri.user else ""
    return f"    <{name}>\n      <identity>{escape(party.identity)}</identity>\n      <target {shown}uri={quoteattr(party.target)}/>\n    </{name}>\n"


def document(s: Shown) -> str:
    named = (("id", s.ident), ("call-id", s.call_id), ("local-tag", s.local_tag), ("remote-tag", s.remote_tag), ("direction", s.direction))
    attributes = " ".join(f"{name}={quoteattr(value)}" for name, value in named if value)
    parties = "".join(_party(name, party, display=s.display) for name, party in (("remote", s.remote), ("local", s.local)) if party is not None)
    return (f'<?xml version="1.0"?>\n<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" entity={quoteattr(s.entity)}>\n'
            f"  <dialog {attributes}>\n    <state>{s.state}</state>\n{parties}  </dialog>\n</dialog-info>\n")  # fmt: skip
