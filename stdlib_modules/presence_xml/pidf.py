"""Presence documents (RFC 3863, PIDF): read safely, joined, taken back."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

from lxml import etree

from kamc.runtime.markup import local_name as local
from kamc.runtime.markup import parse_xml
from stdlib_modules.presence.packages import BodyError

PIDF: Final = "urn:ietf:params:xml:ns:pidf"
_NAMESPACES: Final[Any] = {None: PIDF}


def parse(body: str) -> Any:
    """The root element. Raises BodyError."""
    try:
        return parse_xml(body)
    except ValueError as err:
        raise BodyError(str(err)) from None


def check(body: str) -> None:
    parse(body)


def find(root: Any, name: str) -> Any:
    """The first element of a name below another one, whatever its namespace."""
    return next((e for e in root.iter() if local(e) == name), None)


def text(root: Any) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + str(etree.tostring(root, encoding="UTF-8").decode("latin-1"))


def taken_back(body: str) -> str:
    """The document of somebody who is not there any more: its tuple, closed."""
    try:
        found = find(parse(body), "tuple")
        entity = parse(body).get("entity", "")
    except BodyError:
        return ""
    if found is None:
        return ""
    root = etree.Element(f"{{{PIDF}}}presence", {"entity": entity}, _NAMESPACES)
    row = etree.SubElement(root, f"{{{PIDF}}}tuple", {"id": found.get("id", "")})
    etree.SubElement(etree.SubElement(row, f"{{{PIDF}}}status"), f"{{{PIDF}}}basic").text = "closed"
    return text(root)


def joined(bodies: Sequence[str]) -> str:
    """One document: the first, and what the others have besides (tuples, persons, devices, notes with another id)."""
    roots = []
    for body in bodies:
        try:
            roots.append(parse(body))
        except BodyError:
            continue
    if not roots:
        return ""
    first = roots[0]
    known = {(local(e), e.get("id")) for e in first}
    for other in roots[1:]:
        for element in other:
            key = local(element), element.get("id")
            if key[0] and key not in known:
                known.add(key)
                first.append(deepcopy(element))
    return text(first)


def combine(bodies: Sequence[str], gone: str | None) -> str:
    """For watchers; ``gone`` was taken back just now."""
    closed = taken_back(gone) if gone else ""
    return joined([closed, *bodies] if closed else bodies)


def single(bodies: Sequence[str], priorities: list[str], element: str) -> str:
    """The one document that matters most: by a text in an element of it, the newest of equal ones."""
    def rank(body: str) -> int:
        try:
            found = find(parse(body), element)
        except BodyError:
            return -1
        value = (found.text or "").strip() if found is not None else ""
        return priorities.index(value) if value in priorities else -1

    return max(bodies, key=rank, default="")


def dummy(uri: str) -> str:
    """Of somebody who has published nothing."""
    root = etree.Element(f"{{{PIDF}}}presence", {"entity": uri}, _NAMESPACES)
    row = etree.SubElement(root, f"{{{PIDF}}}tuple", {"id": "0"})
    etree.SubElement(etree.SubElement(row, f"{{{PIDF}}}status"), f"{{{PIDF}}}basic").text = "closed"
    return text(root)


def has_basic(body: str, status: str) -> bool | None:
    """Whether a tuple says so; None without any."""
    return _says(body, "basic", lambda e: (e.text or "").strip() == status)


def has_activity(body: str, activity: str) -> bool | None:
    """Whether ``<rpid:activities>`` names it; None without any."""
    return _says(body, "activities", lambda e: any(local(child) == activity for child in e))


def _says(body: str, name: str, test: Any) -> bool | None:
    try:
        found = [e for e in parse(body).iter() if local(e) == name]
    except BodyError:
        return None
    return any(test(e) for e in found) if found else None
