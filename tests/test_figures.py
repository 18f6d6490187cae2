"""The scripts run, every number lies within its bound, and the pictures are written the same each time."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lionode as ln
from lionode import plots, reproduce

SCRIPTS = reproduce.find()


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_reproduces(name, tmp_path):
    rows = reproduce.run(reproduce.load(SCRIPTS[name]), tmp_path)
    assert rows
    assert {row.id for row in rows} == {name}
    assert [row for row in rows if row.verdict != "reproduced"] == []
    if name.startswith("fig"):
        for ending in ("png", "pdf"):
            assert (tmp_path / f"{name}.{ending}").stat().st_size > 1000


def test_a_number_out_of_bounds_differs():
    row = reproduce.Row("x", "claim", "number", 1.5, low=0.9, high=1.1)
    assert row.verdict == "differs"
    assert reproduce.Row("x", "claim", "number", float("nan"), high=1.0).verdict == "differs"
    with pytest.raises(ValueError, match="could not fail"):
        reproduce.Row("x", "claim", "number", 1.0)


def test_a_partial_run_keeps_the_other_rows(tmp_path):
    def script(name, number):
        return lambda out, full: [reproduce.Row(name, "a | b", "q", number, high=2.0)]

    for name, number in (("fig1", 1.0), ("fig2", 3.0), ("fig1", 1.5)):
        reproduce.run(script(name, number), tmp_path)
    rows = reproduce.report(tmp_path, tmp_path / "report.md")
    assert [(row.id, row.number) for row in rows] == [("fig1", 1.5), ("fig2", 3.0)]
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert [line.count("|") for line in lines[-2:]] == [9, 9]
    assert len(json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))) == 2


def test_pictures_hold_no_dates(tmp_path):
    contents = []
    for folder in ("a", "b"):
        with plots.context():
            fig, ax = plots.figure()
            ax.plot([0, 1])
            paths = plots.save(fig, "p", tmp_path / folder)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("kappa", "corner"),
    [(ln.kappas.L1(), [2.0, 2.0]), (ln.kappas.LInf(), [2.0, 0.0])],
    ids=["box", "l1 ball"],
)
def test_constraint_set_reaches_its_corners(kappa, corner):
    system = ln.LionK(ln.objectives.quadratic(np.eye(2)), kappa, lam=0.5)
    _, ax = plots.figure()
    plots.constraint_set(ax, system)
    (patch,) = ax.patches
    points = patch.get_xy()
    assert np.abs(points - corner).max(axis=1).min() < 1e-9
    assert kappa.contains(system.lam * points).all()


def test_no_constraint_set_where_the_conjugate_is_finite():
    system = ln.LionK(ln.objectives.quadratic(np.eye(2)), ln.kappas.Quadratic(), lam=0.5)
    _, ax = plots.figure()
    plots.constraint_set(ax, system)
    assert not ax.patches


def test_certificate_shows_every_line():
    system = ln.LionK(ln.objectives.quadratic(np.eye(2)), ln.kappas.Huber(0.3))
    cert = ln.certify(ln.simulate(system, [1.0, 2.0], 3.0))
    fig, ax = plots.figure()
    ax.remove()
    drawn = plots.certificate(fig, cert)
    shown = {text.get_text() for text in drawn.texts}
    assert {check.claim for check in cert.checks} <= shown


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda ax, run: plots.trajectory(ax, run), "2 parameters"),
        (lambda ax, run: plots.level_sets(ax, run.system.objective), "2 parameters"),
        (lambda ax, run: plots.phase1(ax, run), "no phase 1"),
    ],
    ids=["trajectory", "level sets", "phase 1"],
)
def test_what_cannot_be_drawn_is_refused(draw, match):
    system = ln.LionK(ln.objectives.quadratic([[1.0]]), ln.kappas.Huber(0.3))
    _, ax = plots.figure()
    with pytest.raises(ValueError, match=match):
        draw(ax, ln.simulate(system, [0.1], 1.0))
