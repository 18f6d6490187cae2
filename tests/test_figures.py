"""The scripts run, every number lies within its bound, and the pictures are written the same each time."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from tables import SMALL

import lionode as ln
from lionode import plots, reproduce

SCRIPTS = reproduce.find()


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in SMALL])
def test_script_reproduces(name, tmp_path):
    if name == "fig10":
        pytest.importorskip("torch")
    rows = reproduce.run(reproduce.load(SCRIPTS[name]), tmp_path)
    assert rows
    assert {row.id for row in rows} == {name}
    assert [row for row in rows if row.verdict == "differs"] == []
    if not name.startswith("tab") and not any(row.untested for row in rows):
        for ending in ("png", "pdf"):
            assert (tmp_path / f"{name}.{ending}").stat().st_size > 1000


def test_every_figure_and_table_of_the_paper_has_a_script():
    assert {*(f"fig{i}" for i in range(1, 11)), "tab1", "tab2", "claims", "cifar10"} <= set(SCRIPTS)


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


SCRIPT = """
from lionode import plots, reproduce
from tables import SMALL
from lionode.reproduce import Row

def compute(n):
    (OUT / f"computed{n}").touch()
    return {"n": n}

def run(out, full=False):
    (OUT / "ran").write_text("x" + (OUT / "ran").read_text() if (OUT / "ran").exists() else "x")
    fig, ax = plots.figure()
    ax.plot([0, 1])
    plots.save(fig, "fig99", out)
    total = sum(reproduce.remember(compute, n, path=__file__)["n"] for n in (1, 2))
    return [Row("fig99", "c", "q", total, high=5.0, untested=UNTESTED)]
"""


def a_script(tmp_path, untested=""):
    path = tmp_path / "fig99.py"
    head = f"from pathlib import Path\nOUT, UNTESTED = Path({str(tmp_path)!r}), {untested!r}\n"
    path.write_text(head + SCRIPT, encoding="utf-8")
    return path


def test_what_has_run_before_comes_from_the_cache(tmp_path):
    path = a_script(tmp_path)
    outs = [tmp_path / name for name in "abc"]
    for out in outs:
        out.mkdir()
    rows, cached = reproduce.measure((path, outs[0], False))
    assert not cached
    again, cached = reproduce.measure((path, outs[1], False))
    assert cached
    assert again == rows
    assert (outs[1] / "fig99.png").read_bytes() == (outs[0] / "fig99.png").read_bytes()
    assert (tmp_path / "ran").read_text() == "x"
    assert not reproduce.measure((path, outs[2], True))[1]
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert not reproduce.measure((path, outs[1], False))[1]
    assert (tmp_path / "ran").read_text() == "xxx"


def test_what_was_computed_before_an_interruption_is_not_computed_again(tmp_path):
    path = a_script(tmp_path)
    reproduce.run(reproduce.load(path), tmp_path)
    for n in (1, 2):
        (tmp_path / f"computed{n}").unlink()
    next((reproduce.cache_folder() / "computed").glob("*.npz")).unlink()
    reproduce.run(reproduce.load(path), tmp_path)
    assert len(list(tmp_path.glob("computed?"))) == 1


def test_another_style_computes_nothing_anew(tmp_path, monkeypatch):
    package = tmp_path / "lionode"
    (package / "plots").mkdir(parents=True)
    style, rest = package / "plots" / "style.py", package / "system.py"
    monkeypatch.setattr(reproduce, "PACKAGE", package)
    path = a_script(tmp_path)
    for changed, drawn, computed in ((style, 1, 2), (style, 2, 0), (rest, 3, 2)):
        changed.write_text(f"# {drawn}", encoding="utf-8")
        for place in tmp_path.glob("computed?"):
            place.unlink()
        reproduce.measure((path, tmp_path, False))
        assert (tmp_path / "ran").read_text() == drawn * "x"
        assert len(list(tmp_path.glob("computed?"))) == computed


INTERRUPTED = """
import itertools, os, signal
import lionode as ln
from lionode.reproduce import Row, remember

