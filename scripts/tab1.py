"""Table 1: the special cases, each preset beside the textbook's recurrence."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import lionode as ln
from lionode import presets
from lionode.reproduce import Row, alone

A = np.array([[3.0, 0.8, 0.1], [0.8, 1.2, -0.3], [0.1, -0.3, 2.1]])
B = np.array([2.5, -1.7, 0.6])
X0 = np.array([1.9, -1.4, 0.8])
STEPS, LR, BETA, DECAY = 200, 0.004, 0.85, 0.7
GAMMA, E = 0.9, 0.6
ROUNDING = 1e-12
"""Some roundings in each of the updates, of numbers of order 1."""

States = Iterator[np.ndarray]


def grad(x: np.ndarray) -> np.ndarray:
    return A @ x - B


def heavy_ball(decay: float = 0.0) -> States:
    """Polyak (1964): v ← βv − η∇f(x), x ← x + v; with decay Loshchilov & Hutter (2019)."""
    x, v = X0, np.zeros(3)
    while True:
        yield x
        v = BETA * v - LR * grad(x)
        x = x + v - LR * decay * x


def nesterov() -> States:
    """Nesterov (1983): a gradient step from y, then extrapolation."""
    y, w = X0, X0
    while True:
        yield y
        after = y - LR * grad(y)
        y, w = after + BETA * (after - w), after


def averaged(direction: Callable[[np.ndarray], np.ndarray], beta: float = BETA) -> States:
    """A step along a function of the averaged gradient: Bernstein et al. (2018), Cutkosky & Mehta (2020)."""
    x, mu = X0, np.zeros(3)
    while True:
        yield x
        mu = beta * mu + (1 - beta) * grad(x)
        x = x - LR * direction(mu)


def lion() -> States:
    """Chen et al. (2023), algorithm 2."""
    x, mu = X0, np.zeros(3)
    while True:
        yield x
        g = grad(x)
        x, mu = x - LR * (np.sign(0.9 * mu + 0.1 * g) + DECAY * x), 0.99 * mu + 0.01 * g


def frank_wolfe() -> States:
    """Frank & Wolfe (1956) over the box: a step to the best of its corners."""
    x = X0
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    while True:
        yield x
        x = x + LR * (corners[np.argmin(corners @ grad(x))] - x)


def hamiltonian(gamma: float, e: float) -> States:
    """Maddison et al. (2018), the first explicit method, with kinetic energy Σ√(p² + e²)."""
    x, p = X0, np.zeros(3)
    delta = 1 / (1 + gamma * LR)
    while True:
        yield x
        p = delta * p - LR * delta * grad(x)
        x = x + LR * p / np.sqrt(p**2 + e**2)


def mirror_descent(e: float) -> States:
    """Nemirovski & Yudin (1983), in the dual variable y = ∇f(x): on Σ√(y² + e²), with mirror map ∇f*."""
    y = grad(X0)
    while True:
        x = np.linalg.solve(A, y + B)
        yield x
        y = grad(x - LR * y / np.sqrt(y**2 + e**2))


def accelerated_mirror_descent(decay: float) -> States:
    """Krichene et al. (2015): multiplicative weights on the simplex, averaged."""
    x, weights = X0, np.ones(3)
    while True:
        yield x
        weights = weights * np.exp(-LR * grad(x))
        x = (1 - LR * decay) * x + LR * weights / weights.sum()


def muon(shape: tuple[int, int]) -> States:
    """Jordan et al. (2024), with the polar factor from the eigenvectors of the Gram matrix."""
    x, buffer = X0, np.zeros(3)
    while True:
        yield x
        buffer = BETA * buffer + grad(x)
        g = (grad(x) + BETA * buffer).reshape(shape)
        values, vectors = np.linalg.eigh(g @ g.T)
        x = x - LR * ((vectors / np.sqrt(values)) @ vectors.T @ g).ravel()


def run(out: Path, full: bool = False) -> list[Row]:
    f = ln.objectives.quadratic(A, B)
    smooth = ln.kappas.PseudoHuber(E)
    cases = {
        "Polyak momentum": (presets.polyak(f, LR, BETA), heavy_ball()),
        "Nesterov momentum": (presets.nesterov(f, LR, BETA), nesterov()),
        "decoupled weight decay": (presets.decoupled_weight_decay(f, LR, BETA, DECAY), heavy_ball(DECAY)),
        "signed momentum": (presets.signum(f, LR, BETA), averaged(np.sign)),
        "sign SGD": (presets.sign_sgd(f, LR), averaged(np.sign, 0.0)),
        "normalised momentum": (
            presets.normalized_momentum(f, LR, BETA),
            averaged(lambda mu: mu / np.linalg.norm(mu)),
        ),
        "Lion": (presets.lion(f, LR, 0.9, 0.99, DECAY), lion()),
        "Frank–Wolfe on the box": (presets.frank_wolfe(f, ln.kappas.L1(), LR), frank_wolfe()),
        "Hamiltonian descent": (presets.hamiltonian(f, smooth, GAMMA, LR), hamiltonian(GAMMA, E)),
        "dual space preconditioning, mirror descent": (
            presets.dual_preconditioning(f, smooth, LR),
            mirror_descent(E),
        ),
        "accelerated mirror descent": (
            presets.accelerated_mirror_descent(f, ln.kappas.LogSumExp(), DECAY, LR),
            accelerated_mirror_descent(DECAY),
        ),
        "Muon": (presets.muon(f, (1, 3), LR, BETA), muon((1, 3))),
    }
    rows = []
    for name, (system, textbook) in cases.items():
        x = ln.iterate(system, X0, STEPS).x
        wanted = np.array([next(textbook) for _ in range(STEPS + 1)])
        gap = float(np.abs(x - wanted).max())
        rows.append(
            Row(
                "tab1",
                f"{name} is a special case",
                f"largest difference in {STEPS} updates",
                gap,
                high=ROUNDING,
            )
        )
    return rows


if __name__ == "__main__":
    alone(run)
