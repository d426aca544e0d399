"""Small programs with what the real Kamailio printed for them: ``tests/cases/script``, in the format of the language suite.

Recorded from Debian's 5.6.3 with that suite's runner (``run_cases.py --record``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.harness import HEAD, Bench

CASES = [case for path in sorted((ROOT / "tests" / "cases" / "script").glob("*.yaml")) for case in yaml.safe_load(path.read_text())]


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_prints_what_kamailio_prints(case: dict[str, Any], tmp_path: Path) -> None:
    loaded = "".join(line + "\n" for line in case.get("modules", "").splitlines() if line not in HEAD.splitlines())
    bench = Bench(tmp_path, f"{loaded}request_route {{\n{case['route']}\n}}\n{case.get('routes', '')}")
    bench.request("OPTIONS", "sip:bob@example.com")
    printed = [line.partition("OUT: ")[2] for line in bench.log.lines if "OUT: " in line]
    assert printed == case["expect"]["out"]
