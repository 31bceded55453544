"""Carries the layer names of an ONNX model over to the .tflite that was made of it.

TensorFlow's converters name tensors after their own operators. The layers are found again by their weights:
int8 weights are the float ones, divided by the largest of their channel and rounded (folding a batch
normalization only scales channels, perhaps by a negative factor).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper

from converter.graph import Graph, Operator
from converter.tflite_reader import parse_graph

_Weights = npt.NDArray[np.float64]
_INT8_STEPS = 127


def with_onnx_names(tflite: bytes, model: Any) -> bytes:
    """The same .tflite, tensors named after the layers of the ONNX `ModelProto` or else their kind."""
    # These come with TensorFlow, which is loaded anyway where models are converted.
    from tensorflow.lite.tools import flatbuffer_utils

    graph = parse_graph(tflite, "converted model")
    named = [(label, _normalised(weights)) for label, weights in _onnx_layers(model)]
    used: dict[str, int] = {}
    editable = flatbuffer_utils.convert_bytearray_to_object(bytearray(tflite))
    tensors = editable.subgraphs[0].tensors
    for operator in graph.operators:
        label = _take_match(operator, graph, named) or operator.kind.lower()
        used[label] = used.get(label, 0) + 1
        suffix = f"_{used[label]}" if used[label] > 1 else ""
        for output in operator.outputs[:1]:
            tensors[output].name = f"{label}{suffix}".encode()
    tensors[graph.inputs[0]].name = model.graph.input[0].name.encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(editable))


def _onnx_layers(model: Any) -> list[tuple[str, _Weights]]:
    """(name, weights [out, ...]) of convolutions and matrix products with constant weights."""
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in constants:
            continue
        weights = constants[node.input[1]].astype(np.float64)
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        if node.op_type != "Conv" and not transposed:
            weights = weights.T
        layers.append((_label(node.input[1], node.name, node.op_type), weights))
    return layers


def _label(weights_name: str, node_name: str, op_type: str) -> str:
    """The module's path: of `features.0.conv.weight`, or of a node `/features/0/conv/Conv`."""
    if weights_name.endswith(".weight"):
        return weights_name.removesuffix(".weight")
    return re.sub(rf"/?{op_type}(_[0-9]+)?$", "", node_name).strip("/") or weights_name


def _take_match(operator: Operator, graph: Graph, named: list[tuple[str, _Weights]]) -> str | None:
    """Find the layer whose weights an operator has, and take it off the list."""
    if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return None
    values = graph.tensors[operator.inputs[1]].data
    if values is None:
        return None
    order = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "FULLY_CONNECTED": (0, 1)}
    weights = _normalised(values.transpose(order[operator.kind]).astype(np.float64))
    for position, (label, expected) in enumerate(named):
        if expected.shape == weights.shape:
            difference = np.minimum(
                np.abs(weights - expected).max(axis=1), np.abs(weights + expected).max(axis=1)
            )
            if difference.max() <= 1.02 / _INT8_STEPS:
                del named[position]
                return label
    return None


def _normalised(weights: _Weights) -> _Weights:
    """[out, ...] as [out, -1], every channel's largest magnitude being 1."""
    flat = weights.reshape(len(weights), -1)
    largest = np.abs(flat).max(axis=1, keepdims=True)
    scaled: _Weights = flat / np.where(largest > 0, largest, 1)
    return scaled
