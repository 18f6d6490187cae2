"""Expressions that are piecewise linear: told exactly, and treated like L1 and SoftThreshold."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import lionode as ln
from lionode import kappas as k

QUADRATIC = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2 + 0.8*x1*x2")
"""As in test_ensemble.py, whose compiled kernels then serve here."""

ROUNDING = 1e-12
"""Thousands of roundings of numbers of order 10."""

KNOWN = {
    "max(abs(z) - 0.4, 0)": ((-0.4, 0.4), (-1, 0, 1)),
    "max(z, -2*z, 3*z - 1)": ((0, 0.5), (-2, 1, 3)),
    "2*abs(z) + 0.5*max(z - 1, 0)": ((0, 1), (-2, 2, 2.5)),
    "max(2*z, 2.5*z, 3*z)": ((0,), (2, 3)),
    "z*sign(z) + abs(sign(z - 1)*(z - 1))": ((0, 1), (-2, 0, 2)),
    "max(-2*z, abs(z) - min(0, 1 - z))": ((0, 1), (-2, 1, 2)),
    "abs(z)/sqrt(2)": ((0,), (-(0.5**0.5), 0.5**0.5)),
    "abs(z) + max(z - 1, 0) + min(z - 1, 0)": ((0,), (0, 2)),
    "max(-z, z/1000 - 0.003)": ((3 / 1001,), (-1, 0.001)),
    "abs(z - 1e-9) + abs(z) + abs(z + 1e-9)": ((-1e-9, 0, 1e-9), (-3, -1, 1, 3)),
}


@pytest.mark.parametrize("text", KNOWN)
def test_kinks_and_slopes(text: str) -> None:
    kappa = k.from_expression(text)
    kinks, slopes = KNOWN[text]
    assert_allclose(kappa.kinks, kinks, rtol=1e-15)
    assert_allclose(kappa.slopes, slopes, rtol=1e-15)
    assert kappa.bounds == (kappa.slopes[0], kappa.slopes[-1])
    assert k.Scaled(kappa, 1.7).kinks == kappa.kinks
    assert_array_equal(k.Scaled(kappa, 1.7).slopes, 1.7 * np.array(kappa.slopes))
    assert k.MoreauEnvelope(kappa, 0.3).kinks is None


@pytest.mark.parametrize(
    "text",
    [
        "abs(z) + 0.01*z**2",
        "sqrt(z**2 + 1e-6)",
        "exp(abs(z))",
        "max(abs(z), z**2)",
        "abs(z)**2 + abs(z)",
        "abs(z) + 1e-300*z**2",
        "3*z",
        "max(z, 0) + min(z, 0)",
        "max(z, z + 1e-30*abs(z))",  # a bend that doubles cannot tell
    ],
)
def test_everything_else_is_not_taken_for_it(text: str) -> None:
    kappa = k.from_expression(text)
    assert kappa.kinks is None
    assert kappa.slopes is None


TENTS = "abs(" * 14 + "z" + "".join(f" - 1/{2**i})" for i in range(14))
"""With 2¹⁴ pieces, more than are taken apart."""


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("abs(z - 1) - 2*abs(z)", "must be convex.* falls at z = 0"),
        ("abs(abs(z) - 1)", "must be convex.* falls at z = 0"),
        (
            "abs(z) - 3*max(z - 1/7, 0) + 3*max(z - 1/7 - 1e-12, 0)",
            r"must be convex.* falls at z = 0\.142857",
        ),
        ("abs(z) + sign(z)", "must be convex.* jumps at z = 0"),
        ("abs(z) + 1 - abs(sign(z))", "must be convex.* jumps at z = 0"),
        (TENTS, "must be convex"),
        ("max(1e-300*z, 1e300)", "kinks and slopes that are doubles"),
    ],
)
def test_not_convex_is_refused(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        k.from_expression(text)
    assert "\n" not in str(caught.value)


FRACTIONS = st.fractions(min_value=-5, max_value=5, max_denominator=20)


@st.composite
def functions(draw) -> tuple[str, list[Fraction], list[Fraction], Fraction]:
    """A convex piecewise linear φ in one of three spellings, with its kinks, slopes and first constant."""
    kinks = sorted(draw(st.sets(FRACTIONS, min_size=1, max_size=4)))
    rises = [abs(draw(FRACTIONS.filter(bool))) for _ in kinks]
    first, constant = draw(FRACTIONS), draw(FRACTIONS)
    slopes = list(accumulate(rises, initial=first))
    hinges = list(zip(rises, kinks, strict=True))
    match draw(st.sampled_from(["hinges", "absolute values", "lines"])):
        case "hinges":
            terms = [f"({rise})*max(z - ({kink}), 0)" for rise, kink in hinges]
            text = f"({first})*z + ({constant}) + {' + '.join(terms)}"
        case "absolute values":  # max(v, 0) = (v + |v|)/2
            terms = [f"({rise / 2})*(abs(z - ({kink})) + z - ({kink}))" for rise, kink in hinges]
            text = f"({first})*z + ({constant}) + {' + '.join(terms)}"
        case _:
            constants = accumulate((-rise * kink for rise, kink in hinges), initial=constant)
            lines = (f"({slope})*z + ({c})" for slope, c in zip(slopes, constants, strict=True))
            text = f"max({', '.join(lines)})"
    return text, kinks, slopes, constant


@settings(max_examples=60, deadline=None)
@given(functions(), st.integers(0, 2**32 - 1))
def test_random_functions(drawn, seed: int) -> None:
    text, kinks, slopes, constant = drawn
    kappa = k.from_expression(text)
    assert kappa.kinks == tuple(map(float, kinks))
    assert kappa.slopes == tuple(map(float, slopes))
    a, s = np.array(kappa.kinks), np.array(kappa.slopes)
    z = np.concatenate([np.random.default_rng(seed).uniform(-7, 7, 30), a])[:, None]
    value = s[0] * z[:, 0] + float(constant) + np.sum(np.diff(s) * np.maximum(z - a, 0), axis=1)
    assert_allclose(kappa.value(z), value, atol=ROUNDING)
    low, high = s[np.searchsorted(a, z, "left")], s[np.searchsorted(a, z, "right")]
    assert_array_equal(kappa.subgradient(z), np.clip(0.0, low, high))
    for t in (0.05, 3.0):
        p = kappa.prox(z, t)
        # (z − p)/t ∈ ∂φ(p); a kink that p is on, it is on exactly.
        u, slack = (z - p) / t, ROUNDING / t
        assert (u >= s[np.searchsorted(a, p, "left")] - slack).all()
        assert (u <= s[np.searchsorted(a, p, "right")] + slack).all()
        away = np.abs(z - np.concatenate([a + t * s[:-1], a + t * s[1:]])).min(axis=1) > ROUNDING
        assert_array_equal(kappa.prox_jacobian(z[away], t)[:, 0], ~np.isin(p[away], a))
    y = np.random.default_rng(seed).uniform(s[0], s[-1], (20, 1))
    sup = np.max(y * a - kappa.value(a[:, None]), axis=1)
    assert_allclose(kappa.conjugate(y), sup, atol=ROUNDING, rtol=ROUNDING)
    best = kappa.conjugate_subgradient(y)
    assert_allclose((y * best).sum(1) - kappa.value(best), sup, atol=ROUNDING, rtol=ROUNDING)


SAME = [
    ("abs(z)", k.L1()),
    ("max(z, -z)", k.L1()),
    ("max(abs(z) - 0.3, 0)", k.SoftThreshold(0.3)),
    ("max(z - 0.3, -z - 0.3, 0)", k.SoftThreshold(0.3)),
]


ASKED = {
    "value": (), "subgradient": (), "conjugate": (), "conjugate_subgradient": (), "project": (),
    "prox": (0.7,), "prox_jacobian": (0.7,),
}  # fmt: skip


@pytest.mark.parametrize("weight", [1.0, 1.4])
@pytest.mark.parametrize(("text", "known"), SAME, ids=[text for text, _ in SAME])
def test_the_catalogue_spelled_out(text: str, known: k.Potential, weight: float) -> None:
    kappa, known = k.Scaled(k.from_expression(text), weight), k.Scaled(known, weight)
    assert kappa.kinks == known.kinks
    assert kappa.slopes == known.slopes
    z = np.concatenate([np.random.default_rng(1).normal(size=(50, 3)), [[0.0, 0.3, -0.3]]])
    for question, arguments in ASKED.items():
        # At a kink of the prox its two derivatives are equally right.
        at = z[:-1] if question == "prox_jacobian" else z
        answers = [getattr(one, question)(at, *arguments) for one in (kappa, known)]
        assert_allclose(*answers, rtol=1e-14, atol=1e-15)
    systems = [ln.LionK(QUADRATIC, one, 0.7, 1.3, 0.4, 0.9) for one in (kappa, known)]
    flows = [ln.simulate(system, [1.2, -1.4], 10.0) for system in systems]
    assert [flow.method for flow in flows] == ["event", "event"]
    assert_allclose(flows[0].x, flows[1].x, atol=ROUNDING)
    assert_allclose(flows[0].u, flows[1].u, atol=ROUNDING)
    assert ln.certify(flows[0]).holds


@pytest.mark.parametrize(("text", "known"), SAME[::3])
def test_ensembles_are_exact(text: str, known: k.Potential) -> None:
    x0s = np.random.default_rng(2).uniform(-2, 2, (6, 2))
    results = [
        ln.ensemble(ln.LionK(QUADRATIC, kappa, 0.7, 1.3, 0.4, 0.6), x0s, 8.0)
        for kappa in (k.from_expression(text), known)
    ]
    assert (results[0].method == "exact").all()
    assert_array_equal(results[0].x, results[1].x)


def test_h_of_a_potential_that_is_not_least_at_zero_has_its_limit_at_no_decay() -> None:
    """At λ = 0 the penalty of κ = Σ|z_i − ½| is γ⟨½, x⟩, without which H would seem to rise."""
    kappa, x0s = k.from_expression("abs(z - 0.5)"), [[1.0, -1.0], [0.2, 0.7]]
    for lam in (0.0, 1e-110):
        system = ln.LionK(QUADRATIC, kappa, 0.7, 1.3, 0.4, lam)
        result = ln.ensemble(system, x0s, 8.0, None, 1e-8, 1e-10, workers=1)
        assert (result.method == "exact").all()
        assert result.max_increase.max() <= 1e-8
        assert result.balance.max() <= 1e-6


def test_proved_like_the_catalogue() -> None:
    for text in ("2*abs(z) + 0.5*max(z - 1, 0)", "max(-2*z, abs(z) - min(0, 1 - z))", "abs(z - 1/1234567)"):
        proof = ln.prove(k.from_expression(text))
        assert proof.holds, [step.name for step in proof.steps if not step.holds]
        assert any("at the kink" in step.name for step in proof.steps)
    # The kinks know the double nearest to an irrational constant: a proof with it would be of another κ.
    assert "not applicable" in ln.prove(k.from_expression("abs(z)/sqrt(2)")).steps[0].name
