"""Each fault that the checker knows, at its exact place; and a page and a case for every code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kamc.analysis.suppress import without_ignored
from kamc.compile import compile_cfg
from kamc.diagnostics import CODES
from tests.cases import MARK, Case, all_cases, mark_of, table
from tests.conftest import ROOT

CASES = all_cases()
PAGES = ROOT / "docs" / "diagnostics"


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_findings_are_those_written_under_the_lines(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_VARIABLE_HERE", raising=False)
    found = [mark_of(d) for d in without_ignored(compile_cfg(str(case.path), allow_missing=True).diagnostics)]
    assert sorted(found) == sorted(case.marks)


def test_what_stops_kamailio_is_an_error_and_nothing_else() -> None:
    """Exceptions: a bound of kamc's own, what is refused for a recorded reason of the newest version, and modules that want a database."""
    differ = {"nested-too-deeply", "modparamx-without-a-value", "module-not-implemented", "variable-not-implemented"}
    for case in CASES:
        stopped = any((m := MARK.match(text)) is not None and m.group(3) == "error" for _, text in case.marks)
        if case.name not in differ:
            assert stopped == (case.starts == "no"), case.name


def test_every_code_has_a_case() -> None:
    marked = {m.group(4) for case in CASES for _, text in case.marks if (m := MARK.match(text))}
    # findings of command lines, and of versions, have tests of their own
    assert set(CODES) - marked == {"K0307"}


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_a_page(code: str) -> None:
    text = (PAGES / f"{code}.md").read_text()
    assert text.startswith(f"# {code}: {CODES[code]}\n")
    assert "```" in text and len(text) > 150


def test_no_page_without_a_code() -> None:
    assert {p.stem for p in PAGES.glob("*.md")} == set(CODES)


def test_the_table_is_the_cases() -> None:
    document = (ROOT / "docs" / "checker.md").read_text()
    assert table(CASES) in document


def test_links_of_the_pages_lead_somewhere() -> None:
    for path in (*PAGES.glob("*.md"), ROOT / "docs" / "checker.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_a_target_names_what_it_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "k.cfg"
    path.write_text('#!KAMAILIO\nloadmodule "tm"\nloadmodule "pv"\nloadmodule "textops"\nrequest_route {\n str_any_in("a", "b");\n $var(x) = $(rU{val.n0});\n}\n')
    assert [d for d in compile_cfg(str(path)).diagnostics if d.code == "K0307"] == []
    found = {v: [(d.code, d.span.line if d.span else 0) for d in compile_cfg(str(path), target=v).diagnostics if d.code == "K0307"] for v in ("5.6", "6.0", "6.1")}
    assert found == {"5.6": [("K0307", 6), ("K0307", 7)], "6.0": [], "6.1": []}
