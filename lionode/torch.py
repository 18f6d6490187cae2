"""Lion-κ for PyTorch: the updates of `lionode.iterate` as a `torch.optim.Optimizer`, and a monitor beside it.

It needs the extra ``train``; nothing else in lionode imports torch.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lionode import _validate, kappas
from lionode.kappas import Potential
from lionode.lyapunov import lyapunov
from lionode.objectives import Objective
from lionode.system import LionK as System
from lionode.updates.step import DECAYS, LOOK_AHEADS

try:
    import torch
except ImportError as error:
    raise ImportError('lionode.torch needs PyTorch: pip install "lionode[train]"', name="torch") from error

__all__ = ["LionK", "Monitor", "Record", "subgradient"]

OUTSIDE = 4
"""A weight is outside the box only by more than this many roundings of its type."""


class LionK(torch.optim.Optimizer):  # type: ignore[misc]
    """m̃ = β₁m − (1−β₁)g,  m⁺ = β₂m − (1−β₂)g,  x⁺ = x + η(u − λx), u ∈ ∂κ(m̃), for tensors of any shape.

    With κ = ‖·‖₁, the default, this is Lion. The momentum is one tensor for each parameter, of minus the
    gradient. Source: Chen, Liu, Liang & Liu (ICLR 2024), eqs. (2) and (8).

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        Parameters or groups of them; a group may have its own values of all that follows.
    lr : float
        η > 0.
    betas : (float, float)
        0 ≤ β₁ ≤ β₂ < 1.
    weight_decay : float
        λ ≥ 0; weights come to lie in the box of half width 1/λ, or what else κ stands for.
    kappa : Potential or str
        κ, or its name as on the command line (``"huber:0.3"``). A separable κ acts on each weight; another
        one on each tensor, flattened row by row: on a stack of matrices or kernels that is the whole of it.
    decay : {"explicit", "implicit"}
        λx at the old point, or at the new one: x⁺ = (x + ηu)/(1 + ηλ).
    look_ahead : {"current", "next"}
        Whether m̃ is built from m or from m⁺.
    foreach : bool, optional
        Whether to update all tensors of a group in fused calls; by default where they are on a GPU.

    Notes
    -----
    The momentum has the type of its parameter. In bfloat16 a change of x by less than 0.4 % is rounded
    away: keep parameters in float32, and train with ``torch.autocast``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is named above; in ``step`` for sparse or complex gradients, and where κ
        does not fit the number of weights in a tensor.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        kappa: Potential | str = "l1",
        *,
        decay: str = "explicit",
        look_ahead: str = "current",
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "kappa": kappa,
            "decay": decay,
            "look_ahead": look_ahead,
            "foreach": foreach,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, its values checked."""
        group = {**self.defaults, **param_group}
        lr, foreach = group["lr"], group["foreach"]
        _validate.positive("lr", lr.item() if torch.is_tensor(lr) and lr.numel() == 1 else lr)
        if not (foreach is None or isinstance(foreach, bool)):
            raise TypeError(f"foreach must be True, False or None, got {_validate.describe(foreach)}")
        betas = group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"betas must be a pair of numbers, got {betas!r}")
        _validate.betas(*betas)
        _validate.nonnegative("weight_decay", group["weight_decay"])
        _validate.choice("decay", group["decay"], DECAYS)
        _validate.choice("look_ahead", group["look_ahead"], LOOK_AHEADS)
        kappa = group["kappa"]
        # As plain data, so that a checkpoint holds no code.
        spec = kappa if isinstance(kappa, dict) else kappas.to_spec(_potential(kappa))
        super().add_param_group({**param_group, "kappa": spec})

    @torch.no_grad()  # type: ignore[untyped-decorator,unused-ignore]
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients anew.

        Returns
        -------
        What `closure` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None and p.numel()]
            if not params:
                continue
            moments = [self._momentum(p) for p in params]
            kappa = potential_of(group)
            foreach = group["foreach"]
            if foreach is None:
                foreach = all(p.device.type == "cuda" for p in params)
            update = _update_together if foreach else _update_each
            update(kappa, group, params, [p.grad for p in params], moments)
        return loss

    def _momentum(self, p: Any) -> Any:
        if p.grad.layout != torch.strided or p.is_complex():
            kind = "complex parameters" if p.is_complex() else "sparse gradients"
            raise TypeError(f"LionK needs dense real gradients, got {kind} of shape {tuple(p.shape)}")
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state["momentum"]


def potential_of(group: dict[str, Any]) -> Potential:
    """The κ of a parameter group."""
    return _from_json(json.dumps(group["kappa"]))


@functools.cache
def _from_json(text: str) -> Potential:
    return kappas.from_spec(json.loads(text))


def _potential(kappa: Any) -> Potential:
    if isinstance(kappa, str):
        return kappas.parse(kappa)
    if not isinstance(kappa, Potential):
        raise TypeError(f"kappa must be a Potential or its name, got {_validate.describe(kappa)}")
    return kappa


def _update_each(
    kappa: Potential, group: dict[str, Any], params: list[Any], gradients: list[Any], moments: list[Any]
) -> None:
    """The update, tensor by tensor."""
    (beta1, beta2), lr, lam = group["betas"], float(group["lr"]), group["weight_decay"]
    for x, g, m in zip(params, gradients, moments, strict=True):
        m_tilde = None
        if group["look_ahead"] == "current":
            m_tilde = m.mul(beta1).sub_(g, alpha=1 - beta1)
        m.mul_(beta2).sub_(g, alpha=1 - beta2)
        if m_tilde is None:
            m_tilde = m.mul(beta1).sub_(g, alpha=1 - beta1)
        (u,) = _subgradients(kappa, [m_tilde])
        if group["decay"] == "implicit":
            x.add_(u, alpha=lr).div_(1 + lr * lam)
        else:
            x.mul_(1 - lr * lam).add_(u, alpha=lr)


def _update_together(
    kappa: Potential, group: dict[str, Any], params: list[Any], gradients: list[Any], moments: list[Any]
) -> None:
    """The same with one call for all tensors, which pays where a call costs more than its work."""
    (beta1, beta2), lr, lam = group["betas"], float(group["lr"]), group["weight_decay"]
    m_tilde = None
    if group["look_ahead"] == "current":
        m_tilde = torch._foreach_mul(moments, beta1)
    torch._foreach_mul_(moments, beta2)
    torch._foreach_sub_(moments, gradients, alpha=1 - beta2)
    if m_tilde is None:
        m_tilde = torch._foreach_mul(moments, beta1)
    torch._foreach_sub_(m_tilde, gradients, alpha=1 - beta1)
    u = _subgradients(kappa, m_tilde)
    if group["decay"] == "implicit":
        torch._foreach_add_(params, u, alpha=lr)
        torch._foreach_div_(params, 1 + lr * lam)
    else:
        torch._foreach_mul_(params, 1 - lr * lam)
        torch._foreach_add_(params, u, alpha=lr)


@functools.singledispatch
def subgradient(kappa: Potential, z: Any) -> Any:
    """The selection of ∂κ(z) that κ itself makes, of the shape of the tensor z.

    Written in torch for the potentials registered below; any other one is asked through numpy, in float64.
    """
    flat = z.detach().reshape(_flat_shape(kappa, z)).to("cpu", torch.float64).numpy()
    return torch.from_numpy(kappa.subgradient(flat)).to(z.device, z.dtype).reshape(z.shape)


def _flat_shape(kappa: Potential, z: Any) -> tuple[int, ...]:
    if kappa.dim not in (None, z.numel()):
        raise ValueError(f"{kappa!r} acts on {kappa.dim} weights, got a tensor of shape {tuple(z.shape)}")
    return (z.numel(),)


@subgradient.register
def _(kappa: kappas.L1, z: Any) -> Any:
    return torch.sign(z)


@subgradient.register
def _(kappa: kappas.SoftThreshold, z: Any) -> Any:
    return torch.where(z.abs() > kappa.e, torch.sign(z), 0)


@subgradient.register
def _(kappa: kappas.Huber, z: Any) -> Any:
    return (z / kappa.e).clamp_(-1, 1)


@subgradient.register
def _(kappa: kappas.Quadratic, z: Any) -> Any:
    return z


@subgradient.register
def _(kappa: kappas.Power, z: Any) -> Any:
    return torch.sign(z) * z.abs() ** (kappa.p - 1)


@subgradient.register
def _(kappa: kappas.PseudoHuber, z: Any) -> Any:
    return z / torch.hypot(z, z.new_tensor(kappa.e))


@subgradient.register
def _(kappa: kappas.LogCosh, z: Any) -> Any:
    return torch.tanh(z / kappa.e)


@subgradient.register
def _(kappa: kappas.Scaled, z: Any) -> Any:
    return kappa.weight * subgradient(kappa.kappa, z)


@subgradient.register
def _(kappa: kappas.Lp, z: Any) -> Any:
    largest = z.abs().max()
    if largest == 0:
        return torch.zeros_like(z)
    # Divided by its largest component first, no power overflows.
    norm = largest * torch.linalg.vector_norm(z / largest, kappa.p)
    return torch.sign(z) * (z.abs() / norm) ** (kappa.p - 1)


@subgradient.register
def _(kappa: kappas.LogSumExp, z: Any) -> Any:
    return torch.softmax(z.flatten(), 0).reshape(z.shape)


@subgradient.register
def _(kappa: kappas.Nuclear, z: Any) -> Any:
    _flat_shape(kappa, z)
    # There is no SVD in 16 bits.
    matrix = z.reshape(kappa.shape).to(torch.promote_types(z.dtype, torch.float32))
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    rounding = max(kappa.shape) * torch.finfo(z.dtype).eps * s[:1]
    return ((u * (s > rounding)) @ vt).to(z.dtype).reshape(z.shape)


@functools.singledispatch
def _subgradients(kappa: Potential, z: list[Any]) -> Any:
    """Those of several tensors, which may be overwritten."""
    return [subgradient(kappa, tensor) for tensor in z]


@_subgradients.register
def _(kappa: kappas.L1, z: list[Any]) -> Any:
    torch._foreach_sign_(z)
    return z


@dataclass(frozen=True)
class Record:
    """What a `Monitor` saw at one time.

    Attributes
    ----------
    step : int
        The number of updates done.
    share_outside : float
        The share of weights with |x|·λ > 1 + margin, among those with λ > 0; NaN if there are none.
    max_ratio : float
        The largest |x|·λ.
    h : float
        The discrete theorem's H of all groups, NaN where no loss was given.
    """

    step: int
    share_outside: float
    max_ratio: float
    h: float


class Monitor:
    """Watches the weights of a `LionK` optimizer go into the box, and H fall.

    Parameters
    ----------
    optimizer : LionK
        The optimizer; its groups tell λ, κ, η and β.
    margin : float, optional
        A weight is outside if |x|·λ > 1 + margin. One that is pushed against a face approaches it only
        asymptotically, and in float32 stops short of it by up to a rounding over η·λ.

    Attributes
    ----------
    records : list of Record
        One for each call of `record`.
    """

    def __init__(self, optimizer: LionK, margin: float = 0.0) -> None:
        if not isinstance(optimizer, LionK):
            raise TypeError(f"optimizer must be a lionode.torch.LionK, got {_validate.describe(optimizer)}")
        self.optimizer = optimizer
        self.margin = _validate.nonnegative("margin", margin)
        self.records: list[Record] = []

    @torch.no_grad()  # type: ignore[untyped-decorator,unused-ignore]
    def record(self, step: int, loss: float | None = None) -> Record:
        """Look at the weights now, and keep what was seen.

        Parameters
        ----------
        step : int
            The number of updates done.
        loss : float, optional
            f(x) on all data: then also H = f(x) + (1/λ)κ*(λx) + c(κ*(λx) + κ(m) − λ⟨m,x⟩), the sum of the
            latter over tensors; inf outside dom κ*. With explicit decay it is that of the implicit updates
            they are, of learning rate η/(1−ηλ).
        """
        outside, total, largest = 0, 0, -math.inf
        for group in self.optimizer.param_groups:
            lam = group["weight_decay"]
            for p in (p for p in group["params"] if lam > 0 and p.numel()):
                ratio = p.abs() * lam
                outside += int((ratio > 1 + self.margin + OUTSIDE * torch.finfo(p.dtype).eps).sum())
                total += p.numel()
                largest = max(largest, float(ratio.max()))
        share, largest = (outside / total, largest) if total else (math.nan, math.nan)
        h = math.nan if loss is None else float(loss) + sum(map(self._energy, self.optimizer.param_groups))
        self.records.append(Record(step, share, largest, h))
        return self.records[-1]

    def _energy(self, group: dict[str, Any]) -> float:
        """The part of H that is not f."""
        kappa, lam, lr = potential_of(group), group["weight_decay"], float(group["lr"])
        if group["decay"] == "explicit":
            if lr * lam >= 1:
                raise ValueError(f"H needs lr*weight_decay < 1 with explicit decay, got {lr * lam:g}")
            lr = lr / (1 - lr * lam)
        beta1, beta2 = group["betas"]
        gamma = (1 - beta2) / lr
        energy = 0.0
        for p in filter(torch.numel, group["params"]):
            x = p.to("cpu", torch.float64).numpy().reshape(-1)
            state = self.optimizer.state.get(p, {})
            momentum = state.get("momentum", torch.zeros(()))
            m = np.broadcast_to(momentum.to("cpu", torch.float64).numpy().reshape(-1), x.shape)
            nothing = Objective(lambda x: 0.0, np.zeros_like, dim=x.size, minimum=0.0)
            system = System(nothing, kappa, alpha=gamma, gamma=gamma, epsilon=(1 - beta1) / gamma, lam=lam)
            if lam > 0 and kappa.distance(lam * x) <= OUTSIDE * torch.finfo(p.dtype).eps * math.sqrt(x.size):
                # On the boundary up to the rounding of the weights' type.
                x = kappa.project(lam * x) / lam
            energy += float(lyapunov(system, x, m)) / gamma
        return energy
