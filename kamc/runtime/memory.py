"""How much memory this process has and may have, in the terms that Kamailio uses of its shared memory. All sizes are in bytes."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _limits() -> list[int]:
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft != resource.RLIM_INFINITY:
        found.append(soft)
    for name in _CGROUP_LIMITS:
        try:
            text = Path(name).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit():
            found.append(int(text))
    return found


def total() -> int:
    """What the machine has, or what a limit on this process or its control group leaves of it."""
    return min(_limits())


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def used() -> int:
    """What is resident now, or, where the system does not tell, what was at most."""
    return _resident() or most()


def most() -> int:
    """The most that was resident at a time."""
    # the kernel counts pages of several threads late, and this one later than the other
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, _resident())


def free() -> int:
    """What this process could still take."""
    return max(0, total() - used())


def sizes() -> dict[str, int]:
    """By the names that Kamailio has for them."""
    return {"total": total(), "free": free(), "used": used(), "real_used": used(), "max_used": most()}


def stats(shift: int = 0) -> dict[str, int]:
    """What commands say of it: sizes, in units of 2**shift bytes, and in how many pieces it lies."""
    return {name: size >> shift for name, size in sizes().items()} | {"fragments": 1}


def info() -> dict[str, str | int]:
    """Who gives it out, and how much there is."""
    return {"name": "python", "size": total()}


def summary() -> str:
    """One line for a log, in KiB."""
    return f"memory status of {os.getpid()}: " + ", ".join(f"{name} {size >> 10} KiB" for name, size in sizes().items())
