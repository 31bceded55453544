"""`tinyboost convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tools import console
from tools.cli.setup import open_run
from tools.cli.verb import ConfigOption, Outcome, RunOption, SetOption, verb


@verb
def command(
    *,
    model: Annotated[
        Path | None, typer.Argument(help="Your own .onnx or .tflite.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    run: RunOption = None,
    overrides: SetOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Calibration inputs for an .onnx: .npy or .npz, float32, as the model takes them."),
    ] = None,
) -> Outcome:
    """Make an int8 .tflite, from the run's checkpoint or from a model of your own.

    \b
    Examples:
      tinyboost convert -o runs/demo
      tinyboost convert net.onnx --calibration images.npy
      tinyboost convert net_int8.tflite -o runs/mine
    """
    from tools import stages

    folder, resolved = open_run(run, config=config, overrides=overrides, model=model)
    if model is None:
        record = stages.convert_trained(folder, resolved)
    else:
        record = stages.convert_given(folder, model, calibration)
    size = folder.tflite.stat().st_size

    def show() -> None:
        console.line(f"{folder.tflite}: {size:,} bytes, int8 in and out, {record.seconds:.0f} s")

    data = {"model": str(folder.tflite), "bytes": size, "sha256": record.outputs["model.tflite"]}
    return Outcome({**data, "seconds": record.seconds}, show)
