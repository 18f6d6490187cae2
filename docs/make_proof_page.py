"""Write docs/proof.md: the way from the flow to the theorem, with what sympy found when this ran."""

from __future__ import annotations

from pathlib import Path

import lionode as ln
from lionode.lyapunov.proof import backward_euler, discrete_inequality, flow_identity

PAGE = Path(__file__).with_name("proof.md")

OPENING = r"""# From the flow to the theorem

This page is the output of `docs/make_proof_page.py`: each formula in a step below was made by sympy, and
each ✓ says that sympy reduced the difference of its two sides to exactly 0.

## 1. The flow, and what it should make smaller

Lion-κ in continuous time is

$$\dot m = -\alpha\nabla f(x) - \gamma m,\qquad \tilde m = m - \varepsilon(\alpha\nabla f(x) + \gamma m),
\qquad \dot x \in \partial\kappa(\tilde m) - \lambda x .$$

$f$ is the loss, $\kappa$ is convex, $\kappa^*(y) = \sup_z \langle y, z\rangle - \kappa(z)$ is its
conjugate, and $\varepsilon\gamma \le 1$. For Lion itself $\kappa = \lVert\cdot\rVert_1$: then
$\partial\kappa$ is the sign, and $\kappa^*$ is 0 on the box $\lVert y\rVert_\infty \le 1$ and $+\infty$
outside.

Where can it rest? $\dot m = 0$ gives $m = -\tfrac\alpha\gamma\nabla f(x)$ and $\tilde m = m$; $\dot x =
0$ gives $\lambda x \in \partial\kappa(m)$, that is $m \in \partial\kappa^*(\lambda x)$. Together $0 \in
\alpha\nabla f(x) + \gamma\,\partial\kappa^*(\lambda x)$: a stationary point of $F(x) = \alpha f(x) +
\tfrac\gamma\lambda\kappa^*(\lambda x)$.

$F$ alone need not fall, since momentum overshoots. What falls is $F$ plus a multiple of a *Fenchel–Young
gap*, which is never negative and is 0 exactly where $\lambda x \in \partial\kappa(m)$:

$$H(x,m) = \alpha f(x) + \frac\gamma\lambda\kappa^*(\lambda x)
+ c\,\bigl(\kappa^*(\lambda x) + \kappa(m) - \lambda\langle m, x\rangle\bigr),
\qquad c = \frac{1-\varepsilon\gamma}{1+\varepsilon\lambda}\ge 0 .$$

## 2. Its derivative is a polynomial

Name what occurs: $g = \nabla f(x)$, $u \in \partial\kappa(\tilde m)$ the selection that the flow uses,
$s \in \partial\kappa(m)$, $z \in \partial\kappa^*(\lambda x)$. By the chain rule $\tfrac{d}{dt}f(x) =
\langle g, \dot x\rangle$, $\tfrac{d}{dt}\kappa(m) = \langle s, \dot m\rangle$ and
$\tfrac{d}{dt}\kappa^*(\lambda x) = \langle z, \lambda\dot x\rangle$. So $dH/dt$ is a sum of inner
products of $g, m, z, x, s, u$. An identity between such sums holds for vectors of any length if it holds
for numbers: one number can stand for each vector, and a product for each inner product. That leaves a
polynomial for sympy.
"""

SIGNS = r"""
## 3. Both terms have a sign

$\Delta_1 = \langle\tilde m - z, u - \lambda x\rangle$ and $\Delta_2 = \langle\tilde m - m, u - s\rangle$
are $\ge 0$, because $\partial\kappa$ and $\partial\kappa^*$ are monotone: $u \in \partial\kappa(\tilde
m)$ with $\lambda x \in \partial\kappa(z)$ for the first, with $s \in \partial\kappa(m)$ for the second.
Their weights are $\ge 0$ because $\varepsilon\gamma \le 1$. So $dH/dt \le 0$. ∎

Two things are easy to overlook.

- **Outside.** If $\lambda x \notin \mathrm{dom}\,\kappa^*$, then $H = +\infty$. But $u \in
  \mathrm{dom}\,\kappa^*$ always, and $\tfrac{d}{dt}\lambda x = \lambda(u - \lambda x)$ pulls towards it:
  the distance of $\lambda x$ to $\mathrm{dom}\,\kappa^*$ shrinks at least like $e^{-\lambda t}$, and
  once inside, always inside.
- **Kinks.** Where $\kappa$ is not differentiable the flow is a differential inclusion. Along an
  absolutely continuous solution $\tfrac{d}{dt}\kappa(m) = \langle s, \dot m\rangle$ for *every* $s \in
  \partial\kappa(m)$ at almost every $t$, likewise for $\kappa^*$. So the identity holds at almost every
  $t$, with the $u$ that the solution really uses.

Nothing else is used but these facts:

"""

