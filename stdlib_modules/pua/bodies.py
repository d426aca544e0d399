"""Documents before they are published: each event has its own rules."""

from __future__ import annotations

from kamc.runtime.markup import laid_out, local_name, parse_xml


def presence(body: str, tuple_id: str) -> tuple[str, str]:
    """A PIDF document with an id for its tuple: the one that it has, else ``tuple_id``. (document, id). Raises ValueError."""
    root = parse_xml(body, compact=True)
    row = next((e for e in root.iter() if local_name(e) == "tuple"), None)
    if row is None:
        raise ValueError("no tuple in the document")
    if not row.get("id"):
        row.set("id", tuple_id)
    return laid_out(root), row.get("id")
