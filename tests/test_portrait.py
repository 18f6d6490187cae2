"""Phase portraits: switching lines and kinds of equilibria against theory, and what cannot be drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import animation
from PIL import Image
from scipy.optimize import brentq
from typer.testing import CliRunner

import lionode as ln
from lionode import plots
from lionode.cli import app
from lionode.phase import UNSETTLED
from lionode.plots.animation import film_path

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
    assert ln.equilibrium(LION).kind == "stable at a kink"
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
    assert {"sliding", r"$\tilde m$ at a kink", "stable at a kink"} <= set(labels)
    plane = ln.LionK(ln.objectives.quadratic(np.diag([1.0, 2.0])), ln.kappas.Lp(2.0), lam=0.8)
    with plots.context():
        (ax,) = plots.portraits([plane], starts, t_end=2.0).axes
    assert len(ax.patches) > 0


HIMMELBLAU = ln.objectives.himmelblau()
STATIONARY = [  # Himmelblau (1972); the passes and the summit to four decimals
    [-3.7793, -3.2832], [-3.0730, -0.0814], [-2.8051, 3.1313], [-0.2708, -0.9230], [-0.1280, -1.9537],
    [0.0867, 2.8843], [3.0, 2.0], [3.3852, 0.0739], [3.5844, -1.8481],
]  # fmt: skip


@pytest.mark.parametrize("kappa", [ln.kappas.L1(), ln.kappas.Quadratic()])
def test_all_equilibria_of_a_function_with_nine(kappa) -> None:
    lam = 0.2 if kappa == ln.kappas.L1() else 0.0
    system = ln.LionK(HIMMELBLAU, kappa, gamma=0.9, epsilon=0.4, lam=lam)
    found = ln.equilibria(system, ln.start_grid((-5, 5), (-5, 5), 12))
    np.testing.assert_allclose([e.x for e in found], STATIONARY, atol=6e-5)
    assert [e.kind.split()[0] for e in found] == [
        "stable", "saddle", "stable", "saddle", "saddle", "saddle", "stable", "saddle", "stable",
    ]  # fmt: skip


def test_equilibria_on_a_face_and_at_the_penalty_are_found() -> None:
    well = ln.LionK(ln.objectives.double_well(1), ln.kappas.L1(), gamma=1.2, epsilon=0.4, lam=1.6)
    starts = np.linspace(-1, 1, 21)[:, None]
    low, middle, high = ln.equilibria(well, starts)
    assert (low.x[0], high.x[0]) == pytest.approx((-1 / 1.6, 1 / 1.6))
    assert [e.kind for e in (low, middle, high)] == ["stable node", "saddle at a kink", "stable node"]
    # With the penalty e‖x‖₁ the summit at 0 becomes a minimum: within ±e the flow is linear.
    penalty = ln.equilibria(well.replace(kappa=ln.kappas.SoftThreshold(0.1), lam=0.5), starts * 2)
    assert [e.kind.split()[0] for e in penalty] == ["stable", "saddle", "stable", "saddle", "stable"]
    np.testing.assert_allclose(np.sort(penalty[2].eigenvalues.real), [-1.2, -0.5])


@given(
    curvature=st.floats(0.1, 20), slope=st.floats(-3, 3), lam=st.floats(0.05, 3), gamma=st.floats(0.1, 2),
    share=st.floats(0, 1), e=st.floats(0.05, 1),
)  # fmt: skip
def test_a_convex_problem_has_one_stable_equilibrium(curvature, slope, lam, gamma, share, e) -> None:
    f = ln.objectives.quadratic([[curvature]], [slope])
    system = ln.LionK(f, ln.kappas.PseudoHuber(e), 0.8, gamma, share / gamma, lam)
    (found,) = ln.equilibria(system, np.linspace(-2, 2, 9)[:, None])
    assert found.kind.startswith("stable")
    assert ln.composite_optimum(system).x == pytest.approx(found.x, abs=1e-6)


def test_degenerate_equilibria_are_called_so() -> None:
    f = ln.objectives.from_expression("x1**4")
    kinds = [
        ln.equilibria(ln.LionK(f, kappa, lam=0.5), [[0.0]])[0].kind
        for kappa in (ln.kappas.L1(), ln.kappas.Quadratic())
    ]
    # κ* = ½‖·‖² makes the minimum of F a strong one; the box leaves it flat.
    assert kinds == ["degenerate at a kink", "stable node"]
    assert ln.equilibria(SLOPE, [[0.0]]) == ()
    ball = ln.LionK(HIMMELBLAU, ln.kappas.Lp(2.0), lam=0.3)
    assert {e.kind for e in ln.equilibria(ball, ln.start_grid((-3, 3), (-3, 3), 5))} == {"not linearised"}


@pytest.mark.parametrize("kappa", [ln.kappas.L1(), ln.kappas.PseudoHuber(0.1)])
def test_basins_of_a_double_well(kappa) -> None:
    system = ln.LionK(ln.objectives.double_well(1), kappa, gamma=1.2, epsilon=0.5, lam=0.4)
    x0s = np.linspace(-1.9, 1.9, 20).reshape(4, 5, 1)
    found = ln.basins(system, x0s, 40.0, workers=1)
    # f and κ are even: from m = 0 nothing crosses the summit.
    np.testing.assert_array_equal(found.label, (x0s[..., 0] > 0).astype(int))
    assert [e.kind.startswith("stable") for e in found.equilibria] == [True, True]
    assert found.shares.tolist() == [0.5, 0.5]
    assert (found.settling_time < 40).all()
    assert found.entry_time.shape == (4, 5)


def test_a_start_at_a_saddle_and_one_on_its_way_have_their_own_labels() -> None:
    system = ln.LionK(ln.objectives.double_well(1), ln.kappas.PseudoHuber(0.1), epsilon=0.5, lam=0.4)
    found = ln.basins(system, [[0.0], [0.5], [1.0]], 40.0, workers=1)
    saddle, _ = found.equilibria
    assert (saddle.kind, found.label.tolist()) == ("saddle", [0, 1, 1])
    assert saddle.x == 0
    early = ln.basins(system, [[0.0], [0.5]], 0.5, workers=1)
    assert early.label.tolist() == [0, UNSETTLED]
    assert early.settling_time.tolist() == [0.0, np.inf]
    assert early.shares.tolist() == [0.5]


def test_a_flow_that_diverges_is_unsettled_and_disturbs_nobody() -> None:
    f = ln.objectives.from_expression("x**2/2 - x**4/4")
    found = ln.basins(ln.LionK(f, ln.kappas.Quadratic(), lam=0.1), [[0.3], [3.0], [-0.3]], 40.0, workers=1)
    assert found.label.tolist() == [0, UNSETTLED, 0]
    assert np.isfinite(found.settling_time).tolist() == [True, False, True]


def test_settling_times_of_a_linear_flow() -> None:
    # α = γ = 1, ε = 0 and f = ½a x²: x solves x″ + (γ + λ)x′ + (γλ + a)x = 0, here (s + 1)(s + 2) = 0.
    system = ln.LionK(ln.objectives.quadratic([[0.0]]), ln.kappas.Quadratic(), 1.0, 2.0, 0.0, 1.0)
    within = 1e-3
    found = ln.basins(system, [[3.0], [5e-4]], 20.0, within=within, samples=101, rtol=1e-9, workers=1)
    assert found.settling_time[0] == pytest.approx(np.log(3.0 / within), abs=1e-6)
    assert found.settling_time[1] == 0
    # With momentum x = m₀(e^{−t} − e^{−2t}) first grows.
    moved = ln.basins(system, [[0.0]], 20.0, [[3.0]], within=within, samples=2001, rtol=1e-9, workers=1)
    wanted = brentq(lambda t: 3 * (np.exp(-t) - np.exp(-2 * t)) - within, 1, 20)
    assert moved.settling_time[0] == pytest.approx(wanted, abs=1e-5)


@given(rate=st.floats(0.05, 5), start=st.floats(1e-6, 1e6), within=st.floats(1e-6, 1e2))
def test_the_settling_time_of_a_decay_is_exact(rate, start, within) -> None:
    t = np.linspace(0, 10, 7)
    (found,) = ln.settling_times(t, start * np.exp(-rate * t)[None], within)
    wanted = max(0.0, np.log(start / within) / rate)
    assert found == (np.inf if wanted > 10 else pytest.approx(wanted, abs=1e-9 * (1 + wanted)))


@pytest.mark.parametrize(
    ("distance", "wanted"),
    [
        ([0.1, 0.1, 0.1], 0.0), ([3, 0.1, 3], np.inf), ([3, np.nan, 0.1], (1, 2)), ([0, 2, 0], (1, 2)),
        ([0, 0, np.nan], np.inf), ([3, 2, 1], 2.0),
    ],
)  # fmt: skip
def test_settled_means_for_good(distance, wanted) -> None:
    found = float(ln.settling_times([0.0, 1.0, 2.0], distance, 1.0))
    assert wanted[0] <= found <= wanted[1] if isinstance(wanted, tuple) else found == wanted


def test_a_plane_holds_the_other_coordinates() -> None:
    plane = ln.Plane(("m2", "x1"), 2, {"x2": 0.3})
    points = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    x, m = plane.states(points)
    assert x.tolist() == [[[2.0, 0.3], [4.0, 0.3]]]
    assert m.tolist() == [[[0.0, 1.0], [0.0, 3.0]]]
    np.testing.assert_array_equal(plane.project(x, m), points)
    assert plane.held == {"x2": 0.3, "m1": 0.0}
    assert ln.Plane(("x", "m"), 1).axes == ("x1", "m1")


def test_levels_on_a_plane_are_those_of_the_functions() -> None:
    f = ln.objectives.quadratic(np.diag([1.5, 0.7]), [0.4, -0.2])
    system = ln.LionK(f, ln.kappas.PseudoHuber(0.3), 0.9, 1.2, 0.4, 0.6)
    plane = ln.Plane(("x1", "m2"), 2, {"x2": 0.3, "m1": -0.4})
    points = ln.start_grid((-2, 2), (-1, 1), 7)
    x = np.stack([points[..., 0], np.full((7, 7), 0.3)], axis=-1)
    m = np.stack([np.full((7, 7), -0.4), points[..., 1]], axis=-1)
    np.testing.assert_array_equal(plane.level(system, points, "H"), ln.lyapunov(system, x, m))
    np.testing.assert_array_equal(plane.level(system, points, "f"), f.value(x))
    penalty = system.gamma / system.lam * system.kappa.conjugate(system.lam * x)
    np.testing.assert_allclose(plane.level(system, points, "F"), system.alpha * f.value(x) + penalty)
    assert np.isinf(plane.level(system, points, "H")).any()


def test_a_grid_has_the_centres_of_its_cells() -> None:
    grid = ln.start_grid((0, 4), (10, 12), 2)
    assert grid.tolist() == [[[1.0, 10.5], [3.0, 10.5]], [[1.0, 11.5], [3.0, 11.5]]]


WELLS = [
    ln.LionK(ln.objectives.double_well(2), ln.kappas.PseudoHuber(0.2), epsilon=0.5, lam=lam)
    for lam in (0.4, 1.2)
]


@pytest.mark.parametrize("map", ["basins", "entry", "settling"])
def test_maps_in_small_multiples(map) -> None:
    with plots.context():
        fig = plots.portraits(WELLS, [[1.5, -1.0]], map=map, cells=6, t_end=10.0)
    panels = fig.axes[:2]
    for ax, system in zip(panels, WELLS, strict=True):
        (image,) = ax.images
        x0s = ln.start_grid((-2, 2), (-2, 2), 6)
        found = ln.basins(system, x0s, 10.0)
        shown = np.ma.filled(image.get_array().astype(float), np.inf)
        wanted = {"basins": found.label + 1, "entry": found.entry_time, "settling": found.settling_time}
        np.testing.assert_array_equal(shown, wanted[map])
        assert image.get_extent() == [-2, 2, -2, 2]
    # A map of times has one scale for all panels, and a bar.
    assert len(fig.axes) == (2 if map == "basins" else 3)
    assert map == "basins" or panels[0].images[0].norm is panels[1].images[0].norm
    assert {"saddle", "stable focus"} <= {text.get_text() for text in fig.legends[0].get_texts()}


def test_a_plane_of_x_and_m_shows_where_the_others_are_held() -> None:
    with plots.context():
        fig = plots.portraits(
            WELLS[:1], [[1.5, -1.0]], plane=("x1", "m1"), held={"x2": 0.5}, levels="H", t_end=3.0
        )
    (ax,) = fig.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$x_{1}$", "$m_{1}$")
    assert "$x_{2} = 0.5$" in "".join(text.get_text() for text in ax.texts)
    path = next(line for line in ax.lines if len(line.get_xdata()) > 100)
    flow = ln.simulate(WELLS[0], [1.5, 0.5], 3.0, [-1.0, 0.0])
    np.testing.assert_allclose(
        [path.get_xdata()[-1], path.get_ydata()[-1]], [flow.x[-1, 0], flow.m[-1, 0]], atol=1e-6
    )
    dashed = [line.get_xdata() for line in ax.lines if line.get_linestyle() == "--"]
    edges = sorted(ends[0] for ends in dashed if len(ends))
    assert edges == pytest.approx([-2.5, 2.5])


def test_without_a_hessian_the_composite_optimum_stands_for_the_equilibria() -> None:
    f = ln.Objective(lambda x: (x - 0.5) @ (x - 0.5), lambda x: 2 * (x - 0.5), dim=2)
    with plots.context():
        fig = plots.portraits([ln.LionK(f, ln.kappas.L1(), lam=0.8)], [[1.0, -1.0]], t_end=5.0)
    (ax,) = fig.axes
    star = next(line for line in ax.lines if line.get_label() == "composite optimum")
    np.testing.assert_allclose(star.get_xydata(), [[0.5, 0.5]], atol=1e-8)


def test_a_film_has_the_frames_asked_for(tmp_path) -> None:
    with plots.context():
        path = plots.animate(
            tmp_path / "film.gif", WELLS, ln.start_grid((-2, 2), (-2, 2), 8), frames=7, t_end=5.0, levels="f"
        )
    with Image.open(path) as film:
        assert film.n_frames == 7
        first = film.convert("RGB").tobytes()
        film.seek(6)
        assert film.convert("RGB").tobytes() != first
    assert [p.name for p in tmp_path.iterdir()] == ["film.gif"]


def test_an_interrupted_film_leaves_the_old_one(tmp_path, monkeypatch) -> None:
    old = tmp_path / "film.gif"
    old.write_bytes(b"old")
    grab = animation.PillowWriter.grab_frame
    monkeypatch.setattr(
        animation.PillowWriter, "grab_frame", lambda self: 1 / 0 if self._frames else grab(self)
    )
    with plots.context(), pytest.raises(ZeroDivisionError):
        plots.animate(old, WELLS[:1], [[1.0, 1.0]], frames=3, t_end=1.0)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("film.gif", b"old")]


def test_without_an_ending_a_film_takes_the_writer_that_is_there(tmp_path, monkeypatch) -> None:
    for there, ending in ((True, ".mp4"), (False, ".gif")):
        monkeypatch.setattr(animation.writers, "is_available", lambda name, there=there: there)
        assert film_path(tmp_path / "film").suffix == ending


def command(*words: str, folder) -> object:
    return CliRunner().invoke(app, ["portrait", "--out", str(folder / "p"), "--t-end", "3", *words])


def test_command_line(tmp_path) -> None:
    words = ["--objective", "(x1-0.8)**2", "--kappa", "l1", "--kappa", "huber:0.3", "--lam", "0.7,1.8"]
    result = command(*words, folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_command_line_of_maps_planes_and_films(tmp_path) -> None:
    plane = ["--objective", "(x1-0.8)**2 + x2**2", "--kappa", "pseudo-huber:0.3", "--cells", "4"]
    for words in (
        ["--map", "settling"], ["--plane", "x2,m1", "--held", "x1=0.2", "--levels", "H"],
        ["--limits=-1,1,-2,2"],
        ["--animate", str(tmp_path / "film.gif"), "--frames", "2"],
    ):  # fmt: skip
        result = command(*plane, *words, folder=tmp_path)
        assert result.exit_code == 0, result.output
    assert {p.name for p in tmp_path.iterdir()} == {"p.png", "p.pdf", "film.gif"}


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--kappa", "l3"], "kappa must be"),
        (["--lam", "x"], "lam must be numbers"),
        (["--limits", "1,2"], "limits must be one number"),
        (["--limits=-2"], "limits must be one number"),
        (["--limits", "2,1,0,1"], "x must be limits in increasing order"),
        (["--plane", "x1"], "plane must be two coordinates"),
        (["--plane", "x1,x1"], "plane must be two different"),
        (["--plane", "x1,m3"], "plane must be one of"),
        (["--held", "x1=2"], "held must name coordinates off the axes"),
        (["--held", "m1"], "held must be values"),
        (["--held", "q=1"], "held must be one of"),
        (["--levels", "G"], "levels must be one of"),
        (["--map", "basin"], "map must be one of"),
        (["--within", "0"], "within must be > 0"),
        (["--animate", "a.avi"], "a film must end in .mp4 or .gif"),
        (["--map", "entry", "--animate", "a.gif"], "give either map or animate"),
        (["--gamma", "0", "--map", "basins"], "gamma must be > 0"),
        (["--objective", "x1*x2*x3"], "needs 1 or 2 parameters"),
        (["--objective", "x1**2", "--plane", "m,x"], "plane must be x,m"),
    ],
)
def test_command_line_refuses(words, match, tmp_path) -> None:
    result = command("--objective", "x1**2 + x2**2", *words, folder=tmp_path)
    assert result.exit_code == 2
    assert match in " ".join(result.output.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


SLOPE = ln.LionK(ln.objectives.linear([1.0]), ln.kappas.Quadratic(), lam=0.0)
PLANE = ln.LionK(ln.objectives.quadratic(np.eye(2)), ln.kappas.L1())
CALLABLES = ln.LionK(ln.Objective(lambda x: x @ x, lambda x: 2 * x, dim=1), ln.kappas.L1())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: ln.switching_lines(PLANE, [0.0]), "1 parameter"),
        (lambda: plots.phase_plane(plots.figure()[1], PLANE), "use portrait"),
        (lambda: plots.phase_plane(plots.figure()[1], LION, x=(1, -1)), "increasing"),
        (lambda: plots.portraits([], []), "at least one"),
        (lambda: ln.equilibrium(LION.replace(gamma=0.0)), "gamma must be > 0"),
        (lambda: ln.equilibrium(SLOPE), "no equilibrium"),
        (lambda: ln.equilibria(LION.replace(gamma=0.0), [[0.0]]), "gamma must be > 0"),
        (lambda: ln.equilibria(CALLABLES, [[0.0]]), "need the Hessian"),
        (lambda: ln.equilibria(LION, [[0.0, 1.0]]), "starts must have 1 components"),
        (lambda: ln.basins(LION, [[0.0]], -1.0), "t_end must be > 0"),
        (lambda: ln.basins(LION, [[0.0]], 1.0, within=0.0), "within must be > 0"),
        (lambda: ln.basins(LION, [[0.0]], 1.0, samples=1), "samples must be an integer ≥ 2"),
        (lambda: ln.basins(LION, [[0.0]], 1.0, [[0.0], [1.0]]), "m0s must have the shape of x0s"),
        (lambda: ln.settling_times([0.0, 1.0], [1.0], 0.1), "distance must have 2 components"),
        (lambda: ln.Plane(("x1", "x2"), 2).level(PLANE, [0.0, 0.0], "G"), "of must be one of"),
        (lambda: ln.start_grid((0, 1), (1, 0), 3), "y must be limits"),
        (lambda: ln.start_grid((0, 1), (0, 1), 0), "cells must be an integer ≥ 1"),
        (lambda: plots.portrait(plots.figure()[1], LION, []), "needs 2 parameters"),
        (lambda: plots.portraits([PLANE], [[0.0, 0.0]], map="time"), "map must be one of"),
        (lambda: plots.animate("film.avi", [PLANE], [[0.0, 0.0]]), "must end in .mp4 or .gif"),
        (lambda: plots.animate("film.gif", [PLANE], [[0.0, 0.0]], frames=1), "frames must be an integer ≥ 2"),
        (
            lambda: plots.basin_map(plots.figure()[1], ln.basins(LION, [[0.5]], 1.0), (-1, 1), (-1, 1)),
            "a map needs a grid",
        ),
    ],
)  # fmt: skip
def test_bad_input(call, match) -> None:
    with pytest.raises(ValueError, match=match):
        call()


def test_a_film_needs_a_folder(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="existing folder"):
        plots.animate(tmp_path / "none" / "film.gif", [PLANE], [[0.0, 0.0]])


def test_mp4_needs_ffmpeg(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(animation.writers, "is_available", lambda name: False)
    with pytest.raises(ValueError, match=r"needs ffmpeg, which was not found: install it, or end in \.gif"):
        plots.animate(tmp_path / "film.mp4", [PLANE], [[0.0, 0.0]])
