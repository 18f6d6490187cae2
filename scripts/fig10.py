"""Figure 10: Lion, its relatives and AdamW on one network: losses at equal tuning, memory, time of a step."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lionode as ln
from lionode import plots
from lionode.reproduce import Row, alone, remember

STEPS, EVERY, TRIALS = 500, 20, 10
SETUP = "claims of the abstract; digits network, search ranges, budget chosen here"


class Method(NamedTuple):
    """The system for (f, η, λ), whether λ is searched, and the range of η."""

    system: Callable[[ln.Objective, float, float], ln.LionK] | None
    decays: bool
    rates: tuple[float, float]
    color: str


def _lion(kappa: ln.kappas.Potential) -> Callable[[ln.Objective, float, float], ln.LionK]:
    return lambda f, lr, lam: ln.LionK.from_optimizer(f, kappa, lr=lr, beta1=0.9, beta2=0.99, lam=lam)


SIGNED, PLAIN = (1e-4, 1e-1), (1e-2, 1e1)
METHODS = {
    "Lion": Method(_lion(ln.kappas.L1()), True, SIGNED, "blue"),
    "Lion-κ, Huber": Method(_lion(ln.kappas.Huber(0.003)), True, SIGNED, "sky"),
    "signed momentum": Method(lambda f, lr, lam: ln.presets.signum(f, lr), False, SIGNED, "orange"),
    "Polyak": Method(lambda f, lr, lam: ln.presets.polyak(f, lr), False, PLAIN, "green"),
    "Nesterov": Method(lambda f, lr, lam: ln.presets.nesterov(f, lr), False, PLAIN, "purple"),
    "AdamW": Method(None, True, SIGNED, "red"),
}
"""The ranges are three decades each: ± η is a step of signed methods, −η∇f one of the others."""
DECAYS = (1e-3, 1.0)


def train(name: str, lr: float, lam: float, seed: int) -> dict[str, Any]:
    """Losses on all training images along the way, and the held-out accuracy at the end."""
    f = ln.objectives.digits_network(32)
    method, x0 = METHODS[name], f.start(np.random.default_rng(seed))
    if method.system is None:
        states = _adamw(f, x0, lr, lam, seed)
    else:
        run = ln.iterate(method.system(f, lr, lam), x0, STEPS, stochastic=True, seed=seed, record_every=EVERY)
        if not run.success:
            return {"loss": np.full(STEPS // EVERY + 1, np.inf), "accuracy": 0.0}
        states = run.x
    return {"loss": np.array([f.value(x) for x in states]), "accuracy": float(f.accuracy(states[-1]))}


def _adamw(f: Any, x0: np.ndarray, lr: float, lam: float, seed: int) -> list[np.ndarray]:
    """Torch's AdamW on the same minibatches."""
    import torch

    x, rng = torch.nn.Parameter(torch.from_numpy(x0)), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW([x], lr=lr, weight_decay=lam)
    states = [x0.copy()]
    for k in range(1, STEPS + 1):
        x.grad = torch.from_numpy(f.stochastic(x.detach().numpy(), rng))
        optimizer.step()
        if k % EVERY == 0:
            states.append(x.detach().numpy().copy())
    return states


def search(name: str, trials: int) -> tuple[float, float]:
    """The best (η, λ) of a random search, by the loss at the end: the same number of trials for everyone."""
    method, rng = METHODS[name], np.random.default_rng(7)
    best, found = math.inf, (math.nan, math.nan)
    for trial in range(trials):
        shares = rng.uniform(size=2)
        lr, lam = (
            float(a * (b / a) ** share) for share, (a, b) in zip(shares, (method.rates, DECAYS), strict=True)
        )
        lam = lam if method.decays else 0.0
        loss = remember(train, name, lr, lam, 1000 + trial, path=__file__)["loss"][-1]
        if loss < best:
            best, found = loss, (lr, lam)
    return found


