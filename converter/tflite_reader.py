"""Reads a .tflite file into a `Graph`: the only module that touches flatbuffers.

The file is not trusted. Every offset, index, length and shape is checked, so that whatever the bytes hold
the answer is a consistent graph or a `ModelError`. Source: TFLite schema 3
(`tensorflow/lite/schema/schema.fbs`), through the `tflite` package.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from common.errors import ModelError
from converter.folding import without_constant_operators
from converter.graph import Graph, Operator, Quantization, Tensor
from converter.layer_names import layer_names
from converter.shapes import check_shapes
from converter.tflite_options import read_options

MAX_FILE_BYTES = 64 << 20
MAX_TENSORS = 4_000
MAX_OPERATORS = 1_000
MAX_OPERATOR_TENSORS = 256
MAX_RANK = 8
MAX_CHANNELS = 1 << 16
MAX_TENSOR_BYTES = (1 << 31) - 1

_DAMAGE = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError, AttributeError)


def _enum_names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


_KINDS = _enum_names(tflite.BuiltinOperator)
_TYPES = _enum_names(tflite.TensorType)
_NUMERIC = ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64"]
_NUMERIC += ["FLOAT16", "FLOAT32", "FLOAT64", "BOOL"]
_DTYPES = {name: np.dtype(name.lower()).newbyteorder("<") for name in _NUMERIC}


def load_graph(path: Path) -> Graph:
    """Read the .tflite file at `path`; the graph is named after the file.

    Raises:
        ModelError: the file is absent, damaged, or holds something that no static int8 graph has.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{path}: {size} bytes; models of more than {MAX_FILE_BYTES} are refused")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    return _parse(data, path.stem, str(path))


def parse_graph(data: bytes, name: str) -> Graph:
    """Read the bytes of a .tflite file; `name` names the graph and stands in errors.

    Raises:
        ModelError: the bytes are damaged, or hold something that no static int8 graph has.
    """
    return _parse(data, name, name)


def _parse(data: bytes, name: str, source: str) -> Graph:
    try:
        if len(data) < 8 or data[4:8] != b"TFL3":
            raise ModelError("not a .tflite file (no TFL3 identifier)")
        return _read_model(data, name)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None
    except _DAMAGE:
        raise ModelError(f"{source}: damaged or truncated .tflite file; export it again") from None


def _read_model(data: bytes, name: str) -> Graph:
    model = tflite.Model.GetRootAsModel(data, 0)
    if model.Version() != 3:
        raise ModelError(f"TFLite schema version {model.Version()}; only version 3 is known")
    subgraphs = _length(model.SubgraphsLength(), data, "subgraphs")
    if subgraphs != 1:
        raise ModelError(f"{subgraphs} subgraphs; only models with exactly one are supported")
    subgraph = model.Subgraphs(0)
    tensors = _read_tensors(model, subgraph, data)
    inputs = _indices(subgraph, "Inputs", len(tensors), MAX_OPERATOR_TENSORS)
    outputs = _indices(subgraph, "Outputs", len(tensors), MAX_OPERATOR_TENSORS)
    operators = _read_operators(model, subgraph, tensors, data)
    graph = Graph(name, hashlib.sha256(data).hexdigest(), tensors, operators, inputs, outputs)
    _check_order(graph)
    check_shapes(graph)
    return without_constant_operators(graph)


def _length(length: int, data: bytes, what: str, limit: int | None = None) -> int:
    """A vector's length, refused where the file could not hold that many table offsets."""
    if length * 4 > len(data) or (limit is not None and length > limit):
        raise ModelError(f"{length} {what}: damaged file, or too large to be a model for a microcontroller")
    return length


def _vector(table: Any, field: str) -> npt.NDArray[Any]:
    """A numeric vector as a view of the file; empty where absent. Out of bounds raises ValueError."""
    if getattr(table, f"{field}IsNone")():
        return np.empty(0, dtype=np.int64)
    values: npt.NDArray[Any] = getattr(table, f"{field}AsNumpy")()
    return values


