"""The six solvers of scipy's `solve_ivp` for a κ with a Lipschitz gradient, with the analytic Jacobian."""

from __future__ import annotations

import functools
import warnings

import numpy as np
from scipy import integrate as scipy_integrate

from lionode._validate import Array
from lionode.flow.base import Budget, BudgetReached, Options, Solution
from lionode.objectives.base import NonFiniteError
from lionode.system import LionK
from lionode.trajectory import Dense, Status

__all__ = ["SOLVERS", "integrate"]

SOLVERS: dict[str, int] = {"RK23": 4, "RK45": 5, "DOP853": 8, "Radau": 4, "BDF": 6, "LSODA": 13}
"""Each solver's name with the number of points that hold its interpolant exactly (its degree + 1)."""

IMPLICIT = frozenset({"Radau", "BDF", "LSODA"})

DIVERGED = 1e100
"""A state beyond this is on its way to overflow: its squares would be."""


class _RightHandSide:
    """The velocity of y = (x, m) as the solvers call it.

    A trial stage may leave the region where f is finite: it then answers NaN, which makes the solver reject
    the step and try a shorter one, and remembers the place, in case no shorter step helps.
    """

    def __init__(self, system: LionK) -> None:
        self.system = system
        self.nfev = self.njev = 0
        self.trouble = ""

    def __call__(self, t: float, y: Array) -> Array:
        system, d = self.system, self.system.dim
        x, m = y[:d], y[d:]
        self.nfev += 1
        g = system.objective.gradient(x)
        if not np.isfinite(g).all():
            self.trouble = f"∇f is not finite near t = {t:g}, x = {np.array2string(x, threshold=6)}"
            return np.full_like(y, np.nan)
        u = system.kappa._subgradient(system.look_ahead(x, m, g))
        return np.concatenate([u - system.lam * x, -system.alpha * g - system.gamma * m])

    def jacobian(self, t: float, y: Array) -> Array:
        self.njev += 1
        d = self.system.dim
        result = self.system.jacobian(y[:d], y[d:])
        if not np.isfinite(result).all():
            raise NonFiniteError(f"∇²f is not finite near t = {t:g}")
        return result


def integrate(
    name: str, system: LionK, x0: Array, m0: Array, t_end: float, options: Options, budget: Budget
) -> Solution:
    """Integrate a smooth κ with the scipy solver `name`; an `Integrator` once the name is given."""
    rhs = _RightHandSide(system)
    breaks, nodes = [0.0], []
    theta = Dense.points(SOLVERS[name])
    exact_jacobian = name in IMPLICIT and system.objective.has_hessian
    settings = {"jac": rhs.jacobian} if exact_jacobian else {}
    # x lives in a set of size 1/λ: what has to be right to atol is λx as well as x.
    atol = np.repeat([options.atol / max(1.0, system.lam), options.atol], system.dim)
    status, message = Status.FINISHED, f"{name} reached t = {t_end:g}"
    if name in IMPLICIT and not exact_jacobian:
        message += "; f has no Hessian, so the solver's own differences served as Jacobian"
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")  # LSODA warns where it fails; its status is read instead
        try:
            start = rhs(0.0, y0 := np.concatenate([x0, m0]))
            if not np.isfinite(start).all():
                raise NonFiniteError(rhs.trouble)
            last = y0
            solver = getattr(scipy_integrate, name)(
                rhs, 0.0, y0, t_end, rtol=options.rtol, atol=atol, **settings
            )
            while solver.status == "running":
                trouble = solver.step()
                if solver.status == "failed":
                    status, message = _failure(rhs, breaks[-1], f"{name}: {trouble}")
                    break
                if not np.isfinite(solver.y).all() or np.abs(solver.y).max() > DIVERGED:
                    status, message = _failure(rhs, breaks[-1], "")
                    if not rhs.trouble:
                        status, message = (
                            Status.DIVERGED,
                            f"the state passed {DIVERGED:g} at t = {solver.t:g}",
                        )
                    break
                if solver.t <= breaks[-1]:
                    status, message = _failure(rhs, breaks[-1], f"{name}: the step shrank to nothing")
                    break
                interpolant = solver.dense_output()
                nodes.append(interpolant(solver.t_old + theta * (solver.t - solver.t_old)).T)
                # The ends of a step are the solver's own states, not its interpolant's rounding of them.
                nodes[-1][0], nodes[-1][-1] = last, solver.y
                last = solver.y
                breaks.append(float(solver.t))
                budget.tick(solver.t)
        except BudgetReached as reached:
            status, message = Status.BUDGET, str(reached)
        except KeyboardInterrupt:
            status, message = Status.INTERRUPTED, f"interrupted at t = {breaks[-1]:g}"
        except (ArithmeticError, np.linalg.LinAlgError, ValueError) as error:
            rhs.trouble = rhs.trouble or str(error)
            status, message = _failure(rhs, breaks[-1], str(error))
    dense = Dense(np.array(breaks), np.array(nodes)) if nodes else None
    return Solution(dense, status, message, name, nfev=rhs.nfev, njev=rhs.njev)


def named(name: str) -> functools.partial[Solution]:
    """The `Integrator` of one scipy solver."""
    return functools.partial(integrate, name)


def _failure(rhs: _RightHandSide, t: float, text: str) -> tuple[Status, str]:
    if rhs.trouble:
        return Status.NON_FINITE, f"stopped at t = {t:g}: {rhs.trouble}"
    return Status.FAILED, f"stopped at t = {t:g}: {text}"
