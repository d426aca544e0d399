"""The real kamctl does with kamc what it does with Kamailio 5.6.3: ``tests/cases/kamctl``, numbers and the layout of JSON aside (skipped without it)."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.integration.test_kamcmd import CASES, fill, normal, use


@pytest.mark.skipif(shutil.which("kamctl") is None or shutil.which("sqlite3") is None, reason="kamctl or sqlite3 is not installed")
def test_what_kamctl_does(serve: Callable[..., Server], tmp_path: Path) -> None:
    fill(CASES / "kamctl", tmp_path)
    server = serve((CASES / "kamctl" / "kamailio.cfg").read_text().replace("RUN", str(tmp_path)))
    use(server)
    wrong = []
    for case in json.loads((CASES / "kamctl" / "commands.json").read_text()):
        found = subprocess.run(["kamctl", *shlex.split(case["command"])], capture_output=True, text=True, errors="replace", timeout=20, cwd=tmp_path,
                               env={**os.environ, "HOME": str(tmp_path), "TERM": "dumb"})  # fmt: skip
        lines = [line for line in (found.stdout + found.stderr).splitlines() if line.strip()] + [f"rc {found.returncode}"]
        shown, wanted = (re.sub(r"\s", "", "\n".join(normal(line, tmp_path) for line in one)) for one in (lines, case["output"]))
        if shown != wanted:
            wrong.append((case["command"], shown, wanted))
    assert wrong == []
