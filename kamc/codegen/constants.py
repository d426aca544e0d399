"""What a program binds once, when it is loaded: getters and setters of variables, formats, patterns. Named after what they are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


def mangle(text: str) -> str:
    """A cfg name → part of a Python identifier: other characters become ``_xx_`` in hexadecimal."""
    return re.sub(r"[^A-Za-z0-9_]", lambda m: f"_{ord(m.group()):x}_", text)


def _readable(text: str) -> str:
    short = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return short[:40]


@dataclass(slots=True)
class Constants:
    """Hoisted values: Python source text by name. The same source is hoisted once."""

    by_source: dict[str, str] = field(default_factory=dict)
    by_name: dict[str, str] = field(default_factory=dict)
    #: the last number behind a name
    counts: dict[str, int] = field(default_factory=dict)

    def hoist(self, prefix: str, hint: str, source: str) -> str:
        found = self.by_source.get(source)
        if found is not None:
            return found
        base = f"{prefix}_{_readable(hint)}" if _readable(hint) else prefix
        name, n = base, self.counts.get(base, 1)
        while name in self.by_name:
            n += 1
            name = f"{base}_{n}"
        self.counts[base] = n
        self.by_source[source] = name
        self.by_name[name] = source
        return name
