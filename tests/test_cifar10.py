"""ResNet-18 on a tiny data set in the binary format of CIFAR-10, made here."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lionode import reproduce

pytest.importorskip("torch")

PATH = reproduce.SCRIPTS / "cifar10.py"


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    place = tmp_path / "cifar"
    place.mkdir()
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        labels = rng.integers(0, 10, 26)
        # A class shows in the brightness, so that there is something to learn.
        images = np.clip(rng.normal(20 + 20 * labels[:, None], 15, (26, 3072)), 0, 255)
        np.concatenate([labels[:, None], images], axis=1).astype(np.uint8).tofile(place / name)
    return place


def test_it_trains_draws_and_measures(folder, tmp_path):
    command = [
        sys.executable,
        str(PATH),
        "--data",
        str(folder),
        "--epochs",
        "3",
        "--width",
        "4",
        "--lr",
        "1e-2",
    ]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("reproduced") == 2
    assert (tmp_path / "cifar10.png").exists()


def test_an_interrupted_training_goes_on(folder, tmp_path):
    names = reproduce.load(PATH).__globals__
    settings, train = names["Settings"], names["train"]
    whole = train(settings(folder, 2, 4), tmp_path / "whole.pt")
    calls = []

    def batches(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    original, names["batches"] = names["batches"], batches
    with pytest.raises(KeyboardInterrupt):
        train(settings(folder, 2, 4), tmp_path / "part.pt")
    names["batches"] = original
    resumed = train(settings(folder, 2, 4), tmp_path / "part.pt")
    np.testing.assert_array_equal(resumed["snapshots"][-1][1], whole["snapshots"][-1][1])
    assert [r.step for r in resumed["records"]] == [r.step for r in whole["records"]]


def test_weights_that_stay_outside_are_told(tmp_path):
    draw = reproduce.load(PATH).__globals__["draw"]
    start = np.array([3.0, -2.0, 0.1])
    for decay, verdict in ((0.9, "reproduced"), (0.99, "differs")):
        end = np.sign(start) * np.minimum(np.abs(start), 1 + np.maximum(np.abs(start) - 1, 0) * decay**60)
        result = {"snapshots": [(0, start), (60, end)], "records": [], "accuracy": 0.1, "lam": 1.0, "lr": 0.1}
        rows = reproduce.run(lambda out, full, result=result: draw(result, out), tmp_path)
        assert {row.verdict for row in rows} == {verdict}


def test_without_data_it_says_what_is_needed(monkeypatch, tmp_path):
    monkeypatch.delenv("LIONODE_CIFAR10", raising=False)
    (row,) = reproduce.run(reproduce.load(PATH), tmp_path)
    assert "LIONODE_CIFAR10" in row.verdict


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda place: (place / "data_batch_3.bin").unlink(), "has no data_batch_3.bin"),
        (lambda place: (place / "test_batch.bin").write_bytes(b"\x80\x04pickle"), "records of 3073 bytes"),
        (lambda place: (place / "data_batch_1.bin").write_bytes(b"\x7f" * 3073), "0 to 9"),
    ],
)
def test_other_files_are_refused(folder, tmp_path, spoil, word):
    spoil(folder)
    command = [sys.executable, str(PATH), "--data", str(folder), "--epochs", "1", "--width", "4"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert word in done.stderr.replace("\n", " ")


def test_each_image_is_shifted_and_mirrored_by_itself():
    import torch

    batches = reproduce.load(PATH).__globals__["batches"]
    rng = np.random.default_rng(0)
    image = rng.normal(size=(3, 32, 32)).astype(np.float32)
    images, labels = torch.from_numpy(np.stack([image] * 40)), torch.arange(40)
    ((batch, seen),) = batches(images, labels, rng)
    assert sorted(seen.tolist()) == list(range(40))
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
    crops = {
        padded[:, top : top + 32, left : left + 32][..., ::step].tobytes()
        for top in range(9)
        for left in range(9)
        for step in (1, -1)
    }
    found = [x.numpy().tobytes() for x in batch]
    assert set(found) <= crops
    assert len(set(found)) > 25
