"""From the files of a run folder to a `Report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter

from common.errors import ConfigError, first_line
from converter import budget, memory
from converter.board import Board, load_board
from converter.codegen import GeneratedLayer
from converter.graph import Graph
from converter.tflite_reader import load_graph
from tools.report.answers import Answers
from tools.report.content import (
    Accuracy,
    Flash,
    Layer,
    MemoryPlan,
    PlannedTensor,
    Ram,
    RamRegion,
    Report,
    TensorRole,
    Timing,
)
from tools.report.counting import differing
from tools.report.curves import read_curves
from tools.report.formats import count, printable
from tools.results import BoardResults
from tools.runs import Manifest, RunFolder

SAMPLES_SHOWN = 24
DIFFERENCES_LISTED = 50

T = TypeVar("T")


def build_report(folder: Path) -> Report:
    """Gather a run's results.

    Raises:
        ConfigError: a file is absent (the message names the command that makes it), damaged, or of another
            model than the run's.
        ModelError: the run's model is damaged.
    """
    run = RunFolder(folder)
    graph = load_graph(run.need(run.tflite, "convert"))
    plan, verdict = _read_plan(run.need(run.plan, "check"))
    results = BoardResults.load(run.need(run.board_results, "test"))
    _require_same_model(run, graph, results)
    answers = Answers.read(run.need(run.evaluation, "test"), results)
    board = load_board(verdict.board)
    manifest = run.manifest()
    different = answers.different
    return Report(
        name=printable(folder.resolve().name),
        model=_model(manifest),
        board=board.title,
        target=results.target,
        engine=printable(results.description.get("engine", "unknown")),
        samples=len(answers.board),
        accuracy=Accuracy(
            answers.score(answers.float_model), answers.score(answers.int8), answers.score(answers.board)
        ),
        precisions=answers.precisions,
        mismatches=len(different),
        output_mismatches=int(answers.output_differs.sum()),
        quantization_changes=(
            None if answers.float_model is None else len(differing(answers.float_model, answers.int8))
        ),
        timing=_timing(results, board),
        ram=_ram(results, verdict),
        flash=_flash(results, verdict),
        plan=_plan(graph, plan),
        layers=_layers(_weights_in_flash(run, graph, verdict, results), verdict, results),
        training=read_curves(run.training / "log.csv"),
        classes=answers.classes,
        confusion=answers.confusion(),
        first_samples=answers.pictures(np.arange(len(answers.board))[:SAMPLES_SHOWN]),
        mistakes=answers.pictures(answers.mistakes[:SAMPLES_SHOWN]),
        differences=answers.samples(different[:DIFFERENCES_LISTED]),
        stages={name: record.seconds for name, record in manifest.stages.items()},
        versions=_versions(manifest, results),
        model_sha256=graph.sha256,
        git_revision=printable(results.description.get("git", "unknown")),
        warnings=_warnings(results, answers),
    )


def _read_plan(path: Path) -> tuple[memory.MemoryPlan, budget.Verdict]:
    try:
        values = json.loads(path.read_bytes())
        return _parse(memory.MemoryPlan, values["plan"]), _parse(budget.Verdict, values["verdict"])
    except (ValueError, KeyError, TypeError) as error:
        reason = first_line(error)
        raise ConfigError(f"{path}: damaged ({reason}); delete it and run: tinyboost check") from None


def _parse(kind: type[T], value: object) -> T:
    return TypeAdapter(kind).validate_python(value)


def _require_same_model(run: RunFolder, graph: Graph, results: BoardResults) -> None:
    answered = results.description.get("model_sha256", graph.sha256)
    if answered != graph.sha256:
        raise ConfigError(
            f"{run.board_results}: answers of another model ({answered[:12]}…) than {run.tflite} "
            f"({graph.sha256[:12]}…); run: tinyboost test -o {run.path}"
        )


def _model(manifest: Manifest) -> str:
    """What the model is known by: the user's own file, or the network that was trained."""
    configs = {name: record.config for name, record in manifest.stages.items()}
    source = configs.get("convert", {}).get("source")
    network = configs.get("train", {}).get("model", {}).get("name", "model.tflite")
    return printable(Path(source).name if source else str(network))