def compute(steps):
    calls = itertools.count()

    def gradient(x):
        if next(calls) == steps // 2:
            os.kill(os.getpid(), signal.SIGINT)
        return x

    f = ln.Objective(value=lambda x: 0.0, gradient=gradient, dim=1)
    s = ln.LionK.from_optimizer(f, ln.kappas.L1(), lr=0.1, beta1=0.9, beta2=0.99, lam=1.0)
    return {"n": len(ln.iterate(s, [1.0], steps, compiled=False).x)}

def run(out, full=False):
    return [Row("fig97", "c", "q", remember(compute, 200, path=__file__)["n"], low=0.0)]
"""


def test_half_a_run_is_not_kept(tmp_path):
    path = tmp_path / "fig97.py"
    path.write_text(INTERRUPTED, encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        reproduce.measure((path, tmp_path, False))
    assert not list(reproduce.cache_folder().rglob("*.npz"))
    assert not list(reproduce.cache_folder().rglob("results.json"))


def test_what_could_not_be_tested_says_so_and_is_not_kept(tmp_path):
    path = a_script(tmp_path, "no data here")
    ((rows, _),) = reproduce.run_all([path], tmp_path)
    assert rows[0].verdict == "not testable here: no data here"
    assert not reproduce.measure((path, tmp_path, False))[1]
    reproduce.report(tmp_path, tmp_path / "report.md")
    assert "not testable here: no data here" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_names_sort_as_people_count():
    assert sorted(["cifar10", "fig10", "tab1", "fig2", "claims", "fig1"], key=reproduce.natural) == [
        "fig1", "fig2", "fig10", "tab1", "cifar10", "claims",
    ]  # fmt: skip


def test_results_are_strict_json(tmp_path):
    rows = [reproduce.Row("x", "c", "q", number, high=1.0) for number in (np.inf, np.nan, 0.5)]
    reproduce.run(lambda out, full: rows, tmp_path)

    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")

    json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert list(map(str, reproduce.report(tmp_path, tmp_path / "report.md"))) == list(map(str, rows))


@pytest.mark.parametrize(
    ("missing", "name", "why"),
    [
        ("sklearn", "fig5", "the digits come with scikit-learn"),
        ("torch", "fig10", "lionode.torch needs PyTorch"),
    ],
)
def test_a_missing_extra_stops_nothing_else(missing, name, why, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "lionode.torch", raising=False)
    for module in (missing, "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    results = list(reproduce.run_all([SCRIPTS[name], SCRIPTS["tab2"]], tmp_path, workers=1))
    verdicts = [rows[0].verdict for rows, _ in results]
    assert verdicts[0].startswith(f"not testable here: {why}")
    assert verdicts[1] == "reproduced"


def test_a_mistake_in_a_script_is_no_missing_extra(tmp_path):
    path = tmp_path / "fig98.py"
    path.write_text("from lionode import nothing_of_that_name\n", encoding="utf-8")
    with pytest.raises(ImportError, match="nothing_of_that_name"):
        reproduce.measure((path, tmp_path, False))


def test_other_data_is_another_result(tmp_path, monkeypatch):
    path = a_script(tmp_path)
    monkeypatch.setenv("LIONODE_CIFAR10", "here")
    reproduce.measure((path, tmp_path, False))
    assert reproduce.measure((path, tmp_path, False))[1]
    monkeypatch.setenv("LIONODE_CIFAR10", "there")
    assert not reproduce.measure((path, tmp_path, False))[1]


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


def test_the_contact_sheet_shows_every_figure(tmp_path):
    from PIL import Image

    colors = ["red", "lime", "blue", "black"]
    pictures = [tmp_path / f"fig{i}.png" for i in range(4)]
    for path, color in zip(pictures, colors, strict=True):
        Image.new("RGB", (1400, 400), color).save(path)
    sheet = Image.open(plots.contact_sheet(pictures, tmp_path / "contact.png"))
    seen = {color for _, color in sheet.getcolors(maxcolors=10**6)}
    assert seen >= {(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)}
