"""The whole book of claims, proved and measured: every identity, every κ, a grid of systems."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from lionode import kappas, objectives, worst_case
from lionode._processes import as_they_finish
from lionode.flow import simulate
from lionode.kappas import Potential
from lionode.lyapunov import Certificate, certify, monotone_lr, prove
from lionode.lyapunov.certificate import Verdict
from lionode.system import LionK
from lionode.trajectory import Trajectory
from lionode.updates import iterate

__all__ = ["Claim", "Own", "book", "claims_of", "to_json", "verify", "verify_system", "worst_cases"]

EPSILON_LAM = ((0.0, 0.8), (0.35, 0.8), (0.35, 1.7))
"""The grid of systems: the optimum inside and outside, with and without look-ahead."""

GAMMA, ALPHA = 1.3, 0.7
END, STEP, RATE, UPDATES = 6.0, 0.7, 0.02, 300

SMOOTHED = 1e-4
"""The tolerance where κ is smoothed: its τ is √rtol, and the cost of the run goes like 1/τ at ε = 0."""

Task = tuple[str, Potential | None, tuple[float, float] | None]


@dataclass(frozen=True)
class Claim:
    """One claim, the verdict on it, and in a few words what it rests on."""

    subject: str
    claim: str
    verdict: Verdict
    detail: str


def book() -> list[Task]:
    """What there is to verify: each entry becomes one `Claim` through `claims_of`."""
    catalogue = [cls(**arguments) for cls in kappas.REGISTRY.values() for arguments in cls.examples]
    return [
        ("identities", None, None),
        *(("potential", kappa, None) for kappa in catalogue),
        *(
            (what, kappa, numbers)
            for what, kappa, numbers in itertools.product(("flow", "updates", "step"), catalogue, EPSILON_LAM)
        ),
    ]


def claims_of(task: Task) -> Claim:
    """Prove, or run and certify, one entry of the `book`."""
    what, kappa, numbers = task
    if kappa is None:
        return _proved("every f and κ", "the flow, the updates and backward Euler lower H", None)
    if numbers is None:
        return _proved(repr(kappa), "Fenchel identity, κ*, and dH/dt with its own formulas", kappa)
    epsilon, lam = numbers
    # β₁ ≤ β₂ asks for ε ≥ η.
    system = _system(kappa, max(epsilon, RATE) if what == "updates" else epsilon, lam)
    start = np.linspace(1.4, -1.1, system.dim)
    subject = f"{kappa!r}, ε = {system.epsilon:g}, λ = {lam:g}"
    if what == "flow":
        exact = kappa.smooth or kappa.kinks is not None
        rtol = 1e-7 if exact else SMOOTHED
        run = simulate(system, start, END, rtol=rtol, atol=rtol / 100)
    elif what == "updates":
        run = iterate(system, start, UPDATES, lr=RATE, decay="implicit")
    else:
        run = simulate(system, start, 20 * STEP, method="backward-euler", step=STEP)
    name = {"flow": "flow", "updates": "updates, implicit decay", "step": "backward Euler, h = 0.7"}[what]
    cert = certify(run)
    if not run.success:
        return Claim(subject, name, Verdict.VIOLATED, run.message)
    return Claim(subject, name, Verdict.HELD if cert.holds else Verdict.VIOLATED, _summary(cert))


def verify(
    tasks: list[Task] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Claim]:
    """Verify the `book`, on all processors; claims come as they are settled.

    Parameters
    ----------
    tasks : list, optional
        Entries of the `book`; all of them by default.
    workers : int, optional
        Processes; 1 stays in this one.
    progress : callable, optional
        Called with the entries done and the entries in all.
    """
    entries = book() if tasks is None else tasks
    for done, claim in enumerate(as_they_finish(claims_of, entries, workers), start=1):
        yield claim
        if progress is not None:
            progress(done, len(entries))


def worst_cases(progress: Callable[[int, int], None] | None = None) -> Iterator[Claim]:
    """Settle by semidefinite programmes what holds for whole classes of f and κ, and refuse what does not.

    Parameters
    ----------
    progress : callable, optional
        Called with the claims done and the claims in all.

    Raises
    ------
    ImportError
        If PEPit or Clarabel is missing.
    """
    settled = (
        _steps_in_the_worst_case,
        _wrong_c_refused,
        _updates_in_the_worst_case,
        _bound_attained,
        _frontier,
    )
    for done, settle in enumerate(settled, start=1):
        yield settle()
        if progress is not None:
            progress(done, len(settled))


STEPS = (0.1, 1.0, 3.0)
BETAS_LAM = ((0.1, 0.9, 0.99, 0.5), (1.0, 0.5, 0.9, 1.5), (3.0, 0.0, 0.5, 0.5), (0.5, 0.8, 0.8, 0.5))
"""η, β₁, β₂, λ."""
FRONTIER = ((0.0, 0.5, 0.5), (0.2, 0.5, 0.5), (0.5, 0.9, 0.1), (0.9, 0.99, 0.0), (0.9, 0.99, 0.05))
"""β₁, β₂, λ."""


def _steps_in_the_worst_case() -> Claim:
    grid = itertools.product(STEPS, (0.0, 0.5), (0.3, 1.5))
    rises = [worst_case.step_rise(h, epsilon=epsilon, lam=lam) for h, epsilon, lam in grid]
    return _never("every convex f and κ", "no step of backward Euler raises H", rises)


def _wrong_c_refused() -> Claim:
    rise = worst_case.step_rise(0.1, lam=0.7, c_factor=1.2)
    verdict = Verdict.HELD if rise.can else Verdict.VIOLATED
    detail = f"it rises by {rise.attained:.3f}, gap {rise.gap:.0e}"
    return Claim("backward Euler, ε = 0", "H with 1.2·c in place of c is refused", verdict, detail)


def _updates_in_the_worst_case() -> Claim:
    rises = [
        worst_case.update_rise(*numbers, loss=loss, against="bound")
        for numbers in BETAS_LAM for loss in worst_case.LOSSES
    ]  # fmt: skip
    return _never(
        "every L-smooth f and convex κ", "H of an implicit update stays below the theorem's bound", rises
    )


def _bound_attained() -> Claim:
    shares = [worst_case.tightness(*numbers) for numbers in BETAS_LAM]
    # A share is found from below to the accuracy of its bisection.
    verdict = Verdict.HELD if min(shares) >= 1 - 2 * worst_case.LR_TOL else Verdict.VIOLATED
    return Claim(
        "every convex L-smooth f and convex κ", "the (L/2)η²‖V‖² of that bound is attained", verdict,
        f"{100 * min(shares):.1f} % of it at least",
    )  # fmt: skip


def _frontier() -> Claim:
    found = []
    for beta1, beta2, lam in FRONTIER:
        lr = monotone_lr(beta1, beta2, lam)
        below, above = (
            worst_case.update_rise(share * lr, beta1, beta2, lam, decay="explicit", kappa_smoothness=1.0)
            for share in (0.99, 1.01)
        )
        found.append((below, above))
    holds = all(below.never and above.can for below, above in found)
    rise = min(above.attained for _, above in found)
    return Claim(
        "every convex 1-smooth f and κ", "explicit updates never raise H just if η ≤ monotone_lr",
        Verdict.HELD if holds else Verdict.VIOLATED,
        f"{len(found)} points: none at 0.99 of it, at 1.01 a rise of {rise:.0e} or more",
    )  # fmt: skip


def _never(subject: str, claim: str, rises: list[worst_case.Rise]) -> Claim:
    verdict = Verdict.HELD if all(rise.never for rise in rises) else Verdict.VIOLATED
    gap, violation = max(rise.gap for rise in rises), max(rise.violation for rise in rises)
    largest = max(rise.bound for rise in rises)
    detail = f"{len(rises)} programmes: ≤ {largest:.0e}, gap {gap:.0e}, violation {violation:.0e}"
    return Claim(subject, claim, verdict, detail)


@dataclass(frozen=True)
class Own:
    """What was found of one's own system: its proofs, its run and the certificate of that."""

    proofs: tuple[Claim, ...]
    run: Trajectory
    certificate: Certificate

    @property
    def holds(self) -> bool:
        """Whether nothing was violated and the run reached its end."""
        proved = all(claim.verdict is not Verdict.VIOLATED for claim in self.proofs)
        return proved and self.run.success and self.certificate.holds


