"""Text from a user to a sympy expression, through a whitelist on the parsed tree: nothing is executed."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp

__all__ = ["natural_order", "parse_expression"]

FUNCTIONS: dict[str, Callable[..., sp.Expr]] = {
    "exp": sp.exp,
    "log": sp.log,
    "sqrt": sp.sqrt,
    "abs": sp.Abs,
    "sign": sp.sign,
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "asin": sp.asin,
    "acos": sp.acos,
    "atan": sp.atan,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "asinh": sp.asinh,
    "atanh": sp.atanh,
    "max": sp.Max,
    "min": sp.Min,
    "Abs": sp.Abs,
    "Max": sp.Max,
    "Min": sp.Min,
}
"""The last three are how sympy writes them, so that what it prints can be read back."""

CONSTANTS = {"pi": sp.pi, "e": sp.E, "E": sp.E}

MAX_LENGTH = 10_000
MAX_DEPTH = 100
MAX_POWER = 1_000
MAX_BITS = 10_000
"""Bounds on what is read: an expression of a person is far below them, 9**9**9 is not."""

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


def parse_expression(text: str, symbols: Mapping[str, sp.Symbol] | None = None) -> sp.Expr:
    """Read an expression in numbers, + − * / **, the given names, and a few functions.

    Parameters
    ----------
    text : str
        For example ``"(x1 - 1.5)**2 + exp(-x2)"``.
    symbols : mapping of str to sympy Symbol, optional
        The names that may occur; any name made of letters and digits becomes a real symbol by default.

    Returns
    -------
    sympy expression

    Raises
    ------
    TypeError
        If `text` is not a string.
    ValueError
        If anything else occurs: the message quotes the piece.
    """
    if not isinstance(text, str):
        raise TypeError(f"expression must be a text, got {text!r}")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"expression must have at most {MAX_LENGTH} characters, got {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        result = _Reader(text.strip(), symbols).read(tree.body, 0)
    except SyntaxError:
        raise ValueError(
            f"expression must be a formula such as '(x1 - 1.5)**2 + x2**2', got {text!r}"
        ) from None
    except (RecursionError, MemoryError):
        raise ValueError("expression is nested too deeply") from None
    if result.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
        raise ValueError(f"expression divides by zero: {text!r}")
    return result


def natural_order(symbols: set[sp.Symbol]) -> list[sp.Symbol]:
    """Symbols as a person counts: x1, x2, …, x10; then by letter."""

    def key(symbol: sp.Symbol) -> list[tuple[int, int, str]]:
        pieces = re.findall(r"\d+|\D+", symbol.name)
        return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in pieces]

    return sorted(symbols, key=key)


class _Reader:
    """Walks a parsed tree; whatever is not listed here is refused."""

    def __init__(self, text: str, symbols: Mapping[str, sp.Symbol] | None) -> None:
        self.text, self.symbols = text, symbols

    def read(self, node: ast.expr, depth: int) -> sp.Expr:
        if depth > MAX_DEPTH:
            raise ValueError("expression is nested too deeply")
        if isinstance(node, ast.Constant):
            return self.number(node)
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self.read(node.operand, depth + 1)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            return self.operation(node, depth)
        if isinstance(node, ast.Call):
            return self.call(node, depth)
        raise self.refuse(node, "is not allowed in an expression")

    def number(self, node: ast.Constant) -> sp.Expr:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise self.refuse(node, "is not a real number")
        try:
            size = float(node.value)
        except OverflowError:
            size = math.inf
        piece = (ast.get_source_segment(self.text, node) or "").replace("_", "")
        tiny = size == 0 and re.search(r"[1-9]", piece.lower().split("e")[0]) is not None
        if tiny or not math.isfinite(size):
            raise self.refuse(node, "is beyond the range of double precision")
        # A decimal is kept as the fraction it was written as: 0.1 is one tenth, and proofs stay exact.
        if isinstance(node.value, int) or size == 0:
            return sp.Integer(node.value)
        return sp.Rational(piece)

    def name(self, node: ast.Name) -> sp.Expr:
        if self.symbols is not None and node.id in self.symbols:
            return self.symbols[node.id]
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        if (
            self.symbols is None
            and re.fullmatch(r"[A-Za-z][A-Za-z]*_?\d*", node.id)
            and node.id not in FUNCTIONS
        ):
            return sp.Symbol(node.id, real=True)
        known = ", ".join([*(self.symbols or {}), *CONSTANTS])
        raise self.refuse(node, f"is not a known name (known: {known})")

    def operation(self, node: ast.BinOp, depth: int) -> sp.Expr:
        if isinstance(node.op, ast.BitXor):
            raise self.refuse(node, "uses ^; write ** for a power")
        if type(node.op) not in OPERATORS:
            raise self.refuse(node, "uses an operator other than + - * / **")
        operate = OPERATORS[type(node.op)]
        left, right = self.read(node.left, depth + 1), self.read(node.right, depth + 1)
        self.foresee(node, operate, left, right)
        if isinstance(node.op, ast.Pow) and right.is_number:
            self.check_power(node, left, abs(float(right)))
        return operate(left, right)

    def check_power(self, node: ast.expr, base: sp.Expr, exponent: float) -> None:
        if exponent > MAX_POWER:
            raise self.refuse(node, f"has an exponent beyond {MAX_POWER}")
        factor = base.as_coeff_Mul()[0]
        if factor.is_Rational and max(abs(factor.p), factor.q).bit_length() * exponent > MAX_BITS:
            raise self.refuse(node, f"has a constant of more than {MAX_BITS} bits")

    def foresee(self, node: ast.expr, operate: Callable[..., Any], *operands: sp.Expr) -> None:
        """Try an operation on constants in double precision first: nothing can take long there."""
        if not all(v.is_number for v in operands):
            return
        try:
            result = operate(*map(float, operands))
        except (ArithmeticError, ValueError):
            result = math.nan
        if isinstance(result, complex) or not math.isfinite(result):
            raise self.refuse(node, "is not a finite real number")

    def call(self, node: ast.Call, depth: int) -> sp.Expr:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            raise self.refuse(node, f"is not one of the functions {', '.join(FUNCTIONS)}")
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.refuse(node, "has arguments that are not plain")
        arguments = [self.read(a, depth + 1) for a in node.args]
        many = node.func.id.lower() in ("max", "min")
        if not arguments or (len(arguments) != 1 and not many):
            raise self.refuse(node, "has the wrong number of arguments")
        # What math does not have (abs, sign, max, min) cannot overflow.
        self.foresee(node, getattr(math, node.func.id, lambda *_: 0.0), *arguments)
        return FUNCTIONS[node.func.id](*arguments)

    def refuse(self, node: ast.expr, why: str) -> ValueError:
        piece = ast.get_source_segment(self.text, node) or self.text
        return ValueError(f"in the expression, {' '.join(piece.split())[:80]!r} {why}")
