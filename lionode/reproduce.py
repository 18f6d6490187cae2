"""The figures and tables of scripts/, their measured rows, and the report that is written from those."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lionode import kappas, plots, storage
from lionode._processes import as_they_finish

__all__ = [
    "Row",
    "Script",
    "alone",
    "catalogue",
    "find",
    "load",
    "measure",
    "remember",
    "report",
    "run",
    "run_all",
    "sign_test",
]

RESULTS = "results.json"
CONTACT = "contact.png"
NUMBERS = ("number", "low", "high")
RESTS_ON = ("numpy", "scipy", "sympy", "numba", "matplotlib", "scikit-learn", "torch", "cvxpy", "clarabel")
"""Packages of another version of which results are computed anew."""

PACKAGE = Path(__file__).resolve().parent
CACHE = "LIONODE_CACHE"
SCRIPTS = PACKAGE.parent / "scripts"
"""The scripts are part of a checkout, not of an installed package."""

Script = Callable[[Path, bool], "list[Row]"]
"""``run(out, full)``: computes, draws into ``out``, and returns what it measured."""


@dataclass(frozen=True)
class Row:
    """A claim and the number measured for it.

    Parameters
    ----------
    id : str
        The figure or table.
    claim, quantity : str
        What is claimed, and what was measured to test it.
    number : float
        The measurement.
    low, high : float
        The claim is reproduced if ``low ≤ number ≤ high``.
    setup : str
        What of the problem is as published, and what was chosen here.
    untested : str
        Why it cannot be measured on this machine; the number is NaN then.
    known : str
        What is known of why it differs, if it does.
    """

    id: str
    claim: str
    quantity: str
    number: float
    low: float = -math.inf
    high: float = math.inf
    setup: str = "chosen here"
    untested: str = ""
    known: str = ""

    def __post_init__(self) -> None:
        if self.low == -math.inf and self.high == math.inf:
            raise ValueError(f"the row {self.quantity!r} of {self.id} needs a bound: it could not fail")

    @property
    def verdict(self) -> str:
        """ "reproduced", "differs" or "not testable here", the latter two with the reason."""
        if self.untested:
            return f"not testable here: {self.untested}"
        if self.low <= self.number <= self.high:
            return "reproduced"
        return f"differs: {self.known}" if self.known else "differs"

    @property
    def bound(self) -> str:
        """The accepted range in words."""
        if self.low == -math.inf:
            return f"≤ {self.high:.3g}"
        if self.high == math.inf:
            return f"≥ {self.low:.3g}"
        return f"{self.low:.3g} … {self.high:.3g}"

    def __str__(self) -> str:
        return f"{self.id}: {self.claim}: {self.quantity} = {self.number:.3g} ({self.bound}): {self.verdict}"


def find() -> dict[str, Path]:
    """The scripts by name.

    Raises
    ------
    FileNotFoundError
        If lionode does not run from a checkout.
    """
    if not SCRIPTS.is_dir():
        raise FileNotFoundError(
            "reproduce needs a checkout of lionode with its scripts/: clone it, then make reproduce"
        )
    return {
        path.stem: path for path in sorted(SCRIPTS.glob("[a-z]*.py"), key=lambda path: natural(path.stem))
    }


def load(path: Path) -> Script:
    """The ``run`` of a script."""
    spec = importlib.util.spec_from_file_location(f"lionode_script_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a script")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    script: Script = module.run
    return script


def run(script: Script, out: Path, full: bool = False) -> list[Row]:
    """Run one script in the style of all figures, and keep its rows in ``out/results.json``."""
    with plots.context(), _whole():
        rows = script(out, full)
    _keep(rows, out)
    return rows


class _Stop(BaseException):
    """An interrupt that no integrator answers with what it has so far."""


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """What runs here is interrupted as a whole: half a run must not be taken for a result and be kept."""

    def stop(*_: object) -> None:
        raise _Stop

    # Elsewhere, in another process or thread, an interrupt does not come as an exception.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    except _Stop:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def run_all(
    paths: Sequence[Path], out: Path, full: bool = False, workers: int | None = None
) -> Iterator[tuple[list[Row], bool]]:
    """`run` scripts on all processors, each unless it has run before just like this: see `measure`.

    Yields
    ------
    rows, cached
        As `measure`, in the order in which they finish.
    """
    for rows, cached in as_they_finish(measure, [(path, out, full) for path in paths], workers):
        _keep(rows, out)
        yield rows, cached


def measure(job: tuple[Path, Path, bool]) -> tuple[list[Row], bool]:
    """The rows of a script, and its figures in a folder; from the cache if it has run before just like this.

    What it is and all that it rests on decides: the script, the package, the versions of what it calls, the
    ``LIONODE_…`` variables, and whether everything is asked for. Nothing is kept of a script that could not
    test something; one that misses an optional package says so in its row.

    Parameters
    ----------
    job : (script, out, full)

    Returns
    -------
    rows : list of Row
    cached : bool
        Whether they came from the cache.
    """
    path, out, full = job
    kept = cache_folder() / f"{path.stem}-{_fingerprint(path, str(full))}"
    found = kept / RESULTS
    if found.exists():
        _copy_figures(path.stem, kept, out)
        return _read(found)[path.stem], True
    try:
        with plots.context(), _whole():
            rows = load(path)(out, full)
    except ImportError as error:
        if not _is_missing(error):
            raise
        everything = "all that it claims", "all that it measures"
        rows = [Row(path.stem, *everything, math.nan, high=0.0, untested=str(error))]
    if not any(row.untested for row in rows):
        kept.mkdir(parents=True, exist_ok=True)
        _copy_figures(path.stem, out, kept)
        _keep(rows, kept)
    return rows, False


def _is_missing(error: ImportError) -> bool:
    """Whether it is for a package that is not installed, and not for a mistake in a script."""
    return error.name is not None and importlib.util.find_spec(error.name.partition(".")[0]) is None


def _copy_figures(name: str, source: Path, target: Path) -> None:
    for figure in (source / f"{name}.png", source / f"{name}.pdf"):
        if figure.exists():
            storage.write_atomically(target / figure.name, figure.read_bytes())


def remember(
    compute: Callable[..., dict[str, Any]], *arguments: Any, path: str | os.PathLike[str]
) -> dict[str, Any]:
    """``compute(*arguments)``, or what it returned when it was last called so; for what takes long.

    An interrupted script goes on with what it had computed before.

    Parameters
    ----------
    compute : callable
        Of plain arguments, to a dict of numbers, texts, lists and arrays.
    path : path
        The script, ``__file__``: a changed one computes anew, a changed style only draws anew.
    """
    script = Path(path)
    key = _fingerprint(script, compute.__name__, *map(repr, arguments), drawing=False)
    place = cache_folder() / "computed" / f"{script.stem}-{key}.npz"
    if place.exists():
        return storage.read(place)
    result = compute(*arguments)
    place.parent.mkdir(parents=True, exist_ok=True)
    storage.write(place, result)
    return result


def sign_test(values: ArrayLike) -> float:
    """The probability that as many of the values, or more, are positive if each sign is a fair coin's."""
    array = np.asarray(values)
    return float(stats.binomtest(int((array > 0).sum()), array.size, alternative="greater").pvalue)


