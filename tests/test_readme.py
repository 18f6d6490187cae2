"""The README and the pages: what they show runs, and what they list is current."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from lionode import reproduce

README = Path(__file__).parents[1] / "README.md"
PAGES = [README, *sorted((README.parent / "docs").glob("*.md"))]
PYTHON = [page for page in PAGES if ">>>" in page.read_text(encoding="utf-8")]

by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_the_python_shown_runs(page):
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted >= 5
    assert result.failed == 0


def test_the_catalogue_is_the_registry():
    text = README.read_text(encoding="utf-8")
    assert reproduce.catalogue() in text, f"paste this into README.md:\n{reproduce.catalogue()}"


@by_name
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
