"""A report from the files of a run folder, and what is said where one is absent or damaged."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from codegen.model_builder import ModelBuilder

from common import files
from common.errors import ConfigError, UserError
from converter.board import load_board
from converter.budget import check_budget
from converter.codegen import GeneratedLayer
from converter.memory import EngineNeeds, plan_memory
from converter.tflite_reader import load_graph
from tools.evaluation import Evaluation
from tools.report import build_report, write_report
from tools.report.content import Precision, Precisions
from tools.report.machine import ReportJson
from tools.report.verdict import headline
from tools.results import BoardResults, ImageMemory, LayerCount, RegionUse
from tools.runs import RunFolder
from trainer.history import EpochRow, History

SAMPLES, CLASSES = 40, 3
BOARD = load_board("stm32f746g_disco")


def small_model() -> bytes:
    rng = np.random.default_rng(0)
    model = ModelBuilder()
    image = model.input([1, 8, 8, 1], 1 / 255, -128)
    weights = rng.integers(-127, 128, (4, 3, 3, 1), dtype=np.int8)
    features = model.tensor([1, 8, 8, 4], scale=0.02)
    model.conv_2d(
        image, weights, np.zeros(4, np.int32), weight_scale=[0.01] * 4, output=features, activation="relu"
    )
    pooled = model.tensor([1, 1, 1, 4], scale=0.02)
    model.pool_2d("AVERAGE_POOL_2D", features, output=pooled, window=(8, 8), strides=(8, 8))
    flat = model.tensor([1, 4], scale=0.02)
    model.reshape(pooled, flat)
    logits = model.tensor([1, CLASSES], scale=0.1)
    dense = rng.integers(-127, 128, (CLASSES, 4), dtype=np.int8)
    model.fully_connected(flat, dense, np.zeros(CLASSES, np.int32), weight_scale=[0.01], output=logits)
    return model.build(logits)


def one_hot(classes: np.ndarray) -> np.ndarray:
    return np.where(np.arange(CLASSES) == classes[:, None], 100, -100).astype(np.int8)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A complete run: float right on all, int8 wrong on 4, the board as int8."""
    run = RunFolder(tmp_path / "tiny")
    files.write_bytes(run.tflite, small_model())
    graph = load_graph(run.tflite)
    plan = plan_memory(graph, EngineNeeds(scratch={0: 72}, aliases={2: graph.operators[2].inputs[0]}))
    verdict = check_budget(graph, plan, BOARD)
    plans = {"schema": 1, "plan": dataclasses.asdict(plan), "verdict": dataclasses.asdict(verdict)}
    files.write_json(run.plan, plans)
    table = [
        GeneratedLayer(layer.index, layer.name, layer.op, "layer", layer.macs, layer.weights_bytes + 64, 0)
        for layer in verdict.layers
    ]
    generated = {"model_sha256": graph.sha256, "layers": [dataclasses.asdict(layer) for layer in table]}
    files.write_json(run.generated / "model.json", generated)
    labels = np.arange(SAMPLES) % CLASSES
    int8 = np.where(np.arange(SAMPLES) < 4, (labels + 1) % CLASSES, labels)
    images = np.random.default_rng(1).integers(0, 256, (SAMPLES, 8, 8, 1), dtype=np.uint8)
    Evaluation(
        inputs=np.zeros((SAMPLES, 8, 8, 1), np.int8),
        int8_outputs=one_hot(int8),
        labels=labels,
        images=images,
        float_logits=one_hot(labels).astype(np.float32),
        class_names=("zero", "one", "two\x1b[31m"),
    ).save(run.evaluation)
    board_results(graph.sha256, int8).save(run.board_results)
    history = History(run.training, [])
    history.add(EpochRow(1, 10, 0.1, 2.0, 0.3, 0.4, 3.0))
    history.add(EpochRow(2, 20, 0.05, 1.0, 0.6, None, 3.0))
    history.add(EpochRow(3, 30, 0.0, 0.5, 0.9, 0.8, 3.0))
    history.close()
    run.stage("convert", lambda: None, config={}, inputs=[], outputs=[run.tflite])
    run.stage("test", lambda: None, config={}, inputs=[run.tflite], outputs=[run.board_results])
    return run


