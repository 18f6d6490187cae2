"""The proofs hold, refuse what is wrong, and their formulas are the numbers of the library."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from matplotlib.mathtext import MathTextParser
from systems import SYSTEMS
from tables import KAPPAS

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


@pytest.mark.parametrize("kappa", [K.Lp(2.0), K.Lp(1.5), K.LInf()], ids=str)
def test_a_conjugate_that_is_right_on_the_boundary_only_is_refused(monkeypatch, kappa):
    wrong = {
        "Lp(2)": lambda self, y: y[0] ** 2 + y[1] ** 2 - 1,
        "Lp(1.5)": lambda self, y: abs(y[0]) ** 3 + abs(y[1]) ** 3 - 1,
        "LInf()": lambda self, y: abs(y[0]) + abs(y[1]) - 1,
    }[str(kappa)]
    monkeypatch.setattr(type(kappa), "symbolic_conjugate", wrong)
    failed = [step.name for step in ln.prove(kappa).steps if not step.holds]
    assert "κ* agrees with the catalogue's numbers" in failed


def as_system(kappa):
    f = ln.objectives.from_expression(
        "+".join(f"{i + 2}*(x{i + 1} - 0.3)**2" for i in range(kappa.dim or max(2, kappa.least_dim)))
    )
    return ln.LionK(f, kappa, 0.7, 1.3, 0.4, 1.6)


@pytest.mark.parametrize(
    "subject",
    [None, *(row.kappa for row in KAPPAS), as_system(K.PseudoHuber(0.3)), as_system(K.LogSumExp())],
    ids=str,
)
def test_latex_is_what_every_engine_takes(subject):
    proof = ln.prove(subject)
    text = proof.latex()
    assert text.isascii()
    assert text.count("{") == text.count("}")
    assert text.count("$") % 2 == 0
    assert len(text.splitlines()) == 2 + len(proof.steps) + len(proof.hypotheses)
    parser = MathTextParser("path")
    for step in proof.steps:
        if "cases" not in step.formula:  # mathtext has no environments
            parser.parse(f"${step.formula}$")
        for signs in re.findall(r"\$[^$]+\$", p.text_latex(step.name)):
            parser.parse(signs)


def test_latex_says_what_it_should(theorem):
    text = theorem.latex()
    assert r"P{\left(t v \right)} = t^{2} P{\left(v \right)}" in text
    assert r"\kappa^{*}(\lambda x)" in text
    assert r"$\Delta _1$ $\geq $ 0" in text
    assert r"uses f is L-smooth" in text


def test_without_decay_h_needs_0_in_the_domain():
    system = ln.LionK(ln.objectives.from_expression("x1**2 + (x2 - 1)**2"), K.LogSumExp(), lam=0.0)
    proof = ln.prove(system)
    assert not proof.holds
    assert proof.hamiltonian is None
    assert "0 is not in dom κ*" in str(proof)


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


def test_the_page_is_what_the_code_says_now():
    script = Path(__file__).parents[1] / "docs" / "make_proof_page.py"
    spec = importlib.util.spec_from_file_location("make_proof_page", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.page()
    assert module.PAGE.read_text(encoding="utf-8") == text, "run docs/make_proof_page.py"
    assert "✗" not in text
