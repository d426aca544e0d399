"""``kamc diff``: what changes for the server between two configurations or builds.

Compared is what is generated, not what is written: :mod:`kamc.diff.snapshot` takes it from a configuration, a build folder or a git
revision, :mod:`kamc.diff.compare` finds the differences, :mod:`kamc.diff.render` shows them as text, JSON or a page.
"""

from __future__ import annotations

from kamc.diff.compare import Difference, compare
from kamc.diff.snapshot import Snapshot, take

__all__ = ["Difference", "Snapshot", "compare", "take"]