def board_results(model_sha256: str, predictions: np.ndarray, **changes: object) -> BoardResults:
    regions = {"dtcm": RegionUse(used=4_600, size=65_536), "sram1": RegionUse(used=336, size=245_760)}
    regions["sram2"] = RegionUse(used=0, size=16_384)
    kinds = ("CONV_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED")
    fields: dict[str, object] = {
        "target": "virtual",
        "complete": True,
        "description": {
            "board": BOARD.name, "engine": "aot", "model": "tiny", "model_sha256": model_sha256,
            "git": "abc123", "compiler": "gcc 12.2", "flags": "-O2", "clock_hz": "216000000",
        },
        "samples": len(predictions),
        "unit": "instructions",
        "outputs": one_hot(predictions).tolist(),
        "predictions": predictions.tolist(),
        "counts": [5_000] * len(predictions),
        "mismatches": 0,
        "output_mismatches": 0,
        "cycles_estimate": 6_480,
        "stack_used": 640,
        "image": ImageMemory(
            flash_budget=1_048_576, weights=200, code=9_000, data=100, bss=400, arena=336,
            stack_reserve=4_096, regions=regions,
        ),
        "layers": [
            LayerCount(index=index, name=f"layer {index}", op=kind, macs=0, count=1_000 + index)
            for index, kind in enumerate(kinds)
        ],
    }  # fmt: skip
    return BoardResults.model_validate(fields | changes)


def change_results(run: RunFolder, **changes: object) -> None:
    values = json.loads(run.board_results.read_bytes())
    BoardResults.model_validate(values | changes).save(run.board_results)


def with_precisions(run: RunFolder) -> None:
    """The evaluation as that of a detector."""
    evaluation = Evaluation.load(run.evaluation)
    precisions = np.array([[0.67, 0.27, 0.65], [0.63, 0.25, 0.62]])
    labels = np.full_like(evaluation.labels, -1)
    dataclasses.replace(evaluation, labels=labels, precisions=precisions).save(run.evaluation)


def test_a_detector_is_reported_by_its_average_precisions(run):
    with_precisions(run)
    report = build_report(run.path)
    float_model, int8 = Precision(0.67, 0.27, 0.65), Precision(0.63, 0.25, 0.62)
    assert report.precisions == Precisions(float_model, int8, int8)
    assert report.warnings == ()
    assert not report.first_samples, "an argmax of raw outputs is no class"


def test_a_detector_that_answers_otherwise_has_no_precision_of_the_board(run):
    with_precisions(run)
    outputs = BoardResults.load(run.board_results).outputs
    change_results(run, outputs=[[value + 1 for value in outputs[0]], *outputs[1:]])
    report = build_report(run.path)
    assert report.precisions is not None
    assert report.precisions.board is None
    assert (report.mismatches, report.output_mismatches) == (1, 1)
    assert headline(report) == "The virtual board and tflite-micro disagree on 1 of 40 samples."