def cost(size: int) -> dict[str, Any]:
    """Bytes of state for a parameter, and seconds a step, of LionK and AdamW in torch side by side."""
    import torch

    from lionode.torch import LionK

    torch.set_num_threads(1)
    params = {name: torch.nn.Parameter(torch.zeros(size)) for name in ("Lion", "AdamW")}
    optimizers = {"Lion": LionK([params["Lion"]], 1e-4), "AdamW": torch.optim.AdamW([params["AdamW"]], 1e-4)}
    times: dict[str, list[float]] = {name: [] for name in params}
    for name, p in params.items():
        p.grad = torch.full((size,), 0.1)
        optimizers[name].step()
    for _ in range(15):
        for name, optimizer in optimizers.items():
            begun = time.perf_counter()
            optimizer.step()
            times[name].append(time.perf_counter() - begun)
    state = {
        name: sum(t.nbytes for t in optimizers[name].state[p].values() if torch.is_tensor(t)) / size
        for name, p in params.items()
    }
    return {"bytes": state, "seconds": {name: float(np.median(values)) for name, values in times.items()}}


def run(out: Path, full: bool = False) -> list[Row]:
    try:
        import torch  # noqa: F401
    except ImportError:
        why = "AdamW comes from torch: pip install 'lionode[train]'"
        what = "Lion beside AdamW", "losses, memory, time"
        return [Row("fig10", *what, math.nan, high=0.0, setup=SETUP, untested=why)]
    seeds, trials = range(16 if full else 6), 40 if full else TRIALS
    fig, (left, middle, right) = plots.figure(1, 3, height=2.5, gridspec_kw={"width_ratios": [1.6, 1.3, 1]})
    ends, accuracy = {}, {}
    for name, method in METHODS.items():
        lr, lam = search(name, trials)
        runs = [remember(train, name, lr, lam, seed, path=__file__) for seed in seeds]
        losses = np.array([r["loss"] for r in runs])
        ends[name] = losses[:, -1]
        accuracy[name] = np.array([r["accuracy"] for r in runs])
        color = plots.COLORS[method.color]
        left.semilogy(np.arange(0, STEPS + 1, EVERY), np.median(losses, axis=0), color=color, label=name)
    left.set(xlabel="step", ylabel="training loss, median", ylim=(3e-4, 4))
    names = list(METHODS)
    for i, name in enumerate(names):
        color = plots.COLORS[METHODS[name].color]
        middle.plot(100 * (1 - accuracy[name]), np.full(len(seeds), i), "o", ms=4, mfc="white", color=color)
        middle.plot(100 * (1 - accuracy[name].mean()), i, "|", ms=12, mew=2, color=color)
    middle.set(xlabel="held-out error in %", yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
    middle.set_yticklabels(names, fontsize=7)
    measured = remember(cost, 10**7 if full else 10**6, path=__file__)
    for i, name in enumerate(("Lion", "AdamW")):
        right.bar(i, measured["bytes"][name], color=plots.COLORS[METHODS[name].color], width=0.6)
        right.text(i, measured["bytes"][name] + 0.2, f"{1e3 * measured['seconds'][name]:.2g} ms\na step",
                   ha="center", fontsize=7)  # fmt: skip
    right.set(xticks=[0, 1], ylabel="bytes of state a parameter", ylim=(0, 11))
    right.set_xticklabels(["Lion", "AdamW"])
    plots.save(fig, "fig10", out)
    gain = accuracy["Lion"] - accuracy["AdamW"]
    size = "10⁷" if full else "10⁶"
    return [
        Row("fig10", "Lion is comparable or favourable to AdamW",
            f"its held-out accuracy minus AdamW's, mean of {len(gain)} seeds (± {gain.std(ddof=1):.3f}), "
            f"{trials} trials of tuning each", gain.mean(), low=-0.01, setup=SETUP),
        Row("fig10", "greater memory efficiency", "bytes of state a parameter, Lion's over AdamW's in torch",
            measured["bytes"]["Lion"] / measured["bytes"]["AdamW"], high=0.5 + 1e-4, setup=SETUP),
        Row("fig10", "a step of Lion costs no more",
            f"seconds a step at {size} parameters in torch, Lion's over AdamW's",
            measured["seconds"]["Lion"] / measured["seconds"]["AdamW"], high=1.1, setup="chosen here"),
        Row("fig10", "the same by its training loss", "median final loss, Lion's over AdamW's",
            float(np.median(ends["Lion"]) / np.median(ends["AdamW"])), high=2.0, setup=SETUP),
    ]  # fmt: skip


if __name__ == "__main__":
    alone(run)
