"""Reading and checking a float ONNX model before it is converted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no stubs
from onnx import helper, numpy_helper

from common.errors import ModelError

MAX_FILE_BYTES = 256 << 20
_PLAIN = {
    *("Conv", "Gemm", "Add", "Relu", "Clip", "Flatten", "Softmax"),
    *("MaxPool", "AveragePool", "GlobalAveragePool"),
}


@dataclass(frozen=True)
class OnnxInput:
    """The only input of a model: float32 of a fixed shape with batch 1."""

    name: str
    shape: tuple[int, ...]


def load_onnx(path: Path) -> tuple[Any, OnnxInput]:
    """Read and check an ONNX model; returns the `ModelProto` and its input.

    Raises:
        ModelError: the file is damaged, or its input is not one float32 tensor of fixed shape with batch 1.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"more than {MAX_FILE_BYTES} bytes: no model for a microcontroller")
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}") from None
    except DecodeError:
        raise ModelError("not an ONNX file, or a damaged one") from None
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise ModelError(f"not a valid ONNX model: {reason[:200]}") from None
    return model, _only_input(model)


def _only_input(model: Any) -> OnnxInput:
    constants = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs[:8])
        raise ModelError(f"has {len(inputs)} inputs ({names}); exactly one is supported")
    name, tensor = inputs[0].name, inputs[0].type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        known = onnx.TensorProto.DataType.values()
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in known else "unknown"
        raise ModelError(f"input '{name}' is {kind}, not FLOAT")
    if not tensor.HasField("shape"):
        raise ModelError(f"input '{name}' has no shape; export with a fixed one")
    for axis, dimension in enumerate(tensor.shape.dim):
        if dimension.dim_value < 1:
            label = dimension.dim_param or "?"
            raise ModelError(
                f"input '{name}' has a dynamic dimension '{label}' (axis {axis}); export with a fixed shape"
            )
    shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
    if len(shape) < 2 or shape[0] != 1:
        raise ModelError(f"input '{name}' has shape {list(shape)}; export with batch 1 as first dimension")
    return OnnxInput(name, shape)


def is_plain(model: Any) -> bool:
    """Whether all operators are of kinds between which there is nothing to fold or simplify."""
    return {node.op_type for node in model.graph.node} <= _PLAIN


def pool_global_means(model: Any) -> None:
    """Rewrite means over H and W of [N, C, H, W] as global average pools, in place.

    The converter leaves a TRANSPOSE of the whole map before such a mean, but none before a pool.
    """
    ranks = _ranks(model)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4 or _axes(node, constants) != {2, 3}:
            nodes.append(node)
            continue
        keeps = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        pooled = node.output[0] if keeps else f"{node.output[0]}_pooled"
        nodes.append(helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=f"{pooled}_pool"))
        if not keeps:
            nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]], name=f"{pooled}_flat"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _ranks(model: Any) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values}


def _axes(node: Any, constants: dict[str, Any]) -> set[int]:
    """Axes of a reduction of a rank 4 tensor: an attribute up to opset 17, an input since 18."""
    given = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "axes"), None)
    if given is None and len(node.input) > 1 and node.input[1] in constants:
        given = [int(axis) for axis in constants[node.input[1]].reshape(-1)]
    return {axis % 4 for axis in given or []}
