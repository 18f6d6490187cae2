"""Proofs in sympy: H falls along the flow, the updates and the backward Euler step.

Every term of the identities is a bilinear form ⟨a, b⟩ of the vectors that occur, so a scalar stands for
each vector and a product for each form: an identity of polynomials in them holds in every dimension.
Where convexity is used it enters as a named hypothesis; what is left is algebra, and sympy does it.
Sources: Chen, Liu, Liang & Liu (ICLR 2024), theorems 3.1 and 4.1; for backward Euler the proof is given here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy as sp

from lionode import _validate
from lionode.kappas.base import Potential
from lionode.lyapunov.proof_catalogue import kappa_steps, system_expressions
from lionode.lyapunov.proof_step import Step, step, text_latex
from lionode.system import LionK

__all__ = ["Proof", "backward_euler", "discrete_inequality", "flow_identity", "prove"]

ALPHA = sp.Symbol("alpha", positive=True)
GAMMA, EPSILON, LAM = sp.symbols("gamma epsilon lambda", nonnegative=True)
ETA, H_STEP = sp.symbols("eta h", positive=True)
BETA1, BETA2 = sp.symbols("beta1 beta2", nonnegative=True)
SMOOTHNESS = sp.Symbol("L", nonnegative=True)
X, M, G, Z, S, U = sp.symbols("x m g z s u", real=True)
F, CONJ, KAPPA = sp.symbols("f kappa_star kappa_m", real=True)
"""The values f(x), κ*(λx), κ(m)."""

FLOW_C = (1 - EPSILON * GAMMA) / (1 + EPSILON * LAM)
"""c of the flow."""

FENCHEL = "Fenchel–Young: κ*(u) = ⟨p, u⟩ − κ(p) for u ∈ ∂κ(p), and κ*(y) + κ(p) ≥ ⟨p, y⟩ for all p, y"
MONOTONE = "∂κ and ∂κ* are monotone: Δ₁ ≥ 0 and Δ₂ ≥ 0"
CHAIN = "along the solution d/dt κ(m) = ⟨s, ṁ⟩ and d/dt κ*(λx) = ⟨z, λẋ⟩ for almost every t (κ, κ* convex)"
WEIGHTS = "α > 0, γ, ε, λ ≥ 0 and εγ ≤ 1, so that c ≥ 0"
SMOOTH = "f is L-smooth: f(y) ≤ f(x) + ⟨∇f(x), y − x⟩ + (L/2)‖y − x‖²"
CONVEX_KAPPA = "κ and κ* are convex: each lies above its tangents"
CONVEX_F = "f is convex: f(x) − f(x⁺) ≥ ⟨∇f(x⁺), x − x⁺⟩"
UPDATE_WEIGHTS = "η > 0, λ ≥ 0 and 0 ≤ β₁ ≤ β₂ < 1, so that c ≥ 0"


@dataclass(frozen=True)
class Proof:
    """Named steps, each with what sympy left of it, and the facts used beyond algebra.

    Attributes
    ----------
    subject : str
        What was proved.
    steps : tuple of Step
        In order; each has a ``name``, an ``expression``, a ``residual`` and a verdict ``holds``.
    hypotheses : tuple of str
        Facts that are used and are not algebra.
    hamiltonian, rate : sympy expression or None
        For a system: H and dH/dt in ``symbols``, for λx ∈ dom κ*; ``sympy.lambdify`` takes them.
    symbols : tuple of sympy.Symbol
        x1, …, xd, m1, …, md of a system.
    """

    subject: str
    steps: tuple[Step, ...]
    hypotheses: tuple[str, ...]
    hamiltonian: sp.Expr | None = None
    rate: sp.Expr | None = None
    symbols: tuple[sp.Symbol, ...] = field(default=(), repr=False)

    @property
    def holds(self) -> bool:
        """Whether there are steps and each of them holds."""
        return bool(self.steps) and all(s.holds for s in self.steps)

    @property
    def residual(self) -> sp.Expr:
        """The first residual that is not 0; 0 if there is none."""
        return next((s.residual for s in self.steps if not s.holds), sp.Integer(0))

    def latex(self) -> str:
        """The steps, with a verdict each, and the hypotheses, as the lines of a LaTeX ``align*``.

        It needs amsmath and amssymb, and is plain ASCII.
        """
        lines = [rf"&\text{{{text_latex(s.name)}}}:\ {s.formula} && {s.mark_latex}" for s in self.steps]
        lines += [rf"&\text{{uses {text_latex(h)}}}" for h in self.hypotheses]
        return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"

    def __str__(self) -> str:
        verdict = "proved" if self.holds else "NOT proved"
        lines = [f"{self.subject}: {verdict}"]
        lines += [f"  {'✓' if s.holds else '✗'} {s.name}: {s.expression}" for s in self.steps]
        lines += [f"      residual {s.residual}" for s in self.steps if not s.holds]
        lines += [f"  uses {h}" for h in self.hypotheses]
        return "\n".join(lines)


def prove(subject: Potential | LionK | None = None) -> Proof:
    """Prove that H falls: in general, for one potential, or for one system.

    Parameters
    ----------
    subject : Potential or LionK, optional
        None: the identity of the flow, the inequality of the updates, the backward Euler theorem.
        A potential: its gradient, conjugate and inverse gradient, and the identity with its own functions,
        region by region. A system: H and dH/dt for its f, κ and numbers.

    Returns
    -------
    Proof
        ``holds`` is False if a residual is not 0, or if f or κ has no symbolic form: the step says which.

    Raises
    ------
    TypeError
        If the subject is none of these.
    """
    if subject is None:
        parts = (flow_identity(), discrete_inequality(), backward_euler())
        hypotheses = tuple(dict.fromkeys(h for part in parts for h in part.hypotheses))
        return Proof("H never rises", tuple(s for part in parts for s in part.steps), hypotheses)
    if isinstance(subject, Potential):
        return Proof(str(subject), kappa_steps(subject), (CHAIN, MONOTONE, WEIGHTS))
    if isinstance(subject, LionK):
        steps, hamiltonian, rate, symbols = system_expressions(subject)
        return Proof(str(subject), steps, (CHAIN, MONOTONE, WEIGHTS), hamiltonian, rate, symbols)
    raise TypeError(
        f"subject must be a potential, a LionK or None, got {_validate.describe(subject)}; "
        "prove() alone proves the theorems"
    )


def flow_identity(hamiltonian: sp.Expr | None = None, c: sp.Expr | None = None) -> Proof:
    """dH/dt = −(λ+γ)/(1+ελ)·Δ₁ − (c/ε)·Δ₂ along the flow, also at ε = 0 and as λ → 0.

    Parameters
    ----------
    hamiltonian : sympy expression, optional
        H in the module's symbols F, CONJ, KAPPA (the values f(x), κ*(λx), κ(m)), X and M.
    c : sympy expression, optional
        The weight of the last bracket of H, by default the right one.
    """
    c = FLOW_C if c is None else c
    gap = CONJ + KAPPA - LAM * M * X
    hamiltonian = ALPHA * F + GAMMA / LAM * CONJ + c * gap if hamiltonian is None else hamiltonian
    m_dot = -ALPHA * G - GAMMA * M
    x_dot, m_tilde = U - LAM * X, M + EPSILON * m_dot
    change = _chain_rule(hamiltonian, x_dot, m_dot)
    delta1, delta2 = (m_tilde - Z) * x_dot, (m_tilde - M) * (U - S)
    weight1 = (LAM + GAMMA) / (1 + EPSILON * LAM)
    residual = change + weight1 * delta1 + FLOW_C / EPSILON * delta2
    limit = ALPHA * F + GAMMA * Z * X + FLOW_C.subs(LAM, 0) * KAPPA
    # As λ → 0 z is the constant ∇κ*(0), so γ⟨z, x⟩ has the derivative γ⟨z, ẋ⟩.
    at_zero = _chain_rule(limit, x_dot, m_dot) + weight1 * delta1 + FLOW_C / EPSILON * delta2
    vectors = (X, M, G, Z, S, U)
    scale, p, v = sp.Symbol("t"), sp.Function("P"), sp.Symbol("v")
    scaled = residual.subs({a: scale * a for a in vectors}, simultaneous=True)
    steps = (
        step("flow: H, in which κ(m) has the weight c", hamiltonian, sp.diff(hamiltonian, KAPPA) - FLOW_C),
        step(
            "flow: every term is a bilinear form",
            sp.Eq(p(scale * v), scale**2 * p(v), evaluate=False),
            scaled - scale**2 * residual,
        ),
        step(
            "flow: dH/dt, by the chain rule, is −(λ+γ)/(1+ελ)·Δ₁ − (c/ε)·Δ₂",
            sp.Eq(change, -weight1 * delta1 - FLOW_C / EPSILON * delta2, evaluate=False),
            residual,
        ),
        step(
            "flow at ε = 0, where s = u: dH/dt = −(λ+γ)·Δ₁",
            -(LAM + GAMMA) * (M - Z) * x_dot,
            (change + (LAM + GAMMA) * (M - Z) * x_dot).subs(EPSILON, 0).subs(S, U),
        ),
        step("flow as λ → 0: the same with γ⟨∇κ*(0), x⟩ in H", limit, at_zero.subs(LAM, 0)),
    )
    return Proof("Lyapunov function of the flow", steps, (CHAIN, MONOTONE, WEIGHTS))


def _chain_rule(hamiltonian: sp.Expr, x_dot: sp.Expr, m_dot: sp.Expr) -> sp.Expr:
    return (
        sp.diff(hamiltonian, F) * G * x_dot
        + sp.diff(hamiltonian, CONJ) * LAM * Z * x_dot
        + sp.diff(hamiltonian, KAPPA) * S * m_dot
        + sp.diff(hamiltonian, X) * x_dot
        + sp.diff(hamiltonian, M) * m_dot
    )


def discrete_inequality(c: sp.Expr | None = None) -> Proof:
    """Hₖ₊₁ − Hₖ ≤ −η(1+cλ)Δ₁ − c(1−β₂)/(β₂−β₁)·Δ₂ + (L/2)η²‖V‖² for the implicit updates.

    Parameters
    ----------
    c : sympy expression, optional
        The weight of the last bracket of H, by default ηβ₁/(ηλ(1−β₁) + 1−β₂).
    """
    right = ETA * BETA1 / (ETA * LAM * (1 - BETA1) + 1 - BETA2)
    c = right if c is None else c
    x_new = sp.Symbol("x_new", real=True)
    push = U - LAM * x_new
    x_old = x_new - ETA * push
    m_new, m_tilde = BETA2 * M - (1 - BETA2) * G, BETA1 * M - (1 - BETA1) * G
    noise = SMOOTHNESS / 2 * ETA**2 * push**2
    loss = G * ETA * push + noise
    conjugate = Z * LAM * ETA * push
    potential = S * (m_new - M)
    bound = loss + conjugate / LAM + c * (conjugate + potential - LAM * (m_new * x_new - M * x_old))
    delta1, delta2 = (m_tilde - Z) * push, (m_tilde - m_new) * (U - S)
    first = -ETA * (1 + right * LAM) * delta1 + noise
    claim = first - right * (1 - BETA2) / (BETA2 - BETA1) * delta2
    # Each inequality that is summed, with its slope, so that the sum can be read off.
    steps = (
        step("updates: f(x⁺) − f(x) ≤ η⟨∇f(x), V⟩ + (L/2)η²‖V‖²", loss, loss - G * (x_new - x_old) - noise),
        step("updates: κ*(λx⁺) − κ*(λx) ≤ ⟨z, ληV⟩", conjugate, conjugate - Z * LAM * (x_new - x_old)),
        step("updates: κ(m⁺) − κ(m) ≤ ⟨s, m⁺ − m⟩", potential, potential - S * (1 - BETA2) * (-G - M)),
        step("updates: their sum is the bound", claim, bound - claim),
        step(
            "updates at β₁ = β₂, where s = u: no Δ₂ term",
            first,
            (bound - first).subs(BETA2, BETA1).subs(S, U),
        ),
    )
    return Proof("Lyapunov function of the updates", steps, (SMOOTH, CONVEX_KAPPA, MONOTONE, UPDATE_WEIGHTS))


def backward_euler(c: sp.Expr | None = None) -> Proof:
    """H(x⁺, m⁺) ≤ H(x, m) for the backward Euler step of every size h, with convex f and κ.

    Parameters
    ----------
    c : sympy expression, optional
        The weight of the last bracket of H, by default the flow's.
    """
    c = FLOW_C if c is None else c
    m_new, s_new = sp.symbols("m_new s_new", real=True)
    d_conj, d_kappa, kappa_tilde = sp.symbols("Delta_kappa_star Delta_kappa kappa_mtilde", real=True)
    theta = 1 / (1 + H_STEP * LAM)
    dx, dm = H_STEP * theta * (U - LAM * X), m_new - M
    x_new, m_tilde = X + dx, m_new + EPSILON / H_STEP * dm
    force = -dm / H_STEP - GAMMA * m_new
    change = force * dx + GAMMA / LAM * d_conj + c * (d_conj + d_kappa - LAM * (m_new * x_new - M * X))
    first = GAMMA / LAM * d_conj - GAMMA * m_tilde * dx
    braces = d_conj - LAM * m_tilde * dx + d_kappa - (LAM * X + dx / H_STEP) * dm
    above = (1 - theta) * (m_tilde * U - kappa_tilde - CONJ)

    def phi(kappa: sp.Expr, p: sp.Expr) -> sp.Expr:
        return kappa + CONJ - LAM * X * p

    new, old, tilde = phi(KAPPA + d_kappa, m_new), phi(KAPPA, M), phi(kappa_tilde, m_tilde)
    split = theta * (d_kappa - U * dm) + (1 - theta) * (new - old - tilde)
    share = H_STEP / (H_STEP + EPSILON)
    delta1, delta2 = (m_tilde - Z) * (U - LAM * x_new), (m_tilde - m_new) * (U - s_new)
    steps = (
        step(
            "Euler 1: ΔH ≤ first bracket + c{…}, as αΔf ≤ ⟨α∇f(x⁺), Δx⟩",
            first + c * braces,
            change - first - c * braces,
        ),
        step(
            "Euler 2: first bracket ≤ γ⟨z⁺ − m̃⁺, Δx⟩ = −γhΔ₁ ≤ 0",
            -GAMMA * H_STEP * delta1,
            first.subs(d_conj, LAM * Z * dx) + GAMMA * H_STEP * delta1,
        ),
        step("Euler 3: λx⁺ = (1−θ)u + θλx", LAM * x_new, LAM * x_new - (1 - theta) * U - theta * LAM * X),
        step(
            "Euler 3: {…} ≤ θ[κ(m⁺) − κ(m) − ⟨u, Δm⟩] + (1−θ)[φ(m⁺) − φ(m) − φ(m̃⁺)]",
            split,
            braces.subs(d_conj, above) - split,
        ),
        step(
            "Euler 4: the first ≤ θ⟨s⁺ − u, Δm⟩, and Δ₂ = ⟨m̃⁺ − m⁺, u − s⁺⟩ = (ε/h)⟨Δm, u − s⁺⟩ ≥ 0",
            theta * (s_new - U) * dm,
            H_STEP * delta2 + EPSILON * (s_new - U) * dm,
        ),
        step(
            "Euler 4: m⁺ = w·m̃⁺ + (1−w)·m with w = h/(h+ε)", share, m_new - share * m_tilde - (1 - share) * M
        ),
        step(
            "Euler 4: so the second ≤ −(1−w)φ(m̃⁺) − wφ(m) ≤ 0",
            -(1 - share) * tilde - share * old,
            share * tilde + (1 - share) * old - old - tilde + (1 - share) * tilde + share * old,
        ),
    )
    return Proof("Backward Euler never raises H", steps, (CONVEX_F, CONVEX_KAPPA, FENCHEL, MONOTONE, WEIGHTS))
