"""The proofs hold, refuse what is wrong, and their formulas are the numbers of the library."""

import numpy as np
import pytest
import sympy as sp
from systems import SYSTEMS

import lionode as ln
from lionode.lyapunov import proof as p

K = ln.kappas
WITH_FORM = [
    K.L1(),
    K.SoftThreshold(0.3),
    K.Huber(0.3),
    K.Quadratic(),
    K.Power(1.5),
    K.PseudoHuber(1.7),
    K.LogCosh(0.3),
    K.Lp(2.0),
    K.LogSumExp(),
]
WITHOUT_FORM = [K.TopK(2), K.Nuclear([2, 3])]

ROUNDING = 1e-11
"""Relative: a few hundred operations on numbers of size up to 1e3."""


@pytest.fixture(scope="module")
def theorem():
    return ln.prove()


def test_the_theorems_hold(theorem):
    assert theorem.holds
    assert theorem.residual == 0
    assert len({s.name for s in theorem.steps}) == len(theorem.steps)
    assert {s.name.split()[0].rstrip(":") for s in theorem.steps} == {"flow", "updates", "Euler"}
    assert any("L-smooth" in h for h in theorem.hypotheses)
    assert "proved" in str(theorem)
    assert theorem.latex().count(r"\checkmark") == len(theorem.steps)


H = p.ALPHA * p.F + p.GAMMA / p.LAM * p.CONJ
GAP = p.CONJ + p.KAPPA - p.LAM * p.M * p.X


@pytest.mark.parametrize(
    "proof",
    [
        lambda: p.flow_identity(H - p.FLOW_C * GAP),
        lambda: p.flow_identity(H + p.FLOW_C * (p.CONJ + p.KAPPA + p.LAM * p.M * p.X)),
        lambda: p.flow_identity(c=sp.Rational(6, 5) * p.FLOW_C),
        lambda: p.flow_identity(c=1 / (1 + p.EPSILON * p.LAM)),
        lambda: p.discrete_inequality(c=p.ETA * p.BETA1),
        lambda: p.backward_euler(c=sp.Rational(6, 5) * p.FLOW_C),
    ],
    ids=["sign of the bracket", "sign of the product", "1.2 c", "c without εγ", "updates' c", "Euler's c"],
)
def test_a_wrong_function_is_refused(proof):
    wrong = proof()
    assert not wrong.holds
    assert wrong.residual != 0
    assert "NOT proved" in str(wrong)
    assert r"\times" in wrong.latex()


def test_the_right_function_given_as_data_is_accepted():
    assert p.flow_identity(H + p.FLOW_C * GAP).holds


@pytest.mark.parametrize("kappa", WITH_FORM, ids=str)
def test_each_potential_with_a_form(kappa):
    proof = ln.prove(kappa)
    assert proof.holds, str(proof)
    assert len(proof.steps) >= 6


@pytest.mark.parametrize("kappa", WITHOUT_FORM, ids=str)
def test_a_potential_without_a_form_is_not_proved(kappa):
    proof = ln.prove(kappa)
    assert not proof.holds
    assert "no symbolic form" in proof.steps[0].name


@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("symbolic_phi_conjugate", lambda self, y: sp.Float(0.2) * y**2),
        ("symbolic_phi", lambda self, z: sp.Float(0.7) * z**2),
    ],
)
def test_a_wrong_form_is_refused(monkeypatch, method, form):
    monkeypatch.setattr(K.Quadratic, method, form)
    assert not ln.prove(K.Quadratic()).holds


def test_a_conjugate_that_is_right_at_the_slopes_only_is_refused(monkeypatch):
    assert any("at the kink" in step.name for step in ln.prove(K.L1()).steps)
    monkeypatch.setattr(K.L1, "symbolic_phi_conjugate", lambda self, y: y**2 - 1)
    failed = [step.name for step in ln.prove(K.L1()).steps if not step.holds]
    assert any("at the kink" in name for name in failed)


@pytest.mark.parametrize("text", ["cosh(z)", "cosh(z/2)", "exp(z)", "z**4/4"])
def test_a_potential_of_ones_own(text):
    assert ln.prove(K.from_expression(text)).holds


@pytest.mark.parametrize("row", [r for r in SYSTEMS if r.id != "rosenbrock"][:8], ids=lambda r: r.id)
def test_the_formulas_of_a_system_are_its_numbers(row):
    system = row.system
    if system.objective.expression is None:
        f = ln.objectives.from_expression("1.5*x1**2 + 0.8*x1*x2 + 0.6*x2**2 + x1**4/7 - 2.5*x1")
        system = ln.LionK(f, system.kappa, **system.coefficients)
    proof = ln.prove(system)
    assert proof.holds, str(proof)
    rng = np.random.default_rng(2)
    d = system.dim
    x = system.kappa.subgradient(rng.normal(size=(50, d))) / (system.lam or 1)
    m = rng.normal(size=(50, d))
    columns = [*x.T, *m.T]
    energy = sp.lambdify(proof.symbols, proof.hamiltonian, "numpy")(*columns)
    rate = sp.lambdify(proof.symbols, proof.rate, "numpy")(*columns)
    np.testing.assert_allclose(energy, ln.lyapunov(system, x, m), rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(rate, -ln.dissipation(system, x, m).rate, rtol=ROUNDING, atol=ROUNDING)


def test_a_system_without_a_formula_is_not_proved():
    f = ln.Objective(lambda x: x @ x, lambda x: 2 * x, dim=2)
    proof = ln.prove(ln.LionK(f, K.L1()))
    assert not proof.holds
    assert proof.hamiltonian is None
    assert "no symbolic form" in str(proof)


def test_bad_input():
    with pytest.raises(TypeError, match="subject"):
        ln.prove("l1")
