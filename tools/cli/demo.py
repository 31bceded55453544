"""`tinyboost demo`."""

from __future__ import annotations

from pathlib import Path

from common.errors import ExitCode
from tools import console
from tools.cli.setup import RUNS, open_run
from tools.cli.verb import ConfigOption, Outcome, RunOption, SetOption, verb
from tools.runs import REPOSITORY

DEMO_CONFIG = REPOSITORY / "examples" / "demo.toml"


@verb
def command(config: ConfigOption = None, run: RunOption = None, overrides: SetOption = None) -> Outcome:
    """Run the whole chain: train, convert, check, build, test on the virtual board, report.

    Stages whose inputs did not change are kept from the last time; a training that was interrupted goes on.

    \b
    Examples:
      tinyboost demo
      tinyboost demo -o runs/quick --set train.epochs=2 --set test.samples=200
      tinyboost demo -c examples/demo.toml --json
    """
    from tools import stages

    source = config or DEMO_CONFIG
    folder, resolved = open_run(run or Path(RUNS, source.stem), config=source, overrides=overrides)
    target = resolved.test.target
    stages.train_or_go_on(folder, resolved)
    stages.convert_trained(folder, resolved)
    stages.evaluate(folder, resolved)
    stages.build(folder, resolved, target)
    passed = stages.test(folder, resolved, target, [])
    content, machine = stages.report(folder)

    def show() -> None:
        from tools.report import print_table

        print_table(content, console.out)
        console.line(f"report: {folder.report_page}")

    data = {
        "run": str(folder.path),
        "passed": passed,
        "report": machine.model_dump(mode="json", by_alias=True),
    }
    return Outcome(data, show, ExitCode.OK if passed else ExitCode.CHECK_FAILED)
