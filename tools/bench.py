"""`tinyboost bench`: what one model costs on a target, and whether it answers as the reference does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from common import files
from common.errors import ConfigError
from converter.board import FIRMWARE_DIR, load_board
from converter.codegen import GeneratedLayer
from converter.costs import graph_macs
from converter.graph import Graph, Tensor
from converter.reference import reference_run
from converter.tflite_reader import load_graph
from tools import stages
from tools.baselines import accepted, other_runtimes
from tools.config import RunConfig, TargetName
from tools.image import image_memory
from tools.link.client import RunResult
from tools.results import FlashUse, RamUse
from tools.runs import RunFolder
from tools.targets import open_target

# Sides of the patches in random inputs: 1, 2, 4, 8, 16, 32.
_PATCHES = 6

Arrays = list[npt.NDArray[Any]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class BenchLayer(_Section):
    """One layer; None is what the target does not tell.

    instructions: of one inference; cycles_estimate: likewise, an estimate; weights: bytes of constants in
    flash; arena: bytes of activations and scratch that live while it runs; accepted_instructions: of the
    stored baseline.
    """

    name: str
    op: str
    macs: int
    instructions: int | None
    cycles_estimate: int | None = None
    weights: int = 0
    arena: int = 0
    accepted_instructions: int | None = None


class BitExact(_Section):
    """How many inputs were put to the target, and how many outputs differ from tflite-micro's in any byte."""

    inputs: int
    mismatches: int


class Comparison(_Section):
    """What another runtime needs for the same model, in bytes; ratio: its instructions to ours."""

    title: str
    instructions: int
    ratio: float | None
    ram: int
    flash: int
    code: int


class BenchResult(_Section):
    """Schema 1 of `tinyboost bench --json`.

    instructions, cycles_estimate, latency_ms: of one inference (median), None where the target does not tell;
    ram, flash: bytes of the whole image, None on the host; accepted_instructions: of the stored baseline;
    comparisons: with other runtimes whose figures for this very model are stored.
    """

    schema_version: int = Field(default=1, alias="schema")
    model: str
    model_sha256: str
    target: TargetName
    engine: str
    compiler: str
    macs: int
    instructions: int | None
    cycles_estimate: int | None
    latency_ms: float | None
    ram: RamUse | None
    flash: FlashUse | None
    bit_exact: BitExact
    accepted_instructions: int | None = None
    comparisons: list[Comparison] = Field(default_factory=list)
    layers: list[BenchLayer]


def bench(
    run: RunFolder,
    model: Path,
    config: RunConfig,
    target: TargetName,
    *,
    inputs: Path | None = None,
    count: int = 20,
    seed: int = 0,
    port: str | None = None,
    profile: Path | None = None,
) -> BenchResult:
    """Build an image around `model` in a run folder, put inputs to it on `target` and count.

    Args:
        run: where generated code and image go.
        model: an int8 .tflite.
        config: names the board.
        target: where to run.
        inputs: .npy or .npz of inputs (as for `tinyboost test`); random int8 ones where not given.
        count: how many inputs.
        seed: of the random inputs.
        port: serial port of the real board; found by its USB id where it is not given.
        profile: where to write a page that shows where the instructions go; for the virtual target.

    Raises:
        ModelError, OverBudgetError, ToolMissingError, NoBoardError, LinkError, ConfigError: as the stages do.
    """
    if profile is not None and target != "virtual":
        raise ConfigError(f"--profile needs --target virtual: '{target}' does not count by function")
    stages.convert_given(run, model, None)
    graph = load_graph(run.tflite)
    board = load_board(config.board.name)
    given, expected = _samples(run.tflite, graph, inputs, count, seed)
    image = stages.build(run, config, target)
    with open_target(target, board, image, port) as opened, opened.link() as link:
        link.expect_model(graph.sha256)
        description = link.hello()
        results = [link.run([array[index] for array in given]) for index in range(len(given[0]))]
        first = [array[0] for array in given]
        layer_cycles = link.run(first, profile=True).layer_cycles or ()
        layer_counts = opened.count_layers(lambda: link.run(first))
        stack_used = link.memory().stack_used
        middle = median_low(result.cycles for result in results)
        cycles_estimate = opened.estimate_cycles(link, middle)
    counted = opened.unit == "instructions"
    memory = image_memory(image, board) if target != "host" else None
    generated = _generated_layers(run)
    if profile is not None:
        from tools.profile import collect, render_profile

        about = f"{board.title}, {description.engine}, {description.entries.get('compiler', '')}"
        explained = collect(image, board, generated, layer_counts)
        files.write_text(profile, render_profile(explained, model.stem, about, FIRMWARE_DIR / "kernels"))
    before = accepted().find(graph.sha256)
    return BenchResult(
        model=model.stem,
        model_sha256=graph.sha256,
        target=target,
        engine=description.engine,
        compiler=description.entries.get("compiler", "unknown"),
        macs=graph_macs(graph),
        instructions=middle if counted else None,
        cycles_estimate=cycles_estimate,
        latency_ms=middle / description.clock_hz * 1e3 if opened.unit == "cycles" else None,
        ram=memory.ram(stack_used) if memory else None,
        flash=memory.flash if memory else None,
        bit_exact=BitExact(inputs=len(results), mismatches=_mismatches(results, expected)),
        accepted_instructions=before.instructions if before else None,
        comparisons=_comparisons(graph.sha256, middle if counted else None),
        layers=[
            BenchLayer(
                name=layer.name,
                op=layer.op,
                macs=layer.macs,
                instructions=_item(layer_cycles, layer.index) if counted else None,
                cycles_estimate=estimate.cycles_estimate if estimate else None,
                weights=layer.weights_bytes,
                arena=layer.arena_bytes,
                accepted_instructions=_item(before.layers, layer.index) if before else None,
            )
            for layer in generated
            for estimate in [layer_counts.get(layer.index)]
        ],
    )


