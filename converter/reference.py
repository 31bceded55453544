"""The oracle: what TFLite's reference kernels answer, by the tflite-micro interpreter on the host.

It runs in a process of its own, because it may crash on a model that it does not like.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import ConfigError, ModelError
from converter.graph import Graph
from converter.tflite_reader import load_graph
from converter.workers import WorkerError, run_worker

TIMEOUT_S = 3600.0
_ARENA_MARGIN = 4 << 20


def reference_outputs(tflite_path: Path, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Run a model with one input and one output on N samples.

    inputs: int8 [N, *model input without batch]; returns int8 [N, *model output without batch].

    Raises:
        ModelError: the file is damaged, or the interpreter refuses it.
        ConfigError: the inputs do not fit the model.
    """
    (outputs,) = reference_run(tflite_path, [inputs])
    return outputs


def reference_run(tflite_path: Path, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Run a model on N samples: one array [N, ...] per input, one array [N, ...] back per output.

    Raises:
        ModelError: the file is damaged, or the interpreter refuses it.
        ConfigError: the inputs do not fit the model.
    """
    return _run(load_graph(tflite_path), tflite_path, inputs, [])


def reference_tensors(tflite_path: Path, sample: Sequence[npt.NDArray[Any]]) -> dict[int, npt.NDArray[Any]]:
    """Every activation of the model for one sample, to find where two engines part.

    sample: one array per input, without batch; returns tensor index -> array of the tensor's shape.

    Raises:
        ModelError: the file is damaged, or the interpreter refuses it.
        ConfigError: the inputs do not fit the model.
    """
    graph = load_graph(tflite_path)
    tensors = [*graph.inputs, *(tensor for operator in graph.operators for tensor in operator.outputs)]
    values = _run(graph, tflite_path, [array[np.newaxis] for array in sample], tensors)
    return {
        tensor: array.reshape(graph.tensors[tensor].shape)
        for tensor, array in zip(tensors, values, strict=True)
    }


def quantize_input(graph: Graph, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """Quantize real inputs of a one-input model as TFLite's QUANTIZE does: ties away from zero, saturated.

    values: float32 [N, H, W, C] (or whatever the model's input is); returns int8 of the same shape.

    Raises:
        ModelError: the model's input is not int8.
        ConfigError: the values hold NaN.
    """
    tensor = graph.tensors[graph.inputs[0]]
    if tensor.dtype != np.int8 or tensor.quantization is None:
        raise ModelError(f"{graph.name}: input '{tensor.name}' is {tensor.dtype}, not quantized int8")
    if np.isnan(values).any():
        raise ConfigError(f"the inputs of {graph.name} hold NaN")
    with np.errstate(over="ignore"):
        scaled = (values / np.float32(tensor.scale)).astype(np.float64)
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + tensor.zero_point
    quantized: npt.NDArray[np.int8] = rounded.clip(-128, 127).astype(np.int8)
    return quantized


def dequantize_output(graph: Graph, values: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """Real outputs float32 of a one-output model, of the shape of its int8 ones."""
    tensor = graph.tensors[graph.outputs[0]]
    real: npt.NDArray[np.float32] = (values.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    return real


def _run(
    graph: Graph, path: Path, inputs: Sequence[npt.NDArray[Any]], tensors: Sequence[int]
) -> list[npt.NDArray[Any]]:
    _check_inputs(graph, inputs)
    activations = sum(tensor.nbytes for tensor in graph.tensors if not tensor.is_constant)
    arena = 10 * path.stat().st_size + 2 * activations + _ARENA_MARGIN
    with tempfile.TemporaryDirectory(prefix="tinyboost-") as folder:
        given, answer, log = (Path(folder, name) for name in ("inputs.npz", "outputs.npz", "log"))
        np.savez(given, *inputs)
        job = {
            "model": str(path),
            "inputs": str(given),
            "outputs": str(answer),
            "output_count": len(graph.outputs),
            "arena_bytes": arena,
            "tensors": list(tensors),
        }
        try:
            run_worker("converter.reference_worker", [json.dumps(job)], log, TIMEOUT_S)
        except WorkerError as error:
            # The interpreter says the cause first, before exceptions that only say that there was one.
            first = log.read_text(errors="replace").strip().partition("\n")[0]
            reason = str(error) if not first or first.startswith("Traceback") else first[:300]
            raise ModelError(f"{path}: the tflite-micro interpreter failed: {reason}") from None
        with np.load(answer, allow_pickle=False) as archive:
            return [archive[f"arr_{i}"] for i in range(len(archive.files))]


def _check_inputs(graph: Graph, inputs: Sequence[npt.NDArray[Any]]) -> None:
    if len(inputs) != len(graph.inputs):
        raise ConfigError(f"{graph.name} has {len(graph.inputs)} inputs, given are {len(inputs)}")
    for index, values in zip(graph.inputs, inputs, strict=True):
        tensor = graph.tensors[index]
        if tensor.shape[:1] != (1,):
            raise ModelError(f"{graph.name}: input '{tensor.name}' has batch {tensor.shape[:1]}, not 1")
        if not len(values) or values.shape[1:] != tensor.shape[1:] or values.dtype != tensor.dtype:
            wanted = f"{tensor.dtype} [N, {', '.join(map(str, tensor.shape[1:]))}]"
            given = f"{values.dtype} {list(values.shape)}"
            raise ConfigError(f"{graph.name}: input '{tensor.name}' takes {wanted}, given is {given}")
