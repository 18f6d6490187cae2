"""Sweeps: every cell is what `simulate` gives, nothing is lost or done twice whatever is killed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import lionode as ln
from lionode.cli import app

xarray = pytest.importorskip("xarray")
pytest.importorskip("zarr")

F = "(x1 - 1.4)**2 + 2*(x2 + 0.3)**2"
GRID = {"lam": [0.4, 1.6], "epsilon": [0.0, 0.3, 0.7]}
FIXED = {"objective": F, "kappa": "huber:0.3", "gamma": 1.2, "x0": [2.0, -1.0], "t_end": 12.0}


class Here(Executor):
    """Runs each block at once, counts blocks and cells, and can stop after some."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.calls, self.cells, self.stop_after = 0, 0, stop_after

    def submit(self, function, /, *args, **kwargs):
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        self.cells += len(args[0])
        future: Future = Future()
        future.set_result(function(*args, **kwargs))
        return future


def direct(lam: float, epsilon: float) -> ln.Trajectory:
    f, kappa = ln.objectives.from_expression(F), ln.kappas.Huber(0.3)
    return ln.simulate(ln.LionK(f, kappa, gamma=1.2, lam=lam, epsilon=epsilon), FIXED["x0"], FIXED["t_end"])


def test_every_cell_is_the_flow_it_says() -> None:
    data = ln.sweep(GRID, **FIXED, executor=Here())
    assert data["f"].dims == ("lam", "epsilon")
    assert data["x"].dims == ("lam", "epsilon", "parameter")
    for lam, epsilon in itertools.product(*GRID.values()):
        run, cell = direct(lam, epsilon), data.sel(lam=lam, epsilon=epsilon)
        np.testing.assert_array_equal(cell["x"], run.x[-1])
        np.testing.assert_array_equal(cell["H"], ln.lyapunov(run.system, run.x[-1], run.m[-1]))
        assert float(cell["max_increase"]) == ln.certify(run).max_increase
        best = ln.composite_optimum(run.system).x
        away = np.linalg.norm(run(np.linspace(0, 12.0, 401))[0] - best, axis=1)
        settled = float(cell["settling_time"])
        step = 12.0 / 400
        k = round(settled / step)
        assert (away[k:] <= 1e-3).all()
        assert away[k - 1] > 1e-3


def test_a_list_of_updates_in_an_optimizer_s_words() -> None:
    cells = [{"lam": 0.5, "kappa": "l1"}, {"lam": 1.5, "kappa": ln.kappas.Lp(1.5)}]
    fixed = {"objective": F, "x0": [2.0, -1.0], "steps": 300, "lr": 0.02, "beta1": 0.9, "beta2": 0.97}
    data = ln.sweep(cells, **fixed, executor=Here())
    assert data["f"].dims == ("cell",)
    assert list(data["kappa"].values) == ["l1", "Lp(1.5)"]
    for i, kappa in enumerate((ln.kappas.L1(), ln.kappas.Lp(1.5))):
        f, lam = ln.objectives.from_expression(F), cells[i]["lam"]
        system = ln.LionK.from_optimizer(f, kappa, lr=0.02, beta1=0.9, beta2=0.97, lam=lam)
        np.testing.assert_array_equal(data["x"][i], ln.iterate(system, fixed["x0"], 300).x[-1])


def test_lanes_agree_with_simulate() -> None:
    fixed = {**FIXED, "kappa": "pseudo-huber:0.4", "rtol": 1e-9, "atol": 1e-11}
    lanes, alone = (ln.sweep(GRID, **fixed, compiled=c, executor=Here()) for c in (True, False))
    # Each is within its tolerance of the flow, and that is contracting near the end.
    np.testing.assert_allclose(lanes["x"], alone["x"], atol=1e-7)
    np.testing.assert_allclose(lanes["settling_time"], alone["settling_time"], atol=12.0 / 400 + 1e-9)
    assert (lanes["status"] == alone["status"]).all()


def test_a_bad_cell_leaves_its_neighbours_alone() -> None:
    data = ln.sweep({"epsilon": [0.3, 0.9, 0.5]}, **FIXED, lam=0.5, executor=Here())
    assert list(np.isnan(data["f"].values)) == [False, True, False]
    assert "epsilon*gamma must be ≤ 1" in str(data["message"].values[1])
    names = data["status"].attrs["flag_meanings"].split()
    assert [names[i] for i in data["status"].values] == ["finished", "refused", "finished"]


