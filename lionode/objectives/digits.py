"""Softmax classifiers of scikit-learn's bundled handwritten digits: small networks on real data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from lionode import _validate
from lionode._validate import Array
from lionode.objectives.base import Objective, factory

__all__ = ["Classifier", "digits_linear", "digits_network"]

CLASSES = 10
TEST_SHARE = 0.2
"""The part of the data that is held out for `Classifier.accuracy`."""


@factory
def digits_network(hidden: int = 32, *, l2: float = 0.0, batch_size: int = 64, seed: int = 0) -> Objective:
    """Mean cross-entropy of softmax(W₂ᵀ tanh(W₁ᵀz + b₁) + b₂) over the digits, + (l2/2)‖x‖².

    Parameters
    ----------
    hidden : int
        Units in the hidden layer; d = 64·hidden + hidden + 10·hidden + 10.
    l2 : float
        ≥ 0.
    batch_size : int
        Images in the minibatch of ``stochastic(x, rng)``.
    seed : int
        Chooses which fifth of the images is held out.

    Returns
    -------
    Classifier

    Raises
    ------
    ImportError
        Without scikit-learn.
    TypeError, ValueError
        If an argument is out of range.
    """
    return Classifier((_validate.count("hidden", hidden),), l2, batch_size, seed, "digits_network")


@factory
def digits_linear(*, l2: float = 0.0, batch_size: int = 64, seed: int = 0) -> Objective:
    """Mean cross-entropy of softmax(Wᵀz + b) over the digits, + (l2/2)‖x‖²: convex, with known L.

    The Hessian of the cross-entropy in the logits is diag(p) − ppᵀ ⪯ ½I (Böhning 1992), so that
    L = σ²/(2n) + l2 with σ the largest singular value of the data with a column of ones.

    Parameters
    ----------
    l2, batch_size, seed
        As for `digits_network`.

    Returns
    -------
    Classifier

    Raises
    ------
    ImportError
        Without scikit-learn.
    TypeError, ValueError
        If an argument is out of range.
    """
    return Classifier((), l2, batch_size, seed, "digits_linear")


class Classifier(Objective):
    """A softmax network with tanh layers on the digits; every method broadcasts over leading axes of x.

    Attributes
    ----------
    layout : dict of str to slice
        Where each weight matrix ("W1", …, row by row) and bias ("b1", …) lies in x.
    batch_size : int
        Images in the minibatch of ``stochastic(x, rng)``.
    """

    def __init__(self, hidden: Sequence[int], l2: float, batch_size: int, seed: int, name: str) -> None:
        train, test = _digits(_validate.count("seed", seed, minimum=0))
        self._images, self._targets = train
        self._test_images, self._test_targets = test
        n = len(self._images)
        self._l2 = _validate.nonnegative("l2", l2)
        self.batch_size = _validate.count("batch_size", batch_size)
        if self.batch_size > n:
            raise ValueError(f"batch_size must be ≤ {n}, the number of images, got {batch_size}")
        sizes = (self._images.shape[1], *hidden, CLASSES)
        self._shapes = list(itertools.pairwise(sizes))
        self.layout = _layout(self._shapes)
        known: dict[str, Any] = {"minimum": 0.0}
        if not hidden:
            data = np.column_stack([self._images, np.ones(n)])
            known |= {
                "smoothness": float(np.linalg.norm(data, 2) ** 2 / (2 * n) + self._l2),
                "strong_convexity": self._l2,
            }
        super().__init__(
            self._loss,
            lambda x: self._backward(x, self._images, self._targets),
            dim=sum((rows + 1) * columns for rows, columns in self._shapes),
            vectorized=True,
            stochastic=lambda x, rng: self.sample_gradient(x, rng, self.batch_size),
            name=name,
            **known,
        )

    def sample_gradient(self, x: ArrayLike, rng: np.random.Generator, batch_size: int) -> Array:
        """∇f over `batch_size` images drawn without replacement: unbiased. Shape ``(..., d)`` to the same."""
        point = _validate.array("x", x, last=self.dim, finite=False)
        chosen = rng.choice(len(self._images), batch_size, replace=False)
        return self._backward(point, self._images[chosen], self._targets[chosen])

    def accuracy(self, x: ArrayLike) -> Array:
        """The share of the held-out images that x classifies right. Shape ``(..., d)`` to ``(...)``."""
        point = _validate.array("x", x, last=self.dim, finite=False)
        logits = self._forward(point, self._test_images)[-1]
        return np.asarray((logits.argmax(axis=-1) == self._test_targets).mean(axis=-1))

    def start(self, rng: np.random.Generator, scale: float = 1.0) -> Array:
        """Weights N(0, scale²/fan-in) and biases 0. Shape ``(d,)``."""
        x = np.zeros(self.dim)
        for i, (rows, columns) in enumerate(self._shapes, 1):
            x[self.layout[f"W{i}"]] = rng.normal(size=rows * columns) * scale / np.sqrt(rows)
        return x

    def _layers(self, x: Array) -> list[tuple[Array, Array]]:
        return [
            (
                x[..., self.layout[f"W{i}"]].reshape(*x.shape[:-1], *shape),
                x[..., None, self.layout[f"b{i}"]],
            )
            for i, shape in enumerate(self._shapes, 1)
        ]

    def _forward(self, x: Array, images: Array) -> list[Array]:
        """The input of each layer, and last the logits. Each of shape ``(..., n, units)``."""
        signals = [images]
        for i, (weights, bias) in enumerate(self._layers(x), 1):
            signal = signals[-1] @ weights + bias
            signals.append(signal if i == len(self._shapes) else np.tanh(signal))
        return signals

    def _loss(self, x: Array) -> Array:
        logits = self._forward(x, self._images)[-1]
        chosen = logits[..., np.arange(len(self._targets)), self._targets]
        losses = scipy.special.logsumexp(logits, axis=-1) - chosen
        return np.asarray(losses.mean(axis=-1) + self._l2 / 2 * np.sum(x**2, axis=-1))

    def _backward(self, x: Array, images: Array, targets: Array) -> Array:
        *signals, logits = self._forward(x, images)
        slope = scipy.special.softmax(logits, axis=-1)
        slope[..., np.arange(len(targets)), targets] -= 1
        slope /= len(targets)
        gradient = self._l2 * x
        layers = self._layers(x)
        for i in range(len(layers), 0, -1):
            signal = signals[i - 1]
            weights = np.swapaxes(signal, -1, -2) @ slope
            gradient[..., self.layout[f"W{i}"]] += weights.reshape(*x.shape[:-1], -1)
            gradient[..., self.layout[f"b{i}"]] += slope.sum(axis=-2)
            if i > 1:
                slope = slope @ np.swapaxes(layers[i - 1][0], -1, -2) * (1 - signal**2)
        return np.asarray(gradient)


def _layout(shapes: Sequence[tuple[int, int]]) -> dict[str, slice]:
    layout, start = {}, 0
    for i, (rows, columns) in enumerate(shapes, 1):
        for label, size in ((f"W{i}", rows * columns), (f"b{i}", columns)):
            layout[label] = slice(start, start + size)
            start += size
    return layout


def _digits(seed: int) -> tuple[tuple[Array, Any], tuple[Array, Any]]:
    """Images with grey levels in [0, 1] and labels, for training and for testing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        message = 'the digits come with scikit-learn: pip install "lionode[train]"'
        raise ImportError(message, name="sklearn") from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    held = int(TEST_SHARE * len(images))
    test, train = order[:held], order[held:]
    return (images[train] / 16, labels[train]), (images[test] / 16, labels[test])
