"""Lion updates side by side: lionode, numpy, torch foreach, lion-pytorch, optax; float64, one process.

    pip install torch "jax[cpu]" optax lion-pytorch
    python benchmarks/updates.py [d ...]        (default: 2 1000000 10000000)

An update reads x, m, ∇f and writes x, m: five words a component. "share" is the time of a compiled loop that
moves those words and does nearly nothing else, over the time of the peer; the peers take turns, and the
median over the turns counts. A peer that is not installed is skipped with a note.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import numba
import numpy as np
from rich.console import Console
from rich.table import Table

import lionode as ln
from lionode import updates

LR, BETA1, BETA2, LAM = 1e-4, 0.9, 0.99, 0.1
SIZES = (2, 1_000_000, 10_000_000)
TURNS = 7
LIMIT, OURS, OPTAX = "five-word limit", "lionode apply", "optax.lion, jitted"

Update = Callable[[], object]


def state(d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, m, g = (rng.normal(size=d) for _ in range(3))
    return x, m, g


def five_words(d: int) -> Update:
    x, m, g = state(d)

    @numba.njit(parallel=d >= 100_000)
    def move(x: np.ndarray, m: np.ndarray, g: np.ndarray) -> None:
        for i in numba.prange(x.size):
            m[i] += 1e-9 * g[i]
            x[i] += 1e-9 * g[i]

    return lambda: move(x, m, g)


def lionode(d: int) -> Update:
    x, m, g = state(d)
    objective = ln.Objective(value=lambda x: 0.0, gradient=lambda x: g, dim=d)
    system = ln.presets.lion(objective, LR, BETA1, BETA2, LAM)
    return lambda: updates.apply(system, x, m, g)


def plain_numpy(d: int) -> Update:
    x, m, g = state(d)

    def update() -> None:
        nonlocal x, m
        x = x - LR * (np.sign(BETA1 * m + (1 - BETA1) * g) + LAM * x)
        m = BETA2 * m + (1 - BETA2) * g

    return update


def torch_foreach(d: int) -> Update:
    import torch

    x, m, g = ([torch.from_numpy(a)] for a in state(d))

    def update() -> None:
        direction = torch._foreach_mul(m, BETA1)
        torch._foreach_add_(direction, g, alpha=1 - BETA1)
        torch._foreach_sign_(direction)
        torch._foreach_mul_(x, 1 - LR * LAM)
        torch._foreach_add_(x, direction, alpha=-LR)
        torch._foreach_lerp_(m, g, 1 - BETA2)

    return update


def lion_pytorch(d: int) -> Update:
    import torch
    from lion_pytorch import Lion

    x, _, g = state(d)
    parameter = torch.nn.Parameter(torch.from_numpy(x))
    parameter.grad = torch.from_numpy(g)
    optimizer = Lion([parameter], lr=LR, betas=(BETA1, BETA2), weight_decay=LAM)
    return optimizer.step


def optax_lion(d: int) -> Update:
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)
    optimizer = optax.lion(LR, BETA1, BETA2, weight_decay=LAM)
    x, _, g = (jax.numpy.asarray(a) for a in state(d))
    memory = optimizer.init(x)

    def step(x, memory, g):
        change, memory = optimizer.update(g, memory, x)
        return optax.apply_updates(x, change), memory

    compiled = jax.jit(step, donate_argnums=(0, 1))

    def update() -> None:
        nonlocal x, memory
        x, memory = compiled(x, memory, g)
        x.block_until_ready()

    return update


PEERS: dict[str, tuple[Callable[[int], Update], str]] = {
    LIMIT: (five_words, "numba"),
    OURS: (lionode, "lionode"),
    OPTAX: (optax_lion, "optax"),
    "torch foreach": (torch_foreach, "torch"),
    "lion-pytorch": (lion_pytorch, "lion_pytorch"),
    "numpy": (plain_numpy, "numpy"),
}


def measure(peers: dict[str, Update], seconds: float = 0.05) -> dict[str, float]:
    """Seconds an update, the median over turns; each turn lasts about `seconds` for each peer."""
    repeats = {}
    for name, update in peers.items():
        update()
        started = time.perf_counter()
        update()
        repeats[name] = max(1, round(seconds / (time.perf_counter() - started)))
    turns: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(TURNS):
        for name, update in peers.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                update()
            turns[name].append((time.perf_counter() - started) / repeats[name])
    return {name: float(np.median(times)) for name, times in turns.items()}


def whole_run(steps: int = 3_000_000) -> float:
    """Seconds an update of a compiled run at d = 2, the objective given as text."""
    objective = ln.objectives.from_expression("(1 - x1)**2 + 10*(x2 - x1**2)**2")
    system = ln.presets.lion(objective, LR, BETA1, BETA2, LAM)
    ln.iterate(system, [0.5, 1.5], 10, compiled=True)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        ln.iterate(system, [0.5, 1.5], steps, record_every=1000, compiled=True)
        times.append((time.perf_counter() - started) / steps)
    return float(np.median(times))


def report(d: int, console: Console) -> None:
    present = {name: build(d) for name, (build, module) in PEERS.items() if find_spec(module)}
    times = measure(present)
    if d == 2:
        times["lionode iterate, with ∇f from text"] = whole_run()
    table = Table(title=f"d = {d:,}")
    for head in ("", "updates/s", "GB/s", "share of the limit", "× faster than optax"):
        table.add_column(head, justify="left" if not head else "right")
    for name, seconds in times.items():
        share = f"{times[LIMIT] / seconds:.2f}" if d > 2 else "–"
        rate = f"{40 * d / seconds / 1e9:.1f}" if d > 2 else "–"
        ratio = f"{times[OPTAX] / seconds:.2f}" if OPTAX in times else "–"
        table.add_row(name, f"{1 / seconds:,.0f}", rate, share, ratio)
    console.print(table)


def main() -> None:
    console = Console(width=100)
    missing = [module for _, module in PEERS.values() if not find_spec(module)]
    if missing:
        console.print(f"not installed, skipped: {', '.join(missing)}; see the head of this file")
    console.print(f"{numba.get_num_threads()} threads")
    for d in [int(text) for text in sys.argv[1:]] or SIZES:
        report(d, console)


if __name__ == "__main__":
    main()
