"""`lionode ...`: a thin layer over the library."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import numba
import numpy as np
import scipy
import sympy as sp
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Column, Table

from lionode import kappas, objectives, plots, reproduce
from lionode import verify as verification
from lionode.ensemble import Study, sweep, sweep_status
from lionode.lyapunov.certificate import Verdict
from lionode.phase import start_grid
from lionode.system import LionK

__all__ = ["app", "main"]

EXTRAS = {
    "data": ("xarray", "netCDF4", "zarr"),
    "sweep": ("dask", "distributed"),
    "train": ("sklearn", "torch"),
    "worst-case": ("PEPit", "cvxpy", "clarabel"),
}
"""What each optional extra brings, by import name."""

app = typer.Typer(
    name="lionode",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""The continuous-time dynamics of the Lion optimizer family.

[bold]Examples[/bold]

    lionode reproduce                the quick figures, into figures/

    lionode reproduce fig1 fig3      only these

    lionode reproduce --out /tmp/f   somewhere else

    lionode verify                   every proof, every potential, a grid of systems

    lionode verify --objective "x1**4 + (x2-1)**2" --kappa huber:0.3 --lam 1.5 --start 2,-1

    lionode portrait --objective "(x1-0.8)**2" --kappa l1 --kappa huber:0.3 --lam 0.7,1.8

    lionode portrait --objective "(x1**2+x2-11)**2 + (x1+x2**2-7)**2" --limits 5 --lam 0.2 --map basins

    lionode sweep study.toml         a grid of runs, resumable; --help shows a study file

    lionode info                     versions, the potentials, what is installed

Exit codes: 0 done, 1 something did not hold or could not run, 2 a wrong argument.""",
)
console = Console()


@app.command("reproduce")
def reproduce_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Figures and tables, e.g. fig1; all of them by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for figures and measured numbers.")] = Path("figures"),
    full: Annotated[bool, typer.Option("--full", help="Everything at full length.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything, whatever was kept.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a CPU by default.")] = None,
) -> None:
    """Draw the paper's figures from real runs, and write paper_repro.md beside the folder from their numbers.

    What has run before, with the same code, is taken from the cache; so an interrupted command goes on where
    it was. Exit code 1 if a claim did not reproduce for no known reason.
    """
    scripts = reproduce.find()
    chosen = list(dict.fromkeys(names or scripts))
    unknown = [name for name in chosen if name not in scripts]
    if unknown:
        raise typer.BadParameter(f"no figure {', '.join(unknown)}; there are {', '.join(scripts)}")
    out.mkdir(parents=True, exist_ok=True)
    if fresh:
        shutil.rmtree(reproduce.cache_folder(), ignore_errors=True)
    rows, known = [], 0
    columns = (SpinnerColumn(), *Progress.get_default_columns()[:-1], TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(chosen))
        try:
            for measured, cached in reproduce.run_all([scripts[name] for name in chosen], out, full, workers):
                rows += measured
                known += cached
                progress.update(task, advance=1, description=measured[0].id)
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from here", highlight=False)
            raise typer.Exit(130) from None
    rows.sort(key=lambda row: reproduce.natural(row.id))
    target = out.resolve().parent / "paper_repro.md"
    reproduce.report(out.resolve(), target)
    _show(rows)
    reused = f", {known} of {len(chosen)} from {reproduce.cache_folder()}" if known else ""
    console.print(f"figures in {out}{reused}; all measured rows in {target}", highlight=False)
    if any(row.verdict == "differs" for row in rows):
        raise typer.Exit(1)


def _show(rows: list[reproduce.Row]) -> None:
    heads = ("", "claim", "measured", "number", "needed", "verdict")
    table = Table(*(Column(head, overflow="fold") for head in heads), box=None)
    for row in rows:
        color = {"reproduced": "green", "differs": "red"}.get(row.verdict, "yellow")
        texts = map(escape, (row.id, row.claim, row.quantity, f"{row.number:.3g}", row.bound))
        table.add_row(*texts, f"[{color}]{escape(row.verdict)}")
    console.print(table)


OWN = ("kappa", "start", "alpha", "gamma", "epsilon", "lam", "t_end", "method", "figure")
"""The options of `verify` that say something about one's own system only."""