def cache_folder() -> Path:
    """Where results are kept between runs: below ``LIONODE_CACHE``, or the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(CACHE) or home / "lionode") / "reproduce"


def _fingerprint(script: Path, *words: str, drawing: bool = True) -> str:
    versions = [f"{name} {_version(name)}" for name in RESTS_ON]
    given = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("LIONODE_") and k != CACHE]
    digest = hashlib.sha256("\0".join((*versions, *given, *words)).encode())
    for path in (script, *sorted(PACKAGE.rglob("*.py"))):
        if drawing or path.parent != PACKAGE / "plots":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _keep(rows: list[Row], out: Path) -> None:
    """Put the rows of a script into ``out/results.json`` beside those of the others."""
    path = out / RESULTS
    kept = _read(path) if path.exists() else {}
    kept[rows[0].id] = rows
    plain = {name: [_plain(row) for row in kept[name]] for name in sorted(kept, key=natural)}
    text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False)
    storage.write_atomically(path, f"{text}\n".encode())


def _plain(row: Row) -> dict[str, Any]:
    """JSON has no infinities and no NaN: they are texts there."""
    cells = {key: float(value) if key in NUMBERS else value for key, value in asdict(row).items()}
    return {k: v if isinstance(v, str) or math.isfinite(v) else str(v) for k, v in cells.items()}


def _read(path: Path) -> dict[str, list[Row]]:
    def row(cells: dict[str, Any]) -> Row:
        return Row(**cells | {key: float(cells[key]) for key in NUMBERS})

    kept = json.loads(path.read_text(encoding="utf-8"))
    return {name: [row(cells) for cells in rows] for name, rows in kept.items()}


def natural(name: str) -> tuple[bool, str, int]:
    """A key that puts fig2 before fig10, and the paper's figures and tables first."""
    head = name.rstrip("0123456789")
    return head not in ("fig", "tab"), head, int(name[len(head) :] or 0)


def report(out: Path, target: Path) -> list[Row]:
    """Write the table of all rows measured so far and a contact sheet of their figures; return the rows."""
    kept = _read(out / RESULTS)
    rows = [row for rows in kept.values() for row in rows]
    storage.write_atomically(target, (HEADER + "".join(_lines(rows, out, target.parent))).encode())
    pictures = [out / f"{name}.png" for name in kept if (out / f"{name}.png").exists()]
    if pictures:
        plots.contact_sheet(pictures, out / CONTACT)
    return rows


def catalogue() -> str:
    """The κ catalogue as a Markdown table, from the registry."""
    head = "| name | κ(z) | κ*(y) | the problem |\n|---|---|---|---|\n"
    cells = (
        (f"`{kappa.__name__}`", kappa.formula, kappa.conjugate_formula, kappa.problem)
        for kappa in kappas.REGISTRY.values()
    )
    return head + "".join(f"| {' | '.join(c.replace('|', BAR) for c in row)} |\n" for row in cells)


BAR = "∣"
"""Stands for | where that would end a cell of a Markdown table."""

HEADER = """# What of the paper reproduces

Written by `lionode reproduce` from the numbers that it measured; a row changes only when its
figure is run again. The paper's own plots are not here: where a setup is not stated in its text it was
chosen here, and the row says so.

| id | claim | measured | number | needed | verdict | setup | command |
|---|---|---|---|---|---|---|---|
"""


def _lines(rows: list[Row], out: Path, base: Path) -> Iterator[str]:
    def link(name: str) -> str:
        picture = out / f"{name}.png"
        return f"[{name}]({os.path.relpath(picture, base)})" if picture.exists() else name

    for row in rows:
        cells = [
            link(row.id), row.claim, row.quantity, "" if row.untested else f"{row.number:.3g}", row.bound,
            row.verdict, row.setup, f"`lionode reproduce {row.id}`",
        ]  # fmt: skip
        yield f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |\n"


def alone(script: Script) -> None:
    """Run a script from its own command line: ``python scripts/fig1.py --out figures``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figures")
    parser.add_argument("--full", action="store_true", help="everything at full length")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for row in run(script, arguments.out, arguments.full):
        print(row)