def test_report_of_a_run(run):
    report = build_report(run.path)
    accuracy = report.accuracy
    assert (accuracy.float_model.top1, accuracy.int8_host.top1, accuracy.board.top1) == (1.0, 0.9, 0.9)
    assert (report.samples, report.mismatches, report.quantization_changes) == (SAMPLES, 0, 4)
    assert report.confusion is not None
    assert report.confusion.sum() == SAMPLES
    assert np.trace(report.confusion) == SAMPLES - 4
    assert [sample.index for sample in report.mistakes] == [0, 1, 2, 3]
    assert len(report.first_samples) == 24
    assert report.classes == ("zero", "one", "two\N{REPLACEMENT CHARACTER}[31m")
    assert (report.ram.arena, report.ram.data_bss, report.ram.stack, report.ram.total) == (
        336,
        500,
        640,
        1476,
    )
    assert report.ram.budget == 327_680
    assert report.flash.total == 9_200
    assert report.timing.instructions == 5_000
    assert report.timing.estimated_ms == pytest.approx(0.03)
    assert [layer.count for layer in report.layers] == [1_000, 1_001, 1_002, 1_003]
    assert report.layers[0].macs == 8 * 8 * 4 * 9
    assert report.model_sha256 == files.sha256(run.tflite)
    assert report.git_revision == "abc123"
    assert list(report.stages) == ["convert", "test"]
    assert report.versions["flags"] == "-O2"
    assert "git" not in report.versions
    assert report.warnings == ()


def test_the_model_is_known_by_what_it_was_made_from(run):
    assert build_report(run.path).model == "model.tflite"
    run.stage("train", lambda: None, config={"model": {"name": "mcunet"}}, outputs=[])
    assert build_report(run.path).model == "mcunet"
    run.stage("convert", lambda: None, config={"source": "/models/kws.tflite"}, outputs=[run.tflite])
    assert build_report(run.path).model == "kws.tflite"


def test_plan_shows_roles_and_shares_counted_once(run):
    plan = build_report(run.path).plan
    assert plan is not None
    assert [tensor.role for tensor in plan.tensors] == ["input", *["activation"] * 3, "output", "scratch"]
    assert plan.operators == ("CONV_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED")
    peak = json.loads(run.plan.read_text())["plan"]["peak"]
    assert [(t.name, t.offset, t.size) for t in plan.live_at_peak] == [
        (piece["name"], piece["offset"], piece["nbytes"]) for piece in peak
    ]


def test_weights_are_those_in_flash(run):
    of_the_model = [layer["weights_bytes"] for layer in json.loads(run.plan.read_text())["verdict"]["layers"]]
    assert [layer.weights for layer in build_report(run.path).layers] == [size + 64 for size in of_the_model]
    description = json.loads(run.board_results.read_bytes())["description"]
    change_results(run, description=description | {"engine": "tflm"})
    (run.generated / "model.json").unlink()
    assert [layer.weights for layer in build_report(run.path).layers] == of_the_model


def test_code_of_another_model_is_refused(run):
    path = run.generated / "model.json"
    path.write_text(path.read_text().replace(files.sha256(run.tflite), "0" * 64))
    with pytest.raises(ConfigError, match=r"model\.json: generated from another model"):
        build_report(run.path)


def test_curves_leave_out_epochs_without_a_value(run):
    curves = {curve.name: curve for curve in build_report(run.path).training}
    assert set(curves) == {"train loss", "test", "train", "learning rate"}
    assert curves["train loss"].values == (2.0, 1.0, 0.5)
    assert (curves["test"].epochs, curves["test"].values) == ((1.0, 3.0), (0.4, 0.8))
    assert {curve.panel for curve in curves.values()} == {"loss", "accuracy", "learning rate"}


def test_files_are_written(run):
    machine = write_report(build_report(run.path), run.path)
    assert ReportJson.model_validate_json(run.report_json.read_bytes()) == machine
    assert run.report_page.read_text().startswith("<!DOCTYPE html>")
    assert machine.accuracy.board == 0.9
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


def test_a_board_that_answers_otherwise(run):
    values = json.loads(run.board_results.read_bytes())
    values["predictions"][7] = (values["predictions"][7] + 1) % CLASSES
    values["outputs"][7] = np.roll(values["outputs"][7], 1).tolist()
    values["outputs"][8][0] += 1
    change_results(run, predictions=values["predictions"], outputs=values["outputs"])
    report = build_report(run.path)
    assert (report.mismatches, report.output_mismatches) == (1, 2)
    assert [(sample.index, sample.differs) for sample in report.differences] == [(7, True)]


