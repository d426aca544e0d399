"""Documents of several publications as one: what stands below their roots, under the root of the oldest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from kamc.runtime.markup import laid_out, local_name, parse_xml


def latest(bodies: Sequence[str], gone: str | None) -> str:
    """Of documents, newest first, the first as it came; without one, that which is being taken back."""
    return bodies[0] if bodies else gone or ""


def merged(bodies: Sequence[str], element: str, choose: Callable[[list[Any]], list[Any]] = list) -> str | None:
    """One document with the elements of a name of all bodies, the first body's first, or with those of them that ``choose`` picks. What is no XML is
    passed over; None when nothing is XML."""
    roots = []
    for body in bodies:
        try:
            roots.append(parse_xml(body, compact=True))
        except ValueError:
            continue
    if not roots:
        return None
    whole = deepcopy(roots[0])
    found = choose([one for root in roots for one in root if local_name(one) == element])
    for one in [one for one in whole if local_name(one) == element]:
        whole.remove(one)
    whole.extend(deepcopy(one) for one in found)
    return laid_out(whole)