@app.command("verify")
def verify_command(
    context: typer.Context,
    objective: Annotated[str | None, typer.Option(help='Your own f, e.g. "x1**4 + (x2-1)**2".')] = None,
    kappa: Annotated[str, typer.Option(help="A potential by name, e.g. l1, huber:0.3, lp:1.5.")] = "l1",
    start: Annotated[str | None, typer.Option(help="x at t = 0, e.g. 2,-1; ones by default.")] = None,
    alpha: Annotated[float, typer.Option(help="α > 0.")] = 1.0,
    gamma: Annotated[float, typer.Option(help="γ ≥ 0.")] = 1.0,
    epsilon: Annotated[float, typer.Option(help="ε ≥ 0, with εγ ≤ 1.")] = 0.5,
    lam: Annotated[float, typer.Option(help="λ ≥ 0.")] = 1.5,
    t_end: Annotated[float, typer.Option(help="How long to simulate.")] = 20.0,
    method: Annotated[str, typer.Option(help="An integrator by name.")] = "auto",
    figure: Annotated[Path, typer.Option(help="Where to draw your own system, without ending.")] = Path(
        "lionode-verify"
    ),
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a CPU by default.")] = None,
    worst_case: Annotated[
        bool,
        typer.Option("--worst-case", help="Instead what holds for whole classes of f and κ, by programmes."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Verify every claim, or with --objective those about your own system, which is then drawn too.

    Exit code 0 if everything holds, 1 if something is violated, 2 for a wrong argument.
    """
    sources = {name: context.get_parameter_source(name) for name in OWN}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if objective is None and given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise typer.BadParameter(f"{names} needs --objective: without it the whole book is verified")
    if objective is not None and worst_case:
        raise typer.BadParameter("--worst-case is about all f and κ: it goes without --objective")
    if objective is not None:
        try:
            f = objectives.from_expression(objective)
            system = LionK(f, kappas.parse(kappa), alpha, gamma, epsilon, lam)
            x0 = [1.0] * f.dim if start is None else _start(start, f)
            own = verification.verify_system(system, x0, t_end, method=method)
        except (TypeError, ValueError) as error:
            raise typer.BadParameter(str(error)) from None
        _own(own, figure, as_json)
        raise typer.Exit(0 if own.holds else 1)
    errors = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=errors) as bar:
        task = bar.add_task("claims", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if worst_case:
            claims = list(verification.worst_cases(show))
        else:
            claims = sorted(
                verification.verify(None, workers, show), key=lambda claim: (claim.claim, claim.subject)
            )
    if as_json:
        print(verification.to_json(claims))
    else:
        table = Table("claim", "of", "verdict", "", box=None)
        for claim in claims:
            table.add_row(claim.claim, claim.subject, _colored(claim.verdict), claim.detail)
        console.print(table)
    if any(claim.verdict is Verdict.VIOLATED for claim in claims):
        raise typer.Exit(1)


def _start(text: str, f: objectives.Objective) -> list[float]:
    """The numbers of --start, one for each variable of f."""
    try:
        x0 = [float(word) for word in text.split(",")]
    except ValueError:
        x0 = []
    if len(x0) != f.dim or not np.isfinite(x0).all():
        of = ", ".join(map(str, f.symbols))
        needed = f"{f.dim} numbers with commas, one for each of" if f.dim > 1 else "a number for"
        raise ValueError(f"--start must be {needed} {of}; got {text!r}")
    return x0


def _colored(verdict: Verdict) -> str:
    color = {Verdict.HELD: "green", Verdict.VIOLATED: "red", Verdict.NOT_APPLICABLE: "dim"}[verdict]
    return f"[{color}]{verdict}[/{color}]"


def _own(own: verification.Own, place: Path, as_json: bool) -> None:
    """Print what was found of one's own system, and draw it."""
    if as_json:
        proofs = json.loads(verification.to_json(list(own.proofs)))["claims"]
        result = {"holds": own.holds, "proofs": proofs, "certificate": json.loads(own.certificate.to_json())}
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        for claim in own.proofs:
            console.print(f"{claim.claim} ({claim.subject}): {_colored(claim.verdict)}, {claim.detail}")
        console.print(f"{own.run.method}: {own.run.message}", highlight=False)
        console.print(str(own.certificate), highlight=False, markup=False, soft_wrap=True)
    with plots.context():
        paths = plots.save(plots.verification(own.run, own.certificate), place.name, place.parent)
    if not as_json:
        console.print(f"drawn in {' and '.join(map(str, paths))}", highlight=False)


@app.command("portrait")
def portrait_command(
    objective: Annotated[str, typer.Option(help='f of one or two variables, e.g. "(x1-0.8)**2".')],
    kappa: Annotated[
        list[str] | None, typer.Option(help="A potential, e.g. huber:0.3; may be repeated.")
    ] = None,
    lam: Annotated[str, typer.Option(help="λ, or several: 0.6,1.5.")] = "0.7",
    alpha: Annotated[float, typer.Option(help="α > 0.")] = 1.0,
    gamma: Annotated[float, typer.Option(help="γ > 0.")] = 1.0,
    epsilon: Annotated[float, typer.Option(help="ε ≥ 0, with εγ ≤ 1.")] = 0.5,
    starts: Annotated[int, typer.Option(min=0, help="Trajectories in a panel, from a ring.")] = 8,
    t_end: Annotated[float, typer.Option(help="How long they are followed.")] = 20.0,
    limits: Annotated[
        str, typer.Option(help="Half the width of each panel, or its limits: -5,5,-80,80.")
    ] = "2",
    plane: Annotated[
        str | None, typer.Option(help="Two of x1, x2, m1, m2, e.g. x1,m1; x1,x2 by default.")
    ] = None,
    held: Annotated[
        str, typer.Option(help="Where other coordinates are held, e.g. x2=0.5,m2=1; 0 by default.")
    ] = "",
    levels: Annotated[str | None, typer.Option(help="Level sets of f, F or H.")] = None,
    map_: Annotated[
        str | None, typer.Option("--map", help="Colour starts by basins, entry or settling.")
    ] = None,
    cells: Annotated[int, typer.Option(min=2, help="Starts along each axis of a map or a film.")] = 61,
    within: Annotated[float, typer.Option(help="A settled flow stays this near to its limit.")] = 1e-3,
    animate: Annotated[
        Path | None, typer.Option(help="Write a film instead: .mp4 (with ffmpeg) or .gif.")
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="Frames of the film.")] = 120,
    out: Annotated[Path, typer.Option(help="Where to draw, without ending.")] = Path("lionode-portrait"),
) -> None:
    """Draw phase portraits, a panel for each κ and λ.

    For one variable the (x, m) plane with nullclines, switching lines and sliding segments; for two the plane
    of x, or of any two of x1, x2, m1, m2, with level sets and the constraint set. All equilibria are marked
    with their kinds. Examples:

    \b
        lionode portrait --objective "(x**2-1)**2/4 + x/10" --kappa l1 --lam 0.6,1.3
        lionode portrait --objective "(x1**2+x2-11)**2 + (x1+x2**2-7)**2" --limits 5 \\
            --kappa pseudo-huber:0.05 --lam 0.2,0.3 --map basins
        lionode portrait --objective "(x1-1.5)**2 + x2**2" --plane x1,m1 --held x2=0.5 --levels H
        lionode portrait --objective "x1**4 + (x2-1)**2" --kappa huber:0.3 --map settling --t-end 40
        lionode portrait --objective "x1**4 + (x2-1)**2" --kappa huber:0.3 --animate flow.gif
    """
    try:
        f = objectives.from_expression(objective)
        potentials = [kappas.parse(text) for text in kappa or ["l1"]]
        systems = [
            LionK(f, k, alpha, gamma, epsilon, value) for k in potentials for value in _numbers("lam", lam)
        ]
        (left, right), (low, high) = x, y = _limits(limits)
        shown: dict[str, Any] = {
            "t_end": t_end, "x": x, "y": y, "plane": _pair(plane), "held": _values(held), "levels": levels,
            "within": within,
        }  # fmt: skip
        with plots.context():
            if animate is None:
                angle = 2 * np.pi * (np.arange(starts) + 0.5) / max(1, starts)
                ring = np.stack(
                    [
                        (left + right + 0.9 * (right - left) * np.cos(angle)) / 2,
                        (low + high + 0.9 * (high - low) * np.sin(angle)) / 2,
                    ],
                    axis=-1,
                )
                fig = plots.portraits(systems, ring, map=map_, cells=cells, **shown)
                paths = plots.save(fig, out.name, out.parent)
            else:
                if map_ is not None:
                    raise ValueError(f"map {map_!r} cannot move: give either map or animate")
                grid = start_grid(x, y, cells)
                paths = [plots.animate(animate, systems, grid, frames=frames, **shown)]
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    console.print(f"drawn in {' and '.join(map(str, paths))}", highlight=False)


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be numbers with commas between them, got {text!r}") from None


def _limits(text: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """A panel's limits from half its width, or from the four numbers."""
    numbers = _numbers("limits", text)
    if len(numbers) == 1 and numbers[0] > 0:
        numbers = [-numbers[0], numbers[0]] * 2
    if len(numbers) != 4:
        raise ValueError(f"limits must be one number > 0, or left,right,low,high; got {text!r}")
    return (numbers[0], numbers[1]), (numbers[2], numbers[3])


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2:
        raise ValueError(f"plane must be two coordinates with a comma between them, e.g. x1,m1; got {text!r}")
    return words[0].strip(), words[1].strip()


def _values(text: str) -> dict[str, float]:
    """Held coordinates from ``x2=0.5,m2=1``."""
    values = {}
    for word in filter(None, (w.strip() for w in text.split(","))):
        name, _, number = word.partition("=")
        try:
            values[name.strip()] = float(number)
        except ValueError:
            raise ValueError(f"held must be values such as x2=0.5,m2=1, got {word!r}") from None
    return values


@app.command("sweep")
def sweep_command(
    study: Annotated[Path, typer.Argument(help="A study file in TOML.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of results; by default beside the study, ending in .zarr."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Local processes; one a CPU by default.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask scheduler's address, e.g. tcp://10.0.0.1:8786.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only show how far it has come.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what the folder holds.")] = False,
) -> None:
    """Run the grid of a study file; after an interruption the same command goes on where it stopped.

    A study file, here 20 × 3 flows:

    \b
        \\[fixed]
        objective = "(x1 - 1.5)**2 + x2**2"
        x0 = [2.0, -1.0]
        t_end = 20.0    # a flow; updates have steps, lr, beta1, beta2
        lam = 0.6
        \\[grid]
        epsilon = {linspace = [0.0, 1.0, 20]}
        kappa = ["l1", "huber:0.3", "pseudo-huber:0.1"]

    The results open with xarray.open_zarr. Exit code 1 if a cell was refused or broke down.
    """
    plan = Study.read(study)
    place = study.with_suffix(".zarr") if out is None else out
    if not status:
        columns = (*Progress.get_default_columns(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"{plan.size} cells", total=plan.size)

            def show(done: int, _: int) -> None:
                bar.update(task, completed=done)

            try:
                sweep(plan, place, executor=scheduler, workers=workers, restart=restart, progress=show)
            except KeyboardInterrupt:
                console.print("interrupted; the same command goes on from here", highlight=False)
                raise typer.Exit(130) from None
    counts = sweep_status(place)
    console.print(f"{counts.done} of {counts.total} cells have run, in {place}", highlight=False)
    for name, count in counts.most_common():
        console.print(f"  {count} {name}", highlight=False)
    if any(counts[name] for name in counts if name not in ("finished", "tail unresolved", "not run")):
        raise typer.Exit(1)


@app.command()
def info() -> None:
    """Show versions, threads, the optional extras, and the catalogue of potentials."""
    versions = {
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "sympy": sp.__version__,
        "numba": numba.__version__,
    }
    console.print(
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}", highlight=False
    )
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()), highlight=False)
    console.print(
        f"{os.cpu_count()} cores, {numba.config.NUMBA_NUM_THREADS} threads for numba", highlight=False
    )
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        state = f"misses {', '.join(missing)}: pip install 'lionode[{extra}]'" if missing else "installed"
        console.print(f"extra {extra}: {state}", highlight=False, markup=False)
    table = Table("name", "κ(z)", "κ*(y)", "min f + …", box=None)
    for name, kappa in kappas.REGISTRY.items():
        table.add_row(name, kappa.formula, kappa.conjugate_formula, kappa.problem)
    console.print(table)


def main() -> None:
    """The console script: one line for an error, no traceback."""
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError, ArithmeticError) as error:
        print(f"lionode: {error}", file=sys.stderr)
        raise SystemExit(1) from None
