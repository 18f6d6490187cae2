"""Write docs/proof.md: the way from the flow to the theorem, with what sympy printed when this ran."""

from __future__ import annotations

from pathlib import Path

import lionode as ln

PAGE = Path(__file__).with_name("proof.md")

OPENING = """# From the flow to the theorem

The flow is ṁ = −α∇f(x) − γm, m̃ = m − ε(α∇f(x) + γm), ẋ ∈ ∂κ(m̃) − λx. With c = (1−εγ)/(1+ελ), let
H = αf(x) + (γ/λ)κ*(λx) + c·(κ*(λx) + κ(m) − λ⟨m, x⟩).

Let z ∈ ∂κ*(λx), s ∈ ∂κ(m), u ∈ ∂κ(m̃). By the chain rule dH/dt is a sum of inner products of g = ∇f(x), m, z,
x, s and u. So one scalar can stand for each vector, and an identity of polynomials is an identity in every
dimension. Each step below holds because sympy reduced the difference of its two sides to exactly 0.

This page is the output of `docs/make_proof_page.py`.
"""


def block(proof: ln.Proof) -> str:
    return f"```\n{proof}\n```\n"


def main() -> None:
    f = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2")
    system = ln.LionK(f, ln.kappas.PseudoHuber(0.5), alpha=1.0, gamma=1.0, epsilon=0.5, lam=1.5)
    parts = [
        OPENING,
        "## The flow, the updates, the backward Euler step: `prove()`\n",
        block(ln.prove()),
        "## One potential, region by region: `prove(L1())`\n",
        block(ln.prove(ln.kappas.L1())),
        "## Your own system: `prove(system)`\n",
        block(ln.prove(system)),
    ]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