def test_a_diverging_cell_is_recorded() -> None:
    fixed = {**FIXED, "objective": "-exp(x1**2) + x2**2", "kappa": "quadratic"}
    data = ln.sweep({"lam": [0.2, 0.4]}, **fixed, executor=Here())
    names = data["status"].attrs["flag_meanings"].split()
    assert not {names[i] for i in data["status"].values} & {"finished", "not_run"}
    assert all("t = " in text for text in data["message"].values)


def test_own_measures(tmp_path) -> None:
    data = ln.sweep(GRID, tmp_path / "a.zarr", **FIXED, executor=ThreadPoolExecutor(2), measure=count_rises)
    for lam, epsilon in itertools.product(*GRID.values()):
        want = count_rises(direct(lam, epsilon))["rises"]
        assert float(data["rises"].sel(lam=lam, epsilon=epsilon)) == want


def count_rises(run: ln.Trajectory) -> dict[str, float]:
    return {"rises": float((np.diff(run.system.objective.value(run.x)) > 0).sum())}


def test_interrupted_at_every_block_it_goes_on_and_does_nothing_twice(tmp_path) -> None:
    out = tmp_path / "study.zarr"
    run = partial(ln.sweep, GRID, out, **FIXED, block=1)
    for done in range(1, 6):
        with pytest.raises(KeyboardInterrupt):
            run(executor=Here(stop_after=1))
        assert ln.sweep_status(out).done == done
    last, again = Here(), Here()
    data = run(executor=last)
    assert last.calls == 1
    xarray.testing.assert_equal(data.load(), ln.sweep(GRID, **FIXED, executor=Here()))
    run(executor=again)
    assert again.calls == 0


STUDY = f"""
[fixed]
objective = "{F}"
x0 = [2.0, -1.0]
gamma = 1.2
t_end = 3.0
[grid]
lam = {{linspace = [0.4, 1.6, 12]}}
epsilon = [0.0, 0.3, 0.7]
kappa = ["huber:0.3", "huber:0.7"]
"""


