"""What a sweep found, on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.console import for_tables
from tools.report import formats
from tools.sweep import wording
from tools.sweep.report import SweepReport

_WIDTH_WITH_SIZE = 110


def print_table(report: SweepReport, console: Console) -> None:
    """Print the rows, what was chosen, what failed and what to beware of."""
    if report.rows:
        shown = for_tables(console)
        shown.print(_rows(report, with_size=shown.width >= _WIDTH_WITH_SIZE))
    for trial in report.trials:
        if trial.chosen:
            place = f"{trial.arm}, {trial.point.name}" if trial.point.values else trial.arm
            _say(
                console,
                f"{place}: chose {wording.settings(trial.tried.values)}, {wording.spread(trial.accuracy)}",
            )
    for warning in report.warnings:
        _say(console, f"warning: {warning}")
    for training in report.failed:
        _say(console, f"{training.state}: {training.name}: {training.message}")
    if report.unfinished:
        _say(console, f"{report.unfinished} of {len(report.trainings)} runs have not ended")


def _rows(report: SweepReport, *, with_size: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("arm", overflow="fold", min_width=12)
    sizes = ("parameters", "MACs") if with_size else ()
    compared = f"over {report.references[0]}" if len(report.references) == 1 else "difference"
    for heading in ("n", "test", compared, "train", "time", *sizes):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for row in report.rows:
        values = f"\n  {wording.settings(row.settings)}" if row.settings else ""
        sizes = (formats.count(row.parameters), formats.millions(row.macs)) if with_size else ()
        table.add_row(
            escape(row.arm + values),
            str(row.accuracy.n),
            wording.spread(row.accuracy),
            wording.difference(row.difference),
            formats.percent(row.train_accuracy.mean, 2),
            formats.seconds(row.seconds),
            *sizes,
        )
    return table


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
