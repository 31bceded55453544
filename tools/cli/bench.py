"""`tinyboost bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from common.errors import ExitCode
from tools import console
from tools.cli.setup import open_run
from tools.cli.verb import ConfigOption, Outcome, RunOption, SetOption, TargetOption, verb

if TYPE_CHECKING:
    from tools.bench import BenchResult


@verb
def command(
    *,
    model: Annotated[Path, typer.Argument(help="An int8 .tflite.", show_default=False)],
    config: ConfigOption = None,
    run: RunOption = None,
    overrides: SetOption = None,
    target: TargetOption = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Inputs: .npy or .npz. Default: random int8 ones.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="How many inputs.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
    port: Annotated[str | None, typer.Option(help="Serial port of the board.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a page (HTML) that shows where the instructions go: a flame graph."
        ),
    ] = None,
) -> Outcome:
    """Build an image around a model, count what one inference costs, and compare with tflite-micro.

    Exit code 1 where any output differs from the tflite-micro interpreter's in any byte.

    \b
    Examples:
      tinyboost bench net_int8.tflite
      tinyboost bench net_int8.tflite --inputs images.npz -n 200
      tinyboost bench net_int8.tflite --target virtual --json
      tinyboost bench net_int8.tflite --profile net.html
    """
    from tools.bench import bench

    folder, resolved = open_run(run, config=config, overrides=overrides, model=model)
    chosen = target or resolved.test.target
    result = bench(
        folder, model, resolved, chosen, inputs=inputs, count=samples, seed=seed, port=port, profile=profile
    )
    return Outcome(
        result.model_dump(mode="json", by_alias=True),
        lambda: show_bench(result),
        ExitCode.CHECK_FAILED if result.bit_exact.mismatches else ExitCode.OK,
    )


def show_bench(result: BenchResult) -> None:
    """Print the per-layer table and the totals."""
    console.for_tables(console.out).print(_layer_table(result))
    exact = result.bit_exact
    console.line(
        f"{exact.inputs - exact.mismatches} of {exact.inputs} outputs equal tflite-micro's, byte for byte"
    )
    if result.latency_ms is not None:
        console.line(f"{result.latency_ms:.3f} ms an inference, measured")
    if result.cycles_estimate is not None:
        console.line(f"about {result.cycles_estimate:,} cycles an inference, an estimate")
    if result.ram and result.flash:
        ram, flash = result.ram, result.flash
        console.line(
            f"RAM {ram.total:,} of {ram.budget:,} bytes (arena {ram.arena:,}, .data/.bss {ram.data_bss:,}, "
            f"stack {ram.stack:,}); flash {flash.total:,} of {flash.budget:,} "
            f"(weights {flash.weights:,}, code {flash.code:,})"
        )
    for other in result.comparisons:
        ratio = "" if other.ratio is None else f", {other.ratio:.2f} times ours"
        console.line(
            f"{other.title}: {other.instructions:,} instructions{ratio}; "
            f"RAM {other.ram:,}, flash {other.flash:,} (code {other.code:,})"
        )


def _layer_table(result: BenchResult) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("op", "layer"):
        table.add_column(heading, overflow="ellipsis")
    for heading in ("MACs", "instructions", "per\nMAC", "change", "cycles\n(estimate)", "weights", "RAM"):
        table.add_column(heading, justify="right", no_wrap=True)
    for index, layer in enumerate(result.layers):
        table.add_row(
            str(index),
            layer.op,
            layer.name,
            f"{layer.macs:,}",
            *_cost(layer.instructions, layer.macs, layer.accepted_instructions),
            _number(layer.cycles_estimate),
            f"{layer.weights:,}",
            f"{layer.arena:,}",
        )
    table.add_section()
    table.add_row(
        "",
        "",
        result.model,
        f"{result.macs:,}",
        *_cost(result.instructions, result.macs, result.accepted_instructions),
        _number(result.cycles_estimate),
        f"{sum(layer.weights for layer in result.layers):,}",
        f"{max((layer.arena for layer in result.layers), default=0):,}",
    )
    return table


def _cost(instructions: int | None, macs: int, accepted: int | None) -> tuple[str, str, str]:
    if instructions is None:
        return "–", "–", ""
    per_mac = f"{instructions / macs:.2f}" if macs else ""
    return f"{instructions:,}", per_mac, f"{instructions / accepted - 1:+.1%}" if accepted else ""


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
