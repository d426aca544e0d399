"""Who may watch: documents of pres-rules (RFC 5025) over common policy (RFC 4745)."""

from __future__ import annotations

from typing import Any, Final

from kamc.runtime.markup import local_name as local
from kamc.runtime.sip.uri import parse_uri
from stdlib_modules.presence.notify import POLITE
from stdlib_modules.presence.packages import ACTIVE, PENDING, TERMINATED, BodyError
from stdlib_modules.presence_xml.pidf import parse

_STATES: Final = {"allow": (ACTIVE, ""), "block": (TERMINATED, "rejected"), "polite-block": (ACTIVE, POLITE), "confirm": (PENDING, "")}
#: the higher one counts when several rules match (RFC 5025 section 3.2.1)
_ORDER: Final = ("block", "confirm", "polite-block", "allow")


def _in_domain(element: Any, domain: str) -> bool:
    """``<many domain="d">`` with its ``<except>``s."""
    return element.get("domain") in (None, domain)


def _excepted(element: Any, watcher: str, domain: str) -> bool:
    return any(local(e) == "except" and (e.get("id") == watcher or (e.get("domain") is not None and e.get("domain") == domain)) for e in element)


def _meant(identity: Any, watcher: str, domain: str) -> bool:
    for element in identity:
        match local(element):
            case "one":
                if element.get("id") == watcher:
                    return True
            case "many":
                if _in_domain(element, domain) and not _excepted(element, watcher, domain):
                    return True
    return False


def _matches(conditions: Any, watcher: str, domain: str) -> bool:
    """All of its conditions; those that are not known here (sphere, validity) never hold."""
    parts = [e for e in conditions if local(e)]
    return all(local(part) == "identity" and _meant(part, watcher, domain) for part in parts) and bool(parts)


def decide(document: str | None, watcher: str) -> tuple[int, str]:
    """The state of a watcher and its reason. Without a rule about it a watcher waits."""
    if document is None:
        return PENDING, ""
    try:
        root = parse(document)
    except BodyError:
        return PENDING, ""
    uri = parse_uri(watcher)
    domain = uri.host if uri is not None else ""
    found = []
    for rule in root:
        if local(rule) != "rule":
            continue
        parts = {local(e): e for e in rule if local(e)}
        conditions, actions = parts.get("conditions"), parts.get("actions")
        if actions is None or (conditions is not None and not _matches(conditions, watcher, domain)):
            continue
        handling = next(((e.text or "").strip() for e in actions if local(e) == "sub-handling"), "")
        if handling in _ORDER:
            found.append(handling)
    return _STATES[max(found, key=_ORDER.index)] if found else (PENDING, "")
