"""XML that came from outside, read safely: nothing outside of the document is looked at, entities are not put in, depth and size are bounded."""

from __future__ import annotations

import re
from typing import Any, Final

from lxml import etree

_PROLOGUE: Final = 65_536
_PARSER: Final = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}

_VERSION: Final = re.compile(r'(<[^?!>][^>]*?\bversion=)(["\'])\d*\2')


def parse_xml(text: str, *, compact: bool = False) -> Any:
    """The root element of a document, whose characters are bytes; ``compact`` leaves out blanks between elements. Raises ValueError."""
    try:
        root = etree.fromstring(text.encode("latin-1", "replace"), etree.XMLParser(remove_blank_text=compact, **_PARSER))  # type: ignore[arg-type]
    except (etree.XMLSyntaxError, ValueError) as err:
        raise ValueError(f"no XML: {err}") from None
    if "<!DOCTYPE" in text[:_PROLOGUE] or "<!doctype" in text[:_PROLOGUE]:
        raise ValueError("a document with a DOCTYPE")
    return root


def laid_out(root: Any) -> str:
    """A document as Kamailio's presence modules lay it out: one element a line, two blanks a level."""
    return '<?xml version="1.0"?>\n' + str(etree.tostring(root, pretty_print=True).decode("ascii"))


def local_name(element: Any) -> str:
    """The name of an element without its namespace; empty for comments."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def with_version(text: str, version: int) -> str:
    """A document whose root element, or the first that has one, says another ``version``."""
    return _VERSION.sub(rf"\g<1>\g<2>{version}\g<2>", text, count=1)
