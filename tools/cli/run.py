"""`tinyboost run`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from common import files
from common.errors import ConfigError, ExitCode
from tools import console
from tools.cli.setup import open_run
from tools.cli.verb import ConfigOption, Outcome, RunOption, SetOption, TargetOption, verb


@verb
def command(
    *,
    model: Annotated[Path | None, typer.Argument(help="Your own int8 .tflite.", show_default=False)] = None,
    config: ConfigOption = None,
    run: RunOption = None,
    overrides: SetOption = None,
    target: TargetOption = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Inputs: .npy (int8 or float32, batch first), or .npz with inputs.")
    ] = None,
    outputs: Annotated[Path | None, typer.Option(help="Write the int8 outputs to this .npy.")] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="How many inputs.")] = 5,
    port: Annotated[str | None, typer.Option(help="Serial port of the board.")] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Only start the image and print its port, until Ctrl-C.")
    ] = False,
) -> Outcome:
    """Run inputs through an image on a target, and compare what it answers with the host's answers.

    Without --inputs the run's own test samples are taken, or random ones for a model of your own.

    \b
    Examples:
      tinyboost run -o runs/demo --target virtual
      tinyboost run net_int8.tflite --inputs images.npy --outputs answers.npy
      tinyboost run -o runs/demo --target virtual --serve     # then open the port with pyserial
    """
    from converter.board import load_board
    from tools import stages
    from tools.targets import open_target

    folder, resolved = open_run(run, config=config, overrides=overrides, model=model)
    chosen = target or resolved.test.target
    board = load_board(resolved.board.name)
    if model is not None:
        stages.convert_given(folder, model, None)
        stages.build(folder, resolved, chosen)
    image = stages.image_of(folder, chosen, board)
    if outputs is not None and outputs.suffix != ".npy":
        raise ConfigError(f"{outputs}: outputs are written as .npy")
    with open_target(chosen, board, image, port) as opened:
        if serve:
            console.out.print(opened.url, soft_wrap=True)
            threading.Event().wait()
        rows = stages.answers(folder, opened, samples, inputs)
    if outputs is not None:
        with files.atomic_path(outputs) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack([row.output for row in rows]))
    unit = opened.unit

    def show() -> None:
        table = Table(box=None, pad_edge=False)
        for heading in ("sample", "label", "argmax", "int8 output", unit, "host"):
            table.add_column(heading, justify="right" if heading in ("sample", unit) else "left")
        for row in rows:
            label = "–" if row.label is None else str(row.label)
            shown = " ".join(str(value) for value in row.output.ravel()[:12].tolist())
            more = " …" if row.output.size > 12 else ""
            same = "equal" if row.equal else "[red]differs[/]"
            table.add_row(
                str(row.index), label, str(row.output.argmax()), shown + more, f"{row.count:,}", same
            )
        console.for_tables(console.out).print(table)

    data = {
        "target": chosen,
        "unit": unit,
        "samples": [
            {
                "index": row.index,
                "output": row.output.ravel().tolist(),
                "count": row.count,
                "equal": row.equal,
            }
            for row in rows
        ],
    }
    same = all(row.equal for row in rows)
    return Outcome(data, show, ExitCode.OK if same else ExitCode.CHECK_FAILED)
