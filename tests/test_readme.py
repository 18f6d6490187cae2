"""The README: what it shows runs, and what it lists is current."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from lionode import reproduce

README = Path(__file__).parents[1] / "README.md"


def test_the_python_of_the_readme_runs():
    result = doctest.testfile(str(README), module_relative=False, encoding="utf-8")
    assert result.attempted >= 5
    assert result.failed == 0


def test_the_catalogue_is_the_registry():
    text = README.read_text(encoding="utf-8")
    assert reproduce.catalogue() in text, f"paste this into README.md:\n{reproduce.catalogue()}"


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
