"""H, its dissipation, and certificates that can say no."""

from __future__ import annotations

import dataclasses
import json
import math
import sys

import numpy as np
import pytest
from systems import A2, B2, IDS, SYSTEMS
from tables import KAPPAS

import lionode as ln
from lionode.lyapunov.certificate import Verdict
from lionode.lyapunov.flow_claims import _integrate

RTOL, ATOL = 1e-9, 1e-11


def by_hand(system: ln.LionK, x: np.ndarray, m: np.ndarray) -> float:
    """H written out for one point, as on paper."""
    f, kappa = system.objective, system.kappa
    alpha, gamma, epsilon, lam = system.alpha, system.gamma, system.epsilon, system.lam
    c = (1 - epsilon * gamma) / (1 + epsilon * lam)
    star = float(kappa.conjugate(lam * x))
    penalty = gamma / lam * star if lam else 0.0
    return float(alpha * f.value(x) + penalty + c * (star + kappa.value(m) - lam * m @ x))


@pytest.mark.parametrize("row", SYSTEMS, ids=IDS)
def test_values_are_the_formula_and_broadcast(row) -> None:
    rng = np.random.default_rng(1)
    d = row.system.dim
    x = rng.uniform(-0.3, 0.3, size=(4, 3, d))
    if row.id == "log-sum-exp":
        x = rng.dirichlet(np.ones(d), size=(4, 3)) / row.system.lam
    m = rng.normal(size=(4, 3, d))
    values = ln.lyapunov(row.system, x, m)
    assert values.shape == (4, 3)
    for i in np.ndindex(4, 3):
        assert values[i] == pytest.approx(by_hand(row.system, x[i], m[i]), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("row", SYSTEMS, ids=IDS)
def test_rate_is_minus_the_derivative_of_h_along_the_flow(row) -> None:
    rng = np.random.default_rng(2)
    system, d, step = row.system, row.system.dim, 1e-5
    for _ in range(10):
        x = rng.uniform(-0.3, 0.3, size=d)
        if row.id == "log-sum-exp":
            x = rng.dirichlet(np.ones(d)) / system.lam
        m = rng.normal(size=d)
        dx, dm = system.velocity(x, m)
        ahead = ln.lyapunov(system, x + step * dx, m + step * dm)
        behind = ln.lyapunov(system, x - step * dx, m - step * dm)
        rates = ln.dissipation(system, x, m)
        assert -(ahead - behind) / (2 * step) == pytest.approx(float(rates.rate), rel=1e-5, abs=1e-7)
        assert rates.delta1 >= -1e-15
        assert rates.delta2 >= -1e-15


@pytest.mark.parametrize(
    "kappa", [ln.kappas.L1(), ln.kappas.Huber(0.3), ln.kappas.PseudoHuber(0.2)], ids=repr
)
def test_outside_the_domain_is_infinite_never_nan(kappa) -> None:
    system = ln.LionK(ln.objectives.quadratic(A2, B2), kappa)
    x = np.array([[2.0, 0.0], [0.1, -3.0], [0.1, 0.2]])
    m = np.zeros((3, 2))
    np.testing.assert_array_equal(np.isinf(ln.lyapunov(system, x, m)), [True, True, False])
    for part in ln.dissipation(system, x, m):
        assert not np.isnan(part).any()
    np.testing.assert_array_equal(np.isinf(ln.dissipation(system, x, m).rate), [True, True, False])


def test_small_lam_tends_to_lam_zero() -> None:
    f = ln.objectives.quadratic(A2, B2)
    x, m = np.array([0.4, -0.7]), np.array([0.3, 0.2])
    kappa = ln.kappas.PseudoHuber(0.5)
    limit = ln.lyapunov(ln.LionK(f, kappa, 0.7, 1.3, 0.4, 0.0), x, m)
    shift = 1.3 * kappa.conjugate(np.zeros(2))
    gaps = [
        float(ln.lyapunov(ln.LionK(f, kappa, 0.7, 1.3, 0.4, lam), x, m) - shift / lam - limit)
        for lam in (1e-2, 1e-3)
    ]
    assert abs(gaps[1]) < 0.11 * abs(gaps[0])


@pytest.mark.parametrize("row", SYSTEMS, ids=IDS)
def test_every_flow_is_certified(row) -> None:
    # The simplex has no interior: a solver's rounding leaves it, and H with it.
    flow = ln.simulate(row.system, row.x0, 20.0, m0=row.m0, rtol=RTOL, atol=ATOL)
    cert = ln.certify(flow)
    assert cert.holds, str(cert)
    assert cert.monotone
    if math.isfinite(cert.entry_time) and row.id != "log-sum-exp":
        assert cert.balance_residual < 1e-6
    json.loads(cert.to_json())


def edited(flow: ln.Trajectory, bump: float, at: int) -> ln.Trajectory:
    x = flow.x.copy()
    x[at] += bump
    return dataclasses.replace(flow, x=x)


def test_a_trajectory_edited_by_a_millionth_is_refused() -> None:
    row = SYSTEMS[0]
    flow = ln.simulate(row.system, row.x0, 8.0, m0=row.m0, rtol=RTOL, atol=ATOL)
    assert ln.certify(flow).holds
    inside = np.flatnonzero(flow.t > 1.5)[0]
    g = row.system.objective.gradient(flow.x[inside])
    assert not ln.certify(edited(flow, 1e-6 * np.sign(g), int(inside))).holds


def test_a_selection_edited_by_a_millionth_is_refused() -> None:
    row = SYSTEMS[0]
    flow = ln.simulate(row.system, row.x0, 8.0, m0=row.m0, rtol=RTOL, atol=ATOL)
    u = flow.u.copy()
    u[10] += 1e-6
    assert violated(ln.certify(dataclasses.replace(flow, u=u))) == {"saved states lie on the run"}


def violated(cert: ln.Certificate) -> set[str]:
    return {check.claim for check in cert.checks if check.verdict is Verdict.VIOLATED}


@pytest.mark.parametrize("look_ahead", ["current", "next"])
@pytest.mark.parametrize("decay", ["explicit", "implicit"])
@pytest.mark.parametrize("row", KAPPAS, ids=[row.id for row in KAPPAS])
def test_updates_edited_by_a_millionth_are_refused(row, decay, look_ahead) -> None:
    d = row.dim
    matrix = np.diag(np.linspace(0.8, 2.5, d)) + 0.3
    f = ln.objectives.quadratic(matrix, matrix @ np.linspace(0.9, -0.4, d))
    system = ln.LionK(f, row.kappa, 0.7, 1.3, 0.4, 0.9)
    run = ln.iterate(system, np.linspace(1.4, -1.1, d), 300, lr=0.02, decay=decay, look_ahead=look_ahead)
    assert ln.certify(run, optimum=False).holds
    for at in (1, 100, 300):
        for field in ("x", "m"):
            states = getattr(run, field).copy()
            states[at, 0] += 1e-6
            # The states between the records are made anew too, so that only the recurrence can tell.
            both = {"x": run.x, "m": run.m, "u": run.u, field: states}
            rows = np.concatenate([both["x"], both["m"], both["u"]], axis=1)
            dense = dataclasses.replace(run.dense, nodes=np.stack([rows[:-1], rows[1:]], axis=1))
            edited_run = dataclasses.replace(run, **{field: states}, dense=dense)
            claims = violated(ln.certify(edited_run, optimum=False))
            assert "each update follows from the last" in claims
            sloppy = dataclasses.replace(run, **{field: states}, info={**run.info, "record_every": 2})
            assert "saved states lie on the run" in violated(ln.certify(sloppy, optimum=False))


@pytest.mark.parametrize("row", KAPPAS, ids=[row.id for row in KAPPAS])
def test_backward_euler_edited_by_a_millionth_is_refused(row) -> None:
    d = row.dim
    matrix = np.diag(np.linspace(0.8, 2.5, d)) + 0.3
    f = ln.objectives.quadratic(matrix, matrix @ np.linspace(0.9, -0.4, d))
    system = ln.LionK(f, row.kappa, 0.7, 1.3, 0.4, 0.9)
    run = ln.simulate(system, np.linspace(1.4, -1.1, d), 6.0, method="backward-euler", step=0.3)
    assert ln.certify(run, optimum=False).holds
    for column in (0, d):
        nodes = run.dense.nodes.copy()
        nodes[7, -1, column] += 1e-6
        nodes[8, 0, column] += 1e-6
        dense = dataclasses.replace(run.dense, nodes=nodes)
        own = dense(run.t)
        forged = dataclasses.replace(run, x=own[:, :d], m=own[:, d : 2 * d], u=own[:, 2 * d :], dense=dense)
        assert "each step solves its equation" in violated(ln.certify(forged, optimum=False))


def forged(flow: ln.Trajectory, sizes: np.ndarray) -> ln.Trajectory:
    """The flow with its dense output and its saved states moved by one smooth bump, u with them."""
    d, dense = flow.system.dim, flow.dense
    times = dense.breaks[:-1, None] + np.diff(dense.breaks)[:, None] * dense.points(dense.nodes.shape[1])
    nodes, end = dense.nodes.copy(), dense.breaks[-1]
    nodes[..., : 2 * d] += np.exp(-(((times - 0.4 * end) / (0.1 * end)) ** 2))[..., None] * sizes
    run = dataclasses.replace(flow, dense=dataclasses.replace(dense, nodes=nodes))
    y = run.evaluate(flow.t)
    return dataclasses.replace(run, x=y[:, :d], m=y[:, d : 2 * d], u=y[:, 2 * d :])


FOLLOWS = "the states follow the flow"
FORGERY, FORGERY_OF_EVENTS = 3000.0, 100.0
"""The size of a bump in one component that no flow hides, in tolerances."""


@pytest.mark.parametrize("method", ["RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA"])
@pytest.mark.parametrize("row", SYSTEMS[:4], ids=IDS[:4])
def test_a_flow_forged_with_its_dense_output_is_refused(row, method) -> None:
    tol = 1e-6 if method == "RK23" else 1e-8
    flow = ln.simulate(row.system, row.x0, 8.0, m0=row.m0, method=method, rtol=tol, atol=tol / 100)
    assert ln.certify(flow, optimum=False).holds
    d = row.system.dim
    for sizes in (np.eye(2 * d)[0], np.eye(2 * d)[-1]):
        claims = violated(ln.certify(forged(flow, FORGERY * tol * sizes), optimum=False))
        assert FOLLOWS in claims


@pytest.mark.parametrize("kappa", [ln.kappas.L1(), ln.kappas.SoftThreshold(0.3)], ids=repr)
def test_a_forged_flow_of_events_is_refused(kappa) -> None:
    f = ln.objectives.quadratic(A2, B2)
    flow = ln.simulate(ln.LionK(f, kappa, 0.7, 1.3, 0.4, 0.9), [1.4, -1.1], 8.0, rtol=1e-8, atol=1e-10)
    assert flow.method == "event"
    assert ln.certify(flow).holds
    for sizes in np.eye(4):
        assert FOLLOWS in violated(ln.certify(forged(flow, FORGERY_OF_EVENTS * 1e-8 * sizes)))
    # With ẋ + λx for u the equation of x holds for any x; but u ∈ ∂κ(m̃) does not.
    nodes = flow.dense.nodes.copy()
    nodes[..., 4:] += 1e-6
    moved = dataclasses.replace(flow, u=flow.u + 1e-6, dense=dataclasses.replace(flow.dense, nodes=nodes))
    assert "u ∈ ∂κ(m̃) throughout" in violated(ln.certify(moved))


def test_a_forged_flow_of_a_smoothed_potential_is_refused() -> None:
    f = ln.objectives.quadratic(A2, B2)
    system = ln.LionK(f, ln.kappas.Lp(1.5), 0.7, 1.3, 0.4, 0.9)
    flow = ln.simulate(system, [1.4, -1.1], 4.0, rtol=1e-6, atol=1e-8)
    assert flow.method == "moreau"
    assert ln.certify(flow).holds
    bump = np.eye(4)[0] * FORGERY * 1e-6
    certified = forged(flow.info["certified"], bump)
    assert FOLLOWS in violated(
        ln.certify(dataclasses.replace(flow, info={**flow.info, "certified": certified}))
    )
    far = forged(flow, np.eye(4)[0] * 3 * flow.info["error_estimate"])
    assert violated(ln.certify(far)) == {"within its error estimate of κ_{τ/2}"}
    assert violated(ln.certify(edited(flow, 1e-3, 5))) == {"saved states lie on the run"}


@pytest.mark.parametrize("row", KAPPAS, ids=[row.id for row in KAPPAS])
def test_no_honest_flow_is_refused(row) -> None:
    d = row.dim
    matrix = np.diag(np.linspace(0.8, 2.5, d)) + 0.3
    f = ln.objectives.quadratic(matrix, matrix @ np.linspace(0.9, -0.4, d))
    methods = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA") if row.kappa.smooth else ("auto",)
    for i, method in enumerate(methods):
        tol = (1e-4, 1e-6, 1e-8)[i % 3] if row.kappa.smooth or row.kappa.kinks else 1e-4
        system = ln.LionK(f, row.kappa, 0.7, 1.3, (0.4, 0.0)[i % 2], 0.9)
        flow = ln.simulate(system, np.linspace(1.4, -1.1, d), 5.0, method=method, rtol=tol, atol=tol / 100)
        cert = ln.certify(flow, optimum=False)
        assert cert.holds, cert
        assert cert[FOLLOWS].value <= 0.5


@pytest.mark.parametrize("jump", [0.3, 0.9994, 1 - 1e-7])
def test_a_jump_next_to_the_end_of_a_step_is_integrated(jump) -> None:
    """∂κ* jumps where λx crosses a slope; inner points alone miss a jump within the last 1.6 % of a step."""
    values, errors = _integrate(
        lambda t: np.where(t > jump, 3.0, -1.0)[..., None], np.array([0.0, 1.0, 2.0]), np.full((2, 1), 1e-9)
    )
    np.testing.assert_allclose(values[:, 0], [3.0 - 4.0 * jump, 3.0], atol=2e-8)
    assert errors.sum() <= 1e-8


def test_a_step_over_a_bend_that_is_off_by_thousands_of_tolerances_is_refused() -> None:
    """No fault of the certificate: DOP853 takes a step over a bend of ∇κ for exact, and loses the flow."""
    kappa = ln.kappas.Scaled(ln.kappas.MoreauEnvelope(ln.kappas.SoftThreshold(0.2), 0.3), 2.5)
    system = ln.LionK(
        ln.objectives.rosenbrock(2),
        kappa,
        0.8719018080885874,
        1.1956484608930575,
        0.7234247248065759,
        1.5225687430592354,
    )
    flow = ln.simulate(
        system, [13.169521641733564, 11.561236469276164], 8.0, method="DOP853",
        rtol=3.2649062881021695e-10, atol=3.2649062881021695e-12, max_steps=200,
    )  # fmt: skip
    check = ln.certify(flow, optimum=False)[FOLLOWS]
    assert check.verdict == "violated"
    step = int(np.argmin(np.abs(flow.t - float(check.note.split()[4]))))
    again = ln.simulate(
        system, flow.x[step], flow.t[step + 1] - flow.t[step], flow.m[step], "Radau", rtol=1e-12, atol=1e-14
    )
    gap = np.abs(again.x[-1] - flow.x[step + 1])
    tol = flow.info["atol"] + flow.info["rtol"] * np.abs(flow.x[step + 1])
    assert (gap / tol).max() > 1000


def test_updates_up_to_the_frontier_are_certified() -> None:
    # With explicit decay the flow's own H may rise there: it is the implicit twin's that cannot.
    rose = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        beta1, beta2 = sorted(rng.uniform(0.2, 0.9, 2))
        lam = rng.uniform(0.3, 1.0)
        f = ln.objectives.quadratic(np.diag([1.5, 0.2]), rng.normal(size=2))
        kappa = (ln.kappas.Quadratic(), ln.kappas.Huber(0.6))[seed % 2]
        ell = kappa.lipschitz
        lr = 0.98 * ln.monotone_lr(beta1, beta2, lam, smoothness=f.smoothness, kappa_smoothness=ell)
        system = ln.LionK.from_optimizer(f, kappa, lr=lr, beta1=beta1, beta2=beta2, lam=lam)
        run = ln.iterate(system, rng.uniform(-0.9, 0.9, 2) / lam, 60, lr=lr, m0=2 * rng.normal(size=2))
        cert = ln.certify(run, optimum=False)
        assert cert.holds, cert
        energies = ln.lyapunov(system, run.x, run.m)
        rose += bool(np.diff(energies[np.isfinite(energies)]).max() > 1e-6)
    assert rose > 0


@pytest.mark.parametrize("decay", ["explicit", "implicit"])
def test_a_formula_has_the_smoothness_that_the_step_shows(decay) -> None:
    f = ln.objectives.from_expression("(x1 - 0.4)**2/2 + 3*x2**2/20 + x2**4/1000")
    assert f.smoothness is None
    kappa = ln.kappas.PseudoHuber(0.8)
    limit = ln.monotone_lr(0.2, 0.5, 0.1, kappa_smoothness=kappa.lipschitz, decay=decay)
    for share in (0.98, 1.6):
        lr = share * limit
        system = ln.LionK.from_optimizer(f, kappa, lr=lr, beta1=0.2, beta2=0.5, lam=0.1)
        cert = ln.certify(ln.iterate(system, [1.0, -2.0], 100, lr=lr, decay=decay))
        assert cert.holds == (share < 1), cert
        assert violated(cert) == ({"H never rises"} if share > 1 else set())


@pytest.mark.parametrize("row", KAPPAS, ids=[row.id for row in KAPPAS])
def test_updates_of_every_potential_are_judged_even_where_they_diverge(row) -> None:
    d = row.dim
    f = ln.objectives.from_expression("+".join(f"(x{i + 1}**2 - 1)**2/4" for i in range(d)) + "+ 0.3*x1*x2")
    for lam, epsilon, gamma in ((1.6, 0.4, 1.3), (0.9, 0.8, 1.25), (1.6, 0.4, 0.0), (0.0, 0.4, 1.3)):
        system = ln.LionK(f, row.kappa, 0.7, gamma, epsilon, lam)
        for lr in (0.01, 0.1, 0.4):
            for decay in ("explicit", "implicit"):
                m0 = np.linspace(-1.0, 1.3, d)
                run = ln.iterate(system, np.linspace(2.4, -3.1, d), 150, lr=lr, decay=decay, m0=m0)
                cert = ln.certify(run, optimum=False)
                # Only a learning rate beyond the frontier is refused, never the run itself.
                assert violated(cert) <= {"H never rises"}
                if violated(cert):
                    assert " > " in cert["H never rises"].note
                json.loads(cert.to_json())


def test_too_loose_a_solver_is_refused_at_the_tolerance_it_claims() -> None:
    row = SYSTEMS[0]
    loose = ln.simulate(row.system, row.x0, 8.0, m0=row.m0, method="RK23", rtol=1e-2, atol=1e-2)
    claimed = dataclasses.replace(loose, info={**loose.info, "rtol": 1e-8, "atol": 1e-10})
    cert = ln.certify(claimed)
    assert not cert.holds
    assert cert.balance_residual > 1e-6


@pytest.mark.parametrize("decay", ["explicit", "implicit"])
@pytest.mark.parametrize("kappa", [ln.kappas.PseudoHuber(0.8), ln.kappas.Quadratic()])
def test_updates_far_above_the_learning_rate_that_descends_are_refused(kappa, decay) -> None:
    f = ln.objectives.quadratic(np.diag([1.0, 0.3]), np.array([0.4, 0.1]))
    beta1, beta2, lam = 0.2, 0.5, 0.1
    limit = ln.monotone_lr(
        beta1, beta2, lam, smoothness=f.smoothness, kappa_smoothness=kappa.lipschitz, decay=decay
    )
    for share in (0.98, 1.6):
        lr = share * limit
        system = ln.LionK.from_optimizer(f, kappa, lr=lr, beta1=beta1, beta2=beta2, lam=lam)
        cert = ln.certify(ln.iterate(system, [1.0, -2.0], 100, lr=lr, decay=decay))
        assert cert.holds == (share < 1), cert


def test_epsilon_gamma_above_one_is_refused_when_smuggled_past_validation() -> None:
    f = ln.objectives.quadratic(np.diag([3.0, 0.05]), np.zeros(2))
    claim = "εγ ≤ 1, as the theorems ask"
    for kappa, method in (
        (ln.kappas.PseudoHuber(0.05), "auto"), (ln.kappas.L1(), "event"), (ln.kappas.L1(), "backward-euler"),
        (ln.kappas.L1(), "updates"),
    ):  # fmt: skip
        system = ln.LionK(f, kappa, 1.0, 2.0, 0.5, 0.3)
        for seed in range(5):
            rng = np.random.default_rng(seed)
            x0, m0 = rng.uniform(-1, 1, 2), rng.normal(size=2)
            certs = {}
            for epsilon in (0.5, 0.6):  # εγ = 1 is the last that is right
                object.__setattr__(system, "epsilon", epsilon)
                if method == "updates":
                    run = ln.iterate(system, x0, 100, m0=m0, lr=0.01)
                elif method == "backward-euler":
                    run = ln.simulate(system, x0, 3.0, m0=m0, method=method, step=0.2)
                else:
                    run = ln.simulate(system, x0, 3.0, m0=m0, method=method, rtol=RTOL, atol=ATOL)
                certs[epsilon] = ln.certify(run)
            assert certs[0.5].holds, certs[0.5]
            assert claim in violated(certs[0.6])
            if method in ("auto", "event"):
                # Not only the rule is broken: the numbers show it.
                assert len(violated(certs[0.6])) > 1


def test_a_wrong_sign_and_a_wrong_weight_in_h_are_refused(monkeypatch) -> None:
    row = SYSTEMS[0]
    flow = ln.simulate(row.system, row.x0, 8.0, m0=row.m0, rtol=RTOL, atol=ATOL)
    function = sys.modules["lionode.lyapunov.function"]
    right = function.weight
    for wrong in (lambda s: -right(s), lambda s: 1.2 * right(s), lambda s: 0.8 * right(s)):
        monkeypatch.setattr(function, "weight", wrong)
        assert not ln.certify(flow).holds
    monkeypatch.setattr(function, "weight", right)
    assert ln.certify(flow).holds


def test_phase_one_too_slow_is_refused() -> None:
    row = SYSTEMS[0]
    flow = ln.simulate(row.system, (5.0, 4.0), 6.0, rtol=RTOL, atol=ATOL)
    cert = ln.certify(flow)
    assert cert.holds
    assert cert.phase1_ratio == pytest.approx(1.0, abs=1e-6) or cert.phase1_ratio < 1
    late = edited(flow, 1e-5, 3)
    assert not ln.certify(late).holds


def test_a_run_that_never_enters_says_so() -> None:
    cert = ln.certify(ln.simulate(SYSTEMS[0].system, (50.0, 4.0), 0.5))
    assert cert.entry_time == math.inf
    assert cert.holds
    assert "never entered" in str(cert)


def test_mere_decay_is_no_entry() -> None:
    # From outside, pulled outward: dist(λx, box) is exactly e^{−λt} times what it was.
    f = ln.objectives.linear([-1.3, 0.4])
    flow = ln.simulate(ln.LionK(f, ln.kappas.L1(), lam=1.7, epsilon=0.3), (2.0, 0.1), 40.0, m0=(1.0, -1.0))
    cert = ln.certify(dataclasses.replace(flow, events=()))
    assert cert.entry_time == math.inf
    assert cert.phase1_ratio == pytest.approx(1.0, abs=1e-6)
    assert "never entered" in str(cert)


@pytest.mark.parametrize("way", ["flow", "updates"])
def test_a_run_that_broke_down_is_judged_up_to_there(way) -> None:
    def gradient(x):
        return np.where(x > 0.2, x + 0.5, np.nan)

    f = ln.Objective(lambda x: np.sum(x**2 / 2 + 0.5 * x, axis=-1), gradient, dim=2)
    system = ln.LionK(f, ln.kappas.Huber(0.3), lam=0.7)
    if way == "flow":
        run = ln.simulate(system, [1.2, 0.9], 20.0)
    else:
        run = ln.iterate(system, [1.2, 0.9], 2000, lr=0.01)
    assert not run.success
    cert = ln.certify(run)
    assert cert.holds
    assert math.isfinite(cert.max_increase)
    assert "judged up to t = " in str(cert)


def test_an_unresolved_tail_is_not_judged() -> None:
    f = ln.objectives.quadratic(np.diag([2.0, 3.0]), [3.0, 0.0])
    flow = ln.simulate(ln.LionK(f, ln.kappas.L1(), lam=0.6, epsilon=0.0), [1.2, -1.0], 30.0)
    assert flow.status == ln.Status.TAIL_UNRESOLVED
    cert = ln.certify(flow)
    assert cert.holds
    assert f"judged up to t = {flow.info['handover']:g}" in str(cert)


def test_backward_euler_shrinks_by_its_own_factor() -> None:
    f = ln.objectives.quadratic(np.eye(2), [30.0, 0.0])
    system = ln.LionK(f, ln.kappas.L1(), lam=0.7, epsilon=0.3)
    run = ln.simulate(system, [5.0, 0.3], 6.0, method="backward-euler", step=0.5, m0=[30.0, 0.0])
    cert = ln.certify(run)
    assert cert["distance to dom κ* decays"].verdict == "held"
    assert cert.phase1_ratio == pytest.approx(1.0, abs=1e-6)
    # It is not the factor of the flow, whose distance shrinks faster: the same states would break that one.
    as_flow = dataclasses.replace(run, method="event")
    assert ln.certify(as_flow)["distance to dom κ* decays"].verdict == "violated"


@pytest.mark.parametrize("row", SYSTEMS, ids=IDS)
def test_the_end_is_as_near_to_the_optimum_as_its_gap_says(row, monkeypatch) -> None:
    claim = "distance to the optimum"
    flow = ln.simulate(row.system, row.x0, 2.0, m0=row.m0)
    check = ln.certify(flow)[claim]
    assert check.verdict != "violated"
    if row.system.objective.strong_convexity and check.verdict == "held":
        assert 0 < check.value <= check.bound
        far = dataclasses.replace(
            ln.composite_optimum(row.system), x=flow.x[-1] + 1.01 * check.bound * np.eye(row.system.dim)[0]
        )
        module = sys.modules["lionode.lyapunov.certificate"]
        monkeypatch.setattr(module, "composite_optimum", lambda *_, **__: far)
        assert ln.certify(flow)[claim].verdict == "violated"
    assert claim not in str(ln.certify(flow, optimum=False))


def test_certify_wants_a_run() -> None:
    with pytest.raises(TypeError, match="Trajectory"):
        ln.certify(3)