def _indices(table: Any, field: str, count: int, limit: int, *, optional: bool = False) -> tuple[int, ...]:
    values = _vector(table, field)
    if len(values) > limit:
        raise ModelError(f"{len(values)} {field.lower()} at one place; at most {limit} are allowed")
    lowest = -1 if optional else 0
    for value in values:
        if not lowest <= value < count:
            raise ModelError(f"tensor index {value} among {field.lower()}; the file has {count} tensors")
    return tuple(int(value) for value in values)


def _printable(raw: bytes | None) -> str:
    text = (raw or b"")[:512].decode("utf-8", "replace")
    return "".join(c if c.isprintable() and c != "\\" else "_" for c in text)


def _read_tensors(model: Any, subgraph: Any, data: bytes) -> tuple[Tensor, ...]:
    count = _length(subgraph.TensorsLength(), data, "tensors", MAX_TENSORS)
    buffers = _length(model.BuffersLength(), data, "buffers")
    return tuple(_read_tensor(model, subgraph.Tensors(i), i, buffers) for i in range(count))


def _read_tensor(model: Any, raw: Any, index: int, buffers: int) -> Tensor:
    name = _printable(raw.Name()) or f"tensor_{index}"
    what = f"tensor '{name}'"
    shape = _read_shape(raw, what)
    type_name = _TYPES.get(raw.Type(), str(raw.Type()))
    dtype = _DTYPES.get(type_name)
    if dtype is None:
        raise ModelError(f"{what} has type {type_name}, which is not supported")
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > MAX_TENSOR_BYTES:
        raise ModelError(f"{what} of shape {list(shape)} has {nbytes} bytes: no microcontroller holds that")
    if raw.IsVariable():
        raise ModelError(f"{what} keeps state between inferences (a variable), which is not supported")
    if raw.Sparsity() is not None:
        raise ModelError(f"{what} is stored sparse, which is not supported; convert without sparsity")
    if raw.Buffer() >= buffers:
        raise ModelError(f"{what} points to buffer {raw.Buffer()}; the file has {buffers}")
    values = _read_buffer(model.Buffers(raw.Buffer()), what)
    constant = None
    if values is not None:
        if values.nbytes != nbytes:
            raise ModelError(f"{what} of shape {list(shape)} needs {nbytes} bytes, has {values.nbytes}")
        constant = values.view(dtype).reshape(shape)
        constant.flags.writeable = False
    quantization = _read_quantization(raw.Quantization(), shape, dtype, constant is not None, what)
    return Tensor(index, name, shape, dtype, quantization, constant)


def _read_shape(raw: Any, what: str) -> tuple[int, ...]:
    values, signature = _vector(raw, "Shape"), _vector(raw, "ShapeSignature")
    if max(len(values), len(signature)) > MAX_RANK:
        raise ModelError(f"{what} has more than {MAX_RANK} dimensions")
    shape = tuple(int(size) for size in values)
    if len(signature) not in (0, len(shape)):
        raise ModelError(f"{what} has {len(shape)} dimensions, its shape signature {len(signature)}")
    # A free batch of which the file holds one is how Keras models come; anything else free is dynamic.
    for axis, size in enumerate(signature):
        if size != shape[axis] and not (size == -1 and axis == 0 and shape[0] == 1):
            raise ModelError(
                f"{what} has a dynamic shape {[int(s) for s in signature]}; export with a fixed shape"
            )
    if any(size < 1 for size in shape):
        raise ModelError(f"{what} has shape {list(shape)}; every dimension must be at least 1")
    return shape


def _read_buffer(raw: Any, what: str) -> npt.NDArray[np.uint8] | None:
    """The bytes of a buffer as a view of the file; None where it is empty, as for activations."""
    if raw.Offset() > 1:
        raise ModelError(f"{what} has its data outside the flatbuffer, which is not supported")
    values = _vector(raw, "Data")
    return values if len(values) else None


