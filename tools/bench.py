"""`tinyboost bench`: what one model costs on a target, and whether it answers as the reference does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from converter.board import load_board
from converter.costs import graph_macs, operator_macs
from converter.graph import Graph, Tensor
from converter.reference import reference_run
from converter.tflite_reader import load_graph
from tools import stages
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
    """One layer; instructions of one inference, None where the target does not tell."""

    name: str
    op: str
    macs: int
    instructions: int | None


class BitExact(_Section):
    """How many inputs were put to the target, and how many outputs differ from tflite-micro's in any byte."""

    inputs: int
    mismatches: int


class BenchResult(_Section):
    """Schema 1 of `tinyboost bench --json`.

    instructions, cycles_estimate, latency_ms: of one inference (median), None where the target does not tell;
    ram, flash: bytes of the whole image, None on the host.
    """

    schema_version: int = Field(default=1, alias="schema")
    model: str
    model_sha256: str
    target: TargetName
    engine: str
    macs: int
    instructions: int | None
    cycles_estimate: int | None
    latency_ms: float | None
    ram: RamUse | None
    flash: FlashUse | None
    bit_exact: BitExact
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

    Raises:
        ModelError, OverBudgetError, ToolMissingError, NoBoardError, LinkError, ConfigError: as the stages do.
    """
    stages.convert_given(run, model, None)
    graph = load_graph(run.tflite)
    board = load_board(config.board.name)
    given, expected = _samples(run.tflite, graph, inputs, count, seed)
    image = stages.build(run, config, target)
    with open_target(target, board, image, port) as opened, opened.link() as link:
        link.expect_model(graph.sha256)
        description = link.hello()
        results = [link.run([array[index] for array in given]) for index in range(len(given[0]))]
        profile = link.run([array[0] for array in given], profile=True).layer_cycles or ()
        stack_used = link.memory().stack_used
        middle = median_low(result.cycles for result in results)
        cycles_estimate = opened.estimate_cycles(link, middle)
    counted = opened.unit == "instructions"
    memory = image_memory(image, board) if target != "host" else None
    return BenchResult(
        model=model.stem,
        model_sha256=graph.sha256,
        target=target,
        engine=description.engine,
        macs=graph_macs(graph),
        instructions=middle if counted else None,
        cycles_estimate=cycles_estimate,
        latency_ms=middle / description.clock_hz * 1e3 if opened.unit == "cycles" else None,
        ram=memory.ram(stack_used) if memory else None,
        flash=memory.flash if memory else None,
        bit_exact=BitExact(inputs=len(results), mismatches=_mismatches(results, expected)),
        layers=[
            BenchLayer(
                name=operator.name,
                op=operator.kind,
                macs=operator_macs(graph, operator),
                instructions=cost if counted else None,
            )
            for operator, cost in zip_longest(graph.operators, profile)
        ],
    )


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
