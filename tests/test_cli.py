"""The command line: what it prints, where it writes, how it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lionode import cli, kappas, reproduce

runner = CliRunner()


def test_help_teaches_with_examples():
    result = runner.invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    assert "lionode reproduce fig1" in result.output
    assert "Exit codes" in result.output


def test_info_lists_the_catalogue():
    result = runner.invoke(cli.app, ["info"])
    assert result.exit_code == 0
    for name in kappas.REGISTRY:
        assert name in result.output


def test_reproduce_writes_figures_and_report(tmp_path):
    result = runner.invoke(cli.app, ["reproduce", "fig3", "--out", str(tmp_path / "figures")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "figures" / "fig3.pdf").exists()
    assert "fig3" in (tmp_path / "paper_repro.md").read_text(encoding="utf-8")


def test_a_claim_that_differs_ends_with_1(tmp_path, monkeypatch):
    row = reproduce.Row("fig3", "claim", "number", 2.0, high=1.0)
    monkeypatch.setattr(reproduce, "load", lambda path: lambda out, full: [row])
    result = runner.invoke(cli.app, ["reproduce", "fig3", "--out", str(tmp_path / "figures")])
    assert result.exit_code == 1
    assert "differs" in result.output


def test_an_unknown_figure_ends_with_2(tmp_path):
    result = runner.invoke(cli.app, ["reproduce", "fig99", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "fig99" in result.output


@pytest.mark.parametrize("broken", [FileNotFoundError("reproduce needs a checkout"), ValueError("bad")])
def test_an_error_is_one_line(broken, monkeypatch, capsys):
    def fail():
        raise broken

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == f"lionode: {broken}\n"


def test_without_a_checkout_reproduce_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "SCRIPTS", tmp_path / "scripts")
    with pytest.raises(FileNotFoundError, match="needs a checkout"):
        reproduce.find()


def test_a_script_runs_alone(tmp_path):
    command = [sys.executable, str(reproduce.SCRIPTS / "fig3.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "fig3" in done.stdout
    assert (tmp_path / "fig3.png").exists()


def test_what_is_missing_is_told_in_full(tmp_path, monkeypatch):
    row = reproduce.Row("fig3", "claim", "number", float("nan"), high=1.0, untested="needs 'lionode[train]'")
    monkeypatch.setattr(reproduce, "load", lambda path: lambda out, full: [row])
    result = runner.invoke(
        cli.app, ["reproduce", "fig3", "--out", str(tmp_path / "figures")], terminal_width=200
    )
    assert result.exit_code == 0
    assert "[train]" in result.output