UPDATES = r"""
## 4. The updates

An optimizer takes steps: $\tilde m_{k+1} = \beta_1 m_k - (1-\beta_1)g$, $m_{k+1} = \beta_2 m_k -
(1-\beta_2)g$, $x_{k+1} = x_k + \eta V$ with $V = u - \lambda x_{k+1}$, $g = \nabla f(x_k)$. (Explicit
decay, $u - \lambda x_k$, with $\eta$ is this with $\eta/(1-\eta\lambda)$.) Each of the three terms of
$H$ lies below a tangent or a parabola; now $c = \eta\beta_1/(\eta\lambda(1-\beta_1) + 1 - \beta_2)$, $z
\in \partial\kappa^*(\lambda x_{k+1})$, $s \in \partial\kappa(m_{k+1})$. In the steps $x^+$ is $x_{k+1}$,
$m$ is $m_k$, and $\alpha = \gamma$ is divided out. The facts used:

"""

EULER = r"""
The price of a step of finite length is $\tfrac L2\eta^2\lVert V\rVert^2$: with a fixed $\eta$ an update
may hover, and [the worst case](worst_case.md) says how much.

## 5. The backward Euler step

An implicit step of the flow pays no such price, whatever its length $h$: if $f$ is convex, $H(x^+, m^+)
\le H(x, m)$. [Its page](backward_euler.md) gives the proof in words, these are its steps. The facts
used:

"""

CATALOGUE = r"""
## 6. One potential: `ln.prove(ln.kappas.L1())`

The theorem needs $\kappa^*$ to be the conjugate of $\kappa$. For a potential with formulas `prove`
checks that, region by region where $\kappa$ has kinks, and then the identity again with these functions
in place of letters.
"""

SYSTEM = r"""
## 7. Your own system: `ln.prove(system)`

Here $f(x) = (x_1 - \tfrac32)^2 + x_2^2$, $\kappa$ is `PseudoHuber(0.5)`, $\alpha = \gamma = 1$,
$\varepsilon = \tfrac12$, $\lambda = \tfrac32$. `proof.hamiltonian` and `proof.rate` are $H$ and $dH/dt$
in `proof.symbols`, ready for `sympy.lambdify`.
"""

SEEING = """
```python
>>> import lionode as ln, sympy as sp
>>> f = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2")
>>> s = ln.LionK(f, ln.kappas.PseudoHuber(0.5), alpha=1.0, gamma=1.0, epsilon=0.5, lam=1.5)
>>> proof = ln.prove(s)
>>> proof.holds, proof.residual
(True, 0)
>>> h = sp.lambdify(proof.symbols, proof.hamiltonian)
>>> bool(abs(h(0.1, 0.2, 0.3, -0.4) - ln.lyapunov(s, [0.1, 0.2], [0.3, -0.4])) < 1e-14)
True

```

A proof can fail. With the weight of the gap multiplied by 1.2 the identity does not hold, and what is
left is shown:

```python
>>> from lionode.lyapunov import proof as p
>>> wrong = p.flow_identity(c=sp.Rational(6, 5) * p.FLOW_C)
>>> wrong.holds, wrong.residual == 0
(False, False)

```
"""


def shown(proof: ln.Proof) -> str:
    """Each step as a line with its verdict, and its formula below."""
    lines = []
    for step in proof.steps:
        mark = "✓" if step.holds else "✗"
        lines.append(f"\n{mark} **{step.name.replace('*', chr(92) + '*')}**\n\n$${step.formula}$$\n")
    return "".join(lines)


def used(proof: ln.Proof) -> str:
    """The hypotheses as a list."""
    return "".join(f"- {text.replace('*', chr(92) + '*')}\n" for text in proof.hypotheses)


def page() -> str:
    """The text of the page."""
    flow, updates, euler = flow_identity(), discrete_inequality(), backward_euler()
    f = ln.objectives.from_expression("(x1 - 1.5)**2 + x2**2")
    system = ln.LionK(f, ln.kappas.PseudoHuber(0.5), alpha=1.0, gamma=1.0, epsilon=0.5, lam=1.5)
    return "".join([
        OPENING, shown(flow), SIGNS, used(flow), UPDATES, used(updates), shown(updates), EULER, used(euler),
        shown(euler), CATALOGUE, shown(ln.prove(ln.kappas.L1())), SYSTEM, shown(ln.prove(system)), SEEING,
    ])  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
