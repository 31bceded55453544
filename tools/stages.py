"""The stages of a run, each from files to files in the run folder, skipped where nothing changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common import files
from common.errors import CheckpointError, ConfigError, ModelError
from converter.board import Board, load_board
from tools.imports import import_all, imported_files
from tools.runs import RunFolder, StageRecord, source_digest, unrecorded
from trainer.launch import launched

if TYPE_CHECKING:
    from converter.budget import Verdict
    from converter.graph import Graph
    from tools.config import RunConfig, TargetName
    from tools.report import Report, ReportJson
    from tools.targets import Target
    from trainer.config import TrainConfig

log = logging.getLogger(__name__)

_NETWORKS = ("model.safetensors", "giant.safetensors")  # what a training leaves for later ones


def train(run: RunFolder, config: RunConfig, *, resume: bool = False) -> StageRecord:
    """Train the tiny network: `train/model.safetensors` and `train/model.json`.

    Several processes train whether something changed or not, and the first one alone writes.
    """

    def work() -> dict[str, Any]:
        from trainer.loop import train as train_network

        import_all(config.imports)
        result = train_network(config.data, config.model, config.train, run.training, resume=resume)
        return result.model_dump()

    launch = launched()
    if not launch.main:
        return unrecorded(work)
    return _stage(
        run,
        "train",
        work,
        config=config.model_dump(include={"data", "model", "train"}, mode="json"),
        inputs=[*_earlier_networks(config.train), *imported_files(config.imports)],
        outputs=_checkpoint(run),
        force=launch.count > 1,
    )


def train_or_go_on(run: RunFolder, config: RunConfig) -> StageRecord:
    """Train, from the checkpoint of an interrupted training where it can go on from there."""
    try:
        return train(run, config, resume=run.training.exists())
    except CheckpointError as error:
        log.warning("training from the start: %s", error.reason)
        return train(run, config)


def convert_trained(run: RunFolder, config: RunConfig) -> StageRecord:
    """Make `model.onnx` and `model.tflite` from the checkpoint, calibrated on training images."""

    def work() -> None:
        from converter.export import export_onnx
        from converter.quantize import quantize_onnx
        from trainer.checkpoint import load_network
        from trainer.data import load_dataset, normalise

        import_all(config.imports)
        network, architecture = load_network(run.training)
        data = load_dataset(architecture.data)
        images = data.calibration_images(config.quantize.calibration_samples)
        export_onnx(network, architecture.input_shape, run.onnx)
        quantize_onnx(run.onnx, normalise(images, data.mean, data.std).numpy(), run.tflite)

    for path in _checkpoint(run):
        run.need(path, "train")
    return _stage(
        run,
        "convert",
        work,
        config={**config.quantize.model_dump(), "code": source_digest("converter")},
        inputs=[*_checkpoint(run), *imported_files(config.imports)],
        outputs=[run.onnx, run.tflite],
    )


def convert_given(run: RunFolder, source: Path, calibration: Path | None) -> StageRecord:
    """Make `model.tflite` from a user's own .onnx (with calibration inputs) or int8 .tflite.

    Raises:
        ConfigError: a file is missing or of another kind, or calibration does not fit.
        ModelError: the model is damaged or not supported.
    """
    if not source.is_file():
        raise ConfigError(f"{source}: no such file")
    if source.suffix not in (".onnx", ".tflite"):
        raise ModelError(f"{source}: '{source.suffix}' is not known here; give an .onnx or a .tflite file")

    def adopt() -> None:
        from converter.quantize import adopt_tflite

        adopt_tflite(source, run.tflite)

    def quantize() -> None:
        from converter.quantize import load_calibration, quantize_onnx

        if calibration is None:
            raise ConfigError(
                f"{source}: quantization needs real inputs; give --calibration FILE.npy "
                "(float32, batch first, as the model takes them)"
            )
        quantize_onnx(source, load_calibration(calibration), run.tflite)

    return _stage(
        run,
        "convert",
        adopt if source.suffix == ".tflite" else quantize,
        config={"source": str(source), "code": source_digest("converter")},
        inputs=[source, *([calibration] if calibration else [])],
        outputs=[run.tflite],
    )


def check(run: RunFolder, config: RunConfig) -> Verdict:
    """Check operators and budget, and write `plan.json`; the verdict may be no.

    Raises:
        ModelError: an operator or option is not supported, or the model is not int8.
    """
    from converter.budget import check_budget
    from converter.codegen import check_ends, check_support, constant_bytes, engine_needs
    from converter.memory import plan_memory
    from converter.quantize import check_quantized

    graph = load_model(run)
    board = load_board(config.board.name)
    verdicts: list[Verdict] = []

    def work() -> None:
        check_quantized(graph)
        check_ends(graph)
        check_support(graph)
        plan = plan_memory(graph, engine_needs(graph))
        limits = {"ram_bytes": config.board.ram_bytes, "flash_bytes": config.board.flash_bytes}
        constants = constant_bytes(graph, plan)
        verdicts.append(check_budget(graph, plan, board, **limits, constants=constants))
        files.write_json(run.plan, {"schema": 1, "plan": asdict(plan), "verdict": asdict(verdicts[0])})

    _stage(
        run,
        "check",
        work,
        config=config.board.model_dump(),
        inputs=[run.tflite],
        outputs=[run.plan],
        force=True,
    )
    return verdicts[0]


def build(run: RunFolder, config: RunConfig, target: TargetName) -> Path:
    """Generate the C++ and build the image for `target`; gives the image's path.

    Raises:
        OverBudgetError: the image does not fit the board.
        ToolMissingError: CMake or the compiler is not installed.
    """
    from converter.codegen import engine_needs, generate
    from converter.memory import plan_memory
    from tools.build import build_firmware

    check(run, config).require()
    graph = load_model(run)
    board = load_board(config.board.name)
    preset = preset_of(target, board)
    images: list[Path] = []

    def work() -> None:
        generate(graph, plan_memory(graph, engine_needs(graph)), run.generated)
        images.append(build_firmware(run.generated, run.build(preset), preset, board))

    _stage(
        run,
        "build",
        work,
        config={"preset": preset},
        inputs=[run.tflite],
        outputs=[run.generated],
        force=True,
    )
    return images[0]


def evaluate(run: RunFolder, config: RunConfig, inputs: Path | None = None) -> StageRecord:
    """Answer the test samples with the float model and with tflite-micro on this host: `evaluation.npz`."""
    samples = config.test.samples
    trained = run.onnx.exists() and run.training.exists() and inputs is None

    def work() -> None:
        from tools.evaluation import evaluate_given, evaluate_trained

        graph = load_model(run)
        if trained:
            import_all(config.imports)
            evaluate_trained(run, graph, samples).save(run.evaluation)
        else:
            evaluate_given(run.tflite, graph, samples, inputs).save(run.evaluation)

    read = [
        run.need(run.tflite, "convert"),
        *([*_checkpoint(run), *imported_files(config.imports)] if trained else []),
        *([inputs] if inputs else []),
    ]
    return _stage(
        run,
        "evaluate",
        work,
        config={"samples": samples, "code": source_digest("converter")},
        inputs=read,
        outputs=[run.evaluation],
    )


def test(run: RunFolder, config: RunConfig, target: TargetName, options: Sequence[str]) -> bool:
    """Run the board tests against `target`: `board.json` and `junit.xml`. Gives whether all passed.

    Raises:
        ConfigError: the image is not built yet.
        NoBoardError: the target is a board and none is there.
        LinkError: pytest could not run the suite.
    """
    from tools.suite import run_suite

    image_of(run, target, load_board(config.board.name))
    passed: list[bool] = []

    def work() -> None:
        passed.append(run_suite(run, target, config, options))

    _stage(
        run,
        "test",
        work,
        config={"target": target, **config.test.model_dump()},
        inputs=[run.tflite, run.evaluation],
        outputs=[run.junit],
        force=True,
    )
    return passed[0]


@dataclass(frozen=True)
class Answer:
    """What a target answered to one sample; `equal`: tflite-micro on the host answers the same."""

    index: int
    label: int | None
    output: npt.NDArray[Any]
    count: int
    equal: bool


def answers(run: RunFolder, target: Target, samples: int, inputs: Path | None) -> list[Answer]:
    """Send inputs to a target: those of a file, else the run's own test samples, else random ones."""
    from tools.evaluation import Evaluation, evaluate_given

    if inputs is None and run.evaluation.exists():
        evaluation = Evaluation.load(run.evaluation)
    else:
        evaluation = evaluate_given(run.tflite, load_model(run), samples, inputs)
    found = []
    with target.link() as link:
        link.expect_model(files.sha256(run.tflite))
        for index in range(min(samples, len(evaluation.inputs))):
            result = link.run([evaluation.inputs[index]])
            output, label = result.outputs[0], int(evaluation.labels[index])
            equal = bool(np.array_equal(output.ravel(), evaluation.int8_outputs[index].ravel()))
            found.append(Answer(index, label if label >= 0 else None, output, result.cycles, equal))
    return found


