"""The torch optimizer against `iterate`, and what it has to live with: groups, schedules, scalers."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
from tables import KAPPAS

import lionode as ln

torch = pytest.importorskip("torch")

from lionode.torch import LionK, Monitor, subgradient  # noqa: E402

ROUNDING = 1e-12
"""Of some dozens of updates, relative to numbers of order 1."""

BY_ID = {row.id: row for row in KAPPAS}


def quadratic(d, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d))
    return root @ root.T / d + 0.3 * np.eye(d), rng.normal(size=d)


def tensor(values, dtype=torch.float64):
    return torch.nn.Parameter(torch.as_tensor(values, dtype=dtype).clone())


@pytest.mark.parametrize("row", KAPPAS, ids=lambda row: row.id)
def test_subgradient_is_that_of_kappa(row):
    rng = np.random.default_rng(3)
    points = rng.normal(size=(60, row.dim)) * 10.0 ** rng.uniform(-3, 2, (60, 1))
    points[:10, 0] = 0.0
    points[10] = 0.0
    points[11:14] = np.sign(points[11:14])
    if row.kappa.kinks is not None:
        points[14:18] = rng.choice(row.kappa.kinks, size=(4, row.dim))
    for z in points:
        got = subgradient(row.kappa, torch.as_tensor(z)).numpy()
        np.testing.assert_allclose(got, row.kappa.subgradient(z), rtol=1e-13, atol=1e-13)
        # A tensor of another shape, and not contiguous, is its components row by row.
        shaped = torch.as_tensor(np.stack([z, z], axis=-1))[:, :1]
        assert torch.equal(subgradient(row.kappa, shaped).flatten(), torch.as_tensor(got))


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("decay", ["explicit", "implicit"])
@pytest.mark.parametrize("look_ahead", ["current", "next"])
@pytest.mark.parametrize("row", KAPPAS, ids=lambda row: row.id)
def test_it_is_iterate(row, decay, look_ahead, foreach):
    matrix, b = quadratic(row.dim)
    f = ln.objectives.quadratic(matrix, b)
    numbers = {"lr": 0.03, "beta1": 0.7, "beta2": 0.9, "lam": 0.4}
    system = ln.LionK.from_optimizer(f, row.kappa, **numbers)
    x0 = np.linspace(1.2, -0.9, row.dim)
    run = ln.iterate(system, x0, 25, decay=decay, look_ahead=look_ahead, compiled=False)
    x = tensor(x0)
    optimizer = LionK(
        [x], 0.03, (0.7, 0.9), 0.4, row.kappa, decay=decay, look_ahead=look_ahead, foreach=foreach
    )
    a, c = torch.as_tensor(matrix), torch.as_tensor(b)
    for _ in range(25):
        optimizer.zero_grad()
        (x @ a @ x / 2 - c @ x).backward()
        optimizer.step()
    np.testing.assert_allclose(x.detach().numpy(), run.x[-1], rtol=ROUNDING, atol=ROUNDING)
    momentum = optimizer.state[x]["momentum"].numpy()
    np.testing.assert_allclose(momentum, run.m[-1], rtol=ROUNDING, atol=ROUNDING)


def network(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    layers = torch.nn.Conv2d(1, 3, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(12, 5)
    return torch.nn.Sequential(*layers).to(dtype)


DATA = torch.linspace(-1, 1, 8 * 16).reshape(8, 1, 4, 4)


def train(model, optimizer, steps, scheduler=None):
    for _ in range(steps):
        optimizer.zero_grad()
        model(DATA.to(next(model.parameters()).dtype)).square().mean().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("kappa", ["l1", "huber:0.3", "lp:1.5"])
def test_tensors_of_any_shape_together_or_one_by_one(kappa):
    ends = []
    for foreach in (False, True):
        model = network()
        ends.append(train(model, LionK(model.parameters(), 1e-2, kappa=kappa, foreach=foreach), 20))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


def test_groups_have_their_own_numbers():
    model = network()
    head = list(model[3].parameters())
    optimizer = LionK(
        [
            {"params": model[0].parameters()},
            {"params": head, "lr": 1e-3, "weight_decay": 0.5, "kappa": ln.kappas.Huber(0.2)},
        ],
        lr=1e-2,
    )
    assert [group["kappa"]["name"] for group in optimizer.param_groups] == ["l1", "huber"]
    before = [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, 1)
    moved = [float((p.detach() - old).abs().max()) for p, old in zip(model.parameters(), before, strict=True)]
    assert moved[0] == pytest.approx(1e-2, rel=1e-5)
    assert max(moved[2:]) <= 1.5e-3


@pytest.mark.parametrize("kappa", [ln.kappas.Huber(0.3), ln.kappas.from_expression("cosh(z/2)")])
def test_a_checkpoint_goes_on_as_if_nothing_had_been(kappa):
    model = network()
    optimizer = LionK(model.parameters(), 1e-2, weight_decay=0.3, kappa=kappa)
    train(model, optimizer, 7)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = network(seed=9)
    resumed = LionK(other.parameters(), 1.0)
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert torch.equal(train(other, resumed, 7), train(model, optimizer, 7))


def test_schedulers_set_the_learning_rate():
    model = network()
    optimizer = LionK(model.parameters(), 1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.1)
    train(model, optimizer, 4, scheduler)
    before = [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, 1)
    moved = max(
        float((p.detach() - old).abs().max()) for p, old in zip(model.parameters(), before, strict=True)
    )
    assert moved == pytest.approx(1e-4, rel=1e-2)


def test_a_closure_is_called_and_its_loss_returned():
    x = tensor([1.0, -2.0])
    optimizer = LionK([x], 0.1)

    def closure():
        optimizer.zero_grad()
        loss = x.square().sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 5.0
    assert x.tolist() == pytest.approx([0.9, -1.9])


def test_a_scaler_skips_a_step_with_an_overflow():
    x = tensor([1.0, -2.0], torch.float32)
    optimizer = LionK([x], 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(x.square().sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(optimizer.state[x]["momentum"], torch.tensor([-0.02, 0.04]))
    after = x.detach().clone()
    optimizer.zero_grad()
    scaler.scale(x.sum() * float("inf")).backward()
    scaler.step(optimizer)
    assert torch.equal(x.detach(), after)


def test_under_autocast():
    model = network()
    optimizer = LionK(model.parameters(), 1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(DATA).float().square().mean()
    loss.backward()
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("row", KAPPAS, ids=lambda row: row.id)
def test_it_steps_in_sixteen_bits(row, dtype):
    x = tensor(np.linspace(1.2, -0.9, row.dim), dtype)
    optimizer = LionK([x], 0.125, (0.0, 0.0), kappa=row.kappa)
    x.grad = torch.linspace(-2, 1, row.dim).to(dtype)
    before, z = x.detach().double(), -x.grad.double()
    optimizer.step()
    u = torch.as_tensor(row.kappa.subgradient(z.numpy()))
    # u and x are each rounded a few times, relative to their size.
    rounding = 8 * torch.finfo(dtype).eps * float(before.abs().max() + u.abs().max())
    torch.testing.assert_close(x.detach().double(), before + 0.125 * u, rtol=0, atol=rounding)


def test_empty_parameters_are_passed_over():
    x, empty = tensor([1.0]), tensor(np.zeros((0, 3)))
    x.grad, empty.grad = torch.ones_like(x), torch.ones_like(empty)
    optimizer = LionK([x, empty], 0.1, weight_decay=0.5, kappa="lp:1.5")
    monitor = Monitor(optimizer)
    optimizer.step()
    assert x.item() == pytest.approx(0.85)
    assert monitor.record(1, 0.0).max_ratio == pytest.approx(0.425)


def test_a_copy_goes_on_by_itself():
    x = tensor([1.0, -2.0])
    x.grad = torch.ones_like(x)
    optimizer = LionK([x], 0.1, kappa=ln.kappas.Huber(0.3))
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    (other,) = twin.param_groups[0]["params"]
    other.grad = torch.ones_like(other)
    twin.step()
    assert not torch.equal(other, x)
    optimizer.step()
    assert torch.equal(other, x)


def test_parameters_without_a_gradient_stay():
    x, still = tensor([1.0]), tensor([2.0])
    optimizer = LionK([x, still], 0.1, weight_decay=0.5)
    x.square().sum().backward()
    optimizer.step()
    assert still.item() == 2.0
    assert still not in optimizer.state


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"lr": 0.0}, ValueError, "lr"),
        ({"lr": float("nan")}, ValueError, "lr"),
        ({"lr": "fast"}, TypeError, "lr must be a real number, got 'fast'"),
        ({"lr": None}, TypeError, "lr must be a real number"),
        ({"foreach": "yes"}, TypeError, "foreach must be True, False or None"),
        ({"betas": 0.9}, TypeError, "betas"),
        ({"betas": (0.99, 0.9)}, ValueError, "beta1 and beta2"),
        ({"betas": (0.9, 1.0)}, ValueError, "beta1 and beta2"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay"),
        ({"kappa": "l7"}, ValueError, "kappa"),
        ({"kappa": 3}, TypeError, "kappa"),
        ({"decay": "none"}, ValueError, "decay"),
        ({"look_ahead": "later"}, ValueError, "look_ahead"),
    ],
)
def test_bad_arguments_are_named(arguments, error, word):
    with pytest.raises(error, match=word):
        LionK([tensor([1.0])], **arguments)


def test_what_cannot_be_updated_is_refused():
    complex_one = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    complex_one.abs().sum().backward()
    with pytest.raises(TypeError, match="complex"):
        LionK([complex_one], 0.1).step()
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(TypeError, match="sparse"):
        LionK(table.parameters(), 0.1).step()
    rows = torch.nn.Parameter(torch.eye(3).to_sparse_csr())
    rows.grad = torch.eye(3).to_sparse_csr()
    with pytest.raises(TypeError, match="sparse"):
        LionK([rows], 0.1).step()
    x = tensor(np.ones(5))
    x.sum().backward()
    with pytest.raises(ValueError, match="acts on 6 weights"):
        LionK([x], 0.1, kappa=ln.kappas.Nuclear((2, 3))).step()
    with pytest.raises(TypeError, match="optimizer"):
        Monitor(torch.optim.SGD([x], 0.1))


def test_the_monitor_sees_weights_enter_the_box():
    x = tensor([3.0, 0.2, -2.5, 0.1])
    optimizer = LionK([x], 0.05, weight_decay=1.0)
    monitor = Monitor(optimizer)
    assert monitor.record(0).share_outside == 0.5
    assert monitor.records[0].max_ratio == pytest.approx(3.0)
    assert np.isnan(monitor.records[0].h)
    for _ in range(200):
        optimizer.zero_grad()
        x.square().sum().backward()
        optimizer.step()
    last = monitor.record(200)
    assert last.share_outside == 0.0
    assert last.max_ratio < 1
    assert np.isnan(Monitor(LionK([tensor([9.0])])).record(0).share_outside)
    near = LionK([tensor([1.005, 1.02])], weight_decay=1.0)
    assert [Monitor(near, margin).record(0).share_outside for margin in (0.0, 0.01, 0.1)] == [1.0, 0.5, 0.0]
    with pytest.raises(ValueError, match="margin"):
        Monitor(near, -0.1)


@pytest.mark.parametrize("decay", ["explicit", "implicit"])
@pytest.mark.parametrize("lam", [0.0, 0.4])
@pytest.mark.parametrize("kappa", [ln.kappas.L1(), ln.kappas.PseudoHuber(0.3), ln.kappas.Quadratic()])
def test_the_monitors_h_is_that_of_the_discrete_theorem(kappa, lam, decay):
    matrix, b = quadratic(4)
    lr, beta1, beta2 = 0.02, 0.8, 0.95
    x = tensor([0.7, -0.4, 0.3, 0.6])
    optimizer = LionK([x], lr, (beta1, beta2), lam, kappa, decay=decay)
    monitor = Monitor(optimizer)
    a, c = torch.as_tensor(matrix), torch.as_tensor(b)
    for k in range(30):
        optimizer.zero_grad()
        loss = x @ a @ x / 2 - c @ x
        monitor.record(k, loss.item())
        loss.backward()
        optimizer.step()
    eta = lr / (1 - lr * lam) if decay == "explicit" else lr
    weight = eta * beta1 / (eta * lam * (1 - beta1) + 1 - beta2)
    point = x.detach().numpy()
    m = optimizer.state[x]["momentum"].numpy()
    value = point @ matrix @ point / 2 - b @ point
    y = kappa.conjugate(lam * point)
    pair = y + kappa.value(m) - lam * (m @ point)
    # At λ = 0 the term κ*(λx)/λ has the limit 0, κ being least at 0; its constant is κ*(0)/λ, left out.
    expected = value + (y / lam if lam else 0.0) + weight * pair
    assert monitor.record(30, value).h == pytest.approx(expected, rel=1e-12)
    if kappa.smooth:
        assert np.diff([record.h for record in monitor.records]).max() <= 1e-12


def test_outside_the_domain_h_is_infinite():
    monitor = Monitor(LionK([tensor([3.0])], 0.1, weight_decay=1.0))
    assert monitor.record(0, 1.0).h == np.inf
    with pytest.raises(ValueError, match="weight_decay < 1"):
        Monitor(LionK([tensor([0.1])], 2.0, weight_decay=1.0)).record(0, 1.0)
