"""The language suite for a server with several workers: ``run_cases.py`` of ``../shared/language``, which waits a moment before it says that a case is over.

The suite was recorded with one process, where whatever is sent second is served second. Several workers serve the messages of different calls beside each other,
so the message that ends a case would overtake those of the case.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
import run_cases  # type: ignore[import-not-found]

#: seconds in which a worker is through with what it was sent
SETTLED = 0.06
at_once = run_cases.CaseRun.sync


def sync(run: Any, *args: Any, **named: Any) -> Any:
    run.pump(time.monotonic() + SETTLED)
    return at_once(run, *args, **named)


run_cases.CaseRun.sync = sync

if __name__ == "__main__":
    sys.exit(run_cases.main())
