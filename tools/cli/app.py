"""The table of verbs."""

from __future__ import annotations

import typer

from tools.cli import bench, build, check, convert, demo, doctor, report, run, sweep, test, train

app = typer.Typer(
    name="tinyboost",
    help="Train a tiny network better than its size, fit it into 320 KB, prove it on the board.",
    epilog="Exit codes: 0 ok, 1 a check failed, 2 usage or configuration, 3 over budget, 4 no board, 5 link, "
    "6 a tool is missing, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, module in {
    "doctor": doctor,
    "demo": demo,
    "train": train,
    "sweep": sweep,
    "convert": convert,
    "check": check,
    "build": build,
    "run": run,
    "bench": bench,
    "test": test,
    "report": report,
}.items():
    app.command(name)(module.command)
