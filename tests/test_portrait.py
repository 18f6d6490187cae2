"""Phase portraits: switching lines and kinds of equilibria against theory, and what cannot be drawn."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

import lionode as ln
from lionode import plots
from lionode.cli import app

F = ln.objectives.from_expression("(x1 - 0.8)**2")
LION = ln.LionK(F, ln.kappas.L1(), alpha=0.9, gamma=1.2, epsilon=0.5, lam=0.7)


def test_a_switching_line_is_where_the_look_ahead_is_at_the_kink() -> None:
    system = LION.replace(kappa=ln.kappas.SoftThreshold(0.4))
    lines = ln.switching_lines(system, np.linspace(-2, 2, 9))
    assert [line.kink for line in lines] == [-0.4, 0.4]
    for line in lines:
        m_tilde = system.look_ahead(line.x[:, None], line.m[:, None])
        np.testing.assert_allclose(m_tilde[:, 0], line.kink, atol=1e-14)


@pytest.mark.parametrize("lam", [0.7, 0.9])
def test_the_exact_flow_slides_where_the_segment_says(lam) -> None:
    system = LION.replace(lam=lam)
    (line,) = ln.switching_lines(system, np.linspace(-1.95, 2.95, 50))
    assert 0 < line.slides.sum() < line.slides.size
    for x, m, slides in zip(line.x, line.m, line.slides, strict=True):
        flow = ln.simulate(system, [x], 1e-3, [m])
        m_tilde = system.look_ahead(flow.x, flow.m)
        # Off the line it leaves at a rate; on it only rounding does.
        assert (np.abs(m_tilde[-1, 0]) < 1e-9) == slides


def test_kinds_of_equilibria() -> None:
    def kind(curvature: float, **numbers: float) -> str:
        f = ln.objectives.quadratic([[curvature]], [0.3])
        return ln.equilibrium(ln.LionK(f, ln.kappas.Quadratic(), **numbers)).kind

    # The eigenvalues are those of s² + (γ + λ + εa)s + γλ + a, for α = 1, a the curvature.
    assert kind(0.01, gamma=2.0, epsilon=0.0, lam=0.5) == "stable node"
    assert kind(9.0, gamma=0.3, epsilon=0.0, lam=0.2) == "stable focus"
    found = ln.equilibrium(
        ln.LionK(ln.objectives.quadratic([[2.0]]), ln.kappas.Quadratic(), 1.0, 1.2, 0.4, 0.7)
    )
    wanted = np.roots([1.0, 1.2 + 0.7 + 0.4 * 2.0, 1.2 * 0.7 + 2.0])
    np.testing.assert_allclose(np.sort_complex(found.eigenvalues), np.sort_complex(wanted), rtol=1e-12)
    assert ln.equilibrium(LION).kind == "at a kink of κ"
    face = ln.equilibrium(LION.replace(lam=1.8))
    assert face.kind == "stable node"
    np.testing.assert_allclose(np.sort(face.eigenvalues.real), [-1.8, -1.2])


def test_a_saddle_is_called_one() -> None:
    f = ln.objectives.double_well(1)
    found = ln.equilibrium(ln.LionK(f, ln.kappas.PseudoHuber(0.3), gamma=1.2, epsilon=0.4, lam=0.1), [0.0])
    np.testing.assert_allclose(found.x, 0.0)
    assert found.kind == "saddle"


def test_small_multiples() -> None:
    starts = [[-1.8, 1.5], [1.8, -1.5]]
    with plots.context():
        fig = plots.portraits([LION, LION.replace(kappa=ln.kappas.PseudoHuber(0.2))], starts, t_end=5.0)
    first, second = fig.axes
    assert "L1()" in first.get_title()
    assert "PseudoHuber(0.2)" in second.get_title()
    labels = first.get_legend_handles_labels()[1]
    assert {"sliding", r"$\tilde m$ at a kink", "at a kink of κ"} <= set(labels)
    plane = ln.LionK(ln.objectives.quadratic(np.diag([1.0, 2.0])), ln.kappas.Lp(2.0), lam=0.8)
    with plots.context():
        (ax,) = plots.portraits([plane], starts, t_end=2.0).axes
    assert len(ax.patches) > 0


def command(*words: str, folder) -> object:
    return CliRunner().invoke(app, ["portrait", "--out", str(folder / "p"), "--t-end", "3", *words])


def test_command_line(tmp_path) -> None:
    words = ["--objective", "(x1-0.8)**2", "--kappa", "l1", "--kappa", "huber:0.3", "--lam", "0.7,1.8"]
    result = command(*words, folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.png").stat().st_size > 1000
    for bad, match in ((["--kappa", "l3"], "kappa must be"), (["--lam", "x"], "could not convert")):
        wrong = command("--objective", "x1**2", *bad, folder=tmp_path)
        assert wrong.exit_code == 2
        assert match in " ".join(wrong.output.split())
    assert command("--objective", "x1*x2*x3", folder=tmp_path).exit_code == 2


SLOPE = ln.LionK(ln.objectives.linear([1.0]), ln.kappas.Quadratic(), lam=0.0)
PLANE = ln.LionK(ln.objectives.quadratic(np.eye(2)), ln.kappas.L1())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ln.switching_lines(PLANE, [0.0]), "1 parameter"),
        (lambda: plots.phase_plane(plots.figure()[1], PLANE), "use portrait"),
        (lambda: plots.phase_plane(plots.figure()[1], LION, x=(1, -1)), "increasing"),
        (lambda: plots.portraits([], []), "at least one"),
        (lambda: ln.equilibrium(LION.replace(gamma=0.0)), "gamma must be > 0"),
        (lambda: ln.equilibrium(SLOPE), "no equilibrium"),
    ],
)  # fmt: skip
def test_bad_input(call, match) -> None:
    with pytest.raises(ValueError, match=match):
        call()