def _read_quantization(
    raw: Any, shape: tuple[int, ...], dtype: np.dtype[Any], is_constant: bool, what: str
) -> Quantization | None:
    if raw is None:
        return None
    scale, zero_point = _vector(raw, "Scale"), _vector(raw, "ZeroPoint")
    if not len(scale):
        return None
    if len(scale) != len(zero_point):
        raise ModelError(f"{what} has {len(scale)} scales and {len(zero_point)} zero points")
    # TFLM's person_detect has axis 3 on its one-dimensional biases: there only one axis can be meant.
    axis = 0 if len(shape) == 1 else int(raw.QuantizedDimension())
    if len(scale) > 1:
        if not is_constant:
            raise ModelError(f"{what} is an activation quantized per channel, which is not supported")
        if not 0 <= axis < len(shape) or shape[axis] != len(scale) or len(scale) > MAX_CHANNELS:
            raise ModelError(f"{what} of shape {list(shape)} has {len(scale)} scales along axis {axis}")
    if not np.isfinite(scale).all() or (scale < 0).any() or (not is_constant and scale[0] == 0):
        raise ModelError(f"{what} has a scale that is no positive number")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if (zero_point < limits.min).any() or (zero_point > limits.max).any():
            raise ModelError(f"{what} has a zero point outside {dtype.name}")
    return Quantization(scale.astype(np.float32), zero_point.astype(np.int64), axis if len(scale) > 1 else 0)


def _read_operators(
    model: Any, subgraph: Any, tensors: Sequence[Tensor], data: bytes
) -> tuple[Operator, ...]:
    count = _length(subgraph.OperatorsLength(), data, "operators", MAX_OPERATORS)
    if count == 0:
        raise ModelError("the model has no operators")
    codes = _length(model.OperatorCodesLength(), data, "operator codes", MAX_OPERATORS)
    kinds = [_kind(model.OperatorCodes(i)) for i in range(codes)]
    raw = [subgraph.Operators(i) for i in range(count)]
    for index, operator in enumerate(raw):
        if operator.OpcodeIndex() >= codes:
            raise ModelError(f"operator {index} has code {operator.OpcodeIndex()}; the file has {codes}")
    inputs = [_indices(op, "Inputs", len(tensors), MAX_OPERATOR_TENSORS, optional=True) for op in raw]
    outputs = [_indices(op, "Outputs", len(tensors), MAX_OPERATOR_TENSORS) for op in raw]
    names = layer_names(
        [
            (kinds[operator.OpcodeIndex()], tensors[written[0]].name if written else "")
            for operator, written in zip(raw, outputs, strict=True)
        ]
    )
    operators = []
    for index, operator in enumerate(raw):
        kind = kinds[operator.OpcodeIndex()]
        options = read_options(operator, kind, f"{kind} '{names[index]}'")
        operators.append(Operator(index, kind, names[index], inputs[index], outputs[index], options))
    return tuple(operators)


def _kind(code: Any) -> str:
    # Codes above 126 stand in the newer field; older files have only the first one.
    value = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if value == tflite.BuiltinOperator.CUSTOM:
        return f"CUSTOM:{_printable(code.CustomCode())[:64]}"
    return _KINDS.get(value, f"BUILTIN_{value}")


def _check_order(graph: Graph) -> None:
    """Every tensor is written once, before it is read; inputs and outputs of the graph are activations."""
    if not graph.inputs or not graph.outputs:
        raise ModelError("the graph has no inputs or no outputs")
    for index in graph.inputs + graph.outputs:
        if graph.tensors[index].is_constant:
            raise ModelError(f"tensor '{graph.tensors[index].name}' is a constant, and in- or output")
    if len(set(graph.inputs)) != len(graph.inputs):
        raise ModelError("a tensor is listed twice among the graph's inputs")
    written = set(graph.inputs)
    for operator in graph.operators:
        what = f"{operator.kind} '{operator.name}'"
        for index in operator.inputs:
            tensor = graph.tensors[index]
            if index >= 0 and not tensor.is_constant and index not in written:
                raise ModelError(f"{what} reads tensor '{tensor.name}' before anything writes it")
        for index in operator.outputs:
            if index in written or graph.tensors[index].is_constant:
                raise ModelError(f"{what} writes tensor '{graph.tensors[index].name}', which has a value")
            written.add(index)
    for index in graph.outputs:
        if index not in written:
            raise ModelError(f"nothing writes the output tensor '{graph.tensors[index].name}'")