def _item(values: Sequence[int], index: int) -> int | None:
    return values[index] if index < len(values) else None


def _generated_layers(run: RunFolder) -> tuple[GeneratedLayer, ...]:
    """The layer table of the code that was generated last."""
    table = json.loads((run.generated / "model.json").read_bytes())["layers"]
    return tuple(GeneratedLayer(**layer) for layer in table)


def _comparisons(sha256: str, instructions: int | None) -> list[Comparison]:
    found = [(runtime.title, runtime.find(sha256)) for runtime in other_runtimes()]
    return [
        Comparison(
            title=title,
            instructions=other.instructions,
            ratio=round(other.instructions / instructions, 3) if instructions else None,
            ram=other.ram,
            flash=other.flash,
            code=other.code,
        )
        for title, other in found
        if other is not None
    ]


def _samples(model: Path, graph: Graph, source: Path | None, count: int, seed: int) -> tuple[Arrays, Arrays]:
    """Inputs and the reference's outputs, each as one array [N, ...] per tensor."""
    if source is not None:
        from tools.evaluation import evaluate_given

        evaluation = evaluate_given(model, graph, count, source)
        return [evaluation.inputs], [evaluation.int8_outputs]
    chance = np.random.default_rng(seed)
    given = [_random(graph.tensors[index], count, chance) for index in graph.inputs]
    return given, reference_run(model, given)


def _random(tensor: Tensor, count: int, chance: np.random.Generator) -> npt.NDArray[Any]:
    """Random inputs [count, ...]: noise in ever coarser patches, for a network averages fine noise away."""
    shape = tensor.shape[1:]
    if np.issubdtype(tensor.dtype, np.integer):
        limits = np.iinfo(tensor.dtype)
        noise = chance.integers(limits.min, limits.max, (count, *shape), tensor.dtype, endpoint=True)
    else:
        noise = chance.standard_normal((count, *shape)).astype(tensor.dtype)
    for index, sample in enumerate(noise):
        patch = 2 ** (index % _PATCHES)
        for axis, size in enumerate(shape[:-1] or shape):
            sample[:] = sample.take(np.arange(size) // patch * patch, axis)
    return noise


def _mismatches(results: Sequence[RunResult], expected: Arrays) -> int:
    """Inputs for which any output differs in any byte."""
    return sum(
        any(
            output.tobytes() != right[index].tobytes()
            for output, right in zip(result.outputs, expected, strict=True)
        )
        for index, result in enumerate(results)
    )