def _timing(results: BoardResults, board: Board) -> Timing:
    return Timing(
        clock_hz=board.chip.clock_hz,
        unit=results.unit,
        count=results.count,
        cycles_estimate=results.cycles_estimate,
        latency_ms=results.latency_ms,
    )


def _ram(results: BoardResults, verdict: budget.Verdict) -> Ram:
    """RAM of the image, or of the verdict where the target is no image of the chip."""
    used = results.ram
    if used is None:
        plan = verdict.ram
        return Ram(plan.budget, plan.arena, plan.data_bss, plan.stack, stack_measured=False)
    return Ram(
        budget=min(used.budget, verdict.ram.budget),
        arena=used.arena,
        data_bss=used.data_bss,
        stack=used.stack,
        stack_measured=results.stack_used is not None,
        regions=tuple(RamRegion(name, region.used, region.size) for name, region in used.by_region.items()),
    )


def _flash(results: BoardResults, verdict: budget.Verdict) -> Flash:
    if results.image is None:
        return Flash(verdict.flash.budget, verdict.flash.weights, verdict.flash.code)
    used = results.image.flash
    return Flash(min(used.budget, verdict.flash.budget), used.weights, used.code)


def _plan(graph: Graph, plan: memory.MemoryPlan) -> MemoryPlan:
    def role(tensor: int | None) -> TensorRole:
        if tensor is None:
            return "scratch"
        if tensor in graph.inputs:
            return "input"
        return "output" if tensor in graph.outputs else "activation"

    return MemoryPlan(
        arena=plan.arena_bytes,
        operators=tuple(graph.operators[index].kind for index in plan.order),
        tensors=tuple(
            PlannedTensor(
                printable(piece.name), role(piece.tensor), piece.first, piece.last, piece.offset, piece.nbytes
            )
            for piece in plan.allocations
        ),
        peak=plan.order.index(plan.peak_operator),
    )


def _weights_in_flash(
    run: RunFolder, graph: Graph, verdict: budget.Verdict, results: BoardResults
) -> dict[int, int]:
    """Bytes of constants of each layer as the image holds them; another engine holds the model's own."""
    if results.description.get("engine") != "aot":
        return {layer.index: layer.weights_bytes for layer in verdict.layers}
    path = run.need(run.generated / "model.json", "build")
    try:
        values = json.loads(path.read_bytes())
        table = _parse(tuple[GeneratedLayer, ...], values["layers"])
        generated_from = values["model_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        reason = first_line(error)
        raise ConfigError(f"{path}: damaged ({reason}); delete it and run: tinyboost build") from None
    if generated_from != graph.sha256:
        raise ConfigError(f"{path}: generated from another model than {run.tflite}; run: tinyboost build")
    return {layer.index: layer.weights_bytes for layer in table}


def _layers(weights: dict[int, int], verdict: budget.Verdict, results: BoardResults) -> tuple[Layer, ...]:
    counts = {layer.index: layer.count for layer in results.layers}
    return tuple(
        Layer(
            index=layer.index,
            name=printable(layer.name),
            op=layer.op,
            macs=layer.macs,
            weights=weights.get(layer.index, 0),
            arena=layer.live_bytes,
            count=counts.get(layer.index),
        )
        for layer in verdict.layers
    )


def _versions(manifest: Manifest, results: BoardResults) -> dict[str, str]:
    """Versions of the last stage, and the compiler of the image."""
    records = sorted(manifest.stages.values(), key=lambda record: record.finished)
    versions = {
        name: text for name, text in (records[-1].versions if records else {}).items() if name != "git"
    }
    compiler = {key: results.description[key] for key in ("compiler", "flags") if key in results.description}
    return {name: printable(text) for name, text in (versions | compiler).items()}


def _warnings(results: BoardResults, answers: Answers) -> tuple[str, ...]:
    warnings = []
    answered, asked = len(answers.board), max(results.samples, len(answers.board))
    if not results.complete:
        warnings.append(
            f"interrupted after {count(answered)} of {count(asked)} samples; tinyboost test goes on"
        )
    if results.image is None:
        warnings.append("RAM and flash are the plan's estimates: the host build is no image of the chip")
    if not answers.labelled.any() and answers.precisions is None:
        warnings.append("no labels were given, so there are no accuracies")
    return tuple(warnings)
