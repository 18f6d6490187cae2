"""The book of claims: it holds, it can refuse, and the command line says so by its exit code."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

import lionode as ln
from lionode import verify
from lionode.cli import app
from lionode.lyapunov.certificate import Verdict

RUNNER = CliRunner()
KAPPA = ln.kappas.PseudoHuber(0.3)
SOME = [
    ("potential", KAPPA, None),
    ("flow", KAPPA, (0.35, 0.8)),
    ("updates", KAPPA, (0.35, 0.8)),
    ("step", KAPPA, (0.35, 0.8)),
    ("flow", ln.kappas.L1(), (0.35, 1.7)),
    ("potential", ln.kappas.TopK(2), None),
]


def test_the_book_has_every_potential_in_every_chapter() -> None:
    entries = verify.book()
    for what in ("potential", "flow", "updates", "step"):
        of = {kappa.name for chapter, kappa, _ in entries if chapter == what}
        assert of == set(ln.kappas.REGISTRY)


def test_pages_of_the_book_hold() -> None:
    seen: list[tuple[int, int]] = []
    claims = list(verify.verify(SOME, workers=1, progress=lambda done, total: seen.append((done, total))))
    verdicts = [claim.verdict for claim in claims]
    assert verdicts == [Verdict.HELD] * 5 + [Verdict.NOT_APPLICABLE]
    assert "no formula" in claims[-1].detail
    assert seen[-1] == (6, 6)


def test_a_wrong_weight_in_h_is_refused(monkeypatch) -> None:
    function = sys.modules["lionode.lyapunov.function"]
    right = function.weight
    monkeypatch.setattr(function, "weight", lambda system: -right(system))
    claims = list(verify.verify(SOME[1:2], workers=1))
    assert [claim.verdict for claim in claims] == [Verdict.VIOLATED]
    assert not json.loads(verify.to_json(claims))["holds"]
    monkeypatch.setattr(verify, "book", lambda: SOME[1:2])
    result = RUNNER.invoke(app, ["verify", "--workers", "1"])
    assert result.exit_code == 1
    assert "violated" in result.output


def test_a_run_that_stops_early_is_refused() -> None:
    f = ln.objectives.from_expression("-exp(x1**2)")
    own = verify.verify_system(ln.LionK(f, ln.kappas.Quadratic(), lam=0.2), [1.0], 50.0)
    assert not own.run.success
    assert not own.holds


def own(*extra: str, folder) -> object:
    words = [
        "verify",
        "--objective",
        "x1**4 + (x2-1)**2",
        "--kappa",
        "huber:0.3",
        "--figure",
        str(folder / "own"),
    ]
    return RUNNER.invoke(app, [*words, "--lam", "1.5", "--epsilon", "0.2", "--start", "2,-1", *extra])


def test_your_own_system(tmp_path) -> None:
    result = own(folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert "certificate: holds" in result.output
    assert (tmp_path / "own.png").stat().st_size > 1000
    assert (tmp_path / "own.pdf").stat().st_size > 1000
    tree = json.loads(own("--json", folder=tmp_path).output)
    assert tree["holds"]
    assert {claim["verdict"] for claim in tree["proofs"]} == {"held"}


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        (["--kappa", "hubber:0.3"], "got 'hubber'; did you mean 'huber'?"),
        (["--kappa", "huber:1,2"], "takes e after the colon, got '1,2'"),
        (["--gamma", "6"], "epsilon*gamma must be"),
        (["--start", "2"], "--start must be 2 numbers with commas, one for each of x1, x2; got '2'"),
        (["--start", "a,b"], "--start must be 2 numbers with commas, one for each of x1, x2; got 'a,b'"),
        (["--start", "nan,1"], "--start must be"),
        (["--worst-case"], "without --objective"),
        (["--objective", "__import__('os')"], "Invalid value"),
        (["--t-end", "-1"], "t_end must be"),
        (["--method", "euler"], "method must be one of"),
    ],
)
def test_bad_input_is_exit_code_2(extra, match, tmp_path) -> None:
    result = own(*extra, folder=tmp_path)
    assert result.exit_code == 2
    assert match in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("option", ["--kappa=huber:0.3", "--start=2,-1", "--lam=1.5", "--t-end=3"])
def test_what_would_be_ignored_is_exit_code_2(option) -> None:
    result = RUNNER.invoke(app, ["verify", option])
    assert result.exit_code == 2
    assert f"{option.split('=')[0]} needs --objective" in result.output


def test_a_system_whose_h_is_infinite_is_not_proved_nor_violated() -> None:
    f = ln.objectives.from_expression("x1**2 + (x2 - 1)**2")
    own = verify.verify_system(ln.LionK(f, ln.kappas.LogSumExp(), lam=0.0), [0.2, 0.1], 2.0)
    assert own.proofs[-1].verdict is Verdict.NOT_APPLICABLE
    assert "0 is not in dom κ*" in own.proofs[-1].detail
