"""Losses f: value, gradient and Hessian, with what is known of their curvature."""

from lionode.objectives.base import FACTORIES, NonFiniteError, Objective, from_spec
from lionode.objectives.data import least_squares, logistic
from lionode.objectives.digits import Classifier, digits_linear, digits_network
from lionode.objectives.expression import from_expression
from lionode.objectives.functions import double_well, himmelblau, linear, quadratic, rosenbrock

__all__ = [
    "FACTORIES",
    "Classifier",
    "NonFiniteError",
    "Objective",
    "digits_linear",
    "digits_network",
    "double_well",
    "from_expression",
    "from_spec",
    "himmelblau",
    "least_squares",
    "linear",
    "logistic",
    "quadratic",
    "rosenbrock",
]