def test_an_interrupted_run_counts_what_was_answered(run):
    values = json.loads(run.board_results.read_bytes())
    change_results(
        run,
        complete=False,
        samples=SAMPLES,
        predictions=values["predictions"][:10],
        outputs=values["outputs"][:10],
    )
    report = build_report(run.path)
    assert report.samples == 10
    assert report.accuracy.float_model.samples == 10
    assert report.warnings == ("interrupted after 10 of 40 samples; tinyboost test goes on",)


def test_host_build_gives_estimates_and_says_so(run):
    change_results(run, target="host", unit="nanoseconds", image=None, stack_used=None, cycles_estimate=None)
    report = build_report(run.path)
    assert report.timing.instructions is None
    assert not report.ram.stack_measured
    assert report.ram.arena == json.loads(run.plan.read_text())["verdict"]["ram"]["arena"]
    assert "estimates" in report.warnings[0]


def test_silicon_counts_cycles(run):
    change_results(run, target="board", unit="cycles", counts=[216_000] * SAMPLES, cycles_estimate=None)
    timing = build_report(run.path).timing
    assert (timing.instructions, timing.latency_ms, timing.count) == (None, 1.0, 216_000)


def test_users_own_model_without_labels_training_and_images(run):
    (run.training / "log.csv").unlink()
    predictions = json.loads(run.board_results.read_bytes())["predictions"]
    Evaluation(
        inputs=np.zeros((SAMPLES, 8, 8, 1), np.int8),
        int8_outputs=one_hot(np.array(predictions)),
        labels=np.full(SAMPLES, -1, np.int64),
    ).save(run.evaluation)
    report = build_report(run.path)
    assert report.accuracy.board.top1 is None
    assert (report.training, report.confusion, report.first_samples, report.mistakes) == ((), None, (), ())
    assert report.warnings == ("no labels were given, so there are no accuracies",)
    assert write_report(report, run.path).accuracy.board is None


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("model.tflite", "convert"),
        ("plan.json", "check"),
        ("generated/model.json", "build"),
        ("board.json", "test"),
        ("evaluation.npz", "test"),
    ],
)
def test_an_absent_file_is_named_with_what_makes_it(run, name, maker):
    (run.path / name).unlink()
    with pytest.raises(ConfigError, match=f"{name}.*tinyboost {maker}"):
        build_report(run.path)


@pytest.mark.parametrize(
    "name", ["model.tflite", "plan.json", "generated/model.json", "board.json", "evaluation.npz"]
)
@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty"])
def test_a_damaged_file_is_one_line(run, name, damage):
    path = run.path / name
    content = path.read_bytes()
    path.write_bytes(
        {"truncate": content[: len(content) // 2], "garbage": b"\xff\x00{]" * 50, "empty": b""}[damage]
    )
    with pytest.raises(UserError, match=re.escape(path.name)) as raised:
        build_report(run.path)
    assert "\n" not in str(raised.value)


def test_a_log_that_is_none_is_named(run):
    (run.training / "log.csv").write_text("epoch,loss\n1,0.5\ntwo,0.4\n")
    with pytest.raises(ConfigError, match=r"log\.csv"):
        build_report(run.path)
    (run.training / "log.csv").write_text("")
    assert build_report(run.path).training == ()


def test_answers_of_another_model_are_refused(run):
    values = json.loads(run.board_results.read_bytes())
    change_results(run, description=values["description"] | {"model_sha256": "0" * 64})
    with pytest.raises(ConfigError, match="another model"):
        build_report(run.path)


@pytest.mark.parametrize("times", [0, 2])
def test_answers_to_other_samples_are_refused(run, times):
    values = json.loads(run.board_results.read_bytes())
    change_results(run, outputs=values["outputs"] * times, predictions=values["predictions"] * 2)
    with pytest.raises(ConfigError, match=r"evaluation\.npz"):
        build_report(run.path)