def verify_system(
    system: LionK, x0: ArrayLike, t_end: float, m0: ArrayLike | None = None, method: str = "auto"
) -> Own:
    """Prove what can be proved of a system, simulate it from (x0, m0), and certify the run.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what `simulate` takes.
    """
    run = simulate(system, x0, t_end, m0, method)
    proofs = [
        _proved("every f and κ", "the flow, the updates and backward Euler lower H", None),
        _proved(repr(system.kappa), "Fenchel identity, κ*, and dH/dt with its own formulas", system.kappa),
    ]
    proof = prove(system)
    if proof.hamiltonian is None:
        verdict, detail = Verdict.NOT_APPLICABLE, proof.steps[0].name.removeprefix("not applicable: ")
    elif proof.holds:
        verdict, detail = Verdict.HELD, "reduces to 0"
    else:
        verdict, detail = Verdict.VIOLATED, "is not 0"
    claim = "dH/dt = −(λ+γ)/(1+ελ)·Δ₁ − (c/ε)·Δ₂ with these numbers"
    proofs.append(Claim(system.objective.name, claim, verdict, detail))
    return Own(tuple(proofs), run, certify(run))


def to_json(claims: list[Claim]) -> str:
    """The claims as JSON, with the verdict on all of them."""
    holds = all(claim.verdict is not Verdict.VIOLATED for claim in claims)
    return json.dumps(
        {"holds": holds, "claims": [asdict(claim) for claim in claims]}, indent=2, ensure_ascii=False
    )


