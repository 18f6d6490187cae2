"""Each preset against the textbook recurrence, written here as its source writes it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import lionode as ln
from lionode import presets

A = np.array([[3.0, 0.8, 0.1], [0.8, 1.2, -0.3], [0.1, -0.3, 2.1]])
B = np.array([2.5, -1.7, 0.6])
X0 = np.array([1.9, -1.4, 0.8])
STEPS = 250

ROUNDING = 1e-12
"""Relative to the largest state; the signs themselves agree, or x would differ by 2η."""

SMALL = 0.004
"""A step that stops short of the minimum: there a normalised direction amplifies rounding by 1/‖m‖."""


def f() -> ln.Objective:
    return ln.objectives.quadratic(A, B)


def grad(x):
    return A @ x - B


def heavy_ball(lr, beta, decay=0.0) -> Iterator[np.ndarray]:
    x, v = X0, np.zeros(3)
    while True:
        yield x
        v = beta * v - lr * grad(x)
        x = x + v - lr * decay * x


def nesterov(lr, beta):
    y, w = X0, X0
    while True:
        yield y
        w_next = y - lr * grad(y)
        y, w = w_next + beta * (w_next - w), w_next


def nesterov_velocity(lr, beta):
    x, v = X0, np.zeros(3)
    while True:
        yield x
        v = beta * v - lr * grad(x)
        x = x + beta * v - lr * grad(x)


def averaged(lr, beta, direction, decay=0.0):
    x, mu = X0, np.zeros(3)
    while True:
        yield x
        mu = beta * mu + (1 - beta) * grad(x)
        x = x - lr * (direction(mu) + decay * x)


def unit(v):
    return v / np.sqrt(v @ v)


def lion(lr, b1, b2, wd):
    x, mu = X0, np.zeros(3)
    while True:
        yield x
        g = grad(x)
        x, mu = x - lr * (np.sign(b1 * mu + (1 - b1) * g) + wd * x), b2 * mu + (1 - b2) * g


def hamiltonian(lr, gamma, e):
    x, p = X0, np.zeros(3)
    delta = 1 / (1 + gamma * lr)
    while True:
        yield x
        p = delta * p - lr * delta * grad(x)
        x = x + lr * p / np.sqrt(p**2 + e**2)


def mirror(lr, e):
    """Mirror descent in y = ∇f(x) on k(y) = Σ√(y² + e²), whose mirror map ∇f*(y) is A⁻¹(y + b)."""
    y = grad(X0)
    while True:
        dual = np.linalg.solve(A, y + B)
        yield dual
        y = grad(dual - lr * y / np.sqrt(y**2 + e**2))


def frank_wolfe_box(lr):
    x = X0
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    while True:
        yield x
        x = x + lr * (corners[np.argmin(corners @ grad(x))] - x)


def frank_wolfe_diamond(lr):
    x = X0
    corners = np.vstack([np.eye(3), -np.eye(3)])
    while True:
        yield x
        x = x + lr * (corners[np.argmin(corners @ grad(x))] - x)


def entropic_averaging(lr, lam):
    """Mirror points on the simplex by multiplicative weights, averaged with weight lr·lam."""
    x, weights = X0, np.ones(3)
    while True:
        yield x
        weights = weights * np.exp(-lr * grad(x))
        x = (1 - lr * lam) * x + lr * weights / weights.sum()


CASES = {
    "polyak": (lambda: presets.polyak(f(), 0.05, 0.8), lambda: heavy_ball(0.05, 0.8)),
    "gradient descent": (lambda: presets.polyak(f(), 0.05, 0.0), lambda: heavy_ball(0.05, 0.0)),
    "nesterov": (lambda: presets.nesterov(f(), 0.05, 0.8), lambda: nesterov(0.05, 0.8)),
    "nesterov, velocities": (lambda: presets.nesterov(f(), 0.05, 0.8), lambda: nesterov_velocity(0.05, 0.8)),
    "decoupled weight decay": (
        lambda: presets.decoupled_weight_decay(f(), 0.05, 0.8, 0.3),
        lambda: heavy_ball(0.05, 0.8, 0.3),
    ),
    "signum": (lambda: presets.signum(f(), 0.03, 0.8), lambda: averaged(0.03, 0.8, np.sign)),
    "signum with decay": (
        lambda: presets.signum(f(), 0.03, 0.8, 0.7),
        lambda: averaged(0.03, 0.8, np.sign, 0.7),
    ),
    "sign descent": (lambda: presets.sign_sgd(f(), 0.03), lambda: averaged(0.03, 0.0, np.sign)),
    "normalised momentum": (
        lambda: presets.normalized_momentum(f(), SMALL, 0.8),
        lambda: averaged(SMALL, 0.8, unit),
    ),
    "lion": (lambda: presets.lion(f(), 0.03, 0.85, 0.97, 0.7), lambda: lion(0.03, 0.85, 0.97, 0.7)),
    "hamiltonian": (
        lambda: presets.hamiltonian(f(), ln.kappas.PseudoHuber(0.6), 0.9, lr=0.05),
        lambda: hamiltonian(0.05, 0.9, 0.6),
    ),
    "mirror descent": (
        lambda: presets.mirror_descent(f(), ln.kappas.PseudoHuber(0.6), 0.05),
        lambda: mirror(0.05, 0.6),
    ),
    "frank-wolfe, box": (
        lambda: presets.frank_wolfe(f(), ln.kappas.L1(), 0.03),
        lambda: frank_wolfe_box(0.03),
    ),
    "frank-wolfe, diamond": (
        lambda: presets.frank_wolfe(f(), ln.kappas.LInf(), 0.03),
        lambda: frank_wolfe_diamond(0.03),
    ),
    "accelerated mirror descent": (
        lambda: presets.accelerated_mirror_descent(f(), ln.kappas.LogSumExp(), 1.4, lr=0.05),
        lambda: entropic_averaging(0.05, 1.4),
    ),
}


@pytest.mark.parametrize(("preset", "textbook"), CASES.values(), ids=CASES)
def test_updates_equal_the_textbook(preset, textbook):
    run = ln.iterate(preset(), X0, STEPS)
    assert run.success
    want = np.array([x for x, _ in zip(textbook(), range(STEPS + 1), strict=False)])
    assert np.abs(np.diff(want, axis=0)).max() > SMALL / 2
    np.testing.assert_allclose(run.x, want, rtol=0, atol=ROUNDING * np.abs(want).max())


@pytest.mark.parametrize("fast", [True, False])
def test_muon_orthogonalises_the_momentum(fast):
    """The polar factor is taken by Newton's iteration R ← (R + R⁻ᵀ)/2 on the triangle of QR."""
    rng = np.random.default_rng(2)
    shape, lr, beta, decay = (3, 2), SMALL, 0.9, 0.3
    target = rng.normal(size=shape)
    weight = np.diag([1.0, 2.0, 0.5])

    def gradient(w):
        return weight @ (w - target)

    def polar(g):
        q, r = np.linalg.qr(g)
        for _ in range(40):
            r = (r + np.linalg.inv(r).T) / 2
        return q @ r

    objective = ln.Objective(
        value=lambda x: 0.5 * np.sum((x.reshape(shape) - target) * gradient(x.reshape(shape))),
        gradient=lambda x: gradient(x.reshape(shape)).ravel(),
        dim=6,
    )
    w = rng.normal(size=shape)
    run = ln.iterate(presets.muon(objective, shape, lr, beta, decay, nesterov=fast), w.ravel(), 200)
    buffer = np.zeros(shape)
    for k in range(201):
        np.testing.assert_allclose(run.x[k].reshape(shape), w, rtol=0, atol=ROUNDING)
        g = gradient(w)
        buffer = beta * buffer + g
        w = w - lr * (polar(g + beta * buffer if fast else buffer) + decay * w)


