"""Saving, opening, and handing over to xarray."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from systems import IDS, SYSTEMS

import lionode as ln
from lionode import storage
from lionode.trajectory import Dense


@pytest.mark.parametrize("row", SYSTEMS, ids=IDS)
def test_round_trip_is_exact(row, tmp_path: Path) -> None:
    flow = ln.simulate(row.system, row.x0, 3.0, m0=row.m0)
    flow.save(tmp_path / "run")
    again = ln.open(tmp_path / "run")
    for name in ("t", "x", "m", "u"):
        np.testing.assert_array_equal(getattr(again, name), getattr(flow, name))
    for name in ("status", "message", "method", "events", "nfev", "njev", "info", "success"):
        assert getattr(again, name) == getattr(flow, name), name
    times = np.linspace(0, 3, 31)
    np.testing.assert_array_equal(again.evaluate(times), flow.evaluate(times))
    assert again.system.coefficients == flow.system.coefficients
    assert again.system.kappa == flow.system.kappa
    assert str(ln.certify(again)) == str(ln.certify(flow))


def test_plain_callables_open_with_a_placeholder_that_says_so(tmp_path: Path) -> None:
    f = ln.Objective(lambda x: x @ x, lambda x: 2 * x, dim=2, name="mine")
    flow = ln.simulate(ln.LionK(f, ln.kappas.Quadratic()), [1.0, 2.0], 1.0)
    flow.save(tmp_path / "run")
    again = ln.open(tmp_path / "run")
    np.testing.assert_array_equal(again.x, flow.x)
    with pytest.raises(ValueError, match="'mine' was made of plain callables"):
        again.system.objective.value([1.0, 2.0])


def test_what_is_not_a_saved_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ln.open(tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    for name in ("text", "other.npz", "pickle"):
        with pytest.raises(ValueError, match="not a file saved by lionode"):
            ln.open(tmp_path / name)
    storage.write(tmp_path / "future", {"format": 99})
    with pytest.raises(ValueError, match="format 99"):
        ln.open(tmp_path / "future")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "file"
    storage.write_atomically(target, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_xarray_has_named_dimensions_and_every_number() -> None:
    pytest.importorskip("xarray")
    row = SYSTEMS[0]
    flow = ln.simulate(row.system, row.x0, 3.0, m0=row.m0)
    data = flow.to_xarray()
    assert dict(data.sizes) == {"time": len(flow.t), "parameter": 2}
    np.testing.assert_array_equal(data["x"].values, flow.x)
    assert data.attrs["lam"] == row.system.lam
    assert data.attrs["kappa"] == "PseudoHuber(0.2)"
    assert data.attrs["rtol"] == 1e-8
    assert all("units" in data[name].attrs for name in ("x", "m", "u", "time"))


@pytest.mark.parametrize("k", [2, 4, 5, 8, 13])
def test_dense_holds_polynomials_of_its_degree_exactly(k: int) -> None:
    rng = np.random.default_rng(k)
    coefficients = rng.normal(size=(k, 3))

    def polynomial(t: np.ndarray) -> np.ndarray:
        return np.stack([np.polynomial.chebyshev.chebval(t - 1, c) for c in coefficients.T], axis=-1)

    dense = Dense.sample(np.array([0.0, 0.3, 1.1, 2.0]), lambda _, t: polynomial(t), k)
    t = rng.uniform(0, 2, size=40)
    np.testing.assert_allclose(dense(t), polynomial(t), atol=1e-12)
    np.testing.assert_array_equal(dense(0.3), dense.nodes[1, 0])
    np.testing.assert_array_equal(dense(2.0), dense.nodes[2, -1])
