"""Figure 5 at full scale: ResNet-18 on CIFAR-10 by Lion, from a folder that you have.

The folder holds the *binary version* of the data (data_batch_1.bin … data_batch_5.bin, test_batch.bin) of
https://www.cs.toronto.edu/~kriz/cifar.html; nothing is downloaded and nothing is unpickled. An interrupted
training goes on from its last epoch when the same command is given again.

    LIONODE_CIFAR10=/data/cifar-10-batches-bin lionode reproduce cifar10 --full
    python scripts/cifar10.py --data /data/cifar-10-batches-bin --epochs 200 --out figures
"""

import argparse
import io
import json
import math
import os
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lionode import plots, reproduce, storage
from lionode.reproduce import Row

BYTES = 3 * 32 * 32
RECORD = 1 + BYTES
TRAIN, TEST = [f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"]
LR, BETAS, LAM = 1e-4, (0.9, 0.99), 10.0
BATCH, QUICK_EPOCHS, FULL_EPOCHS = 128, 1, 200
CHECKPOINT = "cifar10.pt"
MARGIN = 0.01
"""As in figure 5: weights that are pushed against a face approach it only asymptotically."""
SETUP = "ResNet-18 on CIFAR-10 as published; η, λ, epochs chosen here"


def read(folder: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images, shape (n, 3, 32, 32) and of bytes, and labels from files of records of 1 + 3072 bytes.

    Raises
    ------
    ValueError
        If a file is missing or is not such a file.
    """
    parts = []
    for name in names:
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{folder} must hold the binary version of CIFAR-10, it has no {name}")
        data = np.fromfile(path, dtype=np.uint8)
        if data.size == 0 or data.size % RECORD:
            raise ValueError(f"{path} must hold records of {RECORD} bytes, it has {data.size} bytes")
        parts.append(data.reshape(-1, RECORD))
    records = np.concatenate(parts)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise ValueError(f"labels in {folder} must be 0 to 9, got {labels.max()}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def resnet18(width: int = 64) -> Any:
    """ResNet-18 for small images: a 3×3 stem, no pooling before the four stages. Source: He et al. (2016)."""
    import torch
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(),
                nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside),
            )  # fmt: skip
            self.shortcut = nn.Identity()
            if stride != 1 or inside != outside:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
                )

        def forward(self, x: Any) -> Any:
            return torch.relu(self.body(x) + self.shortcut(x))

    layers = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inside = width
    for stage in range(4):
        outside = width * 2**stage
        layers += [Block(inside, outside, 1 if stage == 0 else 2), Block(outside, outside, 1)]
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10))


def batches(images: Any, labels: Any, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
    """Shuffled minibatches, each image shifted by up to 4 pixels and mirrored or not, by itself."""
    import torch

    order = rng.permutation(len(images))
    for begin in range(0, len(order), BATCH):
        chosen = torch.from_numpy(order[begin : begin + BATCH]).to(images.device)
        count = len(chosen)
        shifts, mirrored = rng.integers(0, 9, (2, count, 1)), rng.random((count, 1)) < 0.5
        rows, columns = shifts + np.arange(32)
        columns = np.where(mirrored, columns[:, ::-1], columns)
        padded = torch.nn.functional.pad(images[chosen], (4, 4, 4, 4))
        where = np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
        picked = padded.permute(0, 2, 3, 1)[tuple(torch.from_numpy(i).to(images.device) for i in where)]
        yield picked.permute(0, 3, 1, 2), labels[chosen]


class Settings(NamedTuple):
    """What a training is made of; a checkpoint of another one is not resumed."""

    folder: Path
    epochs: int
    width: int = 64
    lr: float = LR
    lam: float = LAM
    seed: int = 0


def train(settings: Settings, checkpoint: Path) -> dict[str, Any]:
    """Train, and return snapshots of all weights, the monitor's records and the test accuracy.

    After each epoch everything is put into `checkpoint`, from where an interrupted training goes on.
    """
    import torch
    from rich.progress import track

    from lionode.torch import LionK, Monitor, Record

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(settings.seed)
    raw, labels = read(settings.folder, TRAIN)
    mean, spread = raw.mean((0, 2, 3), dtype=np.float64), raw.std((0, 2, 3), dtype=np.float64) + 1e-6

    def prepared(values: np.ndarray) -> Any:
        scaled = values.astype(np.float32)
        scaled -= mean.astype(np.float32)[:, None, None]
        scaled /= spread.astype(np.float32)[:, None, None]
        return torch.from_numpy(scaled).to(device)

    images, targets = prepared(raw), torch.from_numpy(labels).to(device)
    model = resnet18(settings.width).to(device)
    with torch.no_grad():
        for p in model.parameters():
            # From outside of the box, so that phase 1 can be seen.
            p.mul_(4)
    optimizer = LionK(model.parameters(), settings.lr, BETAS, settings.lam)
    monitor, rng = Monitor(optimizer, MARGIN), np.random.default_rng(settings.seed)

    def weights() -> Any:
        return torch.cat([p.detach().cpu().flatten() for p in model.parameters()])

    shown = {1, max(1, settings.epochs // 4), settings.epochs}
    step, first, snapshots = 0, 0, [(0, weights())]
    name = json.dumps([str(word) for word in settings])
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        if kept["settings"] == name:
            model.load_state_dict(kept["model"])
            optimizer.load_state_dict(kept["optimizer"])
            rng.bit_generator.state = json.loads(kept["rng"])
            step, first, snapshots = kept["step"], kept["epoch"], kept["snapshots"]
            monitor.records = [Record(*record) for record in kept["records"]]
    if not first:
        monitor.record(0)
    for epoch in track(range(first, settings.epochs), f"ResNet-18 on {device}"):
        model.train()
        for batch, expected in batches(images, targets, rng):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch), expected).backward()
            optimizer.step()
            step += 1
        monitor.record(step)
        if epoch + 1 in shown:
            snapshots.append((step, weights()))
        state = {
            "settings": name, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
            "epoch": epoch + 1, "rng": json.dumps(rng.bit_generator.state), "snapshots": snapshots,
            "records": [astuple(record) for record in monitor.records],
        }  # fmt: skip
        buffer = io.BytesIO()
        torch.save(state, buffer)
        storage.write_atomically(checkpoint, buffer.getvalue())
    raw_test, labels_test = read(settings.folder, TEST)
    model.eval()
    with torch.no_grad():
        parts = np.array_split(raw_test, -(-len(raw_test) // 500))
        guesses = [model(prepared(part)).argmax(1).cpu() for part in parts]
    accuracy = float((torch.cat(guesses).numpy() == labels_test).mean())
    return {
        "snapshots": [(step, values.numpy()) for step, values in snapshots], "records": monitor.records,
        "accuracy": accuracy, "lam": settings.lam, "lr": settings.lr,
    }  # fmt: skip


def draw(result: dict[str, Any], out: Path) -> list[Row]:
    """The histograms of figure 5, the share outside, and the rows."""
    lam, lr = result["lam"], result["lr"]
    snapshots = result["snapshots"]
    fig, axes = plots.figure(1, len(snapshots) + 1, height=2.1)
    largest = np.abs(snapshots[0][1]).max()
    for ax, (step, values) in zip(axes, snapshots, strict=False):
        ax.hist(values, bins=np.linspace(-largest, largest, 101), color=plots.COLORS["blue"])
        for side in (-1, 1):
            ax.axvline(side / lam, color=plots.COLORS["red"], lw=0.9, ls="--")
        ax.set(title=f"step {step}", yscale="log", ylim=(0.8, values.size), xlabel="weight")
        if step:
            ax.set_yticklabels([])
    axes[0].set_ylabel("number")
    axes[0].annotate(r"$\pm 1/\lambda$", (1 / lam, values.size), (2, -8), textcoords="offset points",
                     fontsize=7, color=plots.COLORS["red"])  # fmt: skip
    records = result["records"]
    axes[-1].semilogy([r.step for r in records], [max(r.share_outside, 1e-7) for r in records], "o-", ms=2)
    axes[-1].set(xlabel="step", title="share outside", ylim=(1e-7, 1.5))
    plots.save(fig, "cifar10", out)
    start, end = (np.abs(snapshots[k][1]) * lam for k in (0, -1))
    steps, decay = snapshots[-1][0], 1 - lr * lam
    # float32 rounds each of the steps; what is rounded shrinks like the excess itself.
    rounding = 4 * np.finfo(np.float32).eps * start.max() / (lr * lam)
    allowed = np.maximum(start - 1, 0) * decay**steps
    last = max((r.step for r in records if r.share_outside > 0), default=0)
    course = ", ".join(f"{100 * (np.abs(x) * lam > 1 + MARGIN).mean():.3g} % at {k}" for k, x in snapshots)
    return [
        Row("cifar10", "each weight approaches the box at least like (1−ηλ)^k",
            f"largest excess over that after {steps} steps, in units of 1/λ",
            float((np.maximum(end - 1, 0) - allowed).max()), high=float(rounding), setup=SETUP),
        Row("cifar10", "no more weights are outside than that allows",
            f"share outside by over 1 % at step {steps}; by step: {course}; last some at step "
            f"{last}; held-out accuracy {result['accuracy']:.3f}",
            float((end > 1 + MARGIN).mean()), high=float((allowed + rounding > MARGIN).mean()), setup=SETUP),
    ]  # fmt: skip


def run(out: Path, full: bool = False) -> list[Row]:
    folder = os.environ.get("LIONODE_CIFAR10", "")
    if not folder:
        claim = ("Lion draws the weights of ResNet-18 into the box", "share of weights outside")
        why = "set LIONODE_CIFAR10 to the folder of the binary version of CIFAR-10"
        return [Row("cifar10", *claim, math.nan, high=0.0, setup=SETUP, untested=why)]
    settings = Settings(Path(folder), FULL_EPOCHS if full else QUICK_EPOCHS)
    return draw(train(settings, out / CHECKPOINT), out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the binary version of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=FULL_EPOCHS)
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage")
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--lam", type=float, default=LAM)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figure")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        settings = Settings(given.data, given.epochs, given.width, given.lr, given.lam, given.seed)
        result = train(settings, given.out / CHECKPOINT)
    except ValueError as error:
        parser.error(str(error))
    for row in reproduce.run(lambda out, full: draw(result, out), given.out):
        print(row)


if __name__ == "__main__":
    main()