def report(run: RunFolder) -> tuple[Report, ReportJson]:
    """Write `report.html` and `report.json`."""
    from tools.report import build_report, write_report

    content = build_report(run.path)
    return content, write_report(content, run.path)


def load_model(run: RunFolder) -> Graph:
    """The graph of the run's `model.tflite`, named after the run."""
    from converter.tflite_reader import load_graph

    return replace(load_graph(run.need(run.tflite, "convert")), name=run.name)


def preset_of(target: TargetName, board: Board) -> str:
    """CMake preset of the image that runs on `target`; on the host it is checked by sanitizers."""
    return "host-sanitize" if target == "host" else board.name


def image_of(run: RunFolder, target: TargetName, board: Board) -> Path:
    """Path of the built image for `target`."""
    folder = run.build(preset_of(target, board))
    image = folder / ("firmware" if target == "host" else "firmware.elf")
    return run.need(image, f"build --target {target}")


def _checkpoint(run: RunFolder) -> list[Path]:
    return [run.training / "model.safetensors", run.training / "model.json"]


def _earlier_networks(train: TrainConfig) -> list[Path]:
    """Weights of earlier trainings that a training starts from or learns from."""
    folders = [train.initial, *train.distillation.all_teachers]
    files = [folder / name for folder in folders if folder for name in _NETWORKS]
    return [path for path in files if path.is_file()]


def _stage(
    run: RunFolder,
    name: str,
    work: Callable[[], dict[str, Any] | None],
    *,
    config: dict[str, Any],
    outputs: Iterable[Path],
    inputs: Iterable[Path] = (),
    force: bool = False,
) -> StageRecord:
    record, ran = run.stage(name, work, config=config, inputs=inputs, outputs=outputs, force=force)
    if ran:
        log.info("%s: %.1f s", name, record.seconds)
    else:
        log.info("%s: nothing changed, kept", name)
    return record
