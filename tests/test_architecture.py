"""The layers of the house, read from the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lionode

ROOT = Path(lionode.__file__).parent
LAYERS = (
    "_validate", "_processes", "storage", "_expression", "kappas", "objectives", "system", "presets",
    "optimum", "trajectory", "lyapunov", "flow", "updates", "torch", "ensemble", "rates", "phase", "plots",
    "worst_case", "verify", "reproduce", "cli",
)  # fmt: skip
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.name != "__init__.py")


def imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            names += [f"lionode.{a.name}" for a in node.names] if module == "lionode" else [module]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    # A new top-level module must be given its place before it can be tested.
    rank = LAYERS.index(own)
    for name in imported(path):
        if name.startswith("lionode."):
            assert LAYERS.index(name.split(".")[1]) <= rank, f"{own} imports {name}, which stands above it"
        if name.partition(".")[0] == "matplotlib":
            assert own == "plots", f"{path} imports matplotlib"


def test_optimum_stays_an_independent_reference():
    allowed = {"_validate", "kappas", "objectives", "system"}
    used = {name.split(".")[1] for name in imported(ROOT / "optimum.py") if name.startswith("lionode.")}
    assert used <= allowed
