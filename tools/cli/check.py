"""`tinyboost check`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from common.errors import ConfigError, ExitCode
from tools import console
from tools.cli.setup import open_run
from tools.cli.verb import ConfigOption, Outcome, RunOption, SetOption, verb

if TYPE_CHECKING:
    from converter.budget import Verdict

_FACTORS = {"K": 1024, "M": 1024 * 1024}


@verb
def command(
    *,
    model: Annotated[Path | None, typer.Argument(help="Your own int8 .tflite.", show_default=False)] = None,
    config: ConfigOption = None,
    run: RunOption = None,
    overrides: SetOption = None,
    ram: Annotated[
        str | None, typer.Option(metavar="SIZE", help="A smaller RAM budget, e.g. 64K or 65536 bytes.")
    ] = None,
) -> Outcome:
    """Check operators, RAM and flash against the board, before any build. Exit code 3 when over budget.

    \b
    Examples:
      tinyboost check -o runs/demo
      tinyboost check net_int8.tflite
      tinyboost check net_int8.tflite --ram 64K
      tinyboost check net_int8.tflite --json
    """
    from tools import stages

    extra = [f"board.ram_bytes={parse_size(ram)}"] if ram is not None else []
    folder, resolved = open_run(run, config=config, overrides=[*(overrides or []), *extra], model=model)
    if model is not None:
        stages.convert_given(folder, model, None)
    verdict = stages.check(folder, resolved)
    return Outcome(
        {"fits": verdict.fits, **asdict(verdict)},
        lambda: show_verdict(verdict),
        ExitCode.OK if verdict.fits else ExitCode.OVER_BUDGET,
    )


def parse_size(text: str) -> int:
    """Bytes of "65536", "64K" or "1M"; K is 1024.

    Raises:
        ConfigError: it is no size.
    """
    number, factor = (text[:-1], _FACTORS[text[-1]]) if text[-1:] in _FACTORS else (text, 1)
    if not number.isascii() or not number.isdigit():
        raise ConfigError(f"--ram {text}: not a size; write bytes, or 64K, or 1M")
    return int(number) * factor


def show_verdict(verdict: Verdict) -> None:
    """Print the per-layer table, the peak and the verdict."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "op"):
        table.add_column(heading, no_wrap=True)
    table.add_column("layer", overflow="ellipsis")  # the only column that gives way
    for heading in ("MACs", "weights", "live RAM"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in verdict.layers:
        table.add_row(
            str(layer.index),
            layer.op,
            layer.name,
            f"{layer.macs:,}",
            f"{layer.weights_bytes:,}",
            f"{layer.live_bytes:,}",
            style="bold" if layer.index == verdict.peak else None,
        )
    console.for_tables(console.out).print(table)
    peak = verdict.layers[verdict.peak]
    tensors = ", ".join(f"{tensor.name} {tensor.nbytes:,}" for tensor in verdict.peak_tensors)
    ram, flash = verdict.ram, verdict.flash
    console.line(f"peak     layer {peak.index} {peak.op} '{peak.name}': {tensors}")
    console.line(
        f"RAM      {ram.total:,} of {ram.budget:,} bytes "
        f"(arena {ram.arena:,}, .data/.bss about {ram.data_bss:,}, stack reserve {ram.stack:,})"
    )
    console.line(
        f"flash    {flash.total:,} of {flash.budget:,} bytes "
        f"(weights {flash.weights:,}, code about {flash.code:,})"
    )
    console.line(verdict.problem or f"{verdict.model} fits {verdict.board}")
