"""`tinyboost report`."""

from __future__ import annotations

from tools import console
from tools.cli.setup import open_run
from tools.cli.verb import Outcome, RunOption, verb


@verb
def command(run: RunOption = None) -> Outcome:
    """Write report.html and report.json from what the run folder holds, and print the table.

    \b
    Examples:
      tinyboost report -o runs/demo
      tinyboost report -o runs/demo --json
    """
    from tools.stages import report

    folder, _ = open_run(run)
    content, machine = report(folder)

    def show() -> None:
        from tools.report import print_table

        print_table(content, console.out)
        console.line(f"{folder.report_page}")

    return Outcome(machine.model_dump(mode="json", by_alias=True), show)
