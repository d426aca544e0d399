"""docs/modules/ says what the modules declare."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tools.module_pages import FOLDER, pages

PAGES = dict(pages())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_module_declares(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name], "run python tools/module_pages.py"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in FOLDER.glob("*.md")} == set(PAGES)


def test_they_say_what_is_there_and_what_is_not() -> None:
    assert "`record_route_preset(uri1[, uri2])`" in PAGES["rr.md"] or "record_route_preset(" in PAGES["rr.md"]
    assert "Not there (functions): `async_tkv_emit`." in PAGES["async.md"]
    assert "Accepted, without effect here: " in PAGES["presence.md"] and "](tm.md)" in PAGES["README.md"]
    assert all((ROOT / "docs" / page).is_file() for page in ("quick-start.md", "migration.md"))