def driver(path: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-c", "from lionode.cli import main; main()", "sweep", str(path), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def test_a_killed_driver_loses_nothing(tmp_path) -> None:
    path, out = tmp_path / "study.toml", tmp_path / "study.zarr"
    path.write_text(STUDY, encoding="utf-8")
    process = driver(path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
        if out.is_dir() and ln.sweep_status(out).done:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = ln.sweep_status(out)
    assert 0 < before.done < before.total
    kept = xarray.open_zarr(out, chunks=None).load()
    calls = Here()
    data = ln.sweep(path, out, executor=calls)
    ran = kept["status"].values != 0
    for name in ("f", "x", "settling_time"):
        np.testing.assert_array_equal(data[name].values[ran], kept[name].values[ran])
    assert ln.sweep_status(out)["finished"] == before.total
    # Exactly the cells that were missing have run.
    assert calls.cells == before.total - before.done


@pytest.mark.slow
def test_dask_cluster_survives_a_killed_worker(tmp_path) -> None:
    distributed = pytest.importorskip("distributed")
    path, out = tmp_path / "study.toml", tmp_path / "study.zarr"
    path.write_text(STUDY, encoding="utf-8")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = client.run(os.getpid)
        killed = []

        def kill_one(done: int, total: int) -> None:
            if done and not killed:
                killed.append(next(iter(workers.values())))
                os.kill(killed[0], signal.SIGKILL)

        data = ln.sweep(path, out, executor=cluster.scheduler_address, block=5, progress=kill_one)
        assert killed
        assert killed[0] not in client.run(os.getpid).values()
    assert ln.sweep_status(out) == {"finished": 72}
    one = {**FIXED, "lam": 1.6, "epsilon": 0.3, "t_end": 3.0}
    del one["kappa"]
    alone = ln.sweep({"kappa": ["huber:0.7"]}, **one, executor=Here())
    np.testing.assert_array_equal(data["x"].values[-1, 1, 1], alone["x"].values[0])


def test_a_broken_pool_is_made_anew(tmp_path) -> None:
    mark = tmp_path / "died once"
    f = ln.objectives.from_expression(F)
    measure = partial(die_once, str(mark))
    data = ln.sweep(GRID, **{**FIXED, "objective": f}, workers=2, measure=measure, block=1)
    assert mark.exists()
    assert (data["seen"] == 1).all()


def die_once(mark: str, run: ln.Trajectory) -> dict[str, float]:
    if run.system.lam == 1.6 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seen": 1.0}


def test_command_line(tmp_path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("1.6, 12]", "1.6, 2]"), encoding="utf-8")
    runner = CliRunner()
    done = runner.invoke(app, ["sweep", str(path), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "12 of 12 cells have run" in done.output
    shown = runner.invoke(app, ["sweep", str(path), "--status"])
    assert "12 finished" in shown.output
    path.write_text(STUDY.replace("1.6, 12]", "1.7, 2]"), encoding="utf-8")
    changed = runner.invoke(app, ["sweep", str(path)])
    assert changed.exit_code != 0
    assert "different: lam" in str(changed.exception)
    again = runner.invoke(app, ["sweep", str(path), "--restart", "--workers", "1"])
    assert again.exit_code == 0


def study(text: str):
    def call(folder: Path):
        path = folder / "s.toml"
        path.write_text(text, encoding="utf-8")
        return ln.Study.read(path)

    return call


def in_the_way(folder: Path):
    (folder / "out.zarr").mkdir()
    (folder / "out.zarr" / "thesis.txt").write_text("mine", encoding="utf-8")
    return ln.sweep(GRID, folder / "out.zarr", **FIXED, restart=True)


BAD = [
    (lambda _: ln.sweep({}, **FIXED), "at least one cell"),
    (lambda _: ln.sweep({"lam": []}, **FIXED), "the axis lam has no values"),
    (lambda _: ln.sweep({"lamda": [1.0]}, **FIXED), "did you mean 'lam'"),
    (lambda _: ln.sweep({"gamma": [1.0]}, **FIXED), "gamma is given both"),
    (lambda _: ln.sweep([{"lam": 1.0}, {"epsilon": 1.0}], **FIXED), "cell 1 has the parameters"),
    (lambda _: ln.sweep(GRID, objective=F, x0=[1.0, 1.0], t_end=1.0), "the study needs kappa"),
    (lambda _: ln.sweep(GRID, objective=F, kappa="l1", x0=[1.0, 1.0]), "either t_end"),
    (lambda _: ln.sweep(GRID, **FIXED, decay="implicit"), "decay means nothing"),
    (lambda _: ln.sweep({"kappa": ["hubber:0.3"]}, objective="x1*", x0=[1.0], t_end=1.0), "x1"),
    (lambda _: ln.sweep(GRID, **FIXED, workers=0), "workers must be"),
    (lambda _: ln.sweep(GRID, **FIXED, executor=3), "executor must be"),
    (lambda _: ln.sweep(GRID, **FIXED, measure=3), "measure must be callable"),
    (lambda _: ln.sweep(GRID, **FIXED, measure=lambda run: {"f": 1.0}, executor=Here()), "measures itself"),
    (lambda _: ln.sweep(GRID, **FIXED, measure=lambda run: {"a": 1.0}), "cannot be sent to another process"),
    (lambda folder: ln.sweep(GRID, folder / "no" / "out.zarr", **FIXED), "existing folder"),
    (lambda _: ln.sweep(GRID, "/proc/out.zarr", **FIXED), "out"),
    (in_the_way, "not the store of a sweep"),
    (study("[fixed]"), r"\[grid\] or \[\[cells\]\]"),
    (study("lam = [1"), "not a TOML file"),
    (study("[grid]\nlam = {linspaces = [0, 1]}"), "must be a list or one of linspace"),
    (study("[grid]\nlam = {linspace = [0]}"), "makes no list"),
    (lambda folder: ln.sweep_status(folder / "nothing.zarr"), "does not exist"),
    (lambda folder: ln.sweep_status(folder), "not the store of a sweep"),
]


@pytest.mark.parametrize(("call", "match"), BAD, ids=[match for _, match in BAD])
def test_bad_input(call, match, tmp_path) -> None:
    with pytest.raises((ValueError, TypeError, OSError), match=match):
        call(tmp_path)