def test_flows_of_the_presets_without_a_step():
    m = np.array([0.4, -0.9, 0.2])
    kappa = ln.kappas.PseudoHuber(0.6)
    u = m / np.sqrt(m**2 + 0.36)
    x_dot, m_dot = presets.hamiltonian(f(), kappa, 0.9).velocity(X0, m)
    np.testing.assert_allclose(x_dot, u, rtol=1e-14)
    np.testing.assert_allclose(m_dot, -grad(X0) - 0.9 * m, rtol=1e-14)
    x_dot, m_dot = presets.accelerated_mirror_descent(f(), kappa, 1.4).velocity(X0, m)
    np.testing.assert_allclose(x_dot, u - 1.4 * X0, rtol=1e-14)
    np.testing.assert_allclose(m_dot, -grad(X0), rtol=1e-14)


BAD = {
    "beta 1": (lambda: presets.polyak(f(), 0.1, 1.0), "beta"),
    "beta negative": (lambda: presets.nesterov(f(), 0.1, -0.1), "beta"),
    "lr 0": (lambda: presets.polyak(f(), 0.0), "lr"),
    "lam negative": (lambda: presets.lion(f(), lam=-1.0), "lam"),
    "no decay": (lambda: presets.decoupled_weight_decay(f(), lam=0.0), "lam"),
    "betas swapped": (lambda: presets.lion(f(), beta1=0.99, beta2=0.9), "beta1"),
    "no friction": (lambda: presets.hamiltonian(f(), ln.kappas.Quadratic(), 0.0), "gamma"),
    "no averaging": (lambda: presets.accelerated_mirror_descent(f(), ln.kappas.Quadratic(), 0.0), "lam"),
    "no objective": (lambda: presets.lion("f"), "objective"),
    "shape unlike f": (lambda: presets.muon(f(), (2, 2)), "4"),
}


@pytest.mark.parametrize(("call", "names"), BAD.values(), ids=BAD)
def test_bad_input_is_refused(call, names):
    with pytest.raises((TypeError, ValueError), match=names):
        call()
