"""`tinyboost test`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.errors import ExitCode
from tools import console
from tools.cli.setup import open_run
from tools.cli.verb import ConfigOption, Outcome, RunOption, SetOption, TargetOption, verb


@verb
def command(
    *,
    config: ConfigOption = None,
    run: RunOption = None,
    overrides: SetOption = None,
    target: TargetOption = None,
    samples: Annotated[int | None, typer.Option("--samples", "-n", help="Override test.samples.")] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Inputs for a model of your own: .npy, or .npz with inputs and labels."),
    ] = None,
    port: Annotated[str | None, typer.Option(help="Serial port of the board.")] = None,
    require_board: Annotated[bool, typer.Option(help="Fail where no board is plugged in.")] = False,
) -> Outcome:
    """Run the board tests: every answer equal to the host's, memory, counts, self-description, link.

    \b
    Examples:
      tinyboost test -o runs/demo
      tinyboost test -o runs/demo --target host
      tinyboost test -o runs/demo --target board --port /dev/ttyACM0 --require-board
      tinyboost test -o runs/mine --inputs samples.npz
    """
    from tools import stages

    extra = [f"test.samples={samples}"] if samples is not None else []
    folder, resolved = open_run(run, config=config, overrides=[*(overrides or []), *extra])
    chosen = target or resolved.test.target
    stages.evaluate(folder, resolved, inputs)
    options = [*(["--port", port] if port else []), *(["--require-board"] if require_board else [])]
    passed = stages.test(folder, resolved, chosen, options)
    data = {
        "passed": passed,
        "target": chosen,
        "junit": str(folder.junit),
        "results": str(folder.board_results),
    }
    return Outcome(
        data,
        lambda: console.line(f"{'all passed' if passed else 'FAILED'} on {chosen}: {folder.junit}"),
        ExitCode.OK if passed else ExitCode.CHECK_FAILED,
    )
