"""The worked studies run in a small setting, and every number lies within its bound."""

from __future__ import annotations

import numpy as np
import pytest
from tables import SMALL

from lionode import reproduce

SCRIPTS = reproduce.find()


@pytest.mark.parametrize("name", SMALL)
def test_study_reproduces(name, tmp_path):
    study = reproduce.load(SCRIPTS[name])
    rows = reproduce.run(lambda out, full: study(out, full, **SMALL[name]), tmp_path)
    assert {row.id for row in rows} == {name}
    assert [row for row in rows if row.verdict != "reproduced"] == []
    for ending in ("png", "pdf"):
        assert (tmp_path / f"{name}.{ending}").stat().st_size > 1000


def test_edges_are_where_a_label_changes():
    module = reproduce.load(SCRIPTS["basins"]).__globals__
    label = np.zeros((3, 3), int)
    label[:, 2] = 1
    assert module["edges"](label) == pytest.approx(2 / 4)
    assert module["edges"](np.zeros((3, 3), int)) == 0
