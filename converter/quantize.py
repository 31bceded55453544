"""From float ONNX and calibration samples to int8 TFLite; and whether a graph is int8 at all."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError, ModelError
from common.files import write_bytes
from converter.graph import Graph
from converter.tflite_reader import load_graph, parse_graph
from converter.workers import WorkerError, run_worker

log = logging.getLogger(__name__)

TIMEOUT_S = 1800.0
FEW_SAMPLES = 32


def quantize_onnx(onnx_path: Path, calibration: npt.NDArray[np.float32], out_path: Path) -> None:
    """Write the int8 TFLite model of a float ONNX model: int8 in and out, per-channel weights, channels last.

    calibration: float32 [N, ...], N real inputs as the ONNX model takes them (NCHW), preprocessed; they set
    the ranges of all activations. What the converters print goes to `<out_path>.log`.

    Raises:
        ModelError: the ONNX file is damaged, has not exactly one float32 input of fixed shape with batch 1,
            or holds something that cannot be converted to int8.
        ConfigError: the calibration samples are unusable.
    """
    check_calibration(calibration, "calibration")
    log_path = out_path.with_name(f"{out_path.name}.log")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    log_path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="tinyboost-") as folder:
        samples, converted, work = (Path(folder, name) for name in ("samples.npy", "model.tflite", "work"))
        work.mkdir()
        np.save(samples, calibration)
        job = {
            "onnx": str(onnx_path.absolute()),
            "calibration": str(samples),
            "tflite": str(converted),
            "folder": str(work),
        }
        try:
            run_worker("converter.quantize_worker", [json.dumps(job)], log_path, TIMEOUT_S)
        except WorkerError as error:
            log.info("the converters' output is in %s", log_path)
            raise ModelError(f"{onnx_path}: {error}") from None
        data = converted.read_bytes()
    graph = parse_graph(data, onnx_path.name)
    check_quantized(graph)
    _warn_of_transposes(graph)
    write_bytes(out_path, data)


def adopt_tflite(path: Path, out_path: Path) -> Graph:
    """Check a user's own int8 .tflite and copy it to `out_path`.

    Raises:
        ModelError: the file is damaged or not full int8.
    """
    graph = load_graph(path)
    check_quantized(graph)
    _warn_of_transposes(graph)
    write_bytes(out_path, path.read_bytes())
    return graph


def load_calibration(path: Path) -> npt.NDArray[np.float32]:
    """Read calibration samples: an .npy of float32 [N, ...], as the ONNX model takes them (NCHW).

    Raises:
        ConfigError: the file is damaged or holds something else.
    """
    try:
        samples = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{path}: not a readable .npy file ({error})") from None
    if not isinstance(samples, np.ndarray):
        raise ConfigError(f"{path}: an archive; give one .npy array of float32 [N, ...]")
    check_calibration(samples, str(path))
    return samples


def check_calibration(samples: npt.NDArray[Any], source: str) -> None:
    """Check that samples are float32 [N, ...], finite and not empty.

    Raises:
        ConfigError: they are not; `source` stands in the message.
    """
    if samples.dtype != np.float32 or samples.ndim < 2 or not samples.size:
        raise ConfigError(f"{source}: {samples.dtype} {list(samples.shape)}; float32 [N, ...] is needed")
    if not np.isfinite(samples).all():
        raise ConfigError(f"{source}: holds NaN or infinite values")
    if len(samples) < FEW_SAMPLES:
        log.warning("%s: only %d samples; some hundred give better ranges", source, len(samples))


def is_quantized(graph: Graph) -> bool:
    """Whether all activations of `graph` are integers, its inputs and outputs int8 with a scale."""
    return not _float_tensors(graph)


def check_quantized(graph: Graph) -> None:
    """Check that `graph` is a full int8 model.

    Raises:
        ModelError: it is not; the first tensor that is not quantized is named.
    """
    offending = _float_tensors(graph)
    if offending:
        raise ModelError(
            f"{graph.name}: {offending[0]}; quantize the model to full int8 first, with int8 inputs and "
            "outputs (tinyboost convert MODEL.onnx --calibration FILE.npy does)"
        )


def _float_tensors(graph: Graph) -> list[str]:
    ends = {*graph.inputs, *graph.outputs}
    computed = [index for operator in graph.operators for index in operator.outputs]
    found = []
    for index in dict.fromkeys([*graph.inputs, *computed]):
        tensor = graph.tensors[index]
        if tensor.dtype.kind == "f" or (index in ends and tensor.dtype != np.int8):
            found.append(f"tensor '{tensor.name}' is {tensor.dtype}")
        elif index in ends and tensor.quantization is None:
            found.append(f"tensor '{tensor.name}' has no scale")
    return found


def _warn_of_transposes(graph: Graph) -> None:
    transposes = [operator.name for operator in graph.operators if operator.kind == "TRANSPOSE"]
    if transposes:
        log.warning(
            "%s: %d TRANSPOSE left by the conversion (%s); pool globally before flattening to avoid them",
            graph.name,
            len(transposes),
            ", ".join(transposes[:4]),
        )
