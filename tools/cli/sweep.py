"""`tinyboost sweep`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.errors import ConfigError, ExitCode
from tools import console
from tools.cli.setup import RUNS
from tools.cli.verb import InterruptedByUserError, Outcome, SetOption, verb
from tools.imports import imported_files

if TYPE_CHECKING:
    from tools.sweep.ledger import Ledger

log = logging.getLogger(__name__)


@verb
def command(
    *,
    file: Annotated[Path, typer.Argument(help="The sweep's TOML file.", show_default=False)],
    folder: Annotated[
        Path | None,
        typer.Option("-o", "--run", metavar="DIR", help="Folder of all runs. Default: runs/<name of FILE>."),
    ] = None,
    overrides: SetOption = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Runs at once. Default: as many as the cores hold."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop.")] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Train nothing; report what has finished.")
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Write the curves as an SVG of their own.")
    ] = None,
) -> Outcome:
    """Train a grid of arms, settings and seeds, several at once; give means, deviations and curves.

    Writes sweep.html, sweep.json and sweep.csv beside the run folders. Runs that have finished are kept,
    those that were interrupted go on. Exit code 1 where a run failed; the others are trained nevertheless.

    \b
    Examples:
      tinyboost sweep examples/sweeps/digits.toml
      tinyboost sweep examples/sweeps/digits.toml --dry-run
      tinyboost sweep examples/sweeps/digits.toml --jobs 4 --figure curves.svg
      tinyboost sweep examples/sweeps/digits.toml --report-only --json
    """
    from tools.sweep.ledger import Ledger
    from tools.sweep.plan import Plan
    from tools.sweep.wording import finished_otherwise

    if figure is not None and figure.suffix != ".svg":
        raise ConfigError(f"--figure {figure}: write it as FILE.svg")
    place = folder or RUNS / file.stem
    if place.exists() and not place.is_dir():
        raise ConfigError(f"{place}: is a file; the runs go there")
    ledger = Ledger(Plan(file, place, overrides or ()))
    if other := finished_otherwise(ledger):
        if report_only and not ledger.of("finished"):
            raise ConfigError(f"{place}: {other}")
        log.warning("%s", other)
    if dry_run:
        return _dry_run(ledger, jobs)
    if not report_only:
        _train(ledger, jobs)
    return _report(ledger, figure)


def _train(ledger: Ledger, jobs: int | None) -> None:
    from tools.sweep.execute import default_jobs, train_all
    from tools.sweep.progress import make_progress

    _require_files(ledger)
    number = jobs or default_jobs(ledger.plan.expected.values())
    try:
        with make_progress(ledger, number, console.err) as progress:
            train_all(ledger, number, progress)
    except KeyboardInterrupt:
        ended = len(ledger.of("finished"))
        raise InterruptedByUserError(
            f"{ended} of {len(ledger.entries)} runs have finished; the same command goes on from there"
        ) from None


def _require_files(ledger: Ledger) -> None:
    """Raise ConfigError where no run could train, before one after another fails with the same words."""
    configs = [entry.config for entry in ledger.entries.values() if not entry.ended]
    for config in configs:
        imported_files(config.imports)
    paths = {config.data.path for config in configs if not config.data.fallback}
    if len(paths) == 1 and (path := paths.pop()) and not path.exists():
        raise ConfigError(f"data.path: {path}: no such file or folder; fetch the dataset, or give its path")


def _dry_run(ledger: Ledger, jobs: int | None) -> Outcome:
    from tools.sweep.execute import default_jobs

    number = jobs or default_jobs(ledger.plan.expected.values())
    entries = list(ledger.entries.values())

    def show() -> None:
        for entry in entries:
            epochs, done = entry.config.train.epochs, entry.history.done
            progress = f"{done} of {epochs}" if 0 < done < epochs else str(epochs)
            console.line(f"{entry.state:8}  {progress:>9} epochs  {entry.name}")
        finished = len(ledger.of("finished"))
        console.line(f"{len(entries)} runs, {finished} finished; {number} at once, in {ledger.plan.folder}")

    runs = [
        {
            "run": entry.name,
            "state": entry.state,
            "epochs": entry.config.train.epochs,
            "epochs_done": entry.history.done,
        }
        for entry in entries
    ]
    return Outcome({"folder": str(ledger.plan.folder), "jobs": number, "runs": runs}, show)


def _report(ledger: Ledger, figure: Path | None) -> Outcome:
    from tools.sweep.report import build_report
    from tools.sweep.write import write_figure, write_report

    report = build_report(ledger)
    folder = ledger.plan.folder
    if not report.failed and not ledger.of("finished"):
        raise ConfigError(
            f"{folder}: no run has finished yet; train them with: tinyboost sweep {ledger.plan.source}"
        )
    found: dict[str, Any] = {"folder": str(folder), **write_report(report, folder)}
    if figure is not None:
        write_figure(report, figure)

    def show() -> None:
        from tools.sweep.table import print_table

        print_table(report, console.out)
        console.line(f"{folder / 'sweep.html'}")

    return Outcome(found, show, ExitCode.CHECK_FAILED if report.failed else ExitCode.OK)