def _proved(subject: str, claim: str, kappa: Potential | None) -> Claim:
    if kappa is not None and not _has_forms(kappa):
        why = "κ has no formula for sympy; its numeric conjugate is certified with the runs"
        return Claim(subject, claim, Verdict.NOT_APPLICABLE, why)
    proof = prove(kappa)
    failed = [step.name for step in proof.steps if not step.holds]
    detail = f"{len(proof.steps)} steps reduce to 0" if proof.holds else f"fails: {'; '.join(failed)}"
    return Claim(subject, claim, Verdict.HELD if proof.holds else Verdict.VIOLATED, detail)


def _has_forms(kappa: Potential) -> bool:
    import sympy as sp

    symbols = sp.symbols(f"z1:{(kappa.dim or 2) + 1}", real=True)
    return kappa.symbolic(symbols) is not None and kappa.symbolic_conjugate(symbols) is not None


def _system(kappa: Potential, epsilon: float, lam: float) -> LionK:
    d = kappa.dim or 3
    spread = np.linspace(0.8, 2.5, d)
    matrix = np.diag(spread) + 0.3 * np.ones((d, d))
    f = objectives.quadratic(matrix, matrix @ np.linspace(0.9, -0.4, d))
    return LionK(f, kappa, alpha=ALPHA, gamma=GAMMA, epsilon=epsilon, lam=lam)


def _summary(cert: Certificate) -> str:
    failed = [check.claim for check in cert.checks if check.verdict is Verdict.VIOLATED]
    if failed:
        return f"violated: {'; '.join(failed)}"
    rise = (
        f"H rises by {cert.max_increase:.0e} at most" if math.isfinite(cert.max_increase) else "not in dom κ*"
    )
    balance = "" if math.isnan(cert.balance_residual) else f", balance {cert.balance_residual:.0e}"
    return rise + balance
